"""How well a score tells seen from unseen items: area under the curve, and hits at a bounded rate of false alarms.

`detection_rates` speaks of one model, its items taken as independent. `area` and `hit_rate` speak of a detector over
the seeds of a study: the mean over seeds of what each seed's model shows by itself, since whoever runs the detector has
one model and its own controls. The same items are asked in every seed, and items of a cluster were drawn as one, so S
seeds of Q items are not S x Q observations. The interval adds two variances, as effects.py does. *Items*: clusters are
the unit, an item's contribution is averaged over seeds first (for the area, DeLong's placements summed by cluster:
Obuchowski 1997; for hits, a bootstrap that draws clusters of seen and of unseen items, the same in every seed, and sets
each seed's cut anew, since the cut is an estimate too). *Seeds*: the variance of the seeds' own numbers over their
count. Noise that differs by item and seed is in both, so the interval errs on the wide side. Student's t with
Satterthwaite's degrees of freedom; on the logit scale for the area; for hits Wilson's interval with the effective
number of items, share (1 - share) / variance, which is bounded by clusters x seeds (Korn and Graubard 1998). One seed:
the interval speaks of items alone.

Legend: S seeds, I items, N seen, C unseen, B draws.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.paired import of_seeds, satterthwaite, wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
DRAWS = 500
_Z = 1.959964


@dataclass(frozen=True)
class Rates:
    """`hits`: share of seen items above the score that at most `alarms` of the unseen exceed; 95 % intervals.

    `alarms` is the rate asked for; `false_alarms` the rate that this sample has at that cut.
    """

    auc: float
    auc_low: float
    auc_high: float
    hits: float
    hits_low: float
    hits_high: float
    alarms: float
    false_alarms: float
    seen: int
    unseen: int


@dataclass(frozen=True)
class SeedMean:
    """The mean over seeds of a share or an area, its 95 % interval, and the number of each seed."""

    value: float
    low: float
    high: float
    by_seed: list[float]


def detection_rates(seen_N: Floats, unseen_C: Floats, alarms: float = 0.05) -> Rates | None:
    """Measure a detector whose higher scores mean "seen". None where one side is empty, or too small for the rate.

    AUC with DeLong's variance (DeLong et al. 1988), ties count half; on the logit scale, so the interval stays inside
    0 and 1. The cut is the smallest unseen score that at most a share `alarms` of the unseen exceed; a rate of 1 %
    needs 1,000 unseen items, one of 5 % 20. Items are taken as independent: clusters make the intervals too short.
    """
    seen_N, unseen_C = seen_N[~np.isnan(seen_N)], unseen_C[~np.isnan(unseen_C)]
    if not len(seen_N) or len(unseen_C) < fewest_unseen(alarms):
        return None
    below_N, above_C = share_below(seen_N, unseen_C), 1 - share_below(unseen_C, seen_N)
    auc = float(below_N.mean())
    variance = sum(mean_variance(v, np.arange(len(v))) for v in (below_N, above_C))
    ordered = np.sort(unseen_C)
    cut = ordered[len(ordered) - 1 - math.floor(alarms * len(ordered))]
    hits = int((seen_N > cut).sum())
    low, high = logit_interval(auc, variance, min(len(seen_N), len(unseen_C)))
    return Rates(
        auc, low, high, hits / len(seen_N), *wilson(hits, len(seen_N)), alarms, float((unseen_C > cut).mean()),
        len(seen_N), len(unseen_C),
    )  # fmt: skip


def fewest_unseen(alarms: float) -> int:
    """Return how many unseen items a rate of false alarms needs."""
    return 1000 if alarms < 0.05 else math.ceil(1 / alarms)


def share_below(value_K: Floats, others: Floats) -> Floats:
    """Return for each value the share of the others below it, (K,); equal ones count half."""
    ordered = np.sort(others)
    place_K = np.searchsorted(ordered, value_K, "left") + np.searchsorted(ordered, value_K, "right")
    share_K: Floats = place_K / 2 / len(ordered)
    return share_K


def mean_variance(value_K: Floats, cluster_K: Ints) -> float:
    """Return the variance of a mean whose clusters are independent: sum of squared cluster sums, C / (C - 1)."""
    _, index_K = np.unique(cluster_K, return_inverse=True)
    part = np.bincount(index_K, weights=value_K - value_K.mean())
    if len(part) < 2:
        return 0.25
    return float(part @ part) * len(part) / (len(part) - 1) / len(value_K) ** 2


def logit_interval(auc: float, variance: float, n: int, quantile: float = _Z) -> tuple[float, float]:
    """Return auc +- quantile x deviation on the logit scale, `n` the smaller side's number of items."""
    # at 0 and 1 the estimated variance is 0; half an error among the n items keeps an interval there
    inner = min(max(auc, 0.5 / n), 1 - 0.5 / n)
    half = quantile * math.sqrt(max(variance, (0.5 / n) ** 2)) / (inner * (1 - inner))
    centre = math.log(inner / (1 - inner))
    low, high = (1 / (1 + math.exp(-min(700.0, max(-700.0, centre + s * half)))) for s in (-1, 1))
    return min(low, auc), max(high, auc)


