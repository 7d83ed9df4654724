"""Read the letter out of a written answer, or say why there is none. Nothing is guessed.

Rules are ordered by how plainly they state an answer; each result carries the rule's id, so that a wrong extraction can
be traced. Statements ("答案是C", "故选B") beat a letter at the start, which beats "C项正确", which beats naming an
option by place or by its text. Within one kind two different letters are `ambiguous`, unless a word such as 不对 or
其实 withdraws the earlier.

Width, traditional characters, Markdown, tags and special tokens are levelled first; a repetition of the options is
removed. The rules were written against the open half of tests/steel_eval/answers/labelled.jsonl.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from steel_data.benchmarks.items import LETTERS

Outcome = Literal["letter", "refused", "ambiguous", "empty", "truncated"]
Order = Literal["answer-first", "explain-first", "answer-only", ""]


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was read. `letter` is None unless `outcome` is "letter"; `order`: what came first, answer or explanation."""

    letter: str | None
    outcome: Outcome
    rule: str
    order: Order = ""


# One letter that stands alone, or several joined: `B`, `AB`, `A、C`, `A还是B`.
_X = r"(?<![A-Za-z0-9])(?P<x>[A-J](?:\s*(?:[、,/]|和|与|或者|或|及|还是)?\s*[A-J](?![a-z]))*+)(?![A-Za-z0-9])"
_OPEN = r"[\s\"'“”‘’「『【\[(]*"
_STATEMENTS = [
    ("boxed", re.compile(r"\\boxed\{\s*" + _X)),
    (
        "answer-is",
        re.compile(
            r"(?:答案|answer|^答)(?:应该|应当|应|可能|其实|选项|选择)*\s*(?:是|为|选|:|is\b)+[\s:]*" + _OPEN
            + r"(?:应该选|应选|选项|选择|选)?\s*" + _X,
            re.IGNORECASE | re.MULTILINE,
        ),
    ),
    ("choose", re.compile(r"(?<![不会误别])(?:选择|选|choose)\s*:?" + _OPEN + r"(?:选项)?\s*" + _X)),
    ("rather", re.compile(r"(?:而是|应该是|应当是|应是)\s*" + _OPEN + r"(?:选项)?\s*" + _X)),
    ("elected", re.compile(_X + r"\s*(?:选项|项)?[^A-J。;\n]{0,8}当选")),
]  # fmt: skip
_WEAKER = [
    (
        "correct-option",
        re.compile(
            r"(?:正确|合适|符合题意|符合要求)的?(?:选项|答案|一项|项)?(?:应该)?(?:是|为|:)+\s*"
            + _OPEN + r"(?:选项)?\s*" + _X
            + "|" + _X.replace("?P<x>", "?P<y>")
            + r"\s*(?:选项|项)?\s*(?:都|也|说法|表述)*(?:是|为)?(?:正确|对的|符合题意|符合要求)"
        ),
    ),
    ("that-is", re.compile(r"的(?:一项|选项|项)?(?:是|为)\s*:?" + _OPEN + _X)),
]  # fmt: skip
_LEADING = re.compile(r"\s*[(\[【]?\s*" + _X + r"\s*(?:[)\]】]|[.。,:;、!]|\n|吧|$)")
_ONLY = re.compile(r"\s*(?:选项)?\s*" + _X + r"\s*(?:选项|项)?[\s.。!]*$")
_ORDINAL = re.compile(r"第([一二三四五六七八九十1-9])(?:个)?(?:选项|项|个)")
_WITHDRAWS = re.compile(r"不对|其实|更正|实际上|但|重新|而是|应该是|错了|actually|however|sorry", re.IGNORECASE)
_REFUSES = re.compile(
    r"对不起|抱歉|无法(?:回答|判断|确定|作答|给出)|不能(?:回答|确定|提供|判断)|不知道|不清楚|信息不足|"
    r"均不正确|都不正确|没有正确|cannot|can't|unable to|don't know",
    re.IGNORECASE,
)
_OPTION = r"[ \t]*{}\s*[.、:)][^\n]*"
_LISTING = re.compile(
    r"(?:^|\n)" + r"\n+".join(_OPTION.format(x) for x in "ABC") + r"(?:\n+" + _OPTION.format("[D-J]") + r")*"
)
_TRADITIONAL = str.maketrans("選項確題錯誤對個為應該單擇", "选项确题错误对个为应该单择")
_SHORT = 20  # characters: in a text this short a single letter is the answer


