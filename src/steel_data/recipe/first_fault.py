"""The first fault of a recipe's table in one line (apart: [train], [search] and [trial] are read in three packages)."""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from steel_data.errors import nearest

_MEMBERS = ("str", "dict[str,any]", "list[str]", "list[int]")  # of a union, which pydantic puts among the keys


def first_fault(
    where: str,
    error: ValidationError,
    model: type[BaseModel],
    missing: str,
    tables: Mapping[str, type[BaseModel]] | None = None,
    named: bool = False,
) -> str:
    """Return what is wrong with a table, with the nearest known word.

    `missing`: what would be right where a key is missing, `{key}` in it is the key. `tables`: those inside this one, by
    name. `named`: whether what a validator says is preceded by its key.
    """
    # pydantic reports every member of a union: an unknown key says more than "is not a string"
    fault = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")[0]
    place = [str(part) for part in fault["loc"] if part not in _MEMBERS]
    key = ".".join(place)
    if fault["type"] == "extra_forbidden":
        known = (tables or {}).get(place[0], model) if len(place) > 1 else model
        return f"{where}: unknown key '{key}'.{nearest(place[-1], known.model_fields)}"
    if fault["type"] == "missing":
        return f"{where}: {key} is missing. Fix: {missing.replace('{key}', key)}."
    if fault["type"] == "value_error":
        return f"{where}: {f'{key}: ' if named and key else ''}{fault['ctx']['error']}."
    return f"{where}: {key} = {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}."
