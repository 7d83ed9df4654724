"""What seeing an item does to its score: the statistics of a contamination study.

Items were randomised to doses inside their subject, equal or near-equal items (a *cluster*) as one. So unseen items of
the same subject are an exact control, and two things follow. The effect of a dose is a difference in differences: the
change of seen items from the clean to the injected arm, less the change of unseen items (which takes out that some
items are easier, and what training on the form alone gives). And the test needs no model: under the null hypothesis the
doses are mere labels, so the real assignment is compared with others that the draw could have made.

Let x_q be the change of item q less the mean change of its subject, and s_q its dose's score (1 for the dose in
question and 0 for unseen; log2(1 + dose) for the trend), centred in its subject. The estimate is sum(s x) / sum(s s):
least squares with an intercept for each subject, that is a mean over subjects of (seen - unseen) with weights
n_seen n_unseen / (n_seen + n_unseen).

Legend: Q items, C clusters, S seeds of an arm, B draws, R right or wrong (any per-item score will do).
"""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.paired import Difference, difference, with_seeds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DRAWS = 9_999
CAUTION = 0.7  # of `with_seeds`, by simulation (tests/steel_eval/stats/test_effects.py)
EXACT_UP_TO = 20_000  # assignments that are enumerated; more are drawn


@dataclass(frozen=True)
class Items:
    """What is known of each item before any model answers. All (Q,).

    `dose`: how often the injected arm saw it (0: never); `subject`: the stratum of the draw; `cluster`: items that
    were drawn as one share a number. A cluster has one dose, which is checked: ValueError otherwise.
    """

    dose: Ints
    subject: Ints
    cluster: Ints

    def __post_init__(self) -> None:
        """Check the shapes, and that no cluster was parted."""
        if not len(self.dose) == len(self.subject) == len(self.cluster):
            raise ValueError("dose, subject and cluster need one entry an item")
        _, index = np.unique(self.cluster, return_inverse=True)
        low = np.full(index.max(initial=-1) + 1, np.iinfo(np.int64).max)
        high = np.full_like(low, -1)
        np.minimum.at(low, index, self.dose)
        np.maximum.at(high, index, self.dose)
        if (low != high).any():
            raise ValueError(f"{int((low != high).sum())} clusters hold items of several doses")

    def only(self, kept_Q: NDArray[np.bool_]) -> "Items":
        """Return some of the items."""
        return Items(self.dose[kept_Q], self.subject[kept_Q], self.cluster[kept_Q])


@dataclass(frozen=True)
class DoseEffect:
    """The effect of one dose; shares, not percentage points. `dose` None: the trend, per doubling of 1 + dose.

    `seeds_counted` False: an arm had one seed, and the interval speaks of items only, not of mixtures. `p`: the larger
    of the randomisation test's and the interval's (`agreed`). `exact`: all assignments were enumerated, not drawn.
    `seen` and `unseen`: scores in the injected arm.
    """

    dose: int | None
    items: int
    clusters: int
    seen: float
    unseen: float
    effect: float
    low: float
    high: float
    p: float
    exact: bool
    seeds_counted: bool


def dose_response(clean_SQ: Floats, injected_SQ: Floats, items: Items, seed: int = 0) -> list[DoseEffect]:
    """Return the effect of each dose above 0, in order, then the trend over all doses (`dose` None).

    `clean_SQ`, `injected_SQ`: scores of each seed on the same items, (S, Q); the numbers of seeds may differ. Raises
    ValueError where no subject holds both a seen and an unseen item.
    """
    rows = []
    for dose in sorted(set(items.dose.tolist()) - {0}):
        kept_Q = (items.dose == dose) | (items.dose == 0)
        score_Q = (items.dose[kept_Q] == dose).astype(np.float64)
        rows.append(_effect(clean_SQ[:, kept_Q], injected_SQ[:, kept_Q], items.only(kept_Q), score_Q, dose, seed))
    return [*rows, _effect(clean_SQ, injected_SQ, items, np.log2(1.0 + items.dose), None, seed)]


def _effect(
    clean_SQ: Floats, injected_SQ: Floats, items: Items, score_Q: Floats, dose: int | None, seed: int
) -> DoseEffect:
    p, exact = randomisation_test(injected_SQ.mean(0) - clean_SQ.mean(0), items, score_Q, seed)
    found = agreed(estimate(clean_SQ, injected_SQ, items, score_Q), p)
    seen = items.dose > 0
    scores_Q = injected_SQ.mean(0)
    return DoseEffect(
        dose=dose, items=int(seen.sum()), clusters=len(np.unique(items.cluster[seen])),
        seen=float(scores_Q[seen].mean()), unseen=float(scores_Q[~seen].mean()) if (~seen).any() else math.nan,
        effect=found.value, low=found.low, high=found.high, p=found.p, exact=exact,
        seeds_counted=min(len(clean_SQ), len(injected_SQ)) > 1,
    )  # fmt: skip


