"""OpenBookQA, ARC and LogiQA in their published columns, on an invented world and worked puzzles of our own."""

from itertools import pairwise

import pyarrow as pa

from steel_data.sample.draw import Draw, Lexicon, balanced
from steel_data.sample.exam import Row, scaled
from steel_data.sample.items import Item, placed
from steel_data.sample.reasoning import around
from steel_data.sample.world import Fact, Pool

TRAIN, TEST = 400, 80
CHOICES = pa.struct([("text", pa.list_(pa.string())), ("label", pa.list_(pa.string()))])
OPENBOOK = pa.schema(
    [("id", pa.string()), ("question_stem", pa.string()), ("choices", CHOICES), ("answerKey", pa.string())]
)
ARC = pa.schema([("id", pa.string()), ("question", pa.string()), ("choices", CHOICES), ("answerKey", pa.string())])
LOGIQA = pa.schema(
    [
        ("context", pa.string()),
        ("query", pa.string()),
        ("options", pa.list_(pa.string())),
        ("correct_option", pa.int64()),
    ]
)


def capital(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


class EnglishSets:
    """Makes the English sets: `tables` maps a file to its schema and rows, `truth` tells what each row is about."""

    def __init__(self, seed: int, pools: dict[str, Pool], lexicon: Lexicon) -> None:
        self._seed, self._pools, self._lexicon = seed, pools, lexicon
        self._sums: set[tuple[int, int, int]] = set()
        self.truth: list[Row] = []

    def tables(self, scale: float) -> dict[str, tuple[pa.Schema, list[Row]]]:
        """Return file -> (schema, rows)."""
        made: dict[str, tuple[pa.Schema, list[Row]]] = {}
        shard = "-00000-of-00001.parquet"
        for split, count in (("train", scaled(TRAIN, scale, 8)), ("test", scaled(TEST, scale, 4))):
            made[f"openbookqa/main/{split}{shard}"] = (OPENBOOK, self._choices("openbookqa", split, count))
            for part in ("ARC-Challenge", "ARC-Easy"):
                made[f"ai2_arc/{part}/{split}{shard}"] = (ARC, self._choices(part, split, count))
            made[f"logiqa/{split}.parquet"] = (LOGIQA, self._puzzles(split, count))
        return made

    def _choices(self, name: str, split: str, count: int) -> list[Row]:
        draw = Draw(self._seed, name, split)
        rows = []
        for number, gold in enumerate(balanced(draw, count)):
            item = self._sum(draw) if draw.chance(25) else self._fact(draw, self._pools[f"english-{split}"])
            item = placed(item, gold)
            labels = list("1234") if name.startswith("ARC") and draw.chance(4) else list("ABCD")
            key = f"{name.replace('-', '_')}_{split}_{number:04d}" if name.startswith("ARC") else f"{split}-{number}"
            question = "question" if name.startswith("ARC") else "question_stem"
            choices = {"text": list(item.options), "label": labels}
            rows.append({"id": key, question: item.question, "choices": choices, "answerKey": labels[gold]})
            self.truth.append({
                "source": name.lower(), "item": f"{split}/{number:05d}", "form": item.form,
                "thing": item.thing, "attribute": item.attribute, "value": item.value,
            })  # fmt: skip
        return rows

    def _fact(self, draw: Draw, pool: Pool) -> Item:
        kind = draw.pick(list(pool.kinds))
        fact = pool.fact(kind)
        given = {"n": fact.thing.name, "np": fact.attribute.phrase, "v": fact.value, "kind": fact.thing.kind.word}
        if draw.chance(30):
            options, template, form = self._things(draw, pool, fact), draw.pick(self._lexicon["ask_thing"]), "thing"
        else:
            wrong = draw.sample([v for v in fact.attribute.values if v != fact.value], 3)
            asks = fact.attribute.questions if draw.chance(70) else self._lexicon["ask_value"]
            options, template, form = [fact.value, *wrong], "{lead}" + draw.pick(asks), "value"
        question = capital(draw.say(template, self._lexicon, **given))
        return Item(
            question, tuple(options), 0, capital(fact.state(draw)) + ".", fact.attribute.phrase, form, fact.thing.name,
            fact.attribute.id, fact.value,
        )  # fmt: skip

    def _things(self, draw: Draw, pool: Pool, fact: Fact) -> list[str]:
        index = fact.thing.kind.attributes.index(fact.attribute)
        others = [t.name for t in pool.things[fact.thing.kind.id] if t.values[index] != fact.value]
        while len(others) < 3:
            extra = pool.thing(fact.thing.kind.id)
            others += [extra.name] if extra.values[index] != fact.value else []
        return [fact.thing.name, *draw.sample(others, 3)]

    def _sum(self, draw: Draw) -> Item:
        question, steps, answer = self.problem(draw)
        right, wrong = around(draw, answer, draw.pick([2, 5, 7]))
        return Item(question, (right, *wrong), 0, steps, "arithmetic", "reason")

    def problem(self, draw: Draw) -> tuple[str, str, int]:
        """Return a new word problem, its solution in words and its answer."""
        while True:
            a, b, rest = draw.between(3, 40), draw.between(3, 25), draw.between(9, 160)
            if (a, b, rest) not in self._sums:
                break
        self._sums.add((a, b, rest))
        story = draw.pick(self._lexicon["sums"]).split("|")[0]
        question = draw.say(story, self._lexicon, a=a, b=b, paid=a * b + rest)
        return question, f"{a} × {b} = {a * b}, and {a * b + rest} − {a * b} = {rest}.", rest

    def _puzzles(self, split: str, count: int) -> list[Row]:
        draw, names = Draw(self._seed, "logiqa", split), list(self._lexicon["name"])
        rows: list[tuple[str, str, list[str], int]] = []
        seen: set[tuple[object, ...]] = set()
        while len(rows) < count:
            people = draw.sample(names, 4)
            facts = [draw.say("{before}", self._lexicon, x=x, y=y) for x, y in pairwise(people)]
            rank = draw.below(4)
            if (*people, rank) in seen:
                continue
            seen.add((*people, rank))
            shown = dict(zip("abcd", draw.shuffled(people), strict=True))
            text = ". ".join(capital(fact) for fact in draw.shuffled(facts))
            context = draw.say("{context}", self._lexicon, facts=text, **shown)
            query = draw.say("{query}", self._lexicon, rank="1234"[rank])
            rows.append((context, query, people, rank))
        made = []
        for number, ((context, query, people, rank), gold) in enumerate(zip(rows, balanced(draw, count), strict=True)):
            wrong = [p for p in draw.shuffled(people) if p != people[rank]]
            options = [*wrong[:gold], people[rank], *wrong[gold:]]
            made.append({"context": context, "query": query, "options": options, "correct_option": gold})
            self.truth.append({"source": "logiqa", "item": f"{split}/{number:05d}", "form": "reason"})
        return made
