"""Items that can be worked out: arithmetic, dates, sequences, order, logic. No two have the same numbers.

texts/reasoning.toml has their groups, the stories, the steps of the solutions, and from where to where numbers go.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from steel_data.sample.draw import Draws, texts, words
from steel_data.sample.items import Choice
from steel_data.sample.world import person, place

Given = dict[str, Any]  # what the slots of a story are filled with
Problem = tuple[tuple[object, ...], Choice]  # what makes it a problem of its own, and the problem
WEEKDAYS, RANKS = "一二三四五六日", "一二三四"

# What follows from the numbers of a problem.
FORMULAS: dict[str, Callable[..., Given]] = {
    "shopping": lambda a, n, b, notes: {
        "total": (total := a * n + b), "paid": (paid := (total // 100 + notes) * 100), "answer": paid - total,
    },
    "travel": lambda v, t, w, s: {"x": v * t, "y": w * s, "answer": v * t + w * s},
    "group": lambda n, k: {"d": n // k, "r": n % k, "answer": -(-n // k)},
    "percent": lambda tens, off, cut: {"price": tens * 10, "now": tens * off, "answer": tens * off - cut},
    "work": lambda x, y, days, first: {
        "done": (done := x * first), "rest": (rest := (x + y) * days), "total": done + rest, "answer": days,
    },
    "years": lambda start, middle, length: {
        "turn": start + middle, "end": start + middle + length, "answer": middle + length,
    },
    "binary": lambda n, m: {"bits": f"{n:b}", "answer": n + m},
    "field": lambda x, y, w: {
        "inner": (inner := x * y), "outer": (outer := (x + 2 * w) * (y + 2 * w)), "answer": outer - inner,
    },
}  # fmt: skip


def around(draw: Draws, answer: int, step: int, unit: str = "") -> tuple[str, ...]:
    """Return the answer and three wrong ones: four neighbours `step` apart, the right one evenly at each rank.

    Were the wrong ones always on both sides, the middle values would be right more often than the others.
    """
    rank = draw.below(4)
    if answer - rank * step < 0:
        step = max(1, answer // 4)
    numbers = [answer + (i - rank) * step for i in range(4)]
    return tuple(f"{n}{unit}" for n in (answer, *(n for n in numbers if n != answer)))


class Reasoner:
    """Makes problems that no other part of the corpus has."""

    def __init__(self) -> None:
        self._words = words("reasoning")
        self._made: set[tuple[object, ...]] = set()

    def item(self, draw: Draws, group: str) -> Choice:
        """Return a new problem of a group, its answer as the first option, its solution as `why`."""
        while True:
            name = draw.pick(texts("reasoning")["groups"][group].split("/"))
            special = getattr(self, f"_{name}", None)
            key, item = special(draw) if special else self._number(draw, name, self._drawn(draw, name))
            if key not in self._made and len(set(item.options)) == 4:
                self._made.add(key)
                return item

    def _told(
        self, draw: Draws, name: str, options: tuple[str, ...], key: tuple[object, ...], **given: object
    ) -> Problem:
        """Return the problem in words; `key` tells it from its like."""
        spec = texts("reasoning")[name]
        question = draw.say(draw.pick(spec["stories"]), self._words, **given)
        steps = draw.say(spec["even" if given.get("r") == 0 else "steps"], self._words, **given)
        return (name, *key), Choice(question, options, f"{steps}。", spec["topic"], "reason")

    def _drawn(self, draw: Draws, name: str) -> Given:
        numbers = {number: draw.between(*span) for number, span in texts("reasoning")[name]["numbers"].items()}
        return numbers | FORMULAS[name](**numbers)

    def _number(self, draw: Draws, name: str, given: Given) -> Problem:
        """Ask for the number `answer`."""
        spec = texts("reasoning")[name]
        apart = draw.pick(spec["apart"]) if len(spec["apart"]) > 1 else spec["apart"][0]
        options = around(draw, given["answer"], apart, spec["unit"])
        people = {"p": person(draw), "q": person(draw), "place": place(draw), "dest": place(draw)}
        scene = {word: draw.pick(self._words[word]) for word in ("goods", "thing", "shop", "team")}
        return self._told(draw, name, options, tuple(given.values()), **people, **scene, **given)

    def _average(self, draw: Draws) -> Problem:
        """A missing number from an average."""
        answer = 0
        while answer < 20:
            known = [draw.between(58, 99) for _ in range(draw.between(3, 5))]
            mean, count, part = draw.between(70, 90), len(known) + 1, sum(known)
            answer = mean * count - part
        given = {"mean": mean, "count": count, "total": mean * count, "part": part, "answer": answer}
        return self._number(draw, "average", given | {"known": "、".join(map(str, known))})

    def _sequence(self, draw: Draws) -> Problem:
        """The next number of a sequence whose differences grow evenly, or whose terms are doubled and shifted."""
        a, d, e, doubling = draw.between(1, 60), draw.between(2, 15), draw.between(1, 9), draw.chance(40)
        terms = [a]
        for i in range(5):
            terms.append(terms[-1] * 2 + e if doubling else terms[-1] + d + e * i)
        steps = "、".join(str(y - x) for x, y in pairwise(terms))
        how = f"后一项等于前一项的2倍加{e}" if doubling else f"相邻两项之差依次为{steps}"
        given = {"terms": "，".join(map(str, terms[:5])), "how": how, "answer": terms[5]}
        return self._number(draw, "sequence", given)

    def _weekday(self, draw: Draws) -> Problem:
        """The day of the week some days on."""
        start, days = draw.below(7), draw.between(11, 890)
        end = (start + days) % 7
        options = tuple(f"星期{WEEKDAYS[i]}" for i in (end, *draw.sample([i for i in range(7) if i != end], 3)))
        given = {"days": days, "weeks": days // 7, "more": days % 7, "p": person(draw), "place": place(draw)}
        shown = {"start": WEEKDAYS[start], "end": WEEKDAYS[end]}
        return self._told(draw, "weekday", options, (start, days), **shown, **given)

    def _clock(self, draw: Draws) -> Problem:
        """When something ends."""
        start, length, rest = draw.between(360, 1000), draw.between(35, 290), draw.between(6, 45)
        step, rank, end = draw.pick([5, 10, 15]), draw.below(4), start + length + rest
        times = (start, end, *(end + (i - rank) * step for i in range(4) if i != rank))
        begin, *options = (f"{time // 60}时{time % 60:02d}分" for time in times)
        given = {"start": begin, "length": length, "rest": rest, "minutes": length + rest, "end": options[0]}
        scene = {"p": person(draw), "place": place(draw), "team": draw.pick(self._words["team"])}
        return self._told(draw, "clock", tuple(options), (start, length, rest), **given, **scene)

    def _order(self, draw: Draws) -> Problem:
        """Four people in an order, told by three comparisons."""
        people: list[str] = []
        while len(people) < 4:
            name = person(draw)
            people += [name] if name not in people else []
        more, most, ask = draw.pick(self._words["order_words"]).split("，")
        facts = "，".join(draw.shuffled([f"{a}{more}{b}{most}" for a, b in pairwise(people)]))
        rank = draw.below(4)
        options = (people[rank], *(name for name in people if name != people[rank]))
        given = {"facts": facts, "ask": ask, "rank": RANKS[rank], "people": "、".join(people), "answer": people[rank]}
        return self._told(draw, "order", options, (*people, rank), **given)

    def _liar(self, draw: Draws) -> Problem:
        """One of four did it, and one or two of the statements are true."""
        names: list[str] = []
        while len(set(names)) < 4:
            names = [person(draw) for _ in range(4)]
        blamed, one = draw.below(4), draw.chance(50)
        first, third = draw.sample([i for i in range(4) if i != blamed], 2)
        culprit = names[third if one else blamed]
        options = (culprit, *(name for name in names if name != culprit))
        speakers = {"a": names[first], "b": names[blamed], "c": names[third]}
        said, why = (
            draw.say(texts("reasoning")["liar"][x]["one" if one else "two"], **speakers) for x in ("said", "why")
        )
        given = {"people": "、".join(names), "count": "一" if one else "两", "deed": draw.pick(self._words["deed"])}
        return self._told(draw, "liar", options, (*names, one), said=said, why=why, **given)
