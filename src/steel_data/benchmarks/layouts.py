"""Tell the published layout of an exam row and take its fields out; `layouts.toml` has the table, with a row of each.

One column of options holds a list of texts, a list of {label, text}, an object of two lists (`text`, `label`), an
object {A: …, B: …} (null: absent), or one of these as JSON text. Labels other than A, B, … are renamed by position. A
whole number as key of a *list* of options is a place from 0; in a column `options` it may be an option's text instead,
and where it is the text of another one, that is a fault. Options in the question's own text are taken out where
`A.`, `B.`, … (or `A、`) stand there once each, in order, after a blank or at a line's begin; the last may not run on
into further lines where the others do not.

A passage (`passage`, `article`, `context`, `material`, …) stands before the question with a line break between, in
every layout; an empty one is nothing, nor is one that the question holds already. Two that differ are a fault.
"""

import ast
import re
import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from steel_data.benchmarks.keys import LABELS, NO_TEXT, NotTextError, bare, text_of
from steel_data.errors import InputError, excerpt, nearest
from steel_data.row.json_text import TwiceError, from_json
from steel_data.row.nfkc import nfkc

COLUMN_NAMES = ("question", "options", "answer", "explanation", "type", "passage")
PASSAGES = (
    "passage",
    "article",
    "context",
    "material",
    "materials",
    "background",
    "story",
    "paragraph",
    "材料",
    "短文",
)
_NONE = frozenset(("无", "暂无", "没有", "na", "nan", "none", "null"))  # these say that there is no passage
_AROUND_LABEL = " \t.、:()"
_JSON_LENGTH = 20_000  # characters; longer texts are no options
_INSIDE = tuple(re.compile(rf"(?:^|(?<=[\s）)]))([A-Z])\s*{mark}\s*", re.MULTILINE) for mark in ("[.．]", "、"))


class Layout(NamedTuple):
    """One entry of layouts.toml: the columns of each field. `options`: one column, or a pattern with a letter."""

    name: str
    source: str
    question: str
    options: str
    key: tuple[str, ...]
    explanation: str = "explanation"
    type: str = ""
    passage: str = ""
    a_set: bool = False
    row: str = ""
    asks: str = ""
    says: str = ""


class Fields(NamedTuple):
    """What a row says, before its texts are looked at; `keys` are (column, value)."""

    question: Any
    options: list[tuple[str, Any]]
    keys: tuple[tuple[str, Any], ...]
    explanation: Any
    type: Any = ""
    passages: tuple[tuple[str, Any], ...] = ()
    renamed: dict[str, str] | None = None  # labels of the row that are not letters -> ours
    inside: bool = False  # the options stood in the question's text
    a_set: bool = False  # several letters are a set, never the answers of sub-questions
    by_place: bool = False  # the letters of the options are their places in a list, and no key is a place


class _Fit(NamedTuple):
    """What a row's column names say: the layout, columns of its letters, passages, names that differ by case alone."""

    layout: Layout
    letters: tuple[tuple[str, str], ...]
    passages: tuple[str, ...]
    twice: bool


@lru_cache(maxsize=1)
def layouts() -> tuple[Layout, ...]:
    """Return the entries of layouts.toml, in the order in which a row is tried against them."""
    table = tomllib.loads(files("steel_data.benchmarks").joinpath("layouts.toml").read_text(encoding="utf-8"))
    return tuple([Layout(**{**entry, "key": tuple(entry["key"])}) for entry in table["layout"]])


def column_of(name: str) -> str:
    """Return a column's name as the layouts have it: without blanks around it, lower case, a letter in upper case."""
    name = name.strip()
    return name.upper() if len(name) == 1 else "answerKey" if name.lower() == "answerkey" else name.lower()


def folded(row: dict[str, Any]) -> dict[str, Any] | str:
    """Return a row under the layouts' names of its columns, or the reason where two of one name say two things."""
    named: dict[str, Any] = {}
    for name, value in row.items():
        own = column_of(name)
        if own in named and named[own] != value and own in _known():
            return f"columns: two columns are '{own}' and say two things; {_has(row)}"
        named.setdefault(own, value)
    return named


