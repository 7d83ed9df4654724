"""The surface: how a measure depends on shares, by least squares, with leave-one-out errors and exact intervals.

*log-linear*: a + sum of b_k ln(w_k / own_k + 0.1). Each source has diminishing returns, its coefficient is what a
doubling of its share is worth, and on the simplex such a sum can have its best point inside: one coefficient a source
is enough (Olmix, arXiv 2602.12237, fits exponentials of linear functions; a single measure of that form has no inner
optimum). 0.1: what a source that is left out still gives through the others. *second-order*: the same with all products
of two such logarithms, whose coefficients are shrunk; how far is averaged over, by what the arms say (Bayesian model
averaging), so that the intervals hold what the arms cannot exclude. This surface decides. The others are checks:
*quadratic*, Scheffé's mixture polynomial, sum of b_k w_k + sum of b_jk w_j w_k; *Gaussian process*, no form at all.

Runs of one seed begin with the same weights and differ less than others (docs/results/mix.md). So a seed has an effect
of its own, shrunk and averaged over like the products: it is no noise between mixtures, and is some in a run of a new
seed.

Legend: K sources, N arms, P coefficients, C contrasts, Z seeds.
"""

from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Form = Literal["log-linear", "second-order", "quadratic"]
LEVEL = 0.9  # of intervals
FREE = 3  # degrees of freedom that must be left, for a variance that says anything
REST = 0.1  # of a source's own share
_BENT = (0.5, 1.0, 2.0, 4.0, 8.0)  # standard deviations of a product's coefficient, in those of one run
_STRAIGHT = 0.7  # the chance, before any arm is seen, that there are no products: bench/mix_worlds.py
_ALIKE = (0.0, 1.0, 2.0, 3.0)  # the same of a seed's effect


def features(form: Form, own_K: Floats, share_NK: Floats) -> Floats:
    """Return the regressors of mixtures, (N, P)."""
    share_NK = np.atleast_2d(share_NK)
    if form != "quadratic":
        log_NK = np.log(share_NK / np.maximum(own_K, 0.01) + REST)
        straight_NP = np.hstack([np.ones((len(share_NK), 1)), log_NK])
        if form == "log-linear":
            return straight_NP
        from_own_NK = log_NK - np.log(1 + REST)
        both = combinations_with_replacement(range(share_NK.shape[1]), 2)
        return np.hstack([straight_NP, *[from_own_NK[:, [i]] * from_own_NK[:, [j]] for i, j in both]])
    pairs = [share_NK[:, [i]] * share_NK[:, [j]] for i, j in combinations(range(share_NK.shape[1]), 2)]
    return np.hstack([share_NK, *pairs])


@dataclass(frozen=True)
class Fit:
    """A least-squares fit. `error`: observed less predicted by the other arms, (N,); `spread`: of the residuals.

    `of_seed`: the effect of each arm's seed, (N,); `seeds`: the variance of these effects, over spread squared.
    """

    form: Form
    own: Floats
    coefficient: Floats
    covariance: Floats  # (P, P), to be multiplied by spread squared
    spread: float
    freedom: int
    error: Floats
    leverage: Floats
    of_seed: Floats
    seeds: float = 0.0

    def predict(self, share_NK: Floats) -> Floats:
        """Return what the surface says of mixtures, (N,)."""
        found: Floats = features(self.form, self.own, share_NK) @ self.coefficient
        return found

    def half_width(self, share_NK: Floats, level: float = LEVEL) -> Floats:
        """Return half the prediction interval of one more training run of each mixture with a new seed, (N,)."""
        from scipy.stats import t

        x_NP = features(self.form, self.own, share_NK)
        variance_N = 1 + self.seeds + np.einsum("np,pq,nq->n", x_NP, self.covariance, x_NP)
        half: Floats = t.ppf((1 + level) / 2, self.freedom) * self.spread * np.sqrt(variance_N)
        return half

    def contrast(self, x_CP: Floats) -> tuple[Floats, Floats]:
        """Return value and standard error of linear combinations of the coefficients, (C,) each."""
        error_C = self.spread * np.sqrt(np.maximum(np.einsum("cp,pq,cq->c", x_CP, self.covariance, x_CP), 0))
        return x_CP @ self.coefficient, error_C

    def difference(self, share_NK: Floats, other_K: Floats) -> tuple[Floats, Floats]:
        """Return value and standard error of the surface at mixtures less that at another one."""
        at_other_1P = features(self.form, self.own, other_K)
        return self.contrast(features(self.form, self.own, share_NK) - at_other_1P)

    def out_of_sample(self, level: float = LEVEL) -> Floats:
        """Return half the interval within which each arm was to be expected from the others, (N,)."""
        from scipy.stats import t

        left = max(1, self.freedom - 1)
        # the spread without the arm itself (Cook and Weisberg 1982)
        inner_N = self.error * (1 - self.leverage)
        rest_N = np.maximum(self.freedom * self.spread**2 - inner_N * self.error, 0) / left
        half: Floats = t.ppf((1 + level) / 2, left) * np.sqrt(rest_N / (1 - self.leverage))
        return half


