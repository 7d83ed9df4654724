"""WanJuan's exam files (`wanjuan/exam/{subject}.jsonl`): plain rows, and a known number of each odd case.

The odd cases are those of the published files (../shared/data/README.md, DESIGN "The Steel-LLM formats"); each odd row
shows exactly one of them, so that a builder's counts can be compared with `sample.json`.
"""

from collections import Counter
from dataclasses import replace

import xxhash

from steel_data.sample.draw import Draws, Row, scaled, texts, words
from steel_data.sample.items import LETTERS, Choice, fact_item, fill, on_fact
from steel_data.sample.reasoning import Reasoner
from steel_data.sample.world import Fact, ThingPool, World

PLANNED = 6000
# Rows of each odd case among PLANNED.
ODD = {
    "multiple_answer": 150, "answer_sequence": 50, "true_false": 150, "key_in_answer": 120, "no_explanation": 150,
    "fill_blank": 120, "short_answer": 80, "placeholder": 40, "no_key": 30, "null_keypoint": 400,
    "stray_whitespace": 300, "option_e": 100,
}  # fmt: skip
_MATHEMATICS = ("plain", "key_in_answer", "null_keypoint", "no_explanation")  # cases that its rows may show
_SUMS = ("sums", "logic", "sums", "build", "binary", "years")  # groups of reasoning.toml that it asks


