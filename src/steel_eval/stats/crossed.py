"""A crossed pool of runs: every run draws its own items, and each is the others' reference, item by item.

In place of a clean and an injected arm that share one draw. The score of item i in run r is taken as

    y_ri = run_r + item_i + gain x (r saw i) + noise,

so that a run's level and an item's difficulty cancel, and no run is spent on seeing nothing. The gain is least squares
with both kinds of intercepts. Its test is by exchange of draws: y less its run's and its item's mean does not depend on
who saw what, so inside a run and a subject the labels may change places, and p is exact whatever the noise. The
interval is the jackknife's over runs: a run's items share its weights, and runs are what was drawn anew.

Legend: R runs, I items, B exchanges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.detection import stratified_area
from steel_eval.stats.paired import Difference, difference

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
DRAWS = 4_999
FEWEST = 3  # runs
_ROUNDS = 200


@dataclass(frozen=True)
class PoolGain:
    """What seeing an item so often (`dose`) adds to its score. `pairs`: (run, item) pairs that saw; `p`: one-sided."""

    dose: int
    pairs: int
    runs: int
    gain: Difference
    p: float


def unseen_mean(score_RI: Floats, dose_RI: Ints, without: int | None = None) -> Floats:
    """Return each item's mean score over the runs that did not see it, (I,); NaN where every run did.

    `without`: the run that is to be judged, which is no reference for itself.
    """
    unseen_RI = dose_RI == 0
    if without is not None:
        unseen_RI = unseen_RI.copy()
        unseen_RI[without] = False
    count_I = unseen_RI.sum(0)
    total_I = np.where(unseen_RI, score_RI, 0.0).sum(0)
    mean_I: Floats = np.divide(total_I, count_I, out=np.full(len(count_I), np.nan), where=count_I > 0)
    return mean_I


def pool_gains(score_RI: Floats, dose_RI: Ints, subject_I: Ints, cluster_I: Ints, seed: int = 0) -> list[PoolGain]:
    """Return the gain of each dose above 0, in order: pairs of other doses above 0 are left out.

    `cluster_I`: items that each run draws as one. Raises ValueError for fewer than three runs, and where no run saw
    some items of a dose and not others.
    """
    if len(score_RI) < FEWEST:
        raise ValueError(f"{len(score_RI)} runs; a pool needs {FEWEST} at least")
    rows = []
    for dose in sorted(set(dose_RI.ravel().tolist()) - {0}):
        kept_RI, seen_RI = (dose_RI == dose) | (dose_RI == 0), dose_RI == dose
        value = _gain(score_RI, seen_RI, kept_RI)
        if value is None:
            raise ValueError(f"dose {dose}: no run saw some items and not others")
        runs = np.arange(len(score_RI))
        left = [
            v for r in runs if (v := _gain(score_RI[runs != r], seen_RI[runs != r], kept_RI[runs != r])) is not None
        ]
        n = len(left)
        variance = (n - 1) / n * float(((np.array(left) - np.mean(left)) ** 2).sum())
        p = exchange_test(score_RI, seen_RI, kept_RI, subject_I, cluster_I, seed)
        rows.append(
            PoolGain(dose, int(seen_RI.sum()), int(seen_RI.any(1).sum()), difference(value, variance, n - 1), p)
        )
    return rows


def _gain(score_RI: Floats, seen_RI: Bools, kept_RI: Bools) -> float | None:
    """Return the least-squares gain with an intercept for each run and each item, over the pairs that are kept."""
    label_RI = _residual(seen_RI.astype(np.float64), kept_RI)
    total = float((label_RI**2).sum())
    return float((label_RI * np.where(kept_RI, score_RI, 0.0)).sum()) / total if total > 1e-9 else None


def _residual(value_RI: Floats, kept_RI: Bools) -> Floats:
    """Return what is left of the kept values beside their run's and item's intercepts; 0 for the others."""
    left_RI = np.where(kept_RI, value_RI, 0.0)
    counts = [np.maximum(1, kept_RI.sum(axis, keepdims=True)) for axis in (0, 1)]
    for _ in range(_ROUNDS):  # alternating projections; with no pair left out the first is exact
        before = float((left_RI**2).sum())
        for axis, count in zip((0, 1), counts, strict=True):
            left_RI = np.where(kept_RI, left_RI - left_RI.sum(axis, keepdims=True) / count, 0.0)
        if before - float((left_RI**2).sum()) <= 1e-12 * max(1.0, before):
            break
    return left_RI


def exchange_test(
    score_RI: Floats, seen_RI: Bools, kept_RI: Bools, subject_I: Ints, cluster_I: Ints, seed: int = 0
) -> float:
    """Return the one-sided p-value of "who saw what are mere labels" against "seen items score higher".

    Labels change places among the clusters of one size, subject and run, as a draw could have made it. Valid whatever
    was learnt from all pairs together, since that does not depend on the labels.
    """
    return _exchanged(_Labelled(_residual(score_RI, kept_RI), seen_RI, kept_RI), subject_I, cluster_I, DRAWS, seed)


def run_test(
    gain_I: Floats, tested_I: Bools, subject_I: Ints, cluster_I: Ints, draws: int | None = None, seed: int = 0
) -> float:
    """Return the one-sided p-value of "which items are tested are mere labels" of one run against "they gained more".

    `gain_I`: its change against the mean of runs that did not see the item; NaN where there is none, which is left out.
    Exact by exchange as above. `draws`: None: DRAWS; any number is exact, few find less.
    """
    kept_I = ~np.isnan(gain_I)
    value_I = np.where(kept_I, gain_I - gain_I[kept_I].mean() if kept_I.any() else 0.0, 0.0)
    return _exchanged(
        _Labelled(value_I[None], tested_I[None], kept_I[None]), subject_I, cluster_I, draws or DRAWS, seed
    )


@dataclass(frozen=True)
class _Labelled:
    """What is exchanged, (R, I) each: values, who saw, and which pairs take part."""

    value_RI: Floats
    seen_RI: Bools
    kept_RI: Bools


def _exchanged(its: _Labelled, subject_I: Ints, cluster_I: Ints, draws: int, seed: int) -> float:
    """Return the share of exchanges that give as much as the real labels."""
    generator = np.random.default_rng(seed)
    real, drawn_B = 0.0, np.zeros(draws)
    for value_I, seen_I, kept_I in zip(its.value_RI, its.seen_RI, its.kept_RI, strict=True):
        for group_KI in _exchangeable(subject_I, cluster_I, kept_I):
            part_K, label_K = value_I[group_KI].sum(1), seen_I[group_KI[:, 0]].astype(np.float64)
            real += float(label_K @ part_K)
            if 0 < label_K.sum() < len(label_K):
                drawn_B += generator.permuted(np.tile(label_K, (draws, 1)), axis=1) @ part_K
            else:
                drawn_B += float(label_K @ part_K)
    return float(1 + (drawn_B >= real - 1e-9 * max(1.0, abs(real))).sum()) / (1 + draws)


def _exchangeable(subject_I: Ints, cluster_I: Ints, kept_I: Bools) -> Sequence[Ints]:
    """Return for each subject and size of clusters the items of its clusters, (clusters, size)."""
    places: dict[int, list[int]] = {}
    for i in np.flatnonzero(kept_I).tolist():
        places.setdefault(int(cluster_I[i]), []).append(i)
    groups: dict[tuple[int, int], list[list[int]]] = {}
    for members in places.values():
        groups.setdefault((int(subject_I[members[0]]), len(members)), []).append(members)
    return [np.array(members) for members in groups.values()]


@dataclass(frozen=True)
class PoolArea:
    """How well a score tells a run's seen from its unseen items: area under the curve with its 95 % interval."""

    auc: float
    low: float
    high: float
    pairs: int
    runs: int
    by_run: tuple[float, ...] = ()


