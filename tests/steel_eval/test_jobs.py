"""Jobs side by side: their share of the cores, folders of lost machines, and a cluster that gives the same results."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.nodes import a_cluster, another, threads
from tests.steel_eval import toys
from tests.steel_eval.mix.sources import SEARCH, world
from tests.waiting import until
from typer.testing import CliRunner

from steel_data import engine
from steel_data.build import build
from steel_data.engine import Local
from steel_data.files import locked
from steel_data.recipe.load import load
from steel_eval import jobs
from steel_eval.arms import Job, RunArm, train_job
from steel_eval.cli import app
from steel_eval.jobs import by_itself, patience, side_by_side, versions


@pytest.mark.slow
def test_jobs_side_by_side_share_the_cores() -> None:
    told: list[Any] = []
    found = side_by_side(Local(2), threads, [1, 2, 3], told.append)
    assert found == told and {process for process, _ in found} & {os.getpid()} == set()
    assert {n for _, n in found} == {max(1, (os.cpu_count() or 1) // 2)}


def test_one_after_another_they_run_here_with_all_cores() -> None:
    assert side_by_side(Local(), threads, [1, 2]) == [(os.getpid(), torch.get_num_threads())] * 2
    assert by_itself(Local()) and not by_itself(Local(2)) and patience() == 0


def test_how_many_are_done_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TELL_EVERY", 0.05)
    said: list[str] = []

    def job(number: int) -> None:
        def told() -> bool:
            said.append(capsys.readouterr().err)
            return "score: 1 of 2 runs, " in "".join(said)

        if number:
            until(told)

    side_by_side(Local(), job, [0, 1], what="score")


def test_versions_name_what_decides_a_models_bytes() -> None:
    found = versions()
    assert {"code", "steel_train", "steel_eval", "torch", "transformers", "polars"} <= set(found)
    assert found["torch"] == torch.__version__.partition("+")[0]  # of a GPU or not is one version


def test_on_a_cluster_the_lock_of_a_lost_machine_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file server holds it for a while; here another user's training does, and is said to do."""
    path = world(tmp_path, recipe=WITH_SEED, search="")
    build(load(path), out=tmp_path / "arm/mixture")
    job = Job(RunArm("arm", path, tmp_path / "arm"), 1)
    with locked(job.folder):
        with pytest.raises(Exception, match=r"arm arm, seed 1: .* another build is writing"):
            train_job(job, tmp_path)
        monkeypatch.setattr(jobs, "_cluster", True)
        monkeypatch.setattr(jobs, "LEASE_SECONDS", 1.0)
        start = time.monotonic()
        with pytest.raises(Exception, match="another build is writing"):
            train_job(job, tmp_path)
    assert time.monotonic() - start > 1


WITH_SEED = """
seed = 3
[source.chat]
path = "chat.jsonl"
[train]
model = { type = "qwen2", hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 2, intermediate_size = 32, vocab_size = 300, max_position_embeddings = 256 }
seeds = [1]
epochs = 1
micro_batch = 8
accumulate = 1
max_length = 128
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with a_cluster() as found:
        yield found


def command(*arguments: Any) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_a_search_on_two_nodes_of_which_one_is_lost_finds_what_it_finds_here(cluster: Any, tmp_path: Path) -> None:
    path = world(tmp_path, search=SEARCH.replace("runs = 5", "runs = 4"))
    command("mix", path, "--out", tmp_path / "here")
    with another(cluster) as second:
        Lost(cluster, second, tmp_path / "there").start()
        command("mix", path, "--out", tmp_path / "there", "--engine", f"ray:{cluster.address}")
        assert second not in cluster.worker_nodes
    here, there = ((tmp_path / place / "surface.json").read_text(encoding="utf-8") for place in ("here", "there"))
    assert there.replace(str(tmp_path / "there"), str(tmp_path / "here")) == here
    for file in (tmp_path / "here").glob("*/seed-*/checkpoints/step-*/model.safetensors"):
        assert (tmp_path / "there" / file.relative_to(tmp_path / "here")).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_a_run_is_scored_on_a_cluster_as_it_is_here(cluster: Any, tmp_path: Path, toy_data: Path) -> None:
    for step in (10, 20):
        toys.save(tmp_path / f"run/checkpoints/step-{step:06d}", seed=step)
    score = ["score", tmp_path / "run", "--tasks", "cmmlu,ceval", "--data", toy_data, "--shots", 1]
    with another(cluster):
        there = command(*score, "--out", tmp_path / "there", "--engine", f"ray:{cluster.address}")
    here = command(*score, "--out", tmp_path / "here", "--device", "cpu")
    assert there.replace("there", "here") == here
    for name in ("curve.json", "step-000010/scores.json", "step-000020/answers.parquet"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


@pytest.mark.parametrize("more", [("--watch", "1"), ("--device", "cuda:0,cuda:1")])
def test_what_a_cluster_decides_is_refused_with_it(more: tuple[str, str], toy_data: Path) -> None:
    with pytest.raises(Exception, match="--engine ray: the cluster says where"):
        command("score", "nowhere", "--tasks", "cmmlu", "--data", toy_data, "--engine", "ray", *more)


def test_another_engine_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = world(tmp_path, search=SEARCH)
    for name, *more in (("mix", path), ("trial", path), ("study", path), ("score", "nowhere", "--tasks", "cmmlu")):
        with pytest.raises(Exception, match="no such engine"):
            command(name, *more, "--engine", "spark")


class Lost(threading.Thread):
    """Takes a node away when the third training has begun."""

    def __init__(self, cluster: Any, node: Any, folder: Path) -> None:
        super().__init__(daemon=True)
        self.cluster, self.node, self.folder = cluster, node, folder

    def run(self) -> None:
        until(lambda: len(list(self.folder.glob("*/seed-*.log"))) >= 3)
        self.cluster.remove_node(self.node, allow_graceful=False)
