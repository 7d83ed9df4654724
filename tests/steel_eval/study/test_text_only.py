"""Text alone cannot tell what was drawn at random, and tells what was not: another wording, the answer's letter."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.steel_eval.lab import words

from steel_data.benchmarks.items import Item
from steel_eval.study.text_only import cross_validated, exchanged, text_only


def made(n, copies=1):
    """`n` items in four subjects of their own vocabulary, each `copies` times (a cluster)."""
    rng = random.Random(0)
    items = []
    for k in range(n):
        subject = f"s{k % 4}"
        question = f"关于{subject}，" + words(rng, 12)
        item = Item(
            "", subject, "test", k, question, tuple(words(rng, 4) for _ in "ABCD"), rng.choice("ABCD"), "", Path("a")
        )
        items += [replace(item, item=f"test/{subject}/{k:05d}-{c}") for c in range(copies)]
    return items


def drawn(n, seed, copies=1):
    """Half of each subject (every fourth item) at dose 3."""
    dose, rng = np.zeros(n, int), np.random.default_rng(seed)
    for subject in range(4):
        mine = np.arange(subject, n, 4)
        dose[rng.permutation(mine)[: len(mine) // 2]] = 3
    return np.repeat(dose, copies)


def test_randomised_doses_cannot_be_told():
    items = made(80)
    found = [text_only(items, drawn(80, seed), draws=9) for seed in range(4)]
    assert abs(np.mean([f.auc for f in found]) - 0.5) < 0.08
    assert sum(f.low <= 0.5 <= f.high for f in found) >= 3
    assert all(f.p > 0.1 for f in found)
    assert np.mean([f.null for f in found]) < 0.49  # the bias that is taken out


@pytest.mark.parametrize("cue", ["wording", "answer"])
def test_a_planted_cue_is_found(cue):
    items, dose = made(80), drawn(80, 1)
    if cue == "wording":
        items = [replace(i, question=f"请问{i.question}") if d else i for i, d in zip(items, dose, strict=True)]
    else:
        items = [replace(i, answer="A" if d else "B") for i, d in zip(items, dose, strict=True)]
    found = text_only(items, dose, draws=19)
    assert found.auc > 0.85 and found.low > 0.75 and found.p == 0.05
    assert found.auc == found.raw  # strong: nothing is taken out


def test_equal_items_stay_in_one_fold():
    """Each item four times: whoever sees a copy in training knows the answer, so copies may not be parted."""
    found = text_only(made(40, copies=4), drawn(40, 2, copies=4), draws=5)
    assert found.raw < 0.7
    features = np.eye(40).repeat(4, axis=0)
    seen, cluster = drawn(40, 3, 4) > 0, np.arange(40).repeat(4)
    whole = cross_validated(features, seen, cluster, np.random.default_rng(0))
    parted = cross_validated(features, seen, np.arange(160), np.random.default_rng(0))
    assert whole.mean() < 0.6 and parted[seen].mean() > 0.95


def test_exchanges_are_draws_that_could_have_been():
    rng = np.random.default_rng(0)
    subject = np.repeat([0, 1], 30)
    cluster = np.r_[np.arange(10).repeat(2), np.arange(10, 20), np.arange(20, 50)]
    seen = np.r_[(np.arange(10) < 4).repeat(2), np.arange(10) < 3, np.arange(30) < 20]
    other = exchanged(seen, subject, cluster, rng)
    assert (other != seen).any()
    assert other[:20].sum() == 8 and other[20:30].sum() == 3 and other[30:].sum() == 20
    assert (other[0:20:2] == other[1:20:2]).all()


def test_too_few_items_are_refused():
    with pytest.raises(ValueError, match="too few"):
        text_only(made(19), drawn(19, 0))
