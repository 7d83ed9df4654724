"""Multiple-choice items on the invented world: of four options only the fact tells which is right."""

from dataclasses import dataclass, replace

from steel_data.sample.draw import Draw, Lexicon
from steel_data.sample.world import Fact, Pool, book, facts_of, person, place

LETTERS = "ABCDE"


@dataclass(frozen=True)
class Item:
    """One question with options. `why` explains without naming letters; `{A}`-like slots stand for options' letters."""

    question: str
    options: tuple[str, ...]
    gold: int
    why: str
    topic: str
    form: str  # value | thing | statement | reason
    thing: str | None = None
    attribute: str | None = None
    value: str | None = None

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return LETTERS[self.gold]

    def explain(self) -> str:
        """Return the explanation with the letters of this order of options."""
        text = self.why
        for number in range(len(self.options)):
            text = text.replace(f"⟨{number}⟩", LETTERS[number])
        return text


def placed(item: Item, gold: int) -> Item:
    """Return the item with the right option moved to position `gold` (the others keep their order)."""
    order = [i for i in range(len(item.options)) if i != item.gold]
    order.insert(gold, item.gold)
    why = item.why
    for new, old in enumerate(order):
        why = why.replace(f"⟨{old}⟩", f"⟨new{new}⟩")
    options = tuple(item.options[i] for i in order)
    return replace(item, options=options, gold=gold, why=why.replace("⟨new", "⟨"))


def with_lead(item: Item, draw: Draw, lexicon: Lexicon) -> Item:
    """Return the item with words before a short question.

    Short questions of one template differ in a name alone, and a matcher of word sequences would take every such row of
    the training files for a copy of the test item.
    """
    if len(item.question) >= 64:
        return item
    lead = draw.say("{long_lead}", lexicon, who=person(draw), where=place(draw), title=book(draw), whom=person(draw))
    return replace(item, question=lead + item.question)


def fact_item(pool: Pool, kind: str, draw: Draw, lexicon: Lexicon) -> Item:
    """Return a new item on a fact that the pool has not asked before."""
    fact = pool.fact(kind)
    roll = draw.below(100)
    if roll < 62:
        return _ask_value(fact, draw, lexicon)
    if roll < 82:
        return _ask_thing(fact, pool, draw, lexicon)
    return _ask_statement(fact, draw, lexicon)


def fill(draw: Draw, template: str, lexicon: Lexicon, about: Fact, **given: object) -> str:
    """Return the template filled with what is known of a fact, and with people, places and books at random."""
    return draw.say(
        template,
        lexicon,
        n=about.thing.name,
        np=about.attribute.phrase,
        kind=about.thing.kind.word,
        measure=about.thing.kind.measure,
        v=about.value,
        who=person(draw),
        where=place(draw),
        title=book(draw),
        **given,
    )


def _make(fact: Fact, question: str, options: list[str], why: str, form: str) -> Item:
    phrase = f"{fact.thing.kind.word}->{fact.attribute.phrase}"
    return Item(question, tuple(options), 0, why, phrase, form, fact.thing.name, fact.attribute.id, fact.value)


def _ask_value(fact: Fact, draw: Draw, lexicon: Lexicon) -> Item:
    wrong = draw.sample([v for v in fact.attribute.values if v != fact.value], 3)
    core = draw.pick(fact.attribute.questions) if draw.chance(60) else draw.pick(lexicon["ask_value"])
    core = fill(draw, core, lexicon, fact)
    question = fill(draw, "{lead}" if draw.chance(70) else "", lexicon, fact) + core
    other = draw.pick([f for f in facts_of(fact.thing) if f.attribute is not fact.attribute])
    why = fill(draw, "{why_value}", lexicon, fact, fact=fact.state(draw), more=other.state(draw), wrong=wrong[0])
    return _make(fact, question, [fact.value, *wrong], why, "value")


def _ask_thing(fact: Fact, pool: Pool, draw: Draw, lexicon: Lexicon) -> Item:
    """Two values are given; none of the wrong things has the first, so the fact alone decides."""
    index = fact.thing.kind.attributes.index(fact.attribute)
    second = draw.pick([f for f in facts_of(fact.thing) if f.attribute is not fact.attribute])
    others = [t for t in pool.things[fact.thing.kind.id] if t.values[index] != fact.value]
    wrong = draw.sample(others, min(3, len(others)))
    while len(wrong) < 3:
        extra = pool.thing(fact.thing.kind.id)
        if extra.values[index] != fact.value:
            wrong.append(extra)
    question = fill(draw, "{ask_thing}", lexicon, fact, np2=second.attribute.phrase, v2=second.value)
    spare = Fact(wrong[0], fact.attribute, wrong[0].values[index])
    why = fill(draw, "{why_thing}", lexicon, fact, fact=fact.state(draw), other=spare.state(draw))
    return _make(fact, question, [fact.thing.name, *(t.name for t in wrong)], why, "thing")


def _ask_statement(fact: Fact, draw: Draw, lexicon: Lexicon) -> Item:
    """Four statements on one thing, each of another attribute, of which one alone is true."""
    facts = [fact, *draw.sample([f for f in facts_of(fact.thing) if f.attribute is not fact.attribute], 3)]
    options = [fact.state(draw)]
    reasons = [fill(draw, "{right_option}", lexicon, fact, x="⟨0⟩")]
    for number, false in enumerate(facts[1:], 1):
        wrong = draw.pick([v for v in false.attribute.values if v != false.value])
        options.append(false.state(draw, wrong))
        reasons.append(fill(draw, "{wrong_option}", lexicon, false, x=f"⟨{number}⟩"))
    question = fill(draw, "{ask_statement}", lexicon, fact)
    return _make(fact, question, options, "；".join(draw.shuffled(reasons)) + "。", "statement")
