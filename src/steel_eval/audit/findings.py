"""Faults that a question's own text shows: twins with unlike keys, broken options, what the question lacks.

No model is asked. A finding says what to look at, not that the key is wrong; who reads it decides.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import regex

from steel_data.benchmarks.items import LETTERS, Item
from steel_data.row.text import normalise

# What is found, the likeliest to be a fault of the key first: the order in which findings are listed.
KINDS = {
    "twins": "the same question with another key",
    "equal-options": "two options that say the same, one of them the key",
    "answer-inside": "the question gives its own answer",
    "consensus": "models that know the subject agree on another option",
    "discrimination": "the better a model, the less it believes the key",
    "merged-options": "an option that holds another option's label",
    "equal-wrong-options": "two wrong options that say the same",
    "no-picture": "asks about a picture or table that is not there",
    "no-passage": "asks about a passage that is not there",
    "residue": "left-over markup or characters lost in conversion",
    "cut": "the question breaks off",
}
LEAST = 8  # characters: shorter questions (选出正确的) are equal by chance
SHORT = 120  # characters: a question that holds its passage is longer

_PICTURE = regex.compile(
    r"如[下右上左]?图|[下右上左]图|图中(?!央)|如[下右上]表|[下右上]表(中|所示|是|为)"
    r"|in the (figure|diagram|picture|graph|table) (above|below|shown)|(figure|diagram|graph) (above|below)"
)
_PASSAGE = regex.compile(
    r"(根据|阅读|结合|依据)(以?[上下]文|[上下]述?(材料|短文|文字)|材料|短文|该段|这段)|上述材料"
    r"|(according to|in|from) the (passage|text)\b|the (above|following) passage"
)
_RESIDUE = regex.compile(r"\ufffd|&(nbsp|lt|gt|amp|quot|#\d+);|</?(br|p|div|span|img|sub|sup)\b[^>]*>|锟斤拷|\?{4,}")
_CUT = regex.compile(r"[,，、;；(（\[【]\s*$")
_GIVEN = regex.compile(r"(?:[(（【]\s+([A-J])\s+[)）】]|[(（【]\s*([A-J])\s*[)）】]\s*[。.?？]?\s*$)")  # not a gene (B)
_LABEL = regex.compile(r"(?<![A-Za-z0-9])([B-E])\s*[.．、:：]\s*\S")


@dataclass(frozen=True)
class Asked:
    """One question of a task. `name`: task and item, unlike any other's."""

    task: str
    item: Item

    @property
    def name(self) -> str:
        """Return what the question is called in lists."""
        return f"{self.task}:{self.item.item}"

    @property
    def key(self) -> str:
        """Return the text of the option that the key names; empty without one."""
        place = LETTERS.find(self.item.answer) if len(self.item.answer) == 1 else -1
        return self.item.options[place] if 0 <= place < len(self.item.options) else ""


@dataclass(frozen=True)
class Suspect:
    """Something to look at. `strength` orders findings of a kind, the largest first; `others`: the twins."""

    kind: str
    question: Asked
    why: str
    strength: float = 0.0
    others: tuple[Asked, ...] = field(default=())


def text_findings(questions: Sequence[Asked]) -> list[Suspect]:
    """Return what the texts of the questions show, in the order of KINDS."""
    found = twins(questions)
    for question in questions:
        found += _options(question)
        found += _lacks(question)
    return ordered(found)


def ordered(findings: Iterable[Suspect]) -> list[Suspect]:
    """Return findings by kind, then strength, then name."""
    rank = list(KINDS)
    return sorted(findings, key=lambda f: (rank.index(f.kind), -f.strength, f.question.name))


def _plain(text: str) -> str:
    """Return a question without blanks and punctuation."""
    return str(regex.sub(r"[\s\p{P}]+", "", normalise(text)) or normalise(text).strip())


def _said(option: str) -> str:
    """Return an option without blanks and closing marks; brackets inside stay: they say which word is asked about."""
    return str(regex.sub(r"\s+|[。.;；]+$", "", normalise(option)))


def twins(questions: Sequence[Asked]) -> list[Suspect]:
    """Return one finding for each group of questions of equal text in which one's key is another's wrong option.

    Near-equal texts are left alone: on CMMLU and C-Eval all 14 such pairs asked for another thing (最先 against 最后).
    """
    groups: dict[str, list[Asked]] = defaultdict(list)
    for question in questions:
        if question.key and len(text := _plain(question.item.question)) >= LEAST:
            groups[text].append(question)
    found = []
    for group in groups.values():
        clash = [
            q for q in group for other in group
            if _said(q.key) != _said(other.key) and _said(q.key) in {_said(o) for o in other.item.options}
        ]  # fmt: skip
        if clash:
            involved = list(dict.fromkeys(clash)) if len(set(clash)) > 1 else group
            why = "; ".join(f"{q.name}: {q.item.answer}. {q.key}" for q in involved)
            found.append(Suspect("twins", involved[0], f"keys differ: {why}", len(involved), tuple(involved[1:])))
    return found


def _options(question: Asked) -> list[Suspect]:
    item = question.item
    found = []
    for (a, one), (b, other) in combinations(enumerate(item.options), 2):
        # as they are: letters that differ in case alone may differ in meaning (a gene, a unit)
        if one.strip() == other.strip():
            kind = "equal-options" if item.answer in (LETTERS[a], LETTERS[b]) else "equal-wrong-options"
            found.append(Suspect(kind, question, f"{LETTERS[a]} and {LETTERS[b]} are both: {one}"))
    for letter, option in zip(LETTERS, item.options, strict=False):
        label = next((m for m in _LABEL.finditer(option) if m.start() > 0 and m[1] != letter), None)
        if label and len(item.options) < 4:
            found.append(Suspect("merged-options", question, f"{letter}. {option}", 4.0 - len(item.options)))
    return found


def _lacks(question: Asked) -> list[Suspect]:
    item, text = question.item, question.item.question
    found = []
    if item.options and item.answer in [one or other for one, other in _GIVEN.findall(text)]:
        found.append(Suspect("answer-inside", question, f"the question holds ({item.answer})"))
    for kind, pattern in (("no-picture", _PICTURE), ("residue", _RESIDUE), ("cut", _CUT)):
        if match := pattern.search(" ".join((text, *item.options)) if kind == "residue" else text):
            found.append(Suspect(kind, question, f"…{match[0].strip()}…"))
    # a quotation is the passage
    if (match := _PASSAGE.search(text)) and len(text) < SHORT and not regex.search('[“"「『]', text):
        found.append(Suspect("no-passage", question, f"…{match[0].strip()}…, in a question of {len(text)} characters"))
    return found
