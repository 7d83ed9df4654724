"""Read one question from a raw row of any known layout: the one place that knows the published columns.

`read_item` takes what can be trained on (the exam builder writes it down), `read_question` what a benchmark asks.

Layouts, recognised by their columns (or said with `columns`):

| layout | question | options | key |
| --- | --- | --- | --- |
| WanJuan exam | `q_main` | `option_a`, `option_b`, … as far as they go | `std_ans`, else `answer` |
| C-Eval, CMMLU | `question` or `Question` | `A`, `B`, … | `answer` or `Answer` |
| ARC, OpenBookQA | `question`, `question_stem`, `question: {stem, choices}` | `choices` (texts, labels) | `answerKey` |
| LogiQA | `context` + newline + `query` | `options` (list) | `correct_option` |
| MMLU | `question` | `choices` | `answer` |
| own benchmark files | `question` | `options` | `answer` |
| `columns` | `question` | `options`: one column or a list of columns | `answer` |

One column of options holds a list of texts, a list of {label, text}, an object of two lists (`text`, `label`) or an
object {A: …, B: …}. The explanation stands in `explanation` (WanJuan: `answer_detail`), the type in `q_type` (WanJuan
only), or where `columns` says. A whole number as key of a *list* of options is a 0-based index, as MMLU and LogiQA have
it; elsewhere it is text. A benchmark of `options` whose key may be an index and is another option's text is refused.
"""

import math
import re
import unicodedata
from itertools import pairwise
from typing import Any, NamedTuple

from steel_data.errors import InputError, excerpt, nearest

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLUMN_NAMES = ("question", "options", "answer", "explanation", "type")
_WANJUAN = tuple((label, f"option_{label.lower()}") for label in LABELS)

# What people write where a text should be. Compared after `bare`, so `略．` and `N/A` are found too.
_NO_TEXT = """
略 无 暂无 没有 省略 无解析 暂无解析 此题暂无解析 本题暂无解析 暂缺 缺 解析略 略解 答案略 过程略 解略 证明略 同上
见解析 见详解 见答案 见分析 见解答 详见解析 如图 见图 图略 推理题目 不要搜题
答案请写在答题卡上 答案请写在答题纸上 请在答题卡上作答 在答题卡上提交 na nan none null noexplanation
"""
NO_TEXT = frozenset(_NO_TEXT.split())
# Fewer, since an option that says `无` or `没有` may well be an option.
_NO_OPTION = "略 图略 见图 如图 见解析 答案请写在答题卡上 答案请写在答题纸上 请在答题卡上作答 在答题卡上提交 NaN nan"
NO_OPTION = frozenset(_NO_OPTION.split())
_AROUND_OPTION = " \t\r\n\u3000.。．,，;；()（）[]【】"

_TRUE = "正确 对 √ ✓ ✔ ☑ 是 真 t true y yes right correct"
_FALSE = "错误 错 不正确 不对 × ✗ ✘ ✕ 否 不是 假 f false n no wrong incorrect"
_TRUTH = dict.fromkeys(_TRUE.split(), True) | dict.fromkeys(_FALSE.split(), False)

_NOT_WORD = re.compile(r"\\(?:text(?:bf|rm)?|math(?:rm|bf)|rm)|[^\w\\]+|[_\\]")
_AROUND_KEY = re.compile(r"[\s,;/.|&、。·:()\[\]{}<>【】〔〕《》「」'\"“”‘’$和与及-]+")


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
    options: tuple[tuple[str, str], ...]
    key: str
    explanation: str
    type: str
    form: str  # single, several, sequence or true-false
    notes: tuple[str, ...]


class _Fields(NamedTuple):
    question: Any
    options: list[tuple[str, Any]]
    keys: tuple[Any, ...]
    explanation: Any
    type: Any = ""
    renamed: dict[str, str] | None = None  # labels of the row that are not letters -> ours
    doubt: str = ""  # why the key may mean two options


class _NotTextError(Exception):
    """A field holds a list or an object where a text belongs; becomes the reason `bad-field`."""


def bare(text: str) -> str:
    """Return the word characters of a short `text` in lower case; a long one as it is (it is no placeholder)."""
    text = text.strip()
    return _NOT_WORD.sub("", text).casefold() if len(text) <= 40 else text


def read_item(row: Any, columns: dict[str, str | list[str]] | None = None) -> ExamItem | str:
    """Return the item in `row`, or the reason why there is none (`columns`, `no-question`, `not-choice`, …)."""
    if not isinstance(row, dict):
        return f"columns: the row is a {type(row).__name__}, not an object"
    fields = _recognised(row) if columns is None else _mapped(row, columns)
    if isinstance(fields, str):
        return fields
    try:
        question = _text(fields.question)
        explanation = _text(fields.explanation)
        kind = _text(fields.type)
        options = tuple([(label, text) for label, value in fields.options if (text := _text(value)) and text.strip()])
    except _NotTextError as error:
        return f"bad-field: {error}"
    if not question.strip():
        return "no-question"
    if len(options) < 2:
        return f"not-choice: {len(options)} option(s)"
    for label, text in options:
        if text.strip(_AROUND_OPTION) in NO_OPTION:
            return f"placeholder: option {label} is '{excerpt(text.strip(), 30)}'"
    return _with_key(fields, question, options, explanation, kind)


