"""Searches over simulated mixtures of which the truth is known: `python bench/mix_worlds.py [--worlds 200]`.

Three kinds of worlds, each with random sources, shares and arms: a clear optimum (power laws of a source's tokens), a flat
surface, an interaction of two sources. Printed: how often a winner is named, its regret against the best mixture (in
units of one run's noise), and how often 90 % prediction intervals hold the value of a new run.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from steel_eval.mix.choose import Observed, choose
from steel_eval.mix.design import Floats, Space, choose_arms, make_space, scatter

KINDS = ("clear optimum", "flat", "interaction")
NEW = 20  # mixtures a world whose runs, each with a new seed, are predicted
SHARED = 0.75  # of the variance between runs: what those of one seed share (docs/results/mix.md)


def space_of(rng: np.random.Generator, sources: int) -> Space:
    own_K = rng.dirichlet(np.full(sources, 4.0)).clip(0.05)
    own_K /= own_K.sum()
    names = [f"s{k}" for k in range(sources)]
    return make_space("world", dict(zip(names, own_K, strict=True)), {}, dict.fromkeys(names, 1.0))


def surface_of(kind: str, rng: np.random.Generator, space: Space) -> Callable[[Floats], Floats]:
    """Return the true loss of mixtures, in units of noise; its range over the space is 8 where it is not flat."""
    sources = len(space.names)
    need_K = rng.dirichlet(np.full(sources, 1.0))

    def power(share_NK: Floats) -> Floats:
        return (need_K * (share_NK + 0.05) ** -0.5).sum(1)

    def interaction(share_NK: Floats) -> Floats:
        return -share_NK[:, 0] * share_NK[:, 1] - 0.1 * share_NK @ need_K

    def flat(share_NK: Floats) -> Floats:
        return np.zeros(len(share_NK))

    raw = {"clear optimum": power, "flat": flat, "interaction": interaction}[kind]
    values = raw(scatter(space, 11, 5))
    unit = 8 / np.ptp(values) if np.ptp(values) else 1.0
    return lambda share_NK: unit * (raw(share_NK) - values.min())


def world(kind: str, seed: int, sources: int, runs: int, centre: int, shared: float = SHARED) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    space = space_of(rng, sources)
    truth = surface_of(kind, rng, space)
    share_NK = np.vstack([np.tile(space.own, (centre, 1)), choose_arms(space, runs, seed)])
    seed_N = np.arange(len(share_NK)) % centre
    of_seed_N = np.sqrt(shared) * rng.standard_normal(centre)[seed_N]
    value_N = truth(share_NK) + of_seed_N + np.sqrt(1 - shared) * rng.standard_normal(len(share_NK))
    found = choose(space, Observed(share_NK, value_N, np.arange(len(share_NK)) < centre, seed_N), seed)
    assert found is not None
    new_NK = scatter(space, 6, seed + 1)[:NEW]
    new_N = truth(new_NK) + rng.standard_normal(NEW)
    held_N = np.abs(new_N - found.fit.predict(new_NK)) <= found.fit.half_width(new_NK)
    at_best, at_own, possible = (
        float(v) for v in (truth(found.best[None])[0], truth(space.own[None])[0], truth(scatter(space, 12, 9)).min())
    )
    return {
        "named": found.named, "held": float(held_N.mean()), "regret": (at_best if found.named else at_own) - possible,
        "own": at_own - possible, "best": at_best - possible, "gain held": found.gain.low <= at_own - at_best <= found.gain.high, "noise": found.noise,
    }  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--worlds", type=int, default=200)
    arguments.add_argument("--sources", type=int, default=3)
    arguments.add_argument("--runs", type=int, default=0, help="arms beside the centre; 0: four a source")
    arguments.add_argument("--centre", type=int, default=4)
    arguments.add_argument("--shared", type=float, default=SHARED, help="of a run's variance: what its seed brings")
    said = arguments.parse_args()
    runs = said.runs or 4 * said.sources
    print(f"{said.worlds} worlds of each kind, {said.sources} sources, {runs} arms + {said.centre} of the recipe's own")
    print("kind             named  regret: mean  median  (own  best)   in 90 % intervals  gain in its  s/world")
    for kind in KINDS:
        start = time.process_time()
        rows = [world(kind, seed, said.sources, runs, said.centre, said.shared) for seed in range(said.worlds)]
        seconds = (time.process_time() - start) / said.worlds
        mean = {key: float(np.mean([r[key] for r in rows])) for key in rows[0]}
        median = float(np.median([r["regret"] for r in rows]))
        print(
            f"{kind:15}  {mean['named']:5.1%}  {mean['regret']:12.2f}  {median:6.2f}  ({mean['own']:.2f} {mean['best']:.2f})"
            f"   {mean['held']:17.1%}  {mean['gain held']:11.1%}  {seconds:7.3f}"
        )


if __name__ == "__main__":
    main()
