"""Which files a path means, what is left out of a folder, and which benchmarks lie beside it."""

import os
import sys

import pytest
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.analyze.find import benchmarks_beside, find
from steel_data.errors import InputError


def names(found):
    return [file.name for file in found.files]


def test_a_folder_gives_its_data_files_and_says_what_it_leaves_out(tmp_path):
    data = tmp_path / "data"
    write_jsonl(data / "b" / "rows.jsonl", chat_rows(2))
    write_jsonl(data / "a.jsonl", chat_rows(1))
    write_jsonl(data / ".cache" / "hidden.jsonl", chat_rows(1))
    (data / "notes.md").write_text("no data")
    (data / "config.json").write_text('{\n  "a": 1\n}\n')
    (data / "empty.jsonl").write_text("\n")
    found = find([str(data)], tmp_path / "cache")
    assert names(found) == ["a.jsonl", "b/rows.jsonl"]
    left = dict(found.left_out)
    assert left.keys() == {"config.json", "empty.jsonl"}
    assert left["empty.jsonl"] == "holds no rows."


def test_a_mixture_of_ours_in_a_folder_is_not_read_again(tmp_path):
    write_jsonl(tmp_path / "data" / "rows.jsonl", chat_rows(1))
    mixture = tmp_path / "data" / "mixture"
    write_jsonl(mixture / "train-00000.jsonl", chat_rows(3))
    (mixture / "manifest.json").write_text("{}")
    found = find([str(tmp_path / "data")], tmp_path / "cache")
    assert names(found) == ["rows.jsonl"]
    assert found.left_out == (("mixture", "is a mixture: its card.html says what is in it."),)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (None, "no such file or folder. Did you mean 'rows.jsonl'?"),
        ("", "rows.json: holds no rows. Fix: files with rows."),
        ('{\n  "a": 1\n}\n', "holds one JSON object over several lines"),
    ],
)
def test_a_file_that_is_named_must_be_there_and_hold_rows(make, words, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", chat_rows(1))
    if make is not None:
        (tmp_path / "rows.json").write_text(make)
    with pytest.raises(InputError) as error:
        find([str(tmp_path / "rows.json")], tmp_path / "cache")
    assert words in str(error.value)


def test_a_glob_in_quotes_is_looked_up(tmp_path):
    write_jsonl(tmp_path / "a1.jsonl", chat_rows(1))
    write_jsonl(tmp_path / "b1.jsonl", chat_rows(1))
    assert names(find([str(tmp_path / "a*.jsonl")], tmp_path / "cache")) == ["a1.jsonl"]
    with pytest.raises(InputError, match="no file fits"):
        find([str(tmp_path / "c*.jsonl")], tmp_path / "cache")


def test_benchmarks_beside_are_found_by_name_and_never_hold_the_input(tmp_path, monkeypatch):
    write_cmmlu(tmp_path).rename(tmp_path / "cmmlu")
    write_jsonl(tmp_path / "chat" / "rows.jsonl", chat_rows(1))
    (tmp_path / "ceval.json").write_text('{\n "a": 1\n}')  # of that name, and no benchmark
    write_cmmlu(tmp_path, split="train").rename(tmp_path / "mmlu")  # to be trained on
    found = find([str(tmp_path / "chat")], tmp_path / "cache")
    assert [path.name for path in benchmarks_beside(found, tmp_path / "cache")] == ["cmmlu"]
    (tmp_path / "elsewhere/data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_cmmlu(tmp_path / "elsewhere/data").rename(tmp_path / "elsewhere/data/cmmlu")  # where `fetch` puts one
    assert len(benchmarks_beside(found, tmp_path / "cache")) == 2
    monkeypatch.chdir(tmp_path)
    found = find([str(tmp_path / "cmmlu" / "test" / "subject_0.csv")], tmp_path / "cache")
    assert benchmarks_beside(found, tmp_path / "cache") == []


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="such names are those of Linux")
def test_a_name_that_is_no_unicode_is_left_out_of_a_folder(tmp_path):
    write_jsonl(tmp_path / "data" / "rows.jsonl", chat_rows(1))
    (tmp_path / "data" / "rows.jsonl").rename(tmp_path / "data" / os.fsdecode(b"b\xff.jsonl"))
    write_jsonl(tmp_path / "data" / "rows.jsonl", chat_rows(1))
    found = find([str(tmp_path / "data")], tmp_path / "cache")
    assert names(found) == ["rows.jsonl"]
    assert "not UTF-8" in found.left_out[0][1]
