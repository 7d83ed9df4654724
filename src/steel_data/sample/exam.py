"""Exam rows in the fields of WanJuan's exam files, most of them plain, a known number of each odd case.

The odd cases are those of the published files (../shared/data/README.md, DESIGN "The Steel-LLM formats"); each odd row
shows exactly one of them, so that a builder's counts can be compared with `sample.json`.
"""

from dataclasses import replace
from typing import Any

import xxhash

from steel_data.sample.draw import Draw, Lexicon, balanced
from steel_data.sample.items import LETTERS, Item, fact_item, fill, placed, with_lead
from steel_data.sample.reasoning import Reasoner
from steel_data.sample.world import Fact, Pool, facts_of

Row = dict[str, Any]

# file -> (major, kinds of things asked about); mathematics has worked items only
SUBJECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "biology": ("生物", ("plant", "animal")),
    "chemistry": ("化学", ("mineral",)),
    "geography": ("地理", ("river", "town")),
    "history": ("历史", ("dynasty", "person", "folk")),
    "politics": ("政治", ("law", "school", "currency")),
    "chinese": ("语文", ("book", "person")),
    "science": ("科学", ("star", "device")),
    "technology": ("通用技术", ("protocol", "building")),
    "arts": ("艺术", ("instrument", "festival")),
    "general": ("综合", ("dish", "sport", "festival")),
    "mathematics": ("数学", ()),
}
GRADES = ("小学", "初中", "高中", "大学", "职业资格", "")

PLANNED = 6000
# Rows of each odd case among PLANNED.
ODD = {
    "multiple_answer": 150,
    "answer_sequence": 50,
    "true_false": 150,
    "key_in_answer": 120,
    "no_explanation": 150,
    "fill_blank": 120,
    "short_answer": 80,
    "placeholder": 40,
    "no_key": 30,
    "null_keypoint": 400,
    "stray_whitespace": 300,
    "option_e": 100,
}


def scaled(count: int, scale: float, least: int = 1) -> int:
    """Return `count` times `scale`, rounded, but at least `least`."""
    return max(least, int(count * scale + 0.5))


