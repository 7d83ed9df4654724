"""Conversations about everyday life, and about things that only the chat files speak of: Chinese, English, and others.

Each method of a `…Chat` returns the turns of a new conversation, human and assistant in turn; its name is the kind of
conversation that texts/infinity.toml labels and weighs. The words are in texts/chat_zh.toml, chat_en.toml, code.toml.
"""

import orjson

from steel_data.sample.draw import Draws, capital, texts, words
from steel_data.sample.english import Sums
from steel_data.sample.reasoning import Reasoner
from steel_data.sample.world import Fact, Thing, ThingPool, World, book, person

Turns = list[str]


def _facts(draw: Draws, pool: ThingPool) -> list[Fact]:
    """Return all facts of a new thing, in random order."""
    return draw.shuffled(pool.thing(draw.pick(pool.kinds)).facts)


def _rewrite(draw: Draws, given: dict[str, object]) -> Turns:
    """A sentence of everyday life said in another way."""
    ask, reply = draw.pick(draw.words["rewrite_pair"]).split("=>")
    said = capital(draw.say("{sentence}", **given))
    return [capital(draw.say(ask, s=said, **given)), capital(draw.say(reply, **given))]


def _advice(draw: Draws, topics: dict[str, list[str]], most: int) -> Turns:
    """A list of advice."""
    topic = draw.pick(list(topics))
    points = draw.sample(topics[topic], draw.between(3, most))
    mark = draw.pick(draw.words["mark"])
    lines = [mark.replace("{i}", str(i)).replace("{x}", draw.say(x)) for i, x in enumerate(points, 1)]
    return [capital(draw.say("{list_ask}", topic=topic, k=len(points))), "\n".join(lines)]


