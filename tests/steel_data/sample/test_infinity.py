"""Infinity-Instruct's layout; duplicates and quotations are those that were planted."""

from collections import Counter

import pytest
from tests.steel_data.sample.corpus import alike_pairs, benchmark, grams, jaccard, text

from steel_data.sample.draw import Draws
from steel_data.sample.infinity import Unlike, edited


def test_chat_layout(chat, summary):
    for row in chat.values():
        roles = [turn["from"] for turn in row["conversations"]]
        assert roles == ["human", "gpt"] * (len(roles) // 2)
        assert all(turn["value"].strip() for turn in row["conversations"])
        assert set(row["label"]) == {"ability_en", "ability_zh", "cate_ability_en", "cate_ability_zh"}
    assert len(chat) == sum(rows for name, rows in summary["files"].items() if name.startswith("infinity"))
    shares = {k: n / len(chat) for k, n in summary["infinity_languages"].items()}
    assert shares["zh"] == pytest.approx(0.62, abs=0.03)
    assert shares["en"] == pytest.approx(0.32, abs=0.03)
    # The column is wrong now and then, as the published one is.
    assert Counter(row["langdetect"] for row in chat.values())["ko"] > summary["infinity_languages"]["ko"]


def test_planted_exact_duplicates_are_the_only_ones(chat, summary):
    for pair in summary["planted"]["exact"]:
        assert chat[pair["id"]]["conversations"] == chat[pair["of"]]["conversations"]
    repeats = len(chat) - len({text(row) for row in chat.values()})
    assert repeats == summary["counts"]["exact"] == len(summary["planted"]["exact"]) > 0


def test_planted_near_duplicates_are_near(chat, summary):
    assert summary["counts"]["near"] > 0
    for pair in summary["planted"]["near"]:
        one, two = text(chat[pair["id"]]), text(chat[pair["of"]])
        assert one != two
        assert jaccard(grams(one), grams(two)) > 0.75


def test_unrelated_rows_are_unlike(chat, exam, summary):
    """Brute force over a sample: a near-duplicate filter at 0.8 must find hardly more than what was planted."""
    planted = {pair["id"] for pairs in summary["planted"].values() for pair in pairs}
    conversations = [text(row) for key, row in chat.items() if key not in planted]
    questions = [f"{r['q_main']}\n{r['option_a']}\n{r['option_b']}\n{r['answer_detail']}" for r in exam]
    for said in (conversations, questions):
        assert alike_pairs(Draws(1).sample(said, 450)) <= 4


def test_quotations_stand_in_the_chat_rows(folder, chat, summary):
    items = {name: benchmark(folder, name) for name in ("cmmlu", "ceval")}
    for kind in ("quoted", "quoted_edited"):
        assert summary["counts"][kind] == len(summary["planted"][kind]) > 0
        for mark in summary["planted"][kind]:
            split, subject, row = mark["item"].split("/")
            item = items[mark["benchmark"]][split, subject, int(row)]
            question, shown = item.get("Question", item.get("question")), text(chat[mark["id"]])
            assert split == "test"
            assert (question in shown) == (kind == "quoted")


def test_a_text_like_an_earlier_one_is_refused():
    unlike = Unlike()
    said = "".join(chr(0x4E00 + i) for i in range(300))
    assert unlike.add(said)
    assert not unlike.add(said[:150] + "改" + said[151:])  # 5 of 296 5-grams differ
    assert unlike.add(said[200:] + "".join(chr(0x6000 + i) for i in range(200)))


def test_edits_change_the_share_asked_for():
    said = "".join(chr(0x6A00 + i) for i in range(400))  # none of the characters that are put in
    for percent, least, most in ((0.1, 1, 1), (5.0, 15, 20)):
        new = edited(Draws(2), said, percent)
        assert least <= sum(new.count(char) != 1 for char in said) <= most
