"""One worked verdict of each kind, by the words of `leak` itself, from fitted runs chosen by their design alone.

(apart: what is here is read on the first screen of docs/contamination.md, and no table is made from it)
"""

from collections.abc import Iterator

import numpy as np
from bench.truth_pool.results import TEXT, Done, Pool
from scipy.stats import norm

from steel_eval.leak.verdict import Evidence, right_answers, verdict
from steel_eval.stats.aggregate import set_test
from steel_eval.stats.crossed import pool_area
from steel_eval.stats.effects import Items


def verdicts(pool: Pool) -> Iterator[str]:
    """Yield, of the first run with items of one exposure and of the first clean one, what was asked and the verdict.

    Tested are the items that were seen once, or a random half of all; controls are what the run never saw; both against
    the clean runs, as in `leak --reference-runs`.
    """
    once = next((r for r in pool.fitted if (r.dose_I == 1).any()), None)
    if once is not None:
        yield from _verdict(pool, once, once.dose_I == 1, "items seen once")
    if len(pool.clean) > 1:
        half_I = np.random.default_rng(0).random(len(pool.subject_I)) < 0.5
        yield from _verdict(pool, pool.clean[0], half_I, "a clean run, half of the items at random")


def _verdict(pool: Pool, run: Done, tested_I: np.ndarray, words: str) -> Iterator[str]:
    kept_I = tested_I | (run.dose_I == 0)
    items = Items(tested_I.astype(np.int64), pool.subject_I, np.arange(len(tested_I))).only(kept_I)
    test = set_test(pool.changes(run, "4 clean runs")[kept_I], items)
    before_I = np.mean([r.right_I for r in pool.clean if r.plan != run.plan], axis=0)
    found = Evidence(
        task="cmmlu", of=len(tested_I), held=None, tested=int(items.dose.sum()), controls=int((items.dose == 0).sum()),
        controls_are="items that the run never saw", like=True, test=test, share=float(items.dose.mean()),
        inflation=right_answers(before_I[kept_I], run.right_I[kept_I], items), strength=_strength(pool),
    )  # fmt: skip
    yield f"{pool.model}, loss {pool.loss}: {words} ({run.plan.name})"
    yield from (f"  {line}" for line in verdict(found).lines())


def _strength(pool: Pool) -> float:
    """Return the standard deviations that one exposure is worth to the best detector of the fitted runs, from its AUC."""
    some = [r for r in pool.fitted if (r.dose_I == 1).any()]
    dose_RI = np.stack([r.dose_I for r in some])
    areas = []
    for name in TEXT:
        change_RI = np.stack([pool.change(r, name, "4 clean runs") for r in some])
        found = pool_area(change_RI, dose_RI, 1, pool.subject_I, np.arange(dose_RI.shape[1]))
        areas.append(0.5 if found is None else found.auc)
    return float(max(0.05, 2**0.5 * norm.ppf(min(max(areas), 0.999))))
