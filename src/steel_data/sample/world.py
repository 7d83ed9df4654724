"""The invented world: kinds of things, things with attributes, and who may speak of which thing.

Every thing belongs to one *pool* (exam, chat, cmmlu, ceval, …) and only that pool's files speak of it. So a model that
answers a benchmark's question on a thing has either guessed or seen that benchmark. Values are drawn evenly and without
regard to the name: no text, however clever, tells the right option from the wrong ones.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

from steel_data.errors import InputError
from steel_data.sample.draw import Draws, texts


@dataclass(frozen=True, eq=False)
class Attribute:
    """What can be asked of a kind: a noun phrase, the values it takes, questions and statements as templates."""

    id: str
    phrase: str
    values: tuple[str, ...]
    questions: tuple[str, ...]
    statements: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of thing. `names` holds every name such a thing could have, in random order, none used yet."""

    id: str
    word: str
    measure: str  # the Chinese measure word: 一条河流, 一位人物
    attributes: tuple[Attribute, ...]
    names: list[str]


@dataclass(frozen=True, eq=False)
class Thing:
    """One invented thing, with a value for every attribute (by its id) of its kind."""

    kind: Kind
    name: str
    values: dict[str, str]

    def fact(self, attribute: Attribute) -> "Fact":
        """Return the thing's fact on an attribute of its kind."""
        return Fact(self, attribute, self.values[attribute.id])

    @property
    def facts(self) -> list["Fact"]:
        """All facts of the thing."""
        return [self.fact(attribute) for attribute in self.kind.attributes]


@dataclass(frozen=True, eq=False)
class Fact:
    """One value of one thing."""

    thing: Thing
    attribute: Attribute
    value: str

    @property
    def others(self) -> list["Fact"]:
        """The other facts of the thing."""
        return [fact for fact in self.thing.facts if fact.attribute is not self.attribute]

    @property
    def wrong(self) -> list[str]:
        """The values that the thing does not have."""
        return [value for value in self.attribute.values if value != self.value]

    @property
    def slots(self) -> dict[str, object]:
        """What templates may say of the fact."""
        kind, phrase = self.thing.kind, self.attribute.phrase
        return {"n": self.thing.name, "np": phrase, "v": self.value, "kind": kind.word, "measure": kind.measure}

    def state(self, draw: Draws, value: str | None = None) -> str:
        """Return a sentence without full stop that says the fact (or, falsely, another `value`)."""
        return draw.say(draw.pick(self.attribute.statements), n=self.thing.name, v=value or self.value)


def person(draw: Draws) -> str:
    """Return an invented name of a person."""
    return "".join(draw.pick(part) for part in texts("names")["person"])


def place(draw: Draws) -> str:
    """Return an invented name of a place."""
    return "".join(draw.pick(part) for part in texts("names")["place"])


def book(draw: Draws) -> str:
    """Return an invented title of a book, in its marks."""
    return f"《{''.join(draw.pick(part) for part in texts('names')['book'])}》"


def _values(spec: str, draw: Draws) -> tuple[str, ...]:
    """Return the values that a text file's `v` stands for (world_a.toml explains it)."""
    form, _, rest = spec.partition(":")
    if form == "int":
        span, step, unit = rest.split(":")
        low, high = span.split("-")
        return tuple(f"{number}{unit}" for number in range(int(low), int(high) + 1, int(step)))
    if made := {"person": person, "place": place, "book": book}.get(form):
        values: dict[str, None] = {}
        while len(values) < int(rest):
            values[made(draw)] = None
        return tuple(values)
    return tuple(spec.split("/"))


def _kind(kind_id: str, spec: dict[str, Any], draw: Draws) -> Kind:
    attributes = tuple(
        Attribute(key, a["np"], _values(a["v"], draw), tuple(a["q"]), tuple(a["s"])) for key, a in spec["a"].items()
    )
    names = list(dict.fromkeys("".join(name) for name in product(*(part.split("/") for part in spec["name"]))))
    return Kind(kind_id, spec["word"], spec.get("measure", ""), attributes, draw.shuffled(names))


class World:
    """All kinds of the named text files, whose names the pools share out."""

    def __init__(self, seed: int, *text_files: str) -> None:
        self.seed = seed
        self.kinds = {
            kind: _kind(kind, spec, Draws(seed, "kind", kind))
            for name in text_files
            for kind, spec in texts(name).items()
        }


class ThingPool:
    """The things of one part of the corpus, made when they are first needed."""

    _BATCH = 8  # things made at once, so that facts of one thing do not stand next to each other

    def __init__(self, world: World, name: str) -> None:
        self.kinds = list(world.kinds)
        self._world = world
        self._things: dict[str, list[Thing]] = {kind: [] for kind in self.kinds}
        self._waiting: dict[str, list[Fact]] = {kind: [] for kind in self.kinds}
        self._draw = Draws(world.seed, "pool", name)

    def thing(self, kind_id: str) -> Thing:
        """Return a thing nobody has spoken of yet. InputError when the world has no more names of that kind."""
        kind = self._world.kinds[kind_id]
        if not kind.names:
            raise InputError(f"sample: the world has no more names for {kind_id}. Fix: a smaller --scale.")
        thing = Thing(kind, kind.names.pop(), {a.id: self._draw.pick(a.values) for a in kind.attributes})
        self._things[kind_id].append(thing)
        return thing

    def fact(self, kind_id: str) -> Fact:
        """Return a fact that this pool has not told before."""
        waiting = self._waiting[kind_id]
        if not waiting:
            made = [self.thing(kind_id) for _ in range(self._BATCH)]
            waiting.extend(self._draw.shuffled([fact for thing in made for fact in thing.facts]))
        return waiting.pop()

    def unlike(self, fact: Fact, count: int, draw: Draws) -> list[Thing]:
        """Return `count` things of the kind for which the fact does not hold."""
        kind, attribute = fact.thing.kind.id, fact.attribute.id
        while True:
            found = [thing for thing in self._things[kind] if thing.values[attribute] != fact.value]
            if len(found) >= count:
                return draw.sample(found, count)
            self.thing(kind)
