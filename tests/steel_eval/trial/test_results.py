"""A selection is better only where it beats both random draws, after Holm; nulls stay nulls."""

from pathlib import Path

import numpy as np
import pytest

from steel_eval.arms import Job, RunArm
from steel_eval.mix.measure import ArmResult
from steel_eval.trial.page import write_page
from steel_eval.trial.results import compared, sentences, smallest_seen
from steel_eval.trial.settings import TrialSettings

SETTINGS = TrialSettings.model_validate(
    {"arms": {"long": {"by": "longest"}}, "tokens": 10, "measure": {"held_out": ["chat"]}}
)


def runs(name: str, loss: float, spread: float = 0.01, failed: str = "") -> list[ArmResult]:
    out = []
    for seed in (1, 2, 3):
        rng = np.random.default_rng([seed, len(name)])
        items = np.random.default_rng(0).standard_normal(80) + loss + spread * rng.standard_normal()
        items += 0.05 * rng.standard_normal(80)
        job = Job(RunArm(name, Path("r"), Path("r")), seed)
        out.append(ArmResult(job, {} if failed else {"chat": items.mean()}, {"chat": items}, {}, failed))
    return out


def found(long: float, **changes):
    return {
        "random": runs("random", 2.0),
        "balanced-random": runs("balanced-random", 2.0),
        "long": runs("long", long, **changes),
    }


def page(tests, failed=()):
    arms = {
        n: {
            "select": {"by": "random", "within": "a b"},
            "selected": 1,
            "per_step": 1,
            "steps": 1,
            "tokens": 1,
            "values": {"chat": [1.0]},
        }
        for n in ("random", "balanced-random", "long")
    }
    return {
        "name": "r<b>", "tests": tests, "arms": arms, "failed": list(failed), "notes": [], "measure": ["chat"],
        "unit": "loss", "power": {"words": "differences under 0.1 will mostly not be seen"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "verdict", "said"),
    [
        (1.5, "better", "long: better than both random draws"),
        (2.5, "worse", "no selection is shown to be better"),
        (2.0, "not shown", "no selection is shown to be better"),
    ],
)
def test_verdicts(loss: float, verdict: str, said: str) -> None:
    tests = compared(found(loss), SETTINGS)
    assert [(t["arm"], t["control"]) for t in tests] == [
        ("balanced-random", "random"), ("long", "random"), ("long", "balanced-random"),
    ]  # fmt: skip
    assert {t["verdict"] for t in tests if t["arm"] == "long"} == {verdict}
    assert all(t["holm"] >= t["p"] for t in tests)
    whole = page(tests)
    assert said in sentences(whole)[0]
    html = write_page(whole)
    assert "r&lt;b&gt;" in html
    assert "by = &#34;random&#34;, within = &#34;a b&#34;" in html  # as in a recipe
    assert verdict in html


def test_an_arm_that_fails_leaves_the_others() -> None:
    tests = compared(found(1.5, failed="no room"), SETTINGS)
    assert [(t["arm"], t["control"]) for t in tests] == [("balanced-random", "random")]
    assert "long, seed 2: no room" in "\n".join(sentences(page(tests, [["long", 2, "no room"]])))


def test_what_cannot_be_seen_grows_with_the_spread_of_seeds_and_the_tests() -> None:
    quiet, loud = (np.array([r.items["chat"] for r in runs("random", 2.0, spread)]) for spread in (0.01, 0.3))
    which = np.zeros(80, np.int64)
    assert smallest_seen(quiet, which, 5) < smallest_seen(loud, which, 5)
    assert smallest_seen(loud, which, 1) < smallest_seen(loud, which, 9)


def test_recipes_have_one_control() -> None:
    settings = TrialSettings.model_validate(
        {"recipes": {"few": {}, "many": {}}, "tokens": 10, "measure": {"held_out": ["chat"]}}
    )
    arms = {"own": runs("own", 2.0), "few": runs("few", 2.5), "many": runs("many", 1.5)}
    tests = compared(arms, settings)
    assert [(t["arm"], t["control"], t["verdict"]) for t in tests] == [
        ("few", "own", "worse"), ("many", "own", "better"),
    ]  # fmt: skip
    said = sentences({**page(tests), "arms": dict.fromkeys(arms)})
    assert said[0] == "Verdict: many: better than the recipe's own data."
    assert "Worse than the recipe's own data: few." in said
