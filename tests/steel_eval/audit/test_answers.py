"""Checkpoints as witnesses: who counts, what they can say, and what they cannot."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.steel_eval.audit.test_findings import asked

from steel_data.errors import InputError
from steel_eval.audit.answers import CHECKPOINTS, consensus, discrimination, negative, witnesses
from steel_eval.compare.runs import Result

N = 200
KEY_Q = np.arange(N) % 4
QUESTIONS = {f"test/s/{q:05d}": asked(f"question {q}", answer="ABCD"[KEY_Q[q]], row=q) for q in range(N)}


def result(folder: str, truth_Q: np.ndarray, strength: float, seed: int, bias: float = 0.0) -> Result:
    """A checkpoint that knows `truth_Q` with log-odds `strength`, and likes the letter B by `bias`."""
    rng = np.random.default_rng(seed)
    logit_QK = rng.normal(size=(N, 4))
    logit_QK[np.arange(N), truth_Q] += strength
    logit_QK[:, 1] += bias
    logprob_QK = logit_QK - np.log(np.exp(logit_QK).sum(1, keepdims=True))
    found = Result(Path(folder), {"preset": "p", "shots": 5})
    columns = {f"logprob_{'ABCD'[k]}": logprob_QK[:, k] for k in range(4)}
    found.__dict__["answers"] = pl.DataFrame(
        {"task": "t", "item": list(QUESTIONS), "label": ["ABCD"[k] for k in KEY_Q], **columns}
    )
    return found


def wrong_key(which: int = 7) -> np.ndarray:
    truth = KEY_Q.copy()
    truth[which] = 2  # the key says D, those who know say C
    return truth


def test_models_that_know_accuse_the_wrong_key_and_no_other() -> None:
    seen = witnesses([[result(f"r{i}", wrong_key(), 4.0, i)] for i in range(5)], "t")
    (found, *more) = consensus(seen, QUESTIONS)
    assert found.question.item.row == 7 and more == [] and "choose C" in found.why


def test_models_at_chance_are_no_witnesses_however_much_they_like_a_letter() -> None:
    seen = witnesses([[result(f"r{i}", wrong_key(), 0.0, i, bias=6.0)] for i in range(5)], "t")
    assert not seen.able_R.any() and consensus(seen, QUESTIONS) == [] and negative(seen, QUESTIONS) == []


def test_a_liking_for_a_letter_is_taken_off_before_anybody_is_accused() -> None:
    seen = witnesses([[result(f"r{i}", wrong_key(), 4.0, i, bias=3.0)] for i in range(5)], "t")
    assert [f.question.item.row for f in consensus(seen, QUESTIONS)] == [7]


def test_only_the_last_checkpoint_of_a_run_is_a_witness() -> None:
    seen = witnesses([[result("r/1", wrong_key(), 4.0, 1), result("r/2", wrong_key(), 4.0, 2)]], "t")
    assert seen.able_R.tolist() == [False, True]


def test_a_key_that_better_models_believe_less_discriminates_negatively() -> None:
    grades = np.linspace(0.0, 5.0, 12)
    seen = witnesses([[result(f"r{i}", wrong_key(), g, i) for i, g in enumerate(grades)]], "t")
    value = discrimination(seen)
    assert value[7] < -0.5 and np.nanmedian(value) > 0.3
    assert negative(seen, QUESTIONS)[0].question.item.row == 7


def test_few_checkpoints_say_nothing_about_discrimination() -> None:
    few = [[result(f"r{i}", wrong_key(), g, i) for i, g in enumerate(np.linspace(0, 5, CHECKPOINTS - 1))]]
    assert negative(witnesses(few, "t"), QUESTIONS) == []


def test_unlike_questions_are_refused_and_answers_without_probabilities_left_out() -> None:
    one, other = result("a", wrong_key(), 4.0, 1), result("b", wrong_key(), 4.0, 2)
    other.__dict__["answers"] = other.answers.with_columns(item=pl.col("item") + "x")
    with pytest.raises(InputError, match="b: other questions of t than in a"):
        witnesses([[one], [other]], "t")
    one.__dict__["answers"] = one.answers.with_columns(pl.col("^logprob_.$") * float("nan"))
    assert witnesses([[one]], "t") is None
