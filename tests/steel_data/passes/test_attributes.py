"""One stage of a chunk: what is measured of it, when its records are made or read, and what its steps say of a row."""

import json
from pathlib import Path

import polars as pl
import pytest
from tests.steel_data.toys import write_cmmlu

from steel_data.benchmarks.index import overlap_files
from steel_data.errors import InputError
from steel_data.filters.dedup import NEAR_KEYS, Dedup
from steel_data.filters.length import Length
from steel_data.filters.overlap import Decontaminate
from steel_data.filters.pattern import Pattern
from steel_data.passes.attributes import NARROW, Benchmarks, Job, StageOfChunk, dedup_name, overlap_name
from steel_data.passes.inputs import InputFile, scan
from steel_data.recipe.steps import Builder, Filter, bind_filter
from steel_data.row.table import table
from steel_data.row.tokens import find_tokenizer

ENGLISH = "The quick brown fox jumps over the lazy dog while the farmer is asleep."
TEXTS = ["请说一句话。", ENGLISH, None, "明日の天気はどうですか。傘を持って行きましょう。"]


def records(texts: list[str | None] = TEXTS) -> pl.DataFrame:
    turn = [json.dumps([{"role": "user", "content": text}]) if text is not None else None for text in texts]
    return table(
        [
            {"origin_row": i, "part": 0, "id": f"{i:032x}", "messages": t, "kind": "chat", "chars": len(text or ""),
             "meta": json.dumps({"tag": "a" if i else "b"}), "reason": None if t else "chat:empty"}
            for i, (t, text) in enumerate(zip(turn, texts, strict=True))
        ]
    )  # fmt: skip


def job(folder: Path, *steps: Filter, benchmarks: tuple[Benchmarks, ...] = ()) -> Job:
    builder = Builder("chat", {}, folder, "")
    return Job("a", builder, (), steps, find_tokenizer(None, folder), folder, folder / "cache", benchmarks)


def stage(job: Job, frame: pl.DataFrame | None = None) -> StageOfChunk:
    def make() -> pl.DataFrame:
        assert frame is not None, "it was to be read"
        return frame

    return StageOfChunk(job, "0123", "a.jsonl", make)


def test_language_and_tokens_of_each_row(tmp_path: Path) -> None:
    frame = records()
    told = frame.with_columns(language=pl.Series(["en", None, None, None], dtype=pl.String))
    chunk = stage(job(tmp_path), told)
    chunk.measure_rows()
    language = chunk.measured["language"]
    assert language["language"].to_list() == ["en", "en", None, "ja"]  # what a builder says is believed
    assert language["language_score"].to_list()[0] == 1.0
    assert chunk.measured["tokens"]["tokens"].to_list()[2] == 0
    assert set(chunk.attributes) == {"language", "tokens"}


def test_what_was_made_is_found_again_and_read_narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (
        Filter("pattern", {"drop": ["fox"]}, tmp_path, Pattern(drop=["fox"])),
        Filter("dedup", {}, tmp_path, Dedup()),
    )
    first = stage(job(tmp_path, *steps), records())
    first.measure_step(0, steps[0])
    first.measure_for_plan()
    assert first.narrow.columns == [*NARROW, "meta", "unread"]
    read: list[tuple[str, list[str] | None]] = []
    real = pl.read_parquet
    monkeypatch.setattr(
        pl, "read_parquet", lambda file, columns=None, **how: read.append((str(file), columns)) or real(file, columns=columns, **how)
    )  # fmt: skip
    again = stage(job(tmp_path, *steps))
    again.measure_step(0, steps[0])
    again.measure_for_plan()
    assert again.reasons([(0, steps[0])]).equals(first.reasons([(0, steps[0])]))
    assert again.attributes == first.attributes
    assert len(read) == len({file for file, _ in read}) == 4  # records, language, tokens, pattern; no duplicate bands
    assert dict(read)[str(again.place)] == [*NARROW, "meta", "unread"]


