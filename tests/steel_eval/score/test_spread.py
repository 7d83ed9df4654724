"""A run spread over processes, or over a cluster, has the scores of the run scored here; other folders are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.steel_eval import toys

from steel_data.engine import Local
from steel_data.errors import InputError
from steel_eval.ask.tasks import load_task
from steel_eval.models import Checkpoint
from steel_eval.score.spread import fill_on_devices, refuse_unseen, sweep_on_cluster
from steel_eval.score.store import Store
from steel_eval.score.sweep import Settings, run_sweep


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    for step in (10, 20):
        toys.save(root / f"checkpoints/step-{step:06d}", seed=step)
    return root


def settings(data: Path, out: Path, **changes: Any) -> Settings:
    tasks = [load_task(name, data) for name in ("cmmlu", "ceval")]
    return replace(Settings(tasks, ["lm-eval"], 1, out, out / "store.jsonl", device="cpu"), **changes)


def scores_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {p.parent.name: orjson.loads(p.read_bytes()) for p in sorted(out.glob("*/scores.json"))}
    assert len(found) == 2
    return found


def test_jobs_fill_the_store_and_leave_what_a_sweep_here_leaves(run: Path, toy_data: Path, tmp_path: Path) -> None:
    here = dict(run_sweep(str(run), settings(toy_data, tmp_path / "here")))
    told = sweep_on_cluster(str(run), settings(toy_data, tmp_path / "there", device=""), Local())
    assert [checkpoint.name for checkpoint, _ in told] == [checkpoint.name for checkpoint in here]
    assert scores_of(tmp_path / "there") == scores_of(tmp_path / "here")
    for name in ("curve.json", "step-000010/answers.parquet"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


@pytest.mark.slow
def test_processes_of_devices_fill_the_store_from_which_the_caller_reads(
    run: Path, toy_data: Path, tmp_path: Path
) -> None:
    how = settings(toy_data, tmp_path, rotate=True)
    fill_on_devices(str(run), how, ["cpu", "cpu", "cpu"])  # more devices than checkpoints
    assert not list(tmp_path.glob("*/scores.json"))
    before = (tmp_path / "store.jsonl").read_bytes()
    assert len(dict(run_sweep(str(run), how))) == 2
    assert (tmp_path / "store.jsonl").read_bytes() == before and Store(tmp_path / "store.jsonl").damaged == 0


def test_a_machine_that_does_not_see_the_folders_is_named(run: Path, toy_data: Path, tmp_path: Path) -> None:
    how = settings(toy_data, tmp_path)
    checkpoint = Checkpoint(run / "checkpoints/step-000010", "step-000010", 10)
    refuse_unseen(checkpoint, how)
    for change in (
        (replace(checkpoint, folder=tmp_path / "away"), how),
        (checkpoint, replace(how, out=tmp_path / "away")),
    ):
        with pytest.raises(InputError, match=r"^\S+: finds no .*away\. Fix: a folder that every machine"):
            refuse_unseen(*change)


def test_a_server_serves_one_model(run: Path, toy_data: Path, tmp_path: Path) -> None:
    how = settings(toy_data, tmp_path, presets=["ceval-cot"], generator="openai:http://127.0.0.1:1/v1", device="")
    with pytest.raises(InputError, match="a server serves one model"):
        sweep_on_cluster(str(run), how, Local())
