"""Read the letter out of a written answer, or say why there is none. Nothing is guessed.

A thought (`<think>…</think>`) is cut first: what is weighed in it is not said. Then width, traditional characters,
Markdown, tags and special tokens are levelled and a repetition of the options is removed. Rules are ordered by how
plainly they state an answer; each result carries the rule's id, so that a wrong reading can be traced. Statements
("答案是C", "故选B", "the answer is D") beat a letter at the start, which beats "C项正确", which beats naming an option
by place or by its text.

What is said of a letter counts only where it is affirmed: not under a negation before it (不选A, 答案不是A, not A) or
behind it (A错误, A is wrong), and not under a condition (如果选A, if it were A). Of two different statements the later
one counts where a word such as 不对 or 其实 withdraws the earlier; else they are `ambiguous`.

The rules were written against the open halves of tests/steel_eval/score/answers/*.jsonl.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from steel_data.benchmarks.items import LETTERS
from steel_data.row.nfkc import nfkc

Outcome = Literal["letter", "refused", "ambiguous", "empty", "truncated"]
Order = Literal["answer-first", "explain-first", "answer-only", ""]


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was read. `letter` is None unless `outcome` is "letter"; `order`: what came first, answer or explanation."""

    letter: str | None
    outcome: Outcome
    rule: str
    order: Order = ""


