"""Seeded draws and sentence templates: the same bytes from every Python, numpy, platform and PYTHONHASHSEED.

Neither numpy nor `random` promises its `shuffle` and `choice` to stay the same across versions, so the few draws the
generator needs are made here from splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import xxhash

T = TypeVar("T")
_MASK = (1 << 64) - 1
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)(?::\w+)?\}")

Lexicon = Mapping[str, Sequence[str]]


class Draw:
    """A stream of draws, fixed by its key: streams of different keys do not disturb one another."""

    def __init__(self, *key: object) -> None:
        self._state = xxhash.xxh3_64_intdigest("\x1f".join(str(part) for part in key).encode())

    def bits(self) -> int:
        """Return 64 random bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

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

    def say(self, template: str, lexicon: Lexicon, /, **given: object) -> str:
        """Return `template` filled in: `[a|b|]` is one of its parts, `{word}` a given value or an entry of `lexicon`.

        Entries may hold alternatives and slots of their own; `{word:1}` is the same entry wherever it stands in one
        call. Given values are put in as they are.
        """
        kept: dict[str, str] = {}

        def fill(match: re.Match[str]) -> str:
            word, slot = match[1], match[0]
            if word in given:
                return str(given[word])
            if ":" in slot and slot in kept:
                return kept[slot]
            text = expand(self.pick(lexicon[word]))
            if ":" in slot:
                kept[slot] = text
            return text

        def expand(text: str) -> str:
            while match := _CHOICE.search(text):
                text = text[: match.start()] + self.pick(match[1].split("|")) + text[match.end() :]
            return _SLOT.sub(fill, text)

        return expand(template)


def balanced(draw: Draw, count: int, options: int = 4) -> list[int]:
    """Return `count` positions of the right answer in random order, every position equally often (give or take one)."""
    first = draw.below(options)
    return draw.shuffled([(first + i) % options for i in range(count)])
