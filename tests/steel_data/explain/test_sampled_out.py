"""Rows that were sampled out are not stored: the passes run again, and say what cut them and where they stood."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.steel_data.toys import chat_rows, read_train, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.explain.query import Again
from steel_data.explain.why import ask

ROWS = chat_rows(60)


@pytest.fixture
def mixture(make: Callable[..., Result], tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "b.jsonl", [*ROWS[40:], {**ROWS[40], "input": " "}])
    return make('filters = [{ use = "dedup" }]\n[source.b]\npath = "b.jsonl"\ntake = 7\n').folder


def where(tmp_path: Path) -> Again:
    return Again(data_root=tmp_path, cache=tmp_path / "cache")


def test_sampled_out_row_is_recomputed_with_its_rank(mixture: Path, tmp_path: Path) -> None:
    written = set(read_train(mixture).filter(pl.col("source") == "b")["origin_row"])
    ranks = []
    for row in set(range(20)) - written:
        (found,) = ask(mixture, f"b.jsonl:{row}", where(tmp_path)).found
        assert found.verdict == "sampled out"
        head, _, rank = found.why.rpartition("number ")
        assert head == "take = 7 of source b takes the first 7 of 20; it is "
        ranks.append(int(rank))
        assert found.row["messages"][0]["content"] == ROWS[40 + row]["instruction"]
    assert sorted(ranks) == list(range(8, 21))
    (by_id,) = ask(mixture, found.row["id"], where(tmp_path)).found
    (by_text,) = ask(mixture, f"第{40 + row}号回答", where(tmp_path)).found
    assert by_id.why == by_text.why == found.why


def test_changed_inputs_are_named_with_the_answer(mixture: Path, tmp_path: Path) -> None:
    row = min(set(range(20)) - set(read_train(mixture).filter(pl.col("source") == "b")["origin_row"]))
    write_jsonl(tmp_path / "b.jsonl", ROWS[40:58])
    answer = ask(mixture, f"b.jsonl:{row}", where(tmp_path))
    assert answer.notes[0] == "something has changed since it was built, and this answer is of today's"
    assert answer.notes[1].startswith("changed: source b: b.jsonl changed, ")
    (tmp_path / "b.jsonl").unlink()
    with pytest.raises(InputError, match=r"b\.jsonl:\d+: in none of the .*no such file.*--recipe and --data-root"):
        ask(mixture, f"b.jsonl:{row}", where(tmp_path))


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ("budget_rows = 9", "[mix] budget_rows = 9 takes the first 9 of 60 copies"),
        ("budget_tokens = 200", "[mix] budget_tokens = 200 takes the first "),
        ("languages = { zh = 0.8, en = 0.2 }", "[mix] languages takes the first "),
        ("languages = { en = 1.0 }", "[mix] languages gives no share to 'zh'"),
        ("sources = { a = 1.0 }\nbudget_tokens = 200", "[mix] budget_tokens = 200 takes the first "),
    ],
)
def test_budget_and_languages_say_their_queue(make: Callable[..., Result], tmp_path: Path, mix: str, said: str) -> None:
    english = [{"instruction": f"Name {i} things about rain.", "output": f"It waters {i} plants."} for i in range(3)]
    write_jsonl(tmp_path / "a.jsonl", [*ROWS[:27], *english])
    result = make(f'[source.a]\npath = "a.jsonl"\nrepeat = 2\n[mix]\n{mix}\n', name="mix")
    written = set(read_train(result.folder)["origin_row"])
    ranks = set()
    for row in sorted(set(range(27)) - written)[:4]:
        (found,) = ask(result.folder, f"a.jsonl:{row}", where(tmp_path)).found
        assert found.verdict == "sampled out" and found.why.startswith(said)
        if "number" in found.why:
            taken, rank = (int(found.why.split(word)[1].split()[0]) for word in ("the first ", "number "))
            assert rank > taken
            ranks.add(rank)
    assert len(ranks) == (4 if "number" in found.why else 0)


def test_steps_of_the_users_own_need_the_recipe(make: Callable[..., Result], tmp_path: Path) -> None:
    """A mixture may come from anybody: code is run only where the recipe is given."""
    (tmp_path / "own_steps.py").write_text("def all(record):\n    return record\n", encoding="utf-8")
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    toml = '[source.a]\npath = "a.jsonl"\ntake = 5\nfilters = [{ use = "own_steps:all" }]\n'
    folder = make(toml, name="own").folder
    row = min(set(range(60)) - set(read_train(folder)["origin_row"]))
    with pytest.raises(InputError, match=r"steps of its own \(own_steps:all\)"):
        ask(folder, f"a.jsonl:{row}", where(tmp_path))
    again = Again(tmp_path / "own.toml", None, tmp_path / "cache")
    assert ask(folder, f"a.jsonl:{row}", again).found[0].verdict == "sampled out"


def test_a_row_held_out_and_a_source_without_a_share_are_named(make: Callable[..., Result], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ROWS[:20])
    write_jsonl(tmp_path / "b.jsonl", ROWS[20:40])
    two = (
        '[source.a]\npath = "a.jsonl"\nhold_out = 5\n[source.b]\npath = "b.jsonl"\n[mix]\nsources = { a = 1, b = 0 }\n'
    )
    folder = make(two, name="two").folder
    held = set(range(20)) - set(read_train(folder)["origin_row"])
    assert len(held) == 5
    (found,) = ask(folder, f"a.jsonl:{min(held)}", where(tmp_path)).found
    assert found.why == "hold_out = 5 of source a keeps it out of the mixture"
    (found,) = ask(folder, "b.jsonl:3", where(tmp_path)).found
    assert found.why == "[mix] sources gives no share to 'b'"
