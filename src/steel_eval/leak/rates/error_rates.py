"""How well a detector tells seen from unseen items, over the seeds of a study: area under the curve, and hits at a
bounded share of false alarms.

One number for a detector is the mean over seeds of what each seed's model shows by itself: scores of different models
are never mixed, since whoever runs the detector has one model and its own controls. The same items are asked in every
seed, and items of a cluster were drawn as one, so S seeds of Q items are not S x Q observations. The interval adds
two variances, as steel_eval.stats.effects does. *Items*: clusters are the unit, an item's contribution is averaged over
seeds first (for the area, DeLong's placements summed by cluster: Obuchowski 1997; for hits, a bootstrap that draws
clusters of seen and of unseen items, the same in every seed, and sets each seed's cut anew, since the cut is an
estimate too). *Seeds*: the variance of the seeds' own numbers over their count. Noise that differs by item and seed
is in both, so the interval errs on the wide side. Student's t with Satterthwaite's degrees of freedom; on the logit
scale for the area; for hits Wilson's interval with the effective number of items, share (1 - share) / variance, which
is bounded by clusters x seeds (Korn and Graubard 1998). One seed: the interval speaks of items alone, and `seeds`
says so.

Legend: S seeds, I items, N seen, C unseen, B draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.detection import logit_interval
from steel_eval.stats.paired import wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DRAWS = 500
ALARMS = {"5": (0.05, 20), "1": (0.01, 1000)}  # per cent -> the rate, and how many unseen items it needs
_Z = 1.959964


@dataclass(frozen=True)
class Scores:
    """One detector: `gain_SI` change from reference to model, higher means seen; `dose_I` 0 for unseen; `form_I`
    (strings) how a seen item was injected. `alone_SI`: the model's score without its reference.
    """

    detector: str
    gain_SI: Floats
    alone_SI: Floats
    dose_I: Ints
    form_I: NDArray[np.str_]
    cluster_I: Ints

    def known(self) -> "Scores":
        """Return the items that have the score in every seed."""
        kept_I = ~np.isnan(self.gain_SI).any(0)
        return Scores(
            self.detector, self.gain_SI[:, kept_I], self.alone_SI[:, kept_I], self.dose_I[kept_I],
            self.form_I[kept_I], self.cluster_I[kept_I],
        )  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A share with its 95 % interval, and the number of each seed."""

    value: float
    low: float
    high: float
    by_seed: list[float]


@dataclass(frozen=True)
class ErrorRates:
    """One detector at one dose and form ("all": all forms). `auc_alone`: without a reference, from the model's score.

    `hits_5`: share of seen items above the score that at most 5 % of the unseen exceed, None below 20 unseen items;
    `hits_1` at 1 %, None below 1,000.
    """

    detector: str
    dose: int
    form: str
    seen: int
    unseen: int
    seeds: int
    auc: Estimate
    auc_alone: float
    hits_5: Estimate | None
    hits_1: Estimate | None


def error_rates(scores: Scores) -> list[ErrorRates]:
    """Return a row for each dose above 0, with form "all" and then each form. No rows without unseen or seen items."""
    s = scores.known()
    unseen_I = s.dose_I == 0
    if not unseen_I.any():
        return []
    cuts = {name: _Cuts.of(s.gain_SI[:, unseen_I], s.cluster_I[unseen_I], rate)
            for name, (rate, need) in ALARMS.items() if unseen_I.sum() >= need}  # fmt: skip
    rows = []
    for dose in sorted(set(s.dose_I.tolist()) - {0}):
        of_dose_I = s.dose_I == dose
        for form in ["all", *sorted(set(s.form_I[of_dose_I].tolist()))]:
            seen_I = of_dose_I if form == "all" else of_dose_I & (s.form_I == form)
            hits = {name: hit_rate(s.gain_SI[:, seen_I], s.cluster_I[seen_I], c) for name, c in cuts.items()}
            rows.append(
                ErrorRates(
                    detector=s.detector, dose=dose, form=form, seen=int(seen_I.sum()), unseen=int(unseen_I.sum()),
                    seeds=len(s.gain_SI), auc=area(s.gain_SI, seen_I, unseen_I, s.cluster_I),
                    auc_alone=area(s.alone_SI, seen_I, unseen_I, s.cluster_I).value,
                    hits_5=hits.get("5"), hits_1=hits.get("1"),
                )
            )  # fmt: skip
    return rows


def area(score_SI: Floats, seen_I: NDArray[np.bool_], unseen_I: NDArray[np.bool_], cluster_I: Ints) -> Estimate:
    """Return the mean over seeds of the area under the curve; ties count half."""
    places = [_placements(row_I[seen_I], row_I[unseen_I]) for row_I in score_SI]
    below_SN, above_SC = (np.stack([p[k] for p in places]) for k in (0, 1))
    by_seed = below_SN.mean(1)
    sides = [(below_SN.mean(0), cluster_I[seen_I]), (above_SC.mean(0), cluster_I[unseen_I])]
    parts = [(mean_variance(v, c), max(1, len(np.unique(c)) - 1)) for v, c in sides]
    variance, quantile = _total(parts, by_seed)
    value = float(by_seed.mean())
    fewest = min(len(np.unique(c)) for _, c in sides)
    return Estimate(value, *logit_interval(value, variance, fewest, quantile), by_seed.tolist())


