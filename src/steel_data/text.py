"""One pass over the characters of many texts, shared by every filter that looks at text.

A chunk's texts are joined, normalised once (NFKC, lower case), and held as one array of code points; script counts, word
tokens and character shingles are numpy operations over it, so no Python object is made per token or n-gram.

Chinese is not whitespace-separated. A *token* is one Han (or kana) character, or a run of letters and digits of other
scripts; punctuation and blanks separate tokens and are none.

Legend of array suffixes: _C one entry a character of the joined text, _T one a token, _G one an n-gram, _R one a row.
"""

import unicodedata
from functools import cached_property

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Classes of characters. Han and kana stand alone as tokens; LETTER to DIGIT run together; JOINER is not there at all, so
# that `$H_2CO_3$` and `H2CO3` are the same tokens.
OTHER, SPACE, HAN, KANA, LETTER, LATIN, HANGUL, DIGIT, JOINER, UNKNOWN = 0, 1, 2, 3, 4, 5, 6, 7, 8, 255
_RANGES = (
    (HAN, 0x3007, 0x3008), (HAN, 0x3400, 0x4DC0), (HAN, 0x4E00, 0xA000), (HAN, 0xF900, 0xFB00), (HAN, 0x20000, 0x323B0),
    (KANA, 0x3041, 0x3100), (KANA, 0x31F0, 0x3200), (KANA, 0xFF66, 0xFFA0),
    (HANGUL, 0xAC00, 0xD7A4), (HANGUL, 0x1100, 0x1200), (HANGUL, 0x3131, 0x3190),
    (LATIN, 0x41, 0x5B), (LATIN, 0x61, 0x7B), (LATIN, 0xC0, 0xD7), (LATIN, 0xD8, 0xF7), (LATIN, 0xF8, 0x250),
    (LATIN, 0x1E00, 0x1F00), (DIGIT, 0x30, 0x3A),
)  # fmt: skip


def _class_table() -> npt.NDArray[np.uint8]:
    table = np.full(0x110000, UNKNOWN, dtype=np.uint8)
    table[:0x80] = OTHER
    table[[0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20, 0xA0, 0x3000]] = SPACE
    table[[ord(c) for c in "$_^{}\\`*"]] = JOINER
    for kind, start, stop in _RANGES:
        table[start:stop] = kind
    return table


_TABLE = _class_table()


