"""How often the interval for a clean run holds the score of one that it does not know.

The clean runs that are known tell it alone (stats/clean.py), so an injected run gives the benchmark only: which items are
asked. "This run alone" speaks of the injected run, and is shown beside it to say how little of a further run that is.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from bench.truth_pool.results import Done, Floats, Pool

from steel_eval.stats.clean import FEWEST_RUNS, clean_score
from steel_eval.stats.effects import Items
from steel_eval.stats.paired import wilson

CHANCE = 0.25


def clean_scores(pool: Pool, judged: Sequence[Done]) -> Iterator[dict[str, Any]]:
    """Yield coverage, half-width and bias by what is known and by size of benchmark.

    Pairs are (clean run, benchmark); intervals of one clean run share it, so Wilson's interval counts clean runs.
    """
    cases: dict[Any, list[tuple[str, bool, float, float]]] = {}
    truths = [r for r in judged if not r.plan.doses]
    for truth in truths:
        known_RI = np.reshape([r.right_I for r in pool.clean if r.plan != truth.plan], (-1, len(truth.right_I)))
        for run, size, inside_I in _benchmarks(judged):
            for count in dict.fromkeys((len(known_RI), FEWEST_RUNS, 0)):
                if count and not FEWEST_RUNS <= count <= len(known_RI):
                    continue
                case = _case(pool, truth, run, inside_I, known_RI[:count])
                cases.setdefault((-count, size), []).append(case)
    every = list({r.plan: r for r in [*pool.clean, *truths]}.values())
    if len(every) > len(pool.clean):
        for truth in every:
            others = [r for r in every if r.plan != truth.plan]
            everything_I = np.ones(len(truth.right_I), bool)
            for some in itertools.combinations(others, 4):
                case = _case(pool, truth, truth, everything_I, np.stack([r.right_I for r in some]))
                cases.setdefault((1, len(everything_I)), []).append(case)
    for (count, size), some in sorted(cases.items()):
        knows = "any 4 of all clean runs" if count > 0 else f"{-count} clean runs" if count else "this run alone"
        yield {"model": pool.model, "loss": pool.loss, "knows": knows, "items": size, **_coverage(some)}


def before_and_now(pools: Sequence[Pool], before: set[str]) -> Iterator[dict[str, Any]]:
    """Yield coverage of sealed clean runs by the fitted ones, over losses: of runs that had been opened `before`, of others."""
    for words, chosen in (("opened before", True), ("sealed until now", False)):
        for every in (False, True):
            some = []
            for pool in pools:
                known_RI = np.stack([r.right_I for r in pool.clean])
                for truth in (r for r in pool.sealed if not r.plan.doses and (r.plan.name in before) == chosen):
                    for run, size, inside_I in _benchmarks(pool.sealed):
                        if (size == len(inside_I)) == every:
                            some.append(_case(pool, truth, run, inside_I, known_RI))
            if some:
                asked = "all 1,200" if every else "a benchmark of 150 to 600"
                yield {"clean runs": words, "items": asked, **_coverage(some)}


def _benchmarks(judged: Sequence[Done]) -> Iterator[tuple[Done, int, Any]]:
    """Yield each injected run with its benchmark, and with all items."""
    for run in judged:
        if run.plan.doses:
            everything_I = np.ones(len(run.dose_I), bool)
            for size, inside_I in {run.plan.size: run.inside_I, len(everything_I): everything_I}.items():
                yield run, size, inside_I


def _case(pool: Pool, truth: Done, run: Done, inside_I: Any, known_RI: Floats) -> tuple[str, bool, float, float]:
    items = Items(run.dose_I, pool.subject_I, np.arange(len(run.dose_I))).only(inside_I)
    known, chance = known_RI[:, inside_I], np.full(int(inside_I.sum()), CHANCE)
    made = clean_score(run.right_I[inside_I], items, None, known, chance)
    value = float(truth.right_I[inside_I].mean())
    return truth.plan.name, made.low <= value <= made.high, (made.high - made.low) / 2, made.clean - value


def _coverage(cases: Sequence[tuple[str, bool, float, float]]) -> dict[str, Any]:
    names, *columns = zip(*cases, strict=True)
    held, half, off = (np.array(column, float) for column in columns)
    truths, share = len(set(names)), float(held.mean())
    low, high = wilson(share * truths, truths)
    return {
        "half_points": 100 * float(np.median(half)), "bias_points": 100 * float(off.mean()),
        "share": share, "low": low, "high": high, "n": len(held), "truths": truths,
    }  # fmt: skip
