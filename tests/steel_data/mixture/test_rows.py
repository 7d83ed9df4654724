"""One reader of a mixture's rows: in a stream, by place, as a frame; a missing or damaged file is one error by name."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from steel_data.errors import InputError
from steel_data.mixture.rows import (
    collect,
    count,
    files,
    joined_text,
    rows,
    rows_at,
    rows_of,
    scan,
    schema,
    slices,
    squeezed,
    turn_fields,
)


def turn(role: str, content: str, thought: str | None = None) -> dict[str, Any]:
    return {"role": role, "content": content, "reasoning_content": thought}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of 7 and 5 rows in row groups of 3; row n says n."""
    for name, numbers in (("train-00000.parquet", range(7)), ("train-00001.parquet", range(7, 12))):
        messages = [[turn("user", f"问{n}"), turn("assistant", f"答{n}", f"想{n}")] for n in numbers]
        frame = pl.DataFrame(
            {"id": [f"{n:02d}" for n in numbers], "messages": messages, "tools": [None] * len(messages)}
        )
        frame.write_parquet(tmp_path / name, row_group_size=3)
    return tmp_path


def ids(found: Iterable[dict[str, Any]]) -> list[int]:
    return [int(row["id"]) for row in found]


def test_all_rows_in_order_whole_or_some_columns(folder: Path) -> None:
    names = files(folder)
    assert count(folder, names) == 12
    assert names == ["train-00000.parquet", "train-00001.parquet"]
    assert ids(rows(folder, names)) == list(range(12))
    assert list(rows(folder, names[1:], ["id"])) == [{"id": f"{n:02d}"} for n in range(7, 12)]
    assert next(rows(folder, names))["messages"][1] == turn("assistant", "答0", "想0")


def test_rows_by_place_are_the_streamed_ones_each_once_in_order(folder: Path) -> None:
    first, second = files(folder)
    places = [(second, 4), (first, 6), (first, 2), (first, 2), (second, 0)]
    found = list(rows_at(folder, places))
    assert [place for place, _ in found] == [(second, 0), (second, 4), (first, 2), (first, 6)]
    assert ids(row for _, row in found) == [7, 11, 2, 6]
    streamed = {row["id"]: row for row in rows(folder, files(folder))}
    assert all(row == streamed[row["id"]] for _, row in found)
    assert list(rows_at(folder, [(first, 99)])) == []


def test_a_frame_says_where_each_row_stands(folder: Path) -> None:
    frame = collect(folder, scan(folder, files(folder)).filter(pl.col("id").is_in(["06", "07"])))
    assert frame.select("id", "file", "at").rows() == [
        ("06", "train-00000.parquet", 6),
        ("07", "train-00001.parquet", 0),
    ]


READERS: list[Callable[[Path, list[str]], Any]] = [
    lambda folder, names: list(rows(folder, names)),
    lambda folder, names: list(rows_at(folder, [(name, 1) for name in names])),
    lambda folder, names: collect(folder, scan(folder, names)),
    lambda folder, names: count(folder, names),
    lambda folder, names: [schema(folder, name) for name in names],
]


@pytest.mark.parametrize("read", READERS)
def test_a_missing_or_damaged_file_is_one_error_that_names_it(folder: Path, read: Callable[..., Any]) -> None:
    names = files(folder)
    (folder / names[1]).write_bytes(b"PAR1 garbage")
    with pytest.raises(
        InputError, match=r"train-00001\.parquet: cannot be read: .* `check` says what is whole\."
    ) as error:
        read(folder, names)
    assert "\n" not in str(error.value)
    (folder / names[1]).unlink()
    with pytest.raises(InputError, match=r"train-00001\.parquet: is missing"):
        read(folder, names)


def test_damage_inside_a_file_is_named_too(folder: Path) -> None:
    """The footer is whole, so that the file opens; its pages are not."""
    path = folder / files(folder)[0]
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)
    for read in READERS[:3]:
        with pytest.raises(InputError, match=r"train-00000\.parquet: cannot be read"):
            read(folder, files(folder))


def test_a_folder_without_rows_is_no_mixture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no train-\*\.parquet here\. Fix: the folder that `steel build` wrote"):
        files(tmp_path)


def test_text_of_conversations_and_of_preferences(folder: Path) -> None:
    names = files(folder)
    columns = schema(folder, names[0])
    assert turn_fields(columns, "messages") == {"role", "content", "reasoning_content"}
    assert turn_fields(columns, "prompt") == set()
    text = collect(folder, scan(folder, names).select(joined_text(columns)))
    assert text.item(3, 0) == "问3\n想3\n答3"
    pair = pl.DataFrame({name: [[{"role": "user", "content": name}]] for name in ("prompt", "chosen", "rejected")})
    assert pair.select(joined_text(pair.schema)).item() == "prompt\nchosen\nrejected"


def test_width_case_and_blanks_do_not_matter() -> None:
    assert pl.select(squeezed(pl.lit("Ａb　C\n１"))).item() == "abc1"


@pytest.mark.parametrize("most", [1, 2, 3, 50])
def test_stretches_are_the_whole_in_order_whatever_their_size(folder: Path, most: int) -> None:
    cut = slices(folder, files(folder), most)
    assert max(piece.rows for piece in cut) == min(most, 3), "inside a row group"
    assert [piece.number for piece in cut] == [sum(s.rows for s in cut[:i]) for i in range(len(cut))]
    assert [ids(rows_of(folder, piece)) for piece in cut] == [list(range(s.number, s.number + s.rows)) for s in cut]
