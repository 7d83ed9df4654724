"""Keep unrelated conversations unlike: a row that resembles an earlier one is refused while the corpus is being made.

Otherwise the corpus's own sameness would be mistaken for what was planted. MinHash over character 5-grams with banding
finds the candidates, the true Jaccard similarity decides.
"""

import numpy as np
from numpy.typing import NDArray

LIMIT = 0.55  # well under the 0.8 of the usual near-duplicate filter
_GRAM, _BANDS, _ROWS = 5, 12, 4


def grams(text: str) -> NDArray[np.uint64]:
    """Return the sorted distinct hashes of the text's character 5-grams (of the whole text where it is shorter)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < _GRAM:
        codes = np.pad(codes, (0, _GRAM - len(codes)))
    total = np.zeros(len(codes) - _GRAM + 1, dtype=np.uint64)
    for offset in range(_GRAM):
        total = total * np.uint64(0x100000001B3) + codes[offset : offset + len(total)]
    mixed = (total ^ (total >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    return np.unique(mixed ^ (mixed >> np.uint64(29)))


def jaccard(one: NDArray[np.uint64], two: NDArray[np.uint64]) -> float:
    """Return the share of the hashes of both that are in each."""
    common = len(np.intersect1d(one, two, assume_unique=True))
    return common / (len(one) + len(two) - common)


class Distinct:
    """Remembers texts and tells whether a new one is unlike all of them."""

    def __init__(self) -> None:
        count = _BANDS * _ROWS
        self._factors = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0xBF58476D1CE4E5B9)) | np.uint64(1)
        self._seen: list[NDArray[np.uint64]] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}

    def add(self, text: str) -> bool:
        """Remember the text and return True, or return False if it is like one that is remembered."""
        new = grams(text)
        low = ((new[None, :] * self._factors[:, None]) >> np.uint64(17)).min(axis=1)
        keys = [(band, low[band * _ROWS : (band + 1) * _ROWS].tobytes()) for band in range(_BANDS)]
        candidates = {number for key in keys for number in self._bands.get(key, ())}
        if any(jaccard(new, self._seen[number]) >= LIMIT for number in candidates):
            return False
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._seen))
        self._seen.append(new)
        return True
