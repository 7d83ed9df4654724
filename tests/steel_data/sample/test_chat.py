"""Conversations: whole turns in their language, answers that the passage or the numbers give."""

import json
import re

import pytest

from steel_data.sample.chat import ChineseChat, EnglishChat, code
from steel_data.sample.draw import Draws, texts
from steel_data.sample.english import Sums
from steel_data.sample.reasoning import Reasoner
from steel_data.sample.world import World


@pytest.fixture(scope="module")
def chats():
    return {
        "zh": ChineseChat(4, World(4, "world_a", "world_b"), Reasoner()),
        "en": EnglishChat(4, World(4, "world_en"), Sums()),
    }


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_kind_makes_whole_turns(chats, language):
    for kind in [kind for kind in texts("infinity")["language"][language]["kinds"] if kind != "code"]:
        for _ in range(10):
            turns = getattr(chats[language], kind)()
            assert len(turns) % 2 == 0
            assert all(turn.strip() for turn in turns)
            assert not re.search(r"=>|[{|]\w+[|}]", "".join(turns)) or "JSON" in turns[0]
            han = len(re.findall(r"[一-鿿]", "".join(turns)))
            assert (han > 0) == (language == "zh"), turns


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_other_languages_are_written_in_their_script(chats, language):
    script = {"ja": r"[ぁ-ん]", "ko": r"[가-힣]"}[language]
    for _ in range(10):
        assert all(re.search(script, turn) for turn in chats["en"].other(language))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_is_extracted_stands_in_the_passage(chats, language):
    asked = [chats[language].extract() for _ in range(120)]
    tables = [(ask, json.loads(answer)) for ask, answer in asked if "JSON" in ask]
    assert len(tables) > 8
    for ask, found in tables:
        assert all(value.lower() in ask.lower() for key, value in found.items() if key != "名称")


def test_a_chinese_problem_asks_what_it_wants(chats):
    """A blank of an exam item becomes a question word, but in a sequence of numbers."""
    for _ in range(80):
        ask, answer = chats["zh"].arithmetic()
        assert "____" not in ask or re.search(r"\d+，\d+，\d+", ask)
        assert re.search(r"\d|星期|[^。]+。$", answer)


def test_a_list_has_as_many_points_as_it_was_asked_for(chats):
    for language in ("zh", "en"):
        for _ in range(20):
            ask, answer = chats[language].advice()
            assert str(answer.count("\n") + 1) in ask


def test_code_is_code():
    draw = Draws(6)
    for language in ("zh", "en") * 20:
        ask, answer = code(draw, language)
        assert bool(re.search(r"[一-鿿]", ask)) == (language == "zh")
        body = re.search(r"```(\w+)\n(.*?)\n```", answer, re.S)
        if body[1] == "python":
            compile(body[2], "reply", "exec")
        assert "{{" not in answer