class ChineseChat:
    """Makes Chinese conversations."""

    def __init__(self, seed: int, world: World, reasoner: Reasoner) -> None:
        self._draw = Draws(seed, "chat-zh", words=words("chat_zh"))
        self._pool, self._reasoner = ThingPool(world, "chat"), reasoner

    def _ask(self, fact: Fact) -> str:
        plain = [question for question in fact.attribute.questions if "____" not in question]
        return self._draw.say(self._draw.pick(plain or ["{n}的{np}是什么？"]), **fact.slots)

    def fact(self) -> Turns:
        """A question on a fact, answered with some background."""
        draw, fact = self._draw, self._pool.fact(self._draw.pick(self._pool.kinds))
        more, third = draw.sample(fact.others, 2)
        given = {"fact": fact.state(draw), "more": more.state(draw), "third": third.state(draw)}
        turns = [draw.say("{qa}", q=self._ask(fact)), draw.say("{qa_answer}", **given)]
        if draw.chance(25):
            turns += [draw.say("[那|还有，|再问一下，]") + self._ask(more), more.state(draw) + "。"]
        return turns

    def introduce(self) -> Turns:
        """All that is known of a thing, as a paragraph or a list."""
        draw, facts = self._draw, _facts(self._draw, self._pool)
        ask, head = draw.say("{intro}", **facts[0].slots), draw.say("{intro_open}", **facts[0].slots)
        said = [fact.state(draw) for fact in facts]
        if "列" in ask or "条" in ask or head.endswith("\n"):
            bullet = draw.pick("-•*")
            return [ask, head + "\n".join(f"{bullet} {text}。" for text in said)]
        return [ask, head + "。".join(said) + "。"]

    def compare(self) -> Turns:
        """Two things of a kind side by side."""
        draw, facts = self._draw, _facts(self._draw, self._pool)
        other = self._pool.thing(facts[0].thing.kind.id)
        ask = draw.say("{compare}", **facts[0].slots, m=other.name, np2=facts[1].attribute.phrase)
        link = draw.say("{link}")
        shown = facts[: draw.between(2, 3)]
        parts = [fact.state(draw) + link + other.fact(fact.attribute).state(draw) for fact in shown]
        return [ask, draw.say("[主要区别有：|可以从几方面看：|]") + "。".join(parts) + "。"]

    def extract(self) -> Turns:
        """A short text and a task on it."""
        draw, facts = self._draw, _facts(self._draw, self._pool)
        shown = facts[: draw.between(3, 4)]
        opening = draw.say("{passage_open}", title=book(draw), who=person(draw))
        passage = opening + "。".join(fact.state(draw) for fact in shown) + "。"
        one, two = shown[0], shown[-1]
        given = one.slots | {"np2": two.attribute.phrase, "q": self._ask(one), "passage": passage}
        ask = draw.say("{extract}", **given)
        if "JSON" in ask:
            values = {"名称": one.thing.name, one.attribute.phrase: one.value, two.attribute.phrase: two.value}
            return [ask, orjson.dumps(values).decode()]
        if "压缩" in ask or "概括" in ask:
            return [ask, f"{one.state(draw)}，{two.state(draw)}。"]
        if "哪几方面" in ask:
            return [ask, "提到了" + "、".join(f"{fact.attribute.phrase}（{fact.value}）" for fact in shown) + "。"]
        return [ask, draw.say("[{v}。|{fact}。|答案是{v}。]", v=one.value, fact=one.state(draw))]

    def rewrite(self) -> Turns:
        """A sentence said in another way: what happened and how it felt agree."""
        draw, tone = self._draw, self._draw.pick(["glad", "sad"])
        given = draw.fixed("when", "where", "rel", "hobby")
        for word in ("event", "mood"):
            given[word] = draw.say(f"{{{word}_{tone}}}", **given)
        return _rewrite(draw, given)

    def talk(self) -> Turns:
        """Small talk in one to three rounds, no follow-up twice."""
        draw = self._draw
        given = draw.fixed("where", "rel", "kin", "hobby", "object")
        tone = "sad" if draw.chance(40) else "glad"
        talk = [draw.pick(draw.words[f"talk_{tone}"])]
        talk += draw.sample([*draw.words["chat_pair"], *draw.words.get(f"chat_pair_{tone}", [])], draw.below(3))
        turns = [draw.say(part, **given) for pair in talk for part in pair.split("=>")]
        if draw.chance(40):
            turns += [draw.say("{wish}", **given), draw.say("{bye}", **given)]
        return turns

    def letter(self) -> Turns:
        """A note, a letter, an announcement."""
        draw = self._draw
        given = draw.fixed("when", "where", "rel", "kin", "hobby", "object", "food")
        reason, body = (draw.say(part, **given) for part in draw.pick(draw.words["letter_pair"]).split("=>"))
        return [draw.say("{letter_ask}", reason=reason, **given), draw.say("{letter}", body=body, **given)]

    def story(self) -> Turns:
        """A small tale."""
        draw = self._draw
        given = draw.fixed("hero", "object", "where", "rel", "hobby")
        middle = [draw.say(text, **given) for text in draw.sample(draw.words["story_2"], draw.between(2, 3))]
        tale = draw.say("{story_1}", **given) + "".join(middle) + draw.say("{story_3}", **given)
        return [draw.say("{story_ask}", **given), tale]

    def advice(self) -> Turns:
        """A list of advice."""
        return _advice(self._draw, texts("chat_zh")["topic"], 6)

    def arithmetic(self) -> Turns:
        """A worked problem with its steps."""
        draw = self._draw
        problem = self._reasoner.item(draw, draw.pick(list(texts("reasoning")["groups"])))
        question, answer = problem.question, problem.options[0]
        if problem.topic != "数列规律":
            word = {"逻辑推理": "谁", "日期推算": "星期几"}.get(problem.topic, "多少")
            question = question.replace("____。", f"{word}？").replace("____", word)
        ask = draw.say("[|{hello}|请写出过程。|这道题怎么做？]") + question
        end = draw.say("[答案是{a}|答：{a}|所以结果为{a}|因此是{a}]。", a=answer)
        return [ask, draw.say("[|解：|我们一步一步来。]") + problem.why + end]


