"""Read the key of a choice question: what people write for `A` or `AC`, as letters, or why it cannot be told.

| written | read as |
| --- | --- |
| `A` `a` `Ａ` `(A)` `A。` `<p>A</p>` `A&nbsp;` `$\\text{A}$` | A |
| `【答案】A` `答案：A` `答案是A` `选A` `故选：A` `A项` `The answer is A` | A |
| `AC` `A,C` `A、C` `A;C` `A+C` `A和C` `A and C` `A C` `(A)(C)` `["A","C"]`, a list of keys | AC, in the order written |
| `A.铁` `(A) 铁` `A.铁;C.铝` | A, AC, where each text is that option's own |
| an option's text | that option, if one alone has it |
| a word for true or false beside two such options | that option |

All else is a reason: `no-answer`, `answer-names-no-option` (letters that no option has), `bad-answer`. `A-C` may be two
options or three, `A或C` is no key, and a word such as `bad` is none though it is made of letters.
"""

import html
import math
import re
from itertools import pairwise
from typing import Any

from steel_data.errors import excerpt
from steel_data.row.nfkc import nfkc

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Options = tuple[tuple[str, str], ...]  # (label, text)

# What people write where a text should be. Compared after `bare`, so `略．` and `N/A` are found too.
_NO_TEXT = """
略 无 暂无 没有 省略 无解析 暂无解析 此题暂无解析 本题暂无解析 暂缺 缺 解析略 略解 答案略 过程略 解略 证明略 同上
见解析 见详解 见答案 见分析 见解答 详见解析 如图 见图 图略 推理题目 不要搜题
答案请写在答题卡上 答案请写在答题纸上 请在答题卡上作答 在答题卡上提交 na nan none null noexplanation
"""
NO_TEXT = frozenset(_NO_TEXT.split())

_TRUE = "正确 对 √ ✓ ✔ ☑ 是 真 t true y yes right correct"
_FALSE = "错误 错 不正确 不对 × ✗ ✘ ✕ 否 不是 假 f false n no wrong incorrect"
_TRUTH = dict.fromkeys(_TRUE.split(), True) | dict.fromkeys(_FALSE.split(), False)

_NOT_WORD = re.compile(r"\\(?:text(?:bf|rm)?|math(?:rm|bf)|rm)|[^\w\\]+|[_\\]")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|\\(?:text(?:bf|rm)?|math(?:rm|bf)|rm)(?![A-Za-z])")
# 【答案】, 故本题正确答案为：, 应选, the correct answer is … Several may follow each other: 答案：选A.
_LEAD = re.compile(
    r"(?:[\s\[(【]*(?:"
    r"(?:故|因此|所以|综上|即|则|[,，\s])*(?:本题|此题|该题)?的?(?:正确|参考|标准|最终)?(?:答案|选项|应?选择?|答)(?:应?[是为选])?"
    r"|(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:answers?|options?|choices?)\b(?:\s+(?:is|are)\b)?"
    r")[\s\])】]*[:：=]*\s*)+",
    re.IGNORECASE,
)
_BETWEEN = re.compile(
    r"(?:[\s,;/.|&、。·:()\[\]{}<>【】〔〕《》「」'\"“”‘’$\\+\u200b\ufeff和与及跟-]|以及|and\b|选?项)+"
)
_BEFORE_TEXT = re.compile(r"[\s.。、:)\]】(]*")
_RANGE = re.compile(r"([A-Z])\s*-\s*([A-Z])")
_TOKEN = re.compile(r"[A-Za-z]+|\d+")


def bare(text: str) -> str:
    """Return the word characters of a short `text` in lower case; a long one as it is (it is no placeholder)."""
    text = text.strip()
    return _NOT_WORD.sub("", text).casefold() if len(text) <= 40 else text


class NotTextError(Exception):
    """A field holds a list or an object where a text belongs; becomes the reason `bad-field`."""


def text_of(value: Any) -> str:
    """Return a field as text: null and NaN are empty, a number is its shortest form, a text stays as it is."""
    if type(value) is str:
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    raise NotTextError(f"a {type(value).__name__} where a text belongs")


def read_key(value: Any, options: Options, renamed: dict[str, str] | None = None) -> tuple[str, str]:
    """Return (letters, "") or ("", reason). `renamed`: the row's own labels -> the letters of `options`."""
    if not renamed and value in [label for label, _ in options]:  # nearly every row
        return value, ""
    if isinstance(value, list | tuple):
        return _listed(list(value), options, renamed)
    try:
        written = text_of(value).strip()
    except NotTextError as error:
        return "", f"bad-answer: {error}"
    if not written or bare(written) in NO_TEXT:
        return "", "no-answer"
    if renamed and written in renamed:
        return renamed[written], ""
    if (named := _named(written, options)) and len(written) > 1:
        return named, ""
    if written[0] == "[" and written[-1] == "]" and len(parts := written[1:-1].split(",")) > 1:
        key, fault = _listed([part.strip(" '\"\\") for part in parts], options, renamed)
        if key:
            return key, fault
    return _written(written, options, renamed)


