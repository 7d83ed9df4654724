"""Faults of a row's text: residue of a chat template, equal answers of a pair, a conclusion against the key, …

| check | a row falls when |
| --- | --- |
| `template-residue` | a turn holds tokens of a chat template (`<\\|im_end\\|>`, `[INST]`, `</s>`, `<start_of_turn>`) |
| | or a line begins with `### Instruction:` or `### Response:`, in an answer also with `Human:` or `Assistant:` |
| `think-residue` | an answer holds `<think>` or `</think>`, and neither system nor user speaks of it |
| `same-answers` | chosen and rejected of a pair are equal, blanks around them aside |
| `contradicts-key` | the explanation of an exam row concludes (`故选C`) another answer than the row gives |
| `image-in-text` | a picture stood in the text (in Markdown, `<img …>`, `<image>`), which is text alone |
| `mojibake` | characters were lost or read in a wrong encoding (`\\uFFFD`, `ä½ å¥½`, `锟斤拷`, `浣犲ソ`) |
| `html` | tags or entities of HTML are left in the text (`<p>`, `<br>`, `&nbsp;`, `&lt;`) |

Each rather misses a fault than accuses a sound row. What stands in code fences or back ticks never counts, nor what a
tool said. Rows that speak of HTML, of Markdown, of tokens and templates, or of encodings are left alone by the check
concerned, and so are dialogues that were asked for; `<sub>`, `<sup>` and `<u>` carry meaning and are no fault.

All checks are made whichever are chosen, so that another choice computes nothing anew. What a check that is off would
have dropped is counted as a note, `quality:html`. Without the filter too, the card and manifest.json (`quality`) count
what each check finds in the rows that are kept: of a source of more than 5,000 rows in a sample, by hash.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import orjson
import polars as pl

from steel_data.benchmarks.conclusion import contradicts
from steel_data.errors import InputError, nearest
from steel_data.row.record import Message, turns_of

VERSION = "quality-1"
SAMPLE = (
    5_000  # rows of a source in which faults are counted where no step looks for them: all would cost 7 % of a build
)
CHECKS = (
    "template-residue", "think-residue", "same-answers", "contradicts-key", "image-in-text", "mojibake", "html",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Drop rows with a fault in their text.

    checks: the checks that drop rows, all unless some are named; the first that finds something is the reason. The
      others only count, so `[]` drops nothing.
    """

    checks: list[str] = field(default_factory=lambda: list(CHECKS))

    def __post_init__(self) -> None:
        """Refuse a check that there is not."""
        for name in self.checks:
            if name not in CHECKS:
                raise InputError(f"filter 'quality': no check '{name}'.{nearest(name, CHECKS)}")

    def verdict(self) -> pl.Expr:
        """Return the reason of the drop (`quality:html`), or null."""
        return pl.coalesce(_named(name, name in self.checks) for name in CHECKS)

    def notes(self) -> pl.Expr:
        """Return what the checks that are off found, joined by commas, or null."""
        off = [_named(name, name not in self.checks) for name in CHECKS]
        found = pl.concat_str(off, separator=",", ignore_nulls=True)
        return pl.when(found != "").then(found)


def found_by() -> pl.Expr:
    """Return the checks that find something in a row of what `faults` returns, joined by commas."""
    return pl.concat_str(
        [pl.when(pl.col(name)).then(pl.lit(name)) for name in CHECKS], separator=",", ignore_nulls=True
    )


def sampled(records: pl.DataFrame, share: float) -> pl.Series:
    """Return what `found_by` returns of the records whose id, a hash, lies in the first `share` of all; else null."""
    within = records["id"].is_not_null() if share >= 1 else records["id"] < f"{int(share * 2**32):08x}"
    drawn = within.fill_null(False)
    found = faults(records.select("messages", "kind", "note").filter(drawn)).select(found_by()).to_series()
    return pl.Series("quality", [None] * len(records), dtype=pl.String).scatter(drawn.arg_true(), found)


def _named(check: str, counts: bool) -> pl.Expr:
    return pl.when(pl.col(check) & counts).then(pl.lit(f"quality:{check}"))


