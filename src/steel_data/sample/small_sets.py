"""Trick questions, and preference pairs (apart: two data sets of their own, too small for a file each).

Layouts: `ruozhiba/ruozhiba_qa.json` in the fields of Ruozhiba (`instruction`, `output`); `preference/zh_en.json` as
LLaMA-Factory's sharegpt pairs (`conversations`, `chosen`, `rejected`; hiyouga/DPO-En-Zh-20k).
"""

from steel_data.sample.chat import ChineseChat, EnglishChat
from steel_data.sample.draw import Draws, Row, scaled, words

JOKES, PAIRS = 110, 300
_EVASIVE = {
    "zh": ["这个问题我不太清楚，你可以自己查一下。", "不知道。", "这个嘛，见仁见智吧。", "网上应该有答案。"],
    "en": ["I am not sure, look it up.", "No idea.", "It depends, I guess.", "Please search the web."],
}


def ruozhiba(seed: int, scale: float) -> list[Row]:
    """Return trick questions and their sober answers, no question twice."""
    draw = Draws(seed, "ruozhiba", words=words("ruozhiba"))
    outputs: dict[str, str] = {}  # by instruction
    jokes: list[str] = []
    for _ in range(50 * JOKES):  # a joke without slots has few variants: give up rather than go on for ever
        if len(outputs) == scaled(JOKES, scale, 10):
            break
        jokes = jokes or draw.shuffled(draw.words["joke"])  # every joke once before one comes again
        fixed = draw.fixed(*(word for word in draw.words if word != "joke"))
        instruction, output = (draw.say(part, **fixed) for part in jokes.pop().split("=>"))
        outputs.setdefault(instruction, output)
    return [{"instruction": instruction, "output": output} for instruction, output in outputs.items()]


def preference(seed: int, scale: float, chinese: ChineseChat, english: EnglishChat) -> list[Row]:
    """Return prompts with a better and a worse answer: the worse one breaks off, answers something else or evades."""
    draw = Draws(seed, "preference")
    rows: list[Row] = []
    for _ in range(scaled(PAIRS, scale, 10)):
        language, chat = ("zh", chinese) if draw.chance(60) else ("en", english)
        make = draw.pick([chat.fact, chat.introduce, chat.advice, chat.arithmetic])
        prompt, good = make()[:2]
        roll = draw.below(3)
        if roll == 0:
            bad = make()[1]
        elif roll == 1:
            bad = good[: max(4, len(good) // draw.between(3, 6))]
        else:
            bad = draw.pick(_EVASIVE[language])
        rows.append({
            "conversations": [{"from": "human", "value": prompt}],
            "chosen": {"from": "gpt", "value": good},
            "rejected": {"from": "gpt", "value": bad},
        })  # fmt: skip
    return rows
