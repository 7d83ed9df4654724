"""JSON of any row, to and from text: integers keep their digits, and an object holds a key once.

orjson reads an integer of more than 64 bits as the nearest float and keeps the last of two equal keys, both without a
word. Its speed is kept: what it made is believed unless the text shows a sign of either (`is_doubtful`), which costs
a fiftieth of a build; only then does Python's own parser read the text again.
"""

import json
import math
import re
from typing import Any, NoReturn

import numpy as np
import orjson

from steel_data.errors import excerpt

# Python refuses to make an int of more: quadratic time. Such a number stays the text of its digits.
_INT_DIGITS = 4000
_LONG = b"0" * 19  # digits in a row that 64 bits may not hold
_DIGITS = bytes(ord("0") if chr(byte).isascii() and chr(byte).isdigit() else ord(" ") for byte in range(256))
_KEY = b'":'
_SPACED = re.compile(rb'"\s+:')  # a key that _KEY does not find
_QUOTE = b"\\u0022"  # a quotation mark that orjson writes in another way


class TwiceError(orjson.JSONDecodeError):
    """A key that one object holds twice: which of its values is meant nobody knows."""


def is_doubtful(text: bytes, value: Any) -> bool:
    """Return whether `value`, which orjson made of `text`, may lack digits of an integer, or one of two equal keys.

    A text without a long run of digits, and with as many keys as the value has when written again, lacks nothing.
    """
    if _LONG in text.translate(_DIGITS) or _QUOTE in text:
        return True
    code = np.frombuffer(text, np.uint8)
    if ((code[1:] == ord(":")) & (code[:-1] <= ord(" "))).any() and _SPACED.search(text):  # the search alone: 10 times
        return True
    return text.count(_KEY) != orjson.dumps(value).count(_KEY)


def from_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises orjson.JSONDecodeError, of which TwiceError is one."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as fault:
        if _LONG not in data.translate(_DIGITS):
            raise
        try:  # an integer beyond the largest float
            return exact(data.decode("utf-8"))
        except TwiceError:
            raise
        except (ValueError, RecursionError):
            raise fault from None
    if not is_doubtful(data, value):
        return value
    try:
        return exact(data.decode("utf-8"))
    except RecursionError:
        raise orjson.JSONDecodeError("nested too deeply", data.decode("utf-8"), 0) from None


def exact(text: str) -> Any:
    """Return the value of a JSON text by Python's parser: slower, integers of any length, no key twice.

    NaN, Infinity and numbers too large for a float are None. Raises json.JSONDecodeError, of which TwiceError is one;
    RecursionError where it is nested too deeply.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            _refuse(text, [key for key, _ in pairs])
        return found

    return json.loads(
        text, object_pairs_hook=once, parse_constant=lambda _: None, parse_float=_finite, parse_int=_integer
    )


def _refuse(text: str, keys: list[str]) -> NoReturn:
    key = next(key for i, key in enumerate(keys) if key in keys[:i])
    places = [m.start() for m in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text)]
    at = places[1] if len(places) > 1 else 0
    raise TwiceError(f"the key '{excerpt(key, 40)}' twice in one object", text, at)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= _INT_DIGITS else text


def to_json(value: Any) -> str:
    """Return a value of a row as compact JSON text; see `json_bytes`."""
    return json_bytes(value).decode()


def json_bytes(value: Any) -> bytes:
    """Return a value of a row as compact JSON in UTF-8, integers of any length included.

    Raises TypeError or UnicodeEncodeError for text that is not valid Unicode (a lone surrogate).
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        if not _has_long_integer(value):
            return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _has_long_integer(value: Any) -> bool:
    match value:
        case dict():
            return any(map(_has_long_integer, value.values()))
        case list() | tuple():
            return any(map(_has_long_integer, value))
        case bool():
            return False
        case int():
            return not -(2**63) <= value < 2**64
    return False