# One letter that stands alone, or up to ten joined: `B`, `AB`, `A、C`, `A还是B`. Bounded, so that time stays linear.
_JOIN = r"\s*(?:[、,/&]|和|与|或者|或|及|还是|or\b|and\b)?\s*"
_X = r"(?<![A-Za-z0-9])(?P<x>[A-J](?:" + _JOIN + r"[A-J](?![a-z])){0,9}+)(?![A-Za-z0-9])"
_x = r"(?<![A-Za-z0-9])(?P<x>[A-Ja-j])(?![A-Za-z0-9])"  # after words that announce it, a small letter too
_OPEN = r"[\s\"'“”‘’「『【\[({<]{0,6}"
_SAYS = r"(?:应该|应当|应|可能|其实|显然|一定|必然|肯定|自然|当然|就|也|选项|选择|则|便|只能|只可能|毫无疑问)*"
_STATEMENTS = [
    ("boxed", re.compile(r"\\boxed\s?\{\s*(?:\\(?:text|mathrm|mathbf|textbf|rm)\s?\{?\s*)?" + _OPEN + _x)),
    ("answer-is", re.compile(
        r"(?:答案|^答|\n答)[】\]]?\s*" + _SAYS + r"\s*(?:是|为|选|:|】|\]|(?=\n))+[\s:]{0,6}" + _OPEN
        + r"(?:应该选|应选|选项|选择|选)?\s*[:]?\s*" + _OPEN + r"(?:" + _X + "|" + _x.replace("?P<x>", "?P<y>") + ")",
    )),
    ("answer-is-en", re.compile(
        r"\b(?i:answer|choice|option)\b\s*(?i:is|:|would be|should be|must be|will be|=|→|->)[\s:]{0,4}"
        r"(?i:therefore |thus |clearly |most likely )?" + _OPEN + r"(?i:option|choice)?\s*" + _OPEN
        + r"(?:" + _X + "|" + _x.replace("?P<x>", "?P<y>") + r")(?!\s+\w+\s+(?:is|are)\b)",
    )),
    ("choose", re.compile(r"(?:选择|选|选出)\s*(?:的?(?:是|为|择))?\s*[:]?" + _OPEN + r"(?:选项)?\s*" + _OPEN + r"(?:" + _X + "|" + _x.replace("?P<x>", "?P<y>") + ")")),
    ("choose-en", re.compile(
        r"\b(?i:choose|pick|select|go with|going with|hence|therefore|thus|so it(?:'s| is)|i think(?: it(?:'s| is))?"
        r"|i believe(?: it(?:'s| is))?|it(?:'s| is| must be| should be)|but)\b,?\s*" + _OPEN
        + r"(?i:option|choice|answer)?\s*" + _OPEN + _X,
    )),
    ("rather", re.compile(r"(?:而是|应该是|应当是|应是|(?:剩下|剩|只剩下|只剩|只有|仅剩)(?:的)?(?:是|为)?|(?<=[,。;:\n])\s*是)\s*" + _OPEN + r"(?:选项)?\s*" + _X)),
    ("elected", re.compile(_X + r"\s*(?:选项|项)?[^A-J。;\n]{0,8}当选")),
]  # fmt: skip
_WEAKER = [
    ("correct-option", re.compile(
        r"(?:正确|合适|恰当|符合题意|符合要求|错误|有误|不当|不对|不正确|不符合题意)的(?:选项|答案|一项|项|说法|表述)?(?:应该|应当|就)?(?:是|为|:)+\s*"
        + _OPEN + r"(?:选项)?\s*" + _X
        + r"|(?:正确|最佳)(?:选项|答案)(?:应该|应当|就)?(?:是|为|:)+\s*" + _OPEN + r"(?:选项)?\s*" + _X.replace("?P<x>", "?P<z>")
        + "|" + _X.replace("?P<x>", "?P<y>")
        + r"\s*(?:选项|项|的说法|的表述|这项|这一项)?\s*(?:都|也|才|就)*(?:是|为)?(?:唯一)?(?:正确|对|符合题意|符合要求|最恰当|最合适|√|✓|✔)",
    )),
    ("correct-option-en", re.compile(
        r"\b(?i:option|choice|answer)?\s*" + _OPEN + _X + r"[\s)\]}]{0,2}(?:is|are|would be|must be|seems|looks)\s+"
        r"(?:both |all |clearly |the |most |only |also )*(?:correct|right|answer|best|true|one|accurate)",
    )),
    ("option-en", re.compile(r"\b(?i:option|choice)\s+" + _OPEN + _X)),
    ("that-is", re.compile(r"的(?:一项|选项|项)?(?:是|为)\s*:?" + _OPEN + _X)),
]  # fmt: skip
_LEAD = r"\s*(?:[#>\-+]+\s*)?(?:嗯|好的|选项|是|应该是|我觉得是|我认为是)?[,:]?\s*[(\[【「\"“<]?\s*"
_LEADING = re.compile(_LEAD + _X + r"\s*(?:[)\]】」\"”>]|[.。,:;、!]|\n|吧|$|(?=\s))")
_LEADING_SMALL = re.compile(_LEAD + _x + r"\s*(?:[)\]】」\"”>.:。]|\n|吧|\s*$)")
_ONLY = re.compile(_LEAD + r"(?P<x>[A-Ja-j])\s*[)\]】」\"”>]?\s*(?:选项|项)?[\s.。!]*$")
_ALONE = re.compile(r"(?<![\u4e00-\u9fff])" + _X + "|(?<=[选项是为案填])" + _X.replace("?P<x>", "?P<y>"))
# A text this short whose only letter ends it names the answer, unless any word of it speaks against or asks.
_ENDS = re.compile(r"\s*[)\]】」\"”'>]*\s*(?:选项|项|option)?(?:吧|啊|哦|呢|了|呀|啦|嘛|喽|哈|呗)?[\s.。!~]*$")
_AGAINST = re.compile(
    r"[不非没无未别勿错误假伪岂怎何哪谁?×✗✘❌]|难道|排除|避免|拒绝|除|去掉|干扰|绝对|以为"
    r"|\bno[tr]?\b|n't\b|\b(?:wrong|false|incorrect|avoid|except|but|never|neither|eliminate|exclude|rule[sd]? out|doubt)\b",
    re.IGNORECASE,
)
_DOUBTLESS = re.compile(r"毫?无疑问?|毋庸置疑|无非|不得不|没错|不错")
_ORDINAL = re.compile(r"第([一二三四五六七八九十1-9])(?:个)?(?:选项|项|个)")
_WITHDRAWS = re.compile(
    r"不对|[,，。]\s*不[,，]|其实|更正|实际上|但|重新|而是|应该是|错了|改选|改为|哦不|等等|wait|actually|however|sorry|\bno\b",
    re.IGNORECASE,
)
_REFUSES = re.compile(
    r"对不起|抱歉|无法(?:回答|判断|确定|作答|给出)|不能(?:回答|确定|提供|判断)|不便回答|不知道|不清楚|信息不足|"
    r"均不正确|都不正确|没有正确|cannot (?:answer|determine|provide)|can't (?:answer|determine|provide)|unable to|don't know",
    re.IGNORECASE,
)
# A negation right before what is said, or between it and the letter; `剩下` and `不是A,是D` are told apart by the comma.
_NOT_BEFORE = re.compile(
    r"(?:不|别|勿|未|误|非|没有?|无法|不能|不会|不应该?|不要|不可能?|绝不|并不|并非|除去?了?|排除|去掉|划掉|先|会)(?:是|为|选择|选项|选|应|能|会|该|要|可能|可)*\s*$"
    r"|(?:不太?|没有?|别)(?:认为|觉得|同意|建议|赞成|推荐|支持|相信|主张|打算|倾向于?)(?:应该?|要|会|能)?(?:是|选择|选项|选)?\s*$"
    r"|(?:拒绝|避免|切忌|难道|岂(?:能|会|可)?|怎么?(?:会|能|可能|可以)?|何来|哪能|谁会|没人会?)(?:是|选择|选项|选)?\s*$"
    r"|\b(?:avoid|anything(?: but)?|wrong)(?: the)?\s*$"
    r"|(?:n't|\bnot|\bnever) (?:think|believe|say|sure)(?: that| if| whether)?(?: the)?\s*$|\bdoubt(?: that| if| whether)?(?: the)?\s*$"
    r"|(?:而不是|而非|不是|并非|排除|去掉|除了|\bnot|n't(?: be)?|\bcannot(?: be)?|\bnever|\brule out|\beliminate|\bexclude|\bneither|\bexcept|\binstead of|\brather than)\s*(?:choose|pick|select|the|option|answer is|\()*\s*$",
    re.IGNORECASE,
)
_NOT_INSIDE = re.compile(r"不|并非|非(?!常)|\bnot\b|n't\b|绝无|未必")
_NOT_BEHIND = re.compile(
    r"\s*[)\]】」\"”'>]*\s*(?:选项|项|的?(?:说法|表述|描述|观点)|这个?(?:选项|说法|一项)?)*[,:.、]?\s*"
    r"(?:是|为|均|都|也|显然|明显|则|就|可以|可|应|被|本身|明显地)*\s*"
    r"(?:错误?|有误|不正确|不对|不符|不成立|不选|不是|不行|不可|不能|不合|不恰当|不当|不属于|不妥|并非|排除|除去|除外|以外|之外|吗|么\?|\?|的(?:同学|考生|学生|人|话)|×|✗|✘|❌|x\b"
    r"|(?:wrong|incorrect|false|ruled out)\b|(?:is|are|was|would be|seems)\s+(?:both |all |clearly |also |obviously )*(?:not\b|wrong|incorrect|false|invalid|ruled out|out\b|untrue)"
    r"|(?:isn't|aren't|can't|cannot|doesn't|won't|is n't)\b|会(?:被|错|出错|导致))"
    r"|\s*\(\s*(?:错误?|有误|不对|不正确|×|✗|✘|❌|wrong|incorrect|false)\s*\)",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"如果|假如|假若|假设|倘若|要是|若|万一|除非|才(?=选)|\b(?:if|suppose|assuming|were|mistake|tempt(?:ing|ed))\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[。!?！？;；\n]|(?<=[a-z\s])\.\s")
