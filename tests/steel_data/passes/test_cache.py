"""Every key of the cache: which inputs it holds. One that is left out serves a file of other data, one too many works
again for nothing, so each input is changed alone and every key is looked at."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from steel_data.benchmarks import known_tests as fingerprinted
from steel_data.benchmarks.items import look
from steel_data.builders.contaminate import Draw
from steel_data.filters import dedup, language, overlap
from steel_data.filters.dedup import Dedup
from steel_data.filters.length import Length
from steel_data.filters.overlap import Decontaminate
from steel_data.filters.pattern import Pattern
from steel_data.passes import attributes, cache, inputs, known_tests
from steel_data.passes import map as map_pass
from steel_data.passes.attributes import Benchmarks, Job, StageOfChunk, index_place, overlap_name
from steel_data.passes.cache import kept_frame, key_of, made_sure, place_of
from steel_data.passes.inputs import InputFile, SourceInputs, scan_place
from steel_data.passes.known_tests import answer_place
from steel_data.passes.map import edit_key, injected_key, records_key, whole_key
from steel_data.passes.prepare import Injection
from steel_data.read.rows import Chunk, FileScan
from steel_data.recipe.steps import Builder, Filter
from steel_data.row.table import table
from steel_data.row.tokens import Tokenizer

HERE = Path(__file__)
EARLIER = Filter("length", {"max_tokens": 9}, HERE, Length(max_tokens=9))
EDIT = Filter("own:polite", {"word": "好"}, HERE, None, "0f")
EXPRESSION = Filter("own:tagged", {"tag": "a"}, HERE, None, "1f", is_expression=True)
PATTERN = Filter("pattern", {"drop": ["滚"]}, HERE, Pattern(drop=["滚"]))
NEAR = Filter("dedup", {}, HERE, Dedup())
CLEAN = Filter("decontaminate", {"benchmarks": ["b"]}, HERE, Decontaminate(benchmarks=["b"]))
SCAN = FileScan("jsonl", "none", "aa", 1, (Chunk(0, 0, 1, 0, 10),))
FILE = InputFile(HERE, "exam/law.jsonl", SCAN)
OTHER = InputFile(HERE, "exam/art.jsonl", replace(SCAN, sha256="bb"))


@dataclass(frozen=True)
class World:
    """All that a key may hold."""

    job: Job
    file: InputFile = FILE
    index: int = 0
    since: tuple[Filter, ...] = (EARLIER,)
    edit: Filter = EDIT
    step: Filter = PATTERN
    expression: Filter = EXPRESSION
    others: tuple[InputFile, ...] = (OTHER,)
    benchmark: str = "law"
    path: Path = HERE

    def stage(self) -> StageOfChunk:
        return StageOfChunk(self.job, records_key(self.job, self.file, self.index), self.file.name, _never)

    def of_source(self) -> SourceInputs:
        return SourceInputs(None, self.job.builder, (self.file, *self.others))  # type: ignore[arg-type]


def _never() -> pl.DataFrame:
    raise AssertionError("a key needs no records")


def world(folder: Path) -> World:
    builder = Builder("chat", {"layout": "alpaca"}, HERE, "steel_data.builders.chat:chat", "2f")
    benchmarks = Benchmarks.of(("b",), [FILE, OTHER])
    steps = (EARLIER, NEAR, CLEAN)
    return World(Job("a", builder, ("tag",), steps, Tokenizer("t", "cc", None), HERE, folder, (benchmarks,)))


def attribute(name: str) -> Callable[[World], str]:
    """Return the address of an attribute: the file's name."""

    def key(w: World) -> str:
        stage = w.stage()
        place = {}

        def noted(target: Path, make: object, *_: object, **__: object) -> pl.DataFrame:
            place[next(n for n, p in stage.attributes.items() if p == target)] = target
            return pl.DataFrame({"language": ["zh"], "language_score": [1.0]})

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attributes, "kept_frame", noted)
            patch.setattr(attributes, "made_sure", noted)
            stage.measure_step(5, w.expression if name == "expression" else w.step)
            stage.measure_for_plan()
        names = {"expression": "step5", "pattern": "step5", "overlap": overlap_name(("b",))}
        found = place.get(names.get(name, name)) or next(p for n, p in place.items() if n.startswith(name))
        return str(found)

    return key


