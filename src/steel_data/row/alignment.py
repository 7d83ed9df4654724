"""Where in a text does another stand, some letters of it changed?

Texts are compared as *letters*: what `normalise` makes of them (width, case), without blanks, punctuation and the marks
of formulas. Two things are kept of those: one blank between two numbers (`2，8` is not `28`), and one bar for an
option's label (`A.`, `(b)`), so that other labels are no edits and two options are never one.

Edits are counted as Levenshtein (1966) does: a letter replaced, dropped or added is one. `nearest` finds the stretch of
a text that needs the fewest of them (approximate string matching) by the bit-vectors of Myers (1999): a column of the
matrix is two integers, so that a letter of the text costs a microsecond whatever the pattern's length up to hundreds.
"""

import re
from functools import lru_cache

from steel_data.row.text import normalise

BAR = "|"  # an option's label
_LINE = 8  # letters of an item's line that stands nowhere by chance
_FORMULA = "$_^{}\\`*"  # marks of formulas; text.py's JOINER
_LABEL = re.compile(r"(?:^|(?<=[\s(]))[a-j]\s?[.、:)]")
_BETWEEN_NUMBERS = re.compile(r"(?<=\d)[^\w|]+(?=\d)")
_MARKS = re.compile(r"[^\w|\0]+|_+")


class _Folded(dict[int, str]):
    """What `normalise` makes of each character by itself, looked up once."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        folded = "" if char in _FORMULA else normalise(char)
        self[code] = folded = f" {folded} " if folded.isdigit() and not char.isdecimal() else folded  # ①5 is not 15
        return folded


_FOLDED = _Folded({0: " ", ord(BAR): " "})


def letters(text: str) -> str:
    """Return the letters of a text, as they are compared."""
    folded = _LABEL.sub(BAR, text.translate(_FOLDED))
    return _MARKS.sub("", _BETWEEN_NUMBERS.sub("\0", folded)).replace("\0", " ")


remembered = lru_cache(maxsize=1 << 16)(letters)  # for a benchmark's questions and options, which recur


def position(text: str, end: int) -> int:
    """Return where in a text its first `end` letters end."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(letters(text[:middle])) >= end else (middle + 1, high)
    return low


def edits(pattern: str, text: str) -> int:
    """Return how many edits make one string of the other."""
    return _search(pattern, text, whole=True)[2]


def stands(pattern: str, text: str) -> bool:
    """Return whether a text has a pattern; a number is a whole one, so that 12 does not have 2."""
    for end in _ends(pattern, text):
        start = end - len(pattern)
        cut_before = pattern[:1].isdigit() and start > 0 and text[start - 1].isdigit()
        cut_after = pattern[-1:].isdigit() and end < len(text) and text[end].isdigit()
        if not cut_before and not cut_after:
            return True
    return False


def nearest(pattern: str, text: str) -> tuple[int, int, int]:
    """Return (edits, start, end) of the stretch of `text` that is nearest to `pattern`; the first of equal ones."""
    changed, end, _ = _search(pattern, text)
    return changed, beginning(pattern, text, end), end


def beginning(pattern: str, text: str, end: int) -> int:
    """Return where the stretch of `text` that ends at `end` and is nearest to `pattern` begins."""
    before = text[max(end - 2 * len(pattern), 0) : end]
    return end - _search(pattern[::-1], before[::-1], whole=True)[1]


def _search(pattern: str, text: str, whole: bool = False) -> tuple[int, int, int]:
    """Return the fewest edits and where that stretch ends, and the edits of the stretch that ends where the text ends.

    whole: stretches begin where the text begins.
    """
    size = len(pattern)
    if not size:
        return 0, 0, len(text) if whole else 0
    masks: dict[str, int] = {}
    for i, char in enumerate(pattern):
        masks[char] = masks.get(char, 0) | 1 << i
    full, high = (1 << size) - 1, 1 << (size - 1)
    more, less = full, 0  # where a column of the matrix rises, where it falls
    now, best, end = size, size, 0
    for place, char in enumerate(text, 1):
        same = masks.get(char, 0)
        down = same | less
        across = ((((same & more) + more) ^ more) | same) & full
        rise, fall = less | (full & ~(across | more)), more & across
        if rise & high:
            now += 1
        elif fall & high:
            now -= 1
        rise, fall = rise << 1 | whole, fall << 1
        more, less = (fall | ~(down | rise)) & full, rise & down & full
        if now < best:
            best, end = now, place
    return best, end, now


def stretches(pattern: str, text: str, most: int) -> list[tuple[int, int]]:
    """Return (edits, end) of stretches of `text` that at most `most` edits make `pattern`, one for each place.

    Exact where there is an exact one. Else one of `most + 1` pieces of the pattern must be left whole (Wu and Manber
    1992), and only the surroundings of the pieces are searched.
    """
    size = len(pattern)
    if not size:
        return []
    most = min(most, size - 1)
    if ends := _ends(pattern, text):
        return [(0, end) for end in ends]
    if not most:
        return []
    step = max(size // (most + 1), 1)
    windows = []
    for at in range(0, step * (most + 1), step):
        for end in _ends(pattern[at : at + step], text):
            start = end - step - at - most
            windows.append((max(start, 0), start + size + 2 * most))
    merged: list[list[int]] = []
    for start, end in sorted(windows):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    found: list[tuple[int, int]] = []
    last = -1
    for start, end in merged:
        changed, at = _search(pattern, text[start:end])[:2]
        if changed <= most and start + at > last:
            last = start + at
            found.append((changed, last))
    return found


def _ends(piece: str, text: str) -> list[int]:
    ends, at = [], text.find(piece)
    while at >= 0:
        ends.append(at + len(piece))
        at = text.find(piece, at + 1)
    return ends


def shared(item: str, text: str) -> tuple[slice, slice] | None:
    """Return the span of `item` (a question and its options, a line each) that stands in `text`, and its span there.

    None where no line of it does. The longest line that stands there is the place; what of the other lines stands
    behind it, up to three times the item's letters away, or of long ones before it, belongs to it.
    """
    folded, lines, at = letters(text), [], 0
    for line in item.split("\n"):
        lines.append((letters(line), at, at + len(line)))
        at += len(line) + 1
    whole = sum(len(line) for line, _, _ in lines)
    low, high = 0, len(folded)
    found: list[tuple[int, int, int, int]] = []
    for line, first, last in sorted(lines, key=lambda one: (-len(one[0]), one[1])):
        since = found[0][0] if found and len(line) < _LINE else low
        places = stretches(line, folded[since:high], len(line) * 3 // 20) if line else []
        if places:
            end = since + min(places)[1]
            found.append((beginning(line, folded, end), end, first, last))
            if len(found) == 1:
                low, high = max(found[0][0] - 3 * whole, 0), end + 3 * whole
    if not found:
        return None
    starts, ends, firsts, lasts = zip(*found, strict=True)
    start = position(text, min(starts) + 1) - 1
    return slice(min(firsts), max(lasts)), slice(start, position(text, max(ends)))