_PHRASE = re.compile(r"[,，。!?；;\n]|\.\s")
_OPTION = r"[ \t]*{}\s*[.、:)][^\n]*"
_LISTING = re.compile(
    r"(?:^|\n)" + r"\n+".join(_OPTION.format(x) for x in "ABC") + r"(?:\n+" + _OPTION.format("[D-J]") + r")*"
)
_INLINE = re.compile(
    r"A\s*[.、:)]\s*[^A-J\n]{1,60}?\s*B\s*[.、:)]\s*[^A-J\n]{1,60}?\s*C\s*[.、:)]\s*[^A-J\n]{1,60}?(?:\s*D\s*[.、:)]\s*[^A-J\n。;]{1,60})?(?=[\n。;]|$)"
)
_BLANKS = re.compile(r"\n{3,}")
_TRADITIONAL = str.maketrans("選項確題錯誤對個為應該單擇維", "选项确题错误对个为应该单择维")
_SHORT = 20  # characters: in a text this short a single letter is the answer
_OPENED = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_CLOSED = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)


def extract(text: str, options: Sequence[str] = (), finished: bool = True, n_options: int = 4) -> Extraction:
    """Read an answer. `options`: the options' texts; `finished` False: cut by length; `n_options`: how many there are.

    An unfinished text counts only what it states; whoever was cut off while weighing options, or never left a thought,
    has not answered (`truncated`). Time is linear in the length of the text.
    """
    said = spoken(text)
    if said is None:
        return Extraction(None, "truncated", "thought")
    level = _levelled(said)
    if not re.search(r"[^\W_]", level):
        return Extraction(None, "empty", "no-words")
    # What lists leave of lines that stood between them, or a pattern would try each `\s*` of it at every line's end.
    body = _BLANKS.sub("\n\n", _INLINE.sub("\n", _LISTING.sub("\n", level)))
    for find in (_stated, *((_weaker, _by_place, _by_text, _sole) if finished else ())):
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


