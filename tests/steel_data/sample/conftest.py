"""One corpus for all tests of the sample."""

import json

import pyarrow.parquet as pq
import pytest

from steel_data.sample import write_sample

SCALE = 0.2


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "data"
    write_sample(path, scale=SCALE)
    return path


@pytest.fixture(scope="session")
def summary(folder):
    return json.loads((folder / "sample.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def truth(folder):
    return [json.loads(line) for line in (folder / "sample-truth.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def chat(folder):
    files = sorted((folder / "infinity-instruct/7M").glob("*.parquet"))
    return {row["id"]: row for file in files for row in pq.read_table(file).to_pylist()}


@pytest.fixture(scope="session")
def exam(folder):
    files = sorted((folder / "wanjuan/exam").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