def faults(records: pl.DataFrame) -> pl.DataFrame:
    """Return which checks find something in each record (`messages`, `kind`, `note`): a column of booleans a check."""
    body, kinds = records["messages"], records["kind"]
    noted = records["note"].str.contains("contradicts-key", literal=True)  # by the builder, which cuts conclusions off
    marked = (body.str.contains_any(_MARKS) | body.str.contains(_DOUBLE.pattern)).fill_null(False)
    looked = marked | (kinds.is_in(["exam", "preference"]) & body.is_not_null())
    found = {name: [False] * len(records) for name in CHECKS}
    for row in looked.arg_true().to_list():
        turns = orjson.loads(body[row])
        if isinstance(turns, dict):
            found["same-answers"][row] = "chosen" in turns and _bare(turns["chosen"]) == _bare(turns["rejected"])
            turns = turns_of(turns, rejected=True)
        text = _Text.of(turns)
        found["contradicts-key"][row] = kinds[row] == "exam" and (noted[row] or _contradicts_key(text))
        if marked[row]:
            for name, check in _IN_TEXT.items():
                found[name][row] = check(text)
    return pl.DataFrame(found, schema=dict.fromkeys(CHECKS, pl.Boolean))


def _bare(messages: list[Message]) -> list[Message]:
    return [{**message, "content": message["content"].strip()} for message in messages]


CODE = re.compile(r"(?s)```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`")


@dataclass(frozen=True)
class _Text:
    """What the checks look at: the prose (code left out) of each turn with text, but those of tools."""

    turns: list[tuple[str, str]]  # role, prose

    @classmethod
    def of(cls, messages: list[Message]) -> "_Text":
        said = [(m["role"], text) for m in messages for text in (m.get("reasoning_content"), m["content"]) if text]
        return cls([(role, prose(text)) for role, text in said if role != "tool"])

    @cached_property
    def whole(self) -> str:
        return "\n".join(text for _, text in self.turns)

    @cached_property
    def asked(self) -> str:
        """The turns of system and user."""
        return "\n".join(text for role, text in self.turns if role != "assistant")

    @cached_property
    def answers(self) -> list[str]:
        return [text for role, text in self.turns if role == "assistant"]


def prose(text: str) -> str:
    """Return a text with a blank for each code fence and each passage in back ticks."""
    return CODE.sub(" ", text) if "`" in text or "~~~" in text else text


# Chat templates

_NAME = r"(?!(?:begin|end)_of_(?:thought|solution)|image|vision|video|audio|box)[A-Za-z][A-Za-z_]{1,24}"
TOKEN = (
    rf"<\|{_NAME}\|>|<｜[^｜<>\n]{{1,30}}｜>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|\[gMASK\]|<sop>"
    r"|\[\|(?:Human|AI)\|\]|<(?:TOKENS_UNUSED|reserved)_\d+>"
)
_TOKEN = re.compile(TOKEN)
# These mean other things inside a text (`<s>` strikes out): only at a turn's edges are they a template's.
_EDGE = re.compile(r"(?s)\A\s*(?:<bos>|<s>(?!.*</s>\s*\S))|</s>\s*<s>|<(?:eos|eo[haomc])>\s*\Z")
_END = re.compile(r"\A(?:(?!<s>.).)*</s>\s*\Z", re.DOTALL)
_AT_END = re.compile(rf"\s{{0,4}}(?P<token>{TOKEN}|</s>|<eos>)\Z")
_LONGEST = 60  # characters of a token with the blanks before it
_SAID = re.compile(r"(?:(?<=[.。!！?？…\"”)）\n])|\A)\s{0,4}\Z")  # the end of a sentence, or nothing yet, and blanks
_HEADING = re.compile(
    r"(?m)^ {0,3}#{2,3} ?(?:Instruction|Response|Human|Assistant|指令) ?[:：]"
    r"|^Below is an instruction that describes a task"
)
_REQUEST = re.compile(r"(?m)^ {0,3}#{1,4} ?Request")
_SPEAKER = re.compile(r"(?m)^(?:Human|Assistant|USER|ASSISTANT|User) ?:")
_DIALOGUE = re.compile(
    r"(?i)dialog|conversation|\bchat|script|role|interview|assistant|\bbots?\b|\buser|human|scene|story"
    r"|对话|聊天|剧本|脚本|角色|采访|助手|机器人|用户|客服|场景|故事|人类"
)
ABOUT_TOKENS = re.compile(r"(?i)token|template|prompt format|special|模板|标记|词元|特殊")


