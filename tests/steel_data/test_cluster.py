"""What is refused before a task runs on a cluster; with Ray there, a cluster of this machine makes the same bytes."""

import sys
from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.build import build
from steel_data.cluster import executor, refuse_other
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.recipe.load import load


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


@pytest.mark.slow
def test_a_cluster_makes_the_same_bytes(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    for i in range(3):
        write_jsonl(tmp_path / f"{i}.jsonl", chat_rows(40)[i:])
    (tmp_path / "r.toml").write_text('filters = [{ use = "dedup" }]\n[source.a]\npath = "?.jsonl"\n', encoding="utf-8")
    recipe = load(tmp_path / "r.toml")
    here = build(recipe, out=tmp_path / "here" / "mixture")
    try:
        there = build(recipe, out=tmp_path / "there" / "mixture", workers=executor("ray", 1))
    finally:
        ray.shutdown()
    assert there.manifest == here.manifest
