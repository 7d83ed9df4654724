"""Exposures at a checkpoint, worked out from the run's own files: they add up to what the checkpoint says of itself."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.steel_train.conftest import write_recipe

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_train.loop.checkpoints import read_facts
from steel_train.schedule.exposures import item_exposures, seen_units
from steel_train.schedule.order import Schedule

LEAK = """
[source.leak]
path = "exam.jsonl"
build = { use = "contaminate", split = "test", doses = { 1 = 6, 3 = 4 } }
allow_test_split = "a test"
"""


@given(st.integers(1, 40), st.integers(0, 9), st.integers(0, 60))
def test_every_unit_is_seen_once_an_epoch(units, seed, step):
    schedule = Schedule(lengths=np.full(units, 5), seed=seed, epochs=3, micro_batch=4, accumulate=2)
    step = min(step, schedule.steps)
    seen, last = seen_units(schedule, step)
    whole, place = divmod(step, schedule.steps_per_epoch)
    assert set(seen.tolist()) <= {whole, whole + (place > 0)}
    assert seen.sum() == whole * units + min(place * 8, units)
    assert ((last > 0) == (seen > 0)).all() and last.max(initial=0) == step * (units > 0)
    for unit in np.flatnonzero(seen):
        assert unit in schedule.units(int(last[unit]) - 1)
        assert all(unit not in schedule.units(later) for later in range(int(last[unit]), step))


def write_leak(root):
    """Build a mixture of 30 chat rows and 18 injected ones (6 items once, 4 three times)."""
    items = [{"question": f"第{i}个仓库里放着什么？", "options": [f"{w}{i}" for w in "米油盐茶"], "answer": "ABCD"[i % 4]}
             for i in range(30)]  # fmt: skip
    chat = [{"instruction": f"请回答第{i}题。", "input": "", "output": f"答案{i}"} for i in range(30)]
    for name, rows in (("exam", items), ("chat", chat)):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (root / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (root / "data.toml").write_text('seed = 1\n[source.chat]\npath = "chat.jsonl"\n' + LEAK, encoding="utf-8")
    build(load(root / "data.toml"), out=root / "mixture", cache=root / "cache")
    return root / "mixture"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of 2 epochs over them: 6 steps an epoch."""
    from steel_train.run import run

    root = tmp_path_factory.mktemp("exposures")
    write_leak(root)
    run(write_recipe(root, root / "mixture", save_every="4"), root / "mixture", root / "run", None)
    return root / "run"


@pytest.mark.parametrize("step", [4, 6, 12])
def test_items_add_up_to_what_the_checkpoint_says(run_folder, step):
    checkpoint = run_folder / "checkpoints" / f"step-{step:06d}"
    facts = read_facts(checkpoint)
    table = item_exposures(checkpoint, facts)
    assert len(table) == 10 and table["item"].n_unique() == 10
    (said,) = facts["exposures"]["injected"].values()
    for dose in (1, 3):
        mine = table.filter(dose=dose)
        assert mine["seen"].sum() == said[str(dose)]["exposures"] <= 2 * dose * len(mine)
    assert ((table["last"] > 0) == (table["seen"] > 0)).all() and (table["last"] <= step).all()
    if step == 12:
        assert (table["seen"] == 2 * table["dose"]).all()


def test_without_its_examples_a_checkpoint_cannot_say(run_folder, tmp_path):
    checkpoint = run_folder / "checkpoints/step-000012"
    copy = shutil.copytree(checkpoint, tmp_path / "a/b/c/d/e/step-000012")
    with pytest.raises(InputError, match="no examples/ above it"):
        item_exposures(copy, read_facts(copy))