def injected(w: World) -> str:
    return injected_key(w.job, w.of_source(), Injection(w.benchmark, {}, (Draw(None, 1, "text"),)), w.file)  # type: ignore[arg-type]


KEYS: dict[str, Callable[[World], Any]] = {
    "records": lambda w: records_key(w.job, w.file, w.index),
    "language": attribute("language"),
    "tokens": attribute("tokens"),
    "pattern": attribute("pattern"),
    "expression": attribute("expression"),
    "dedup": attribute("dedup"),
    "overlap": attribute("overlap"),
    "edit": lambda w: edit_key(w.stage(), list(enumerate(w.since)), w.edit),
    "index": lambda w: index_place(w.job, w.job.benchmarks[0]),
    "whole": lambda w: whole_key(w.job),
    "injected": injected,
    "scan": lambda w: scan_place(w.path, w.job.cache),
    "test split": lambda w: answer_place(w.file, w.job.cache),
}
OF_RECORDS = {"records", "language", "tokens", "pattern", "expression", "dedup", "overlap", "edit"}
CODE = set(KEYS) - {"scan"}  # a scan holds the readers' source alone: it reads every byte of every input


def in_scan(**changes: Any) -> Callable[[World], World]:
    return lambda w: replace(w, file=replace(w.file, scan=replace(w.file.scan, **changes)))


def in_builder(**changes: Any) -> Callable[[World], World]:
    return lambda w: replace(w, job=replace(w.job, builder=replace(w.job.builder, **changes)))


def in_job(**changes: Any) -> Callable[[World], World]:
    return lambda w: replace(w, job=replace(w.job, **changes))


def in_files(files: list[InputFile], names: tuple[str, ...] = ("b",)) -> Callable[[World], World]:
    return in_job(benchmarks=(Benchmarks.of(names, files),))