def area(score_SI: Floats, seen_I: Bools, unseen_I: Bools, cluster_I: Ints) -> SeedMean:
    """Return the mean over seeds of the area under the curve; ties count half."""
    below_SN = np.stack([share_below(row_I[seen_I], row_I[unseen_I]) for row_I in score_SI])
    above_SC = np.stack([1 - share_below(row_I[unseen_I], row_I[seen_I]) for row_I in score_SI])
    by_seed = below_SN.mean(1)
    sides = [(below_SN.mean(0), cluster_I[seen_I]), (above_SC.mean(0), cluster_I[unseen_I])]
    variance, quantile = _of_items_and_seeds([(mean_variance(v, c), len(np.unique(c)) - 1) for v, c in sides], by_seed)
    value = float(by_seed.mean())
    fewest = min(len(np.unique(c)) for _, c in sides)
    return SeedMean(value, *logit_interval(value, variance, fewest, quantile), by_seed.tolist())


def stratified_area(score_I: Floats, seen_I: Bools, subject_I: Ints, cluster_I: Ints) -> tuple[float, float, float]:
    """Return the area under the curve with its 95 % interval, items compared inside their subject only.

    Subjects weigh by seen x unseen / (seen + unseen), as in effects.py: what shifts a subject as a whole is no leak.
    An item's placement is taken against the mean over all subjects, so that a single item of its subject still shows
    how placements vary. Raises ValueError where no subject holds both.
    """
    groups = [subject_I == g for g in np.unique(subject_I)]
    groups = [mine_I for mine_I in groups if 0 < (mine_I & seen_I).sum() < mine_I.sum()]
    if not groups:
        raise ValueError("no subject holds both seen and unseen items, so there is no control")
    place_I, share_I = np.zeros(len(score_I)), np.zeros(len(score_I))
    weights = np.array([(m & seen_I).sum() * (m & ~seen_I).sum() / m.sum() for m in groups])
    for mine_I, weight in zip(groups, weights / weights.sum(), strict=True):
        seen, unseen = mine_I & seen_I, mine_I & ~seen_I
        place_I[seen] = share_below(score_I[seen], score_I[unseen])
        place_I[unseen] = 1 - share_below(score_I[unseen], score_I[seen])
        share_I[seen], share_I[unseen] = weight / seen.sum(), weight / unseen.sum()
    value = float(share_I[seen_I] @ place_I[seen_I])
    _, index_I = np.unique(cluster_I, return_inverse=True)
    part_C = np.bincount(index_I, share_I * (place_I - value))
    clusters = [len(np.unique(cluster_I[side & (share_I > 0)])) for side in (seen_I, ~seen_I)]
    fewest = min(clusters)
    variance = float(part_C @ part_C) * sum(clusters) / max(1, sum(clusters) - 2) if fewest > 1 else 0.25
    return value, *logit_interval(value, variance, fewest)


