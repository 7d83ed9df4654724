"""Seeded draws, and the sentence templates they fill: the same bytes from every Python, numpy and PYTHONHASHSEED.

Neither numpy nor `random` promises its `shuffle` and `choice` to stay the same across versions, so the few draws the
generator needs are made here from splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import numpy as np
import xxhash

from steel_data.row.text import mix64

T = TypeVar("T")
Words = Mapping[str, Sequence[str]]
Row = dict[str, Any]  # one row of a file, by column
_STEPS = np.arange(1, 257, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)(?::\w+)?\}")


@cache
def texts(name: str) -> dict[str, Any]:
    """Return the parsed text file `texts/<name>.toml`. A string with "/" outside a list is a list of words."""
    return tomllib.loads((files("steel_data.sample") / "texts" / f"{name}.toml").read_text(encoding="utf-8"))


def words(name: str) -> Words:
    """Return the word lists of a text file: an entry is a list, or a string with "/" between the words."""
    return {
        key: entry.split("/") if isinstance(entry, str) else entry
        for key, entry in texts(name).items()
        if not isinstance(entry, dict)
    }


def capital(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def scaled(count: int, scale: float, least: int = 1) -> int:
    """Return `count` times `scale`, rounded, but at least `least`."""
    return max(least, int(count * scale + 0.5))


class Draws:
    """A stream of draws, fixed by its key: streams of different keys do not disturb one another."""

    def __init__(self, *key: object, words: Words | None = None) -> None:
        self._state = np.uint64(xxhash.xxh3_64_intdigest("\x1f".join(str(part) for part in key).encode()))
        self._ready: list[int] = []  # next bits, the first one last
        self.words = words or {}

    def bits(self) -> int:
        """Return 64 random bits."""
        if not self._ready:
            states = self._state + _STEPS
            self._state, self._ready = states[-1], mix64(states)[::-1].tolist()
        return self._ready.pop()

    def below(self, n: int) -> int:
        """Return an integer from 0 to n - 1."""
        return (self.bits() * n) >> 64

    def between(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: float) -> bool:
        """Return True in `percent` of 100 cases."""
        return self.below(1_000_000) < percent * 10_000

    def pick(self, items: Sequence[T]) -> T:
        """Return one of `items`."""
        return items[self.below(len(items))]

    def weighted(self, weights: Mapping[str, int]) -> str:
        """Return one of the keys, as often as its weight says."""
        return self.pick([key for key, weight in weights.items() for _ in range(weight)])

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """Return `count` different places of `items`, in random order."""
        rest = list(items)
        for i in range(count):
            j = i + self.below(len(rest) - i)
            rest[i], rest[j] = rest[j], rest[i]
        return rest[:count]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return all of `items` in random order."""
        return self.sample(items, len(items))

    def balanced(self, count: int, options: int = 4) -> list[int]:
        """Return `count` positions of the right answer in random order, each equally often (give or take one)."""
        first = self.below(options)
        return self.shuffled([(first + i) % options for i in range(count)])

    def say(self, template: str, words: Words | None = None, /, **given: object) -> str:
        """Return `template` filled in: `[a|b|]` is one of its parts, `{word}` a given value or an entry of the words.

        Entries may hold alternatives and slots of their own; `{word:1}` is the same entry wherever it stands in one
        call. Given values are put in as they are. The words are the stream's own unless others are named.
        """
        kept: dict[str, str] = {}
        entries = self.words if words is None else words

        def fill(match: re.Match[str]) -> str:
            word, slot = match[1], match[0]
            if word in given:
                return str(given[word])
            if slot in kept:
                return kept[slot]
            text = expand(self.pick(entries[word]))
            if ":" in slot:
                kept[slot] = text
            return text

        def expand(text: str) -> str:
            while match := _CHOICE.search(text):
                text = text[: match.start()] + self.pick(match[1].split("|")) + text[match.end() :]
            return _SLOT.sub(fill, text)

        return expand(template)

    def fixed(self, *slots: str) -> dict[str, object]:
        """Return one filling of each word, so that a whole text stays with one person, place and thing."""
        return {word: self.say(f"{{{word}}}") for word in slots}
