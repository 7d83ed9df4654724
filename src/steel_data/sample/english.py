"""OpenBookQA, ARC and LogiQA, on an invented world and worked puzzles of our own.

Layouts: the parquet files of allenai/openbookqa (`main`), allenai/ai2_arc (a few of its rows number their options 1 to
4) and lucasmccabe/logiqa on the Hugging Face hub.
"""

from itertools import pairwise

from steel_data.sample.draw import Draws, Row, capital, scaled, words
from steel_data.sample.items import Choice, on_fact
from steel_data.sample.reasoning import around
from steel_data.sample.world import ThingPool, World

SIZES = {"train": 400, "test": 80}
_LEAST = {"train": 8, "test": 4}


class Sums:
    """English word problems, none twice: `used` remembers their numbers."""

    def __init__(self) -> None:
        self._used: set[tuple[int, int, int]] = set()

    def problem(self, draw: Draws) -> tuple[str, str, int]:
        """Return a new problem, its solution in words and its answer."""
        numbers = None
        while numbers is None or numbers in self._used:
            numbers = (draw.between(3, 40), draw.between(3, 25), draw.between(9, 160))
        self._used.add(numbers)
        a, b, rest = numbers
        exam = words("english")
        question = draw.say(draw.pick(exam["sums"]), exam, a=a, b=b, paid=a * b + rest)
        return question, f"{a} × {b} = {a * b}, and {a * b + rest} − {a * b} = {rest}.", rest

    def item(self, draw: Draws) -> Choice:
        """Return a new problem as a multiple-choice item."""
        question, steps, answer = self.problem(draw)
        return Choice(question, around(draw, answer, draw.pick([2, 5, 7])), steps, "arithmetic", "reason")


class EnglishSets:
    """The three sets: `files` maps a file to its rows, `truth` tells what each row is about."""

    def __init__(self, seed: int, world: World, sums: Sums, scale: float) -> None:
        self._seed, self._sums = seed, sums
        self.files: dict[str, list[Row]] = {}
        self.truth: list[Row] = []
        pools = {split: ThingPool(world, f"english-{split}") for split in SIZES}
        for split, size in SIZES.items():
            count, shard = scaled(size, scale, _LEAST[split]), f"{split}-00000-of-00001.parquet"
            self.files[f"openbookqa/main/{shard}"] = self._choices("openbookqa", split, count, pools[split])
            for part in ("ARC-Challenge", "ARC-Easy"):
                self.files[f"ai2_arc/{part}/{shard}"] = self._choices(part, split, count, pools[split])
            self.files[f"logiqa/{split}.parquet"] = self._puzzles(split, count)

    def _choices(self, name: str, split: str, count: int, pool: ThingPool) -> list[Row]:
        draw, arc = Draws(self._seed, name, split, words=words("english")), name.startswith("ARC")
        rows: list[Row] = []
        for number, gold in enumerate(draw.balanced(count)):
            item = (self._sums.item(draw) if draw.chance(25) else _item(draw, pool)).placed(gold)
            labels = list("1234" if arc and draw.chance(4) else "ABCD")
            key = f"{name.replace('-', '_')}_{split}_{number:04d}" if arc else f"{split}-{number}"
            rows.append({
                "id": key, "question" if arc else "question_stem": item.question,
                "choices": {"text": list(item.options), "label": labels}, "answerKey": labels[gold],
            })  # fmt: skip
            place = f"{split}/{number:05d}"
            self.truth.append({"source": name.lower(), "item": place, "form": item.form} | item.about)
        return rows

    def _puzzles(self, split: str, count: int) -> list[Row]:
        """Four people in an order, told by three comparisons: who has this rank?"""
        draw = Draws(self._seed, "logiqa", split, words=words("english"))
        told: dict[tuple[str, ...], tuple[str, str]] = {}  # the people in order and the one asked for -> the texts
        while len(told) < count:
            people = draw.sample(draw.words["name"], 4)
            facts = [draw.say("{before}", x=x, y=y) for x, y in pairwise(people)]
            rank = draw.below(4)
            if (*people, people[rank]) in told:
                continue
            shown = dict(zip("abcd", draw.shuffled(people), strict=True))
            text = ". ".join(capital(fact) for fact in draw.shuffled(facts))
            context = draw.say("{context}", facts=text, **shown)
            told[*people, people[rank]] = (context, draw.say("{query}", rank=rank + 1))
        rows: list[Row] = []
        for gold, ((*people, right), (context, query)) in zip(draw.balanced(count), told.items(), strict=True):
            options = [name for name in draw.shuffled(people) if name != right]
            options.insert(gold, right)
            self.truth.append({"source": "logiqa", "item": f"{split}/{len(rows):05d}", "form": "reason"})
            rows.append({"context": context, "query": query, "options": options, "correct_option": gold})
        return rows


def _item(draw: Draws, pool: ThingPool) -> Choice:
    """Return an item on a new fact: which value has the thing, or which thing has the value."""
    fact = pool.fact(draw.pick(pool.kinds))
    if draw.chance(30):
        options = [fact.thing.name, *(thing.name for thing in pool.unlike(fact, 3, draw))]
        template, form = draw.pick(draw.words["ask_thing"]), "thing"
    else:
        wrong = draw.sample(fact.wrong, 3)
        template = "{lead}" + draw.pick(fact.attribute.questions if draw.chance(70) else draw.words["ask_value"])
        options, form = [fact.value, *wrong], "value"
    question = capital(draw.say(template, **fact.slots))
    return on_fact(fact, form, question, tuple(options), capital(fact.state(draw)) + ".")
