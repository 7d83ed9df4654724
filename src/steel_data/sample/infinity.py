"""Infinity-Instruct rows: conversations in several languages, planted duplicates, quotations of test questions."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import xxhash

from steel_data.sample import chat_other, chat_zh
from steel_data.sample.chat_other import EnglishChat
from steel_data.sample.chat_zh import ChineseChat, Turns
from steel_data.sample.distinct import Distinct
from steel_data.sample.draw import Draw
from steel_data.sample.exam import Row, scaled
from steel_data.sample.suites import Placed

PLANNED, SHARDS = 8000, 4
PLANTED = {"exact": 160, "near": 160, "quoted": 60, "quoted_edited": 60}
_PERCENT = {"zh": 62.0, "en": 33.0, "ja": 1.8, "ko": 1.2, "code": 2.0}
_TEXTS = pa.list_(pa.string())
SCHEMA = pa.schema([
    ("id", pa.string()),
    ("conversations", pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))),
    ("label", pa.struct([(f"{c}ability_{x}", _TEXTS) for c in ("", "cate_") for x in ("en", "zh")])),
    ("langdetect", pa.string()),
    ("source", pa.string()),
])  # fmt: skip
# kind of conversation -> abilities (en, zh) and their category (en, zh)
_LABELS = {
    "fact": (["factual knowledge", "question answering"], ["事实知识", "问答"], "knowledge query", "知识查询"),
    "introduce": (
        ["text generation", "knowledge description"],
        ["文本生成", "知识描述"],
        "creative writing",
        "文本创作",
    ),
    "compare": (["comparison", "analysis"], ["比较", "分析"], "analysis and research", "分析与研究"),
    "extract": (
        ["information extraction", "reading comprehension"],
        ["信息抽取", "阅读理解"],
        "information processing",
        "信息处理",
    ),
    "rewrite": (["text rewriting", "style transfer"], ["文本改写", "风格转换"], "language processing", "自然语言处理"),
    "talk": (["open dialogue", "empathy"], ["开放对话", "共情"], "daily conversation", "日常交流"),
    "letter": (["practical writing"], ["应用文写作"], "creative writing", "文本创作"),
    "story": (["story writing", "imagination"], ["故事创作", "想象"], "creative writing", "文本创作"),
    "advice": (["advice", "list generation"], ["建议", "列表生成"], "life knowledge", "生活知识"),
    "arithmetic": (
        ["mathematical reasoning", "step-by-step solving"],
        ["数学推理", "分步求解"],
        "mathematics",
        "数学能力",
    ),
    "code": (["programming", "code writing"], ["编程", "代码编写"], "programming", "编程与软件开发"),
    "other": (["multilingual ability"], ["多语言能力"], "multilingual", "多语种"),
    "quiz": (["multiple choice", "exam solving"], ["选择题", "解题"], "education", "教育与考试"),
}
_SOURCES = ("Subjective", "flan", "OpenHermes-2.5", "code_exercises", "ShareGPT", "self-instruct")
# What langdetect said, per hundred: it is wrong as it is in the published data (Chinese taken for Korean, …).
_DETECTED = {
    "zh": (("zh-cn", 88), ("ko", 6), ("zh-tw", 4), ("ja", 2)),
    "en": (("en", 97), ("ca", 1), ("no", 1), ("af", 1)),
    "ja": (("ja", 96), ("zh-cn", 4)),
    "ko": (("ko", 100),),
    "code": (("en", 70), ("no", 12), ("ca", 8), ("it", 10)),
}
_FILLERS, _LETTERS = "的了是在有和也就都而，。、", "aeinorst,"


def _weighted(draw: Draw, choices: tuple[tuple[Any, ...], ...], weight: int) -> tuple[Any, ...]:
    left = draw.below(sum(choice[weight] for choice in choices))
    for choice in choices:
        left -= choice[weight]
        if left < 0:
            return choice
    raise AssertionError("the weights changed while they were counted")


def edited(draw: Draw, text: str, percent: float) -> str:
    """Return the text with this share of its characters (at least one) changed, dropped or doubled."""
    letters = list(text)
    for at in sorted(draw.sample(range(len(letters)), max(1, int(len(letters) * percent / 100))), reverse=True):
        change = draw.below(3)
        if change == 0:
            fillers = _LETTERS if letters[at].isascii() else _FILLERS
            letters[at] = draw.pick([c for c in fillers if c != letters[at]])
        elif change == 1:
            letters[at] = letters[at] * 2
        elif len(letters) > 1 and not letters[at].isspace():
            del letters[at]
    return "".join(letters)


class Infinity:
    """Makes the rows. `planted` then lists what was planted, by row id."""

    def __init__(self, seed: int, chinese: ChineseChat, english: EnglishChat, distinct: Distinct) -> None:
        self._draw = Draw(seed, "infinity")
        self._chinese, self._english, self._distinct = chinese, english, distinct
        self._made = 0
        self.planted: dict[str, list[dict[str, str]]] = {name: [] for name in PLANTED}
        self.languages: dict[str, int] = {}

    def rows(self, scale: float, items: list[Placed]) -> list[Row]:
        """Return all rows in random order; test items to quote are taken from `items`."""
        total = scaled(PLANNED, scale, 100)
        counts = {name: scaled(count, scale, 2) for name, count in PLANTED.items()}
        own = total - sum(counts.values())
        rows = [row for name in _PERCENT for row in self._language(name, scaled(own, _PERCENT[name] / 100))]
        base = [row for row in rows if sum(len(t["value"]) for t in row["conversations"]) >= 120]
        chosen = self._draw.sample(base, counts["exact"] + counts["near"])
        for number, row in enumerate(chosen):
            exact = number < counts["exact"]
            again = dict(row) if exact else self._near(row)
            again["id"] = self._id()
            self.planted["exact" if exact else "near"].append({"id": again["id"], "of": row["id"]})
            rows.append(again)
        quoted = self._draw.sample(items, counts["quoted"] + counts["quoted_edited"])
        rows += [self._quotation(one, number >= counts["quoted"]) for number, one in enumerate(quoted)]
        return self._draw.shuffled(rows)

    def _id(self) -> str:
        self._made += 1
        return xxhash.xxh3_128_hexdigest(f"infinity{self._made}".encode())

    def _row(self, turns: Turns, kind: str, language: str) -> Row:
        en, zh, category_en, category_zh = _LABELS[kind]
        self.languages[language] = self.languages.get(language, 0) + 1
        return {
            "id": self._id(),
            "conversations": [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)],
            "label": {
                "ability_en": en,
                "ability_zh": zh,
                "cate_ability_en": [category_en],
                "cate_ability_zh": [category_zh],
            },
            "langdetect": _weighted(self._draw, _DETECTED[language], 1)[0],
            "source": self._draw.pick(_SOURCES),
        }

    def _language(self, language: str, count: int) -> list[Row]:
        draw = self._draw
        kinds: tuple[tuple[int, str, Callable[[], Turns]], ...]
        if language == "zh":
            kinds = tuple((w, k, lambda make=m: make(self._chinese)) for w, k, m in chat_zh.KINDS)  # type: ignore[misc]
            kinds += ((6, "code", lambda: chat_other.code(draw, True)),)
        elif language == "en":
            kinds = tuple((w, k, lambda make=m: make(self._english)) for w, k, m in chat_other.KINDS)  # type: ignore[misc]
        elif language == "code":
            kinds = ((1, "code", lambda: chat_other.code(draw, False)),)
        else:
            kinds = ((1, "other", lambda: self._english.other(language)),)
        rows: list[Row] = []
        while len(rows) < count:
            _, kind, make = _weighted(draw, kinds, 0)
            for _ in range(20):
                turns = make()
                if self._distinct.add("\n".join(turns)):
                    rows.append(self._row(turns, kind, language))
                    break
        return rows

    def _near(self, row: Row) -> Row:
        """Return the row with 0.5 to 1.8 % of its characters edited (5-gram Jaccard then stays above 0.8)."""
        turns = [turn["value"] for turn in row["conversations"]]
        longest = max(range(len(turns)), key=lambda i: len(turns[i]))
        share = self._draw.between(5, 18) / 10 * sum(map(len, turns)) / len(turns[longest])
        text = edited(self._draw, turns[longest], share)
        while text == turns[longest]:
            text = edited(self._draw, turns[longest], share)
        turns[longest] = text
        talk = [{"from": turn["from"], "value": text} for turn, text in zip(row["conversations"], turns, strict=True)]
        return {**row, "conversations": talk}

    def _quotation(self, one: Placed, edit: bool) -> Row:
        draw, item = self._draw, one.item
        question, options, label = item.question, list(item.options), "{x}. {o}"
        if edit:
            question = edited(draw, question, 2.0)
            label = draw.pick(["（{x}）{o}", "{x}、{o}", "{x}：{o}"])
            if draw.chance(50):
                question = question.translate(str.maketrans("，：（）", ",:()"))
        shown = "\n".join(label.format(x=x, o=o) for x, o in zip("ABCD", options, strict=True))
        lead = draw.pick(["", "", "这道题选什么？\n", "帮我看看这道选择题：\n", "请回答下面的问题，并说明理由。\n"])
        answer = draw.pick(["选{x}。{why}", "答案是{x}。{why}", "{why}所以答案是{x}。"]).format(
            x=item.letter, why=item.explain()
        )
        row = self._row([f"{lead}{question}\n{shown}", answer], "quiz", "zh")
        name = "quoted_edited" if edit else "quoted"
        self.planted[name].append({"id": row["id"], "benchmark": one.benchmark, "item": one.place})
        return row
