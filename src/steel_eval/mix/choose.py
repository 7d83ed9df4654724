"""What may be chosen: the best mixture of a surface, whether it beats the recipe's own, and where it does not matter.

A best mixture is named only where (1) the surface predicts an arm that it has not seen better than the arms' mean does,
(2) the gain's interval, which holds for all mixtures of the space at once (the mixture was looked for, not given), is
above zero, (3) the gain is larger than what one run of a mixture differs from the next, and (4) the
surface's twins do not deny it. Lower is better here; the caller turns measures of which more is better.

Legend: K sources, N arms or mixtures.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.mix.design import Floats, Space, fitted, scatter
from steel_eval.mix.surface import Fit, Ints, Process, averaged, features, fit, process, root_mean_square

_CANDIDATES = 11  # 2 ** 11 mixtures are looked at
_SURE = 0.95  # the level of a gain's interval
_DRAWN, _DRAWS = 512, 2_000  # candidates, and draws, for the reach of chance


@dataclass(frozen=True)
class Observed:
    """What was trained: shares (N, K), objective (N,; lower is better), and which arms are the recipe's own (N,).

    `seed`: of each arm's training, (N,); None: no two share one.
    """

    share: Floats
    value: Floats
    centre: NDArray[np.bool_]
    seed: Ints | None = None


@dataclass(frozen=True)
class Gain:
    """How much lower than the recipe's own mixture, with the interval for a mixture that was looked for."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """What the surface allows to say. `best` (K,): its best mixture, named or not; `why`: the reason not to name it.

    `region` (2, K): least and most share of each source among the mixtures not shown worse than the best; `room`: which
    part of the space they are; `loo`: leave-one-out error of each form; `noise`: spread of the recipe's own arms.
    """

    observed: Observed
    fit: Fit
    process: Process
    best: Floats
    gain: Gain
    named: bool
    why: str
    region: Floats
    room: float
    loo: dict[str, float]
    spread: float
    noise: float
    candidates: Floats
    open: NDArray[np.bool_]


def choose(space: Space, observed: Observed, seed: int = 0) -> Choice | None:
    """Return what the arms allow to say, None where they are too few for any surface."""
    share_NK, value_N = observed.share, observed.value
    straight = averaged("log-linear", space.own, share_NK, value_N, observed.seed)
    used = averaged("second-order", space.own, share_NK, value_N, observed.seed)
    tried_N = ~observed.centre
    if straight is None or used is None or tried_N.sum() < 2:
        return None
    twin = fit("quadratic", space.own, share_NK, value_N - used.of_seed)
    forms = [f for f in (used, straight, twin) if f is not None]
    free = process(space.own, share_NK, value_N - used.of_seed)
    loo = {f.form: root_mean_square(f.error[tried_N]) for f in forms} | {
        "gaussian-process": root_mean_square(free.error[tried_N])
    }
    spread = float(np.std(value_N[tried_N], ddof=1))
    noise = float(np.std(value_N[observed.centre], ddof=1)) if observed.centre.sum() > 1 else used.spread
    candidate_NK = scatter(space, _CANDIDATES, seed)
    best_K = lowest(used, space, candidate_NK, noise)
    reach = chance_reach(straight, space.own, candidate_NK)
    gain = gain_of(used, best_K, space.own, reach)
    change_N, error_N = used.difference(candidate_NK, best_K)
    open_N = change_N <= reach * error_N
    held_NK = np.vstack([candidate_NK[open_N], best_K])
    why = _doubt(gain, loo[used.form], spread, noise)
    for name, other in (("quadratic", twin), ("log-linear", straight), ("gaussian-process", free)):
        if not why and other is not None and loo[name] < spread and _drop(other, best_K, space.own) <= 0:
            why = f"the {name} surface sees no gain there"
    return Choice(
        observed=observed, fit=used, process=free, best=best_K, gain=gain, named=not why, why=why,
        region=np.array([held_NK.min(0), held_NK.max(0)]), room=float(open_N.mean()), loo=loo, spread=spread,
        noise=noise, candidates=candidate_NK, open=open_N,
    )  # fmt: skip


def _drop(surface: Fit | Process, best_K: Floats, own_K: Floats) -> float:
    own, best = surface.predict(np.array([own_K, best_K]))
    return float(own - best)


def _doubt(gain: Gain, loo: float, spread: float, noise: float) -> str:
    """Return why no mixture may be named, "" where one may."""
    if loo >= spread:
        return "the surface predicts an arm that it has not seen no better than the mean of all arms does"
    if gain.low <= 0:
        return "the best gain that the surface shows may be chance"
    if gain.value <= noise:
        return "the gain is smaller than what two runs of one mixture differ by"
    return ""


def chance_reach(used: Fit, own_K: Floats, candidate_NK: Floats) -> float:
    """Return how many standard errors the best of all candidates' gains comes to by chance, in 95 of 100 searches.

    Where no share matters, that is the largest of correlated t values, which are drawn.
    """
    contrast_NP = features(used.form, own_K, candidate_NK[:_DRAWN]) - features(used.form, own_K, own_K)
    root_PP = np.linalg.cholesky(used.covariance)
    direction_NP = contrast_NP @ root_PP
    direction_NP /= np.maximum(np.linalg.norm(direction_NP, axis=1, keepdims=True), 1e-12)
    generator = np.random.default_rng(0)
    chance_BP = generator.standard_normal((_DRAWS, direction_NP.shape[1]))
    scale_B = np.sqrt(generator.chisquare(used.freedom, _DRAWS) / used.freedom)
    return float(np.quantile((chance_BP @ direction_NP.T).max(1) / scale_B, _SURE))


def gain_of(used: Fit, share_K: Floats, own_K: Floats, reach: float) -> Gain:
    """Return the gain of a mixture that was looked for, its interval so many standard errors to either side."""
    change_1, error_1 = used.difference(share_K, own_K)
    value, half = -float(change_1[0]), reach * float(error_1[0])
    return Gain(value, value - half, value + half)


def lowest(used: Fit, space: Space, candidate_NK: Floats, noise: float) -> Floats:
    """Return the mixture (K,) where surface + pull is lowest.

    The pull towards the recipe's own: each nat of divergence from it must be worth the `noise` of one run. From the
    best candidates, steps of multiplied shares go on until none helps.
    """
    own_K = np.maximum(space.own, 1e-12)

    def cost(share_NK: Floats) -> Floats:
        divergence_N = (share_NK * np.log(np.maximum(share_NK, 1e-12) / own_K)).sum(1)
        found: Floats = used.predict(share_NK) + noise * divergence_N
        return found

    inside_K = fitted(own_K[None], space)
    start_NK = np.vstack([candidate_NK, inside_K])
    here_NK = start_NK[np.argsort(cost(start_NK))[:4]]
    generator = np.random.default_rng(0)
    for width in np.geomspace(0.3, 0.003, 24):
        near_NK = np.repeat(here_NK, 16, axis=0)
        near_NK = near_NK * np.exp(width * generator.standard_normal(near_NK.shape))
        all_NK = np.vstack([here_NK, fitted(np.maximum(near_NK, 1e-9), space)])
        here_NK = all_NK[np.argsort(cost(all_NK))[:4]]
    best_K: Floats = here_NK[0]
    return best_K