def extract(text: str, options: Sequence[str] = (), finished: bool = True, n_options: int = 4) -> Extraction:
    """Read an answer. `options`: the options' texts; `n_options`: how many there are; `finished` False: cut by length.

    An unfinished text counts only what it states; whoever was cut off while weighing options has not answered.
    """
    level = _levelled(text)
    if not re.search(r"[^\W_]", level):
        return Extraction(None, "empty", "no-words")
    body = _LISTING.sub("\n", level)
    for find in (_stated, _leading, *((_weaker, _by_place, _by_text, _sole) if finished else ())):
        found = find(body, options)
        if found is None:
            continue
        letters, rule, at = found
        if len(letters) != 1 and _REFUSES.search(body):
            return Extraction(None, "refused", "refusal")
        if len(letters) != 1:
            return Extraction(None, "ambiguous", rule)
        if letters not in LETTERS[:n_options]:
            return Extraction(None, "ambiguous", "no-such-option")
        return Extraction(letters, "letter", rule, _order(body, at))
    if _REFUSES.search(body):
        return Extraction(None, "refused", "refusal")
    return Extraction(None, "ambiguous", "none") if finished else Extraction(None, "truncated", "length")


def _levelled(text: str) -> str:
    text = re.sub(r"<\|[^|>]*\|>|</?[A-Za-z][^>]*>", "", text)
    return unicodedata.normalize("NFKC", text).replace("*", "").translate(_TRADITIONAL)


_Found = tuple[str, str, int] | None  # letters (sorted, each once), rule, position


def _letters(run: str) -> str:
    return "".join(sorted(set(re.findall("[A-J]", run))))


def _stated(body: str, options: Sequence[str]) -> _Found:
    """Return what is stated as the answer; of several statements the last, if a word withdraws what was before it."""
    matches = sorted(
        (m.start("x"), _letters(m["x"]), rule) for rule, pattern in _STATEMENTS for m in pattern.finditer(body)
    )
    if leading := _leading(body):
        matches.insert(0, (leading[2], leading[0], leading[1]))
    if not matches or all(rule == "leading" for _, _, rule in matches):
        return None
    return _agreed(body, matches)


def _agreed(body: str, matches: Sequence[tuple[int, str, str]]) -> _Found:
    said = matches[0]
    for match in matches[1:]:
        if match[1] == said[1]:
            continue
        if not _WITHDRAWS.search(body[said[0] : match[0]]):
            return _letters(said[1] + match[1]), "contradiction", match[0]
        said = match
    return said[1], said[2], said[0]


def _leading(body: str, options: Sequence[str] = ()) -> _Found:
    match = _LEADING.match(body) or _ONLY.match(body)
    return (_letters(match["x"]), "leading", match.start("x")) if match else None


def _weaker(body: str, options: Sequence[str]) -> _Found:
    for rule, pattern in _WEAKER:
        runs = [(m.start(), _letters(m["x"] or m.groupdict().get("y") or "")) for m in pattern.finditer(body)]
        if runs:
            return _letters("".join(r for _, r in runs)), rule, runs[-1][0]
    return None


def _by_place(body: str, options: Sequence[str]) -> _Found:
    places = {
        "一二三四五六七八九十".find(m) if m in "一二三四五六七八九十" else int(m) - 1 for m in _ORDINAL.findall(body)
    }
    return (LETTERS[places.pop()], "ordinal", 0) if len(places) == 1 else None


def _by_text(body: str, options: Sequence[str]) -> _Found:
    """Return the options whose text stands in the answer; one that is part of another found one does not count."""
    plain = [_levelled(o).strip().rstrip("。.") for o in options]
    found = [i for i, o in enumerate(plain) if o and o in body]
    found = [i for i in found if not any(i != j and plain[i] in plain[j] for j in found)]
    return ("".join(LETTERS[i] for i in found), "option-text", body.find(plain[found[0]])) if found else None


def _sole(body: str, options: Sequence[str]) -> _Found:
    letters = {_letters(m["x"]) for m in re.finditer(_X, body)}
    return (letters.pop(), "sole-letter", 0) if len(letters) == 1 and len(body.strip()) <= _SHORT else None


def _order(body: str, at: int) -> Order:
    """Return whether the answer or the explanation came first: 12 characters of words make an explanation."""
    before, after = (len(re.findall(r"\w", part)) for part in (body[:at], body[at:]))
    if before >= 12:
        return "explain-first"
    return "answer-first" if after >= 12 else "answer-only"
