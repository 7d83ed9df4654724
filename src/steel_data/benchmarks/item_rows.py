"""Read one question from a raw row of any known layout (steel_data.benchmarks.layouts tells which columns those are).

`read_item` takes what can be trained on (the exam builder writes it down), `read_question` what a benchmark asks. Both
take off a label that every option carries in its text (`A.铁`, `(A) iron`, `A、铁`, `Ａ：铁`) where each is the
option's own, something stays behind it and what stays differs. In a list the options have these labels, in whatever
order they stand; labels of other options are a fault elsewhere, and so are labels with a gap.
"""

import re
from itertools import pairwise
from typing import Any, NamedTuple

from steel_data.benchmarks.keys import LABELS, NotTextError, Options, is_truth_pair, read_key, text_of
from steel_data.benchmarks.layouts import Fields, folded, mapped, question_of, recognised, without_options
from steel_data.errors import excerpt
from steel_data.row.nfkc import nfkc

# Fewer words than keys.NO_TEXT, since an option that says `无` or `没有` may well be an option.
_NO_OPTION = "略 图略 见图 如图 见解析 答案请写在答题卡上 答案请写在答题纸上 请在答题卡上作答 在答题卡上提交 NaN nan"
NO_OPTION = frozenset(_NO_OPTION.split())
_AROUND_OPTION = " \t\r\n\u3000.。．,，;；()（）[]【】"
_OWN_LABEL = re.compile(r"\s*(?:[(（\[【]\s*([A-Za-zＡ-Ｚａ-ｚ])\s*[)）\]】]|([A-Za-zＡ-Ｚａ-ｚ])\s*[.．、:：)）])\s*")


class Question(NamedTuple):
    """One question as a benchmark asks it; `options` by letter, empty for free answers.

    `answer`: a letter, what the row says where that names no single option, or empty where unpublished.
    """

    question: str
    options: tuple[str, ...]
    answer: str
    explanation: str


class ExamItem(NamedTuple):
    """One item as `exam` writes it: `options` are the non-empty ones as (label, text); `key` is letters only."""

    question: str
    options: Options
    key: str
    explanation: str
    type: str
    form: str  # single, several, sequence or true-false
    notes: tuple[str, ...]


def read_item(row: Any, columns: dict[str, str | list[str]] | None = None) -> ExamItem | str:
    """Return the item in `row`, or the reason why there is none (`columns`, `no-question`, `not-choice`, …)."""
    if not isinstance(row, dict):
        return f"columns: the row is a {type(row).__name__}, not an object"
    fields = recognised(row) if columns is None else mapped(row, columns)
    if isinstance(fields, str):
        return fields
    if missing := _missing(fields):
        return f"columns: option {missing} is missing; the row has {excerpt(', '.join(map(str, row)), 200)}"
    try:
        question, fault = question_of(fields)
        explanation = text_of(fields.explanation)
        kind = text_of(fields.type)
        written = tuple([(label, text) for label, value in fields.options if (text := text_of(value)) and text.strip()])
        _check_truths([value for _, value in fields.options])
    except NotTextError as error:
        return f"bad-field: {error}"
    if fault:
        return fault
    if not question.strip():
        return "no-question"
    if len(written) < 2:
        return f"not-choice: {len(written)} option(s)"
    options = _without_labels(written, fields.by_place)
    if isinstance(options, str):
        return options
    for label, text in options:
        if text.strip(_AROUND_OPTION) in NO_OPTION:
            return f"placeholder: option {label} is '{excerpt(text.strip(), 30)}'"
    key, used, fault = _key_of(fields, options)
    if fault:
        return fault
    notes = ["options-inside"] if fields.inside else []
    if options is not written:
        notes.append("labels-inside")
    if fields.a_set:
        if len(set(key)) < len(key):
            return f"bad-answer: {key} names an option twice"
        key = "".join(sorted(key))
    if len(key) == 1:
        form = "true-false" if is_truth_pair(options) else "single"
    else:
        form = "several" if all(a < b for a, b in pairwise(key)) else "sequence"
    if form != "single":
        notes.append({"several": "several-answers"}.get(form, form))
    if options[-1][0] > "D":
        notes.append("option-e")
    if options[-1][0] != LABELS[len(options) - 1]:
        notes.append("option-gap")
    if fields.renamed:
        notes.append("labels-renamed")
    if used:
        notes.append("key-in-answer")
    value = fields.keys[used][1]
    if not isinstance(value, str) or value.strip() != key:
        notes.append("key-rewritten")
    return ExamItem(question, options, key, explanation, kind, form, tuple(notes))


