"""Judged answers: nothing bad is learnt as good, and answers that cannot be told apart are a reason."""

from typing import Any

import pytest

from steel_data.builders.chat import chat, columns_read
from steel_data.builders.judged import best_and_worst, is_good
from steel_data.builders.turns import UnusableError
from steel_data.errors import InputError

KTO = {"prompt": "问", "completion": "答", "label": True}
LIST = {"prompt": "问", "responses": ["甲", "乙", "丙"], "scores": [3, 9.5, 1]}


def made(row: dict[str, Any], **options: Any) -> Any:
    record = chat(row, **options)
    return record if isinstance(record, str) else record[0]


@pytest.mark.parametrize("good", [True, 1, "true", "True"])
@pytest.mark.parametrize("bad", [False, 0, "false", "0"])
def test_an_answer_judged_good_is_kept_and_a_bad_one_dropped(good: object, bad: object) -> None:
    said = {"columns": {"kto_tag": "label"}}
    assert made({**KTO, "label": good}, **said) == {
        "messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}],
        "kind": "chat", "note": "judged-good",
    }  # fmt: skip
    assert made({**KTO, "label": bad}, **said).startswith("kto: judged bad")
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    assert made({"messages": turns, "label": bad}, **said).startswith("kto: judged bad")


TURNS = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "问", "completion": "答"}, {}),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, {}),
        ({"messages": TURNS}, {}),
        ({"query": "问", "response": "答"}, {}),
        ({"instruction": "问", "input": "", "output": "答"}, {}),
        ({"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]}, {}),
        ({"q": "问", "a": "答"}, {"prompt": "q", "response": "a", "query": ""}),
    ],
)
def test_layout_kto_keeps_good_and_bad_answers_with_their_label(row: dict[str, Any], columns: dict[str, str]) -> None:
    for good in (True, False):
        record = made({**row, "label": good}, layout="kto", columns=columns)
        assert record == {"prompt": TURNS[:1], "completion": TURNS[1:], "label": good, "kind": "kto"}
        other = {**row, "verdict": int(good), "label": "a tag"}
        assert made(other, layout="kto", columns={**columns, "kto_tag": "verdict"}) == record
    assert columns_read((*row, "label"), {"layout": "kto", "columns": columns}) == {*row, "label"}


