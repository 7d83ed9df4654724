"""`rate` rates what may be selected, goes on where it was, and a build finds what it left."""

import dataclasses
from pathlib import Path

import polars as pl
import pytest
from tests.steel_data.toys import chat_rows, read_train, write_cmmlu, write_jsonl
from tests.steel_eval import toys

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_data.recipe.places import places
from steel_eval.rate import command
from steel_eval.rate.command import rate_command


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return toys.save(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(30))
    write_jsonl(tmp_path / "b.jsonl", chat_rows(4))
    write_cmmlu(tmp_path, 1, 3, "val")
    return tmp_path


def recipe(world: Path, select: str):
    path = world / "r.toml"
    path.write_text(
        f'[source.a]\npath = "a.jsonl"\ntake = 20\nselect = {{ {select} }}\n[source.b]\npath = "b.jsonl"\n'
        "[mix]\nbudget_rows = 9\n",
        encoding="utf-8",
    )
    return load(path), places(load(path), world, world / "out" / "mixture", None)


@pytest.mark.parametrize("by", ["perplexity", "ifd", 'rds", target = "bench/val'])
def test_a_build_finds_the_ratings(world: Path, model: Path, by: str) -> None:
    loaded, where = recipe(world, f'by = "{by}", rows = 6')
    word = by.partition('"')[0]
    rated = rate_command(loaded, word, str(model), where)
    assert (rated.fresh, rated.known, rated.unrated) == (20, 0, 0)  # what `take` leaves of the source that selects
    result = build(loaded, data_root=world, out=where.out)
    mine = read_train(result.folder).filter(source="a")
    assert mine["rating"].is_finite().all()
    assert result.manifest["selections"]["a"]["model"] == "base"
    again = rate_command(loaded, word, str(model), where)
    assert (again.fresh, again.known) == (0, 20)


def test_a_killed_command_goes_on(world: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, where = recipe(world, 'by = "perplexity", rows = 6')
    whole = rate_command(loaded, "perplexity", str(model), dataclasses.replace(where, cache=world / "other"))
    monkeypatch.setattr(command, "_BATCH", 4)
    monkeypatch.setattr(command, "_SECONDS", 0.0)
    calls = []

    def until_third(done):
        calls.append(done)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        real = command.RatingStore.add
        patched.setattr(command.RatingStore, "add", lambda self, frame: (until_third(frame), real(self, frame)))
        with pytest.raises(KeyboardInterrupt):
            rate_command(loaded, "perplexity", str(model), where)
    rated = rate_command(loaded, "perplexity", str(model), where)
    assert (rated.known, rated.fresh) == (8, 12)
    one, two = (dict(r.store.read().iter_rows()) for r in (whole, rated))
    assert one.keys() == two.keys()
    assert all(one[i] == pytest.approx(two[i], rel=1e-4) for i in one)


def test_refusals(world: Path, model: Path) -> None:
    loaded, where = recipe(world, 'by = "random", rows = 6')
    with pytest.raises(InputError, match=r"--by idf: is no rating by a model.*ifd"):
        rate_command(loaded, "idf", str(model), where)
    with pytest.raises(InputError, match="no source selects by rds"):
        rate_command(loaded, "rds", str(model), where)


def test_equal_weights_with_another_template_are_another_rater(world: Path, model: Path, tmp_path: Path) -> None:
    loaded, where = recipe(world, 'by = "perplexity", rows = 6')
    first = rate_command(loaded, "perplexity", str(model), where)
    words = toys.tokenizer()
    words.chat_template = toys.CHAT.replace("assistant", "bot")
    other = tmp_path / "base"
    toys.save(other)
    words.save_pretrained(other)
    second = rate_command(loaded, "perplexity", str(other), where)
    assert first.store.folder != second.store.folder
    assert isinstance(second.store.read(), pl.DataFrame)
    with pytest.raises(InputError, match="2 models have rated"):
        build(loaded, data_root=world, out=where.out)


def test_rows_that_take_the_place_of_those_dropped_by_their_rating_are_rated_too(world: Path, model: Path) -> None:
    """Else the build would name a command that has nothing more to do."""
    (world / "own.py").write_text(
        "def hard(record):\n    rating = record['rating']\n"
        "    return record if rating is None or int(rating * 1e6) % 2 else 'even'\n",
        encoding="utf-8",
    )
    loaded, where = recipe(world, 'by = "perplexity", rows = 6 }\nfilters = [{ use = "own:hard" }]\nhold_out = 1 #')
    loaded.path.write_text(loaded.path.read_text().replace("take = 20", "take = 10"), encoding="utf-8")
    loaded = load(loaded.path)
    rated = rate_command(loaded, "perplexity", str(model), where)
    assert rated.fresh > 10
    result = build(loaded, data_root=world, out=where.out)
    assert read_train(result.folder).filter(source="a")["rating"].is_finite().all()
    assert rate_command(loaded, "perplexity", str(model), where).fresh == 0


def test_weights_in_another_type_are_another_rater(world: Path, model: Path) -> None:
    loaded, where = recipe(world, 'by = "perplexity", rows = 6')
    first = rate_command(loaded, "perplexity", str(model), where)
    said = rate_command(loaded, "perplexity", str(model), where, dtype="bfloat16")
    assert first.store.folder != said.store.folder
    assert said.fresh == 20