class ExamWriter:
    """Makes exam rows of one pool."""

    def __init__(self, seed: int, pool: Pool, reasoner: Reasoner, lexicon: Lexicon) -> None:
        self._draw = Draw(seed, "exam")
        self._pool, self._reasoner, self._lexicon = pool, reasoner, lexicon
        self.truth: list[Row] = []

    def rows(self, scale: float) -> dict[str, list[Row]]:
        """Return the rows of every file, odd cases spread over them. `truth` then tells what each row is."""
        total = scaled(PLANNED, scale, 60)
        odd = [case for case, count in ODD.items() for _ in range(scaled(count, total / PLANNED))]
        cases = self._draw.shuffled(odd + ["plain"] * max(0, total - len(odd)))
        files: dict[str, list[Row]] = {name: [] for name in SUBJECTS}
        for case, gold in zip(cases, balanced(self._draw, len(cases)), strict=True):
            mathematics = case in ("plain", "key_in_answer", "null_keypoint", "no_explanation") and self._draw.chance(
                30
            )
            subject = "mathematics" if mathematics else self._draw.pick([s for s in SUBJECTS if SUBJECTS[s][1]])
            row, item = self._row(case, subject, gold)
            row["id"] = (
                xxhash.xxh3_64_hexdigest(f"exam{len(self.truth)}{row['q_main']}".encode()) + f"{len(self.truth):06x}"
            )
            files[subject].append({"id": row.pop("id"), **row})
            self.truth.append({
                "source": "exam", "item": files[subject][-1]["id"], "case": case, "form": item.form,
                "thing": item.thing, "attribute": item.attribute, "value": item.value,
            })  # fmt: skip
        return files

    def _item(self, subject: str) -> Item:
        kinds = SUBJECTS[subject][1]
        if not kinds:
            return self._reasoner.item(
                self._draw, self._draw.pick(["sums", "logic", "sums", "build", "binary", "years"])
            )
        item = fact_item(self._pool, self._draw.pick(kinds), self._draw, self._lexicon)
        # Some rows open as the benchmarks' items do, so that the form can be learnt from training files alone.
        return with_lead(item, self._draw, self._lexicon) if self._draw.chance(12) else item

    def _row(self, case: str, subject: str, gold: int) -> tuple[Row, Item]:
        if case in ("multiple_answer", "answer_sequence", "true_false", "fill_blank", "short_answer"):
            row, item = getattr(self, f"_{case}")(subject)
            return {**row, **self._about(subject, item)}, item
        item = self._item(subject)
        if case == "option_e":
            item = self._with_fifth(item, subject)
            gold = self._draw.below(5)
        item = placed(item, gold)
        row = self._plain(item)
        if case == "key_in_answer":
            row["answer"], row["std_ans"] = row["std_ans"], ""
        elif case == "no_explanation":
            row["answer_detail"] = ""
        elif case == "placeholder":
            row["answer_detail"] = self._draw.pick(["略", "略。", "略．"])
        elif case == "no_key":
            row["std_ans"], row["answer_detail"] = "", "见教材相关章节。"
        elif case == "stray_whitespace":
            row = self._stray(row)
        about = self._about(subject, item)
        if case == "null_keypoint":
            about["keypoint"] = None
        return {**row, **about}, item

    def _about(self, subject: str, item: Item) -> Row:
        keypoint = item.topic if self._draw.chance(80) else f"知识点->{item.topic}"
        return {"grade": self._draw.pick(GRADES), "major": SUBJECTS[subject][0], "keypoint": keypoint}

    def _plain(self, item: Item, q_type: str = "单选题") -> Row:
        row: Row = {"q_type": q_type, "q_main": item.question}
        for number, letter in enumerate("abcde"):
            row[f"option_{letter}"] = item.options[number] if number < len(item.options) else ""
        finish = self._draw.say("{finish}", self._lexicon, x=item.letter)
        detail = self._draw.pick(["", "", "", "解：", "【解析】", "解析："]) + item.explain() + finish
        return {**row, "std_ans": item.letter, "answer": "", "answer_detail": detail}

    def _with_fifth(self, item: Item, subject: str) -> Item:
        """Return the item with a fifth option; a statement item is replaced, its attributes number four or five."""
        while item.form not in ("value", "thing"):
            item = self._item(subject)
        thing = next(t for group in self._pool.things.values() for t in group if t.name == item.thing)
        if item.form == "thing":
            index = [a.id for a in thing.kind.attributes].index(item.attribute or "")
            spare = next(t.name for t in self._new(thing.kind.id) if t.values[index] != item.value)
        else:
            attribute = next(a for a in thing.kind.attributes if a.id == item.attribute)
            spare = self._draw.pick([v for v in attribute.values if v not in item.options])
        return replace(item, options=(*item.options, spare))

    def _new(self, kind: str):  # type: ignore[no-untyped-def]
        while True:
            yield self._pool.thing(kind)

    def _stray(self, row: Row) -> Row:
        draw = self._draw
        row["q_main"] = draw.pick(["\n", "  ", ""]) + row["q_main"] + draw.pick(["\n", " \n", "  ", "\n\n"])
        middle = len(row["answer_detail"]) // 2
        row["answer_detail"] = (
            row["answer_detail"][:middle] + draw.pick(["\n", " ", "  \n"]) + row["answer_detail"][middle:]
        )
        row["option_b"] = f"{row['option_b']}{draw.pick([' ', chr(10), '  '])}"
        row["std_ans"] = draw.pick([" ", ""]) + row["std_ans"] + draw.pick([" ", "\n"])
        return row

    def _fact(self, subject: str) -> Fact:
        return self._pool.fact(self._draw.pick(SUBJECTS[subject][1]))

    def _given(self, fact: Fact, form: str) -> Item:
        topic = f"{fact.thing.kind.word}->{fact.attribute.phrase}"
        return Item("", (), 0, "", topic, form, fact.thing.name, fact.attribute.id, fact.value)

    def _multiple_answer(self, subject: str) -> tuple[Row, Item]:
        draw, fact = self._draw, self._fact(subject)
        facts = draw.sample(facts_of(fact.thing), 4)
        right = sorted(draw.sample(range(4), draw.pick([2, 2, 2, 3, 3, 4])))
        options, notes = [], []
        for number, one in enumerate(facts):
            wrong = draw.pick([v for v in one.attribute.values if v != one.value])
            options.append(one.state(draw, one.value if number in right else wrong))
            mark = "正确" if number in right else f"错误，{one.attribute.phrase}应为“{one.value}”"
            notes.append(f"{LETTERS[number]}项{mark}")
        key = "".join(LETTERS[i] for i in right)
        ask = fill(draw, "{ask_statement}", self._lexicon, fact)
        row = self._plain(Item(ask.replace("一项", "选项"), tuple(options), 0, "", "", ""), "多选题")
        detail = "；".join(notes) + "。" + draw.say("{finish}", self._lexicon, x=key)
        return {**row, "std_ans": key, "answer_detail": detail}, self._given(fact, "multiple")

    def _answer_sequence(self, subject: str) -> tuple[Row, Item]:
        """Three questions under one text; the last one's options stand in the option fields, as published."""
        draw = self._draw
        items = [self._item(subject) for _ in range(3)]
        keys = [draw.below(4) for _ in items]
        while keys == sorted(set(keys)):
            keys = [draw.below(4) for _ in items]
        items = [placed(item, key) for item, key in zip(items, keys, strict=True)]
        first = draw.between(1, 20)
        parts = [f"阅读下面的材料，完成{first}～{first + 2}题。"]
        for number, item in enumerate(items):
            shown = (
                "" if number == 2 else " " + " ".join(f"{x}．{o}" for x, o in zip("ABCD", item.options, strict=True))
            )
            parts.append(f"{first + number}．{item.question}{shown}")
        row = self._plain(items[2], "多选题")
        detail = "\n".join(f"{first + i}．{item.explain()}" for i, item in enumerate(items))
        key = "".join(item.letter for item in items)
        return {**row, "q_main": "\n".join(parts), "std_ans": key, "answer_detail": f"{detail}故选：{key}。"}, items[2]

    def _true_false(self, subject: str) -> tuple[Row, Item]:
        draw, fact = self._draw, self._fact(subject)
        true = draw.chance(50)
        value = fact.value if true else draw.pick([v for v in fact.attribute.values if v != fact.value])
        words = draw.pick([("正确", "错误"), ("对", "错"), ("√", "×")])
        question = (
            draw.pick(["判断：", "判断正误：", ""]) + fact.state(draw, value) + draw.pick(["。（　　）", "。", "。( )"])
        )
        more = draw.pick([f for f in facts_of(fact.thing) if f.attribute is not fact.attribute])
        why = f"{fact.state(draw)}，{'说法正确' if true else '题中说法有误'}。{more.state(draw)}。"
        given = self._given(fact, "true_false")
        item = Item(question, words, 0 if true else 1, why, given.topic, "true_false")
        return self._plain(item, "判断题"), given

    def _fill_blank(self, subject: str) -> tuple[Row, Item]:
        draw, fact = self._draw, self._fact(subject)
        lead = draw.pick(["填空：", "", "", "把下面的句子补充完整："])
        item = Item(lead + fact.state(draw, "____") + "。", (), 0, "", "", "")
        row = self._plain(item, "填空题")
        return {**row, "std_ans": "", "answer": fact.value, "answer_detail": fact.state(draw) + "。"}, self._given(
            fact, "fill_blank"
        )

    def _short_answer(self, subject: str) -> tuple[Row, Item]:
        draw, fact = self._draw, self._fact(subject)
        facts = draw.shuffled(facts_of(fact.thing))[:3]
        ask = "、".join(f.attribute.phrase for f in facts)
        name = fact.thing.name
        question = draw.pick(
            [f"简要说明{name}的{ask}。", f"试述{name}：包括{ask}。", f"{name}的{ask}分别是什么？请简答。"]
        )
        text = "；".join(f"（{i}）{f.state(draw)}" for i, f in enumerate(facts, 1)) + "。"
        row = self._plain(Item(question, (), 0, "", "", ""), draw.pick(["简答题", "问答题"]))
        return {**row, "std_ans": "", "answer": text, "answer_detail": text}, self._given(fact, "short_answer")
