"""Is a difference real? Paired tests on questions, resampling of questions and seeds, and what a test could have seen.

Two checkpoints answer the same questions, so the test is paired: only questions that exactly one of them gets right
carry information. The mean over seeds of a mixture is another matter: it varies with the seed too, and with one seed an
arm no test of questions can speak of mixtures.

Legend: Q questions, S seeds of an arm, B bootstrap draws, G subjects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of means (B minus A, as a fraction) with a 95 % interval and a two-sided p-value.

    `detectable`: the true difference that 80 % of such tests find.
    """

    value: float
    low: float
    high: float
    p: float
    detectable: float


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p-value that discordant answers fall evenly: binomial(only_a + only_b, 1/2).

    McNemar 1947, without the normal approximation. No discordant answers: 1.
    """
    from scipy.stats import binomtest

    return float(binomtest(only_b, only_a + only_b).pvalue) if only_a + only_b else 1.0


def paired_bootstrap(change_Q: Floats, subject_Q: NDArray[np.int64], macro: bool, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean change, questions resampled within their subject.

    `change_Q`: B minus A for each question; `macro`: the mean over subjects of their means. Change takes few values
    (right or wrong: -1, 0, 1), so a resample of a subject is one multinomial draw.
    """
    generator = np.random.default_rng(seed)
    groups = np.unique(subject_Q)
    total_B = np.zeros(DRAWS)
    for group in groups:
        values, counts = np.unique(change_Q[subject_Q == group], return_counts=True)
        n = int(counts.sum())
        sum_B = generator.multinomial(n, counts / n, size=DRAWS) @ values
        total_B += sum_B / n / len(groups) if macro else sum_B / len(change_Q)
    low, high = np.quantile(total_B, [0.025, 0.975])
    return float(low), float(high)


def paired_interval(change_Q: Floats, subject_Q: NDArray[np.int64]) -> tuple[float, float]:
    """Return a 95 % interval of the mean change of right answers (-1, 0, 1) that never contradicts `mcnemar`.

    The bootstrap's, stretched to the exact one given how many answers are discordant (Clopper-Pearson 1934): of few
    questions the bootstrap is too short. Without a discordant answer it goes as far as what n questions can hide.
    """
    n = len(change_Q)
    only_a, only_b = int((change_Q < 0).sum()), int((change_Q > 0).sum())
    if not only_a + only_b:
        hidden = 1 - 0.025 ** (1 / n)
        return -hidden, hidden
    from scipy.stats import binomtest

    share = binomtest(only_b, only_a + only_b).proportion_ci(0.95, "exact")
    exact = [(2 * bound - 1) * (only_a + only_b) / n for bound in (share.low, share.high)]
    drawn = paired_bootstrap(change_Q, subject_Q, macro=False)
    low, high = min(exact[0], drawn[0]), max(exact[1], drawn[1])
    return (exact[0] if exact[0] > 0 >= low else low), (exact[1] if exact[1] < 0 <= high else high)


def question_variance(change_Q: Floats, subject_Q: NDArray[np.int64], macro: bool) -> tuple[float, float]:
    """Return the variance of the mean change over questions drawn within their subjects, and its degrees of freedom.

    Subjects of one question are taken together: alone they show no variance.
    """
    weight_Q = question_weights(subject_Q, macro)
    _, index_Q, size_G = np.unique(subject_Q, return_inverse=True, return_counts=True)
    stratum_Q = np.where(size_G[index_Q] < 2, -1, index_Q)
    _, stratum_Q, size_H = np.unique(stratum_Q, return_inverse=True, return_counts=True)
    mean_H = np.bincount(stratum_Q, change_Q) / size_H
    part_Q = weight_Q**2 * (change_Q - mean_H[stratum_Q]) ** 2 * (size_H / np.maximum(size_H - 1, 1))[stratum_Q]
    return float(part_Q.sum()), float(max(1, len(change_Q) - len(size_H)))


def subject_variance(change_Q: Floats, subject_Q: NDArray[np.int64], macro: bool) -> tuple[float, float]:
    """Return the variance of the mean change over whole subjects, and its degrees of freedom: subjects less one.

    Of a ratio of sums, linearised, where subjects weigh by their questions. Raises ValueError for one subject.
    """
    _, index_Q = np.unique(subject_Q, return_inverse=True)
    size_G, sum_G = np.bincount(index_Q).astype(float), np.bincount(index_Q, weights=change_Q)
    many = len(size_G)
    if many < 2:
        raise ValueError("one subject says nothing about subjects")
    if macro:
        return float(np.var(sum_G / size_G, ddof=1)) / many, many - 1
    residual_G = (sum_G - size_G * sum_G.sum() / size_G.sum()) / size_G.mean()
    return float(residual_G @ residual_G) / (many - 1) / many, many - 1


