"""Conversations in English, Japanese and Korean, and code."""

import orjson

from steel_data.sample.chat_zh import Turns
from steel_data.sample.draw import Draw, Lexicon
from steel_data.sample.english import EnglishSets, capital
from steel_data.sample.world import Fact, Pool, facts_of, texts


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class EnglishChat:
    """Makes English conversations; each method returns the turns of a new one (`other`: Japanese, Korean)."""

    def __init__(self, seed: int, pool: Pool, sums: EnglishSets, lexicon: Lexicon) -> None:
        self.draw = Draw(seed, "chat-en")
        self._pool, self._sums = pool, sums
        self._topics: dict[str, list[str]] = texts("chat_en")["topic"]
        self._lexicon = {k: v for k, v in lexicon.items() if k != "topic"}

    def _say(self, template: str, **given: object) -> str:
        return self.draw.say(template, self._lexicon, **given)

    def _fixed(self, *words: str) -> dict[str, str]:
        return {word: self._say("{" + word + "}") for word in words}

    def _whole(self) -> tuple[str, str, list[Fact]]:
        thing = self._pool.thing(self.draw.pick(list(self._pool.kinds)))
        name = f"the {thing.name}" if thing.kind.id == "beast" else thing.name
        return thing.kind.word, name, self.draw.shuffled(facts_of(thing))

    def _state(self, fact: Fact) -> str:
        return capital(fact.state(self.draw))

    def _ask(self, fact: Fact) -> str:
        return self.draw.say(self.draw.pick(fact.attribute.questions), {}, n=fact.thing.name)

    def question(self) -> Turns:
        """A question on a fact."""
        fact = self._pool.fact(self.draw.pick(list(self._pool.kinds)))
        more = self.draw.pick([f for f in facts_of(fact.thing) if f.attribute is not fact.attribute])
        said = {"fact": self._state(fact), "more": self._state(more)}
        answer = self._say("{qa_answer}", small=more.state(self.draw), small2=fact.state(self.draw), **said)
        return [self._say("{qa}", q=self._ask(fact)), answer]

    def introduction(self) -> Turns:
        """All facts of a thing."""
        kind, name, facts = self._whole()
        ask = self._say("{intro}", n=name)
        said = [self._state(fact) + "." for fact in facts]
        if "bullet" in ask:
            return [ask, "\n".join(f"- {text}" for text in said)]
        return [ask, capital(self._say("{intro_open}", n=name, kind=_with_article(kind))) + " ".join(said)]

    def comparison(self) -> Turns:
        """Two things of a kind."""
        _, name, facts = self._whole()
        other = self._pool.thing(facts[0].thing.kind.id)
        theirs = {f.attribute.id: f for f in facts_of(other)}
        second = f"the {other.name}" if other.kind.id == "beast" else other.name
        link = self.draw.pick([", while ", "; ", ", whereas ", ", but "])
        parts = [self._state(f) + link + theirs[f.attribute.id].state(self.draw) + "." for f in facts[:3]]
        return [self._say("{compare}", n=name, m=second), " ".join(parts)]

    def extraction(self) -> Turns:
        """A passage and a task on it."""
        _, name, facts = self._whole()
        one, two = facts[0], facts[1]
        passage = " ".join(self._state(f) + "." for f in self.draw.shuffled(facts[:3]))
        given = {"np": one.attribute.phrase, "np2": two.attribute.phrase, "n": name, "q": self._ask(one)}
        ask = self._say("{extract}", passage=passage, **given)
        if "JSON" in ask:
            return [ask, orjson.dumps({one.attribute.phrase: one.value, two.attribute.phrase: two.value}).decode()]
        if "one sentence" in ask:
            return [ask, f"{self._state(one)}, and {two.state(self.draw)}."]
        return [ask, self._say("[{v}.|{fact}.]", v=capital(one.value), fact=self._state(one))]

    def rewriting(self) -> Turns:
        """A sentence said in another way."""
        given = self._fixed("time", "event", "mood", "role")
        ask, reply = self.draw.pick(self._lexicon["rewrite_pair"]).split("=>")
        said = capital(self._say("{sentence}", **given))
        return [capital(self._say(ask, s=said, **given)), capital(self._say(reply, **given))]

    def talk(self) -> Turns:
        """Small talk."""
        given = self._fixed("role", "thing", "spot", "pastime", "mood")
        talk = [self.draw.pick(self._lexicon["talk"])]
        talk += self.draw.sample(self._lexicon["talk_pair"], self.draw.below(3))
        if self.draw.chance(40):
            talk.append(self.draw.pick(self._lexicon["bye"]))
        turns = [self._say(part, **given) for pair in talk for part in pair.split("=>")]
        return [capital(turn) for turn in turns]

    def advice(self) -> Turns:
        """A list of tips."""
        topic = self.draw.pick(list(self._topics))
        points = self.draw.sample(self._topics[topic], self.draw.between(3, 5))
        mark = self.draw.pick(["{i}. {x}.", "- {x}", "{i}) {x};"])
        lines = [mark.replace("{i}", str(i)).replace("{x}", self._say(x)) for i, x in enumerate(points, 1)]
        return [capital(self._say("{list_ask}", topic=topic, k=len(points))), "\n".join(lines)]

    def story(self) -> Turns:
        """A small tale."""
        given = self._fixed("hero", "thing", "spot", "role")
        lines = self.draw.sample(self._lexicon["story"], self.draw.between(4, 6))
        return [self._say("{story_ask}", **given), " ".join(capital(self._say(x, **given)) for x in lines)]

    def arithmetic(self) -> Turns:
        """A word problem and its steps."""
        question, steps, answer = self._sums.problem(self.draw)
        return [self._say("{hello}") + question, steps + self._say(" [The answer is|So it is|Answer:] ") + f"{answer}."]

    def other(self, language: str) -> Turns:
        """A short exchange in Japanese (`ja`) or Korean (`ko`)."""
        turns = []
        for pair in self.draw.sample(self._lexicon[f"{language}_pair"], 2 if self.draw.chance(40) else 1):
            given = self._fixed(*(f"{language}_{word}" for word in ("who", "where", "thing", "do", "food")))
            turns += [self._say(part, **given) for part in pair.split("=>")]
        return turns


