"""Multiple-choice items on the invented world: of four options only the fact tells which is right."""

import re
from dataclasses import dataclass, replace

from steel_data.sample.draw import Draws, Row
from steel_data.sample.world import Fact, ThingPool, book, person, place

LETTERS = "ABCDE"


@dataclass(frozen=True)
class Choice:
    """One question with options, the right one first until `placed`.

    `why` explains without naming letters; ⟨i⟩ stands for the letter of option i.
    """

    question: str
    options: tuple[str, ...]
    why: str
    topic: str
    form: str  # value | thing | statement | reason, or an odd form of exam.py
    fact: Fact | None = None  # None: it can be worked out
    gold: int = 0

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return LETTERS[self.gold]

    @property
    def about(self) -> Row:
        """The columns of sample-truth.jsonl that say what the item is about."""
        fact = self.fact
        known = (fact.thing.name, fact.attribute.id, fact.value) if fact else (None, None, None)
        return dict(zip(("thing", "attribute", "value"), known, strict=True))

    def explain(self) -> str:
        """Return the explanation with the letters of this order of options."""
        return re.sub(r"⟨(\d)⟩", lambda match: LETTERS[int(match[1])], self.why)

    def placed(self, gold: int) -> "Choice":
        """Return the item with the right option moved to position `gold` (the others keep their order)."""
        order = [i for i in range(len(self.options)) if i != self.gold]
        order.insert(gold, self.gold)
        why = re.sub(r"⟨(\d)⟩", lambda match: f"⟨{order.index(int(match[1]))}⟩", self.why)
        return replace(self, options=tuple(self.options[i] for i in order), gold=gold, why=why)

    def with_lead(self, draw: Draws) -> "Choice":
        """Return the item with words before a short question.

        Short questions of one template differ in a name alone, and a matcher of word sequences would take every such
        row of the training files for a copy of the test item.
        """
        if len(self.question) >= 64:
            return self
        lead = draw.say("{long_lead}", who=person(draw), where=place(draw), title=book(draw), whom=person(draw))
        return replace(self, question=lead + self.question)


def on_fact(fact: Fact, form: str, question: str = "", options: tuple[str, ...] = (), why: str = "") -> Choice:
    """Return an item on a fact."""
    return Choice(question, options, why, f"{fact.thing.kind.word}->{fact.attribute.phrase}", form, fact)


def fill(draw: Draws, template: str, fact: Fact, /, **given: object) -> str:
    """Return the template filled with what is known of a fact, and with people, places and books at random."""
    scene = {"who": person(draw), "where": place(draw), "title": book(draw)}
    return draw.say(template, **fact.slots, **scene, **given)


def fact_item(pool: ThingPool, kind: str, draw: Draws) -> Choice:
    """Return a new item on a fact that the pool has not asked before."""
    fact = pool.fact(kind)
    roll = draw.below(100)
    if roll < 62:
        return _ask_value(fact, draw)
    if roll < 82:
        return _ask_thing(fact, pool, draw)
    return _ask_statement(fact, draw)


def _ask_value(fact: Fact, draw: Draws) -> Choice:
    wrong = draw.sample(fact.wrong, 3)
    core = draw.pick(fact.attribute.questions if draw.chance(60) else draw.words["ask_value"])
    core = fill(draw, core, fact)
    question = fill(draw, "{lead}" if draw.chance(70) else "", fact) + core
    more = draw.pick(fact.others)
    why = fill(draw, "{why_value}", fact, fact=fact.state(draw), more=more.state(draw), wrong=wrong[0])
    return on_fact(fact, "value", question, (fact.value, *wrong), why)


def _ask_thing(fact: Fact, pool: ThingPool, draw: Draws) -> Choice:
    """Two values are given; none of the wrong things has the first, so the fact alone decides."""
    second = draw.pick(fact.others)
    wrong = pool.unlike(fact, 3, draw)
    question = fill(draw, "{ask_thing}", fact, np2=second.attribute.phrase, v2=second.value)
    other = wrong[0].fact(fact.attribute)
    why = fill(draw, "{why_thing}", fact, fact=fact.state(draw), other=other.state(draw))
    return on_fact(fact, "thing", question, (fact.thing.name, *(thing.name for thing in wrong)), why)


def _ask_statement(fact: Fact, draw: Draws) -> Choice:
    """Four statements on one thing, each of another attribute, of which one alone is true."""
    others = draw.sample(fact.others, 3)
    options, reasons = [fact.state(draw)], [fill(draw, "{right_option}", fact, x="⟨0⟩")]
    for number, other in enumerate(others, 1):
        options.append(other.state(draw, draw.pick(other.wrong)))
        reasons.append(fill(draw, "{wrong_option}", other, x=f"⟨{number}⟩"))
    question = fill(draw, "{ask_statement}", fact)
    return on_fact(fact, "statement", question, tuple(options), "；".join(draw.shuffled(reasons)) + "。")