def layout_of(columns: tuple[str, ...]) -> Layout | None:
    """Return the layout that the names of columns say, or None. Where `options` is `question` only the row can tell."""
    fit = _fit(columns) or _fit(tuple(dict.fromkeys(map(column_of, columns))))
    return fit.layout if fit else None


def recognised(row: dict[str, Any]) -> Fields | str:
    """Return the fields of a row by the layout that its columns say, or the reason why there are none."""
    fit = _fit(tuple(row))
    if fit is None or fit.twice:
        named = folded(row)
        if isinstance(named, str):
            return named
        row, fit = named, _fit(tuple(named))
    if fit is None:
        unfold = "; unfold it: jq -c '.example[]' FILE > rows.jsonl" if isinstance(row.get("example"), list) else ""
        return f"columns: no exam layout fits; {_has(row)}{unfold}"
    layout = fit.layout
    question = _at(row, layout.question)
    keys = tuple([(name, row[name]) for name in layout.key if name in row])
    kind = row.get(layout.type) if layout.type else ""
    passages = tuple([(name, row[name]) for name in fit.passages])
    options = [(letter, row[name]) for letter, name in fit.letters]
    fields = Fields(question, options, keys, _at(row, layout.explanation), kind, passages, a_set=layout.a_set)
    if options:
        return fields
    if layout.options == layout.question:
        taken = options_inside(question) if isinstance(question, str) else None
        if taken is None:
            return f"columns: no column of options is known and none stand in the question; {_has(row)}"
        return fields._replace(question=taken[0], options=list(taken[1]), inside=True)
    if "{" in layout.options:
        return "not-choice: 0 option(s)"
    # `options` may hold the key's own text as well as its place; the other layouts say that they count
    return _listed(
        fields, _at(row, layout.options), counts=layout.options != "options" or layout.key[0] == "correct_option"
    )


def without_options(row: dict[str, Any]) -> Fields:
    """Return the fields of a question that is answered in words, from the row's `question` and `answer`."""
    passages = tuple([(name, value) for name, value in row.items() if column_of(name) in PASSAGES])
    return Fields(row["question"], [], (("answer", row.get("answer")),), row.get("explanation"), passages=passages)


def mapped(row: dict[str, Any], columns: dict[str, str | list[str]]) -> Fields | str:
    """Take the fields by the recipe's `columns`; a column that the row lacks is the reason `columns`."""
    flat = [name for value in columns.values() for name in ([value] if isinstance(value, str) else value)]
    missing = [name for name in flat if name not in row]
    if missing:
        return f"columns: the row has no '{missing[0]}'; it has {excerpt(', '.join(map(str, row)), 200)}"
    one = {name: value for name, value in columns.items() if isinstance(value, str)}
    fields = Fields(
        row[one["question"]],
        [],
        ((one["answer"], row[one["answer"]]),),
        row[one["explanation"]] if "explanation" in one else None,
        row[one["type"]] if "type" in one else None,
        ((one["passage"], row[one["passage"]]),) if "passage" in one else (),
    )
    where = columns["options"]
    if isinstance(where, str):
        return _listed(fields, row[where], counts=False)
    options = [(LABELS[i], row[name]) for i, name in enumerate(where)]
    return fields._replace(options=options, renamed=_numbered(where, [text for _, text in options]))


def _numbered(columns: list[str], texts: list[Any]) -> dict[str, str] | None:
    """Return which letter a number as key stands for where columns of options end in numbers (`choice0`, `option1`).

    None where one does not, or where an option is a number itself: it may be the option's text that is meant.
    """
    ends = [re.search(r"\d+$", name) for name in columns]
    numbers = [str(int(end[0])) for end in ends if end]
    if len(set(numbers)) < len(columns) or any(str(text).strip().isdecimal() for text in texts):
        return None
    return dict(zip(numbers, LABELS, strict=False))