def read_question(row: dict[str, Any], free: bool = True) -> Question | str:
    """Return the question in a benchmark's row, or the reason why there is none.

    Names of columns count without case and blanks around them. Options at the end that are null or empty are absent;
    one before others stays in its place as an empty text. The answer may be absent, and where the question is `free`
    to be answered in words the options too.
    """
    row = {_column(name): value for name, value in row.items()}
    if row.get("question", "") is None:
        return "no-question: it is null"
    fields = _recognised(row)
    missing = None
    if not isinstance(fields, str):
        labels = [label for label, _ in fields.options]
        missing = next((own for own, label in zip(LABELS, labels, strict=False) if own != label), None)
    elif "question" in row and any(label in row for label in LABELS):
        missing = "B" if "A" in row else "A"
    elif "question" not in row or row.get("options") or row.get("choices") or not free:
        return fields
    else:
        fields = _Fields(row["question"], [], (row.get("answer"),), row.get("explanation"))
    if missing or isinstance(fields, str):
        return f"column {missing} is missing; the row has {excerpt(', '.join(row), 200)}"
    if fields.doubt:
        return f"bad-answer: {fields.doubt}"
    try:
        texts = [_text(value) for _, value in fields.options]
        while texts and not texts[-1].strip():
            texts.pop()
        return Question(_text(fields.question), tuple(texts), _answer(fields, texts), _text(fields.explanation))
    except _NotTextError as error:
        return f"bad-field: {error}"


def _column(name: str) -> str:
    """Return a column's name as the layouts have it."""
    name = name.strip()
    return name.upper() if len(name) == 1 else "answerKey" if name.lower() == "answerkey" else name.lower()


def _answer(fields: _Fields, options: list[str]) -> str:
    """Return the letter that a benchmark's key names, else the key as it is written."""
    value = next((key for key in fields.keys if key is not None and key != ""), "")
    text = ",".join(map(_text, value)) if isinstance(value, list | tuple) else _text(value)
    written = text.strip()
    if not options or not written:
        return text
    labelled = tuple(zip(LABELS, options, strict=False))
    if text in options and written.upper() not in dict(labelled):  # `none` may be an option here
        return LABELS[options.index(text)]
    key, _ = _key(written, labelled, fields.renamed)
    return key if len(key) == 1 else written


def _with_key(
    fields: _Fields, question: str, options: tuple[tuple[str, str], ...], explanation: str, kind: str
) -> ExamItem | str:
    """Add the key, the item's form and the notes; the first of the row's key fields that can be read counts."""
    fault, key, used = "no-answer", "", 0
    for used, value in enumerate(fields.keys):  # noqa: B007 (used after the loop)
        key, found = _key(value, options, fields.renamed)
        if key:
            break
        if fault == "no-answer":
            fault = found
    if not key:
        return fault
    notes = []
    if len(key) == 1:
        form = "true-false" if _is_truth_pair(options) else "single"
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
    value = fields.keys[used]
    if not isinstance(value, str) or value.strip() != key:
        notes.append("key-rewritten")
    return ExamItem(question, options, key, explanation, kind, form, tuple(notes))


def _text(value: Any) -> str:
    """Return a field as text: null and NaN are empty, a number is its shortest form, a text stays as it is."""
    if type(value) is str:
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    raise _NotTextError(f"a {type(value).__name__} where a text belongs")


def _key(value: Any, options: tuple[tuple[str, str], ...], renamed: dict[str, str] | None = None) -> tuple[str, str]:
    """Return (letters, "") or ("", reason). Order: a letter, an option's text, letters, a word for true or false."""
    labels = [label for label, _ in options]
    if value in labels:  # nearly every row
        return value, ""
    if isinstance(value, list | tuple):
        if not all(isinstance(part, str | int) for part in value):
            return "", "bad-answer: a list of other things than texts"
        value = ",".join([str(part) for part in value])
    try:
        written = _text(value).strip()
    except _NotTextError as error:
        return "", f"bad-answer: {error}"
    if not written or bare(written) in NO_TEXT:
        return "", "no-answer"
    if renamed and written in renamed:
        return renamed[written], ""
    named = [label for label, text in options if text.strip() == written]
    if len(named) == 1 and len(written) > 1:
        return named[0], ""
    letters = _AROUND_KEY.sub("", unicodedata.normalize("NFKC", written)).upper()
    if letters and set(letters) <= set(labels):
        return letters, ""
    truth = _TRUTH.get(written.casefold())
    if truth is not None and _is_truth_pair(options):
        return next(label for label, text in options if _TRUTH[text.strip().casefold()] is truth), ""
    if len(named) == 1:
        return named[0], ""
    if letters and set(letters) <= set(LABELS) and len(letters) <= 8:
        return "", f"answer-names-no-option: {letters}"
    return "", f"bad-answer: {excerpt(written, 40)}"


