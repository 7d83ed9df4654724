"""One pass over the characters of many texts, shared by every filter that looks at text.

A chunk's texts are joined, normalised once (NFKC, lower case), and held as one array of code points; script counts,
word tokens and character shingles are numpy operations over it, so no Python object is made per token or n-gram.

Chinese is not whitespace-separated. A *token* is one Han (or kana) character, or a run of letters and digits of other
scripts; punctuation and blanks separate tokens and are none.

Legend of array suffixes: _C one entry a character of the joined text, _T one a token, _G one an n-gram, _R one a row.
"""

import unicodedata
from collections.abc import Iterator
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.row.nfkc import nfkc

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Whole = TypeVar("Whole", U64, I64, npt.NDArray[np.integer[Any]])
_MANY = 5_000  # numbers from which the way to polars is worth while
_RANGE = 2**19  # numbers, about, that are sorted at once where they come in ranges

# Classes of characters. Han and kana stand alone as tokens; LETTER to DIGIT run together; JOINER is not there at all,
# so that `$H_2CO_3$` and `H2CO3` are the same tokens. BORDER ends a row.
OTHER, SPACE, HAN, KANA, LETTER, LATIN, HANGUL, DIGIT, JOINER, BORDER, UNKNOWN = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255
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
    table[[*range(0x09, 0x0E), *range(0x1C, 0x20), 0x20, 0xA0, 0x3000]] = SPACE
    table[[ord(c) for c in "$_^{}\\`*"]] = JOINER
    table[0] = BORDER
    for kind, start, stop in _RANGES:
        table[start:stop] = kind
    return table


_TABLE = _class_table()

# What NFKC and lower case make of a character: one other character, or one of these two, or not looked up yet.
_SEVERAL, _CONTEXT, _UNSEEN = np.uint32(0xFFFFFFFD), np.uint32(0xFFFFFFFE), np.uint32(0xFFFFFFFF)
_FOLD = np.full(0x110000, _UNSEEN, dtype=np.uint32)
_EXPANSION: dict[int, U32] = {}  # of the characters that become several


def character_classes(code_C: U32) -> npt.NDArray[np.uint8]:
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


_XXH3_KEY = np.frombuffer(  # the first 64 bytes of its secret
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
        "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    ),
    "<u8",
)


def xxh3(bytes_RL: npt.NDArray[np.uint8], seed: int) -> U64:
    """Return the XXH3 hash (64 bits) of R texts of one length L, 33 to 64 bytes, as `xxhash.xxh3_64_intdigest` does.

    One at a time in Python takes twenty times as long. Collet, xxhash.h 0.8: XXH3_len_17to128_64b.
    """
    length, secret = bytes_RL.shape[1], _XXH3_KEY
    if not 32 < length <= 64:
        raise ValueError(f"texts of {length} bytes: 33 to 64 are known")
    key = np.uint64(seed)
    sum_R = np.full(len(bytes_RL), length * 0x9E3779B185EBCA87 % 2**64, np.uint64)
    with np.errstate(over="ignore"):
        for at, k in ((16, 4), (length - 32, 6), (0, 0), (length - 16, 2)):
            words_R2 = np.ascontiguousarray(bytes_RL[:, at : at + 16]).view("<u8")
            sum_R += _folded(words_R2[:, 0] ^ (secret[k] + key), words_R2[:, 1] ^ (secret[k + 1] - key))
    sum_R = (sum_R ^ (sum_R >> np.uint64(37))) * np.uint64(0x165667919E3779F9)
    found: U64 = sum_R ^ (sum_R >> np.uint64(32))
    return found


def _folded(a: U64, b: U64) -> U64:
    """Return the lower half of each 128-bit product, xor the upper half."""
    half, low = np.uint64(32), np.uint64(2**32 - 1)
    a_low, a_high, b_low, b_high = a & low, a >> half, b & low, b >> half
    cross = a_high * b_low
    middle = ((a_low * b_low) >> half) + (cross & low) + a_low * b_high
    folded: U64 = (a * b) ^ (a_high * b_high + (cross >> half) + (middle >> half))
    return folded


_BASE = np.uint64(0x9E3779B97F4A7C15)


def _powers(count: int) -> U64:
    steps = np.full(max(count, 1), _BASE, dtype=np.uint64)
    steps[0] = 1
    return np.multiply.accumulate(steps)


def normalise(text: str) -> str:
    """Return the text as filters compare it: NFKC, lower case."""
    return nfkc(text).lower()


def _leans_on_others(char: str) -> bool:
    """Return whether a character may compose or reorder with its neighbours, or change by its place (final sigma).

    Only marks, Hangul vowels and finals, and vowel signs of a few scripts beyond the first plane that Unicode counts as
    letters do (NFKC_Quick_Check = Maybe, or a combining class); all others are the same wherever they stand.
    """
    code, category = ord(char), unicodedata.category(char)
    rare_letter = code >= 0x10000 and category == "Lo" and _TABLE[code] != HAN
    return category[0] == "M" or char == "Σ" or 0x1100 <= code < 0x1200 or rare_letter


