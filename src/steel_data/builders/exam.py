"""Multiple-choice items as conversations, in the wordings of `wordings.toml` (preset `steel`: the Steel-LLM post).

Preset `steel` keeps every character of question, options, explanation and type, stray newlines and blanks included;
only the *key* is brought to one form (letters without separators), since it is a label and not text. The other presets
strip around each text.

The layout is told by the columns: WanJuan, C-Eval, CMMLU, MMLU, ARC, OpenBookQA, LogiQA, RACE, AGIEval, GAOKAO-Bench,
MedQA, CMB and JEC-QA (docs/datasets.md says how they look); anything else is said with `columns`.

| the row | what becomes of it | counted as |
| --- | --- | --- |
| option E and further | kept like any option | note `option-e` |
| an unused option between used ones | left out, the letters stay | note `option-gap` |
| an option of blanks only, null or NaN | unused | - |
| several answers: letters strictly increasing (`AC`) | key `AC` | note `several-answers` |
| any other run of letters (`ADA`): answers of sub-questions | kept in order | note `sequence` |
| the same in AGIEval, CMB and JEC-QA, where a row is one question | in order | note `several-answers` |
| several letters, with `several = "drop"` | no record | reason `several-answers` |
| `A,C` `A、C` `A+C` `ＡＣ` `ac` `(A)` `["A","C"]`, an option's text, an index | as letters | note `key-rewritten` |
| `【答案】A` `答案：A` `故选A` `<p>A</p>` `A&nbsp;` `The answer is A` | as letters | note `key-rewritten` |
| `A.铁`: a letter and that option's own text | as letters | note `key-rewritten` |
| a passage (`article`, `passage`, `context`, `material`, …) | before the question, a line break between | - |
| every option carries its own label (`A.铁`, `(A) iron`, `A、铁`) | the label is taken off | note `labels-inside` |
| the same in a list, in another order (`(A)…`, `(C)…`, `(B)…`) | by these labels | note `labels-inside` |
| GAOKAO-Bench: `A.` `B.` `C.` … once each in the question's text | taken out as options | note `options-inside` |
| two options that mean true and false (正确/错误, 对/错, √/×, …) | key may be such a word | note `true-false` |
| empty or placeholder `std_ans`, key in `answer` | `answer` counts | note `key-in-answer` |
| ARC's labels `1` to `4` | A to D by position | note `labels-renamed` |
| answer-first without explanation (empty, null, NaN) | as answer-only: `C。` | note `no-explanation` |
| answer-first, explanation `略`, `无`, `见解析`, … | the same | note `placeholder-explanation` |
| answer-first, explanation only `故选：C` or the key | kept as it is | note `only-conclusion` |
| explain-first, any of these three | no record | reason `no-explanation` |
| explain-first, the explanation concludes another answer than the key | kept as worded | note `contradicts-key` |
| explain-first, the cut takes over 40 characters (`故选项A…`) | cut as worded | note `cut-midway` |
| `{type}` wanted, the row has none | the wording's word for the item's form | note `type-supplied` |
| fewer than two options | no record | reason `not-choice` |
| no question | no record | reason `no-question` |
| key empty, null or a placeholder | no record | reason `no-answer` |
| a letter that names no option | no record | reason `answer-names-no-option` |
| a key that is neither letters nor an option's text (`A或C`, `A-C`, `不选A`) | no record | reason `bad-answer` |
| a letter with another option's text (`A.铜`), two columns of keys that disagree | no record | reason `bad-answer` |
| an option `略`, `见图`, `答案请写在答题卡上`, …, a passage `见图` | no record | reason `placeholder` |
| a list or object where a text belongs, options labelled out of place | no record | reason `bad-field` |
| a label missing among those that the options carry, JSON with a key twice | no record | reason `bad-field` |
| columns of no known layout, an option's column missing, two different passages | no record | reason `columns` |

Placeholders are the words of `keys.NO_TEXT` (options: `item_rows.NO_OPTION`). A reason is what stands before `: `, the
rest is detail. A record's `note` joins its notes with commas.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple, cast, get_args

import xxhash

from steel_data.benchmarks import layouts
from steel_data.benchmarks.conclusion import contradicts
from steel_data.benchmarks.item_rows import ExamItem, read_item
from steel_data.benchmarks.keys import NO_TEXT, bare
from steel_data.benchmarks.layouts import check_columns
from steel_data.errors import InputError, nearest
from steel_data.row.record import Record

Style = Literal["answer-first", "explain-first", "answer-only"]
STYLES: tuple[Style, ...] = get_args(Style)
Several = Literal["as-worded", "named", "drop"]
SEVERAL: tuple[Several, ...] = get_args(Several)

# A conclusion is short ("故选：C。"). When more than this falls with it, reasoning fell too.
_CONCLUSION = 40
# What may stand before a conclusion without being an explanation: 解：, 【解答】, 试题分析： …
_OPENER = re.compile(r"(?:试题|参考)?(?:解析|分析|详解|点评|答案|解|答|故|因此|所以)*")


class Wording(NamedTuple):
    """One table of `wordings.toml`, ready to use."""

    strip: bool
    row_type: bool
    cut: re.Pattern[str]
    option: str
    types: dict[str, str]
    user: dict[str, str]
    assistant: dict[str, str]


def exam(
    row: dict[str, Any],
    *,
    style: Style | dict[Style, float] = "answer-first",
    preset: str = "steel",
    columns: dict[str, str | list[str]] | None = None,
    several: Several = "as-worded",
    seed: int = 42,
) -> list[Record] | str:
    """Return one record of kind `exam` with a user and an assistant turn, or the reason why there is none.

    style: one for all rows, or a table of shares that sum to 1; then each row's style depends only on `seed` and the
      row's own question and options, and growing one share keeps the rows it already had.
    preset: the wording, a table of wordings.toml: `steel`, `steel-en`, `plain`, `plain-en`.
    columns: `question`, `options`, `answer`, `explanation`, `type`, `passage` -> columns of the rows (options: or a
      list of them).
    several: what becomes of a key of several letters. `as-worded`: as the preset has it; `steel` calls every question
      单选题 where the answer comes first, as the post does. `named`: the question is called what it is (多选题, of
      sub-questions 选择题). `drop`: no record.
    seed: of the shares of `style`; by default the recipe's.

    Raises InputError for an unknown preset, style, field or word of `several`, and for shares that do not sum to 1,
    whatever the row.
    """
    wording = load_wording(preset)
    shares = _check_style(style)
    if columns is not None:
        check_columns(columns)
    if several not in SEVERAL:
        raise InputError(f"build.several: unknown word '{several}'.{nearest(several, SEVERAL)}")
    item = read_item(row, columns)
    if isinstance(item, str):
        return item
    if len(item.key) > 1 and several == "drop":
        return f"several-answers: {item.key}"
    if len(item.key) > 1 and several == "named":
        item, wording = _named(item, wording)
    written = turns(item, shares if isinstance(shares, str) else pick_style(item, shares, seed), wording)
    if isinstance(written, str):
        return written
    user, assistant, notes = written
    record: Record = {
        "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}],
        "kind": "exam",
    }
    if notes:
        record["note"] = ",".join(notes)
    return [record]


def _named(item: ExamItem, wording: Wording) -> tuple[ExamItem, Wording]:
    """Return both so that they call the question what it is, where they would say that it has one answer."""
    single, word = wording.types["single"], wording.types[item.form]
    user = {style: text.replace(single, word) for style, text in wording.user.items()}
    return item._replace(type=word if item.type.strip() == single else item.type), wording._replace(user=user)


def columns_read(columns: tuple[str, ...], options: Mapping[str, Any]) -> set[str]:
    """Return which of a row's columns `exam` reads with these options."""
    return layouts.columns_read(columns, options.get("columns"))