def read_question(row: dict[str, Any], free: bool = True) -> Question | str:
    """Return the question in a benchmark's row, or the reason why there is none.

    Names of columns count without case and blanks around them. Options at the end that are null or empty are absent;
    one before others stays in its place as an empty text. The answer may be absent, and where the question is `free`
    to be answered in words the options too.
    """
    named = folded(row)
    if isinstance(named, str):
        return named
    row = named
    if row.get("question", "") is None:
        return "no-question: it is null"
    fields = recognised(row)
    has = f"the row has {excerpt(', '.join(row), 200)}"
    if isinstance(fields, str) or fields.inside:
        lettered = any(label in row for label in LABELS)
        if "question" in row and lettered:
            return f"column {'B' if 'A' in row else 'A'} is missing; {has}"
        if "question" not in row or any(row.get(name) for name in ("options", "choices", "option")) or not free:
            return fields if isinstance(fields, str) else f"columns: the options are no column; {has}"
        fields = without_options(row)
    if missing := _missing(fields):
        return f"column {missing} is missing; {has}"
    try:
        question, fault = question_of(fields)
        if not question.strip():
            return "no-question: its text is empty"
        texts = [text_of(value) for _, value in fields.options]
        _check_truths([value for _, value in fields.options])
        explanation = text_of(fields.explanation)
        while texts and not texts[-1].strip():
            texts.pop()
        options = _without_labels(tuple(zip(LABELS, texts, strict=False)), fields.by_place)
        if fault or isinstance(options, str):
            return fault or str(options)
        answer, fault = _answer(fields, options)
    except NotTextError as error:
        return f"bad-field: {error}"
    return fault or Question(question, tuple([text for _, text in options]), answer, explanation)


def _check_truths(values: list[Any]) -> None:
    """Raise NotTextError for true or false among options of another type: as texts they would be a guess."""
    truths = sum(isinstance(value, bool) for value in values)
    if 0 < truths < len([value for value in values if value not in (None, "")]):
        raise NotTextError("a bool where a text belongs")


def _missing(fields: Fields) -> str:
    """Return the first letter that no option has though a later one says something, or nothing."""
    there = [label for label, _ in fields.options]
    if there == [*LABELS[: len(there)]]:  # nearly every row
        return ""
    said = max((label for label, value in fields.options if value not in (None, "")), default="A")
    return next((label for label in LABELS if label <= said and label not in there), "")


def _without_labels(options: Options, by_place: bool) -> Options | str:
    """Return the options without the label that each carries in its own text; the very same where not each does.

    by_place: their letters are but their places in a list. Then the labels that they carry count, in any order: it is
    these that the key names (19 items of AGIEval's logiqa-en stand as A, C, B, D, as their exams were printed).
    """
    marks = [_OWN_LABEL.match(text) for _, text in options]
    if not any(marks):  # nearly every row
        return options
    own = [label for label, _ in options]
    carried = [nfkc(mark[1] or mark[2]).upper() if mark else "" for mark in marks]
    rest = [text[mark.end() if mark else 0 :] for (_, text), mark in zip(options, marks, strict=True)]
    letters_only = all(text.strip().upper() in own for text in rest)  # `A、B` `B、C` `C、D`: pairs of letters
    if not all(rest) or len(set(rest)) < len(rest) or letters_only:
        return options
    strange = [i for i, label in enumerate(own) if carried[i] != label]
    if not strange or (len(strange) == 1 and not carried[strange[0]] and len(own) > 3):  # or one has lost its label
        return tuple(zip(own, rest, strict=True))
    if sorted(carried) == own:
        if by_place:
            return tuple(sorted(zip(carried, rest, strict=True)))
        return f"bad-field: option {own[strange[0]]} carries the label {carried[strange[0]]}"
    if carried == sorted(set(carried)) and carried[0] and carried[-1] in LABELS[: len(own) + 1]:  # one is missing
        return f"bad-field: the options carry the labels {', '.join(carried)}"
    return options


def _key_of(fields: Fields, options: Options) -> tuple[str, int, str]:
    """Return (letters, which of the row's keys, "") or ("", 0, reason).

    The first key that can be read counts; another that can be read and says something else is a fault.
    """
    fault, key, used = "no-answer", "", 0
    for i, (name, value) in enumerate(fields.keys):
        found, why = read_key(value, options, fields.renamed)
        if found and key and found != key:
            return "", 0, f"bad-answer: {fields.keys[used][0]} says {key} and {name} says {found}"
        if found and not key:
            key, used = found, i
        if not found and why != "no-answer" and isinstance(value, list | dict):  # no text that says something else
            return "", 0, why
        if fault == "no-answer":
            fault = why
    return (key, used, "") if key else ("", 0, fault)


def _answer(fields: Fields, options: Options) -> tuple[str, str]:
    """Return (the letter that a benchmark's key names, else the key as it is written; "") or ("", reason)."""
    value = next((value for _, value in fields.keys if value is not None and value != ""), "")
    text = ",".join(map(text_of, value)) if isinstance(value, list | tuple) else text_of(value)
    written = text.strip()
    if not options or not written:
        return text, ""
    texts = [option for _, option in options]
    if texts.count(text) > 1 and written.upper() not in dict(options):
        return "", f"bad-answer: '{excerpt(written, 30)}' is the text of two options"
    if text in texts and written.upper() not in dict(options):  # `none` may be an option here
        return LABELS[texts.index(text)], ""
    key, _, fault = _key_of(fields, options)
    if " says " in fault:
        return "", fault
    return key if len(key) == 1 else written, ""
