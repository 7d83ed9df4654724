"""Chinese conversations of many kinds, built from everyday words and from things of the chat pool."""

from collections.abc import Callable

import orjson

from steel_data.sample.draw import Draw, Lexicon
from steel_data.sample.reasoning import MAKERS, Reasoner
from steel_data.sample.world import Fact, Pool, book, facts_of, person, texts

Turns = list[str]  # human and assistant in turn


class ChineseChat:
    """Makes conversations; each method returns the turns of a new one."""

    def __init__(self, seed: int, pool: Pool, reasoner: Reasoner, lexicon: Lexicon) -> None:
        self.draw = Draw(seed, "chat-zh")
        self._pool, self._reasoner = pool, reasoner
        self._topics: dict[str, list[str]] = texts("chat_zh")["topic"]
        self._lexicon = {k: v for k, v in lexicon.items() if k != "topic"}

    def _say(self, template: str, **given: object) -> str:
        return self.draw.say(template, self._lexicon, **given)

    def _fixed(self, *words: str) -> dict[str, str]:
        """Fill these words once, so that a conversation stays with one person, place and thing."""
        return {word: self._say("{" + word + "}") for word in words}

    def _fact(self) -> Fact:
        return self._pool.fact(self.draw.pick(list(self._pool.kinds)))

    def _whole(self) -> tuple[str, str, list[Fact]]:
        """A new thing: the word for its kind, its name, its facts in random order."""
        thing = self._pool.thing(self.draw.pick(list(self._pool.kinds)))
        return thing.kind.word, thing.name, self.draw.shuffled(facts_of(thing))

    def _ask(self, fact: Fact) -> str:
        question = self.draw.pick([q for q in fact.attribute.questions if "____" not in q] or ["{n}的{np}是什么？"])
        return self._say(question, n=fact.thing.name, np=fact.attribute.phrase)

    def question(self) -> Turns:
        """A question on a fact, answered with some background."""
        fact = self._fact()
        more, third = self.draw.sample([f for f in facts_of(fact.thing) if f.attribute is not fact.attribute], 2)
        given = {"fact": fact.state(self.draw), "more": more.state(self.draw), "third": third.state(self.draw)}
        turns = [self._say("{qa}", q=self._ask(fact)), self._say("{qa_answer}", **given)]
        if self.draw.chance(25):
            turns += [self._say("[那|还有，|再问一下，]") + self._ask(more), more.state(self.draw) + "。"]
        return turns

    def introduction(self) -> Turns:
        """All that is known of a thing, as a paragraph or a list."""
        kind, name, facts = self._whole()
        ask = self._say("{intro}", kind=kind, n=name)
        head = self._say("{intro_open}", kind=kind, n=name, measure=facts[0].thing.kind.measure)
        said = [fact.state(self.draw) for fact in facts]
        if "列" in ask or "条" in ask or head.endswith("\n"):
            mark = self.draw.pick(["-", "•", "*"])
            return [ask, head + "\n".join(f"{mark} {text}。" for text in said)]
        return [ask, head + "。".join(said) + "。"]

    def comparison(self) -> Turns:
        """Two things of a kind side by side."""
        kind, name, facts = self._whole()
        other = self._pool.thing(facts[0].thing.kind.id)
        theirs = {f.attribute.id: f for f in facts_of(other)}
        one, two = facts[0], facts[1]
        ask = self._say("{compare}", kind=kind, n=name, m=other.name, np=one.attribute.phrase, np2=two.attribute.phrase)
        link = self.draw.pick(["，而", "；", "，相比之下，", "；另一方面，", "。与此不同，", "，但是"])
        parts = [
            f.state(self.draw) + link + theirs[f.attribute.id].state(self.draw)
            for f in facts[: self.draw.between(2, 3)]
        ]
        lead = self._say("[主要区别有：|可以从几方面看：|]")
        return [ask, lead + "。".join(parts) + "。"]

    def extraction(self) -> Turns:
        """A short text and a task on it."""
        kind, name, facts = self._whole()
        shown = facts[: self.draw.between(3, 4)]
        opening = self._say("{passage_open}", title=book(self.draw), who=person(self.draw))
        passage = opening + "。".join(f.state(self.draw) for f in shown) + "。"
        one, two = shown[0], shown[-1]
        given = {"np": one.attribute.phrase, "np2": two.attribute.phrase, "n": name, "q": self._ask(one)}
        ask = self._say("{extract}", passage=passage, kind=kind, **given)
        if "JSON" in ask:
            values = {"名称": name, one.attribute.phrase: one.value, two.attribute.phrase: two.value}
            return [ask, orjson.dumps(values).decode()]
        if "压缩" in ask or "概括" in ask:
            return [ask, f"{one.state(self.draw)}，{two.state(self.draw)}。"]
        if "哪几方面" in ask:
            return [ask, "提到了" + "、".join(f"{f.attribute.phrase}（{f.value}）" for f in shown) + "。"]
        return [ask, self._say("[{v}。|{fact}。|答案是{v}。]", v=one.value, fact=one.state(self.draw))]

    def rewriting(self) -> Turns:
        """A sentence of everyday life said in another way."""
        tone = self.draw.pick(["glad", "sad"])  # what happened and how it felt must agree
        given = self._fixed("when", "where", "rel", "hobby")
        given |= {word: self._say("{" + word + "_" + tone + "}", **given) for word in ("event", "mood")}
        ask, reply = self.draw.pick(self._lexicon["rewrite_pair"]).split("=>")
        return [self._say(ask, s=self._say("{sentence}", **given), **given), self._say(reply, **given)]

    def talk(self) -> Turns:
        """Small talk in one to three rounds."""
        given = self._fixed("where", "rel", "kin", "hobby", "object")
        sad = self.draw.chance(40)
        pairs = [*self._lexicon["chat_pair"], *(self._lexicon["chat_pair_sad"] if sad else [])]
        opening = self.draw.pick(self._lexicon["talk_sad" if sad else "talk_glad"])
        # no follow-up twice in one talk
        talk = [opening, *self.draw.sample(pairs, self.draw.below(3))]
        turns = [self._say(part, **given) for pair in talk for part in pair.split("=>")]
        if self.draw.chance(40):
            turns += [self._say("{wish}", **given), self._say("{bye}", **given)]
        return turns

    def letter(self) -> Turns:
        """A note, a letter, an announcement."""
        given = self._fixed("when", "where", "rel", "kin", "hobby", "object", "food")
        reason, body = (self._say(part, **given) for part in self.draw.pick(self._lexicon["letter_pair"]).split("=>"))
        return [self._say("{letter_ask}", reason=reason, **given), self._say("{letter}", body=body, **given)]

    def story(self) -> Turns:
        """A small tale."""
        given = self._fixed("hero", "object", "where", "rel", "hobby")
        middle = [
            self._say(text, **given) for text in self.draw.sample(self._lexicon["story_2"], self.draw.between(2, 3))
        ]
        tale = self._say("{story_1}", **given) + "".join(middle) + self._say("{story_3}", **given)
        return [self._say("{story_ask}", **given), tale]

    def advice(self) -> Turns:
        """A list of advice."""
        topic = self.draw.pick(list(self._topics))
        points = self.draw.sample(self._topics[topic], self.draw.between(3, 6))
        mark = self.draw.pick(["{i}. {x}。", "{i}、{x}；", "（{i}）{x}。", "- {x}"])
        lines = [mark.replace("{i}", str(i)).replace("{x}", self._say(x)) for i, x in enumerate(points, 1)]
        return [self._say("{list_ask}", topic=topic, k=len(points)), "\n".join(lines)]

    def arithmetic(self) -> Turns:
        """A worked problem with its steps."""
        problem = self._reasoner.problem(self.draw, self.draw.pick(list(MAKERS)))
        word = {"逻辑推理": "谁", "日期推算": "星期几"}.get(problem.topic, "多少")
        question = problem.question
        if problem.topic != "数列规律":
            question = question.replace("____。", f"{word}？").replace("____", word)
        ask = self._say("[|{hello}|请写出过程。|这道题怎么做？]") + question
        end = self._say("[答案是{a}|答：{a}|所以结果为{a}|因此是{a}]。", a=problem.answer)
        return [ask, self._say("[|解：|我们一步一步来。]") + problem.steps + "。" + end]


Maker = Callable[[ChineseChat], Turns]
# weight, key of its label (infinity.py), maker
KINDS: tuple[tuple[int, str, Maker], ...] = (
    (20, "fact", ChineseChat.question),
    (14, "introduce", ChineseChat.introduction),
    (8, "compare", ChineseChat.comparison),
    (10, "extract", ChineseChat.extraction),
    (7, "rewrite", ChineseChat.rewriting),
    (12, "talk", ChineseChat.talk),
    (5, "letter", ChineseChat.letter),
    (6, "story", ChineseChat.story),
    (6, "advice", ChineseChat.advice),
    (12, "arithmetic", ChineseChat.arithmetic),
)
