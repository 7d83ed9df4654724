"""Two recipes differ in what they ask for, not in how it is written; and in as many things as a reader would count."""

from typing import Any

from steel_data.recipe.changes import Change, changes, recipe_changes, things
from steel_data.recipe.load import of_mixture


def lines(old: Any, new: Any) -> list[str]:
    return [change.line() for change in changes(old, new)]


def test_tables_differ_key_by_key_in_the_order_of_the_old_one() -> None:
    old = {"b": {"x": 1, "y": [1, 2]}, "a": "same", "gone": True}
    new = {"new": 2.5, "a": "same", "b": {"y": [2, 1], "x": 1}}
    assert lines(old, new) == ["b.y: [1, 2] -> [2, 1]", "gone: true -> (not there)", "new: (not there) -> 2.5"]
    assert changes(old, old) == []


def test_the_same_steps_differ_in_their_options_others_as_a_whole() -> None:
    old = {"filters": [{"use": "dedup"}, {"use": "length", "min_chars": 3}]}
    assert lines(old, {"filters": [{"use": "dedup"}, {"use": "length", "min_chars": 4}]}) == [
        "filters[1].min_chars: 3 -> 4"
    ]
    assert [change.key for change in changes(old, {"filters": [{"use": "length", "min_chars": 3}]})] == ["filters"]
    assert lines({"build": {"use": "chat"}}, {"build": {"use": "exam"}}) == [
        'build: { use = "chat" } -> { use = "exam" }'
    ]


def test_what_is_not_said_means_its_default() -> None:
    def asked(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
        return [change.line() for change in recipe_changes({"source": {"a": old}}, {"source": {"a": new}})]

    assert asked({}, {"repeat": 1, "filters": [], "build": {"use": "chat"}}) == []
    assert asked({"repeat": 2}, {}) == ["source.a.repeat: 2 -> 1"]
    # the builder that is not said is `chat`: only its option is new
    assert asked({}, {"build": {"use": "chat", "layout": "alpaca"}}) == [
        'source.a.build.layout: (not there) -> "alpaca"'
    ]
    assert [c.key for c in recipe_changes({}, of_mixture({"mix": {"budget_rows": 9}, "train": {"epochs": 1}}))] == [
        "mix.budget_rows"
    ]


def test_things_are_counted_as_a_reader_would() -> None:
    base = {"seed": 1, "source": {"a": {"path": "x"}, "b": {"path": "y"}}, "filters": [{"use": "dedup"}]}

    def changed(**over: Any) -> list[str]:
        return things(recipe_changes(base, {**base, **over}))

    alike = {name: {**table, "take": 5} for name, table in base["source"].items()}  # type: ignore[attr-defined]
    assert changed(source=alike) == ["take of a, b"]
    apart = {"a": {"path": "x", "take": 5}, "b": {"path": "y", "take": 6}}
    assert changed(source=apart) == ["take of a", "take of b"]
    assert changed(source={**base["source"], "c": {"path": "z", "take": 1}}) == ["source c"]  # type: ignore[dict-item]
    assert changed(source={**base["source"], "c": {"path": "z", "take": 0}}) == []  # type: ignore[dict-item]
    assert changed(filters=[{"use": "dedup", "near": False, "keep": "longest"}]) == ["filters[0]"]
    assert changed(filters=[]) == ["filters"]
    assert changed(name="other", data_root="/x", seed=42) == ["seed"]
    assert recipe_changes({"source": {}}, {"source": {}, "seed": 42, "filters": []}) == []
    step = {"use": "contaminate", "share": 0.5}
    one, two = ({"source": {"l.x": {"build": {**step, **more}}}} for more in ({}, {"share": 0.2, "doses": [1]}))
    assert things(recipe_changes(one, two)) == ["build of l.x"]
    other = {"source": {"l.x": {"build": {"use": "chat"}}}}
    assert recipe_changes(one, other) == [Change(("source", "l.x", "build"), step, {"use": "chat"})]
