"""Where in a text does another stand, some letters of it changed?

Texts are compared as *letters*: what `normalise` makes of them (width, case), without blanks, punctuation and the marks
of formulas. Two things are kept of those: one blank between two numbers (`2，8` is not `28`), and one bar for an
option's label (`A.`, `(b)`), so that other labels are no edits and two options are never one.

Edits are counted as Levenshtein (1966) does: a letter replaced, dropped or added is one. `nearest` finds the stretch of
a text that needs the fewest of them (approximate string matching) by the bit-vectors of Myers (1999): a column of the
matrix is two integers, so that a letter of the text costs a microsecond whatever the pattern's length up to hundreds.

Of long texts (a passage of thousands of letters) only what lies between verbatim pieces is compared so, as tools that
show differences do. Where pieces recur, more edits may be counted than are needed, never fewer.
"""

import re
from bisect import bisect_left, bisect_right
from functools import lru_cache

from steel_data.row.text import normalise

BAR = "|"  # an option's label
LONG = 256  # letters, from which a text is compared piece by piece
_DIRECT = 24  # letters, up to which Myers is the quickest
_BLOCK = 64  # letters that are compared at once
_PIECE = 12  # letters that two texts share by descent, near the place where they should
_LINE = 8  # letters of an item's line that stands nowhere by chance
_FORMULA = "$_^{}\\`*"  # marks of formulas; text.py's JOINER
_LABEL = re.compile(r"[a-j](?=\s?[.、:)])(?<![^\s(].)\s?[.、:)]")  # the letter first, as it is what is rare
_BETWEEN_NUMBERS = re.compile(r"(\d)[^\w|]+(?=\d)")
_MARKS = " ,._、:()"  # what of marks is left by the table below: those of labels, and a comma for all others


class _Folded(dict[int, str]):
    """What `normalise` makes of each character by itself, a blank of all blanks, a comma of most marks."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        folded = "" if char in _FORMULA else normalise(char)
        folded = "".join(c if c.isalnum() or c in _MARKS else " " if c.isspace() else "," for c in folded)
        self[code] = folded = f" {folded} " if folded.isdigit() and not char.isdecimal() else folded  # ①5 is not 15
        return folded


_FOLDED = _Folded({0: " ", ord(BAR): " "})


def letters(text: str) -> str:
    """Return the letters of a text, as they are compared."""
    folded = _LABEL.sub(BAR, text.translate(_FOLDED))
    folded = _BETWEEN_NUMBERS.sub("\\1\0", folded)
    for mark in _MARKS:
        folded = folded.replace(mark, "")
    return folded.replace("\0", " ")


remembered = lru_cache(maxsize=1 << 16)(letters)  # for a benchmark's questions and options, which recur


def position(text: str, end: int) -> int:
    """Return where in a text its first `end` letters end."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(letters(text[:middle])) >= end else (middle + 1, high)
    return low


def edits(pattern: str, text: str) -> int:
    """Return how many edits make one string of the other (of long ones, at most)."""
    start = alike(pattern, text)
    pattern, text = pattern[start:], text[start:]
    end = alike(pattern[::-1], text[::-1])
    pattern, text = pattern[: len(pattern) - end], text[: len(text) - end]
    short, long = sorted((pattern, text), key=len)
    if len(short) < 2:
        return len(long) - (short in long and bool(short))
    middle, drift = len(pattern) // 2, _PIECE + abs(len(pattern) - len(text))
    for away in range(0, middle - _PIECE if len(pattern) > _DIRECT else 0, _PIECE):
        for at in (middle - away, middle + away):
            near = pattern[at : at + _PIECE], max(at - drift, 0), at + drift + _PIECE
            if text.count(*near) == 1:
                place = text.find(*near)
                return edits(pattern[:at], text[:place]) + edits(pattern[at:], text[place:])
    return _search(pattern, text, whole=True)[2]