def _fold(code: int) -> np.uint32:
    whole = unicodedata.normalize("NFKC", chr(code))
    if any(_leans_on_others(char) for char in chr(code) + whole):
        return _CONTEXT
    whole = whole.lower()
    if len(whole) == 1:
        return np.uint32(ord(whole))
    _EXPANSION[code] = _code_points(whole)
    return _SEVERAL


def _code_points(text: str) -> U32:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _normalised_codes(texts: list[str]) -> U32:
    """Return the code points of `normalise` of each text, a 0 behind each (a 0 inside a text becomes a blank).

    A table does it, since unicodedata takes several times as long; only rows with a character whose neighbours matter
    (combining marks) go through `normalise`.
    """
    if not texts:
        return np.zeros(0, np.uint32)
    rows = [text.replace("\0", " ") if "\0" in text else text for text in texts]
    code_C = _code_points("\0".join([*rows, ""]))
    fold_C = _FOLD[code_C]
    if (fold_C == _UNSEEN).any():
        for code in np.unique(code_C[fold_C == _UNSEEN]).tolist():
            _FOLD[code] = _fold(code)
        fold_C = _FOLD[code_C]
    if not (fold_C >= _SEVERAL).any():
        return fold_C
    end_R = np.flatnonzero(code_C == 0)
    by_hand = np.unique(np.searchsorted(end_R, np.flatnonzero(fold_C == _CONTEXT))).tolist()
    pieces, done = [], 0
    for row in by_hand:
        start = int(end_R[row - 1]) + 1 if row else 0
        pieces += [_expanded(code_C[done:start], fold_C[done:start]), _code_points(normalise(rows[row]))]
        done = int(end_R[row])
    return np.concatenate([*pieces, _expanded(code_C[done:], fold_C[done:])])


def _expanded(code_C: U32, fold_C: U32) -> U32:
    """Return the folded characters, those that become several (…, ℃) written out."""
    at = np.flatnonzero(fold_C == _SEVERAL)
    if not len(at):
        return fold_C
    parts = [_EXPANSION[code] for code in code_C[at].tolist()]
    sizes = np.array([len(part) for part in parts])
    out = np.repeat(fold_C, np.bincount(at, weights=sizes - 1, minlength=len(fold_C)).astype(np.int64) + 1)
    first = at + np.cumsum(sizes - 1) - (sizes - 1)
    into = np.repeat(first, sizes) + np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    out[into] = np.concatenate(parts)
    return out


class TextBatch:
    """The texts of one chunk as arrays. Rows keep their order; every row has an entry even when it is empty."""

    def __init__(self, texts: list[str]) -> None:
        self.rows = len(texts)
        self.code_C = _normalised_codes(texts)
        self.class_C = character_classes(self.code_C)
        self.end_R: I64 = np.flatnonzero(self.code_C == 0)
        self.start_R: I64 = np.concatenate([np.zeros(1, np.int64), self.end_R[:-1] + 1])[: self.rows]

    def counts(self, *classes: int) -> I64:
        """Return how many characters of the given classes each row has (shape R)."""
        wanted = np.zeros(256, np.uint8)
        wanted[list(classes)] = 1
        if not self.rows:
            return np.zeros(0, np.int64)
        return np.add.reduceat(wanted[self.class_C], self.start_R, dtype=np.int64)

    @cached_property
    def tokens(self) -> tuple[U64, I64]:
        """Token hashes of all rows one after another (T), and where each row's begin (R + 1 offsets)."""
        hash_T, _, offset_R = self._token_arrays
        return hash_T, offset_R

    @cached_property
    def token_places(self) -> I64:
        """Where in `code_C` each token begins (T)."""
        return self._token_arrays[1]

    @cached_property
    def _token_arrays(self) -> tuple[U64, I64, I64]:
        at_C = np.flatnonzero(self.class_C != JOINER)
        class_C = self.class_C[at_C]
        word_C = (class_C >= LETTER) & (class_C <= DIGIT)
        part_C = word_C | (class_C == HAN) | (class_C == KANA)
        first_C = part_C.copy()
        first_C[1:] &= ~(word_C[1:] & word_C[:-1])
        place_T = at_C[first_C]
        offset_R = np.searchsorted(place_T, np.append(self.start_R, len(self.code_C)))
        if not len(place_T):
            return np.zeros(0, np.uint64), place_T, offset_R
        # A token's hash is the sum of code * base^(place in the token) over its characters.
        at_C, first_C = at_C[part_C], first_C[part_C]
        start_T = np.flatnonzero(first_C)
        length_T = np.diff(np.append(start_T, len(at_C)))
        value_C = self.code_C[at_C].astype(np.uint64) + np.uint64(1)
        within_C = np.arange(len(at_C)) - np.repeat(start_T, length_T)
        value_C *= _powers(int(length_T.max()))[within_C]
        return mix64(np.add.reduceat(value_C, start_T)), place_T, offset_R

    def token_grams(self, n: int) -> tuple[U64, I64]:
        """Return the hashes of all runs of `n` tokens inside a row (G), and the row of each (G)."""
        hash_T, offset_R = self.tokens
        row_T = np.repeat(np.arange(self.rows), np.diff(offset_R))
        return grams(hash_T, row_T, n)

    def shingles(self, n: int) -> tuple[U64, I64]:
        """Return the hashes of all runs of `n` characters (blanks left out) inside a row (G) and R + 1 offsets.

        A row shorter than `n` characters has one shingle, its whole text, so that no short row is ever without.
        """
        kept_C = (self.class_C != SPACE) & (self.class_C != BORDER)
        code_C = self.code_C[kept_C].astype(np.uint64) + np.uint64(1)
        length_R = self._kept_counts(kept_C)
        row_C = np.repeat(np.arange(self.rows), length_R)
        hash_G, row_G = grams(code_C, row_C, n)
        short_R = np.flatnonzero((length_R < n) & (length_R > 0))
        if len(short_R):
            whole = self.fingerprints()[short_R]
            at = np.searchsorted(row_G, short_R)
            hash_G = np.insert(hash_G, at, whole)
            row_G = np.insert(row_G, at, short_R)
        return hash_G, np.searchsorted(row_G, np.arange(self.rows + 1))

    def _kept_counts(self, kept_C: npt.NDArray[np.bool_]) -> I64:
        if not self.rows:
            return np.zeros(0, np.int64)
        return np.add.reduceat(kept_C.view(np.uint8), self.start_R, dtype=np.int64)

    def fingerprints(self) -> U64:
        """Return one hash a row of its whole text without blanks (R): equal texts up to width, case and blanks."""
        kept_C = (self.class_C != SPACE) & (self.class_C != BORDER)
        length_R = self._kept_counts(kept_C)
        start_R = np.cumsum(length_R) - length_R
        sum_R = np.zeros(self.rows, np.uint64)
        filled_R = length_R > 0
        if filled_R.any():
            within_C = np.arange(length_R.sum()) - np.repeat(start_R, length_R)
            value_C = self.code_C[kept_C].astype(np.uint64) + np.uint64(1)
            value_C *= _powers(int(length_R.max()))[within_C]
            sum_R[filled_R] = np.add.reduceat(value_C, start_R[filled_R])
        return mix64(sum_R + mix64(length_R.astype(np.uint64) + np.uint64(1)))


