"""What a file of a mixture must be for those who read it: damaged columns are named, and nothing else is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.explain.diff import diff
from steel_data.explain.why import ask
from steel_data.mixture.export import export
from steel_data.mixture.rows import rows, scan
from steel_data.mixture.schema import Shape, unlike
from steel_data.mixture.show import show_rows
from steel_data.row.record import EXTRA_KEYS, FORMS


@pytest.mark.parametrize("form", FORMS)
def test_what_build_writes_is_like_itself(form: str) -> None:
    for extras in ((), EXTRA_KEYS):
        for dropped in (False, True):
            assert unlike(Shape(form, tuple(extras), bool(extras), bool(extras)).schema(dropped), True) is None


def test_what_others_write_of_the_same_columns_is_read() -> None:
    turns = pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.large_string())]))
    whole = [("id", pa.large_string()), ("source", pa.dictionary(pa.int32(), pa.string())), ("kind", pa.null()),
             ("language", pa.string_view()), ("origin_file", pa.string()), ("origin_row", pa.uint8()), ("messages", turns), ("more", pa.date32())]  # fmt: skip
    assert unlike(pa.schema(whole), True) is None
    assert unlike(pa.schema([("messages", turns)]), False) is None


@pytest.mark.parametrize(
    ("column", "kind", "fault"),
    [
        ("id", pa.int64(), "column 'id' is of type int64, where string belongs"),
        ("origin_row", pa.string(), "column 'origin_row' is of type string, where int64 belongs"),
        ("messages", pa.string(), "column 'messages' is of type string, where list"),
        ("messages", pa.list_(pa.struct([("role", pa.string())])), "column 'messages' is of type list"),
        ("language_score", pa.bool_(), "column 'language_score' is of type bool, where float belongs"),
        ("source", None, "has no column 'source'"),
        ("messages", None, "has no column 'messages'"),
        ("origin_row", None, "has no column 'origin_row'"),
        ("kind", None, "has no column 'kind'"),
    ],
)
def test_a_column_of_another_type_or_that_is_gone_is_named(column: str, kind: Any, fault: str) -> None:
    fields = {field.name: field.type for field in Shape("messages", (), False).schema()}
    fields = {**fields, column: kind} if kind else {k: v for k, v in fields.items() if k != column}
    assert (unlike(pa.schema(list(fields.items())), True) or "").startswith(fault)


def test_a_dropped_row_has_a_reason() -> None:
    fields = list(Shape("messages", (), False).schema(dropped=True))
    assert unlike(pa.schema(fields), True, dropped=True) is None
    without = pa.schema([field for field in fields if field.name != "reason"])
    assert unlike(without, True, dropped=True) == "has no column 'reason'" and unlike(without, True) is None


@pytest.fixture
def mixture(make: Callable[..., Result], tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "a.jsonl", [*chat_rows(9), {"instruction": "bare"}])
    return make('[source.a]\npath = "a.jsonl"\n').folder


def damage(mixture: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    file = mixture / "train-00000.parquet"
    change(pl.read_parquet(file)).write_parquet(file)


@pytest.mark.parametrize("column", ["origin_file", "messages", "source"])
def test_every_reader_names_the_file_and_the_column(mixture: Path, tmp_path: Path, column: str) -> None:
    damage(mixture, lambda frame: frame.with_columns(pl.lit(3).alias(column)))
    reads: list[Callable[[], Any]] = [
        lambda: show_rows(mixture), lambda: ask(mixture, "bare"), lambda: diff(mixture, mixture),
        lambda: export(mixture, "alpaca", tmp_path / "exported"), lambda: list(rows(mixture, ["train-00000.parquet"])),
    ]  # fmt: skip
    for read in reads:
        with pytest.raises(InputError, match=rf"train-00000.parquet: column '{column}' is of type int"):
            read()


def test_text_that_is_no_unicode_is_told_by_the_file(mixture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """polars takes it for granted, and says more than anybody wants to read where it is not so."""
    file = mixture / "train-00000.parquet"
    table = pq.read_table(file)
    at = table.schema.get_field_index("id")
    broken = pa.array([b"\xff"] * len(table), pa.binary()).view(pa.string())
    pq.write_table(table.set_column(at, "id", broken), file)
    with pytest.raises(InputError, match=r"train-00000.parquet: cannot be read: .*UTF8"):
        show_rows(mixture)
    assert "panicked" not in capfd.readouterr().err


def test_a_row_without_a_conversation_is_not_exported(mixture: Path, tmp_path: Path) -> None:
    damage(mixture, lambda frame: frame.with_columns(pl.lit(None, frame["messages"].dtype).alias("messages")))
    with pytest.raises(
        InputError, match=r"row [0-9a-f]{32} is no conversation. Fix: build again; `check` says what is whole"
    ):
        export(mixture, "sharegpt", tmp_path / "exported")


def test_a_manifest_without_files_is_told(mixture: Path, tmp_path: Path) -> None:
    file = mixture / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "output": {}}), encoding="utf-8")
    for read in (
        lambda: ask(mixture, "bare"),
        lambda: export(mixture, "alpaca", tmp_path / "exported"),
        lambda: scan(mixture, []),
    ):
        with pytest.raises(InputError, match="names no such file"):
            read()
