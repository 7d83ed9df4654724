"""C-Eval and CMMLU in their published layouts, on things and numbers that stand nowhere else in the corpus."""

from dataclasses import dataclass, replace

from steel_data.sample.draw import Draw, Lexicon, balanced
from steel_data.sample.exam import Row, scaled
from steel_data.sample.items import Item, fact_item, placed, with_lead
from steel_data.sample.reasoning import Reasoner
from steel_data.sample.world import Pool

# subject -> (kinds of things, groups of worked items, percentage of worked items)
Subject = tuple[tuple[str, ...], tuple[str, ...], int]
CMMLU: dict[str, Subject] = {
    "agronomy": (("plant", "animal"), ("land",), 12),
    "arts": (("instrument", "building"), ("years",), 10),
    "astronomy": (("star",), ("years",), 12),
    "chinese_food_culture": (("dish", "festival"), ("money",), 12),
    "chinese_history": (("dynasty", "person"), ("years",), 14),
    "computer_science": (("protocol", "device"), ("binary",), 20),
    "construction_project_management": (("building", "law"), ("build",), 18),
    "economics": (("currency",), ("money",), 20),
    "elementary_mathematics": ((), ("sums", "build", "land"), 100),
    "ethnology": (("folk", "festival"), ("years",), 8),
    "high_school_biology": (("animal", "plant"), ("money",), 10),
    "high_school_geography": (("river", "town"), ("land",), 14),
    "logical": ((), ("logic",), 100),
    "philosophy": (("school", "book"), ("logic",), 12),
    "professional_law": (("law",), ("years",), 10),
    "sports_science": (("sport",), ("team",), 14),
}
CEVAL: dict[str, Subject] = {
    "art_studies": (("instrument", "person"), ("years",), 8),
    "business_administration": (("currency", "dish"), ("money",), 20),
    "chinese_language_and_literature": (("book", "person"), ("years",), 8),
    "civil_servant": (("law", "town"), ("logic", "sums"), 40),
    "computer_network": (("protocol",), ("binary",), 18),
    "high_school_biology": (("plant", "animal"), ("team",), 10),
    "high_school_geography": (("river", "town"), ("land",), 14),
    "high_school_history": (("dynasty", "folk"), ("years",), 14),
    "law": (("law",), ("money",), 10),
    "logic": ((), ("logic",), 100),
    "middle_school_physics": (("device", "star", "mineral"), ("land", "build"), 20),
    "plant_protection": (("plant",), ("build",), 10),
}
SIZES = {"cmmlu": {"dev": 5, "test": 150}, "ceval": {"dev": 5, "val": 60, "test": 120}}
SHARED = 24  # items that stand in both benchmarks, as real ones do
REPEATED = 30  # question texts that stand twice in a benchmark's test split, with other options


@dataclass(frozen=True)
class Placed:
    """An item and where it stands: `benchmark`, and its id as DESIGN has it (`{split}/{subject}/{row:05d}`)."""

    benchmark: str
    place: str
    item: Item