def alike(one: str, two: str) -> int:
    """Return with how many letters both begin."""
    low, most = 0, min(len(one), len(two))
    while low + _BLOCK < most and one[low : low + _BLOCK] == two[low : low + _BLOCK]:  # mostly a difference is near
        low += _BLOCK
    high = min(low + _BLOCK, most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == two[low:middle] else (low, middle - 1)
    return low


def stands(pattern: str, text: str) -> bool:
    """Return whether a text has a pattern; a number is a whole one, so that 12 does not have 2."""
    for end in _ends(pattern, text):
        start = end - len(pattern)
        cut_before = pattern[:1].isdigit() and start > 0 and text[start - 1].isdigit()
        cut_after = pattern[-1:].isdigit() and end < len(text) and text[end].isdigit()
        if not cut_before and not cut_after:
            return True
    return False


def nearest(pattern: str, text: str, least: int = 1) -> tuple[int, int]:
    """Return (edits, end) of the stretch of `text` that is nearest to `pattern`; the first of equal ones.

    least: edits that are needed at least (`fewest`), where the text has no exact one.
    """
    at = text.find(pattern)
    return (0, at + len(pattern)) if at >= 0 else _search(pattern, text, least=max(least, 1))[:2]


def fewest(pattern: str, text: str) -> int:
    """Return how many edits `nearest` finds at least: each spoils one triple of letters at most."""
    missing = sum(1 for at in range(0, len(pattern) - 2, 3) if pattern[at : at + 3] not in text)
    return max(missing, len(pattern) - len(text))


def fewest_of_all(patterns: list[str], texts: list[str]) -> list[list[int]]:
    """Return `fewest` of each pattern in each text."""
    held = [set(zip(text, text[1:], text[2:], strict=False)) for text in texts]
    found = []
    for pattern in patterns:
        triples = list(zip(pattern[::3], pattern[1::3], pattern[2::3], strict=False))
        there = [sum(map(triples_of.__contains__, triples)) for triples_of in held]
        found.append([max(len(triples) - n, len(pattern) - len(text)) for n, text in zip(there, texts, strict=True)])
    return found


def beginning(pattern: str, text: str, end: int) -> int:
    """Return where the stretch of `text` that ends at `end` and is nearest to `pattern` begins."""
    before = text[max(end - 2 * len(pattern), 0) : end]
    return end - _search(pattern[::-1], before[::-1], whole=True)[1]


def _search(pattern: str, text: str, whole: bool = False, least: int = 0) -> tuple[int, int, int]:
    """Return the fewest edits and where that stretch ends, and the edits of the stretch that ends where the text ends.

    whole: stretches begin where the text begins. least: edits that are needed at least; where a stretch needs no more,
    what stands behind it is not looked at (and the third number is this stretch's).
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
            if best <= least:
                break
    return best, end, now


def stretches(pattern: str, text: str, most: int) -> list[tuple[int, int, int]]:
    """Return (edits, start, end) of stretches of `text` that at most `most` edits make `pattern`, one for each place.

    Exact where there is an exact one. Else one of `most + 1` pieces of the pattern must be left whole (Wu and Manber
    1992), and only the surroundings of the pieces are searched.
    """
    size = len(pattern)
    most = min(most, size - 1)
    if not size or len(text) < size - most:
        return []
    if ends := _ends(pattern, text):
        return [(0, end - size, end) for end in ends]
    if most <= 0:
        return []
    if size > LONG:
        return _long_stretches(pattern, text, most)
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
    found: list[tuple[int, int, int]] = []
    last = -1
    for start, end in merged:
        changed, at = _search(pattern, text[start:end])[:2]
        if changed <= most and start + at > last:
            last = start + at
            found.append((changed, beginning(pattern, text, last), last))
    return found


def _long_stretches(pattern: str, text: str, most: int) -> list[tuple[int, int, int]]:
    """Return what `stretches` does for a long pattern, by 32 pieces of it that stand there verbatim.

    Where most of them agree on where it begins, give or take the edits, it is compared between the first and the last.
    """
    size, begun = len(pattern), 0
    found: list[tuple[int, int, int]] = []
    while len(text) - begun >= size - most:
        ats = range(0, size - 7, size // 32)
        held = [(at, at_text) for at in ats if (at_text := text.find(pattern[at : at + 8], begun)) >= 0]
        shifts = sorted(at_text - at for at, at_text in held)
        low = max(shifts, key=lambda shift: bisect_right(shifts, shift + most) - bisect_left(shifts, shift), default=0)
        held = [(at, at_text) for at, at_text in held if low <= at_text - at <= low + most]
        if 8 * len(held) < len(ats):
            break
        usual = sorted(at_text - at for at, at_text in held)[len(held) // 2]
        middle = min(range(len(held)), key=lambda i: (abs(held[i][1] - held[i][0] - usual), abs(2 * i - len(held))))
        first, start = _followed(held[middle::-1])
        last, end = _followed(held[middle:])
        further = alike(pattern[last:], text[end:])
        last, end = last + further, end + further
        before, after = text[max(start - 2 * first, begun) : start], text[end : end + 2 * (size - last)]
        begun = end
        if fewest(pattern[:first], before) + fewest(pattern[last:], after) > most:
            continue
        head, longer, _ = _search(pattern[:first][::-1], before[::-1], whole=True)
        tail, further, _ = _search(pattern[last:], after, whole=True)
        changed = head + edits(pattern[first:last], text[start:end]) + tail
        if changed <= most:
            begun = end + further
            found.append((changed, start - longer, begun))
    return found


def _followed(held: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the last of some pieces' places, leaving out those that are not where the ones before them let expect."""
    at, at_text = held[0]
    for one, other in held:
        if abs((other - one) - (at_text - at)) <= _PIECE:
            at, at_text = one, other
    return at, at_text


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
            _, start, end = min(places)
            found.append((since + start, since + end, first, last))
            if len(found) == 1:
                low, high = max(found[0][0] - 3 * whole, 0), found[0][1] + 3 * whole
    if not found:
        return None
    starts, ends, firsts, lasts = zip(*found, strict=True)
    start = position(text, min(starts) + 1) - 1
    return slice(min(firsts), max(lasts)), slice(start, position(text, max(ends)))
