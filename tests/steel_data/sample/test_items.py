"""Items: the right option moves, the explanation's letters with it; only the fact tells which it is."""

from collections import Counter

from steel_data.sample.draw import Draws, words
from steel_data.sample.items import Choice, fact_item
from steel_data.sample.world import ThingPool, World


def test_letters_of_the_explanation_follow_the_options():
    item = Choice("?", ("right", "x", "y", "z"), "⟨0⟩ yes, ⟨1⟩ no, ⟨3⟩ no", "t", "statement")
    moved = item.placed(2)
    assert moved.options == ("x", "y", "right", "z")
    assert (moved.letter, moved.explain()) == ("C", "C yes, A no, D no")
    assert moved.placed(0).options == item.options
    assert moved.placed(0).explain() == "A yes, B no, D no"


def test_a_short_question_gets_a_lead():
    draw = Draws(1, words=words("exam"))
    short, long = (Choice(text, ("a", "b", "c", "d"), "", "", "value") for text in ("短" * 10, "长" * 64))
    assert short.with_lead(draw).question.endswith(short.question)
    assert len(short.with_lead(draw).question) > 20
    assert long.with_lead(draw) is long


def test_the_fact_alone_tells_the_right_option():
    pool, draw = ThingPool(World(2, "world_a", "world_b"), "exam"), Draws(2, words=words("exam"))
    forms = Counter()
    for _ in range(300):
        item = fact_item(pool, draw.pick(pool.kinds), draw)
        fact, right = item.fact, item.options[0]
        assert len(set(item.options)) == 4
        forms[item.form] += 1
        if item.form == "value":
            assert right == fact.value
            assert set(item.options) <= set(fact.attribute.values)
        elif item.form == "thing":
            assert right == fact.thing.name
            assert fact.value in item.question
        else:
            true = {one.value for one in fact.thing.facts}
            assert any(value in right for value in true)
            assert item.explain()[0] or all(x in item.explain() for x in "ABCD")
    assert 160 < forms["value"] < 215
    assert 30 < forms["thing"] < 90
    assert 30 < forms["statement"] < 90


def test_a_worked_item_is_about_nothing():
    assert set(Choice("1+1?", ("2", "3", "4", "5"), "", "sum", "reason").about.values()) == {None}
