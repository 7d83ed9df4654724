"""A folder of runs as steel leaves it, with rows that would act on a page if they could."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.build import build
from steel_data.recipe.load import load

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>{{ 7 * 7 }}{% raw %}\u202e\x1b[31m</p></article>"
    '<meta http-equiv="refresh" content="0;url=http://evil.example"><!--'
)


def scores(folder: Path, step: int, right: int, items: int = 8) -> None:
    """Write what `score` leaves of a checkpoint that answers the first `right` questions right."""
    folder.mkdir(parents=True)
    subjects = ["law", "art<b>"] * (items // 2)
    names = [f"test/{s}/{i:05d}" for i, s in enumerate(subjects)]
    said = ["A" if i < right else "B" for i in range(items)]
    pl.DataFrame(
        {"task": "cmmlu", "subject": subjects, "item": names, "label": "A", "prediction": said,
         **{f"logprob_{c}": [-1.0 if c == x else -2.0 for x in said] for c in "ABCD"}, "raw": [HOSTILE] * items}
    ).write_parquet(folder / "answers.parquet")  # fmt: skip
    prompts = [HOSTILE + f"第{i}题 答案：" for i in range(items)]
    pl.DataFrame({"task": "cmmlu", "subject": subjects, "item": names, "prompt": prompts}).write_parquet(
        folder / "prompts.parquet"
    )
    by = {s: {"accuracy": sum(said[i] == "A" for i in range(items) if subjects[i] == s) / 4} for s in set(subjects)}
    task = {"accuracy": right / items, "stderr": 0.1, "n": items, "subjects": by, "data_sha256": "d"}
    said_of = {"tasks": {"cmmlu": task}, "step": step, "preset": "lm-eval", "shots": 5}
    (folder / "scores.json").write_text(json.dumps(said_of))


def folder_of_runs(place: Path) -> Path:
    """Make a mixture of 60 rows with dropped ones, and two trained runs of two scored checkpoints each."""
    rows = chat_rows(60)
    rows[7]["output"] = HOSTILE
    write_jsonl(place / "data/chat.jsonl", [*rows, *rows[:5]])
    (place / "r.toml").write_text(
        'filters = [{ use = "dedup" }]\n[source.chat]\npath = "chat.jsonl"\n[source.other]\nbuild = '
        '{ use = "identity", name = "小钢", team = "T" }\n'
    )
    root = place / "runs"
    build(load(place / "r.toml"), data_root=place / "data", out=root / "a/mixture", cache=place / "cache")
    for name, rights in {"a": (2, 4), "b": (4, 7)}.items():
        (root / name).mkdir(exist_ok=True)
        lines = [{"step": s, "loss": 4 - s / 10, "loss_by_source": {"chat": 4.0, "<i>": 3.0}} for s in range(1, 21)]
        (root / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"st')
        for step, right in zip((10, 20), rights, strict=True):
            scores(root / name / f"scores/step-{step:06d}", step, right)
    (root / "a/result.json").write_text("{}")
    return root


@contextmanager
def serving(root: Path) -> Iterator[int]:
    """Serve a folder under the token TOKEN while the block runs; yield the port."""
    import uvicorn

    from steel.ui.server import application

    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(root, "TOKEN"), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield int(door.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        door.close()


@pytest.fixture(scope="session")
def runs_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, made once: for tests that change nothing in it."""
    return folder_of_runs(tmp_path_factory.mktemp("once"))


@pytest.fixture
def runs(runs_once: Path, tmp_path: Path) -> Path:
    """A folder of runs of one's own."""
    return Path(shutil.copytree(runs_once, tmp_path / "runs"))