def _has_template(text: _Text) -> bool:
    if _HEADING.search(text.whole) and not _REQUEST.search(text.whole):
        return True
    if any(map(_SPEAKER.search, text.answers)) and not _DIALOGUE.search(text.asked):
        return True
    if ABOUT_TOKENS.search(text.whole):
        return any(trailing(answer) is not None for answer in text.answers)
    return any(_TOKEN.search(turn) or _EDGE.search(turn) or _ends(turn) for _, turn in text.turns)


def residue(text: str) -> Iterator[re.Match[str]]:
    """Yield a template's tokens at the end of a text, the last first; `token` is one without the blanks before it.

    From the end, as a pattern of all of them would be tried at each token of a text that repeats one.
    """
    end = len(text.rstrip())
    while found := _AT_END.search(text, max(0, end - _LONGEST), end):
        yield found
        end = found.start()


def trailing(text: str) -> int | None:
    """Return where such tokens begin that follow the end of a sentence, with at most four blanks behind them."""
    if len(text) - len(text.rstrip()) > 4:
        return None
    for found in reversed(list(residue(text))):
        at = found.start("token")
        if begin := _SAID.search(text, max(0, at - 4), at):
            return begin.start()
    return None


def _ends(turn: str) -> bool:
    return turn.endswith("</s>") and _END.search(turn) is not None


# Reasoning

_THINK = re.compile(r"</?think>|<\|(?:begin|end)_of_(?:thought|solution)\|>|◁/?think▷")
_THINK_ASKED = re.compile(r"(?i)</?think|_of_thought|think(?:ing)? tags?|思考标签")


def _has_think(text: _Text) -> bool:
    return any(map(_THINK.search, text.answers)) and not _THINK_ASKED.search(text.asked)


# Exam keys

_ANSWER_FIRST = re.compile(r"(?:请给出答案。|答案[:：]|Answer:|Give the answer\.)\s*\Z")
_FIRST = re.compile(r"\s*([A-Z]{1,8})(?:[。.．\n]|\Z)")
_LAST = re.compile(r"(?:答案(?:为|是|选)?\s*+[:：]?|[Aa]nswer(?: is|:))\s*+\(?([A-Z]{1,8})\)?[.。]?\s*\Z")


def _contradicts_key(text: _Text) -> bool:
    """Return whether an exam row's answer concludes another key than it gives.

    The key stands first where the prompt asks for the answer alone, else last.
    """
    answer = text.answers[-1] if text.answers else ""
    if _ANSWER_FIRST.search(text.asked):
        given = _FIRST.match(answer)
        return given is not None and contradicts(answer[given.end() :], given[1])
    if given := _LAST.search(answer):
        return contradicts(answer[: given.start()], given[1])
    given = _FIRST.match(answer)
    return given is not None and contradicts(answer[given.end() :], given[1])


# Pictures

_PICTURE = re.compile(r"!\[[^\]\n]{0,200}\](?:\([^)\n]{0,1000}\)|\[[^\]\n]{1,40}\])|data:image/\w+;base64,")
_IMAGE_TAG = re.compile(r"<img[\s>/]|<(?:image|Image)>|<\|(?:image|vision)\w*\|>")
_ABOUT_MARKDOWN = re.compile(r"(?i)markdown|readme|\.md\b")


def _has_image(text: _Text) -> bool:
    if _PICTURE.search(text.whole):
        return not _ABOUT_MARKDOWN.search(text.whole)
    return _IMAGE_TAG.search(text.whole) is not None and not ABOUT_HTML.search(text.whole)


# Encodings

_CONT = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"  # the bytes 80 to BF, read as Latin-1 or Windows-1252
_DOUBLE = re.compile(f"(?:[ã-ï]{_CONT}(?:{_CONT}| )){{2}}")  # Chinese: three bytes a character
_ACCENT = re.compile("Ã[\x80-\xbf€ƒ„†‡ˆ‰Š‹Œ‘“•˜™š›œžŸ]|â€[\x80-\xbf™œ˜¢¦“”]|Â[\x80-\xa0£°±²³´·º¼½¾¿©®§]")
_LOST = re.compile("\ufffd|锟斤拷|烫{3}|屯{3}")
_GBK = re.compile("[锛銆鐨鏄]|浣犲")
_ABOUT_ENCODINGS = re.compile(r"(?i)unicode|utf-?8|encod|decod|charset|mojibake|gbk|编码|乱码|解码|字符集")


