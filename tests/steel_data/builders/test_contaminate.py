"""The injector: a randomised experiment whose doses are even inside every subject, and forms that keep the key right."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from steel_data.benchmarks.items import Item
from steel_data.builders.contaminate import Draw, contaminate, draw, edit, records
from steel_data.errors import InputError

OPTIONS = ("东山村", "西河镇", "南湖岛", "北岭寨")
HAN = [chr(code) for code in range(0x4E00, 0x9000)]


def item(number: int, subject: str = "law", **changes: Any) -> Item:
    # characters drawn for each question: no two have a 3-gram in common, so that each is a cluster of its own
    thing = "".join(random.Random(f"{subject}{number}").sample(HAN, 12))
    fields = {
        "item": f"test/{subject}/{number:05d}", "subject": subject, "split": "test", "row": number,
        "question": f"下面关于{thing}的说法属于事实的是", "answer": "ABCD"[number % 4],
        "options": tuple(f"{thing[:4]}{option}{thing[4:]}" for option in OPTIONS), "explanation": "", "file": Path("law.csv"),
    }  # fmt: skip
    return Item(**{**fields, **changes})


def exam_of(**subjects: int) -> list[Item]:
    return [item(i, subject) for subject, count in subjects.items() for i in range(count)]


def drawn(items: list[Item], **options: Any) -> list[Draw]:
    return draw(items, contaminate(**options))


@pytest.mark.parametrize("seed", range(5))
def test_doses_are_even_inside_every_subject(seed: int) -> None:
    """Were they even only over all, a subject's difficulty would be taken for the effect of a dose."""
    draws = drawn(exam_of(law=20, art=20, law2=18, music=20), share=0.5, doses=[1, 3, 10], seed=seed)
    for subject in ("law", "art", "law2", "music"):
        counts = Counter(d.dose for d in draws if d.item.subject == subject and d.dose)
        assert set(counts) == {1, 3, 10}
        assert max(counts.values()) - min(counts.values()) <= 1, (subject, counts)
    counts = Counter(d.dose for d in draws if d.dose)
    assert sum(counts.values()) == 39
    assert set(counts.values()) == {13}


def test_a_table_of_doses_is_met_exactly() -> None:
    draws = drawn(exam_of(law=20, art=20), doses={"1": 12, "3": 6, "10": 2})
    assert Counter(d.dose for d in draws) == {0: 20, 1: 12, 3: 6, 10: 2}


def test_a_larger_share_holds_the_smaller_one_and_a_seed_draws_others() -> None:
    items = exam_of(law=20, art=20)
    few, many, others = (
        {d.item.item for d in drawn(items, **how) if d.dose}
        for how in ({"share": 0.25}, {"share": 0.75}, {"share": 0.25, "seed": 7})
    )
    assert few < many
    assert few != others


def test_equal_questions_share_one_draw_one_dose_and_one_form() -> None:
    twin = item(3, "art", row=19, item="test/art/00019")
    items = [*exam_of(art=19), twin]
    for seed in range(10):
        by_item = {
            d.item.item: (d.dose, d.form)
            for d in drawn(items, share=0.5, doses=[1, 3], style={"text": 0.5, "edited": 0.5}, seed=seed)
        }
        assert by_item["test/art/00003"] == by_item["test/art/00019"]


def test_an_item_without_a_key_is_never_drawn() -> None:
    draws = drawn([*exam_of(law=10), item(11, answer=" ")], share=1.0)
    assert [d.dose for d in draws] == [1] * 10 + [0]
    assert records(draws, "b", contaminate(share=1.0))[-1]["reason"] == "no-answer"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "share and a table of doses exclude each other, one is needed"),
        ({"share": 0.5, "doses": {"1": 3}}, "share and a table of doses exclude each other"),
        ({"share": 0.0}, r"share = 0\. Fix: above 0, at most 1"),
        ({"share": 0.5, "doses": [1, 0]}, "doses: 0 is not a dose"),
        ({"share": 0.5, "doses": [3, 3]}, "one stands twice"),
        ({"doses": {"1": 0}}, "every dose needs at least one item"),
        ({"share": 0.5, "style": {"text": 0.5}}, r"style: shares sum to 0\.5"),
        ({"doses": {"1": 30}}, "doses ask for 30 items; the split has 20 with an answer"),
        ({"share": 0.01}, r"share = 0\.01 of 20 items with an answer draws none"),
    ],
)
def test_a_draw_that_cannot_be_made_says_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        drawn(exam_of(law=20), **options)


def written(one: Item, form: str) -> tuple[str, str]:
    (record,) = records([Draw(one, 1, form)], "b", contaminate(share=1.0))
    user, assistant = (message["content"] for message in record["messages"])
    return user, assistant


@pytest.mark.parametrize("number", range(20))
def test_shuffled_moves_the_key_letter_with_its_option(number: int) -> None:
    one = item(number)
    user, assistant = written(one, "shuffled")
    right = one.options["ABCD".index(one.answer)]
    shown = dict(line.split(". ", 1) for line in user.splitlines() if line[1:3] == ". ")
    assert sorted(shown.values()) == sorted(one.options)
    assert shown[assistant[0]] == right
    assert list(shown.values()) != list(one.options)  # never the published order


def test_shuffled_moves_most_letters() -> None:
    moved = sum(written(item(n), "shuffled")[1][0] != item(n).answer for n in range(20))
    assert moved >= 10


def test_forms_hold_question_and_key() -> None:
    one = item(1, explanation="因为如此，故选：B。")
    for form in ("answer-only", "answer-first", "explain-first", "text"):
        user, assistant = written(one, form)
        assert one.question in user + assistant
        assert "B" in assistant
    assert one.options[2] in written(one, "text")[1]
    assert written(one, "edited")[0] != written(one, "answer-only")[0]
    with pytest.raises(InputError, match="test/law/00002 cannot take the form 'explain-first': it has no explanation"):
        written(item(2), "explain-first")
    assert written(item(2, options=(), answer="一九四九年"), "shuffled") == (item(2).question, "一九四九年")


def test_an_edit_is_light_and_always_there() -> None:
    assert edit("鲸鱼属于哺乳类，正确的是") == "鲸鱼属于哺乳类,说法正确的是"
    assert edit("几点了") == "请看下题：几点了"
