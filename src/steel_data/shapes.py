"""Whether what stands in a file has the types that readers count on (apart: manifests, checkpoints and others)."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from steel_data.errors import excerpt

_NUMBER = re.compile("[0-9]{1,9}")
_WORDS = {str: "text", int: "a whole number", float: "a number", dict: "a table", list: "a list", bool: "true or false"}


def misfits(place: str, value: Any, shape: Any, needed: Collection[str] = ()) -> Iterator[str]:
    """Yield where a value is not of its shape: a type, a list of one shape, a table of shapes by key (`*`: every key;
    `#`: every key, each of which is a whole number in digits).

    `needed`: keys that no inner table of theirs may lack. A float may be whole; a boolean is no number.
    """
    kind: Any = shape if isinstance(shape, type) else type(shape)
    fits: Any = (int, float) if kind is float else kind
    if not isinstance(value, fits) or (kind in (int, float) and isinstance(value, bool)):
        yield f"{place} is {_shown(value)}, where {_WORDS[kind]} belongs"
    elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        yield f"{place} is no valid Unicode"
    elif isinstance(shape, list):
        for item in value:
            yield from misfits(place, item, shape[0], needed)
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            for name in value if key in ("*", "#") else [key]:
                if key == "#" and not _NUMBER.fullmatch(name):
                    yield f"{place} has '{excerpt(name, 20)}', where a whole number belongs"
                elif name in value:
                    yield from misfits(f"{place}.{name}".lstrip("."), value[name], inner, needed)
                elif place and name in needed:
                    yield f"{place} has no '{name}'"


def _shown(value: Any) -> str:
    try:
        return excerpt(repr(value), 40)
    except RecursionError:
        return "nested beyond all measure"


def without_nulls(value: Any) -> Any:
    """Return a value whose tables, inner ones too, lack the keys that hold nothing: null says as much as no key."""
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    return {k: without_nulls(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value
