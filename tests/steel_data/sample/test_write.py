"""The corpus as files: the same bytes everywhere, true counts, a folder of its own, things of benchmarks in no training file."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.steel_data.sample.corpus import table, text

from steel_data.errors import InputError
from steel_data.sample import write_sample
from steel_data.sample.write import make


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashed = hashlib.sha256()
    for path in files:
        hashed.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return hashed.hexdigest()


def test_bytes_depend_on_seed_and_scale_alone(tmp_path):
    code = (
        "import sys, pathlib; from steel_data.sample import write_sample as w; w(pathlib.Path(sys.argv[1]), scale=0.02)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    runs = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / seed], env={**environment, "PYTHONHASHSEED": seed})
        for seed in ("0", "4242")
    ]
    write_sample(tmp_path / "here", scale=0.02)
    assert [run.wait() for run in runs] == [0, 0]
    assert digest(tmp_path / "here") == digest(tmp_path / "0") == digest(tmp_path / "4242")
    write_sample(tmp_path / "here", scale=0.02, seed=7)  # over its own output
    assert digest(tmp_path / "here") != digest(tmp_path / "0")


def test_the_corpus_is_the_one_that_the_documents_tell_of():
    """Figures of README.md, docs/ and the studies were measured on these rows: with others, measure them again."""
    hashed = hashlib.sha256()
    for name, (data, _) in make(42, 0.02).items():
        rows = json.dumps(pq.read_table(io.BytesIO(data)).to_pylist()).encode() if name.endswith(".parquet") else data
        hashed.update(name.encode() + b"\0" + rows)
    assert hashed.hexdigest()[:16] == "b90c5d1ee60db3c9"


def test_returned_rows_are_in_the_files(folder, summary, tmp_path):
    listed = write_sample(tmp_path / "again", scale=summary["scale"])
    assert [name for name, _ in listed] == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    for name, rows in listed:
        path = folder / name
        if name.endswith(".parquet"):
            assert pq.read_metadata(path).num_rows == rows
        elif name.endswith(".csv"):
            assert len(table(path)) == rows
        elif name.endswith(".jsonl"):
            assert path.read_bytes().count(b"\n") == rows
        assert summary["files"].get(name, 0) == rows


def test_a_strangers_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds thesis\.txt"):
        write_sample(tmp_path, scale=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_leftovers_of_a_killed_run_are_its_own(tmp_path):
    (tmp_path / "sample.json.steel-part").write_text("{")
    write_sample(tmp_path, scale=0.01)
    assert not list(tmp_path.rglob("*.steel-part"))


@pytest.mark.parametrize("scale", [0, -1, 99, float("nan")])
def test_impossible_scale(tmp_path, scale):
    with pytest.raises(InputError, match="scale"):
        write_sample(tmp_path, scale=scale)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_sample(tmp_path / "data", scale=0.01)


def test_benchmark_things_stand_in_no_training_file(chat, exam, truth, summary):
    quotations = {p["id"] for kind in ("quoted", "quoted_edited") for p in summary["planted"][kind]}
    training = "\n".join(text(row) for key, row in chat.items() if key not in quotations)
    training += "\n".join(json.dumps(row, ensure_ascii=False) for row in exam)
    asked = {row["thing"] for row in truth if row["source"] in ("cmmlu", "ceval") and row["thing"]}
    assert len(asked) > 100
    assert [name for name in asked if name in training] == []
