"""The content of `surface.json`: every arm with its shares and values, the surface through them, and what it allows.

The objective is the mean of the measures, turned so that lower is better; gains are turned back: positive is better.
A measure of which the arms know no more than chance is refused, and counts for nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steel_eval.mix.choose import Choice, Observed, choose
from steel_eval.mix.design import Floats, Space
from steel_eval.mix.measure import ArmResult
from steel_eval.mix.pool import Pool
from steel_eval.mix.settings import SearchMeasure, SearchSettings
from steel_eval.mix.surface import LEVEL, averaged, doubling
from steel_eval.stats.paired import seeds_and_questions

_CHANCE = 1.645  # standard errors above chance that a measure must be, averaged over all arms


@dataclass(frozen=True)
class Run:
    """One trained arm. `kind`: centre (the recipe's own shares), design, next; `share` (K,): of what varies."""

    kind: str
    arm: str
    seed: int
    shares: dict[str, float]
    share: Floats
    measured: ArmResult


def surface_of(pool: Pool, space: Space, settings: SearchSettings, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what `surface.json` says of these runs; `lowest`: the shares where the surface is best, named or not."""
    measure = settings.measure
    there = [run for run in runs if not run.measured.failed]
    failed = {f"{run.arm}, seed {run.seed}": run.measured.failed for run in runs if run.measured.failed}
    refused = {name: why for name in measure.names if (why := _at_chance(there, name))}
    used = [name for name in measure.names if name not in refused]
    choice = None
    if used and there:
        value_N = np.mean([[run.measured.value[n] for n in used] for run in there], axis=1) * measure.sign
        observed = Observed(
            np.array([r.share for r in there]),
            value_N,
            np.array([run.kind == "centre" for run in there]),
            np.array([r.seed for r in there]),
        )
        choice = choose(space, observed, settings.seed)
    verdict, why = _verdict(choice, used, refused, len(there))
    return {
        "verdict": verdict,
        "why": why,
        "proposal": _named(pool, choice.best) if choice and choice.named else None,
        "gain": {k: v * 1.0 for k, v in vars(choice.gain).items()} if choice else None,
        "lowest": _named(pool, choice.best) if choice else None,
        "own": pool.own,
        "vary": list(pool.vary),
        "bounds": _ranges(pool, space.low, space.high),
        "region": _ranges(pool, *choice.region) if choice else None,
        "room": choice.room if choice else None,
        "measures": {n: {"unit": measure.unit, "lower_is_better": measure.sign > 0} for n in measure.names},
        "refused": refused,
        "failed": failed,
        "arms": _arms(runs, there, choice, measure),
        "effects": _effects(pool, space, there, used),
        "noise_floor": {name: _noise(there, name) for name in measure.names},
        "loo_error": choice.loo[choice.fit.form] if choice else None,
        "loo": choice.loo if choice else {},
        "spread": choice.spread if choice else None,
        "objective": {
            "of": used, "noise_floor": choice.noise if choice else None, "form": choice.fit.form if choice else None,
        },
        "level": LEVEL,
        "candidates": _candidates(pool, choice, measure.sign),
        "notes": list(pool.notes),
        "confirmed": None,
        "rank": None,
    }  # fmt: skip


def _named(pool: Pool, share_K: Floats) -> dict[str, float]:
    return {name: round(share, 6) for name, share in pool.shares(share_K).items()}


def _at_chance(runs: Sequence[Run], name: str) -> str:
    """Return why a measure is refused, "" where the arms together know more than a guess."""
    if not runs:
        return ""
    above_Q = np.mean([run.measured.above_chance[name] for run in runs], axis=0)
    spread = float(np.std(above_Q, ddof=1)) if len(above_Q) > 1 else np.inf
    if above_Q.mean() > _CHANCE * spread / np.sqrt(len(above_Q)):
        return ""
    return "at chance: the proxy has not learnt what this measures"


def _verdict(choice: Choice | None, used: Sequence[str], refused: Mapping[str, str], runs: int) -> tuple[str, str]:
    """Return the verdict and the reason of what is not named."""
    if not used and refused:
        return "not-measurable", "every measure is at chance: the proxy has not learnt what they measure"
    if choice is None:
        return "not-measurable", f"{runs} arms with values are too few for a surface"
    return ("better", "") if choice.named else ("nothing-to-choose", choice.why)


def _ranges(pool: Pool, low_K: Floats, high_K: Floats) -> dict[str, list[float]]:
    """Return least and most share of all tokens by name."""
    ends = zip(pool.vary, low_K.tolist(), high_K.tolist(), strict=True)
    return {name: [low * pool.varied, high * pool.varied] for name, low, high in ends}


def _arms(
    runs: Sequence[Run], there: Sequence[Run], choice: Choice | None, measure: SearchMeasure
) -> list[dict[str, Any]]:
    """Return every arm; `predicted`: the objective as the other arms predict it, with its interval."""
    places = {id(run): i for i, run in enumerate(there)}
    out = []
    half_N = choice.fit.out_of_sample() if choice else None
    for run in runs:
        row: dict[str, Any] = {
            "name": run.arm, "kind": run.kind, "seed": run.seed, "shares": run.shares,
            "measures": {n: run.measured.value.get(n) for n in measure.names}, "failed": run.measured.failed or None,
            "observed": None, "predicted": None, "low": None, "high": None,
        }  # fmt: skip
        if choice is not None and half_N is not None and id(run) in places:
            i = places[id(run)]
            observed = float(choice.observed.value[i])
            ends = sorted(measure.sign * (observed - choice.fit.error[i] + s * half_N[i]) for s in (-1, 1))
            row |= {"observed": measure.sign * observed, "predicted": sum(ends) / 2, "low": ends[0], "high": ends[1]}
        out.append(row)
    return out


def _effects(
    pool: Pool, space: Space, runs: Sequence[Run], used: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return source -> measure -> what doubling the source's share changes it by, in the measure's own unit."""
    from scipy.stats import t

    out: dict[str, dict[str, dict[str, float]]] = {name: {} for name in pool.vary}
    for measure in used if runs else ():
        found = averaged(
            "log-linear", space.own, np.array([r.share for r in runs]),
            np.array([r.measured.value[measure] for r in runs]), np.array([r.seed for r in runs]),
        )  # fmt: skip
        if found is None:
            continue
        change_K, error_K = doubling(found)
        reach = float(t.ppf((1 + LEVEL) / 2, found.freedom))
        for name, change, error in zip(pool.vary, change_K.tolist(), error_K.tolist(), strict=True):
            out[name][measure] = {"per_doubling": change, "low": change - reach * error, "high": change + reach * error}
    return out


def _noise(runs: Sequence[Run], name: str) -> float | None:
    """Return the standard deviation of a measure between runs of the recipe's own mixture."""
    values = [run.measured.value[name] for run in runs if run.kind == "centre"]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _candidates(pool: Pool, choice: Choice | None, sign: int) -> list[dict[str, Any]]:
    """Return some mixtures with the objective that the surface predicts, for the page."""
    if choice is None:
        return []
    share_NK = choice.candidates[:512]
    value_N = choice.fit.predict(share_NK) * sign
    return [
        {"shares": [round(float(s), 4) for s in share_K * pool.varied], "value": float(v), "open": bool(o)}
        for share_K, v, o in zip(share_NK, value_N, choice.open, strict=False)
    ]


def confirmation(runs: Sequence[Run], measure: SearchMeasure, used: Sequence[str]) -> dict[str, Any]:
    """Return what fresh seeds of proposal and own mixture show: by each measure that is used, and `all` of them as one.

    Gains: positive is better; seeds and rows (or questions) vary together, 95 % intervals.
    """
    failed = [f"{r.arm}, seed {r.seed}: {r.measured.failed}" for r in runs if r.measured.failed]
    sides = {kind: [r for r in runs if r.kind == kind and not r.measured.failed] for kind in ("centre", "proposal")}
    out: dict[str, Any] = {"seeds": {k: [r.seed for r in v] for k, v in sides.items()}, "failed": failed, "gains": {}}
    if min(len(v) for v in sides.values()) < 2:
        return out | {"all": None}
    stacked: dict[str, list[Floats]] = {"centre": [], "proposal": []}
    for name in used:
        a_SQ, b_SQ = ([-measure.sign * r.measured.items[name] for r in sides[kind]] for kind in ("centre", "proposal"))
        out["gains"][name] = _difference(np.array(a_SQ), np.array(b_SQ), np.zeros(len(a_SQ[0]), np.int64))
        stacked["centre"].append(np.array(a_SQ))
        stacked["proposal"].append(np.array(b_SQ))
    which_Q = np.repeat(np.arange(len(used)), [x.shape[1] for x in stacked["centre"]])
    return out | {"all": _difference(np.hstack(stacked["centre"]), np.hstack(stacked["proposal"]), which_Q)}


def _difference(a_SQ: Floats, b_SQ: Floats, which_Q: Any) -> dict[str, float]:
    found = seeds_and_questions(a_SQ, b_SQ, which_Q, macro=True)
    return {"value": found.value, "low": found.low, "high": found.high, "p": found.p}
