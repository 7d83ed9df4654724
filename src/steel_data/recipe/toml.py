"""Write a recipe as TOML (the standard library only reads it): tables as sections, anything inside lists inline."""

import re
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LINE = 110  # characters from which a table gets a section, a list several lines
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def to_toml(table: dict[str, Any]) -> str:
    """Return a table of plain values (str, bool, int, float, list, dict) as TOML that `tomllib` reads back as it was.

    Keys without a value (None) are left out: TOML has no null.
    """
    return "\n".join(_section(table, ())).strip("\n") + "\n"


def _section(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {k: v for k, v in table.items() if not isinstance(v, dict) and v is not None}
    tables = {k: v for k, v in table.items() if isinstance(v, dict)}
    inner = {k: v for k, v in tables.items() if len(path) < 2 or not _is_small(v)}
    lines = [f"{_key(k)} = {_value(v)}" if not _is_long(v) else _spread(k, v) for k, v in plain.items()]
    lines += [f"{_key(k)} = {_value(v)}" for k, v in tables.items() if k not in inner]
    # a table that holds nothing but tables needs no heading of its own
    if path and (lines or not inner):
        lines = ["", f"[{'.'.join(map(_key, path))}]", *lines]
    for key, value in inner.items():
        lines += _section(value, (*path, key))
    return lines


def _is_small(table: dict[str, Any]) -> bool:
    """Whether a table reads well on one line: no table within, and short."""
    return not any(isinstance(v, dict) and v for v in table.values()) and len(_value(table)) <= _LINE


def _is_long(value: Any) -> bool:
    """Whether a list reads better with one entry a line."""
    return isinstance(value, list) and len(value) > 1 and len(_value(value)) > _LINE


def _spread(key: str, value: list[Any]) -> str:
    return "\n".join([f"{_key(key)} = [", *(f"    {_value(v)}," for v in value), "]"])


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escape(c)) for c in text) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        return repr(value)  # repr gives inf, nan, 0.1, 1e-05: all of them TOML
    if isinstance(value, int):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inside} }}" if inside else "{}"
    return _string(str(value))  # dates and times, which no recipe key takes