KINDS = (
    (20, "fact", EnglishChat.question),
    (15, "introduce", EnglishChat.introduction),
    (9, "compare", EnglishChat.comparison),
    (12, "extract", EnglishChat.extraction),
    (8, "rewrite", EnglishChat.rewriting),
    (12, "talk", EnglishChat.talk),
    (6, "advice", EnglishChat.advice),
    (7, "story", EnglishChat.story),
    (11, "arithmetic", EnglishChat.arithmetic),
)

# table -> numeric columns, text columns (name, value)
_TABLES: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "orders": (("amount", "quantity", "discount"), (("city", "Linton"), ("status", "paid"), ("carrier", "rail"))),
    "sensors": (("humidity", "voltage", "depth"), (("site", "north"), ("model", "mk2"), ("owner", "lab"))),
    "books": (("pages", "copies", "year"), (("genre", "travel"), ("language", "zh"), ("shelf", "B4"))),
    "players": (("score", "level", "minutes"), (("team", "red"), ("region", "coast"), ("rank", "gold"))),
    "flights": (("delay", "distance", "seats"), (("gate", "A3"), ("airline", "Kestrel"), ("origin", "Harbour"))),
    "recipes": (("calories", "servings", "minutes"), (("cuisine", "coastal"), ("course", "soup"), ("author", "Mei"))),
    "tickets": (("priority", "age_days", "replies"), (("product", "printer"), ("state", "open"), ("agent", "Ravi"))),
    "parcels": (("weight", "height", "postage"), (("zone", "east"), ("class", "fragile"), ("hub", "river"))),
}


