"""Ratings are found by what the recipe means, are never mixed, and their lack names the command that makes them."""

from pathlib import Path

import polars as pl
import pytest

from steel_data.errors import InputError
from steel_data.recipe.selection import Select
from steel_data.selection.ratings import find_store, open_store


def found(folder: Path, **said):
    return find_store("r.toml [source.a]", Select(by="ifd", rows=1, **said), folder, Path("r.toml"))


def test_none_are_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"steel rate r.toml --by ifd --model DIR"):
        found(tmp_path)
    open_store(tmp_path, "perplexity", "base", "f" * 32)
    with pytest.raises(InputError, match=r"--model 'my base'"):
        found(tmp_path, model="my base")


def test_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    open_store(tmp_path, "ifd", "smol", "a" * 32)
    assert found(tmp_path).model == "smol"
    assert found(tmp_path, model="models/smol").fingerprint == "a" * 32
    assert found(tmp_path, model="aaaaaaaa").model == "smol"
    with pytest.raises(InputError, match=r"ratings of 'qwen', and those that are there are of another model: 'smol'"):
        found(tmp_path, model="qwen")


def test_of_several_models_the_recipe_says_which(tmp_path: Path) -> None:
    for fingerprint in ("a" * 32, "b" * 32):
        open_store(tmp_path, "ifd", "smol", fingerprint)  # the same folder, trained on since
    with pytest.raises(InputError, match=r"2 models have rated: 'smol' \(aaaaaaaa\), 'smol' \(bbbbbbbb\)"):
        found(tmp_path)
    assert found(tmp_path, model="bbbbbbbb").fingerprint == "b" * 32


def test_what_was_added_is_there_once(tmp_path: Path) -> None:
    store = open_store(tmp_path, "ifd", "smol", "a" * 32)
    assert len(store.read()) == 0
    store.add(pl.DataFrame({"id": ["x", "y"], "rating": [1.0, 2.0]}))
    store.add(pl.DataFrame({"id": ["y", "z"], "rating": [9.0, 3.0]}))
    assert dict(open_store(tmp_path, "ifd", "smol", "a" * 32).read().iter_rows()) == {"x": 1.0, "y": 2.0, "z": 3.0}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"by": "ifd"}', b"\xff", b'{"by": 1, "model": 2, "fingerprint": 3}']
)
def test_a_damaged_store_is_told_and_made_again(tmp_path: Path, content: bytes) -> None:
    about = open_store(tmp_path, "ifd", "smol", "a" * 32).folder / "model.json"
    about.write_bytes(content)
    with pytest.raises(InputError, match=r"model.json: is damaged.*Fix: .*steel rate r.toml --by ifd"):
        found(tmp_path)
    open_store(tmp_path, "ifd", "smol", "a" * 32)  # as `rate` does
    assert found(tmp_path).model == "smol"


def test_a_damaged_part_is_told_and_its_place_not_taken_by_another(tmp_path: Path) -> None:
    store = open_store(tmp_path, "ifd", "smol", "a" * 32)
    for name in "xyz":
        store.add(pl.DataFrame({"id": [name], "rating": [1.0]}))
    damaged = store.folder / "part-00001.parquet"
    damaged.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"part-00001.parquet: is damaged.*Fix: remove the file"):
        store.read()
    damaged.unlink()
    store.add(pl.DataFrame({"id": ["y"], "rating": [2.0]}))
    assert set(store.read()["id"]) == {"x", "y", "z"}


GOOD = pl.DataFrame({"id": ["x", "y"], "rating": [1.0, None], "vector": [b"\0\0\0\0", None]})


@pytest.mark.parametrize(
    ("by", "frame"),
    [
        ("ifd", GOOD.drop("id")), ("ifd", GOOD.rename({"rating": ""})), ("ifd", GOOD.with_columns(rating=pl.lit("1"))),
        ("ifd", GOOD.with_columns(id=pl.lit(1))), ("ifd", GOOD.with_columns(pl.lit(None).alias("rating"))),
        ("rds", GOOD.drop("vector")), ("rds", GOOD.with_columns(vector=pl.lit("abcd"))),
        ("rds", GOOD.with_columns(vector=pl.Series([b"abcd", b"ab"]))), ("rds", GOOD.with_columns(vector=pl.lit(b"abc"))),
    ],
)  # fmt: skip
def test_a_part_of_other_types_is_told(tmp_path: Path, by: str, frame: pl.DataFrame) -> None:
    """Found by bench/fuzz.py: three of three ended in a traceback of polars'."""
    store = open_store(tmp_path, by, "smol", "a" * 32)
    store.add(GOOD)
    assert store.read().columns == ["id", "vector" if by == "rds" else "rating"]
    store.add(frame)
    with pytest.raises(InputError, match=r"part-00001.parquet: is damaged \(no column '.*Fix: remove the file"):
        store.read()