def turns(item: ExamItem, style: Style, wording: Wording) -> tuple[str, str, tuple[str, ...]] | str:
    """Return (user text, assistant text, notes) of an item, or the reason `no-explanation`."""
    question, explanation, kind = item.question, item.explanation, item.type
    option, notes = wording.option, item.notes
    if wording.strip:
        question, explanation = question.strip(), explanation.strip()
        options = "".join([option.format(label=label, text=text.strip()) for label, text in item.options])
    else:
        options = "".join([option.format(label=label, text=text) for label, text in item.options])
    form = style
    if style != "answer-only":
        explanation, added, reason = _explanation(explanation, style, item.key, wording)
        if reason:
            return reason
        if added:
            notes = (*notes, added)
        if style == "explain-first" and contradicts(item.explanation, item.key):  # the cut may hide it
            notes = (*notes, "contradicts-key")
        if not explanation:
            form = "answer-only"  # only the assistant's side: `C。`, not `C。` and a dangling line
    user = wording.user[style]
    if "{type}" in user and not (wording.row_type and kind.strip()):
        kind = wording.types[item.form]
        if wording.row_type:
            notes = (*notes, "type-supplied")
    return (
        user.format(question=question, options=options, type=kind),
        wording.assistant[form].format(answer=item.key, explanation=explanation),
        notes,
    )