def seeds_and_questions(
    a_SQ: Floats, b_SQ: Floats, subject_Q: NDArray[np.int64], macro: bool, by_subject: bool = False
) -> Difference:
    """Compare two arms of several seeds: seeds and questions vary together.

    Variance = that of the questions (paired, of seed means, within subjects; `by_subject`: of whole subjects) + that
    of seeds, less what the latter holds of single questions' noise, which the former counts already. Few seeds estimate
    their variance badly, so the interval uses Student's t (Satterthwaite 1946). Raises ValueError for an arm of one
    seed.
    """
    if min(len(a_SQ), len(b_SQ)) < 2:
        raise ValueError("several seeds an arm are needed; one seed says nothing about seeds")
    weight_Q = question_weights(subject_Q, macro)
    change_Q = b_SQ.mean(0) - a_SQ.mean(0)
    questions, freedom = (subject_variance if by_subject else question_variance)(change_Q, subject_Q, macro)
    total, freedom = with_seeds((questions, freedom), (a_SQ, b_SQ), weight_Q)
    return difference(float(change_Q @ weight_Q), total, freedom)


def with_seeds(
    items: Sequence[float], arms: Sequence[Floats], weight_Q: Floats, cluster_Q: NDArray[np.int64] | None = None,
    caution: float = 1.0,
) -> tuple[float, float]:  # fmt: skip
    """Return the variance of items and seeds together and its degrees of freedom; `items`: both of items alone.

    `arms`: answers (S, Q) of each; one of a single seed says nothing of seeds. `cluster_Q`: questions that are answered
    as one. `caution`: how much of the seeds' spread counts towards the freedom though single questions' noise explains
    it: 1 where seeds differ in level, less for a contrast of questions, which takes the level out.
    """
    questions, freedom = items
    raw = own = 0.0
    several = [x_SQ for x_SQ in arms if len(x_SQ) > 1]
    for x_SQ in several:
        shown, held = seeds_variance(x_SQ, weight_Q, cluster_Q)
        raw, own = raw + shown, own + shown - held
    own = max(0.0, own)
    spread = questions**2 / freedom
    if several:
        # `own` may fall to 0 by chance, and an interval that believes that is too short: of few seeds the freedom is
        # counted as if nothing had been taken out. By simulation of mixtures without a difference 1.4 to 6.5 % of tests
        # at 5 % (tests/steel_eval/stats/test_paired.py): fewest where seeds do not differ, most where they do
        freedom_S = sum(len(x_SQ) - 1 for x_SQ in several)
        share = caution * min(1.0, 3 / freedom_S)
        spread += max(share * raw + (1 - share) * own, own) ** 2 / freedom_S
    total = questions + own
    return total, max(1.0, total**2 / spread) if spread else math.inf


def seeds_variance(x_SQ: Floats, weight_Q: Floats, cluster_Q: NDArray[np.int64] | None = None) -> tuple[float, float]:
    """Return the variance of a mean over two or more seeds, and what single questions' noise adds to it.

    The latter is the interaction of seeds and questions (of seeds and clusters, where some are answered as one;
    two-way analysis of variance).
    """
    score_S, seeds = x_SQ @ weight_Q, len(x_SQ)
    residual_SQ = x_SQ - x_SQ.mean(0) - (score_S - score_S.mean())[:, None]
    part_SC = residual_SQ * weight_Q
    if cluster_Q is not None:
        _, index_Q = np.unique(cluster_Q, return_inverse=True)
        part_SC = np.stack([np.bincount(index_Q, part_Q) for part_Q in part_SC])
    return of_seeds(score_S)[0], float((part_SC**2).sum()) / (seeds - 1) / seeds


def difference(value: float, variance: float, freedom: float = math.inf) -> Difference:
    """Return a difference with the interval, p-value and detectable size that its variance gives, by Student's t."""
    from scipy.stats import t

    if variance == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 0.0, 0.0)
    deviation, edge = math.sqrt(variance), float(t.ppf(0.975, freedom))
    p = 2 * float(t.sf(abs(value) / deviation, freedom))
    half = edge * deviation
    return Difference(value, value - half, value + half, p, detectable_of(variance, freedom))


