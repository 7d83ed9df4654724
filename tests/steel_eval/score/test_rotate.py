"""Rotations: nothing is lost in turning, a letter's favourite is unmasked, knowledge is not."""

import json
from pathlib import Path

import numpy as np
import pytest

from steel_data.benchmarks.items import Item
from steel_eval.ask.tasks import load_task
from steel_eval.score.rotate import _hits, rotated
from steel_eval.score.sweep import Settings, run_sweep

ITEM = Item("test/x/00000", "x", "test", 0, "q", ("甲", "乙", "丙", "丁"), "B", "", Path())


def test_the_gold_text_moves_with_its_letter():
    for places in range(4):
        turned = rotated(ITEM, places)
        assert turned.options["ABCD".index(turned.answer)] == "乙"
        assert sorted(turned.options) == sorted(ITEM.options)
    assert rotated(ITEM, 4) == ITEM


def test_who_always_says_b_is_right_once_in_four():
    favourite = [[-2.0, -1.0, -2.0, -2.0]] * 4
    mean, every, _ = _hits(ITEM, favourite)
    assert (mean, every) == (0.25, 0)


def test_who_knows_is_right_everywhere_also_with_a_favourite_letter():
    knows = np.full((4, 4), -3.0)
    for r in range(4):
        knows[r, (1 + r) % 4] = -1.0
    assert _hits(ITEM, knows) == (1, 1, 1)
    knows[:, 3] += 2.5  # a liking for D hides the knowledge, taking the prior out shows it again
    mean, every, without_prior = _hits(ITEM, knows)
    assert mean < 1
    assert every == 0
    assert without_prior == 1


def test_nan_is_never_right():
    assert _hits(ITEM, [[None, -1, -1, -1]] * 4) == (0, 0, 0)


def test_rotations_through_score_share_their_prefix(toy_checkpoint, toy_data, tmp_path):
    chosen = Settings(
        [load_task("cmmlu/agronomy", toy_data)], ["lm-eval"], 5, tmp_path, tmp_path / "store.jsonl", rotate=True
    )
    ((_, results),) = run_sweep(str(toy_checkpoint), chosen)
    row = results["lm-eval"]["rotation"]["cmmlu/agronomy"]
    assert row["n"] == 12
    assert row["right_in_all"] <= row["accuracy_over_rotations"]
    lines = [json.loads(line.partition(" ")[2]) for line in (tmp_path / "store.jsonl").read_text().splitlines()]
    plain, rotations = lines
    assert rotations["tokens"] < 2.5 * plain["notes"]["forwarded_tokens"]  # four times the questions
    first = np.array([r[0] for r in rotations["rotations"]])
    assert first == pytest.approx(np.array(plain["logprob"]), abs=1e-4)
