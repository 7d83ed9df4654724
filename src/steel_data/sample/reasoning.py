"""Items that can be worked out: arithmetic, dates, sequences, order, logic. No two have the same numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from steel_data.sample.draw import Draw, Lexicon
from steel_data.sample.items import Item
from steel_data.sample.world import person, place

WEEKDAYS = "一二三四五六日"


@dataclass(frozen=True)
class Problem:
    """A question, its answer, three wrong answers, the way to the answer, and what makes it a problem of its own."""

    question: str
    answer: str
    wrong: tuple[str, ...]
    steps: str
    topic: str
    key: tuple[object, ...]


Maker = Callable[[Draw, Lexicon], Problem]


def around(draw: Draw, answer: int, step: int, unit: str = "") -> tuple[str, tuple[str, ...]]:
    """Return the answer and three wrong ones: four neighbours `step` apart, the right one evenly at each rank.

    Were the wrong ones always on both sides, the middle values would be right more often than the others.
    """
    rank = draw.below(4)
    if answer - rank * step < 0:
        step = max(1, answer // 4)
    low = answer - rank * step
    numbers = [low + i * step for i in range(4)]
    return f"{answer}{unit}", tuple(f"{n}{unit}" for n in numbers if n != answer)


def _numeric(
    draw: Draw, template: str, lexicon: Lexicon, goal: tuple[int, int, str], steps: str, /, **given: object
) -> Problem:
    right, wrong = around(draw, *goal)
    words: dict[str, object] = {"p": person(draw), "q": person(draw), "place": place(draw), "dest": place(draw)}
    words |= {key: draw.pick(lexicon[key]) for key in ("goods", "thing", "shop", "team")}
    words |= given
    topic, _, question = draw.pick(lexicon[template]).partition("：")
    key = (template, *(v for v in given.values()))
    return Problem(draw.say(question, lexicon, **words), right, wrong, draw.say(steps, lexicon, **words), topic, key)


def shopping(draw: Draw, lexicon: Lexicon) -> Problem:
    """Change from a note."""
    a, n, b = draw.between(6, 79), draw.between(3, 19), draw.between(5, 95)
    total = a * n + b
    paid = (total // 100 + draw.between(1, 3)) * 100
    steps = "[先求总价|一共要付]：{a}×{n}+{b}={total}（元），[找回|再求找零]：{paid}-{total}={rest}（元）"
    return _numeric(
        draw, "shopping", lexicon, (paid - total, draw.pick([2, 5, 10]), "元"), steps,
        a=a, n=n, b=b, total=total, paid=paid, rest=paid - total,
    )  # fmt: skip


def travel(draw: Draw, lexicon: Lexicon) -> Problem:
    """Distance from two speeds."""
    v, t, w, s = draw.between(32, 96), draw.between(2, 9), draw.between(28, 88), draw.between(2, 7)
    steps = "[前一段|先走的一段]{v}×{t}={x}（千米），[后一段|其余]{w}×{s}={y}（千米），[合计|共]{x}+{y}={d}（千米）"
    x, y = v * t, w * s
    return _numeric(
        draw, "travel", lexicon, (x + y, draw.pick([6, 10, 14]), "千米"), steps, v=v, t=t, w=w, s=s, x=x, y=y, d=x + y
    )


def group(draw: Draw, lexicon: Lexicon) -> Problem:
    """Boxes needed for all things."""
    n, k = draw.between(130, 990), draw.between(7, 29)
    answer = -(-n // k)
    steps = "{n}÷{k}={d}……{r}，[余下的也要装|剩下的还需再用一个]，[所以|因此]需要{answer}个"
    if n % k == 0:
        steps = "{n}÷{k}={d}，正好[装完|分完]，[所以|因此]需要{answer}个"
    return _numeric(draw, "group", lexicon, (answer, 1, "个"), steps, n=n, k=k, d=n // k, r=n % k, answer=answer)


def percent(draw: Draw, lexicon: Lexicon) -> Problem:
    """A price after a discount and a voucher."""
    price, off, cut = draw.between(12, 98) * 10, draw.pick([6, 7, 8, 9]), draw.between(3, 40)
    now = price * off // 10
    steps = "打{off}折后为{price}×0.{off}={now}（元），再减{cut}元，[实付|应付]{answer}元"
    return _numeric(
        draw, "percent", lexicon, (now - cut, draw.pick([3, 5, 8]), "元"), steps,
        price=price, off=off, cut=cut, now=now, answer=now - cut,
    )  # fmt: skip


def average(draw: Draw, lexicon: Lexicon) -> Problem:
    """A missing number from an average."""
    known = [draw.between(58, 99) for _ in range(draw.between(3, 5))]
    mean = draw.between(70, 90)
    answer = mean * (len(known) + 1) - sum(known)
    listing = "、".join(map(str, known))
    steps = "总数为{mean}×{count}={total}，减去已知的{known}之和{part}，[得|等于]{answer}"
    if answer < 20:
        return average(draw, lexicon)
    return _numeric(
        draw, "average", lexicon, (answer, draw.pick([2, 3, 4]), ""), steps, known=listing, mean=mean,
        count=len(known) + 1, total=mean * (len(known) + 1), part=sum(known), answer=answer,
    )  # fmt: skip


def work(draw: Draw, lexicon: Lexicon) -> Problem:
    """Days needed when a second team joins."""
    x, y, days, first = draw.between(6, 40), draw.between(5, 35), draw.between(4, 19), draw.between(2, 9)
    total = x * first + (x + y) * days
    steps = (
        "[前{first}天完成|先做了]{x}×{first}={done}，[还剩|余下]{total}-{done}={rest}，{rest}÷({x}+{y})={days}（天）"
    )
    return _numeric(
        draw, "work", lexicon, (days, 1, "天"), steps,
        x=x, y=y, days=days, first=first, total=total, done=x * first, rest=total - x * first,
    )  # fmt: skip


def sequence(draw: Draw, lexicon: Lexicon) -> Problem:
    """The next number of a sequence whose differences grow evenly, or whose terms are doubled and shifted."""
    a, d, e = draw.between(1, 60), draw.between(2, 15), draw.between(1, 9)
    terms = [a]
    doubling = draw.chance(40)
    for i in range(5):
        terms.append(terms[-1] * 2 + e if doubling else terms[-1] + d + e * i)
    shown, answer = "，".join(map(str, terms[:5])), terms[5]
    how = (
        f"后一项等于前一项的2倍加{e}"
        if doubling
        else f"相邻两项之差依次为{'、'.join(str(y - x) for x, y in pairwise(terms))}"
    )
    steps = "[观察可知|规律是]{how}，[所以|故]下一项是{answer}"
    return _numeric(
        draw, "sequence", lexicon, (answer, draw.pick([1, 2, 3]), ""), steps, terms=shown, how=how, answer=answer
    )


def weekday(draw: Draw, lexicon: Lexicon) -> Problem:
    """The day of the week some days on."""
    start, days = draw.below(7), draw.between(11, 890)
    end = (start + days) % 7
    wrong = tuple(f"星期{WEEKDAYS[i]}" for i in draw.sample([i for i in range(7) if i != end], 3))
    given = {"start": WEEKDAYS[start], "days": days, "p": person(draw), "place": place(draw)}
    words = draw.say(draw.pick(lexicon["weekday"]), lexicon, **given)
    steps = f"{days}÷7={days // 7}……{days % 7}，从星期{given['start']}往后推{days % 7}天，是星期{WEEKDAYS[end]}"
    return Problem(words, f"星期{WEEKDAYS[end]}", wrong, steps, "日期推算", ("weekday", start, days))


def years(draw: Draw, lexicon: Lexicon) -> Problem:
    """How long a reign lasted."""
    start, middle, length = draw.between(312, 1600), draw.between(8, 90), draw.between(21, 260)
    steps = "[之前|前一段]{middle}年，[其后|后一段]{length}年，{middle}+{length}={answer}（年），"
    steps += "[即|也就是]从{start}年到{end}年"
    given = {"start": start, "middle": middle, "length": length, "answer": middle + length}
    return _numeric(
        draw, "years", lexicon, (middle + length, draw.pick([1, 4, 10]), "年"), steps,
        **given, turn=start + middle, end=start + middle + length,
    )  # fmt: skip


def binary(draw: Draw, lexicon: Lexicon) -> Problem:
    """A binary number in decimal, plus something."""
    n, m = draw.between(33, 511), draw.between(3, 60)
    steps = "二进制数{bits}等于十进制的{n}，{n}+{m}={answer}"
    return _numeric(
        draw, "binary", lexicon, (n + m, draw.pick([1, 2, 4]), ""), steps, bits=f"{n:b}", n=n, m=m, answer=n + m
    )


def field(draw: Draw, lexicon: Lexicon) -> Problem:
    """A field with a path around it."""
    x, y, w = draw.between(9, 60), draw.between(7, 48), draw.between(1, 4)
    answer = (x + 2 * w) * (y + 2 * w) - x * y
    steps = "[连路一起|外圈]面积({x}+2×{w})×({y}+2×{w})={outer}，减去{x}×{y}={inner}，[得|路的面积是]{answer}平方米"
    return _numeric(
        draw, "field", lexicon, (answer, draw.pick([4, 6, 10]), "平方米"), steps,
        x=x, y=y, w=w, outer=answer + x * y, inner=x * y, answer=answer,
    )  # fmt: skip


def clock(draw: Draw, lexicon: Lexicon) -> Problem:
    """When something ends."""
    start, length, rest = draw.between(360, 1000), draw.between(35, 290), draw.between(6, 45)
    end, step = start + length + rest, draw.pick([5, 10, 15])
    rank = draw.below(4)
    times = [end + (i - rank) * step for i in range(4)]
    shown = [f"{t // 60}时{t % 60:02d}分" for t in times]
    given = {"start": f"{start // 60}时{start % 60:02d}分", "length": length, "rest": rest}
    words: dict[str, object] = {"p": person(draw), "place": place(draw), "team": draw.pick(lexicon["team"])}
    question = draw.say(draw.pick(lexicon["clock"]), lexicon, **words, **given)
    steps = (
        f"一共用去{length}+{rest}={length + rest}（分钟），从{given['start']}起经过{length + rest}分钟是{shown[rank]}"
    )
    wrong = tuple(t for t in shown if t != shown[rank])
    return Problem(question, shown[rank], wrong, steps, "时间计算", ("clock", start, length, rest))


def order(draw: Draw, lexicon: Lexicon) -> Problem:
    """Four people in an order, told by three comparisons."""
    people: list[str] = []
    while len(people) < 4:
        name = person(draw)
        if name not in people:
            people.append(name)
    more, most, ask = draw.pick([x.split("，") for x in lexicon["order_words"]])
    facts = draw.shuffled([f"{a}{more}{b}{most}" for a, b in pairwise(people)])
    rank = draw.below(4)
    asked = draw.say(draw.pick(lexicon["order"]), lexicon, facts="，".join(facts), ask=ask, rank="一二三四"[rank])
    steps = f"{ask}依次是{'、'.join(people)}，排在第{'一二三四'[rank]}的是{people[rank]}"
    wrong = tuple(x for i, x in enumerate(people) if i != rank)
    return Problem(asked, people[rank], wrong, steps, "逻辑推理", ("order", *people, rank))


def liar(draw: Draw, lexicon: Lexicon) -> Problem:
    """One of four did it; one statement alone is true."""
    names = [person(draw) for _ in range(4)]
    if len(set(names)) < 4:
        return liar(draw, lexicon)
    said, truth = draw.below(4), draw.chance(50)
    # One blames `said`, `said` denies it: exactly one of these two is true; the third speaks of himself.
    first, third = draw.sample([i for i in range(4) if i != said], 2)
    lines = [
        f"{names[first]}说：“是{names[said]}。”",
        f"{names[said]}说：“不是我。”",
        f"{names[third]}说：“也不是我。”",
    ]
    culprit, count = (third, "一") if truth else (said, "两")
    if truth:
        steps = f"前两句互相矛盾，必有一真；只有一句真话，所以{names[third]}说了假话，做这件事的是{names[third]}"
    else:
        lines[2] = f"{names[third]}说：“是{names[said]}或者我。”"
        steps = (
            f"前两句必有一真一假；一共两句真话，所以第三句为真，是{names[said]}或{names[third]}；"
            f"既然查明不是{names[third]}，那就是{names[said]}"
        )
        lines.append(f"后来查明，不是{names[third]}。")
    deed = draw.pick(lexicon["deed"])
    question = draw.say(draw.pick(lexicon["liar"]), lexicon, deed=deed, people="、".join(names), count=count)
    question = question.replace("⟨⟩", "".join(lines))
    wrong = tuple(x for i, x in enumerate(names) if i != culprit)
    return Problem(question, names[culprit], wrong, steps, "逻辑推理", ("liar", *names, truth))


SUMS: tuple[Maker, ...] = (shopping, travel, group, percent, average, work, field, sequence)
LOGIC: tuple[Maker, ...] = (order, liar, weekday, sequence, clock)
MAKERS: dict[str, tuple[Maker, ...]] = {
    "sums": SUMS,
    "logic": LOGIC,
    "years": (years, weekday),
    "binary": (binary, sequence),
    "money": (shopping, percent, average),
    "land": (travel, field, clock),
    "team": (average, clock, order),
    "build": (work, field, group),
}


class Reasoner:
    """Makes problems that no other part of the corpus has."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._made: set[tuple[object, ...]] = set()

    def problem(self, draw: Draw, group_name: str) -> Problem:
        """Return a new problem of a group of `MAKERS`."""
        while True:
            problem = draw.pick(MAKERS[group_name])(draw, self._lexicon)
            if problem.key not in self._made and len(set(problem.wrong) | {problem.answer}) == 4:
                self._made.add(problem.key)
                return problem

    def item(self, draw: Draw, group_name: str) -> Item:
        """Return a new problem as a multiple-choice item."""
        p = self.problem(draw, group_name)
        return Item(p.question, (p.answer, *p.wrong), 0, p.steps + "。", p.topic, "reason")
