"""A closer look at single (turn, item) pairs where 3-grams as a set prove too little: places, runs, lines.

Legend of array suffixes: _T one entry a token.
"""

import re

import numpy as np

from steel_data.filters.overlap_index import GRAM, Index, unit_tokens
from steel_data.text import I64, U64, TextBatch, grams, normalise

_REACH = 4  # times the length of an item, within which its options follow its question
_OPTIONS = 0.75  # of an item's options
_PLACE = 8  # characters at the end of a question by which its place is found
_LABEL = re.compile(r"(?:^|[\s(（])([A-J])\s*[.、:：．)）]", re.MULTILINE)


def stands_near(turn_T: U64, index: Index, item: int, with_options: bool) -> bool:
    """Return whether the question stands in a turn (its token hashes) and its options follow it closely.

    A question of numbers must be there as a whole run; of another, the place is where most of its 3-grams end.
    """
    batch = TextBatch([index.questions[item], *index.options[item]])
    hash_T, part_T, _ = unit_tokens(batch, batch.end_R)
    question_T, options = hash_T[part_T == 0], [hash_T[part_T == p] for p in range(1, batch.rows)]
    ends = _runs(turn_T, question_T) + len(question_T) if index.digits_I[item] else _ends(turn_T, question_T)
    if not with_options:
        return len(ends) > 0
    for end in ends.tolist():
        window_T = turn_T[end : end + _REACH * len(hash_T)]
        near = sum(not len(option_T) or len(_runs(window_T, option_T)) > 0 for option_T in options)
        if near >= _OPTIONS * len(options):
            return True
    return False


def _ends(turn_T: U64, question_T: U64) -> I64:
    """Return where (places in the turn) a question that is there in large part ends."""
    n = min(GRAM, len(question_T))
    hits = np.flatnonzero(np.isin(_ngrams(turn_T, n), _ngrams(question_T, n)))
    if not len(hits):
        return hits
    ends = hits[np.append(np.diff(hits) > 1, True)]
    before = np.searchsorted(hits, ends, side="right") - np.searchsorted(hits, ends - 2 * len(question_T))
    found: I64 = ends[before >= 0.8 * before.max()] + n
    return found


def _ngrams(hash_T: U64, n: int) -> U64:
    return grams(hash_T, np.zeros(len(hash_T), np.int64), n)[0] if n else np.zeros(0, np.uint64)


def _runs(turn_T: U64, wanted_T: U64) -> I64:
    """Return where the whole run `wanted_T` begins in `turn_T`."""
    if not len(wanted_T):
        return np.zeros(0, np.int64)
    return np.flatnonzero(_ngrams(turn_T, len(wanted_T)) == _ngrams(wanted_T, len(wanted_T)))


def stands_without_options(turn: str, index: Index, item: int) -> bool:
    """Return whether a question that a turn holds counts although its options were not found there as tokens."""
    question, options = index.questions[item], index.options[item]
    if _is_spelt_otherwise(turn, question, options):
        return True
    if index.weak_I[item]:
        return not options and normalise(turn).strip() == normalise(question).strip()
    return not options or not _asks_with_options(turn, question, len(options))


def _is_spelt_otherwise(turn: str, question: str, options: tuple[str, ...]) -> bool:
    """Return whether the options follow the question, compared as letters and digits whatever parts them.

    So `G g L I` is `Gg LI`, and `①5米` (which NFKC makes `15米`) holds `5米`.
    """
    asked, *offered = (_letters(text) for text in (question, *options))
    length = len(asked) + sum(map(len, offered))
    if not offered or len(asked) < _PLACE or length - len(asked) < _PLACE:
        return False
    text = _letters(turn)
    place = text.rfind(asked[-_PLACE:])
    window = text[place + _PLACE : place + _PLACE + _REACH * length]
    return place >= 0 and sum(option in window for option in offered) >= _OPTIONS * len(offered)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, normalise(text)))


def _asks_with_options(turn: str, question: str, options: int) -> bool:
    """Return whether options of some sort follow the place where the question stands in a turn.

    Labels (A. B. C.) beyond those of the question itself, or as many further lines as the item has options.
    """
    lines = turn.split("\n")
    hash_G, line_G = TextBatch(lines).token_grams(GRAM)
    mine = np.isin(hash_G, TextBatch([question]).token_grams(GRAM)[0])
    held, there = np.bincount(line_G[mine], minlength=len(lines)), np.bincount(line_G, minlength=len(lines))
    where = np.flatnonzero((held > 0) & ((held >= 0.3 * held.max()) | (held >= 0.5 * there)))
    if not len(where):
        return False
    last = int(where[-1])
    labels = set(_LABEL.findall("\n".join(lines[last:])))
    if {"A", "B"} <= labels and len(labels) > len(set(_LABEL.findall(question))):
        return True
    return sum(1 for line in lines[last + 1 :] if line.strip()) >= options
