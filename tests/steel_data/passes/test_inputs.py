"""Which files a source reads, what is remembered of them, and what a missing one is told to be."""

import os
from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.errors import InputError
from steel_data.passes import inputs
from steel_data.passes.inputs import origin_name, resolve, scan, scan_place
from steel_data.read.formats import scan_file
from steel_data.read.rows import FileScan
from steel_data.recipe.load import load


def resolved(folder: Path, source: str) -> inputs.SourceInputs:
    recipe = folder / "r.toml"
    recipe.write_text(f"[source.a]\n{source}\n", encoding="utf-8")
    loaded = load(recipe)
    return resolve(loaded, loaded.sources[0], folder, folder / "cache")


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
        ('path = "c/*.jsonl"', r"path = 'c/\*\.jsonl' matches no file under .* Right: a path under the data root"),
        ('path = "a/1.json"', r"no such file under .* Did you mean 'a/1\.jsonl'\?"),
        ('path = "a"', r"is a folder\. Right: a/\*\.jsonl"),
        ('path = "c.jsonl"\norigin = "hf://datasets/o/n"', r"It comes from hf://datasets/o/n: `python -m steel_data fetch"),
        ('path = "none"\nbuild = { use = "contaminate", share = 0.5 }', r"\[source\.a\]: .*no such benchmark folder"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_the_way_to_get_it(source: str, message: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a" / "1.jsonl", chat_rows(3))
    with pytest.raises(InputError, match=message):
        resolved(tmp_path, source)


def test_a_file_outside_the_data_root_has_its_bare_name(tmp_path: Path) -> None:
    assert origin_name(tmp_path / "data" / "x" / "a.jsonl", tmp_path / "data") == "x/a.jsonl"
    assert origin_name(tmp_path / "a.jsonl", tmp_path / "data") == "a.jsonl"


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