def code(draw: Draw, chinese: bool) -> Turns:
    """A request for a piece of code and the code: filter, group or sort rows of a small table."""
    table = draw.pick(list(_TABLES))
    numbers, words = _TABLES[table]
    number, other = draw.sample(numbers, 2)
    word, value = draw.pick(words)
    limit, top, row = draw.between(2, 997), draw.between(3, 40), draw.pick(["row", "item", "rec", table[0], "entry"])
    name = draw.pick(["pick", "top", "select", "busy", "report", "collect"]) + "_" + draw.pick([table, number, word])
    make = draw.pick([_filter, _group, _sql, _script])
    task, body = make(
        {"table": table, "number": number, "other": other, "word": word, "value": value}
        | {"limit": limit, "top": top, "row": row, "name": name}
    )
    asks = (
        [f"写一段代码：{task[0]}。", f"{task[0]}，代码怎么写？", f"我有一张 {table} 表，想{task[0]}，请给出实现。"]
        if chinese
        else [
            f"Write code to {task[1]}.",
            f"How do I {task[1]}?",
            f"Given {table}, please {task[1]}. No explanation needed.",
        ]
    )
    notes = (
        [f"其中 {limit} 可以按需要修改。", f"如果 {number} 可能为空，要先过滤。", ""]
        if chinese
        else [f"Change {limit} to taste.", f"Rows without {number} must be removed first.", ""]
    )
    if make in (_filter, _sql):
        notes.append(f"结果最多 {top} 行。" if chinese else f"At most {top} rows return.")
    return [draw.pick(asks), f"{body}\n{draw.pick(notes)}".rstrip()]


Words = dict[str, object]


def _filter(w: Words) -> tuple[tuple[str, str], str]:
    zh = "从 {table} 里选出 {number} 大于 {limit} 的记录，按 {other} 从大到小取前 {top} 条"
    en = "take the {top} {table} with the largest {other} among those whose {number} exceeds {limit}"
    body = (
        "```python\ndef {name}({table}, floor={limit}):\n"
        "    kept = [{row} for {row} in {table} if {row}['{number}'] > floor]\n"
        "    kept.sort(key=lambda {row}: {row}['{other}'], reverse=True)\n    return kept[:{top}]\n```"
    )
    return (zh.format(**w), en.format(**w)), body.format(**w)


def _group(w: Words) -> tuple[tuple[str, str], str]:
    zh = "按 {word} 统计 {table} 的 {number} 总和，忽略 {other} 小于 {limit} 的记录"
    en = "sum {number} of {table} per {word}, skipping those with {other} below {limit}"
    body = (
        "```python\nfrom collections import defaultdict\n\ndef {name}({table}):\n    sums = defaultdict(float)\n"
        "    for {row} in {table}:\n        if {row}['{other}'] < {limit}:\n            continue\n"
        "        sums[{row}['{word}']] += {row}['{number}']\n    return dict(sums)\n```"
    )
    return (zh.format(**w), en.format(**w)), body.format(**w)


def _sql(w: Words) -> tuple[tuple[str, str], str]:
    zh = "用 SQL 查询 {word} 为 {value} 且 {number} 不超过 {limit} 的 {table}，按 {other} 排序取 {top} 行"
    en = "query {table} in SQL where {word} is {value} and {number} is at most {limit}, ordered by {other}"
    body = (
        "```sql\nSELECT {word}, {number}, {other}\nFROM {table}\nWHERE {word} = '{value}' AND {number} <= {limit}\n"
        "ORDER BY {other} DESC\nLIMIT {top};\n```"
    )
    return (zh.format(**w), en.format(**w)), body.format(**w)


def _script(w: Words) -> tuple[tuple[str, str], str]:
    zh = "用 JavaScript 求 {word} 等于 {value} 的 {table} 的平均 {number}，没有时返回 {limit}"
    en = "average {number} over the {table} whose {word} equals {value} in JavaScript, with {limit} as the fallback"
    body = (
        "```js\nfunction {name}({table}) {{\n  const hits = {table}.filter(({row}) => {row}.{word} === '{value}');\n"
        "  if (hits.length === 0) return {limit};\n"
        "  return hits.reduce((sum, {row}) => sum + {row}.{number}, 0) / hits.length;\n}}\n```"
    )
    return (zh.format(**w), en.format(**w)), body.format(**w)