def _has_mojibake(text: _Text) -> bool:
    whole = text.whole
    found = any(pattern.search(whole) for pattern in (_LOST, _DOUBLE, _ACCENT))
    found = found or (_GBK.search(whole) is not None and _is_utf8_as_gbk(whole))
    return found and not _ABOUT_ENCODINGS.search(whole)


def _is_utf8_as_gbk(text: str) -> bool:
    """Return whether some run of other than ASCII is, written in GBK and read as UTF-8, for the most part Chinese."""
    for run in re.findall(r"[^\x00-\x7f]{3,}", text):
        raw = run.encode("gb18030", "ignore")
        read = raw.decode("utf-8", "ignore")
        if 3 * sum("\u3000" <= c <= "\u9fff" or "\uff00" <= c <= "\uffef" for c in read) >= 0.8 * len(raw):
            return True
    return False


# HTML

ENTITY = re.compile(
    r"&(?:nbsp|lt|gt|amp|quot|apos|ldquo|rdquo|lsquo|rsquo|mdash|ndash|hellip|middot|bull|#\d{2,6}|#x[0-9a-fA-F]{2,5});"
)
_TAG = re.compile(
    r"(?<![\"'=(\w])<(?:/?(?:p|div|span|font|strong|em|ul|ol|li|table|tbody|tr|td|th|h[1-6]|center)(?:\s[^<>]*)?"
    r"|br\s*/?|/[abi]|hr\s*/)>|(?<=\w)(?:<br\s*/?>|</(?:p|div|span|font|strong|em|li|td|tr|[abi])>)",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"\$\$[^$]*\$\$|\$[^$\n]*\$")
ABOUT_HTML = re.compile(
    r"(?i)html|css|xml|svg|jsx|javascript|jquery|\breact\b|\bvue\b|php|web ?page|\btags?\b|parser|escap|classname"
    r"|onclick|<!doctype|<script|<body|<head\b|网页|标签|前端|爬虫|转义"
)
_CODE_LINE = re.compile(r"(?m)[;{}][ \t]*$|^[ \t]*(?:def|import|return|function|class|from|public|const|let|var)\b")


def _has_html(text: _Text) -> bool:
    said = "\n".join(turn for role, turn in text.turns if role != "system")
    if ENTITY.search(said):
        return not ABOUT_HTML.search(said)
    if "<" not in said or not _TAG.search(_FORMULA.sub(" ", said)):
        return False
    return not ABOUT_HTML.search(said) and len(_CODE_LINE.findall(said)) < 2


_IN_TEXT = {
    "template-residue": _has_template,
    "think-residue": _has_think,
    "image-in-text": _has_image,
    "mojibake": _has_mojibake,
    "html": _has_html,
}
# Of these at least one stands in every row in which the checks above find something, as it is written in JSON.
_MARKS = [
    *(
        "<|",
        "<｜",
        "### I",
        "### R",
        "### H",
        "### A",
        "### 指",
        "###I",
        "###R",
        "###H",
        "###A",
        "Below is an instruction",
    ),
    *(
        "INST]",
        "SYS>>",
        "<s>",
        "<bos>",
        "<eo",
        "_of_turn>",
        "[gMASK]",
        "<sop>",
        "[|Human|]",
        "[|AI|]",
        "<TOKENS_",
        "<res",
    ),
    *("Human:", "Human :", "Assistant:", "Assistant :", "USER:", "ASSISTANT:", "User:"),
    *("think>", "think▷", "![", "<img", "<image", "<Image", "data:image/"),
    *("\ufffd", "锟斤拷", "烫烫烫", "屯屯屯", "Ã", "â€", "Â", "锛", "銆", "鐨", "鏄", "浣犲"),
    *("</", "<p>", "<p ", "<br", "<div", "<span", "<font", "<table", "<td", "<tr", "<th", "<li", "<ul", "<ol", "<h"),
    *("<strong", "<em", "<center", "<P>", "<BR", "<DIV", "<FONT", "<TABLE", "<TD", "<TR"),
    *("&nbsp", "&lt;", "&gt;", "&amp;", "&quot;", "&apos;", "&#"),
    *("&ldquo;", "&rdquo;", "&lsquo;", "&rsquo;", "&mdash;", "&ndash;", "&hellip;", "&middot;", "&bull;"),
]