def columns_read(names: tuple[str, ...], columns: dict[str, str | list[str]] | None = None) -> set[str]:
    """Return which of a row's columns `recognised` reads, or `mapped`; all of a row that it refuses by its columns."""
    if columns is not None:
        flat = {name for value in columns.values() for name in ([value] if isinstance(value, str) else value)}
        return flat if flat <= set(names) else set(names)
    fit = _fit(names)
    if fit is not None and not fit.twice:
        return _read_by(fit) & set(names)
    own = {name: column_of(name) for name in names}
    fit = _fit(tuple(dict.fromkeys(own.values())))
    return set(names) if fit is None else {name for name in names if own[name] in _read_by(fit)}


def _read_by(fit: _Fit) -> set[str]:
    """Return the columns that a layout reads; of `a.b` column a."""
    layout = fit.layout
    columns = {layout.question, layout.explanation, layout.type, *layout.key, *fit.passages}
    columns |= {name for _, name in fit.letters} if "{" in layout.options else {layout.options}
    return {column.partition(".")[0] for column in columns if column}


def columns_asked(names: tuple[str, ...]) -> set[str]:
    """Return which of a benchmark's columns `read_question` reads, the subject included."""
    folded_names = {name: column_of(name) for name in names}
    fit = _fit(tuple(dict.fromkeys(folded_names.values())))
    asked = _read_by(fit) if fit is not None else {"question", "answer", "explanation", *PASSAGES}
    return {name for name in names if folded_names[name] in asked | {"subject"}}


def check_columns(columns: dict[str, str | list[str]]) -> None:
    """Raise InputError unless `columns` names question, options and answer, and nothing unknown."""
    for name, value in columns.items():
        if name not in COLUMN_NAMES:
            raise InputError(f"build.columns: unknown field '{name}'.{nearest(name, COLUMN_NAMES)}")
        if not isinstance(value, str) and (name != "options" or not 2 <= len(value) <= len(LABELS)):
            raise InputError(
                f"build.columns.{name}: several names. Fix: one column name (`options`: or a list of 2 to 26 names)."
            )
    for name in COLUMN_NAMES[:3]:
        if name not in columns:
            raise InputError(f"build.columns: '{name}' is missing. Fix: question, options, answer are all named.")


def question_of(fields: Fields) -> tuple[str, str]:
    """Return (question with its passage before it, "") or ("", reason). Raises NotTextError for a list or an object."""
    if any(isinstance(value, bool) for value in (fields.question, *[value for _, value in fields.passages])):
        raise NotTextError("a bool where a text belongs")
    question = text_of(fields.question)
    if not fields.passages or not question.strip():
        return question, ""
    found: dict[str, str] = {}
    for name, value in fields.passages:
        passage = text_of(value)
        word = bare(passage)
        if word in NO_TEXT - _NONE:
            return "", f"placeholder: {name} is '{excerpt(passage.strip(), 30)}'"
        held = passage.strip() in question or (name == "text" and question.strip() in passage)
        if word not in _NONE and not held and passage.strip() not in {text.strip() for text in found.values()}:
            found[name] = passage
    if len(found) > 1:
        return "", f"columns: two passages, in {' and '.join(found)}"
    return "".join([f"{passage}\n" for passage in found.values()]) + question, ""


def options_inside(text: str) -> tuple[str, tuple[tuple[str, str], ...]] | None:
    """Return (question, options) where options stand in a question's own text by the rule above, else None."""
    for mark in _INSIDE:
        found = list(mark.finditer(text))
        labels = "".join([label[1] for label in found])
        if len(labels) < 3 or labels != LABELS[: len(labels)]:
            continue
        ends = [*[label.start() for label in found[1:]], len(text)]
        texts = [text[label.end() : end].strip() for label, end in zip(found, ends, strict=True)]
        if all(texts) and ("\n" not in texts[-1] or any("\n" in option for option in texts[:-1])):
            return text[: found[0].start()].rstrip(), tuple(zip(labels, texts, strict=True))
    return None


