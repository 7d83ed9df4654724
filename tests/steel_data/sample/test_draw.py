"""Draws never change; templates are filled whole."""

import json
import re
from collections import Counter

from tests.steel_data.sample.corpus import benchmark, text

from steel_data.sample.draw import Draws


def test_draws_are_pinned():
    # Were the stream to change, every corpus made so far would silently be another one.
    draw = Draws(42, "pin")
    assert [draw.below(1000) for _ in range(5)] == [786, 625, 129, 578, 463]


def test_balanced_is_balanced():
    assert sorted(Counter(Draws(5).balanced(10)).values()) == [2, 2, 3, 3]


def test_say_keeps_marked_words_and_leaves_given_ones_alone():
    draw = Draws(9)
    words = {"x": ["甲", "乙", "丙", "丁"]}
    assert all(a == b for a, b in (draw.say("{x:1}-{x:1}", words).split("-") for _ in range(20)))
    assert draw.say("{code}", {}, code="a[i|j] {x}") == "a[i|j] {x}"


def test_no_template_is_left_unfilled(folder, chat, exam):
    """Slots, alternatives and separators of the sentence templates must be gone; code and JSON may have braces."""
    jokes = json.loads((folder / "ruozhiba/ruozhiba_qa.json").read_text(encoding="utf-8"))
    said = [text(row) for row in chat.values() if "```" not in text(row) and "JSON" not in text(row)]
    said += [row["instruction"] + row["output"] for row in jokes] + [row["q_main"] for row in exam]
    said += [row["Question"] for row in benchmark(folder, "cmmlu").values()]
    assert [t for t in said if any(mark in t for mark in ("=>", "{", "}", "⟨", "|", "[", "]"))] == []
    assert [t for t in said if re.search(r"\ba [aeio]\w+ (worth|with a few|that few)", t)] == []


def test_draws_pass_the_block_that_is_made_at_once():
    whole, mixed = Draws(1), Draws(1)
    said = [whole.bits() for _ in range(1000)]
    assert len(set(said)) == 1000
    assert [mixed.bits() for _ in range(600)] + [mixed.below(1 << 64) for _ in range(400)] == said


def test_weights_are_kept():
    draw = Draws(4)
    found = Counter(draw.weighted({"often": 9, "seldom": 1}) for _ in range(2000))
    assert 1700 < found["often"] < 1900


def test_a_sample_takes_no_place_twice():
    assert sorted(Draws(6).sample(range(20), 20)) == list(range(20))
    assert len(set(Draws(6).sample(range(20), 5))) == 5


def test_fixed_words_stay_for_a_whole_text():
    draw = Draws(8, words={"who": ["{name} the [cook|vet]"], "name": ["Ada", "Bo", "Cy"]})
    given = draw.fixed("who")
    assert draw.say("{who}", **given) == draw.say("{who}", **given) == given["who"]
    assert re.fullmatch(r"(Ada|Bo|Cy) the (cook|vet)", given["who"])