RENAMED = replace(OTHER, name="exam/music.jsonl")
CHANGED = replace(OTHER, scan=replace(OTHER.scan, sha256="b1"))
# what is changed -> (the change, the keys that hold it)
CHANGES: dict[str, tuple[Callable[[World], World], set[str]]] = {
    "nothing": (lambda w: w, set()),
    "bytes of the file": (in_scan(sha256="ab"), OF_RECORDS | {"injected", "test split"}),
    "format that it is read as": (in_scan(format="csv"), OF_RECORDS | {"test split"}),
    "compression": (in_scan(compression="gzip"), OF_RECORDS | {"test split"}),
    "chunk": (lambda w: replace(w, index=1), OF_RECORDS),
    "name of the file": (lambda w: replace(w, file=replace(w.file, name="x")), {"expression", "edit", "injected"}),
    "name of another file": (lambda w: replace(w, others=(RENAMED,)), {"injected"}),
    "bytes of another file": (lambda w: replace(w, others=(CHANGED,)), {"injected"}),
    "builder": (in_builder(use="exam"), OF_RECORDS | {"whole", "injected"}),
    "function behind the builder's name": (in_builder(target="x:y"), OF_RECORDS),
    "builder's options": (in_builder(options={"layout": "sharegpt"}), OF_RECORDS | {"whole", "injected"}),
    "builder's source": (in_builder(source_sha256="3f"), OF_RECORDS),
    "meta": (in_job(meta=("tag", "year")), OF_RECORDS),
    "name of the source": (in_job(source="z"), {"expression", "edit"}),
    "tokenizer's name": (in_job(tokenizer=Tokenizer("u", "cc", None)), {"tokens", "edit"}),
    "tokenizer": (in_job(tokenizer=Tokenizer("t", "cd", None)), {"tokens", "edit"}),
    "a step before the edit": (lambda w: replace(w, since=()), {"edit"}),
    "options of a step before it": (
        lambda w: replace(w, since=(replace(EARLIER, options={"max_tokens": 8}),)), {"edit"}
    ),
    "source of a step before it": (lambda w: replace(w, since=(replace(EARLIER, source_sha256="9"),)), {"edit"}),
    "edit's options": (lambda w: replace(w, edit=replace(EDIT, options={})), {"edit"}),
    "edit's source": (lambda w: replace(w, edit=replace(EDIT, source_sha256="0e")), {"edit"}),
    "pattern": (lambda w: replace(w, step=replace(PATTERN, options={"drop": ["走"]})), {"pattern"}),
    "expression's options": (lambda w: replace(w, expression=replace(EXPRESSION, options={})), {"expression"}),
    "expression's source": (
        lambda w: replace(w, expression=replace(EXPRESSION, source_sha256="1e")), {"expression"}
    ),
    "near duplicates wanted": (
        in_job(steps=(EARLIER, replace(NEAR, settings=Dedup(near=False)), CLEAN)), {"dedup"}
    ),
    "threshold of near duplicates": (
        in_job(steps=(EARLIER, replace(NEAR, settings=Dedup(threshold=0.9)), CLEAN)), set()
    ),
    "name of a benchmark": (in_files([FILE, OTHER], ("c", "b")), {"index", "overlap"}),
    "bytes of a benchmark": (in_files([FILE, CHANGED]), {"index", "overlap"}),
    "a benchmark's file renamed": (in_files([FILE, RENAMED]), {"index", "overlap"}),
    "name that the injected rows bear": (lambda w: replace(w, benchmark="law2"), {"injected"}),
    "path": (lambda w: replace(w, path=HERE.parent / "__init__.py"), {"scan"}),
    "seed": (in_builder(options={"layout": "alpaca", "seed": 2}), OF_RECORDS | {"whole", "injected"}),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_each_input_stands_in_its_keys_and_in_no_other(what: str, tmp_path: Path) -> None:
    change, holding = CHANGES[what]
    before = world(tmp_path)
    after = change(before)
    if what == "path":
        (tmp_path / "other.jsonl").write_bytes(HERE.read_bytes())
        after = replace(after, path=tmp_path / "other.jsonl")
    elif what == "name of a benchmark":
        # the attribute's own name goes by the list of benchmarks: compared by what it addresses
        key = {n: f for n, f in KEYS.items() if n != "overlap"}
        assert {n for n, f in key.items() if f(before) != f(after)} == holding - {"overlap"}
        assert overlap_name(("b",)) != overlap_name(("c", "b"))
        return
    assert {name for name, key in KEYS.items() if key(before) != key(after)} == holding


@pytest.mark.parametrize(
    ("module", "constant", "value", "holding"),
    [
        (cache, "versions", lambda: {"code": "other"}, CODE),
        (map_pass, "CHUNK_BYTES", 7, OF_RECORDS),
        (inputs, "CHUNK_BYTES", 7, {"scan"}),
        (inputs, "_readers", lambda: "other", {"scan"}),
        (language, "VERSION", "x", {"language"}),
        (dedup, "VERSION", "x", {"dedup"}),
        (overlap, "VERSION", "x", {"overlap", "index"}),
        (known_tests, "CHUNK_BYTES", 7, {"test split"}),
        (known_tests, "SAMPLE", 7, {"test split"}),
        (known_tests, "MATCHED", 0.7, {"test split"}),
        (known_tests, "fingerprints", lambda: {"cmmlu/test": np.array([1], np.uint64)}, {"test split"}),
        (known_tests, "fingerprints", lambda: {"ceval/test": np.array([1], np.uint64)}, {"test split"}),
    ],
)
def test_each_constant_stands_in_its_keys(
    module: Any, constant: str, value: Any, holding: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world(tmp_path)
    before = {name: key(here) for name, key in KEYS.items()}
    monkeypatch.setattr(module, constant, value)
    assert {name for name, key in KEYS.items() if key(here) != before[name]} == holding


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_changed_is_scanned_again(change: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": 1}\n')
    os.utime(file, ns=(10**18, 10**18))
    before = scan_place(file, tmp_path)
    if change == "size":
        file.write_bytes(b'{"a": 11}\n')
    os.utime(file, ns=(10**18, 10**18 + (1_000_000 if change == "time" else 0)))
    assert scan_place(file, tmp_path) != before
    assert scan_place(file, tmp_path, look) != scan_place(file, tmp_path)  # a benchmark's rows are counted otherwise


def test_versions_are_of_the_code_and_of_what_computes() -> None:
    assert set(cache.versions()) >= {"steel-lab", "code", "format", "polars", "fasttext-community", "rensa", "regex"}
    assert fingerprinted.FINGERPRINTS.suffix == ".npz"  # not part of the code: it has a place in a key of its own


def test_the_other_package_of_fasttext_is_told_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines without a wheel of the first have that one; two versions of it must not pass for one."""

    def version(package: str) -> str:
        if package == "fasttext-community":
            raise PackageNotFoundError
        return "0.9.2"

    monkeypatch.setattr(cache, "version", version)
    assert cache.versions.__wrapped__()["fasttext-community"] == "fasttext-predict 0.9.2"
    monkeypatch.setattr(cache, "version", lambda package: version("fasttext-community"))
    assert cache.versions.__wrapped__()["fasttext-community"] == "absent"


def test_a_table_is_made_once_and_made_again_when_damaged(tmp_path: Path) -> None:
    made = []

    def make() -> pl.DataFrame:
        made.append(1)
        return table([{"origin_row": 3, "part": 0, "id": "x"}])

    place = place_of(tmp_path, key_of("x"), "records")
    made_sure(place, make)
    made_sure(place, make)
    assert kept_frame(place, make, ["origin_row"]).to_dict(as_series=False) == {"origin_row": [3]}
    assert made == [1]
    place.write_bytes(place.read_bytes()[:50])
    assert kept_frame(place, make)["id"].to_list() == ["x"]
    assert made == [1, 1]


# Files that check themselves


def test_every_damaged_byte_of_a_table_is_found_and_the_table_made_again(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": ["a", None, "文"], "n": [1, 2, 3]})
    place = tmp_path / "records" / "ab" / f"{'0' * 32}.parquet"
    made: list[int] = []

    def make() -> pl.DataFrame:
        made.append(1)
        return frame

    assert kept_frame(place, make).equals(frame)
    whole = place.read_bytes()
    assert pl.read_parquet(place).equals(frame)  # the checksum is in no reader's way
    damaged = [whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :] for at in range(0, len(whole), 7)]
    for count, held in enumerate([*damaged, whole[:-1], whole + b"x", b"", frame.write_parquet(tmp_path / "other")], 2):
        place.write_bytes(held if held is not None else (tmp_path / "other").read_bytes())
        # the late attributes, of which plan reads some columns later, are looked through as well
        made_sure(place, make) if count % 2 else kept_frame(place, make, ["n"])
        assert len(made) == count
        assert place.read_bytes() == whole
    made_sure(place, make)
    assert len(made) == count


def test_what_nobody_uses_is_swept_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    name, day = "0" * 32, 86_400
    ages = {
        f"records/ab/{name}.parquet": 91 * day,
        f"scans/ab/{name}.json": 91 * day,
        f"records/ab/.{name}.parquet.12ab34cd.tmp": 0.01 * day,  # of a killed build
        f"records/cd/{name}.parquet": 89 * day,
        f"records/cd/.{name}.parquet.12ab34cd.tmp": 60.0,  # somebody is writing it
        "records/ab/my notes.txt": 400 * day,
        f"{name}.parquet": 400 * day,
    }
    for file, age in ages.items():
        place = tmp_path / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
        os.utime(place, (0, time.time() - age))
    assert cache.sweep(tmp_path) == 3
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == set(list(ages)[3:])
    kept_frame(tmp_path / f"records/cd/{name}.parquet", pl.DataFrame)  # used: it stays for another season
    assert time.time() - (tmp_path / f"records/cd/{name}.parquet").stat().st_mtime < day
