"""The two small sets: trick questions in Ruozhiba's form, and preference pairs in LLaMA-Factory's form."""

from collections.abc import Callable

from steel_data.sample.chat_other import EnglishChat
from steel_data.sample.chat_zh import ChineseChat, Turns
from steel_data.sample.draw import Draw, Lexicon
from steel_data.sample.exam import Row, scaled

JOKES, PAIRS = 110, 300


def ruozhiba(seed: int, scale: float, lexicon: Lexicon) -> list[Row]:
    """Return trick questions and their sober answers: rows of `instruction` and `output`, no instruction twice."""
    draw = Draw(seed, "ruozhiba")
    rows: list[Row] = []
    seen: set[str] = set()
    words = [key for key in lexicon if key != "joke"]
    jokes: list[str] = []
    for _ in range(50 * JOKES):  # a joke without slots has few variants: give up rather than go on for ever
        if len(rows) == scaled(JOKES, scale, 10):
            break
        jokes = jokes or draw.shuffled(lexicon["joke"])  # every joke once before one comes again
        fixed = {word: draw.pick(lexicon[word]) for word in words}
        instruction, output = (draw.say(part, lexicon, **fixed) for part in jokes.pop().split("=>"))
        if instruction not in seen:
            seen.add(instruction)
            rows.append({"instruction": instruction, "output": output})
    return rows


def preference(seed: int, scale: float, chinese: ChineseChat, english: EnglishChat) -> list[Row]:
    """Return prompts with a better and a worse answer: the worse one breaks off, answers something else or evades."""
    draw = Draw(seed, "preference")
    zh: tuple[Callable[[], Turns], ...] = (chinese.question, chinese.introduction, chinese.advice, chinese.arithmetic)
    en: tuple[Callable[[], Turns], ...] = (english.question, english.introduction, english.advice, english.arithmetic)
    rows: list[Row] = []
    for _ in range(scaled(PAIRS, scale, 10)):
        is_chinese = draw.chance(60)
        make = draw.pick(zh if is_chinese else en)
        prompt, good = make()[:2]
        roll = draw.below(3)
        if roll == 0:
            bad = make()[1]
        elif roll == 1:
            bad = good[: max(4, len(good) // draw.between(3, 6))]
        else:
            bad = draw.pick(
                ["这个问题我不太清楚，你可以自己查一下。", "不知道。", "这个嘛，见仁见智吧。", "网上应该有答案。"]
                if is_chinese
                else ["I am not sure, look it up.", "No idea.", "It depends, I guess.", "Please search the web."]
            )
        rows.append({
            "conversations": [{"from": "human", "value": prompt}],
            "chosen": {"from": "gpt", "value": good},
            "rejected": {"from": "gpt", "value": bad},
        })  # fmt: skip
    return rows