def estimate(clean_SQ: Floats, injected_SQ: Floats, items: Items, score_Q: Floats) -> Difference:
    """Return the change that goes with one more unit of `score_Q` inside subjects, its 95 % interval and p.

    Raises ValueError where no subject holds items of different scores.
    """
    weight_Q = contrast(score_Q, items.subject)
    change_Q = injected_SQ.mean(0) - clean_SQ.mean(0)
    of_items = items_variance(change_Q, items, weight_Q)
    # one seed of either arm cannot say how mixtures vary: then the interval is of items, whatever the other could say
    arms = (clean_SQ, injected_SQ) if min(len(clean_SQ), len(injected_SQ)) > 1 else ()
    total, freedom = with_seeds(of_items, arms, weight_Q, items.cluster, CAUTION)
    return difference(float(weight_Q @ change_Q), total, freedom)


def agreed(found: Difference, p: float) -> Difference:
    """Return an estimate that does not contradict a randomisation test of the same question, of which `p` came out.

    Of two valid p-values the larger one; and where that test does not reject, the interval reaches 0.
    """
    low, high = (min(found.low, 0.0), max(found.high, 0.0)) if p > 0.05 else (found.low, found.high)
    return replace(found, low=low, high=high, p=max(found.p, p))


def contrast(score_Q: Floats, subject_Q: Ints) -> Floats:
    """Return weights (Q,) whose product with the changes is the estimate: they sum to 0 in each subject.

    Raises ValueError where no subject holds items of different scores.
    """
    centred_Q = score_Q - _mean_by(score_Q, subject_Q)
    total = float(centred_Q @ centred_Q)
    if total < 1e-12:
        raise ValueError("no subject holds both seen and unseen items, so there is no control")
    weights: Floats = centred_Q / total
    return weights


def _mean_by(value_Q: Floats, group_Q: Ints) -> Floats:
    """Return for each item the mean of its group."""
    _, index_Q = np.unique(group_Q, return_inverse=True)
    means: Floats = (np.bincount(index_Q, weights=value_Q) / np.bincount(index_Q))[index_Q]
    return means


def _sum_by(value_Q: Floats, group_Q: Ints) -> Floats:
    """Return the sum of each group, in order of the groups' numbers."""
    _, index_Q = np.unique(group_Q, return_inverse=True)
    return np.bincount(index_Q, weights=value_Q).astype(np.float64)


def items_variance(change_Q: Floats, items: Items, weight_Q: Floats) -> tuple[float, float]:
    """Return the variance of weight @ change over items drawn anew, and its degrees of freedom.

    Cluster-robust, with the correction for few clusters of Bell and McCaffrey (2002): a cluster's residual, after the
    effect and each subject's intercept, is divided by the square root of one less its leverage, which for two groups
    is Welch's variance; the freedom is that of the resulting sum of squares for equal noise. A cluster that alone
    holds what is asked (one seen item) shows no residual: it is taken to vary as the others do.
    """
    _, subject_Q, size_G = np.unique(items.subject, return_inverse=True, return_counts=True)
    _, cluster_Q = np.unique(items.cluster, return_inverse=True)
    clusters, subjects = int(cluster_Q.max()) + 1, len(size_G)
    total = float(weight_Q @ weight_Q)  # the centred scores are weight / total
    centred_Q = change_Q - _mean_by(change_Q, items.subject)
    residual_Q = centred_Q - float(weight_Q @ change_Q) * weight_Q / total
    part_C = np.bincount(cluster_Q, weight_Q * residual_Q)
    size_C = np.bincount(cluster_Q, weight_Q**2)
    # columns of an orthonormal basis of intercepts and score, as the clusters' weights meet them
    pair_CG = np.bincount(cluster_Q * subjects + subject_Q, weight_Q, clusters * subjects).reshape(clusters, subjects)
    met_CF = np.concatenate([pair_CG / np.sqrt(size_G), (size_C / math.sqrt(total))[:, None]], 1)
    left_C = 1 - np.divide((met_CF**2).sum(1), size_C, out=np.zeros(clusters), where=size_C > 0)
    alone_C = left_C < 1e-6
    scale_C = 1 / np.sqrt(np.where(alone_C, 1.0, left_C))
    variance = float(((part_C * scale_C)[~alone_C] ** 2).sum())
    scaled_C, scaled_CF = size_C * scale_C**2, met_CF * scale_C[:, None]
    inner_FF = scaled_CF.T @ scaled_CF
    trace = float(scaled_C.sum() - np.trace(inner_FF))
    square = float((scaled_C**2).sum() - 2 * scaled_C @ (scaled_CF**2).sum(1) + (inner_FF**2).sum())
    freedom = max(1.0, trace**2 / square) if square > 1e-300 else 1.0
    if alone_C.any():
        noise = float(residual_Q @ residual_Q) / max(1, len(change_Q) - subjects - 1)
        return variance + noise * float(size_C[alone_C].sum()), max(1.0, float((~alone_C).sum() - subjects))
    return variance, freedom


