"""What a trial shows: every arm against both random draws, seeds and rows varying together, Holm over all tests.

Legend: S seeds of an arm, Q held-out rows or questions of all measures.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_eval.mix.measure import ArmResult
from steel_eval.mix.settings import SearchMeasure
from steel_eval.stats.paired import Difference, holm, question_weights, seeds_and_questions, seeds_variance
from steel_eval.trial.settings import BALANCED, OWN, TrialSettings

Floats = NDArray[np.float64]
ALPHA, POWER = 0.05, 0.8


def smallest_seen(random_SQ: Floats, which_Q: NDArray[np.int64], tests: int) -> float:
    """Return the difference that the strictest of so many tests finds in 80 % of trials, as the seeds of one arm vary.

    A lower bound: that rows and questions answer to a selection unlike one another comes on top.
    """
    from scipy.stats import t

    weight_Q = question_weights(which_Q, macro=True)
    variance = 2 * seeds_variance(random_SQ, weight_Q)[0]
    freedom = 2 * (len(random_SQ) - 1)
    return float((t.ppf(1 - ALPHA / 2 / tests, freedom) + t.ppf(POWER, freedom)) * math.sqrt(variance))


def gains(runs: Sequence[ArmResult], measure: SearchMeasure) -> tuple[Floats, NDArray[np.int64]]:
    """Return (S, Q) values of which more is better, and the measure of each column."""
    rows = [np.concatenate([-measure.sign * run.items[name] for name in measure.names]) for run in runs]
    sizes = [len(runs[0].items[name]) for name in measure.names]
    return np.array(rows), np.repeat(np.arange(len(sizes)), sizes)


def compared(found: Mapping[str, Sequence[ArmResult]], settings: TrialSettings) -> list[dict[str, Any]]:
    """Return a test of each arm against each control: both random draws (and of these two), or the recipe's own data.

    `value`: mean gain over the control, positive is better; 95 % interval; `p`, and `holm`: p of all tests together.
    """
    whole = {name: [run for run in runs if not run.failed] for name, runs in found.items()}
    whole = {name: runs for name, runs in whole.items() if len(runs) > 1}
    tests = []
    for name, control in settings.pairs:
        if name not in whole or control not in whole:
            continue
        (a_SQ, which_Q), (b_SQ, _) = (gains(whole[side], settings.measure) for side in (control, name))
        tests.append((name, control, seeds_and_questions(a_SQ, b_SQ, which_Q, macro=True)))
    adjusted = holm([d.p for _, _, d in tests]) if tests else []
    return [_test(name, control, d, p) for (name, control, d), p in zip(tests, adjusted, strict=True)]


def _test(name: str, control: str, d: Difference, adjusted: float) -> dict[str, Any]:
    verdict = "not shown" if adjusted >= ALPHA else "better" if d.value > 0 else "worse"
    return {
        "arm": name, "control": control, "value": d.value, "low": d.low, "high": d.high, "p": d.p, "holm": adjusted,
        "detectable": d.detectable, "verdict": verdict,
    }  # fmt: skip


def sentences(trial: dict[str, Any]) -> list[str]:
    """Return verdict and findings, the verdict first."""
    tests = trial["tests"]
    recipes = OWN in trial["arms"]
    best = [n for n in trial["arms"] if _both(tests, n, "better")]
    if not tests:
        first = "Verdict: nothing to compare: too few of the runs have values."
    elif best and recipes:
        first = f"Verdict: {', '.join(best)}: better than the recipe's own data."
    elif best:
        first = f"Verdict: {', '.join(best)}: better than both random draws."
    elif recipes:
        first = "Verdict: no recipe is shown to be better than the recipe's own data."
    else:
        first = "Verdict: no selection is shown to be better than both random draws."
    out = [first, trial["power"]["words"]]
    worse = [n for n in trial["arms"] if _both(tests, n, "worse")]
    if worse and recipes:
        out.append(f"Worse than the recipe's own data: {', '.join(worse)}.")
    elif worse:
        out.append(f"Worse than both random draws: {', '.join(worse)}.")
    out += [f"Failed: {name}, seed {seed}: {why}" for name, seed, why in trial["failed"]]
    return out


def _both(tests: Sequence[dict[str, Any]], name: str, verdict: str) -> bool:
    mine = [test["verdict"] for test in tests if test["arm"] == name and name != BALANCED]
    controls = {test["control"] for test in tests}
    return len(mine) == len(controls) and set(mine) == {verdict}