def spoken(text: str) -> str | None:
    """Return the text without its thoughts, also where the template had opened them; None: it never left a thought."""
    if closed := list(_CLOSED.finditer(text)):
        text = text[closed[-1].end() :]
    return None if _OPENED.search(text) else text


def _levelled(text: str) -> str:
    text = re.sub(r"<\|[^|>]{0,80}\|>|</?(?:[a-z][A-Za-z0-9]*|[A-Z][A-Za-z0-9]+)(?:\s[^>]{0,200})?/?>", "", text)
    text = re.sub(r"[*`]|__", "", nfkc(text)).translate(_TRADITIONAL)
    text = re.sub(r"\bI(?=['’ ] ?[a-z])", "i", text)  # the pronoun
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


_Found = tuple[str, str, int] | None  # letters (sorted, each once), rule, position


def _letters(run: str) -> str:
    run = run.upper() if len(run) == 1 else run
    return "".join(sorted(set(re.findall(r"(?<![a-z])[A-J](?![a-z])", run))))


def _affirmed(body: str, match: re.Match[str], group: str, rule: str) -> bool:
    """Return whether what a match says of its letter is meant: not denied, and not under a condition."""
    start, end = match.start(), match.end(group)
    before = body[max(0, start - 24) : start]
    clause = _CLAUSE.split(body[max(0, start - 60) : start])[-1]
    phrase = _PHRASE.split(before)[-1]
    between = body[start : match.start(group)]
    if (
        _NOT_BEFORE.search(phrase)
        or _NOT_INSIDE.search(between)
        or (
            rule != "elected" and _NOT_BEHIND.match(body[end : end + 24])  # "A项错误，当选"
        )
    ):
        return False
    conditions = list(_CONDITION.finditer(clause))
    if not conditions:
        return True
    # "如果…,就…。所以选C": the condition ends with its sentence, or where a conclusion begins
    return bool(re.search(r"所以|因此|故|正确答案|\bso\b|therefore|hence", clause[conditions[-1].end() :] + between))


def _matches(pattern: re.Pattern[str], body: str, rule: str) -> list[tuple[int, str]]:
    """Return place and letters of every affirmed match."""
    found = []
    for match in pattern.finditer(body):
        group = next(g for g in ("x", "y", "z") if match.groupdict().get(g))
        letters = _letters(match[group])
        several = rule == "rather" and len(letters) > 1  # "剩下C和D" states nothing
        if not several and _affirmed(body, match, group, rule) and not _is_word(body, match.end(group)):
            found.append((match.start(group), letters))
    return found