def _placements(seen_N: Floats, unseen_C: Floats) -> tuple[Floats, Floats]:
    """Return for each seen item the share of unseen below it, and for each unseen item the share of seen above it."""

    def below(value_K: Floats, others: Floats) -> Floats:
        ordered = np.sort(others)
        place_K = np.searchsorted(ordered, value_K, "left") + np.searchsorted(ordered, value_K, "right")
        share_K: Floats = place_K / 2 / len(ordered)
        return share_K

    return below(seen_N, unseen_C), 1 - below(unseen_C, seen_N)


def mean_variance(value_K: Floats, cluster_K: Ints) -> float:
    """Return the variance of a mean whose clusters are independent: sum of squared cluster sums, C / (C - 1)."""
    _, index_K = np.unique(cluster_K, return_inverse=True)
    part = np.bincount(index_K, weights=value_K - value_K.mean())
    if len(part) < 2:
        return 0.25
    return float(part @ part) * len(part) / (len(part) - 1) / len(value_K) ** 2


def _total(parts: Sequence[tuple[float, int]], by_seed: Floats) -> tuple[float, float]:
    """Return the variance of items and seeds together, and Student's quantile for it."""
    from scipy.stats import t

    every = list(parts)
    if len(by_seed) > 1:
        every.append((float(np.var(by_seed, ddof=1)) / len(by_seed), len(by_seed) - 1))
    total = sum(v for v, _ in every)
    spread = sum(v * v / f for v, f in every)
    return total, (float(t.ppf(0.975, total * total / spread)) if spread > 0 else _Z)


@dataclass(frozen=True)
class _Cuts:
    """The score that at most a share of the unseen exceed: of each seed, and in each draw of unseen clusters."""

    real_S: Floats
    drawn_BS: Floats

    @classmethod
    def of(cls, unseen_SC: Floats, cluster_C: Ints, rate: float) -> "_Cuts":
        weight_BC = drawn_weights(cluster_C, DRAWS, np.random.default_rng(0))
        order_SC = np.argsort(-unseen_SC, axis=1, kind="stable")
        one_1C = np.ones((1, len(cluster_C)), np.int64)
        drawn = [_cut(row[order], weight_BC[:, order], rate) for row, order in zip(unseen_SC, order_SC, strict=True)]
        real = [_cut(row[order], one_1C, rate)[0] for row, order in zip(unseen_SC, order_SC, strict=True)]
        return cls(np.array(real), np.stack(drawn, 1))


def _cut(falling_C: Floats, weight_BC: Ints, rate: float) -> Floats:
    """Return for each draw the smallest score that at most `rate` of the weight lies above; scores fall."""
    reached_BC = np.cumsum(weight_BC, axis=1)
    # the first score at which more than the allowed weight lies at or above it: above it alone there is no more
    first_B = (reached_BC > rate * reached_BC[:, -1:] + 1e-9).argmax(axis=1)
    cut_B: Floats = falling_C[first_B]
    return cut_B


def drawn_weights(cluster_I: Ints, draws: int, generator: np.random.Generator) -> Ints:
    """Return how often each item stands in each of `draws` samples of clusters with replacement, (B, I)."""
    _, index_I = np.unique(cluster_I, return_inverse=True)
    clusters = int(index_I.max(initial=-1)) + 1
    weights: Ints = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)[:, index_I]
    return weights


def hit_rate(seen_SN: Floats, cluster_N: Ints, cuts: _Cuts) -> Estimate:
    """Return the mean over seeds of the share of seen items above the seed's cut."""
    by_seed = (seen_SN > cuts.real_S[:, None]).mean(1)
    weight_BN = drawn_weights(cluster_N, DRAWS, np.random.default_rng(1)).astype(np.float64)
    hits_B = np.mean(
        [((row_N > cuts.drawn_BS[:, s, None]) * weight_BN).sum(1) for s, row_N in enumerate(seen_SN)], axis=0
    ) / weight_BN.sum(1)
    clusters = len(np.unique(cluster_N))
    variance, quantile = _total([(float(np.var(hits_B, ddof=1)), max(1, clusters - 1))], by_seed)
    value = float(by_seed.mean())
    return Estimate(value, *share_interval(value, variance, quantile, (clusters, len(seen_SN))), by_seed.tolist())


def share_interval(share: float, variance: float, quantile: float, size: tuple[int, int]) -> tuple[float, float]:
    """Return Wilson's interval with an effective number of items; `size`: clusters and seeds.

    Where the sample shows no variance (all hits, or none), that number is the clusters'.
    """
    clusters, seeds = size
    effective = float(clusters)
    if variance > 0 and 0 < share < 1:
        effective = min(share * (1 - share) / variance, float(clusters * seeds))
    effective = max(1.0, effective * (_Z / quantile) ** 2)
    low, high = wilson(share * effective, effective)
    return min(low, share), max(high, share)
