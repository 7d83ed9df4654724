"""The clean score: what would a run of the same recipe have scored had its mixture held none of the questions?

Unseen questions of a contaminated run stand for all, subject by subject. Two things then stand between that estimate
and the score of a clean run. *Items*: the unseen are a sample of all. *The run*: another run of the same recipe answers
otherwise, by chance in each question and, often, in level. The second is the larger one as soon as most questions are
unseen; it can be learnt from clean runs of several seeds only. Without them the interval speaks of items alone, and the
narrower claim is made: this run's score on questions that it never saw.

Legend: Q items, C clusters, G strata, S runs.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.effects import Items
from steel_eval.stats.paired import satterthwaite, seeds_variance

Floats = NDArray[np.float64]
FEWEST = 3  # subjects that can stand for a thin one


@dataclass(frozen=True)
class CleanScore:
    """A clean score (a share) with its 95 % interval. `reported`: with the seen items.

    `runs`: clean runs of which the noise of runs was learnt, and the interval is one for the score of a further clean
    run; 0: that noise is not known, and the interval is one for this run's own score had it seen none. `thin`: subjects
    that the others stand for.
    """

    reported: float
    clean: float
    low: float
    high: float
    unseen_items: int
    runs: int = 0
    thin: int = 0


def clean_score(
    score_Q: Floats, items: Items, reference_Q: Floats | None = None, runs_SQ: Floats | None = None
) -> CleanScore:
    """Estimate what a checkpoint, or a run of its recipe, would have scored on all items had it seen none.

    In each subject the unseen items stand for all of its items: they are a random part of them. `reference_Q`: scores
    of a model that saw none (the base, the clean arm): then the difference is extrapolated and the reference's known
    mean over all items added, which narrows the interval where the two agree by more than chance (right on a third:
    from 78 % equal answers up) and widens it otherwise. `runs_SQ`: scores of runs of the same recipe that saw none;
    from two up the interval is a prediction interval for such a run. Scores are 0 or 1 an item.

    The variance of items has the finite-population correction 1 - unseen/all, and clusters stay together. A subject
    with fewer than two unseen clusters is *thin*: the mean of the other subjects stands for it, and it varies around it
    as they do; with fewer than three others all items are one stratum. A run's noise counts twice, for this run and
    the one that is predicted. What the seen items taught about the *other* items stays in the estimate. Raises
    ValueError where fewer than two clusters are unseen.
    """
    from scipy.stats import t

    known = 0.0 if reference_Q is None else float(reference_Q.mean())
    value_Q = score_Q if reference_Q is None else score_Q - reference_Q
    unseen_Q = items.dose == 0
    every = [items.subject == g for g in np.unique(items.subject)]
    strata = [mine_Q for mine_Q in every if len(np.unique(items.cluster[unseen_Q & mine_Q])) > 1]
    if len(strata) < min(len(every), FEWEST):
        strata = every = [np.ones(len(score_Q), bool)]
    if len(np.unique(items.cluster[unseen_Q])) < 2:
        raise ValueError("fewer than two unseen clusters: nothing to estimate a clean score from")
    share_G = np.array([mine_Q.mean() for mine_Q in strata])
    mean_G, parts = np.zeros(len(strata)), []
    for g, mine_Q in enumerate(strata):
        held_Q = mine_Q & unseen_Q
        mean_G[g] = value_Q[held_Q].mean()
        spread, clusters = _spread(value_Q[held_Q] - mean_G[g], items.cluster[held_Q])
        # the mean of the strata stands for the thin subjects, and adds to the weight of each
        weight = share_G[g] * math.sqrt(1 - held_Q.sum() / mine_Q.sum()) + (1 - share_G.sum()) / len(strata)
        parts.append((weight**2 * spread, clusters - 1))
    thin_share = np.array([m.mean() for m in every if len(np.unique(items.cluster[unseen_Q & m])) < 2])
    if len(thin_share) and len(strata) > 1:
        between = float(mean_G.var(ddof=1))
        parts.append(
            (between * (float(thin_share @ thin_share) + thin_share.sum() ** 2 / len(strata)), len(strata) - 1)
        )
    estimate = float(share_G @ mean_G + (1 - share_G.sum()) * mean_G.mean())
    # where no unseen item differs from its reference the sample shows no variance; one in n may yet differ
    unseen = int(unseen_Q.sum())
    floor = (1 - unseen / len(unseen_Q)) / unseen**2
    variance, freedom = satterthwaite(parts)
    if variance < floor:
        variance, freedom = floor, sum(free for _, free in parts)
    runs = 0 if runs_SQ is None or len(runs_SQ) < 2 else len(runs_SQ)
    if runs_SQ is not None and runs:
        variance, freedom = _with_a_further_run(variance, freedom, runs_SQ, items.cluster)
    half = float(t.ppf(0.975, freedom)) * math.sqrt(variance)
    clean = known + estimate
    return CleanScore(float(score_Q.mean()), clean, clean - half, clean + half, unseen, runs, len(every) - len(strata))


def _spread(residual_Q: Floats, cluster_Q: NDArray[np.int64]) -> tuple[float, int]:
    """Return the variance of the mean of a random part's values, before the finite-population correction."""
    _, index_Q = np.unique(cluster_Q, return_inverse=True)
    part_C = np.bincount(index_Q, residual_Q)
    clusters = len(part_C)
    return float(part_C @ part_C) * clusters / (clusters - 1) / len(residual_Q) ** 2, clusters


def _with_a_further_run(
    variance: float, freedom: float, runs_SQ: Floats, cluster_Q: NDArray[np.int64]
) -> tuple[float, float]:
    """Add twice the variance of one run's score on these items: at least what single items' noise gives it.

    The freedom is that of the runs' own spread, so that few runs which happen to agree do not make a short interval.
    """
    shown, held = seeds_variance(runs_SQ, np.full(runs_SQ.shape[1], 1 / runs_SQ.shape[1]), cluster_Q)
    of_run, raw = 2 * len(runs_SQ) * max(shown, held), 2 * len(runs_SQ) * shown
    spread = variance**2 / freedom + raw**2 / (len(runs_SQ) - 1)
    total = variance + of_run
    return total, max(1.0, total**2 / spread) if spread else math.inf
