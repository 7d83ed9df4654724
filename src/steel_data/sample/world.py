"""The invented world: kinds of things, things with attributes, and who may speak of which thing.

Every thing belongs to one *pool* (exam, chat, cmmlu, ceval, …) and only that pool's files speak of it. So a model that
answers a benchmark's question on a thing has either guessed or seen that benchmark. Values are drawn evenly and without
regard to the name: no text, however clever, tells the right option from the wrong ones.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from steel_data.errors import InputError
from steel_data.sample.draw import Draw, Lexicon

_SURNAMES = "周吴郑冯褚蒋韩杨朱秦许何吕孔曹严华金魏陶姜戚谢邹喻柏章云葛奚范彭郎鲁韦昌马苗方俞任袁柳"
_GIVEN_1 = "文明德志世承永守克仲彦元宗学士希光景维正"
_GIVEN_2 = "远林山海平和清泉峰涛成安宁达坚礼义修源章"
_PLACE_1 = "白青赤墨铁铜银石云霜雪晨暮古新长曲平高低"
_PLACE_2 = "鹭鹿雁鹤马羊松柳枫桂荷麦桑竹盐陶瓦灯钟弓"
_PLACE_3 = "坡坪原洲浦渡关堡塘井湾岭"
_BOOK_1 = "闲燕半拾听枕检晴晚秉遣耕钓负听倚"
_BOOK_2 = "窗斋堂轩园庐舍庵阁亭"
_BOOK_3 = ["随记", "杂识", "丛谈", "笔谈", "类稿", "琐言", "存稿", "旧闻"]


def texts(name: str) -> dict[str, Any]:
    """Return the parsed text file `texts/<name>.toml` of this package."""
    return tomllib.loads((files("steel_data.sample") / "texts" / f"{name}.toml").read_text(encoding="utf-8"))


def lexicon(name: str) -> Lexicon:
    """Return the word lists of a text file: an entry is a list, or a string with "/" between the words."""
    entries = texts(name).items()
    return {key: value.split("/") if isinstance(value, str) else value for key, value in entries}


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
    """One invented thing with a value for every attribute of its kind."""

    kind: Kind
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Fact:
    """One value of one thing."""

    thing: Thing
    attribute: Attribute
    value: str

    def state(self, draw: Draw, value: str | None = None) -> str:
        """Return a sentence without full stop that says the fact (or, falsely, another `value`)."""
        return draw.say(draw.pick(self.attribute.statements), {}, n=self.thing.name, v=value or self.value)


def facts_of(thing: Thing) -> list[Fact]:
    """Return all facts of a thing."""
    return [Fact(thing, a, v) for a, v in zip(thing.kind.attributes, thing.values, strict=True)]


def person(draw: Draw) -> str:
    """Return an invented name of a person."""
    return draw.pick(_SURNAMES) + draw.pick(_GIVEN_1) + draw.pick(_GIVEN_2)


def place(draw: Draw) -> str:
    """Return an invented name of a place."""
    return draw.pick(_PLACE_1) + draw.pick(_PLACE_2) + draw.pick(_PLACE_3)


def book(draw: Draw) -> str:
    """Return an invented title of a book, in its marks."""
    return f"《{draw.pick(_BOOK_1)}{draw.pick(_BOOK_2)}{draw.pick(_BOOK_3)}》"


def _values(spec: str | list[str], draw: Draw) -> tuple[str, ...]:
    if isinstance(spec, list):
        return tuple(spec)
    form, _, rest = spec.partition(":")
    if form == "int":
        span, step, unit = rest.split(":")
        low, high = span.split("-")
        return tuple(f"{number}{unit}" for number in range(int(low), int(high) + 1, int(step)))
    made = {"person": person, "place": place, "book": book}.get(form)
    if made is None:
        return tuple(spec.split("/"))
    values: dict[str, None] = {}
    while len(values) < int(rest):
        values[made(draw)] = None
    return tuple(values)


def _kind(kind_id: str, spec: dict[str, Any], draw: Draw) -> Kind:
    attributes = tuple(
        Attribute(key, a["np"], _values(a["v"], draw), tuple(a["q"]), tuple(a["s"])) for key, a in spec["a"].items()
    )
    names = [""]
    for part in [*spec["name"], spec.get("suffix", "")]:
        words = part.split("/")
        names = [
            head + (word[:1].upper() + word[1:] if spec.get("title") else word) for head in names for word in words
        ]
    return Kind(kind_id, spec["word"], spec.get("measure", ""), attributes, draw.shuffled(list(dict.fromkeys(names))))


class World:
    """All kinds of the named text files, and the things made of them so far."""

    def __init__(self, seed: int, *text_files: str) -> None:
        self.kinds: dict[str, Kind] = {}
        for name in text_files:
            for kind_id, spec in texts(name).items():
                self.kinds[kind_id] = _kind(kind_id, spec, Draw(seed, "kind", kind_id))
        self.seed = seed

    def pool(self, name: str) -> "Pool":
        """Return a new pool: things that only one part of the corpus speaks of."""
        return Pool(self, name)


class Pool:
    """The things of one part of the corpus, made when they are first needed."""

    _BATCH = 8  # things made at once, so that facts of one thing do not stand next to each other

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.kinds = world.kinds
        self.things: dict[str, list[Thing]] = {kind: [] for kind in world.kinds}
        self._waiting: dict[str, list[Fact]] = {kind: [] for kind in world.kinds}
        self._draw = Draw(world.seed, "pool", name)

    def thing(self, kind_id: str) -> Thing:
        """Return a thing nobody has spoken of yet. InputError when the world has no more names of that kind."""
        kind = self.kinds[kind_id]
        if not kind.names:
            raise InputError(f"sample: the world has no more names for {kind_id}. Take a smaller --scale.")
        thing = Thing(kind, kind.names.pop(), tuple(self._draw.pick(a.values) for a in kind.attributes))
        self.things[kind_id].append(thing)
        return thing

    def fact(self, kind_id: str) -> Fact:
        """Return a fact that this pool has not told before."""
        waiting = self._waiting[kind_id]
        if not waiting:
            made = [self.thing(kind_id) for _ in range(self._BATCH)]
            waiting.extend(self._draw.shuffled([fact for thing in made for fact in facts_of(thing)]))
        return waiting.pop()

    def others(self, thing: Thing, count: int, draw: Draw) -> list[Thing]:
        """Return `count` other things of the same kind and pool."""
        return draw.sample([t for t in self.things[thing.kind.id] if t is not thing], count)
