"""The first fault of a table in one line: where, what is wrong, what would be right (apart: three packages ask).

One form for all of a recipe: `r.toml [train.lora]: rank = true: no whole number. Fix: a whole number.`
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from steel_data.errors import excerpt, nearest

# What pydantic adds to a place where a value may be of several types, and to a key of a table: no key of the recipe
_ADDED = re.compile(r"str|int|float|bool|\[key\]|(list|dict|literal|constrained|function)[-\[].*", re.DOTALL)
_LAST = {"extra_forbidden": 0, "missing": 2}
_TYPES = {
    "string_type": ("no text", "a text in quotes"),
    "int_type": ("no whole number", "a whole number"),
    "int_from_float": ("no whole number", "a whole number"),
    "float_type": ("no number", "a number"),
    "finite_number": ("not finite", "a finite number"),
    "bool_type": ("neither true nor false", "true or false"),
    "list_type": ("no list", "a list"),
    "dict_type": ("no table", "a table"),
    "model_type": ("no table", "a table"),
}
_BOUNDS = {
    "greater_than": ("too small", "gt", "more than {}"),
    "greater_than_equal": ("too small", "ge", "{} or more"),
    "less_than": ("too large", "lt", "less than {}"),
    "less_than_equal": ("too large", "le", "{} or less"),
    "too_short": ("too few", "min_length", "{} or more"),
    "too_long": ("too many", "max_length", "{} or fewer"),
}


def first_fault(path: Path, table: Sequence[str], error: ValidationError, model: type[BaseModel]) -> str:
    """Return what is wrong with `table` of a recipe, which `model` checks, with the nearest known word.

    Of a key that is missing, the model's `examples` say what would be right.
    """
    # pydantic reports every member of a union: an unknown key says more than "is not a string"
    faults = sorted(error.errors(), key=lambda one: _LAST.get(one["type"], 1))
    fault = faults[0]
    place = _cleaned(fault["loc"])
    tables, keys, model = _stands(model, place, whole=fault["type"] == "value_error")
    inside = ".".join((*table, *tables))
    where, key = f"{path} [{inside}]" if inside else str(path), ".".join(keys)
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'.{nearest(keys[-1], model.model_fields)}"
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']}."
    if fault["type"] == "missing":
        examples = model.model_fields[keys[-1]].examples or ["…"]
        return f"{where}: {key} is missing. Fix: {key} = {examples[0]}."
    return f"{where}: {_told(key, [one for one in faults if _cleaned(one['loc']) == place])}"


def option_fault(name: str, error: ValidationError) -> str:
    """Return what is wrong with the value of a step's option, in the same words."""
    faults = error.errors()
    place = _cleaned(faults[0]["loc"])
    return _told(".".join((name, *place)), [one for one in faults if _cleaned(one["loc"]) == place])


def _told(key: str, faults: Sequence[Any]) -> str:
    """Return what is wrong with the value of one key: what pydantic says of each type that it may have."""
    what, _ = _words(faults[0])
    value = shown(faults[0]["input"])
    if faults[0]["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", faults[0]["ctx"]["expected"])
        return f"{key} = {value}: {what}.{nearest(str(faults[0]['input']), known)}"
    fixes = dict.fromkeys(_words(fault)[1] for fault in faults)
    return f"{key} = {value}: {what}. Fix: {' or '.join(fixes)}."


def shown(value: Any) -> str:
    """Return a value on one line, as a recipe writes it, cut where it is long."""
    return excerpt(_written(value))


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_written(one)}" for key, one in value.items()) + " }"
    return "[" + ", ".join(map(_written, value)) + "]" if isinstance(value, list) else repr(value)


def _words(fault: Any) -> tuple[str, str]:
    """Return what is wrong and what would be right, without a stop."""
    kind = fault["type"]
    if kind in _BOUNDS:
        what, bound, fix = _BOUNDS[kind]
        return what, fix.format(f"{fault['ctx'][bound]:g}")
    said = fault["msg"][0].lower() + fault["msg"][1:]
    return ("not known", fault["ctx"]["expected"]) if kind == "literal_error" else _TYPES.get(kind, (said, "another"))


def _cleaned(place: Sequence[Any]) -> list[str]:
    return [str(part) for part in place if not _ADDED.fullmatch(str(part))]


def _stands(model: type[BaseModel], place: list[str], whole: bool) -> tuple[list[str], list[str], type[BaseModel]]:
    """Return the inner tables that a place lies in, the rest of it, and the model of the innermost.

    `whole`: the fault may be that of a table, not of a key in it.
    """
    tables: list[str] = []
    while place and place[0] in model.model_fields:
        annotation = model.model_fields[place[0]].annotation
        inner = _table_of(annotation)
        depth = 2 if get_origin(annotation) is dict else 1
        if inner is None or len(place) + whole <= depth:
            break
        tables, place, model = [*tables, *place[:depth]], place[depth:], inner
    return tables, place, model


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the table that a key holds: alone, or none, or one a name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _table_of(one))), None)
