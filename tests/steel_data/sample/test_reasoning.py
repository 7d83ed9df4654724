"""Worked items are right, differ in their numbers, and their wrong answers tell nothing."""

import re
from collections import Counter

from tests.steel_data.sample.corpus import benchmark

from steel_data.sample.draw import Draws, texts
from steel_data.sample.reasoning import Reasoner, around


def test_worked_items_share_no_numbers(folder, exam, truth):
    worked = {row["item"] for row in truth if row["source"] == "exam" and row["form"] == "reason"}
    trained = {row["q_main"] for row in exam if row["id"] in worked}
    asked = {row["Question"] for row in benchmark(folder, "cmmlu").values()}
    assert len(worked) > 0.2 * len(exam)
    assert not trained & asked


def test_wrong_numbers_lie_evenly_around_the_right_one():
    draw, ranks = Draws(3), Counter()
    for _ in range(2000):
        options = around(draw, 60, 5, "元")
        ranks[sorted(options, key=lambda x: int(x[:-1])).index(options[0])] += 1
    assert all(400 < ranks[i] < 600 for i in range(4))


def problems(group, count):
    reasoner, draw = Reasoner(), Draws(11, group)
    return [reasoner.item(draw, group) for _ in range(count)]


def test_every_equation_of_a_solution_holds():
    """`n÷k=d……r` is a division with rest."""
    seen = Counter()
    for item in (one for group in texts("reasoning")["groups"] for one in problems(group, 60)):
        for left, right, rest in re.findall(r"(?<![\d次])([\d(][\d×+\-÷.()]*[\d)])=(\d+)(?:……(\d+))?", item.why):
            value = eval(left.replace("×", "*").replace("÷", "//" if rest else "/"))
            assert abs(value - int(right)) < 1e-6, item.why
            if rest:
                n, k = map(int, left.split("÷"))
                assert n == k * int(right) + int(rest)
            seen[item.topic] += 1
    assert len(seen) == 11, "all topics but sequences and logic"


def test_one_person_alone_fits_a_liars_puzzle():
    """Try each of the four as the culprit: the count of true statements must single one out, the answer."""
    puzzles = [
        item
        for item in problems("logic", 150)
        if "真话" in item.question or "属实" in item.question or "为真" in item.question
    ]
    assert len(puzzles) > 15
    for item in puzzles:
        spoken = re.findall(r"([^。：！？”，]{3})说：“(.+?)。”", item.question)
        true = {"一": 1, "两": 2}[re.search(r"([一两])句", item.question)[1]]
        cleared = re.search(r"后来查明，不是(.{3})。", item.question)

        def holds(said, speaker, culprit):
            if "不是我" in said:
                return culprit != speaker
            return culprit in said or ("或者我" in said and culprit == speaker)

        fit = [
            name
            for name in item.options
            if sum(holds(said, speaker, name) for speaker, said in spoken) == true
            and not (cleared and cleared[1] == name)
        ]
        assert fit == [item.options[0]], item.question


def test_an_order_comes_out():
    for item in problems("logic", 100):
        if told := re.search(r"排列|数，第|的第", item.question) and re.findall(
            r"(.{3})比(.{3})(?:高|早到|年长|跑得快|藏书多|住得远)", item.question
        ):
            above = dict(told)
            first = next(name for name in above if name not in above.values())
            ranked = [first]
            while ranked[-1] in above:
                ranked.append(above[ranked[-1]])
            assert ranked["一二三四".index(re.search(r"第(.)[位个]", item.question)[1])] == item.options[0]