def _of_items_and_seeds(parts: list[tuple[float, int]], by_seed: Floats) -> tuple[float, float]:
    """Return the variance of items (variance, freedom of each part) and seeds together, and its Student's quantile."""
    from scipy.stats import t

    seeds = [of_seeds(by_seed)] if len(by_seed) > 1 else []
    total, freedom = satterthwaite([*((variance, max(1, free)) for variance, free in parts), *seeds])
    return total, float(t.ppf(0.975, freedom))


@dataclass(frozen=True)
class Cuts:
    """The score that at most a share of the unseen exceed: of each seed, and in each draw of unseen clusters."""

    real_S: Floats
    drawn_BS: Floats


def alarm_cuts(unseen_SC: Floats, cluster_C: Ints, rate: float) -> Cuts:
    """Return the cuts at which at most `rate` of the unseen are above."""
    weight_BC = np.concatenate([np.ones((1, len(cluster_C)), np.int64), _drawn_weights(cluster_C, seed=0)])
    order_SC = np.argsort(-unseen_SC, axis=1, kind="stable")
    cuts_BS = np.stack(
        [_cut(row_C[o_C], weight_BC[:, o_C], rate) for row_C, o_C in zip(unseen_SC, order_SC, strict=True)], 1
    )
    return Cuts(cuts_BS[0], cuts_BS[1:])


def _cut(falling_C: Floats, weight_BC: Ints, rate: float) -> Floats:
    """Return for each draw the smallest score that at most `rate` of the weight lies above; scores fall."""
    reached_BC = np.cumsum(weight_BC, axis=1)
    # the first score at which more than the allowed weight lies at or above it: above it alone there is no more
    first_B = (reached_BC > rate * reached_BC[:, -1:] + 1e-9).argmax(axis=1)
    cut_B: Floats = falling_C[first_B]
    return cut_B


def _drawn_weights(cluster_I: Ints, seed: int) -> Ints:
    """Return how often each item stands in each of DRAWS samples of clusters with replacement, (B, I)."""
    clusters, index_I = np.unique(cluster_I, return_inverse=True)
    n = len(clusters)
    weights: Ints = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS)[:, index_I]
    return weights


def hit_rate(seen_SN: Floats, cluster_N: Ints, cuts: Cuts) -> SeedMean:
    """Return the mean over seeds of the share of seen items above the seed's cut."""
    by_seed = (seen_SN > cuts.real_S[:, None]).mean(1)
    weight_BN = _drawn_weights(cluster_N, seed=1).astype(np.float64)
    hits_B = np.mean(
        [((row_N > cuts.drawn_BS[:, s, None]) * weight_BN).sum(1) for s, row_N in enumerate(seen_SN)], axis=0
    ) / weight_BN.sum(1)
    clusters = len(np.unique(cluster_N))
    variance, quantile = _of_items_and_seeds([(float(np.var(hits_B, ddof=1)), clusters - 1)], by_seed)
    value = float(by_seed.mean())
    return SeedMean(value, *share_interval(value, variance, quantile, clusters, seeds=len(seen_SN)), by_seed.tolist())


def share_interval(share: float, variance: float, quantile: float, clusters: int, seeds: int) -> tuple[float, float]:
    """Return Wilson's interval with an effective number of items, at most clusters x seeds.

    Where the sample shows no variance (all hits, or none), that number is the clusters'.
    """
    effective = float(clusters)
    if variance > 0 and 0 < share < 1:
        effective = min(share * (1 - share) / variance, float(clusters * seeds))
    effective = max(1.0, effective * (_Z / quantile) ** 2)
    low, high = wilson(share * effective, effective)
    return min(low, share), max(high, share)