def _is_truth_pair(options: tuple[tuple[str, str], ...]) -> bool:
    if len(options) != 2:
        return False
    return {_TRUTH.get(text.strip().casefold()) for _, text in options} == {True, False}


def _first(row: dict[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if name in row), None)


def _recognised(row: dict[str, Any]) -> _Fields | str:
    """Tell the layout of a row by its columns; return its fields, or the reason `columns`."""
    if "q_main" in row:
        options = [(label, row[name]) for label, name in _WANJUAN if name in row]
        keys = (row.get("std_ans"), row.get("answer"))
        return _Fields(row["q_main"], options, keys, row.get("answer_detail"), row.get("q_type"))
    if "answerKey" in row:
        question: Any = _first(row, "question", "question_stem")
        choices = row.get("choices")
        if isinstance(question, dict):  # the jsonl that AI2 publishes
            question, choices = question.get("stem"), question.get("choices")
        return _listed(question, choices, row["answerKey"], row.get("explanation"), counts=True)
    if "query" in row and "correct_option" in row:
        question, context = row["query"], row.get("context")
        if isinstance(question, str) and isinstance(context, str) and context.strip():
            question = f"{context}\n{question}"
        return _listed(question, row.get("options"), row["correct_option"], row.get("explanation"), counts=True)
    question = _first(row, "question", "Question")
    if question is not None:
        key, explanation = _first(row, "answer", "Answer"), _first(row, "explanation", "Explanation")
        if "A" in row and "B" in row:
            return _Fields(question, [(name, row[name]) for name in LABELS if name in row], (key,), explanation)
        choices = _first(row, "choices", "options")
        if choices is not None:
            return _listed(question, choices, key, explanation, counts="choices" in row)
    return f"columns: no exam layout fits; the row has {excerpt(', '.join(map(str, row)), 200)}"


def _mapped(row: dict[str, Any], columns: dict[str, str | list[str]]) -> _Fields | str:
    """Take the fields by the recipe's `columns`; a column that the row lacks is the reason `columns`."""
    flat = [name for value in columns.values() for name in ([value] if isinstance(value, str) else value)]
    missing = [name for name in flat if name not in row]
    if missing:
        return f"columns: the row has no '{missing[0]}'; it has {excerpt(', '.join(map(str, row)), 200)}"
    question, key = row[str(columns["question"])], row[str(columns["answer"])]
    explanation = row[str(columns["explanation"])] if "explanation" in columns else None
    kind = row[str(columns["type"])] if "type" in columns else None
    where = columns["options"]
    if isinstance(where, str):
        fields = _listed(question, row[where], key, explanation)
        return fields if isinstance(fields, str) else fields._replace(type=kind)
    return _Fields(question, [(LABELS[i], row[name]) for i, name in enumerate(where)], (key,), explanation, kind)


def check_columns(columns: dict[str, str | list[str]]) -> None:
    """Raise InputError unless `columns` names question, options and answer, and nothing unknown."""
    for name, value in columns.items():
        if name not in COLUMN_NAMES:
            raise InputError(f"build.columns: unknown field '{name}'.{nearest(name, COLUMN_NAMES)}")
        if not isinstance(value, str) and (name != "options" or not 2 <= len(value) <= len(LABELS)):
            raise InputError(f"build.columns.{name}: one column name is right (`options`: or a list of 2 to 26 names).")
    for name in COLUMN_NAMES[:3]:
        if name not in columns:
            raise InputError(f"build.columns: '{name}' is missing. Right: question, options, answer are all named.")


def _listed(question: Any, choices: Any, key: Any, explanation: Any, counts: bool = False) -> _Fields | str:
    """Read the options of one column. `counts`: the layout says that a whole number as key is an index."""
    given: list[Any] = []
    doubt = ""
    if isinstance(choices, dict) and choices and {name.upper() for name in choices} <= {*LABELS}:
        return _Fields(question, [(name.upper(), choices[name]) for name in sorted(choices)], (key,), explanation)
    if isinstance(choices, dict):
        texts, given = choices.get("text"), choices.get("label") or []
    elif isinstance(choices, list) and choices and all(isinstance(choice, dict) for choice in choices):
        texts, given = [choice.get("text") for choice in choices], [choice.get("label") for choice in choices]
    else:
        texts = choices
    if isinstance(given, list) and all(label is None for label in given):
        given = []
    if not isinstance(texts, list) or not isinstance(given, list) or (given and len(given) != len(texts)):
        return "not-choice: the options are no list"
    if len(texts) > len(LABELS):
        return f"not-choice: {len(texts)} options"
    letters = list(LABELS[: len(texts)])
    renamed = {str(old): new for old, new in zip(given, letters, strict=False)} if given not in ([], letters) else None
    if not given and isinstance(key, int | float) and not isinstance(key, bool) and key in range(len(texts)):
        if not counts and str(int(key)) in {str(text).strip() for i, text in enumerate(texts) if i != key}:
            doubt = f"{int(key)} is the place of one option (from 0) and the text of another; write the letter"
        key = letters[int(key)]
    return _Fields(question, list(zip(letters, texts, strict=True)), (key,), explanation, "", renamed, doubt)