def randomisation_test(change_Q: Floats, items: Items, score_Q: Floats, seed: int = 0) -> tuple[float, bool]:
    """Return the two-sided p-value of "doses are mere labels", and whether it is exact (all assignments enumerated).

    Doses change places among clusters of the same subject and the same size, which is what the injector's draw leaves
    to chance (a cluster over several subjects belongs to that of its first item). Each tail holds the assignments at
    least as extreme as the real one, which is always among them, so the p-value is valid whatever the distribution
    (Fisher 1935; Phipson and Smyth 2010); it is twice the smaller tail. Without a seen and an unseen cluster in one
    stratum nothing can be exchanged and p = 1.
    """
    value_C, score_C, stratum_C = _clusters(change_Q, items, score_Q)
    real = float(score_C @ value_C)
    strata = [np.flatnonzero(stratum_C == k) for k in np.unique(stratum_C)]
    strata = [c for c in strata if len(np.unique(score_C[c])) > 1]
    if not strata:
        return 1.0, True
    fixed = real - sum(float(score_C[c] @ value_C[c]) for c in strata)
    exact = math.exp(min(700.0, sum(_log_orders(score_C[c]) for c in strata))) <= EXACT_UP_TO * (1 + 1e-9)
    if exact:
        totals = np.full(1, fixed)
        for c in strata:
            totals = np.add.outer(totals, _all_sums(score_C[c], value_C[c])).reshape(-1)
    else:
        generator = np.random.default_rng(seed)
        totals = np.full(DRAWS, fixed)
        for c in strata:
            totals += _drawn_sums(score_C[c], value_C[c], generator)
        totals = np.append(totals, real)
    slack = 1e-9 * max(1.0, float(np.abs(totals).max()))  # sums in another order differ in the last digits
    above, below = float((totals >= real - slack).mean()), float((totals <= real + slack).mean())
    return min(1.0, 2 * min(above, below)), exact


def _clusters(change_Q: Floats, items: Items, score_Q: Floats) -> tuple[Floats, Floats, Ints]:
    """Return each cluster's summed change (centred in its subject), its score, and its stratum (subject, size)."""
    _, first_C, size_C = np.unique(items.cluster, return_index=True, return_counts=True)
    value_C = _sum_by(change_Q - _mean_by(change_Q, items.subject), items.cluster)
    pairs = np.stack([items.subject[first_C], size_C], 1)
    _, stratum_C = np.unique(pairs, axis=0, return_inverse=True)
    return value_C, score_Q[first_C], stratum_C.reshape(-1)


def _log_orders(score_C: Floats) -> float:
    """Return the logarithm of how many different orders the scores have."""
    counts = np.unique(score_C, return_counts=True)[1].tolist()
    return math.lgamma(len(score_C) + 1) - sum(math.lgamma(n + 1) for n in counts)


def _all_sums(score_C: Floats, value_C: Floats) -> Floats:
    """Return score @ value for every different order of the scores."""
    sums = [0.0]
    free = [list(range(len(score_C)))]
    for score, n in zip(*np.unique(score_C, return_counts=True), strict=True):
        pairs = [
            (s + float(score) * float(value_C[list(chosen)].sum()), [i for i in left if i not in chosen])
            for s, left in zip(sums, free, strict=True)
            for chosen in itertools.combinations(left, int(n))
        ]
        sums, free = [p[0] for p in pairs], [p[1] for p in pairs]
    return np.array(sums)


def _drawn_sums(score_C: Floats, value_C: Floats, generator: np.random.Generator) -> Floats:
    """Return score @ value for DRAWS random orders, in pieces that bound the memory."""
    piece = max(1, 4_000_000 // len(score_C))
    out = []
    for start in range(0, DRAWS, piece):
        order_BC = np.tile(score_C, (min(piece, DRAWS - start), 1))
        out.append(generator.permuted(order_BC, axis=1) @ value_C)
    return np.concatenate(out)
