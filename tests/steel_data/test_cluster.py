"""What is refused before a task runs on a cluster; with Ray there, a cluster of this machine makes the same bytes."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.nodes import SRC, a_cluster, another
from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.build import build
from steel_data.cluster import Ray, executor, refuse_other
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.passes.cache import versions
from steel_data.recipe.load import Recipe, load


def test_local_is_processes_of_this_machine() -> None:
    assert executor("local", 3) == Local(3)


@pytest.mark.parametrize("word", ["", "spark", "rey", "local:8", "ray-x:1"])
def test_another_engine_is_refused(word: str) -> None:
    with pytest.raises(InputError, match=r"no such engine\..*Fix: ray:HOST:6379"):
        executor(word, 1)


def test_without_ray_the_extra_is_named_and_nothing_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ray" not in sys.modules
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'steel-lab\[ray\]'"):
        executor("ray", 1)


def test_a_machine_of_another_version_is_refused_by_name() -> None:
    driver = {"code": "aa", "polars": "2.1.0"}
    refuse_other(driver, dict(driver), "node-3")
    with pytest.raises(InputError, match=r"^node-3: is of another version: polars 2\.0\.1, here 2\.1\.0\. Fix"):
        refuse_other(driver, {**driver, "polars": "2.0.1"}, "node-3")
    with pytest.raises(InputError, match="code absent, here aa"):
        refuse_other(driver, {"polars": "2.1.0"}, "node-3")


def write_recipe(folder: Path, files: int = 6) -> Recipe:
    for i in range(files):
        write_jsonl(folder / f"{i}.jsonl", chat_rows(40)[i:])
    text = 'filters = [{ use = "dedup" }]\n[source.a]\npath = "?.jsonl"\n'
    (folder / "r.toml").write_text(text, encoding="utf-8")
    return load(folder / "r.toml")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with a_cluster() as found:
        yield found


def node_of(_: int) -> str:
    time.sleep(0.3)
    import ray

    return str(ray.get_runtime_context().get_node_id())


def gpus_of(_: int) -> int:
    import ray

    return len(ray.get_gpu_ids())


def bad(task: int) -> int:
    if task == 3:
        raise InputError("task 3: wrong")
    return task


def begun(job: tuple[int, str]) -> int:
    number, folder = job
    (Path(folder) / f"{number}-{os.getpid()}").touch()
    time.sleep(0.5)
    return number * number


@pytest.mark.slow
def test_two_nodes_make_the_same_bytes_and_give_results_in_order(cluster: Any, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    here = build(recipe, out=tmp_path / "here" / "mixture")
    with another(cluster):
        there = executor(f"ray:{cluster.address}", 1)
        assert isinstance(there, Ray) and there.workers == 2
        assert build(recipe, out=tmp_path / "there" / "mixture", workers=there).manifest == here.manifest
        told: list[int] = []
        assert there.map(bad, [2, 1, 0], told.append) == told == [2, 1, 0]
        with pytest.raises(InputError, match=r"^task 3: wrong$"):
            there.map(bad, [1, 3, 2])
        assert len(set(there.map(node_of, range(8)))) == 2
    assert replace(there.of_models(versions), told=there.told) == there  # no GPU: a model's job gets a processor


@pytest.mark.slow
def test_a_node_that_is_lost_costs_time_only(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with another(cluster) as second:
        there = executor(f"ray:{cluster.address}", 1)
        jobs = [(i, str(tmp_path)) for i in range(16)]
        told: list[int] = []

        def lose(result: int) -> None:
            told.append(result)
            if len(told) == 5:
                cluster.remove_node(second, allow_graceful=False)

        assert there.map(begun, jobs, lose) == told == [i * i for i in range(16)]
    assert len(list(tmp_path.iterdir())) > 16  # what the lost node was at was begun again
    said = capsys.readouterr()
    assert said.out == "" and "ray: 1 of 2 machines are gone" in said.err


@pytest.mark.slow
def test_a_node_of_another_version_is_refused_by_its_name(cluster: Any, tmp_path: Path) -> None:
    other = tmp_path / "src"
    shutil.copytree(SRC, other)
    with (other / "steel_data/row/text.py").open("a", encoding="utf-8") as stream:
        stream.write("# a later version\n")
    paths = f"{other}{os.pathsep}{os.environ['PYTHONPATH']}"
    with another(cluster, env_vars={"PYTHONPATH": paths}):
        there = executor(f"ray:{cluster.address}", 1)
        with pytest.raises(InputError, match=r": is of another version: code [0-9a-f]{16}, here [0-9a-f]{16}\. Fix"):
            there.map(node_of, range(12))


@pytest.mark.slow
def test_a_models_task_gets_one_gpu_where_there_are_any_and_no_other_does(cluster: Any) -> None:
    with another(cluster, num_gpus=2):
        there = executor(f"ray:{cluster.address}", 1)
        assert isinstance(there, Ray) and there.gpus == 2
        assert there.map(gpus_of, range(3)) == [0, 0, 0]
        assert there.of_models(versions).workers == 2
        assert there.of_models(versions).map(gpus_of, range(3)) == [1, 1, 1]