@lru_cache(maxsize=256)
def _fit(names: tuple[str, ...]) -> _Fit | None:
    """Return what the names of columns say, or None where no layout fits."""
    there = set(names)

    def fits(layout: Layout) -> bool:
        first = layout.options.format(a="a", A="A").partition(".")[0]
        if "{A}" in layout.options and "B" not in there:  # one letter may be anything
            return False
        wanted = {layout.question.partition(".")[0], layout.passage or layout.question.partition(".")[0]}
        return wanted <= there and (first in there or layout.question == "q_main")

    fitting = [layout for layout in layouts() if fits(layout)]
    # an object `question` (dotted) cannot be told from a text by its name, only by its key beside it
    layout = next((one for one in fitting if one.key[0] in there), None)
    layout = layout or next((one for one in fitting if "." not in one.question), None)
    if layout is None:
        return None
    letters = []
    if "{" in layout.options:
        columns = [(label, layout.options.format(a=label.lower(), A=label)) for label in LABELS]
        letters = [(label, name) for label, name in columns if name in there]
    passages = tuple([name for name in names if column_of(name) in PASSAGES or (name and name == layout.passage)])
    twice = len({column_of(name) for name in names}) < len(names)
    return _Fit(layout, tuple(letters), passages, twice)


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    """Return the names of all columns that a layout reads, as `column_of` gives them."""
    names = [
        name
        for one in layouts()
        for name in (one.question, one.options, one.explanation, one.type, one.passage, *one.key)
    ]
    wanjuan = [f"option_{label.lower()}" for label in LABELS]
    return frozenset([*map(column_of, names), *LABELS, *wanjuan, *PASSAGES])


def _has(row: dict[str, Any]) -> str:
    return f"the row has {excerpt(', '.join(map(str, row)), 200)}"


def _at(row: dict[str, Any], column: str) -> Any:
    """Return what stands in a column, `a.b`: under b of the object in a; null where it is absent."""
    if "." not in column:
        return row.get(column)
    name, _, inner = column.partition(".")
    value = row.get(name)
    return value.get(inner) if isinstance(value, dict) else None


def _listed(fields: Fields, choices: Any, counts: bool) -> Fields | str:
    """Read the options of one column. `counts`: the layout says that a whole number as key is a place."""
    if isinstance(choices, str):
        try:
            choices = _parsed(choices)
        except TwiceError as fault:
            return f"bad-field: {fault.msg} of the options"
    given: list[Any] = []
    if isinstance(choices, list) and choices and all(isinstance(choice, dict) for choice in choices):
        if all(len(choice) == 1 and "text" not in choice for choice in choices):  # [{A: …}, {B: …}]
            given, texts = map(list, zip(*[pair for choice in choices for pair in choice.items()], strict=True))
        else:
            texts = [_one_of(choice, "text", "value", "content") for choice in choices]
            given = [_one_of(choice, "label", "key") for choice in choices]
    elif isinstance(choices, dict) and "text" in choices:
        texts, given = choices["text"], choices.get("label") or []
    elif isinstance(choices, dict):
        there = {name: value for name, value in choices.items() if value is not None or _is_label(name)}
        if not all(map(_is_label, there)):
            return "not-choice: the options are no list"
        texts, given = list(there.values()), list(there)
    else:
        texts = choices
    if isinstance(given, list) and all(label is None for label in given):
        given = []
    if not isinstance(texts, list) or not isinstance(given, list) or (given and len(given) != len(texts)):
        return "not-choice: the options are no list"
    if len(texts) > len(LABELS):
        return f"not-choice: {len(texts)} options"
    letters, renamed = list(LABELS[: len(texts)]), None
    if given:
        labels = _labels(given)
        if isinstance(labels, str):
            return labels
        letters, renamed = labels
    else:
        keys = _counted(fields.keys, [str(text).strip() for text in texts], counts)
        if isinstance(keys, str):
            return keys
        fields = fields._replace(keys=keys, by_place=keys == fields.keys)
    options = sorted(zip(letters, texts, strict=True), key=lambda option: option[0])
    return fields._replace(options=options, renamed=renamed)


def _one_of(choice: dict[str, Any], *names: str) -> Any:
    return next((choice[name] for name in names if name in choice), None)