def of_seeds(value_S: Floats) -> tuple[float, float]:
    """Return the variance of a mean over two or more seeds, and its degrees of freedom."""
    return float(np.var(value_S, ddof=1)) / len(value_S), len(value_S) - 1


def satterthwaite(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the sum of independent variances and its degrees of freedom, from each one's (variance, freedom).

    Satterthwaite 1946. Where nothing varies the freedom is infinite.
    """
    total = sum(variance for variance, _ in parts)
    spread = sum(variance * variance / freedom for variance, freedom in parts)
    return total, total * total / spread if spread > 0 else math.inf


def question_weights(subject_Q: NDArray[np.int64], macro: bool) -> Floats:
    """Return weights (Q,) that sum to 1: equal ones, or equal for each subject."""
    if not macro:
        return np.full(len(subject_Q), 1 / len(subject_Q))
    _, index_Q, size_G = np.unique(subject_Q, return_inverse=True, return_counts=True)
    weight: Floats = 1 / (size_G[index_Q] * len(size_G))
    return weight


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Return adjusted p-values that control the false discovery rate (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return [float(q) for q in false_discovery_control(list(p))] if len(p) else []


def holm(p: Sequence[float]) -> list[float]:
    """Return adjusted p-values that control the chance of any false finding (Holm 1979)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def minimum_detectable(n: int, discordance: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest true difference (a fraction) that a paired test on `n` questions finds with `power`.

    (z(1 - alpha/2) + z(power)) sqrt(discordance / n), `discordance` the share of questions that one alone gets right.
    """
    from scipy.stats import norm

    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * math.sqrt(discordance / n))


def power_of(effect: float, variance: float, freedom: float = math.inf, alpha: float = 0.05) -> float:
    """Return the probability that a two-sided test finds `effect` when the difference has this variance. Fractions.

    By Student's t where the variance is itself estimated, with `freedom` degrees: a mean of the normal's power over
    what the estimate may be (the noncentral t, whose own series fail for few degrees).
    """
    return _power(effect / math.sqrt(variance), _edges(freedom, alpha)) if variance else 1.0


def detectable_of(variance: float, freedom: float = math.inf) -> float:
    """Return the true difference that 80 % of two-sided tests at 5 % find (see `power_of`)."""
    return math.sqrt(variance) * _detectable(freedom)


@lru_cache(maxsize=1024)
def _detectable(freedom: float) -> float:
    from scipy.optimize import brentq
    from scipy.stats import t

    about = float(t.ppf(0.975, freedom) + t.ppf(0.8, freedom))
    if freedom > 100:
        return about
    edge_K = _edges(freedom)  # with two degrees 77 % find what `about` says
    return float(brentq(lambda shift: _power(shift, edge_K) - 0.8, about / 2, 2 * about, xtol=1e-4))


def _edges(freedom: float, alpha: float = 0.05) -> Floats:
    """Return from where a test rejects, in true deviations: 400 equally likely values of what it estimates."""
    from scipy.special import chdtri
    from scipy.stats import t

    edge = float(t.ppf(1 - alpha / 2, freedom))
    if math.isinf(freedom):
        return np.array([edge])
    edge_K: Floats = edge * np.sqrt(chdtri(freedom, (np.arange(400) + 0.5) / 400) / freedom)
    return edge_K


def _power(shift: float, edge_K: Floats) -> float:
    from scipy.special import ndtr

    return float(np.mean(ndtr(shift - edge_K) + ndtr(-edge_K - shift)))


def best_of_k_bias(k: int, n: int, discordance: float) -> float:
    """Return how much the best of `k` equally good checkpoints seems to gain by being picked, as a fraction.

    E[max of k standard normals] x sqrt(discordance / 2n): half the variance of a difference is a checkpoint's own.
    """
    from scipy.stats import norm

    x = np.linspace(-8, 8, 4001)
    expected = float(np.trapezoid(x * k * norm.pdf(x) * norm.cdf(x) ** (k - 1), x))
    return max(0.0, expected) * math.sqrt(discordance / (2 * n))


def wilson(right: float, n: float) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share: inside 0 and 1 also for few questions.

    `n` may be an effective number (of dependent answers), `right` then the share times it.
    """
    z2 = 1.959964**2
    centre = (right + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (right * (n - right) / n + z2 / 4)) / (n + z2)
    return max(0.0, centre - half), min(1.0, centre + half)