def _explanation(text: str, style: Style, key: str, wording: Wording) -> tuple[str, str, str]:
    """Return (explanation to write, note, reason) for the two styles that show one."""
    missing = "" if text.strip() else "no-explanation"
    if not missing and bare(text) in NO_TEXT:
        missing = "placeholder-explanation"
    if style == "answer-first":
        if missing:
            return "", missing, ""
        # A long text is never a conclusion alone, so the search is spared.
        alone = len(text) <= 4 * _CONCLUSION and _says_nothing(wording.cut.sub("", text, count=1), key)
        return text, "only-conclusion" if alone else "", ""
    if missing:
        return "", "", f"no-explanation: {missing}"
    found = wording.cut.search(text)
    if found is None:
        return ("", "", "no-explanation: only the key") if _says_nothing(text, key) else (text, "", "")
    kept = text[: found.start()] + text[found.end() :]
    if _says_nothing(kept, key):
        return "", "", "no-explanation: only a conclusion"
    long_cut = len(found.group().strip()) > _CONCLUSION
    return kept.strip() if wording.strip else kept, "cut-midway" if long_cut else "", ""


def _says_nothing(text: str, key: str) -> bool:
    """Whether a text holds no more than an opener (`解：`), a placeholder or the key."""
    rest = bare(text)
    return len(rest) <= 24 and (rest == key.casefold() or rest in NO_TEXT or _OPENER.fullmatch(rest) is not None)


def pick_style(item: ExamItem, shares: tuple[tuple[Style, float], ...], seed: int) -> Style:
    """Return the style of an item under a table of shares.

    Weighted rendezvous hashing (Thaler & Ravishankar 1998; weights as Mosharaf et al.): each style draws an exponential
    variate of rate `share` from the item's hash, the smallest wins. So growing one share never takes a row from it.
    """
    parts = [item.question, *[text for _, text in item.options]]
    text = "\x1f".join([str(seed), *parts]).encode("utf-8", "surrogatepass")
    best, chosen = math.inf, shares[0][0]
    for style, share in shares:
        uniform = (xxhash.xxh3_64_intdigest(text, seed=STYLES.index(style)) + 0.5) / 2.0**64
        if share > 0 and (drawn := -math.log(uniform) / share) < best:
            best, chosen = drawn, style
    return chosen


def _check_style(style: Style | dict[Style, float]) -> Style | tuple[tuple[Style, float], ...]:
    if isinstance(style, str):
        if style not in STYLES:
            raise InputError(f"build.style: unknown style '{style}'.{nearest(style, STYLES)}")
        return style
    return _check_shares(tuple(style.items()))


@lru_cache(maxsize=64)
def _check_shares(shares: tuple[tuple[Style, float], ...]) -> tuple[tuple[Style, float], ...]:
    for style, share in shares:
        if style not in STYLES:
            raise InputError(f"build.style: unknown style '{style}'.{nearest(style, STYLES)}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InputError(f"build.style.{style}: {share!r} is no share. Fix: a number from 0 to 1.")
    total = math.fsum(share for _, share in shares)
    if abs(total - 1) > 1e-9:
        raise InputError(f"build.style: the shares sum to {total:g}. Fix: shares that sum to 1.")
    return shares


@lru_cache(maxsize=1)
def _tables() -> dict[str, Any]:
    return tomllib.loads(files("steel_data.builders").joinpath("wordings.toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def load_wording(preset: str) -> Wording:
    """Return the wording named `preset`; InputError names the known ones."""
    tables = _tables()
    if preset not in tables:
        raise InputError(f"build.preset: unknown wording '{preset}'.{nearest(preset, tables)}")
    table = cast(dict[str, Any], tables[preset])
    return Wording(**{**table, "cut": re.compile(table["cut"])})