def test_a_completion_is_all_behind_the_last_question() -> None:
    call = {"function": {"name": "f", "arguments": "{}"}}
    turns = [
        *({"role": "system", "content": "s"}, *TURNS, {"role": "user", "content": "再问"}),
        *({"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "31"}, TURNS[1]),
    ]
    record = made({"messages": turns, "label": 0, "tools": [{"name": "f"}]}, layout="kto")
    assert [turn["role"] for turn in record["prompt"]] == ["system", "user", "assistant", "user"]
    assert [turn["role"] for turn in record["completion"]] == ["assistant", "tool", "assistant"]
    assert record["tools"][0]["function"] == {"name": "f"}


def test_layout_kto_without_a_label_or_with_a_pair_is_no_row() -> None:
    assert made({"messages": TURNS}, layout="kto").startswith("columns: no column 'label'")
    assert made({"messages": TURNS, "label": None}, layout="kto").startswith("kto: nothing where true or false belongs")
    assert made({"messages": TURNS, "label": "好"}, layout="kto").startswith("kto: '好' where true or false belongs")
    pair = {"prompt": "问", "chosen": "好", "rejected": "坏", "label": True}
    assert made(pair, layout="kto").startswith("columns: several answers, where layout 'kto' has one")
    with pytest.raises(InputError, match="leaves layout 'kto' without the column"):
        chat(KTO, layout="kto", columns={"kto_tag": ""})


@pytest.mark.parametrize("odd", [None, "", "好", 2, 0.5, [True], {"x": 1}])
def test_a_verdict_that_is_none_is_a_reason(odd: object) -> None:
    with pytest.raises(UnusableError, match=r"kto: .* where true or false belongs"):
        is_good(odd)
    assert str(chat({**KTO, "label": odd}, columns={"kto_tag": "label"})).startswith("kto: ")
    assert str(chat({"prompt": "问", "completion": "答"}, columns={"kto_tag": "label"})).startswith(
        "columns: no column"
    )


def test_a_label_that_nobody_asked_for_is_not_read() -> None:
    assert "label" not in columns_read(tuple(KTO), {})  # it changes what the row means: the build stops
    assert columns_read(tuple(KTO), {"columns": {"kto_tag": "label"}}) == set(KTO)


def test_the_best_and_the_worst_of_a_list_are_a_pair() -> None:
    record = made(LIST)
    assert (record["chosen"][0]["content"], record["rejected"][0]["content"]) == ("乙", "丙")
    assert (record["kind"], record["note"]) == ("preference", "best-and-worst")
    assert (
        made({**LIST, "scores": "[3, 9.5, 1]", "responses": '["甲", "乙", "丙"]'}) == record
    )  # as a table holds lists
    ranked = {"prompt": "问", "responses": LIST["responses"], "ranks": [2, 1, 3]}
    assert made(ranked) == record
    own = {"columns": {"prompt": "q", "responses": "answers"}}
    answers = [{"answer": a, "rank": r} for a, r in zip("甲乙丙", (2, 1, 3), strict=True)]
    assert made({"q": "问", "answers": answers}, **own) == record
    assert made({**LIST, "scores": [9.5, 9.5, 1]})["chosen"][0]["content"] == "甲"  # of equals the first


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scores": [1, 1, 1]}, "all answers are worth the same"),
        ({"scores": [1, 2]}, "3 answers, but 2 judgements"),
        ({"scores": [1, 2, "好"]}, "'好' among the scores, which are numbers"),
        ({"scores": [1, 2, None]}, "'None' among the scores"),
        ({"scores": [1, 2, True]}, "'True' among the scores"),
        ({"scores": 7}, "scores are no list"),
        ({"scores": None}, "answers without scores or ranks"),
        ({"responses": "甲"}, "not a list of two answers or more"),
        ({"responses": ["甲"]}, "not a list of two answers or more"),
        ({"responses": ["甲", "乙", "乙"]}, "the best and the worst answer are one text"),
    ],
)
def test_a_list_of_which_no_pair_can_be_made_is_a_reason(change: dict[str, Any], reason: str) -> None:
    assert str(made({**LIST, **change})).startswith("ranking: ") and reason in made({**LIST, **change})


def test_scores_and_ranks_at_once_or_neither_are_a_reason() -> None:
    with pytest.raises(UnusableError, match="both scores and ranks"):
        best_and_worst(["a", "b"], [1, 2], [1, 2])
    with pytest.raises(UnusableError, match="objects without an answer and its score or rank; the first has: model"):
        best_and_worst([{"model": "a"}, {"model": "b"}], None, None)


def test_pairs_for_orpo_are_those_for_dpo() -> None:
    turns = {
        side: [{"role": "user", "content": "问"}, {"role": "assistant", "content": text}]
        for side, text in (("chosen", "好"), ("rejected", "坏"))
    }
    record = made({"source": "x", "prompt": "问", "question": "问", **turns})
    assert [record[key][0]["content"] for key in ("prompt", "chosen", "rejected")] == ["问", "好", "坏"]


def test_a_role_may_have_several_names_but_a_name_one_role() -> None:
    turns = [{"from": "客户", "value": "问"}, {"from": "机", "value": "答"}]
    assert made({"conversations": turns}, tags={"user_tag": ["客户", "顾客"], "assistant_tag": "机"})["kind"] == "chat"
    for tags, fault in (
        ({"user_tag": ["a"], "assistant_tag": ["b", "a"]}, "'a' is both user and assistant"),
        ({"role_tag": ["a"]}, "where one key of a turn is named"),
    ):
        with pytest.raises(InputError, match=fault):
            chat({"conversations": turns}, tags=tags)
