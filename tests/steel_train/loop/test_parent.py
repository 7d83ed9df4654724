"""A finished run is extended as a new one: from its last checkpoint, on the schedule of the new length, and not else."""

import json

import pytest
from tests.steel_train.loop.test_session import interrupt_at, trace, weights

from steel_data.errors import InputError
from steel_train.loop.checkpoints import read_facts

CONSTANT = {"schedule": '"constant"', "warmup": "0.0"}


def last(folder):
    return read_facts(sorted((folder / "checkpoints").glob("step-*"))[-1])


def test_with_a_constant_rate_it_is_the_longer_run_bit_for_bit(train, tmp_path, monkeypatch, capsys):
    """Killed and gone on too; its log is that of the whole, its steel.json names the parent."""
    whole = train("whole", epochs="3", **CONSTANT)
    train("short", epochs="2", **CONSTANT)
    longer = {"epochs": "3", "parent": '"runs/short"', **CONSTANT}
    with monkeypatch.context() as patch:
        interrupt_at(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            train("longer", **longer)
    folder = train("longer", **longer)
    assert weights(folder) == weights(whole)
    assert trace(folder) == trace(whole)
    facts = last(folder)
    assert facts["parent"]["run"] == "short" and facts["parent"]["checkpoint"] == "step-000020"
    assert facts["parent"]["weights_sha256"] == last(tmp_path / "runs/short")["weights_sha256"]
    assert facts["exposures"] == last(whole)["exposures"]
    assert sorted(p.name for p in (folder / "checkpoints").glob("step-*"))[0] == "step-000025", "none of the parent's"
    (tmp_path / "runs/short").rename(tmp_path / "runs/gone")
    train("longer", **longer)
    assert "its last checkpoint is whole" in capsys.readouterr().out, "finished: verified, its parent may be gone"


def test_the_schedule_is_that_of_the_new_length_and_is_said(train, capsys):
    train("short", epochs="1")
    whole = train("whole", epochs="2")
    capsys.readouterr()
    folder = train("longer", epochs="2", parent='"runs/short"')
    rates = [{line["step"]: line.get("learning_rate") for line in trace(run)} for run in (folder, whole)]
    assert [rates[0][step] for step in (12, 16, 20)] == [rates[1][step] for step in (12, 16, 20)]
    said = capsys.readouterr().out
    assert "going on from step 10 of" in said and "learning rate: cosine over the new length; 0.000" in said
    assert "at step 11 (it ended at 0)" in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": "3", "learning_rate": "2e-3"}, r"was trained with train.learning_rate = 0.001, .* with 0.002"),
        ({"epochs": "3", "loss": '"all"'}, r'was trained with train.loss = "assistant"'),
        ({"epochs": "3", "changes": ["seed=7"]}, "was trained with seed = 1"),
        ({"epochs": "2"}, "has 20 steps, the run that extends it 20. Fix: more epochs or max_steps"),
        ({"max_steps": "5"}, "has 20 steps, the run that extends it 5"),
    ],
)
def test_only_its_length_may_change(train, settings, message):
    train("short")
    with pytest.raises(InputError, match=r'Fix: another --out and parent = ".*short", or'):
        train("short", epochs="3")
    with pytest.raises(InputError, match=message):
        train("longer", parent='"runs/short"', **settings)


def test_a_parent_that_cannot_be_extended_is_named_before_a_row_is_read(train, tmp_path):
    with pytest.raises(InputError, match=r"\[train\] parent: .*nowhere is no run"):
        train("longer", parent='"runs/nowhere"')
    folder = train("short", max_steps="2")
    (folder / "result.json").rename(folder / "result")
    with pytest.raises(InputError, match="short is not finished"):
        train("longer", parent='"runs/short"')
    (folder / "result").rename(folder / "result.json")
    (folder / "checkpoints/step-000002/optimizer.pt").unlink()
    with pytest.raises(InputError, match="step-000002 is not whole"):
        train("longer", parent='"runs/short"')
    assert not (tmp_path / "runs/longer/examples").exists()
    assert json.loads((folder / "result.json").read_text())["step"] == 2