def fit(form: Form, own_K: Floats, share_NK: Floats, value_N: Floats) -> Fit | None:
    """Return the least-squares surface, None where the arms are too few, or too alike, for this form."""
    x_NP = features(form, own_K, share_NK)
    freedom = len(x_NP) - x_NP.shape[1]
    if freedom < FREE or np.linalg.matrix_rank(x_NP, tol=1e-8) < x_NP.shape[1]:
        return None
    covariance_PP = np.linalg.inv(x_NP.T @ x_NP).astype(np.float64)
    coefficient_P = covariance_PP @ x_NP.T @ value_N
    residual_N = value_N - x_NP @ coefficient_P
    leverage_N = np.minimum(np.einsum("np,pq,nq->n", x_NP, covariance_PP, x_NP), 1 - 1e-9)
    spread = float(np.sqrt(residual_N @ residual_N / freedom))
    return Fit(
        form, own_K, coefficient_P, covariance_PP, spread, freedom, residual_N / (1 - leverage_N), leverage_N,
        np.zeros(len(x_NP)),
    )  # fmt: skip


def averaged(
    form: Literal["log-linear", "second-order"], own_K: Floats, share_NK: Floats, value_N: Floats, seed_N: Ints | None
) -> Fit | None:
    """Return a surface with shrunken effects of seeds and, second-order, products; None where the arms are too few, or
    too alike. `seed_N`: the seed of each arm; None: no two share one.

    Ridge regressions of several strengths, weighted by prior and restricted likelihood; mean and covariance of the
    coefficients are those of the mixture, so that it widens where the strengths disagree. The spread is that of the
    residuals, or with products that of the standardised leave-one-out errors where these are larger.
    """
    if fit("log-linear", own_K, share_NK, value_N) is None:
        return None
    seed_NZ = _seeds(seed_N, len(value_N))
    x_NP = features(form, own_K, share_NK)
    straight, used = 1 + len(own_K), x_NP.shape[1]
    both_NP = np.hstack([x_NP, seed_NZ])
    freedom = len(x_NP) - straight
    parts = []
    for size, alike in product((0.0, *(_BENT if used > straight else ())), _ALIKE if seed_NZ.size else (0.0,)):
        deviation_P = np.concatenate([np.full(used - straight, size), np.full(seed_NZ.shape[1], alike)])
        there_P = np.concatenate([np.ones(straight, bool), deviation_P > 0])
        ridge_P = np.concatenate([np.zeros(straight), deviation_P[deviation_P > 0] ** -2.0])
        here_NP = both_NP[:, there_P]
        inner_PP = here_NP.T @ here_NP + np.diag(ridge_P)
        covariance_PP = np.linalg.inv(inner_PP)
        coefficient_P = covariance_PP @ here_NP.T @ value_N
        residual_N = value_N - here_NP @ coefficient_P
        rest = max(float(residual_N @ residual_N + ridge_P @ coefficient_P**2), 1e-300)
        likelihood = -freedom * np.log(rest) - np.linalg.slogdet(inner_PP)[1] + np.log(ridge_P[straight:]).sum()
        prior = (1 - _STRAIGHT) / len(_BENT) if size else _STRAIGHT
        lever_N = np.minimum(np.einsum("np,pq,nq->n", here_NP, covariance_PP, here_NP), 1 - 1e-9)
        shares = slice(0, used if size else straight)  # the columns that are no seeds
        all_P, all_PP = np.zeros(len(there_P)), np.zeros((len(there_P), len(there_P)))
        all_P[there_P], all_PP[np.ix_(there_P, there_P)] = coefficient_P, covariance_PP
        parts.append((
            np.log(prior) + likelihood / 2, all_P, all_PP, rest / freedom, residual_N / (1 - lever_N), lever_N,
            float((here_NP @ covariance_PP[:, shares] * here_NP[:, shares]).sum()), alike**2,
        ))  # fmt: skip
    log_S, coefficient_SP, covariance_SPP, variance_S, error_SN, lever_SN, taken_S, alike_S = (
        np.array(p) for p in zip(*parts, strict=True)
    )
    weight_S = np.exp(log_S - log_S.max())
    weight_S /= weight_S.sum()
    mean_P, lever_N, error_N = weight_S @ coefficient_SP, weight_S @ lever_SN, weight_S @ error_SN
    apart_SP = coefficient_SP - mean_P
    total_PP = (
        np.einsum("s,spq->pq", weight_S * variance_S, covariance_SPP) + (weight_S[:, None] * apart_SP).T @ apart_SP
    )
    variance = float(weight_S @ variance_S)
    left = max(1, int(len(x_NP) - lever_N.sum() + 1e-6))  # less what products and seeds take, as far as believed
    widened = variance
    if used > straight:
        products = freedom / max(1.0, len(x_NP) - float(weight_S @ taken_S))
        widened = max(variance, float(np.mean(error_N**2 * (1 - lever_N)))) * products
    return Fit(
        form, own_K, mean_P[:used], total_PP[:used, :used] / variance, float(np.sqrt(widened)), left, error_N, lever_N,
        of_seed=seed_NZ @ mean_P[used:], seeds=float(weight_S @ (variance_S * alike_S)) / variance,
    )  # fmt: skip