def pool_area(change_RI: Floats, dose_RI: Ints, dose: int, subject_I: Ints, cluster_I: Ints) -> PoolArea | None:
    """Return the area over all runs, items compared inside their run and subject only; None where no run has both.

    The interval is the wider of two: of items drawn anew (clusters over all runs), and, from three runs up, of runs.
    """
    runs = len(change_RI)
    kept_RI = ((dose_RI == dose) | (dose_RI == 0)) & ~np.isnan(change_RI)
    stratum_RI = subject_I + (int(subject_I.max()) + 1) * np.arange(runs)[:, None]
    seen_RI, cluster_RI = dose_RI == dose, np.broadcast_to(cluster_I, dose_RI.shape)
    columns = (change_RI, seen_RI, stratum_RI, cluster_RI)
    by_run = []
    for r in range(runs):
        try:
            area = stratified_area(*(column[r][kept_RI[r]] for column in columns))[0]
        except ValueError:
            continue
        by_run.append((area, float((seen_RI & kept_RI)[r].sum())))
    if not by_run:
        return None
    auc, low, high = stratified_area(*(column[kept_RI] for column in columns))
    area_R, count_R = (np.array(column) for column in zip(*by_run, strict=True))
    variance, quantile = spread_over_runs(area_R, count_R, float(area_R @ count_R / count_R.sum()))
    half = quantile * variance**0.5
    low, high = min(low, max(0.0, auc - half)), max(high, min(1.0, auc + half))
    return PoolArea(auc, low, high, int(count_R.sum()), len(by_run), tuple(area_R.tolist()))


def spread_over_runs(value_R: Floats, count_R: Floats, mean: float) -> tuple[float, float]:
    """Return the variance over runs of a mean that weighs them by `count_R`, and its Student's quantile.

    0 and the normal one with fewer than three runs.
    """
    from scipy.stats import t

    if len(value_R) < FEWEST:
        return 0.0, float(t.ppf(0.975, np.inf))
    share_R = count_R / count_R.sum()
    effective = 1 / float(share_R @ share_R)
    variance = float(share_R @ (value_R - mean) ** 2) / max(1e-9, effective - 1)
    return variance, float(t.ppf(0.975, len(value_R) - 1))