def character_classes(code_C: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Return the class of each code point; classes outside the big ranges are looked up once and remembered."""
    class_C = _TABLE[code_C]
    unknown = class_C == UNKNOWN
    if unknown.any():
        for code in np.unique(code_C[unknown]).tolist():
            char = chr(code)
            _TABLE[code] = LETTER if char.isalnum() else SPACE if char.isspace() else OTHER
        class_C = _TABLE[code_C]
    return class_C


def mix64(x: U64) -> U64:
    """Return a well-mixed 64-bit hash of each entry (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


_BASE = np.uint64(0x9E3779B97F4A7C15)


def _powers(count: int) -> U64:
    steps = np.full(max(count, 1), _BASE, dtype=np.uint64)
    steps[0] = 1
    return np.multiply.accumulate(steps)


def normalise(text: str) -> str:
    """Return the text as filters compare it: NFKC, lower case."""
    return unicodedata.normalize("NFKC", text).lower()


class TextBatch:
    """The texts of one chunk as arrays. Rows keep their order; every row has an entry even when it is empty."""

    def __init__(self, texts: list[str]) -> None:
        self.rows = len(texts)
        joined = "\0".join(text.replace("\0", " ") if "\0" in text else text for text in texts)
        self.code_C = np.frombuffer((normalise(joined) + "\0").encode("utf-32-le"), dtype=np.uint32)
        self.class_C = character_classes(self.code_C)
        end_R = np.flatnonzero(self.code_C == 0)[: self.rows] if self.rows else np.zeros(0, np.int64)
        self.end_R: I64 = end_R
        self.start_R: I64 = np.concatenate([np.zeros(1, np.int64), end_R[:-1] + 1]) if self.rows else end_R

    def counts(self, *classes: int) -> I64:
        """Return how many characters of the given classes each row has (shape R)."""
        hit_C = np.isin(self.class_C, classes)
        total_C = np.concatenate([np.zeros(1, np.int64), np.cumsum(hit_C)])
        return total_C[self.end_R] - total_C[self.start_R]

    @cached_property
    def tokens(self) -> tuple[U64, I64]:
        """Token hashes of all rows one after another (T), and where each row's begin (R + 1 offsets)."""
        kept_C = self.class_C != JOINER
        class_C, code_C = self.class_C[kept_C], self.code_C[kept_C]
        start_R = (np.cumsum(kept_C) - kept_C)[self.start_R]
        single_C = (class_C == HAN) | (class_C == KANA)
        word_C = (class_C >= LETTER) & (class_C <= DIGIT)
        before_C = np.concatenate([np.zeros(1, bool), word_C[:-1]])
        start_T = np.flatnonzero(single_C | (word_C & ~before_C))
        if not len(start_T):
            return np.zeros(0, np.uint64), np.zeros(self.rows + 1, np.int64)
        # A character adds code * base^(its place in the token); separators add nothing, so reduceat may run over them.
        first_C = np.zeros(len(class_C), np.int64)
        first_C[start_T] = start_T
        place_C = np.arange(len(class_C)) - np.maximum.accumulate(first_C)
        place_C[~(single_C | word_C)] = 0
        powers = _powers(int(place_C.max()) + 1)
        value_C = (code_C.astype(np.uint64) + np.uint64(1)) * powers[place_C]
        value_C[~(single_C | word_C)] = 0
        hash_T = mix64(np.add.reduceat(value_C, start_T))
        offset_R = np.searchsorted(start_T, np.append(start_R, len(class_C)))
        return hash_T, offset_R

    def token_grams(self, n: int) -> tuple[U64, I64]:
        """Return the hashes of all runs of `n` tokens inside a row (G), and the row of each (G)."""
        hash_T, offset_R = self.tokens
        row_T = np.repeat(np.arange(self.rows), np.diff(offset_R))
        return _grams(hash_T, row_T, n)

    def shingles(self, n: int) -> tuple[U64, I64]:
        """Return the hashes of all runs of `n` characters (blanks left out) inside a row (G) and R + 1 offsets.

        A row shorter than `n` characters has one shingle, its whole text, so that no short row is ever without.
        """
        kept_C = (self.class_C != SPACE) & (self.code_C != 0)
        code_C = self.code_C[kept_C].astype(np.uint64) + np.uint64(1)
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept_C)])
        length_R = total[self.end_R] - total[self.start_R]
        row_C = np.repeat(np.arange(self.rows), length_R)
        hash_G, row_G = _grams(code_C, row_C, n)
        short_R = np.flatnonzero((length_R < n) & (length_R > 0))
        if len(short_R):
            whole = [_whole(code_C[row_C == r]) for r in short_R.tolist()]
            at = np.searchsorted(row_G, short_R)
            hash_G = np.insert(hash_G, at, np.array(whole, np.uint64))
            row_G = np.insert(row_G, at, short_R)
        return hash_G, np.searchsorted(row_G, np.arange(self.rows + 1))

    def fingerprints(self) -> U64:
        """Return one hash a row of its whole text without blanks (R): equal texts up to width, case and blanks."""
        kept_C = (self.class_C != SPACE) & (self.code_C != 0)
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept_C)])
        place_C = total[:-1] - np.repeat(total[self.start_R], self.end_R + 1 - self.start_R)
        powers = _powers(int(place_C.max()) + 2 if len(place_C) else 1)
        value_C = (self.code_C.astype(np.uint64) + np.uint64(1)) * powers[place_C]
        value_C[~kept_C] = 0
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(value_C, dtype=np.uint64)])
        length_R = (total[self.end_R] - total[self.start_R]).astype(np.uint64)
        return mix64(sums[self.end_R] - sums[self.start_R] + mix64(length_R + np.uint64(1)))


def _grams(hash_T: U64, row_T: I64, n: int) -> tuple[U64, I64]:
    """Return hashes of the `n`-runs of entries that stay inside one row, and their rows."""
    count = len(hash_T) - n + 1
    if count <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    value = np.zeros(count, np.uint64)
    for i in range(n):
        value = value * _BASE + hash_T[i : i + count]
    inside = row_T[:count] == row_T[n - 1 :]
    return mix64(value[inside]), row_T[:count][inside]


def _whole(code: U64) -> int:
    value = 0
    for c in code.tolist():
        value = (value * int(_BASE) + c) & 0xFFFFFFFFFFFFFFFF
    return int(mix64(np.array([value ^ len(code)], np.uint64))[0])
