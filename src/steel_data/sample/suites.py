"""C-Eval and CMMLU, on things and numbers that stand nowhere else in the corpus.

Layouts: `cmmlu/{dev,test}/{subject}.csv` as CMMLU's archive has them (the index column has no name), and
`ceval/{dev,val,test}/{subject}_{split}.csv` as ceval-exam.zip has them (only `dev` explains, `test` has no answers).
texts/subjects.toml tells what each subject asks about.
"""

from dataclasses import dataclass, replace
from typing import Any

from steel_data.sample.draw import Draws, Row, scaled, texts, words
from steel_data.sample.items import Choice, fact_item
from steel_data.sample.reasoning import Reasoner
from steel_data.sample.world import ThingPool, World

SIZES = {"cmmlu": {"dev": 5, "test": 150}, "ceval": {"dev": 5, "val": 60, "test": 120}}
SHARED, SHARED_SUBJECT = 24, "high_school_geography"  # items that stand in both benchmarks, as real ones do
REPEATED = 30  # question texts that stand twice in a benchmark's test split, with other options


@dataclass(frozen=True)
class Placed:
    """An item and where it stands: `benchmark`, and its id as DESIGN has it (`{split}/{subject}/{row:05d}`)."""

    benchmark: str
    place: str
    item: Choice


class Suites:
    """Both benchmarks: `items` holds every row, `shared` and `repeated` the pairs of places."""

    def __init__(self, seed: int, world: World, reasoner: Reasoner, scale: float) -> None:
        exam = words("exam")
        # One lead is enough: the long one is set before the plain form of a question.
        plain = {"lead": [""], "ask_thing": exam["plain_thing"], "ask_statement": exam["plain_statement"]}
        self._draw = Draws(seed, "suites", words={**exam, **plain})
        self._pools = {name: ThingPool(world, name) for name in ("cmmlu", "ceval", "shared")}
        self._reasoner = reasoner
        self.items: list[Placed] = []
        self.repeated: list[dict[str, str]] = []
        geography = texts("subjects")["cmmlu"][SHARED_SUBJECT] | {"percent": 60}
        both = [self._new("shared", geography) for _ in range(scaled(SHARED, scale, 2))]
        for benchmark in ("cmmlu", "ceval"):
            self._make(benchmark, both, scale)
        self.shared = [pair for item in both if (pair := self._pair(item))]

    def _make(self, benchmark: str, both: list[Choice], scale: float) -> None:
        subjects, repeats = texts("subjects")[benchmark], scaled(REPEATED, scale, 2)
        for number, (subject, spec) in enumerate(subjects.items()):
            for split, size in SIZES[benchmark].items():
                count = size if split == "dev" else scaled(size, scale, 8)
                shared = both[: count // 2] if split == "test" and subject == SHARED_SUBJECT else []
                again = repeats // len(subjects) + (number < repeats % len(subjects)) if split == "test" else 0
                self._place(benchmark, f"{split}/{subject}", self._split(benchmark, spec, count, shared, again))

    def _split(self, pool: str, spec: dict[str, Any], count: int, shared: list[Choice], repeats: int) -> list[Choice]:
        new = [self._new(pool, spec) for _ in range(count - len(shared) - repeats)]
        asked = [item for item in new if item.form == "value"]
        new += [self._again(item) for item in self._draw.sample(asked, min(repeats, len(asked)))]
        new += [self._new(pool, spec) for _ in range(count - len(shared) - len(new))]
        return self._draw.shuffled(new + shared)

    def _new(self, pool: str, spec: dict[str, Any]) -> Choice:
        draw = self._draw
        if not spec["kinds"] or draw.chance(spec["percent"]):
            return self._reasoner.item(draw, draw.pick(spec["worked"])).with_lead(draw)
        return fact_item(self._pools[pool], draw.pick(spec["kinds"]), draw).with_lead(draw)

    def _again(self, item: Choice) -> Choice:
        """Return the item, which asks for a value, with three other wrong options."""
        assert item.fact
        wrong = self._draw.sample([value for value in item.fact.wrong if value not in item.options], 3)
        why = item.why
        for old, new in zip(item.options[1:], wrong, strict=True):
            why = why.replace(old, new)
        return replace(item, options=(item.options[0], *wrong), why=why)

    def _place(self, benchmark: str, folder: str, items: list[Choice]) -> None:
        stems: dict[str, str] = {}
        for row, (item, gold) in enumerate(zip(items, self._draw.balanced(len(items)), strict=True)):
            place = f"{folder}/{row:05d}"
            self.items.append(Placed(benchmark, place, item.placed(gold)))
            if item.question in stems:
                self.repeated.append({"benchmark": benchmark, "first": stems[item.question], "again": place})
            stems.setdefault(item.question, place)

    def _pair(self, shared: Choice) -> dict[str, object] | None:
        """Return where a shared item stands in both benchmarks (None where a small corpus has room in one alone)."""
        found = {one.benchmark: one for one in self.items if one.item.question == shared.question}
        if len(found) < 2:
            return None
        same = found["cmmlu"].item.options == found["ceval"].item.options
        return {name: one.place for name, one in found.items()} | {"same_order": same}

    def quotable(self) -> list[Placed]:
        """Return the test items that stand once only and are long enough to be recognised by their question."""
        twice = {place for pair in self.repeated for place in (pair["first"], pair["again"])}
        twice |= {str(pair[benchmark]) for pair in self.shared for benchmark in SIZES}
        tests = [one for one in self.items if one.place.startswith("test/") and one.place not in twice]
        return [one for one in tests if len(one.item.question) >= 20]

    def files(self) -> dict[str, list[Row]]:
        """Return file -> rows."""
        made: dict[str, list[Row]] = {}
        for one in self.items:
            split, subject, row = one.place.split("/")
            item, options = one.item, dict(zip("ABCD", one.item.options, strict=True))
            if one.benchmark == "cmmlu":
                file = f"cmmlu/{split}/{subject}.csv"
                cells = {"": int(row), "Question": item.question, **options, "Answer": item.letter}
            else:
                file = f"ceval/{split}/{subject}_{split}.csv"
                cells = {"id": int(row), "question": item.question, **options}
                cells |= {"answer": item.letter} if split != "test" else {}
                cells |= {"explanation": f"1. {item.explain()}"} if split == "dev" else {}
            made.setdefault(file, []).append(cells)
        return made

    def truth(self) -> list[Row]:
        """Return one row an item: what it is about, its right letter (C-Eval's test file does not tell) and form."""
        return [
            {"source": one.benchmark, "item": one.place, "form": one.item.form, "answer": one.item.letter}
            | one.item.about
            for one in self.items
        ]