def distinct(values: Whole) -> Whole:
    """Return the distinct entries, sorted (np.unique takes several times as long: it goes through a hash table)."""
    values = _sorted(values)
    new = np.ones(len(values), bool)
    new[1:] = values[1:] != values[:-1]
    return values[new]


def with_places(values: npt.NDArray[np.integer[Any]], places: npt.NDArray[np.integer[Any]] | None = None) -> U64:
    """Return `value << 32 | place` of fewer than 2^32 values below 2^32, sorted: an order and what it sorts in one.

    One sort of numbers: a tenth of the time of a stable argsort, and half of its memory. As uint32 the entries are
    place and value in turn (polars and pyarrow know little-endian machines only). `places`: other ones than 0, 1, 2, ….
    """
    packed = values.astype(np.uint64)
    packed <<= np.uint64(32)
    packed |= np.arange(len(values), dtype=np.uint32) if places is None else places.astype(np.uint32)
    return _sorted(packed)


def ranges(values: npt.NDArray[np.unsignedinteger[Any]]) -> Iterator[I64]:
    """Yield the places of the values in a range, ascending, range by range: of many values about a sixteenth each."""
    levels = min(max(len(values) // _RANGE, 1).bit_length() - 1, 4)
    if levels == 0:
        yield np.arange(len(values))
        return
    shift, blocks = 8 * values.dtype.itemsize - levels, range(0, len(values), _RANGE)
    for part in range(2**levels):
        found = [start + np.flatnonzero(values[start : start + _RANGE] >> shift == part) for start in blocks]
        yield np.concatenate(found)


def sorting(values: U64) -> npt.NDArray[Any]:
    """Return an order that sorts the values: in half of np.argsort's memory, and a third of its time."""
    order = np.empty(len(values), np.int32 if len(values) < 2**31 else np.int64)
    filled = 0
    for places in ranges(values):
        order[filled : filled + len(places)] = places[pl.Series(values[places]).arg_sort().to_numpy()]
        filled += len(places)
    return order


def _sorted(values: Whole) -> Whole:
    """Return the entries sorted: many by polars, which takes a third of numpy's time for numbers of 64 bits."""
    if len(values) < _MANY:
        return np.sort(values)
    found: Whole = pl.Series(values).sort(multithreaded=False).to_numpy()
    return found


def grams(hash_T: U64, row_T: I64, n: int, places: bool = False) -> tuple[U64, I64]:
    """Return hashes of the `n`-runs of entries that stay inside one row, and their rows (`row_T` never falls).

    With `places`, where each run begins in place of its row.
    """
    count = len(hash_T) - n + 1
    if count <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    value = hash_T[:count].copy()
    for i in range(1, n):
        value *= _BASE
        value += hash_T[i : i + count]
    inside = row_T[:count] == row_T[n - 1 :]
    return mix64(value[inside]), np.flatnonzero(inside) if places else row_T[:count][inside]
