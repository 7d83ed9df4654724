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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.paired import of_seeds, satterthwaite

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DRAWS = 9_999
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

    `seeds_counted` False: an arm had one seed, and the interval speaks of items only, not of mixtures. `exact`: all
    assignments were enumerated, not drawn. `seen` and `unseen`: scores in the injected arm.
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
    effect, low, high = estimate(clean_SQ, injected_SQ, items, score_Q)
    p, exact = randomisation_test(injected_SQ.mean(0) - clean_SQ.mean(0), items, score_Q, seed)
    seen = items.dose > 0
    scores_Q = injected_SQ.mean(0)
    return DoseEffect(
        dose=dose, items=int(seen.sum()), clusters=len(np.unique(items.cluster[seen])),
        seen=float(scores_Q[seen].mean()), unseen=float(scores_Q[~seen].mean()) if (~seen).any() else math.nan,
        effect=effect, low=low, high=high, p=p, exact=exact,
        seeds_counted=min(len(clean_SQ), len(injected_SQ)) > 1,
    )  # fmt: skip


def estimate(clean_SQ: Floats, injected_SQ: Floats, items: Items, score_Q: Floats) -> tuple[float, float, float]:
    """Return the change that goes with one more unit of `score_Q` inside subjects, and its 95 % interval.

    Raises ValueError where no subject holds items of different scores.
    """
    from scipy.stats import t

    weight_Q = contrast(score_Q, items.subject)
    effect = float(weight_Q @ (injected_SQ.mean(0) - clean_SQ.mean(0)))
    variance, freedom = _variance(clean_SQ, injected_SQ, items, weight_Q)
    half = float(t.ppf(0.975, freedom)) * math.sqrt(variance)
    return effect, effect - half, effect + half


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


def _variance(clean_SQ: Floats, injected_SQ: Floats, items: Items, weight_Q: Floats) -> tuple[float, float]:
    """Return the variance of the estimate and its degrees of freedom (Satterthwaite).

    Items: cluster-robust sandwich of the seed means, sum over clusters of (sum of weight x residual) squared, the
    residual after the effect and each subject's intercept, times C / (C - G - 1). Seeds: for each arm the variance of
    the seeds' own estimates over their number. Items and seeds interact, which both parts hold: the interval errs on
    the wide side.
    """
    change_Q = injected_SQ.mean(0) - clean_SQ.mean(0)
    effect = float(weight_Q @ change_Q)
    centred_Q = change_Q - _mean_by(change_Q, items.subject)
    residual_Q = centred_Q - effect * weight_Q / float(weight_Q @ weight_Q)
    part_C = _sum_by(weight_Q * residual_Q, items.cluster)
    freedom = max(1, len(part_C) - len(np.unique(items.subject)) - 1)
    parts: list[tuple[float, float]] = [(float(part_C @ part_C) * len(part_C) / freedom, freedom)]
    parts += [of_seeds(arm_SQ @ weight_Q) for arm_SQ in (clean_SQ, injected_SQ) if len(arm_SQ) > 1]
    return satterthwaite(parts)


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


@dataclass(frozen=True)
class CleanScore:
    """What a contaminated checkpoint would have scored on all items had it seen none, with its 95 % interval."""

    reported: float
    clean: float
    low: float
    high: float
    unseen_items: int


def clean_score(score_Q: Floats, items: Items, reference_Q: Floats | None = None) -> CleanScore:
    """Estimate the clean score of one checkpoint from the items that it did not see.

    In each subject the unseen items stand for all of its items: they are a random part of them. `reference_Q`: scores
    of a model that saw none (the base, the clean arm): then the difference is extrapolated and the reference's known
    mean over all items added, which narrows the interval where the two agree by more than chance (right on a third:
    from 78 % equal answers up) and widens it otherwise. The variance has the finite-population correction 1 -
    unseen/all, and clusters stay together; subjects with fewer than two unseen clusters are pooled. Scores are 0 or 1
    an item. What the seen items taught about the *other* items stays in the estimate. Raises ValueError where fewer
    than two clusters are unseen.
    """
    from scipy.stats import t

    known = 0.0 if reference_Q is None else float(reference_Q.mean())
    value_Q = score_Q if reference_Q is None else score_Q - reference_Q
    unseen_Q = items.dose == 0
    stratum_Q = items.subject.copy()
    for subject in np.unique(stratum_Q):
        if len(np.unique(items.cluster[unseen_Q & (stratum_Q == subject)])) < 2:
            stratum_Q[stratum_Q == subject] = -1
    strata = [stratum_Q == g for g in np.unique(stratum_Q)]
    if any(len(np.unique(items.cluster[unseen_Q & mine_Q])) < 2 for mine_Q in strata):
        # the pooled subjects have too little between them: one stratum over all
        strata = [np.ones(len(stratum_Q), bool)]
    estimate = variance = 0.0
    freedom = 0
    for mine_Q in strata:
        held_Q = mine_Q & unseen_Q
        clusters = len(np.unique(items.cluster[held_Q]))
        if clusters < 2:
            raise ValueError("fewer than two unseen clusters: nothing to estimate a clean score from")
        share = float(mine_Q.mean())
        mean = float(value_Q[held_Q].mean())
        part_C = _sum_by(value_Q[held_Q] - mean, items.cluster[held_Q])
        spread = float(part_C @ part_C) * clusters / (clusters - 1) / float(held_Q.sum()) ** 2
        estimate += share * mean
        variance += share * share * (1 - float(held_Q.sum() / mine_Q.sum())) * spread
        freedom += clusters - 1
    # where no unseen item differs from its reference the sample shows no variance; one in n may yet differ
    unseen = int(unseen_Q.sum())
    variance = max(variance, (1 - unseen / len(unseen_Q)) / unseen**2)
    half = float(t.ppf(0.975, freedom)) * math.sqrt(variance)
    clean = known + estimate
    return CleanScore(float(score_Q.mean()), clean, clean - half, clean + half, unseen)
