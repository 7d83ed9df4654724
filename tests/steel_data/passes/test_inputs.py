"""Which files a source reads, what is remembered of them, and what a missing one is told to be."""

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.steel_data.toys import Elsewhere, chat_rows, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.passes import inputs
from steel_data.passes.inputs import Looking, origin_name, resolve, scan, scan_place
from steel_data.read.formats import scan_file
from steel_data.read.hub import HubFiles
from steel_data.read.rows import FileScan
from steel_data.recipe.load import load

Make = Callable[..., Result]


def resolved(folder: Path, source: str) -> inputs.SourceInputs:
    recipe = folder / "r.toml"
    recipe.write_text(f"[source.a]\n{source}\n", encoding="utf-8")
    loaded = load(recipe)
    return resolve(loaded, Looking(folder, folder / "cache"))[0]


def test_files_are_a_set_sorted_by_name(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "a/1.jsonl", "a/3.jsonl"):
        write_jsonl(tmp_path / name, chat_rows(3))
    found = resolved(tmp_path, 'path = ["b/*.jsonl", "a/3.jsonl", "a/*.jsonl"]')
    assert [file.name for file in found.files] == ["a/1.jsonl", "a/3.jsonl", "b/2.jsonl"]
    assert found.rows == 9


def test_an_injected_source_reads_the_benchmarks_split(tmp_path: Path) -> None:
    for split in ("test", "val"):
        write_cmmlu(tmp_path, subjects=2, items=4, split=split)
    inject = 'build = { use = "contaminate", share = 0.5, split = "val" }'
    found = resolved(tmp_path, f'path = "bench"\n{inject}')
    assert [file.name for file in found.files] == ["bench/val/subject_0.csv", "bench/val/subject_1.csv"]
    assert found.benchmark == "bench"
    by_name = resolved(tmp_path, inject.replace("share", 'benchmark = "bench", share'))
    assert (by_name.benchmark, by_name.files) == ("bench", found.files)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('path = "c/*.jsonl"', r"path = 'c/\*\.jsonl' matches no file under .* Fix: a path under the data root"),
        ('path = "a/1.json"', r"no such file under .* Did you mean 'a/1\.jsonl'\?"),
        ('path = "a"', r"is a folder\. Fix: a/\*\.jsonl"),
        ('path = "c.jsonl"\norigin = "hf://datasets/o/n"', r"It comes from hf://datasets/o/n: `steel fetch"),
        ('path = "none"\nbuild = { use = "contaminate", share = 0.5 }', r"\[source\.a\]: .*no such benchmark folder"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_the_way_to_get_it(source: str, message: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a" / "1.jsonl", chat_rows(3))
    with pytest.raises(InputError, match=message):
        resolved(tmp_path, source)


def test_a_files_name_is_its_path_under_the_data_root_else_the_absolute_one(tmp_path: Path) -> None:
    root = tmp_path / "data"
    assert origin_name(root / "x" / "a.jsonl", root) == "x/a.jsonl"
    assert origin_name(root / "x" / ".." / "a.jsonl", root) == "a.jsonl"
    assert origin_name(root / ".." / "other" / "a.jsonl", root) == (tmp_path / "other" / "a.jsonl").as_posix()
    assert origin_name(root / ".." / "data" / "a.jsonl", root) == "a.jsonl"  # it lies there, however it is written
    assert origin_name(root / "a.jsonl", tmp_path / "x" / ".." / "data") == "a.jsonl"
    assert origin_name(tmp_path / "a.jsonl", root) == (tmp_path / "a.jsonl").as_posix()


def test_two_inputs_of_one_bare_name_are_two_and_one_named_twice_is_one(make: Make, tmp_path: Path) -> None:
    rows = chat_rows(6)
    for i, folder in enumerate(("data", "one", "two")):
        write_jsonl(tmp_path / folder / "a.jsonl", rows[2 * i : 2 * i + 2])
    paths = [
        "a.jsonl",
        "./a.jsonl",
        "../one/a.jsonl",
        str(tmp_path / "two" / "a.jsonl"),
        str(tmp_path / "data" / "a.jsonl"),
        "../two/a.jsonl",
    ]
    result = make(f"[source.a]\npath = {paths}\n", data_root=tmp_path / "data")
    names = [*((tmp_path / folder / "a.jsonl").as_posix() for folder in ("one", "two")), "a.jsonl"]
    assert list(result.manifest["inputs"]) == names
    assert sorted(read_train(result.folder)["origin_file"].to_list()) == sorted([*names, *names])


def test_a_clash_of_names_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(2))
    write_jsonl(tmp_path / "far" / "a.jsonl", chat_rows(3))
    (tmp_path / "far" / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")  # so that link/.. is far
    with pytest.raises(InputError, match=r"\[source\.a\]: two files are named 'a\.jsonl': .*another name for one"):
        resolved(tmp_path, 'path = ["a.jsonl", "link/../a.jsonl"]')


def test_a_file_of_a_hub_is_named_with_hub_and_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "cache" / "7M" / "a.jsonl", chat_rows(2))
    found = HubFiles("abc", "hf://O/N@abc", tmp_path / "cache", (tmp_path / "cache" / "7M" / "a.jsonl",))
    monkeypatch.setattr(inputs, "locate", lambda uri: found)
    files = resolved(tmp_path, 'path = "hf://datasets/O/N/7M"').files
    assert [file.name for file in files] == ["hf://O/N@abc/7M/a.jsonl"]


def test_a_glob_passes_over_what_steel_has_written_and_says_so(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", chat_rows(20) + chat_rows(3))
    pl.DataFrame(chat_rows(40)[30:]).write_parquet(tmp_path / "in" / "train-00000.parquet")  # of theirs, not of ours
    options = {"data_root": tmp_path, "out": tmp_path / "runs" / "x" / "mixture", "cache": tmp_path / "runs" / "cache"}
    toml = '[source.a]\npath = ["**/*.jsonl", "**/*.parquet"]\nfilters = [{ use = "dedup" }]\n'
    first = make(toml, **options)
    assert (first.warnings, first.manifest["rows"]) == ((), 30)
    again = make(toml, **options)
    assert not again.fresh  # what is passed over is no part of the mixture
    assert again.manifest == first.manifest
    (warning,) = again.warnings
    assert re.search(
        r"source 'a': path = '\*\*/\*\.parquet' passes over \d+ files that steel has written "
        r"\(runs/cache, runs/x/mixture\)", warning,
    )  # fmt: skip
    shutil.copy(first.folder / "train-00000.parquet", tmp_path / "in" / "train-00001.parquet")
    alone = resolved(tmp_path, 'path = "in/*.parquet"')
    assert [file.name for file in alone.files] == ["in/train-00000.parquet"]
    assert "1 file that steel has written (in/train-00001.parquet)" in alone.passed_over[0]
    with pytest.raises(
        InputError, match=r"passes over .*and finds nothing else\. Fix: data of yours, or one such file"
    ):
        resolved(tmp_path, 'path = "runs/x/mixture/*.parquet"')
    assert resolved(tmp_path, 'path = "runs/x/mixture/train-00000.parquet"').rows == 30


def test_a_scan_is_remembered_once_the_file_has_settled(tmp_path: Path) -> None:
    scanned: list[Path] = []

    def look(path: Path) -> FileScan:
        scanned.append(path)
        return scan_file(path)

    file = write_jsonl(tmp_path / "a.jsonl", chat_rows(3))
    first = [scan(file, tmp_path, look) for _ in range(2)]
    assert len(scanned) == 2  # it may change again within one tick of the clock
    os.utime(file, (1, 1))
    settled = [scan(file, tmp_path, look) for _ in range(2)]
    assert len(scanned) == 3
    assert first == settled
    scan_place(file, tmp_path, look).write_text('{"format": "jsonl"}')
    assert scan(file, tmp_path, look) == settled[0]  # a damaged memory is made again
    assert len(scanned) == 4


def test_verify_finds_a_change_that_size_and_time_do_not_show(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n', encoding="utf-8")
    long_ago = (0, time.time() - 60)
    os.utime(file, long_ago)
    first = scan(file, tmp_path / "cache")
    file.write_text('{"a": 2}\n', encoding="utf-8")
    os.utime(file, long_ago)
    assert scan(file, tmp_path / "cache") == first
    found = scan(file, tmp_path / "cache", verify=True)
    assert found.sha256 != first.sha256
    assert "its bytes are others" in capsys.readouterr().err
    assert scan(file, tmp_path / "cache") == found  # from now on it is known
    assert scan(file, tmp_path / "cache", verify=True) == found
    assert capsys.readouterr().err == ""


class Counting(Elsewhere):
    """An executor that notes what it is asked to do."""

    def __init__(self):
        self.done = []

    def map(self, function, tasks, on_done=lambda _: None):
        tasks = list(tasks)
        self.done = [str(task) for task in tasks]
        return super().map(function, tasks, on_done)


def test_looks_through_new_files_are_tasks_wherever_tasks_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inputs, "_LARGE", 0)
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.jsonl").write_bytes(b'{"instruction": "' + name.encode() * 9 + b'", "output": "x"}\n')
        os.utime(tmp_path / f"{name}.jsonl", (1_000_000_000, 1_000_000_000))
    (tmp_path / "r.toml").write_text('[source.s]\npath = "*.jsonl"\n')
    recipe = load(tmp_path / "r.toml")
    alone = resolve(recipe, Looking(tmp_path, tmp_path / "one", Local(1)))
    there = Counting()
    assert resolve(recipe, Looking(tmp_path, tmp_path / "two", there)) == alone
    assert there.done == [f"the look at {tmp_path}/{name}.jsonl" for name in "abc"]
    assert resolve(recipe, Looking(tmp_path, tmp_path / "two", there)) == alone
    assert there.done == []  # they left what they saw in the cache


def test_workers_look_through_large_new_files_and_see_what_one_process_sees(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inputs, "_LARGE", 0)
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.jsonl").write_bytes(b'{"instruction": "' + name.encode() * 9 + b'", "output": "x"}\n' * 3)
    (tmp_path / "r.toml").write_text('[source.s]\npath = "*.jsonl"\n')
    recipe = load(tmp_path / "r.toml")
    alone = resolve(recipe, Looking(tmp_path, tmp_path / "one", Local(1)))
    assert resolve(recipe, Looking(tmp_path, tmp_path / "two", Local(2), begin=0.5)) == alone
    assert [file.name for file in alone[0].files] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    (tmp_path / "b.jsonl").write_bytes(b'[{"instruction": ')
    (tmp_path / "c.jsonl").write_bytes(b"[")
    with pytest.raises(InputError, match=r"b\.jsonl: the array is never closed"):  # the first, whoever is done first
        resolve(recipe, Looking(tmp_path, tmp_path / "two", Local(2)))
