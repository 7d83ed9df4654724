"""The verdict of a study: a gain is shown or not, its rate of false alarms stands with it, and inflation says beside whom."""

import pytest

from steel_eval.study.verdict import pool_verdicts, study_verdicts


def effect(dose, value, p, half=0.1, counted=True):
    return {
        "dose": dose, "items": 40, "effect": value, "p": p, "low": value - half, "high": value + half, "seeds_counted": counted,
    }  # fmt: skip


def clean(runs, low=0.2, high=0.3):
    return {"reported": 0.4, "clean": 0.25, "low": low, "high": high, "runs": runs}


def of_study(doses, scores):
    return study_verdicts({"tasks": {"cmmlu": {"doses": doses, "clean_scores": scores}, "ceval": {"doses": None}}})


def test_the_smallest_p_of_two_doses_is_held_against_half_the_rate():
    shown, weak, fallen = (
        of_study([effect(1, 0.02, 0.4), effect(10, value, p), effect(None, 0.1, 0.001)], [clean(3)])[0]
        for value, p in ((0.3, 0.02), (0.3, 0.03), (-0.3, 0.001))
    )
    assert (shown.seen, shown.false_alarm_rate) == ("yes", 0.05)
    assert shown.finding.startswith("10 copies raise the score on seen items by +30.0 points over unseen ones (p 0.02")
    for other in (weak, fallen):
        assert (other.seen, other.false_alarm_rate) == ("cannot-tell", None)
        assert other.finding.startswith("Its score does not show that the items were seen")
    assert "holds 80 items" in shown.mixture and shown.name == "cmmlu, injected arm"
    assert shown.smallest_detectable == pytest.approx(14.3) and "at 10 copies below 14.3 points" in shown.limits


def test_one_task_without_doses_has_no_verdict_and_one_seed_is_said():
    (only,) = of_study([effect(10, 0.3, 0.001, counted=False)], [clean(0)])
    assert "One seed an arm" in only.finding
    assert only.no_inflation == "against these runs' score on questions they never saw"


def test_inflation_is_the_mean_over_runs_of_what_is_reported_above_clean():
    (found,) = of_study([effect(10, 0.3, 0.001)], [clean(3), clean(3, 0.15, 0.35)])
    assert found.no_inflation == "against a clean run"
    assert [round(v, 6) for v in (found.inflation.value, found.inflation.low, found.inflation.high)] == [
        15.0,
        7.5,
        22.5,
    ]


def of_pool(p, scores):
    gain = {"pairs": 12, "runs": 4, "detectable": 0.15, "low": 0.0, "high": 0.2}
    gains = [{**gain, "dose": 1, "gain": 0.02, "p": 0.4}, {**gain, "dose": 10, "gain": 0.1, "p": p}]
    entry = {"gains": gains, "clean_scores": scores}
    return pool_verdicts({"preset": "x", "presets": {"x": {"cmmlu": entry}}})[0]


def test_a_pool_s_inflation_says_beside_whom():
    shown = of_pool(0.02, [clean(3)])
    assert (shown.seen, shown.no_inflation) == ("yes", "the mean run against a clean run")
    assert of_pool(0.03, [clean(3)]).seen == "cannot-tell"
    assert of_pool(0.02, [clean(0)]).no_inflation == "the mean run against its score on questions it never saw"
    assert of_pool(0.02, []).no_inflation == "too few unseen items for a clean score"
    assert of_pool(0.02, []).inflation is None and shown.smallest_detectable == 15