def _listed(parts: list[Any], options: Options, renamed: dict[str, str] | None) -> tuple[str, str]:
    """Read a list of keys, in its order; what stands twice is a fault."""
    if any(isinstance(part, bool) or not isinstance(part, str | int) for part in parts):
        return "", "bad-answer: a list of other things than texts"
    read = [read_key(part, options, renamed) for part in parts if _BETWEEN.sub("", str(part))]
    if fault := next((fault for key, fault in read if not key), "" if read else "no-answer"):
        return "", fault
    letters = "".join([key for key, _ in read])
    if len(read) == 1:
        return letters, ""
    if len(set(letters)) < len(letters):
        return "", f"bad-answer: the list names {next(c for c in letters if letters.count(c) > 1)} twice"
    return letters, ""


def _named(written: str, options: Options) -> str:
    """Return the label of the one option whose text this is, or nothing."""
    named = [label for label, text in options if text.strip() == written]
    return named[0] if len(named) == 1 else ""


def _written(written: str, options: Options, renamed: dict[str, str] | None) -> tuple[str, str]:
    """Read a key that is a text and no option's text."""
    plain = _MARKUP.sub("", html.unescape(written)) if _has_markup(written) else written
    plain = " ".join(nfkc(plain).split())
    rest = plain[lead.end() :].strip() if (lead := _LEAD.match(plain)) else plain
    if not rest or bare(rest) in NO_TEXT:
        return "", "no-answer" if rest or _has_markup(written) or lead else f"bad-answer: {excerpt(written, 40)}"
    labels = _labels(options, renamed)
    letters, fault = _letters(rest, options, labels)
    if letters:
        return letters, ""
    truth = _TRUTH.get(rest.strip("。.").casefold())
    if truth is not None and is_truth_pair(options):
        return next(label for label, text in options if _TRUTH[text.strip().casefold()] is truth), ""
    for text in (written, rest, rest.rstrip("。.;；")):
        if named := _named(text, options):
            return named, ""
    return "", fault or f"bad-answer: {excerpt(written, 40)}"


def _has_markup(text: str) -> bool:
    return "<" in text or "&" in text or "\\" in text


def _labels(options: Options, renamed: dict[str, str] | None) -> dict[str, str]:
    """Return what may stand for each option; letters too where the row's own labels are none."""
    if renamed is None:
        return {label: label for label, _ in options}
    own = {nfkc(old).strip().upper(): new for old, new in renamed.items()}
    return own if any(label in LABELS for label in own) else {label: label for label, _ in options} | own


def _letters(written: str, options: Options, labels: dict[str, str]) -> tuple[str, str]:
    """Return the letters that stand in `written`, or ("", reason), or ("", "") where something else stands there too.

    A letter may be followed by its own option's text. Where that text looks like more letters, nobody knows.
    """
    bad = f"bad-answer: {excerpt(written, 40)}"
    if (span := _RANGE.fullmatch(written.upper())) and ord(span[2]) - ord(span[1]) > 1:
        return "", f"{bad} may be two options or all between them"
    texts = {label: _folded(text) for label, text in options}
    out, at, alone, unknown = "", 0, True, False
    while at < len(written):
        if between := _BETWEEN.match(written, at):
            at = between.end()
            continue
        token = _TOKEN.match(written, at)
        if token is None:
            return "", _other_text(out, written[at:], texts, bad)
        at = token.end()
        label = labels.get(token[0].upper())
        if label and (end := _after_text(written, at, texts[label])):
            out, at, alone = out + label, end, False
        elif label:
            out += label
        elif token[0].isdigit() or _is_word(token[0]):
            return "", _other_text(out, written[token.start() :], texts, bad)
        elif all(letter in labels for letter in token[0].upper()):
            out += "".join([labels[letter] for letter in token[0].upper()])
        elif token[0].islower() and len(token[0]) > 1:
            return "", bad
        else:
            unknown = True
            out += token[0].upper()
    if unknown:
        return "", f"answer-names-no-option: {out}" if len(out) <= 8 else bad
    plain = "" if alone else _BETWEEN.sub("", written).upper()
    if plain != out and plain and set(plain) <= set(labels):
        return "", f"{bad} may be letters or a letter with its option's text"
    return out, ""


def _is_word(run: str) -> bool:
    """Whether letters are a word rather than a key: small ones count as a key only in the alphabet's order."""
    return not (run.isupper() or len(run) == 1 or (run.islower() and all(a < b for a, b in pairwise(run))))


def _folded(text: str) -> str:
    plain = _MARKUP.sub("", html.unescape(text)) if _has_markup(text) else text
    return " ".join(nfkc(plain).split()).rstrip("。.;").casefold()


def _after_text(written: str, at: int, text: str) -> int:
    """Return where an option's own text that begins at `at` ends, or 0. A text of letters needs a mark before it."""
    mark = _BEFORE_TEXT.match(written, at)
    begin = mark.end() if mark else at
    if not text or written[begin : begin + len(text)].casefold() != text or (begin == at and text[0].isascii()):
        return 0
    end = begin + len(text)
    joined = end < len(written) and not _BETWEEN.match(written, end)
    return 0 if joined and (text[-1].isascii() or not written[end].isascii()) else end


def _other_text(letters: str, rest: str, texts: dict[str, str], bad: str) -> str:
    """Return the reason where a letter is followed by another option's text; nothing where no letter stood before."""
    if not letters:
        return ""
    other = next((label for label, text in texts.items() if text and text == _folded(rest)), "")
    return f"{bad} names {letters} and has the text of {other}" if other and other != letters[-1] else bad


def is_truth_pair(options: Options) -> bool:
    """Whether there are two options, one that says true and one that says false."""
    if len(options) != 2:
        return False
    return {_TRUTH.get(text.strip().casefold()) for _, text in options} == {True, False}