def _is_word(body: str, end: int) -> bool:
    """Return whether the letter is part of a word: C语言, B细胞, A股."""
    return bool(re.match(r"(?:语言|细胞|股|型|级|类|超|座|轮|罩杯|字母)", body[end : end + 3]))


def _stated(body: str, options: Sequence[str]) -> _Found:
    """Return what is stated as the answer; of several statements the last, if a word withdraws what was before it."""
    matches = sorted(
        (at, letters, rule) for rule, pattern in _STATEMENTS for at, letters in _matches(pattern, body, rule)
    )
    if leading := _leading(body, options):
        matches.insert(0, (leading[2], leading[0], leading[1]))
    return _agreed(body, matches) if matches else None


def _agreed(body: str, matches: Sequence[tuple[int, str, str]]) -> _Found:
    said = matches[0]
    for match in matches[1:]:
        if match[1] == said[1]:
            continue
        if said[2] == "leading" and match[2] == "boxed":
            said = match
        elif not _WITHDRAWS.search(body[said[0] : match[0]]):
            return _letters(said[1] + match[1]), "contradiction", match[0]
        said = match
    return said[1], said[2], said[0]


def _leading(body: str, options: Sequence[str]) -> _Found:
    match = _LEADING.match(body) or _LEADING_SMALL.match(body) or _ONLY.match(body)
    if match is None:
        return None
    letters = _letters(match["x"])
    rest = body[match.end("x") :]
    follows = rest.lstrip(" .。、:,)")
    echo = [i for i, option in enumerate(options) if follows and follows.startswith(_levelled(option).strip())]
    if echo and len(letters) == 1 and LETTERS.index(letters) in echo:
        return letters, "leading", match.start("x")
    if _NOT_BEHIND.match(rest[:24]) or _is_word(body, match.end("x")):
        return None
    if rest[:1] in " \t" and re.match(r"[ \t]+[a-z]", rest) and not echo:  # "A good question"
        return None
    return letters, "leading", match.start("x")


def _weaker(body: str, options: Sequence[str]) -> _Found:
    for rule, pattern in _WEAKER:
        if runs := _matches(pattern, body, rule):
            return _letters("".join(letters for _, letters in runs)), rule, runs[-1][0]
    return None


def _by_place(body: str, options: Sequence[str]) -> _Found:
    places = {
        "一二三四五六七八九十".find(m) if m in "一二三四五六七八九十" else int(m) - 1 for m in _ORDINAL.findall(body)
    }
    return (LETTERS[places.pop()], "ordinal", 0) if len(places) == 1 else None


def _by_text(body: str, options: Sequence[str]) -> _Found:
    """Return the options whose text stands in the answer; one that is part of another found one does not count."""
    plain = [_levelled(o).strip().rstrip("。.") for o in options]
    exact = [i for i, o in enumerate(plain) if o and o == body.strip().rstrip("。.")]
    found = exact or [i for i, o in enumerate(plain) if o and o in body]
    found = [i for i in found if not any(i != j and plain[i] in plain[j] for j in found)]
    return ("".join(LETTERS[i] for i in found), "option-text", body.find(plain[found[0]])) if found else None


def _sole(body: str, options: Sequence[str]) -> _Found:
    if len(body.strip()) > _SHORT:
        return None
    runs = _matches(_ALONE, body, "sole-letter")
    letters = {letters for _, letters in runs}
    if len(letters) != 1 or not _ENDS.match(body, runs[-1][0] + 1):
        return None
    phrase = _DOUBTLESS.sub("", _PHRASE.split(body[: runs[-1][0]])[-1] + body[runs[-1][0] :])
    return None if _AGAINST.search(phrase) else (letters.pop(), "sole-letter", 0)


def _order(body: str, at: int) -> Order:
    """Return whether the answer or the explanation came first: 12 characters of words make an explanation."""
    before, after = (len(re.findall(r"\w", part)) for part in (body[:at], body[at:]))
    if before >= 12:
        return "explain-first"
    return "answer-first" if after >= 12 else "answer-only"