def _is_label(name: str) -> bool:
    """Whether a name in an object of options is a label: a letter or a number, `(A)` and `A.` too."""
    plain = nfkc(name).strip(_AROUND_LABEL)
    return plain.isdecimal() or (len(plain) == 1 and plain.upper() in LABELS)


def _parsed(text: str) -> Any:
    """Return the list or object that stands in a text as JSON or as Python writes it; else the text.

    Raises TwiceError where one object holds a key twice.
    """
    if text.strip()[:1] not in ("[", "{") or len(text) > _JSON_LENGTH:
        return text
    for parse in (from_json, _literal):
        try:
            return parse(text.strip())
        except TwiceError:
            raise
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _literal(text: str) -> Any:
    """Return the value of a Python literal. Raises TwiceError for a key twice in one dict."""
    for node in ast.walk(ast.parse(text, mode="eval")):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)] if isinstance(node, ast.Dict) else []
        if key := next((key for i, key in enumerate(keys) if key in keys[:i]), None):
            raise TwiceError(f"the key '{excerpt(str(key), 40)}' twice in one object", text, 0)
    return ast.literal_eval(text)


def _counted(keys: tuple[tuple[str, Any], ...], texts: list[str], counts: bool) -> tuple[tuple[str, Any], ...] | str:
    """Return the keys with letters for places from 0, or the reason where a number may be a place and a text.

    Where the layout `counts`, a number is a place and a text of digits is in doubt; elsewhere it is the other way.
    """
    out = []
    for name, value in keys:
        parts = value if isinstance(value, list) else [value]
        places = [int(part) for part in parts if _is_number(part) and part in range(len(texts))]
        number = bool(parts) and len(places) == len(parts)
        doubtful = places if number and not counts else []
        if counts and isinstance(value, str) and value.strip().isdecimal() and int(value) < len(texts):
            doubtful = [int(value)]
        if doubt := [place for place in doubtful if str(place) in texts[:place] + texts[place + 1 :]]:
            place = f"{doubt[0]} is the place of one option (from 0) and the text of another"
            return f"bad-answer: {place}; write the letter"
        if counts and _is_number(value) and not number:
            return f"answer-names-no-option: {value}" if value == value else "no-answer"  # NaN is none
        letters = [LABELS[place] for place in places]
        out.append((name, value if not number else letters if isinstance(value, list) else letters[0]))
    return tuple(out)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _labels(given: list[Any]) -> tuple[list[str], dict[str, str] | None] | str:
    """Return (our letter of each given label, what is renamed); a reason where one is missing or stands twice."""
    odd = (label for label in given if isinstance(label, bool) or not isinstance(label, str | int | float | None))
    if (label := next(odd, None)) is not None:
        return f"bad-field: a {type(label).__name__} as an option's label"
    names = [nfkc(str(label)).strip(_AROUND_LABEL) for label in given]
    folded = [name.upper() for name in names]
    if "" in names or any(label is None for label in given):
        return "not-choice: an option has no label"
    for kind in (lambda name: len(name) == 1 and name <= "H" and name in LABELS, str.isdecimal):
        if 0 < sum(map(kind, folded)) < len(folded) and not all(len(name) == 1 and name in LABELS for name in folded):
            return f"not-choice: the options have the labels {excerpt(', '.join(names), 40)}"
    if twice := next((name for name in folded if folded.count(name) > 1), ""):
        return f"not-choice: two options have the label {excerpt(twice, 20)}"
    if all(len(name) == 1 and name in LABELS for name in folded) and min(folded) < "E":
        return folded, None
    if all(name.isdecimal() for name in names):
        places = sorted(int(name) for name in names)
        if places != list(range(places[0], places[0] + len(places))):
            return f"not-choice: the options have the labels {excerpt(', '.join(names), 40)}"
        ours = {str(place): label for place, label in zip(places, LABELS, strict=False)}
        return [ours[str(int(name))] for name in names], {name: ours[str(int(name))] for name in names}
    ours = dict(zip(names, LABELS, strict=False))
    return list(ours.values()), ours
