"""Many weak scores of an item, one test of the set: have the tested items been seen?

After LLM Dataset Inference (Maini et al. 2024, arXiv 2406.06443): which combination of scores tells tested items from
controls is learnt on one half of the clusters and tested on the other. Here both halves take both parts, so no item is
lost, and the p-value comes from repeating all of it, learning included, with "tested" and "control" exchanged among
clusters of one subject and one size: exact whatever was learnt, where tested items and controls are exchangeable. It is
one-sided: a score counts only in the direction that it has when items were seen, so weights are not negative.

Learning is ridge regression, whose only part that knows the labels is linear in them: every exchange costs two small
matrix products.

Legend: I items, F scores, C clusters, B exchanges.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.effects import Items, agreed, estimate, randomisation_test
from steel_eval.stats.paired import Difference

Floats = NDArray[np.float64]
DRAWS = 1_999
RIDGE = 0.3  # of the scores' variance, which is 1
_PIECE = 4_000_000  # labels drawn at once


@dataclass(frozen=True)
class SetTest:
    """`p`: one-sided, of the learnt combination. `excess`: by how many standard deviations of a control the tested
    items' plain mean of all scores lies above that of the controls, with interval and what 80 % of such tests find.
    `mean_I`: that plain mean, in these units.
    """

    p: float
    excess: Difference
    mean_I: Floats


def set_test(gain_IF: Floats, items: Items, seed: int = 0) -> SetTest:
    """Test whether items of a dose above 0 stand out in any combination of scores, all of them higher when seen.

    `gain_IF`: NaN where an item has no score: it then counts as its subject's mean. Raises ValueError where no subject
    holds both tested items and controls.
    """
    tested_I = items.dose > 0
    label_I = tested_I.astype(np.float64)
    plain_I = _unit(_centred(normal_scores(gain_IF), items.subject).mean(1), ~tested_I)
    effect = estimate(np.zeros((1, len(plain_I))), plain_I[None], items, label_I)
    excess = agreed(effect, randomisation_test(plain_I, items, label_I, seed)[0])
    return SetTest(set_p(gain_IF, items, seed), excess, plain_I)


def set_p(gain_IF: Floats, items: Items, seed: int = 0, draws: int | None = None) -> float:
    """Return the p-value of `set_test` alone. `draws`: exchanges, None: DRAWS; any number is exact, few find less."""
    generator = np.random.default_rng(seed)
    tested_I, draws = items.dose > 0, draws or DRAWS
    first_C, index_I, stratum_C = _strata(items)
    half_C = _halves(stratum_C, generator)
    half_I = half_C[index_I]
    score_IF = _centred(normal_scores(gain_IF), items.subject)
    score_IF = _centred(score_IF, 2 * np.unique(items.subject, return_inverse=True)[1] + half_I)
    sum_CF = np.stack([np.bincount(index_I, column_I) for column_I in score_IF.T], 1).astype(np.float64)
    inverse = []
    for half in (0, 1):
        mine_IF = score_IF[half_I == half]
        inverse.append(np.linalg.inv(mine_IF.T @ mine_IF / max(1, len(mine_IF)) + RIDGE * np.eye(mine_IF.shape[1])))
    real = _statistic(tested_I[first_C].astype(np.float64)[None], sum_CF, half_C, inverse)[0]
    reached = 1
    for labels_BC in _exchanged(tested_I[first_C], stratum_C, generator, draws):
        drawn_B = _statistic(labels_BC, sum_CF, half_C, inverse)
        reached += int((drawn_B >= real - 1e-9 * max(1.0, abs(real))).sum())
    return reached / (1 + draws)


def normal_scores(gain_IF: Floats) -> Floats:
    """Return each column's ranks as quantiles of the normal distribution, NaN as 0: no outlier rules the others."""
    from scipy.stats import norm, rankdata

    score_IF = np.zeros(gain_IF.shape)
    for f, column_I in enumerate(gain_IF.T):
        known_I = ~np.isnan(column_I)
        if known_I.any():
            score_IF[known_I, f] = norm.ppf((rankdata(column_I[known_I]) - 0.5) / known_I.sum())
    return score_IF


def _centred(score_IF: Floats, group_I: NDArray[np.int64]) -> Floats:
    _, index_I = np.unique(group_I, return_inverse=True)
    size_G = np.bincount(index_I)
    mean_GF = np.stack([np.bincount(index_I, column_I) / size_G for column_I in score_IF.T], 1)
    centred: Floats = score_IF - mean_GF[index_I]
    return centred


def _unit(value_I: Floats, among_I: NDArray[np.bool_]) -> Floats:
    deviation = float(value_I[among_I].std())
    return value_I / deviation if deviation > 0 else value_I


def _strata(items: Items) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the first item of each cluster, each item's cluster, and each cluster's stratum (subject, size)."""
    _, first_C, index_I, size_C = np.unique(items.cluster, return_index=True, return_inverse=True, return_counts=True)
    pairs = np.stack([items.subject[first_C], size_C], 1)
    return first_C, index_I, np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


def _halves(stratum_C: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Return a half, 0 or 1, for each cluster: every stratum is parted evenly, whoever was tested."""
    half_C = np.zeros(len(stratum_C), np.int64)
    for stratum in np.unique(stratum_C):
        mine = generator.permutation(np.flatnonzero(stratum_C == stratum))
        half_C[mine] = (np.arange(len(mine)) + generator.integers(2)) % 2
    return half_C


def _statistic(labels_BC: Floats, sum_CF: Floats, half_C: NDArray[np.int64], inverse: list[Floats]) -> Floats:
    """Return for each set of labels how far the tested stand out in what the other half has learnt, (B,)."""
    sums = [labels_BC[:, half_C == half] @ sum_CF[half_C == half] for half in (0, 1)]
    total_B: Floats = sum(((np.maximum(0.0, sums[half] @ inverse[half])) * sums[1 - half]).sum(1) for half in (0, 1))  # type: ignore[assignment]
    return total_B


def _exchanged(
    tested_C: NDArray[np.bool_], stratum_C: NDArray[np.int64], generator: np.random.Generator, draws: int
) -> Iterator[Floats]:
    """Yield so many sets of labels, in pieces that bound the memory: exchanged inside strata."""
    strata = [np.flatnonzero(stratum_C == s) for s in np.unique(stratum_C)]
    mixed = [mine for mine in strata if 0 < tested_C[mine].sum() < len(mine)]
    piece = max(1, _PIECE // len(tested_C))
    for start in range(0, draws, piece):
        labels_BC = np.tile(tested_C.astype(np.float64), (min(piece, draws - start), 1))
        for mine in mixed:
            labels_BC[:, mine] = generator.permuted(labels_BC[:, mine], axis=1)
        yield labels_BC