class EnglishChat:
    """Makes English conversations, and Japanese and Korean ones (`other`)."""

    def __init__(self, seed: int, world: World, sums: Sums) -> None:
        self._draw = Draws(seed, "chat-en", words=words("chat_en"))
        self._pool, self._sums = ThingPool(world, "chat"), sums

    def _state(self, fact: Fact) -> str:
        return capital(fact.state(self._draw))

    def _ask(self, fact: Fact) -> str:
        return self._draw.say(self._draw.pick(fact.attribute.questions), n=fact.thing.name)

    def fact(self) -> Turns:
        """A question on a fact."""
        draw, fact = self._draw, self._pool.fact(self._draw.pick(self._pool.kinds))
        more = draw.pick(fact.others)
        said = {"fact": self._state(fact), "more": self._state(more)}
        answer = draw.say("{qa_answer}", small=more.state(draw), small2=fact.state(draw), **said)
        return [draw.say("{qa}", q=self._ask(fact)), answer]

    def introduce(self) -> Turns:
        """All facts of a thing."""
        draw, facts = self._draw, _facts(self._draw, self._pool)
        name, kind = _named(facts[0].thing), facts[0].thing.kind.word
        ask = draw.say("{intro}", n=name)
        said = [self._state(fact) + "." for fact in facts]
        if "bullet" in ask:
            return [ask, "\n".join(f"- {text}" for text in said)]
        article = "an" if kind[0] in "aeiou" else "a"
        return [ask, capital(draw.say("{intro_open}", n=name, kind=f"{article} {kind}")) + " ".join(said)]

    def compare(self) -> Turns:
        """Two things of a kind."""
        draw, facts = self._draw, _facts(self._draw, self._pool)
        other = self._pool.thing(facts[0].thing.kind.id)
        link = draw.say("{link}")
        parts = [self._state(fact) + link + other.fact(fact.attribute).state(draw) + "." for fact in facts[:3]]
        return [draw.say("{compare}", n=_named(facts[0].thing), m=_named(other)), " ".join(parts)]

    def extract(self) -> Turns:
        """A passage and a task on it."""
        draw, facts = self._draw, _facts(self._draw, self._pool)
        one, two = facts[:2]
        passage = " ".join(self._state(fact) + "." for fact in draw.shuffled(facts[:3]))
        given = {"np": one.attribute.phrase, "np2": two.attribute.phrase, "n": _named(one.thing), "q": self._ask(one)}
        ask = draw.say("{extract}", passage=passage, **given)
        if "JSON" in ask:
            return [ask, orjson.dumps({one.attribute.phrase: one.value, two.attribute.phrase: two.value}).decode()]
        if "one sentence" in ask:
            return [ask, f"{self._state(one)}, and {two.state(draw)}."]
        return [ask, draw.say("[{v}.|{fact}.]", v=capital(one.value), fact=self._state(one))]

    def rewrite(self) -> Turns:
        """A sentence said in another way."""
        return _rewrite(self._draw, self._draw.fixed("time", "event", "mood", "role"))

    def talk(self) -> Turns:
        """Small talk."""
        draw = self._draw
        given = draw.fixed("role", "thing", "spot", "pastime", "mood")
        talk = [draw.pick(draw.words["talk"]), *draw.sample(draw.words["talk_pair"], draw.below(3))]
        if draw.chance(40):
            talk.append(draw.pick(draw.words["bye"]))
        return [capital(draw.say(part, **given)) for pair in talk for part in pair.split("=>")]

    def advice(self) -> Turns:
        """A list of tips."""
        return _advice(self._draw, texts("chat_en")["topic"], 5)

    def story(self) -> Turns:
        """A small tale."""
        draw = self._draw
        given = draw.fixed("hero", "thing", "spot", "role")
        lines = draw.sample(draw.words["story"], draw.between(4, 6))
        return [draw.say("{story_ask}", **given), " ".join(capital(draw.say(x, **given)) for x in lines)]

    def arithmetic(self) -> Turns:
        """A word problem and its steps."""
        draw = self._draw
        question, steps, answer = self._sums.problem(draw)
        return [draw.say("{hello}") + question, steps + draw.say(" [The answer is|So it is|Answer:] ") + f"{answer}."]

    def other(self, language: str) -> Turns:
        """A short exchange in Japanese (`ja`) or Korean (`ko`)."""
        draw, turns = self._draw, []
        for pair in draw.sample(draw.words[f"{language}_pair"], 2 if draw.chance(40) else 1):
            given = draw.fixed(*(f"{language}_{word}" for word in ("who", "where", "thing", "do", "food")))
            turns += [draw.say(part, **given) for part in pair.split("=>")]
        return turns


def _named(thing: Thing) -> str:
    return f"the {thing.name}" if thing.kind.id == "beast" else thing.name


def code(draw: Draws, language: str) -> Turns:
    """A request for a piece of code, in Chinese (`zh`) or English, and the code: it looks for rows of a small table."""
    spec = texts("code")
    table = draw.pick(list(spec["table"]))
    number, other = draw.sample(spec["table"][table]["numbers"], 2)
    word, value = draw.pick(list(spec["table"][table]["words"].items()))
    given = {"table": table, "number": number, "other": other, "word": word, "value": value}
    given |= {"limit": draw.between(2, 997), "top": draw.between(3, 40)}
    given["row"] = draw.pick(["row", "item", "rec", table[0], "entry"])
    given["name"] = f"{draw.pick(spec['verbs'])}_{draw.pick([table, number, word])}"
    form, said = draw.pick(list(spec["form"].values())), spec[language]
    ask = draw.say(draw.pick(said["asks"]), task=draw.say(form[language], **given), **given)
    note = draw.pick([*said["notes"], said["limited"]] if form["limited"] else said["notes"])
    return [ask, f"{draw.say(form['body'], **given)}\n{draw.say(note, **given)}".rstrip()]
