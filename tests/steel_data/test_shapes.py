"""Whether values are of the types that readers count on."""

import orjson
import pytest

from steel_data.shapes import misfits, without_nulls

SHAPE = {"step": int, "loss": float, "done": bool, "files": {"*": {"rows": int}}, "names": [str], "doses": {"#": int}}


def test_what_fits_and_what_nobody_asks_for_is_passed_over() -> None:
    whole = {"step": 1, "loss": 2, "done": True, "files": {"a": {"rows": 3}}, "names": ["x"], "more": [None]}
    assert list(misfits("", whole, SHAPE, needed={"rows"})) == list(misfits("", {}, SHAPE)) == []


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([], " is [], where a table belongs"),
        ({"step": True}, "step is True, where a whole number belongs"),
        ({"loss": "1"}, "loss is '1', where a number belongs"),
        ({"done": 1}, "done is 1, where true or false belongs"),
        ({"files": {"a": {}}}, "files.a has no 'rows'"),
        ({"files": {"\x1b": {"rows": None}}}, "files.\x1b.rows is None, where a whole number belongs"),
        ({"doses": {"3": 1, "x": 1}}, "doses has 'x', where a whole number belongs"),
        ({"doses": {"３": 1}}, "doses has '３', where a whole number belongs"),
        ({"names": ["x", 1]}, "names is 1, where text belongs"),
        ({"names": ["\ud800"]}, "names is no valid Unicode"),
        (
            {"step": orjson.loads(b"[" * 1020 + b"]" * 1020)},
            "step is nested beyond all measure, where a whole number belongs",
        ),
    ],
)
def test_the_first_misfit_is_told_with_its_place(value: object, fault: str) -> None:
    assert next(misfits("", value, SHAPE, needed={"rows"})) == fault


def test_nulls_say_as_much_as_no_key() -> None:
    assert without_nulls({"a": None, "b": {"c": None, "d": 0}}) == {"b": {"d": 0}}
    assert without_nulls([{"a": None, "b": [{"c": None}, None]}]) == [{"b": [{}, None]}]
