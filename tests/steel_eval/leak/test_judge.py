"""Findings from scores: a subject that moved as a whole is no leak, items that were seen stand out of their own."""

import numpy as np

from steel_eval.leak.judge import COMBINED, judge, levelled
from steel_eval.leak.measure import MEASURES, Measured
from steel_eval.stats.effects import Items


def measured(score_I):
    nothing = np.zeros(len(score_I))
    scores = {m.name: score_I.copy() for m in MEASURES[:3]} | {m.name: nothing * np.nan for m in MEASURES[3:]}
    return Measured(scores, nothing, nothing.astype(int), nothing.astype(int), np.full((len(score_I), 24), np.nan))


def world(rng, *, gain=0.0, shift=0.0):
    """Four subjects of 60; the first moved by `shift` and is tested nine of ten, the others one of two."""
    subject = np.repeat(np.arange(4), 60)
    tested = np.concatenate([rng.permutation(60) < (54 if g == 0 else 30) for g in range(4)])
    after = rng.normal(size=240) + shift * (subject == 0) + gain * tested
    return measured(after), measured(np.zeros(240)), Items(tested * 1, subject, np.arange(240))


def test_a_shifted_subject_alone_accuses_nobody():
    """Pooled controls gave an AUC of .77 with an interval above .5, and items flagged in 78 % of such cases."""
    rng = np.random.default_rng(0)
    flags, above = 0, 0
    for _ in range(20):
        findings, _, test = judge(*world(rng, shift=2.0))
        flags += findings[0].flags > 0
        above += findings[0].rates.auc_low > 0.5
        assert abs(findings[0].rates.auc - 0.5) < 0.2 and test.p > 0.001
    assert flags <= 3 and above <= 3


def test_seen_items_stand_out_of_their_own_subject():
    findings, p_values, test = judge(*world(np.random.default_rng(1), gain=3.0, shift=2.0))
    assert len(findings) == 3 and findings[0].rates.auc > 0.9 and findings[0].flags > 50
    assert test.p < 0.01 and test.excess.low > 1
    p_I = p_values[COMBINED]
    assert np.isnan(p_I).sum() == 96 and np.nanmedian(p_I) < 0.05


def test_what_training_taught_of_a_form_is_no_leak():
    """Of two forms one became likelier as a whole: among unseen items of each form the change is then the same."""
    rng = np.random.default_rng(2)
    model, base, items = world(rng)
    forms = tuple(np.where(rng.random(240) < 0.3, "text", "chat").tolist())
    text_I, unseen_I = np.array(forms) == "text", items.dose == 0
    for scores in model.scores.values():
        scores[text_I] += 5
    moved = levelled(model, base, unseen_I, forms)
    name = MEASURES[0].name
    gain = model.scores[name] - moved.scores[name]
    assert abs(gain[unseen_I & text_I].mean() - gain[unseen_I & ~text_I].mean()) < 1e-9
    assert abs(gain[unseen_I].mean() - (model.scores[name] - base.scores[name])[unseen_I].mean()) < 1e-9
    assert np.isnan(moved.scores[MEASURES[3].name]).all() and levelled(model, base, unseen_I, "text") is base
