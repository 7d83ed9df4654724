"""The clean score without the mixture: which items a run saw is inferred from its scores alone, or the answer is refused.

One score an item: the detectors' changes against the pool, weighed by what told seen from unseen in the fitted runs, in
standard deviations of the unseen. Its shape under the null is the fitted runs' unseen items; a share of the run's items is
taken to stand in a second, normal shape, by maximum likelihood. Where that second shape lies less than STRENGTH above the
null, or is not needed (likelihood ratio below what the fitted clean runs' worst is), the estimate is refused: nothing is
then known of which items were seen. What is answered is this run's own score on what it did not see, and it is held against
what the mixture says of that; what a *clean run* would score needs no mixture where clean runs are known: they tell it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from bench.truth_pool.results import Done, Floats, Pool
from scipy.stats import norm

from steel_eval.stats.clean import clean_score
from steel_eval.stats.effects import Items
from steel_eval.stats.paired import wilson

STRENGTH = 2.0  # standard deviations of the unseen
RIDGE = 0.1


def blind_scores(pool: Pool, judged: Sequence[Done]) -> Iterator[dict[str, Any]]:
    """Yield for each strength of leak: how many were refused, how far share and own score are off."""
    weights, centre, spread = learn(pool)
    quiet = [_mixture(_score(pool, run, weights, centre, spread)[run.inside_I])[3] for run in pool.clean]
    least = max([2.7, *quiet])  # 2.7: half the 98 % quantile of chi-squared with one degree of freedom
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in judged:
        score_I = _score(pool, run, weights, centre, spread)[run.inside_I]
        share, shift, seen_I, ratio = _mixture(score_I)
        refused = ratio <= least or shift < STRENGTH
        seen = (run.dose_I > 0)[run.inside_I]
        row: dict[str, Any] = {
            "refused": refused,
            "share_off": share - seen.mean(),
            "held": [],
            "half": np.nan,
            "off": [],
        }
        if not refused:
            clean, row["half"] = _clean(run.right_I[run.inside_I], seen_I)
            items = Items(run.dose_I, pool.subject_I, np.arange(len(run.dose_I))).only(run.inside_I)
            row["off"] = [clean - clean_score(run.right_I[run.inside_I], items).clean]
            row["held"] = [abs(row["off"][0]) <= row["half"]]
        groups.setdefault("/".join(map(str, run.plan.doses)) or "clean", []).append(row)
    for doses, rows in sorted(groups.items()):
        said = [r for r in rows if not r["refused"]]
        held = [h for r in said for h in r["held"]]
        off = [o for r in said for o in r["off"]]
        n = max(1, len(said))
        low, high = wilson(float(np.mean(held)) * n, n) if held else (0.0, 1.0)
        yield {
            "model": pool.model, "loss": pool.loss, "exposures": doses, "runs": len(rows), "refused": len(rows) - len(said),
            "share_off_points": 100 * float(np.mean([r["share_off"] for r in said])) if said else None,
            "half_points": 100 * float(np.median([r["half"] for r in said])) if off else None,
            "bias_points": 100 * float(np.mean(off)) if off else None, "coverage": float(np.mean(held)) if held else None,
            "low": low, "high": high, "pairs": len(held),
        }  # fmt: skip


def learn(pool: Pool) -> tuple[Floats, Floats, Floats]:
    """Return weights of the detectors (none negative), and mean and deviation of their changes on unseen items."""
    rows = [(_centred(pool.changes(r, "pool"), pool.key_I), r.dose_I) for r in pool.fitted]
    unseen, seen = (np.concatenate([x[(d > 0) == which] for x, d in rows]) for which in (False, True))
    centre, spread = np.nanmean(unseen, 0), np.maximum(np.nanstd(unseen, 0), 1e-9)
    standard = np.nan_to_num((unseen - centre) / spread)
    inner = standard.T @ standard / len(standard) + RIDGE * np.eye(standard.shape[1])
    weights = np.maximum(0.0, np.linalg.solve(inner, np.nan_to_num((seen - centre) / spread).mean(0)))
    score = standard @ weights
    return weights / max(1e-9, float(score.std())), centre, spread


def _centred(value_IF: Floats, key_I: Any) -> Floats:
    """Return values less the run's own median of items with the same right letter, of which few were seen.

    A run's level is no leak, and neither is its favourite letter, which makes two shapes of the answers' scores.
    """
    out = value_IF.copy()
    for key in np.unique(key_I):
        out[key_I == key] -= np.nanmedian(value_IF[key_I == key], 0)
    return out


def _score(pool: Pool, run: Done, weights: Floats, centre: Floats, spread: Floats) -> Floats:
    value_IF = _centred(pool.changes(run, "pool"), pool.key_I)
    out: Floats = np.nan_to_num((value_IF - centre) / spread) @ weights
    return out


def _mixture(score_I: Floats) -> tuple[float, float, Floats, float]:
    """Return share, shift, each item's chance of having been seen, and the likelihood ratio (log) over no mixture."""
    centre = float(np.median(score_I))
    below = score_I[score_I <= centre] - centre  # the lower half knows the null's width, whoever was seen
    width = max(1e-9, float(np.sqrt((below**2).mean())))
    null_I = norm.pdf(score_I, centre, width)
    best = (0.0, 0.0, np.zeros(len(score_I)), 0.0)
    for start in (1.5, 3.0, 6.0):
        share, shift, spread = 0.1, start * width, 1.5 * width
        for _ in range(200):
            seen_I = share * norm.pdf(score_I, centre + shift, spread)
            chance_I = seen_I / (seen_I + (1 - share) * null_I + 1e-300)
            total = float(chance_I.sum())
            if total < 1.0:
                break
            share = min(0.6, total / len(score_I))
            shift = max(0.0, float(chance_I @ (score_I - centre)) / total)
            spread = max(width, float(np.sqrt(chance_I @ (score_I - centre - shift) ** 2 / total)))
        mixed_I = share * norm.pdf(score_I, centre + shift, spread) + (1 - share) * null_I
        ratio = float(np.log((mixed_I + 1e-300) / (null_I + 1e-300)).sum())
        if ratio > best[3]:
            best = (share, shift / width, chance_I, ratio)
    return best


def _clean(right_I: Floats, seen_I: Floats) -> tuple[float, float]:
    """Return this run's score on what it did not see, each item counted by its chance of that, and half its interval.

    The interval holds that unseen items are a sample of all, and that nobody knows of each whether it was seen.
    """
    weight_I = 1 - seen_I
    mean = float(weight_I @ right_I / weight_I.sum())
    left_I = (right_I - mean) ** 2
    of_items = float(weight_I**2 @ left_I) * float(seen_I.mean())
    of_guesses = float((seen_I * weight_I) @ left_I)
    return mean, 1.959964 * float(np.sqrt(of_items + of_guesses)) / float(weight_I.sum())
