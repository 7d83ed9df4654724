"""Columns to builders: which published layout rows have, or what is nearest to it, and the parts of an input.

A *part* is the files, and of them the rows, that one source of a recipe would read. A row is known by the names of its
columns; rows of no known layout belong to the part that their file has, and will be dropped there with a reason.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import regex

from steel_data.analyze.find import Given
from steel_data.analyze.look import Column, Look
from steel_data.benchmarks import layouts as exams
from steel_data.benchmarks.item_rows import read_item
from steel_data.builders import chat, exam
from steel_data.row.columns import holds, meanings

Columns = tuple[str, ...]
# Words that people give to the two sides where no layout says them; only the one pair that can be it is proposed.
_ASKS = (
    "instruction", "question", "query", "prompt", "input", "problem", "user", "human", "ask", "q", "问题", "问", "指令",
    "输入",
)  # fmt: skip
_ANSWERS = (
    "output", "response", "answer", "completion", "target", "solution", "assistant", "reply", "a", "回答", "答案", "答",
    "输出",
)  # fmt: skip
_PAIRED = {"chosen", "rejected", "responses"}  # what only layouts of preferences have
_ALIKE = 0.8  # of two names of columns
_HAN = regex.compile(r"\p{Han}")
_LATIN = regex.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True)
class Fit:
    """How rows of one set of columns are built, and the name of the layout that they show."""

    builder: str  # chat or exam
    layout: str


@dataclass(frozen=True)
class Nearest:
    """The layout that is nearest to columns of none: which of its columns are there, and which are missing."""

    layout: str
    there: list[str]
    missing: list[str]


@dataclass
class Part:
    """What one source would read. `build`: its table in a recipe, None where no builder is known."""

    name: str
    build: dict[str, Any] | None
    files: list[Given] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)  # of each file
    sets: list[set[Columns]] = field(default_factory=list)  # of each file the sets of columns whose rows are the part's
    layouts: Counter[str] = field(default_factory=Counter)  # rows by layout
    others: Counter[Columns] = field(default_factory=Counter)  # rows of no layout
    proposed: bool = False  # `build` is no published layout, but a proposal
    test_split: str = ""  # the known test split that its files are
    mixed_with: str = ""  # the part that the other rows of its files belong to

    @property
    def rows(self) -> int:
        """Rows that belong to the part; those that cannot be read belong to the first part of their file."""
        return sum(self.layouts.values()) + sum(self.others.values())

    @property
    def columns(self) -> dict[str, Column]:
        """Return the columns of its files."""
        return merged(self.looks).columns

    @property
    def read(self) -> set[str] | None:
        """Return the columns that its builder reads; None where that is not known."""
        if self.build is None:
            return None
        reads = chat.columns_read if self.build["use"] == "chat" else exam.columns_read
        return set[str]().union(*(reads(names, self.build) for s in self.sets for names in s))

    @property
    def gap(self) -> str:
        """Return which stretch of its files holds no row that its builder can read: there a build would stop."""
        for given, seen, sets in zip(self.files, self.looks, self.sets, strict=True):
            fit = {names for names in sets if self._fits(names, seen)}
            for stretch in seen.stretches:
                if stretch.sets and not stretch.sets & fit:
                    return f"{given.name}: from row {stretch.first_row:,} on no row is one for it: split the file first"
        return ""

    def _fits(self, names: Columns, seen: Look) -> bool:
        if self.build is None:
            return False
        if self.proposed:
            return {column for column in self.build["columns"].values() if column} <= set(names)
        return choice(names, [seen]) is not None


def merged(looks: list[Look]) -> Look:
    """Return what several files are together."""
    whole = Look(-1)
    for one in looks:
        whole.add(one)
    return whole


def choice(columns: Columns, looks: list[Look]) -> Fit | None:
    """Return how rows of these columns are built, None where no layout says it."""
    asked, conversation = exams.layout_of(columns), chat.recognised(columns)
    if asked is not None and asked.options == asked.question:  # only the texts can tell
        rows = [row for one in looks for row in one.first.get(columns, ())]
        items = sum(not isinstance(read_item(row), str) for row in rows)
        asked = asked if items and 2 * items >= len(rows) else None
    if asked is not None:
        return Fit("exam", asked.name)
    return Fit("chat", conversation) if conversation else None


def parts_of(files: tuple[Given, ...], looks: list[Look], test_splits: Mapping[Path, str]) -> list[Part]:
    """Return the parts of an input, in the order of its files; files of one layout and builder make one part.

    test_splits: the files that are known test splits, which are parts of their own.
    """
    parts: dict[Any, Part] = {}
    for given, seen in zip(files, looks, strict=True):
        found = {names: choice(names, [seen]) for names in seen.sets}
        test = test_splits.get(given.path, "")
        if not seen.sets:  # nothing that can be read
            parts[given.name] = Part("", None, [given], [seen], [set()])
            continue
        builders = Counter[str]()
        for names, one in found.items():
            if one is not None:
                builders[one.builder] += seen.sets[names]
        mine = [builder for builder, _ in builders.most_common()]
        if not mine:
            build = _proposed(seen)
            key = ("none", test, repr(build), tuple(sorted(seen.sets.most_common(1)[0][0])))
            part = parts.setdefault(key, Part("", build, proposed=build is not None, test_split=test))
            part.files.append(given)
            part.looks.append(seen)
            part.sets.append(set(seen.sets))
            part.others.update(seen.sets)
            continue
        before: Part | None = None
        for builder in mine:
            shown = tuple(sorted({one.layout for one in found.values() if one and one.builder == builder}))
            options = _exam_options if builder == "exam" else _chat_options
            build = {"use": builder, **options(seen, found)}
            part = parts.setdefault((builder, test, shown, repr(build), len(mine)), Part("", build, test_split=test))
            part.files.append(given)
            part.looks.append(seen)
            part.sets.append(set())
            for names, one in found.items():
                if one is not None and one.builder == builder:
                    part.layouts[one.layout] += seen.sets[names]
                    part.sets[-1].add(names)
                elif one is None and before is None:
                    part.others[names] += seen.sets[names]
                    part.sets[-1].add(names)
            if before is not None:
                part.mixed_with, before.mixed_with = before.build["use"], builder  # type: ignore[index]
            before = before or part
    _name(list(parts.values()))
    return list(parts.values())


def _exam_options(seen: Look, found: dict[Columns, Fit | None]) -> dict[str, Any]:
    """Return the options of `exam` for rows without explanation, and for English ones."""
    options: dict[str, Any] = {}
    rows = [row for names, one in found.items() if one and one.builder == "exam" for row in seen.first.get(names, ())]
    items = [item for row in rows if not isinstance(item := read_item(row), str)]
    if items and not any(item.explanation.strip() for item in items):
        options["style"] = "answer-only"
    text = " ".join(item.question for item in items)
    if len(_LATIN.findall(text)) > len(_HAN.findall(text)):
        options["preset"] = "steel-en"
    return options


def _chat_options(seen: Look, found: dict[Columns, Fit | None]) -> dict[str, Any]:
    """Return the options of `chat` for rows of one answer that a column of true and false judges (KTO)."""
    mine = [names for names, one in found.items() if one and one.builder == "chat"]
    if any(
        _PAIRED & chat.layouts()[one.layout].columns.keys() for one in found.values() if one and one.builder == "chat"
    ):
        return {}
    judging = next((meaning for meaning in meanings() if meaning.word.get("chat") == "kto_tag"), None)
    for name in mine[0] if judging else ():
        values = [row.get(name) for names in mine for row in seen.first.get(names, ())]
        if judging and judging.has(name) and values and all(holds(v) and judging.holds(v) for v in values):
            return {"layout": chat.KTO, **({} if name == "label" else {"columns": {"kto_tag": name}})}
    return {}


def _proposed(seen: Look) -> dict[str, Any] | None:
    """Return `chat` with the one column that can be the question and the one that can be the answer, or None."""

    def sides(words: tuple[str, ...]) -> list[str]:
        return [name for name, c in seen.columns.items() if name.strip().lower() in words and c.types["text"]]

    asks, answers = sides(_ASKS), sides(_ANSWERS)
    query = {"query": "input"} if sorted(asks) == ["input", "instruction"] else {}
    asks = ["instruction"] if query else asks
    if len(asks) != 1 or len(answers) != 1:
        return None
    return {"use": "chat", "columns": {"prompt": asks[0], **(query or {"query": ""}), "response": answers[0]}}


def nearest_layout(columns: Columns) -> Nearest | None:
    """Return the published layout of which most columns are there, by name or nearly; None where none is."""
    # on equal terms a conversation is meant rather than a pair
    told = ((name, layout) for name, layout in chat.layouts().items() if not layout.said)
    known = sorted(told, key=lambda entry: bool(_PAIRED & entry[1].columns.keys()))
    wanted = {name: layout.needs for name, layout in known}
    for layout in exams.layouts():
        if layout.options == layout.question:
            continue  # told by the text of the question
        first = layout.options.format(a="a", A="A")
        wanted[layout.name] = list(dict.fromkeys([layout.question, first, layout.key[0]]))
    best: tuple[float, Nearest] | None = None
    for name, needs in wanted.items():
        there = [need for need in needs if need in columns]
        near = sum(max((_likeness(need, column) for column in columns), default=0.0) for need in needs)
        score = (len(there) + near) / (2 * len(needs))
        if near and (best is None or score > best[0] + 1e-9):
            best = score, Nearest(name, there, [need for need in needs if need not in columns])
    return best[1] if best else None


def _likeness(a: str, b: str) -> float:
    ratio = SequenceMatcher(None, a.lower(), b.lower()).ratio()
    return ratio if ratio >= _ALIKE and min(len(a), len(b)) > 1 else float(a == b)


def _name(parts: list[Part]) -> None:
    """Name each part after its file, of several after their layout or folder; no two alike."""
    taken: set[str] = set()
    for part in parts:
        first = part.files[0].path
        one = first.name.partition(".")[0] if len(part.files) == 1 else ""
        word = one or next(iter(part.layouts), "") or first.parent.name
        plain = regex.sub(r"[^\p{L}\p{N}_-]+", "-", word).strip("-") or "data"
        name, number = plain, 2
        if part.test_split and not one:
            name = plain = f"{plain}-{part.test_split.replace('/', '-')}"
        if one in taken and part.layouts:  # the other rows of a file of two builders
            name = f"{plain}-{part.build['use']}"  # type: ignore[index]
        while name in taken:
            name, number = f"{plain}-{number}", number + 1
        taken.add(name)
        part.name = name
