"""What is refused before a task runs on a cluster; with Ray there, a cluster of this machine makes the same bytes."""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from tests.nodes import SRC, a_cluster, another
from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.build import build
from steel_data.cluster import AHEAD, Ray, _ask, executor, refuse_other
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


def test_nothing_imports_ray_before_it_is_asked_for() -> None:
    code = (
        "import sys, steel_data.build, steel_data.cluster as c; c.executor('local', 2); sys.exit('ray' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(SRC)})


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'steel-lab\[ray\]'"):
        executor("ray", 1)


@pytest.fixture
def not_ray() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def closed_port() -> str:
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{mine.getsockname()[1]}"


def test_where_no_ray_answers_that_is_known_at_once(not_ray: str) -> None:
    """Ray itself would try for minutes, and tell each try."""
    ray = SimpleNamespace(util=SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1"))
    begun = time.monotonic()
    for address, said in ((closed_port(), "nothing answers at"), (not_ray, "what answers at .* is no Ray")):
        with pytest.raises(OSError, match=said):
            _ask(ray, address)
    for judged_by_ray in ("", "auto", "local", "ray://somewhere:1"):
        _ask(ray, judged_by_ray)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("by", ["--engine", "RAY_ADDRESS"])
def test_an_address_that_does_not_answer_is_one_line(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    write_recipe(tmp_path, 1)
    address = closed_port()
    environment = {**os.environ, "RAY_ADDRESS": address if by == "RAY_ADDRESS" else "", "PYTHONUTF8": "1"}
    engine = "ray" if by == "RAY_ADDRESS" else f"ray:{address}"
    command = [sys.executable, "-m", "steel_data", "build", str(tmp_path / "r.toml"), "--engine", engine]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: --engine {engine}: no cluster answers there: nothing answers at {address}. "
        "Fix: the address that `ray start --head` printed.\n"
    )
    assert not (tmp_path / "runs").exists()


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


def node_of(folder: Path, _: int) -> str:
    """Return the node that runs it, once two nodes run one: a machine that is busy may begin seconds later."""
    import ray

    mine = str(ray.get_runtime_context().get_node_id())
    (folder / mine).touch()
    until = time.monotonic() + 300
    while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    return mine


def polars_threads(_: int) -> int:
    return pl.thread_pool_size()


def left_a_mark(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    return number


def gpus_of(_: int) -> int:
    import ray

    return len(ray.get_gpu_ids())


def bad(task: int) -> int:
    if task == 3:
        raise InputError("task 3: wrong")
    return task


def begun(job: tuple[int, Path, str]) -> int:
    """Leave a mark and return once the doomed node has left one too and is known to be gone; there, never return.

    A worker's end is heard of before its node's: without the wait all could be done while two nodes still count.
    """
    import ray

    number, folder, doomed = job
    mine = str(ray.get_runtime_context().get_node_id())
    (folder / f"{number}-{mine}").touch()
    until = time.monotonic() + 300

    def there() -> bool:
        return any(node["Alive"] and node["NodeID"] == doomed for node in ray.nodes())

    while time.monotonic() < until and (mine == doomed or not list(folder.glob(f"*-{doomed}")) or there()):
        time.sleep(0.05)
    return number * number


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
        (tmp_path / "nodes").mkdir()
        assert len(set(there.map(partial(node_of, tmp_path / "nodes"), range(8)))) == 2
    assert replace(there.of_models(versions), told=there.told) == there  # no GPU: a model's job gets a processor


def test_a_task_is_made_when_one_before_it_is_done(cluster: Any, tmp_path: Path) -> None:
    """However many there are, so many lie in the memory of who hands them over."""
    there = executor(f"ray:{cluster.address}", 1)

    def tasks() -> Iterator[int]:
        for i in range(50):
            assert i - len(list(tmp_path.iterdir())) < AHEAD * there.workers
            yield i

    assert there.map(partial(left_a_mark, tmp_path), tasks()) == list(range(50))


def test_a_task_has_one_thread_of_polars(cluster: Any) -> None:
    """Each processor of a machine has a task; with a thread a processor in each of them there were hundreds."""
    assert executor(f"ray:{cluster.address}", 1).map(polars_threads, range(3)) == [1, 1, 1]


def test_a_node_that_is_lost_costs_time_only(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with another(cluster) as second:
        there = executor(f"ray:{cluster.address}", 1)
        doomed = f"*-{second.node_id}"

        def lose() -> None:
            until = time.monotonic() + 300
            while not list(tmp_path.glob(doomed)) and time.monotonic() < until:
                time.sleep(0.05)
            cluster.remove_node(second, allow_graceful=False)

        losing = threading.Thread(target=lose)
        losing.start()
        told: list[int] = []
        assert there.map(begun, [(i, tmp_path, second.node_id) for i in range(16)], told.append) == told
        losing.join()
    assert told == [i * i for i in range(16)]
    (lost,) = tmp_path.glob(doomed)
    assert len(list(tmp_path.iterdir())) == 16 + 1  # what the lost node was at was begun again
    assert len(list(tmp_path.glob(f"{lost.name.partition('-')[0]}-*"))) == 2
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
            there.map(time.sleep, [0.3] * 2000)  # until that node runs one


@pytest.mark.slow
def test_a_node_without_steel_is_refused_by_its_address(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "steel_data.py").write_text('raise ModuleNotFoundError("No module named steel_data")\n')
    paths = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    with another(cluster, env_vars={"PYTHONPATH": paths}) as second:
        there = executor(f"ray:{cluster.address}", 1)
        with pytest.raises(InputError) as refused:
            there.map(time.sleep, [0.3] * 2000)
    said = f"{second.node_ip_address}: steel cannot be imported there: ModuleNotFoundError: No module named steel_data"
    assert str(refused.value) == f"{said}. Fix: the same on all machines."


@pytest.mark.slow
def test_a_models_task_gets_one_gpu_where_there_are_any_and_no_other_does(cluster: Any) -> None:
    with another(cluster, num_gpus=2):
        there = executor(f"ray:{cluster.address}", 1)
        assert isinstance(there, Ray) and there.gpus == 2
        assert there.map(gpus_of, range(3)) == [0, 0, 0]
        assert there.of_models(versions).workers == 2
        assert there.of_models(versions).map(gpus_of, range(3)) == [1, 1, 1]