def _seeds(seed_N: Ints | None, arms: int) -> Floats:
    """Return which arm has which of the seeds that two arms or more have, (N, Z)."""
    if seed_N is None:
        return np.zeros((arms, 0))
    seed_Z, count_Z = np.unique(seed_N, return_counts=True)
    has_NZ: Floats = np.asarray(seed_N[:, None] == seed_Z[count_Z > 1], np.float64)
    return has_NZ


def root_mean_square(error_N: Floats) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(error_N**2)))


def doubling(fit: Fit) -> tuple[Floats, Floats]:
    """Return what doubling each source's share is worth at the recipe's own mixture, and its standard error, (K,).

    The slope there, over the logarithm to base 2, all other shares shrinking alike: defined for a source of any size.
    """
    own_K, step = fit.own, 1e-4
    rows = []
    for k, share in enumerate(own_K):
        ends = []
        for sign in (1, -1):
            moved_K = own_K * (1 - share * np.exp2(sign * step)) / max(1 - share, 1e-9)
            moved_K[k] = share * np.exp2(sign * step)
            ends.append(features(fit.form, own_K, moved_K)[0])
        rows.append((ends[0] - ends[1]) / (2 * step))
    return fit.contrast(np.array(rows))


@dataclass(frozen=True)
class Process:
    """A Gaussian process through the arms: constant mean, squared-exponential kernel over ln(w / own + 0.1)."""

    own: Floats
    share: Floats
    mean: float
    weight: Floats  # (N,)
    length: float
    error: Floats  # (N,) leave-one-out

    def predict(self, share_NK: Floats) -> Floats:
        """Return the process's mean at mixtures, (N,)."""
        found: Floats = self.mean + _kernel(self.own, share_NK, self.share, self.length) @ self.weight
        return found


def _kernel(own_K: Floats, a_NK: Floats, b_NK: Floats, length: float) -> Floats:
    x, y = (features("log-linear", own_K, share)[:, 1:] for share in (a_NK, b_NK))
    kernel: Floats = np.exp(-((x[:, None] - y[None]) ** 2).sum(2) / (2 * length**2))
    return kernel


def process(own_K: Floats, share_NK: Floats, value_N: Floats) -> Process:
    """Return the Gaussian process whose length and noise, of a grid, have the largest marginal likelihood.

    The scale of the kernel has its best value in closed form (Rasmussen and Williams 2006, chapter 5).
    """
    best, found = -np.inf, None
    centred_N, n = value_N - value_N.mean(), len(value_N)
    for length in (0.5, 1.0, 2.0, 4.0):
        kernel_NN = _kernel(own_K, share_NK, share_NK, length)
        for noise in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0):  # variance, as a multiple of the kernel's
            inverse_NN = np.linalg.inv(kernel_NN + noise * np.eye(n))
            scale = max(float(centred_N @ inverse_NN @ centred_N) / n, 1e-300)
            likelihood = -n * np.log(scale) + np.linalg.slogdet(inverse_NN)[1]
            if likelihood > best:
                best = float(likelihood)
                weight_N = inverse_NN @ centred_N
                error_N = weight_N / np.diag(inverse_NN)
                found = Process(own_K, share_NK, float(value_N.mean()), weight_N, length, error_N)
    assert found is not None
    return found