def test_the_first_step_that_a_row_fails_is_named(tmp_path: Path) -> None:
    short = Filter("length", {"min_chars": 10}, tmp_path, Length(min_chars=10))
    fox = Filter("pattern", {"drop": ["fox"]}, tmp_path, Pattern(drop=["fox", "请"]))
    chunk = stage(job(tmp_path, short, fox), records())
    for i, step in enumerate((short, fox)):
        chunk.measure_step(i, step)
    assert chunk.reasons([(0, short), (1, fox)]).select("step", "reason").rows() == [
        ("length", "length:too-short"), ("pattern", "pattern:drop[0]"), (None, "chat:empty"), (None, None),
    ]  # fmt: skip
    assert chunk.reasons([(1, fox)])["reason"].to_list()[0] == "pattern:drop[1]"


def test_injected_rows_pass_every_step(tmp_path: Path) -> None:
    short = Filter("length", {"min_chars": 1000}, tmp_path, Length(min_chars=1000))
    chunk = stage(job(tmp_path, short), records().with_columns(kind=pl.lit("injected")))
    chunk.measure_step(0, short)
    assert chunk.reasons([(0, short)])["reason"].to_list() == [None, None, "chat:empty", None]


def test_what_the_plan_needs_is_made_for_it(tmp_path: Path) -> None:
    write_cmmlu(tmp_path)
    item = "第0科第3题：关于风筝3号样品的产地，下列说法正确的是 东山3村 西河0镇 南湖3岛 北岭9寨"
    names = ("bench",)
    files = [InputFile(f, f.name, scan(f, tmp_path / "cache")) for f in overlap_files(["bench"], tmp_path)]
    clean = Filter("decontaminate", {"benchmarks": ["bench"]}, tmp_path, Decontaminate(benchmarks=["bench"]))
    steps = (Filter("dedup", {}, tmp_path, Dedup()), clean)
    chunk = stage(job(tmp_path, *steps, benchmarks=(Benchmarks.of(names, files),)), records([*TEXTS, item]))
    chunk.measure_for_plan()
    dedup, overlap = (pl.read_parquet(chunk.attributes[name]) for name in (dedup_name("all"), overlap_name(names)))
    assert dedup.columns == ["exact", *NEAR_KEYS]
    assert overlap["overlap_item"].to_list() == [None] * 4 + ["bench/test/subject_0/00003"]
    only_exact = Filter("dedup", {"near": False}, tmp_path, Dedup(near=False))
    other = StageOfChunk(job(tmp_path, only_exact), "4567", "a.jsonl", records)
    other.measure_for_plan()
    assert pl.read_parquet(other.attributes[dedup_name("all")]).columns == ["exact"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pl.col('nothing') > 1", "a.jsonl: filter 'own:keep' raised ColumnNotFoundError"),
        ("pl.col('chars')", r"a.jsonl: filter 'own:keep' gives (\d+) values of Int32 for \1 rows\. Fix: true or false"),
        ("pl.col('chars').sum() > 1", r"gives 1 values of Boolean for \d+ rows\. Fix: true or false for each row"),
        ("exit(0)", "own:keep' raised SystemExit: 0. Fix: a polars expression"),
        ("1 / 0", "raised ZeroDivisionError: division by zero. Fix: a polars expression over the mixture's columns"),
    ],
)
def test_an_expression_that_is_none_names_file_and_step(body: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(f"import polars as pl\ndef keep():\n    return {body}\n", encoding="utf-8")
    step = bind_filter("r", {"use": "own:keep"}, tmp_path, 42)
    with pytest.raises(InputError, match=message):
        stage(job(tmp_path, step), records()).measure_step(0, step)


def test_an_expression_sees_meta_and_language_and_drops_null(tmp_path: Path) -> None:
    tagged = "pl.col('meta').str.json_path_match('$.tag') == 'a'"
    code = f"import polars as pl\ndef keep():\n    return (pl.col('language') != 'en') & ({tagged})\n"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    step = bind_filter("r", {"use": "own:keep"}, tmp_path, 42)
    chunk = stage(job(tmp_path, step), records())
    chunk.measure_step(0, step)
    assert chunk.measured["step0"].to_series().to_list() == [False, False, False, True]