class Exam:
    """The exam rows: `files` maps a file to its rows, `truth` tells what each row is."""

    def __init__(self, seed: int, world: World, reasoner: Reasoner, scale: float) -> None:
        draw = self._draw = Draws(seed, "exam", words=words("exam"))
        self._pool, self._reasoner, self._subjects = ThingPool(world, "exam"), reasoner, texts("subjects")["exam"]
        self.files: dict[str, list[Row]] = {f"wanjuan/exam/{name}.jsonl": [] for name in self._subjects}
        self.truth: list[Row] = []
        factual = [name for name, spec in self._subjects.items() if spec["kinds"]]
        total = scaled(PLANNED, scale, 60)
        odd = [case for case, count in ODD.items() for _ in range(scaled(count, total / PLANNED))]
        cases = draw.shuffled(odd + ["plain"] * (total - len(odd)))
        for case, gold in zip(cases, draw.balanced(len(cases)), strict=True):
            subject = "mathematics" if case in _MATHEMATICS and draw.chance(30) else draw.pick(factual)
            row, item = self._row(case, subject, gold)
            number = len(self.truth)
            key = xxhash.xxh3_64_hexdigest(f"exam{number}{row['q_main']}".encode()) + f"{number:06x}"
            self.files[f"wanjuan/exam/{subject}.jsonl"].append({"id": key, **row})
            self.truth.append({"source": "exam", "item": key, "case": case, "form": item.form} | item.about)

    @property
    def cases(self) -> Counter[str]:
        """The number of rows of each case."""
        return Counter(row["case"] for row in self.truth)

    def _row(self, case: str, subject: str, gold: int) -> tuple[Row, Choice]:
        draw = self._draw
        if made := getattr(self, f"_{case}", None):
            row, item = made(subject)
        else:
            item = self._item(subject)
            if case == "option_e":
                item, gold = self._with_fifth(item, subject), draw.below(5)
            item = item.placed(gold)
            row = self._fields(item)
        if case == "key_in_answer":
            row |= {"std_ans": "", "answer": row["std_ans"]}
        elif case == "no_explanation":
            row["answer_detail"] = ""
        elif case == "placeholder":
            row["answer_detail"] = draw.say("{placeholder}")
        elif case == "no_key":
            row |= {"std_ans": "", "answer_detail": "见教材相关章节。"}
        elif case == "stray_whitespace":
            self._stray(row)
        keypoint = item.topic if draw.chance(80) else f"知识点->{item.topic}"
        row |= {"grade": draw.say("{grade}"), "major": self._subjects[subject]["major"], "keypoint": keypoint}
        if case == "null_keypoint":
            row["keypoint"] = None
        return row, item

    def _item(self, subject: str) -> Choice:
        draw, kinds = self._draw, self._subjects[subject]["kinds"]
        if not kinds:
            return self._reasoner.item(draw, draw.pick(_SUMS))
        item = fact_item(self._pool, draw.pick(kinds), draw)
        # Some rows open as the benchmarks' items do, so that the form can be learnt from training files alone.
        return item.with_lead(draw) if draw.chance(12) else item

    def _fact(self, subject: str) -> Fact:
        return self._pool.fact(self._draw.pick(self._subjects[subject]["kinds"]))

    def _fields(self, item: Choice, q_type: str = "单选题") -> Row:
        """Return the fields of a plain row."""
        row: Row = {"q_type": q_type, "q_main": item.question}
        for number, letter in enumerate("abcde"):
            row[f"option_{letter}"] = item.options[number] if number < len(item.options) else ""
        finish = self._draw.say("{finish}", x=item.letter)
        detail = self._draw.say("{solved}") + item.explain() + finish
        return {**row, "std_ans": item.letter, "answer": "", "answer_detail": detail}

    def _with_fifth(self, item: Choice, subject: str) -> Choice:
        """Return the item with a fifth option; a statement item is replaced, its attributes number four or five."""
        while item.form not in ("value", "thing"):
            item = self._item(subject)
        fact = item.fact
        assert fact
        if item.form == "value":
            spare = self._draw.pick([value for value in fact.wrong if value not in item.options])
        else:
            thing = fact.thing
            while thing.values[fact.attribute.id] == fact.value:
                thing = self._pool.thing(thing.kind.id)
            spare = thing.name
        return replace(item, options=(*item.options, spare))

    def _stray(self, row: Row) -> None:
        draw, detail = self._draw, row["answer_detail"]
        row["q_main"] = draw.pick(["\n", "  ", ""]) + row["q_main"] + draw.pick(["\n", " \n", "  ", "\n\n"])
        middle = len(detail) // 2
        row["answer_detail"] = detail[:middle] + draw.pick(["\n", " ", "  \n"]) + detail[middle:]
        row["option_b"] += draw.pick([" ", "\n", "  "])
        row["std_ans"] = draw.pick([" ", ""]) + row["std_ans"] + draw.pick([" ", "\n"])

    def _multiple_answer(self, subject: str) -> tuple[Row, Choice]:
        draw, fact = self._draw, self._fact(subject)
        facts = draw.sample(fact.thing.facts, 4)
        right = sorted(draw.sample(range(4), draw.pick([2, 2, 2, 3, 3, 4])))
        options, notes = [], []
        for number, one in enumerate(facts):
            wrong = draw.pick(one.wrong)
            options.append(one.state(draw, one.value if number in right else wrong))
            mark = "正确" if number in right else f"错误，{one.attribute.phrase}应为“{one.value}”"
            notes.append(f"{LETTERS[number]}项{mark}")
        key = "".join(LETTERS[i] for i in right)
        item = on_fact(fact, "multiple", fill(draw, "{ask_statement}", fact).replace("一项", "选项"), tuple(options))
        row = self._fields(item, "多选题")
        return row | {"std_ans": key, "answer_detail": "；".join(notes) + "。" + draw.say("{finish}", x=key)}, item

    def _answer_sequence(self, subject: str) -> tuple[Row, Choice]:
        """Three questions under one text; the last one's options stand in the option fields, as published."""
        draw, keys = self._draw, [0, 1, 2]
        items = [self._item(subject) for _ in keys]
        while keys == sorted(set(keys)):
            keys = [draw.below(4) for _ in items]
        items = [item.placed(key) for item, key in zip(items, keys, strict=True)]
        first = draw.between(1, 20)
        parts = [f"阅读下面的材料，完成{first}～{first + 2}题。"]
        for number, item in enumerate(items, first):
            shown = "".join(f" {x}．{o}" for x, o in zip("ABCD", item.options, strict=True))
            parts.append(f"{number}．{item.question}{shown if item is not items[2] else ''}")
        row = self._fields(items[2], "多选题")
        key = "".join(item.letter for item in items)
        detail = "\n".join(f"{number}．{item.explain()}" for number, item in enumerate(items, first)) + f"故选：{key}。"
        return row | {"q_main": "\n".join(parts), "std_ans": key, "answer_detail": detail}, items[2]

    def _true_false(self, subject: str) -> tuple[Row, Choice]:
        draw, fact = self._draw, self._fact(subject)
        true = draw.chance(50)
        value = fact.value if true else draw.pick(fact.wrong)
        options = tuple(draw.say("{judged}").split("，"))
        question = draw.say("{judge}") + fact.state(draw, value) + draw.say("{brackets}")
        more = draw.pick(fact.others)
        verdict = "说法正确" if true else "题中说法有误"
        why = f"{fact.state(draw)}，{verdict}。{more.state(draw)}。"
        item = replace(on_fact(fact, "true_false", question, options, why), gold=int(not true))
        return self._fields(item, "判断题"), item

    def _fill_blank(self, subject: str) -> tuple[Row, Choice]:
        draw, fact = self._draw, self._fact(subject)
        item = on_fact(fact, "fill_blank", draw.say("{blank}") + fact.state(draw, "____") + "。")
        row = self._fields(item, "填空题")
        return row | {"std_ans": "", "answer": fact.value, "answer_detail": fact.state(draw) + "。"}, item

    def _short_answer(self, subject: str) -> tuple[Row, Choice]:
        draw, fact = self._draw, self._fact(subject)
        facts = draw.shuffled(fact.thing.facts)[:3]
        question = draw.say("{short_answer}", n=fact.thing.name, ask="、".join(f.attribute.phrase for f in facts))
        text = "；".join(f"（{i}）{f.state(draw)}" for i, f in enumerate(facts, 1)) + "。"
        item = on_fact(fact, "short_answer", question)
        row = self._fields(item, draw.pick(["简答题", "问答题"]))
        return row | {"std_ans": "", "answer": text, "answer_detail": text}, item
