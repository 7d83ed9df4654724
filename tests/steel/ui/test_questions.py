"""Answers of several checkpoints to the same questions."""

from pathlib import Path

import polars as pl
import pytest

from steel.ui.folder import look, results
from steel.ui.questions import Asked, Column, accuracy, columns, heat, listed, one, tasks
from steel_data.errors import InputError


def shown(runs: Path, run: str = "b") -> list[Column]:
    return columns(results(look(runs).scored[run]), runs / run)[0]


def test_checkpoints_are_named_below_their_run(runs: Path) -> None:
    both = shown(runs)
    assert [column.name for column in both] == ["step-000010", "step-000020"] and tasks(both) == ["cmmlu"]
    assert [accuracy(column, "cmmlu") for column in both] == [0.5, 0.875]
    assert accuracy(both[0], "ceval") is None
    with pytest.raises(InputError, match="Did you mean 'lm-eval'"):
        columns([column.result for column in both], runs / "b", "lm-evl")


def test_the_weakest_subject_of_the_last_checkpoint_comes_first(runs: Path) -> None:
    assert heat(shown(runs), "cmmlu") == [("art<b>", [0.5, 0.75]), ("law", [0.5, 1.0])]


@pytest.mark.parametrize(
    ("said", "fit"),
    [({}, 8), ({"only": "wrong"}, 1), ({"only": "right"}, 7), ({"only": "changed"}, 3), ({"subject": "law"}, 4),
     ({"text": "第3题"}, 1), ({"text": "没有"}, 0)],
)  # fmt: skip
def test_questions_are_chosen_by_how_they_were_answered(runs: Path, said: dict[str, str], fit: int) -> None:
    rows, total = listed(shown(runs), Asked(task="cmmlu", **said))  # type: ignore[arg-type]
    assert len(rows) == total == fit


def test_one_question_has_every_answer_to_it(runs: Path) -> None:
    question = one(shown(runs), "cmmlu", "test/law/00004")
    assert [a["prediction"] for a in question["answers"]] == ["B", "A"] and question["label"] == "A"
    assert question["answers"][0]["log"] == {"A": -2.0, "B": -1.0, "C": -2.0, "D": -2.0}
    with pytest.raises(InputError, match="no question"):
        one(shown(runs), "cmmlu", "../../etc/passwd")


def test_a_checkpoint_of_other_questions_has_no_answer(runs: Path) -> None:
    file = runs / "b/scores/step-000010/answers.parquet"
    pl.read_parquet(file).head(2).write_parquet(file)
    rows, total = listed(shown(runs), Asked(task="cmmlu"))
    assert total == 2 and all(len(row["answers"]) == 2 for row in rows)
    assert len(one(shown(runs), "cmmlu", "test/law/00004")["answers"]) == 1


def test_damaged_answers_are_one_line(runs: Path) -> None:
    (runs / "b/scores/step-000020/answers.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InputError, match=r"answers\.parquet: cannot be read"):
        listed(shown(runs), Asked(task="cmmlu"))


def test_a_chat_prompt_is_shown_as_its_turns(runs: Path) -> None:
    file = runs / "b/scores/step-000020/prompts.parquet"
    prompt = '[{"role":"system","content":"s"},{"role":"user","content":"第一题\\n答案："}]'
    pl.read_parquet(file).with_columns(prompt=pl.lit(prompt)).write_parquet(file)
    (first, *_), _ = listed(shown(runs), Asked(task="cmmlu"))
    assert (
        first["prompt"]
        == one(shown(runs), "cmmlu", "test/law/00004")["prompt"]
        == "[system]\ns\n[user]\n第一题\n答案："
    )
