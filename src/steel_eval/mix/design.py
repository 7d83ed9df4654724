"""Which mixtures are trained: quasi-random shares around the recipe's own, inside what bounds and data allow.

Shares here are of what varies: they sum to 1. A factor is drawn for each source, even in its logarithm between the
bounds (Sobol's sequence, scrambled); then all factors grow or shrink together, each stopping at its bound, until the
shares sum to 1. So every draw is a mixture that can be built, and the first arms of a larger search are those of a
smaller one.

Legend: K sources that vary, N mixtures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_data.errors import InputError

Floats = NDArray[np.float64]
FACTOR = 3.0  # a share without bounds of its own may be a third of the recipe's, or three times it (arXiv 2508.11953)
_CANDIDATES = 10  # 2 ** 10 mixtures, of which each arm is the one farthest from those before it
_NONE = 0.02  # of the upper bound: below it a share is drawn as if the bound were here


@dataclass(frozen=True)
class Space:
    """The mixtures that a search may try: `own` shares of the recipe, and what each may be at least and most, (K,)."""

    names: tuple[str, ...]
    own: Floats
    low: Floats
    high: Floats

    @property
    def words(self) -> str:
        """Return the region in words: `chat 0.20 to 0.60, exam 0.10 to 0.90`."""
        return region_words(self.names, self.low, self.high)


def region_words(names: Sequence[str], low: Floats, high: Floats) -> str:
    """Return from what to what each share goes."""
    return ", ".join(f"{n} {a:.3g} to {b:.3g}" for n, a, b in zip(names, low, high, strict=True))


def make_space(
    where: str, own: Mapping[str, float], bounds: Mapping[str, Sequence[float]], most: Mapping[str, float]
) -> Space:
    """Return the space around the recipe's `own` shares (they sum to 1). Raises InputError where no mixture is in it.

    `bounds`: name -> (least, most); `most`: what the data of a source suffice for, its repeats included.
    """
    names = tuple(own)
    share_K = np.array([own[n] for n in names])
    asked_K = np.array([bounds.get(n, (s / FACTOR, min(1.0, s * FACTOR))) for n, s in own.items()], float)
    there_K = np.array([min(1.0, most[n]) for n in names])
    low_K, high_K = asked_K[:, 0], np.minimum(asked_K[:, 1], there_K)
    region = f"Fix: within what the data allow: {region_words(names, np.zeros(len(names)), there_K)}."
    for name, low, high, there in zip(names, low_K, high_K, there_K, strict=True):
        if low > high + 1e-12:
            why = "its data are too few" if low > there else "its bounds are the wrong way round"
            raise InputError(f"{where}: {name} cannot have a share of {low:.3g} or more: {why}. {region}")
    if low_K.sum() > 1 + 1e-9 or high_K.sum() < 1 - 1e-9:
        side = f"at least {low_K.sum():.3g}" if low_K.sum() > 1 else f"at most {high_K.sum():.3g}"
        raise InputError(
            f"{where}: no mixture lies within bounds: the shares sum to {side}, not to 1 "
            f"({region_words(names, low_K, high_K)}). {region}"
        )
    # what the others leave: a bound that no mixture reaches only misleads
    return Space(
        names, share_K, np.maximum(low_K, 1 - (high_K.sum() - high_K)), np.minimum(high_K, 1 - (low_K.sum() - low_K))
    )


def scatter(space: Space, power: int, seed: int) -> Floats:
    """Return 2 ** `power` mixtures of a space, (N, K), quasi-random, the boundary included."""
    from scipy.stats import qmc

    top_K = np.maximum(space.high, 1e-9)
    bottom_K = np.maximum(space.low, _NONE * top_K)
    unit_NK = qmc.Sobol(len(space.names), scramble=True, rng=np.random.default_rng(seed)).random_base2(power)
    return fitted(np.exp(np.log(bottom_K) + unit_NK * np.log(top_K / bottom_K)), space)


def fitted(factor_NK: Floats, space: Space) -> Floats:
    """Scale each row of positive factors until, each clipped to its bounds, they sum to 1; exact to 1e-12."""
    low_N1, high_N1 = np.full((len(factor_NK), 1), -60.0), np.full((len(factor_NK), 1), 60.0)
    for _ in range(100):
        middle_N1 = (low_N1 + high_N1) / 2
        over_N1 = np.clip(factor_NK * np.exp(middle_N1), space.low, space.high).sum(1, keepdims=True) > 1
        low_N1, high_N1 = np.where(over_N1, low_N1, middle_N1), np.where(over_N1, middle_N1, high_N1)
    share_NK: Floats = np.clip(factor_NK * np.exp(low_N1), space.low, space.high)
    return share_NK


def choose_arms(space: Space, runs: int, seed: int) -> Floats:
    """Return the mixtures to train, (`runs`, K): each the farthest of many quasi-random ones from all before it.

    Distances are of logarithms, the first from the recipe's own mixture. Fewer runs are the first of more.
    """
    candidate_NK = scatter(space, _CANDIDATES, seed)
    place_NK = np.log(candidate_NK / np.maximum(space.own, 1e-9) + 0.1)
    distance_N = ((place_NK - np.log(1.1)) ** 2).sum(1)
    chosen: list[int] = []
    for _ in range(runs):
        chosen.append(int(distance_N.argmax()))
        distance_N = np.minimum(distance_N, ((place_NK - place_NK[chosen[-1]]) ** 2).sum(1))
    return candidate_NK[chosen]