class Suites:
    """Makes both benchmarks. `items` then holds every row, `shared` and `repeated` the pairs of places."""

    def __init__(self, seed: int, pools: dict[str, Pool], reasoner: Reasoner, lexicon: Lexicon) -> None:
        self._draw = Draw(seed, "suites")
        # One lead is enough: the long one is set before the plain form of a question.
        plain = {"lead": [""], "ask_thing": lexicon["plain_thing"], "ask_statement": lexicon["plain_statement"]}
        self._pools, self._reasoner, self._lexicon = pools, reasoner, {**lexicon, **plain}
        self.items: list[Placed] = []
        self.shared: list[dict[str, object]] = []
        self.repeated: list[dict[str, str]] = []

    def make(self, scale: float) -> None:
        """Make all items of both benchmarks."""
        both = [self._new("shared", CMMLU["high_school_geography"], 60) for _ in range(scaled(SHARED, scale, 2))]
        for benchmark, subjects in (("cmmlu", CMMLU), ("ceval", CEVAL)):
            repeats = scaled(REPEATED, scale, 2)
            for number, (subject, spec) in enumerate(subjects.items()):
                share = both if subject == "high_school_geography" else []
                again = repeats // len(subjects) + (number < repeats % len(subjects))
                for split, size in SIZES[benchmark].items():
                    count = size if split == "dev" else scaled(size, scale, 8)
                    test = split == "test"
                    items = self._split(benchmark, spec, count, share if test else [], again if test else 0)
                    self._place(benchmark, split, subject, items)
        self._pair(both)

    def _split(self, benchmark: str, spec: Subject, count: int, shared: list[Item], repeats: int) -> list[Item]:
        shared = shared[: count // 2]
        new = [self._new(benchmark, spec) for _ in range(count - len(shared) - repeats)]
        asked = [item for item in new if item.form == "value"]
        repeats = min(repeats, len(asked)) if spec[0] else 0
        new += [self._again(item) for item in self._draw.sample(asked, repeats)]
        new += [self._new(benchmark, spec) for _ in range(count - len(shared) - len(new))]
        return self._draw.shuffled(new + shared)

    def _new(self, pool: str, spec: Subject, percent: int | None = None) -> Item:
        kinds, groups, worked = spec
        if not kinds or self._draw.chance(worked if percent is None else percent):
            item = self._reasoner.item(self._draw, self._draw.pick(groups))
        else:
            item = fact_item(self._pools[pool], self._draw.pick(kinds), self._draw, self._lexicon)
        return with_lead(item, self._draw, self._lexicon)

    def _again(self, item: Item) -> Item:
        """Return the item with three other wrong options."""
        pool = next(p for p in self._pools.values() if any(t.name == item.thing for g in p.things.values() for t in g))
        kind = next(k for k in pool.kinds.values() if any(t.name == item.thing for t in pool.things[k.id]))
        values = next(a for a in kind.attributes if a.id == item.attribute).values
        wrong = self._draw.sample([v for v in values if v not in item.options], 3)
        why = item.why
        for old, new in zip(item.options[1:], wrong, strict=True):
            why = why.replace(old, new)
        return replace(item, options=(item.options[0], *wrong), why=why)

    def _place(self, benchmark: str, split: str, subject: str, items: list[Item]) -> None:
        stems: dict[str, str] = {}
        for row, (item, gold) in enumerate(zip(items, balanced(self._draw, len(items)), strict=True)):
            place = f"{split}/{subject}/{row:05d}"
            self.items.append(Placed(benchmark, place, placed(item, gold)))
            if item.question in stems:
                self.repeated.append({"benchmark": benchmark, "first": stems[item.question], "again": place})
            stems.setdefault(item.question, place)

    def _pair(self, both: list[Item]) -> None:
        places: dict[str, dict[str, Placed]] = {item.question: {} for item in both}
        for one in self.items:
            if one.item.question in places:
                places[one.item.question][one.benchmark] = one
        for pair in places.values():
            if len(pair) == 2:
                same = pair["cmmlu"].item.options == pair["ceval"].item.options
                self.shared.append({k: p.place for k, p in pair.items()} | {"same_order": same})

    def files(self) -> dict[str, tuple[list[str], list[list[str]]]]:
        """Return file -> (header, rows) as published: CMMLU's index has no name, C-Eval's test no answers."""
        made: dict[str, tuple[list[str], list[list[str]]]] = {}
        for one in self.items:
            split, subject, row = one.place.split("/")
            number, item = str(int(row)), one.item
            if one.benchmark == "cmmlu":
                header = ["", "Question", "A", "B", "C", "D", "Answer"]
                file, cells = f"cmmlu/{split}/{subject}.csv", [item.letter]
            else:
                header = ["id", "question", "A", "B", "C", "D", "answer", "explanation"]
                header = header[: {"test": 6, "val": 7, "dev": 8}[split]]
                file, cells = f"ceval/{split}/{subject}_{split}.csv", [item.letter, f"1. {item.explain()}"]
                cells = cells[: len(header) - 6]
            made.setdefault(file, (header, []))[1].append([number, item.question, *item.options, *cells])
        return made

    def truth(self) -> list[Row]:
        """Return one row an item: what it is about, its right letter (C-Eval's test file does not tell) and form."""
        return [
            {
                "source": one.benchmark, "item": one.place, "form": one.item.form, "answer": one.item.letter,
                "thing": one.item.thing, "attribute": one.item.attribute, "value": one.item.value,
            }
            for one in self.items
        ]  # fmt: skip
