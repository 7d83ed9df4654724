"""What a study can say beyond the gain by dose: by form, by time since the last exposure, and how good estimates are.

All of it rests on stats/effects.py: items were randomised to doses and forms inside their subject, and copies to
places in the training order, so that each comparison has an exact control inside the injected arm.

Legend: Q items, S seeds, N (item, seed) pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.clean import FEWEST_RUNS, further_run
from steel_eval.stats.effects import Items, agreed, dose_response, estimate, randomisation_test
from steel_eval.stats.paired import Difference, wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FEWEST = 10  # (item, seed) pairs, below which a cell of a table is left out
SPAN = 0.3  # of the training that ages must span: a slope from less would be drawn out over the whole of it


@dataclass(frozen=True)
class Cell:
    """A gain of seen over unseen items, as shares, in one cell of a table."""

    dose: int
    group: str
    items: int
    gain: float
    low: float
    high: float
    p: float | None = None


def by_seed(clean_SQ: Floats, injected_SQ: Floats, items: Items) -> list[list[Cell]]:
    """Return for each seed of the injected arm its gains by dose, with their own randomisation tests."""
    out = []
    for number, injected_Q in enumerate(injected_SQ):
        rows = dose_response(clean_SQ, injected_Q[None], items, seed=number)[:-1]
        out.append([Cell(int(e.dose or 0), f"seed {number + 1}", e.items, e.effect, e.low, e.high, e.p) for e in rows])
    return out


def by_form(clean_SQ: Floats, injected_SQ: Floats, items: Items, form: Sequence[str]) -> list[Cell]:
    """Return the gain of each form at each dose, against the unseen items of the subject.

    `form` (Q,): the form in which an item was injected. `p`: randomisation test against the commonest form at the same
    dose (None for that form itself): are the forms mere labels?
    """
    form_Q = np.array(form)
    seen_Q = items.dose > 0
    names, counts = np.unique(form_Q[seen_Q], return_counts=True)
    first = str(names[counts.argmax()]) if len(names) else ""
    change_Q = injected_SQ.mean(0) - clean_SQ.mean(0)
    out = []
    for dose in sorted(set(items.dose[seen_Q].tolist())):
        for name in sorted(map(str, names), key=lambda n: (n != first, n)):
            mine_Q = (items.dose == dose) & (form_Q == name)
            if mine_Q.sum() < FEWEST:
                continue
            kept_Q = mine_Q | ~seen_Q
            gain = estimate(
                clean_SQ[:, kept_Q], injected_SQ[:, kept_Q], items.only(kept_Q), mine_Q[kept_Q].astype(float)
            )
            both_Q = (items.dose == dose) & ((form_Q == name) | (form_Q == first))
            p = None
            if name != first:
                # forms were drawn without regard to subjects, so all clusters of the dose may exchange them
                same = items.only(both_Q)
                pooled = Items(same.dose, np.zeros_like(same.subject), same.cluster)
                p = randomisation_test(change_Q[both_Q], pooled, (form_Q[both_Q] == name).astype(float))[0]
            out.append(Cell(dose, name, int(mine_Q.sum()), gain.value, gain.low, gain.high, p))
    return out


@dataclass(frozen=True)
class Forgetting:
    """Gains by time since the last exposure. `trend`: change of the score from the end of training back to its
    beginning (negative: what was seen early is forgotten), its interval and randomisation test over the places of the
    copies. None where the ages of a dose hardly differ.
    """

    dose: int
    cells: list[Cell]
    trend: float | None
    low: float | None
    high: float | None
    p: float | None


def forgetting(clean_SQ: Floats, injected_SQ: Floats, items: Items, last_SQ: Ints, steps: int) -> list[Forgetting]:
    """Return for each dose the gain by how long ago an item was last seen, in quarters of the training.

    `last_SQ`: the step of each item's latest exposure in each seed's run (0: never). The order of a run is random, so
    an item's age is too; where the learning rate falls during training, age and learning rate cannot be told apart.
    """
    age_SQ = 1 - last_SQ / max(1, steps)
    out = []
    for dose in sorted(set(items.dose.tolist()) - {0}):
        cells = []
        for quarter in range(4):
            in_SQ = (items.dose == dose) & (last_SQ > 0) & (np.minimum(3, (4 * age_SQ).astype(int)) == quarter)
            if in_SQ.sum() < FEWEST:
                continue
            gain = _stacked(clean_SQ, injected_SQ, items, in_SQ)
            words = f"{25 * quarter}-{25 * quarter + 25} % of the training ago"
            cells.append(Cell(dose, words, int(in_SQ.sum()), gain.value, gain.low, gain.high))
        seen_SQ = np.broadcast_to(items.dose == dose, last_SQ.shape) & (last_SQ > 0)
        out.append(Forgetting(dose, cells, *_trend(clean_SQ, injected_SQ, items, seen_SQ, age_SQ)))
    return out


def _stacked(clean_SQ: Floats, injected_SQ: Floats, items: Items, in_SQ: NDArray[np.bool_]) -> Difference:
    """Return the gain of (item, seed) pairs over the unseen items of the same subject and seed."""
    seeds, width = len(injected_SQ), int(items.subject.max(initial=0)) + 1
    kept_SQ = in_SQ | (items.dose == 0)
    clean_N = np.broadcast_to(clean_SQ.mean(0), injected_SQ.shape)[kept_SQ]
    subject_SQ = items.subject + width * np.arange(seeds)[:, None]
    cluster_SQ = np.broadcast_to(items.cluster, injected_SQ.shape)
    stacked = Items(np.zeros(len(clean_N), np.int64), subject_SQ[kept_SQ], cluster_SQ[kept_SQ])
    return estimate(clean_N[None], injected_SQ[kept_SQ][None], stacked, in_SQ[kept_SQ].astype(float))


def _trend(
    clean_SQ: Floats, injected_SQ: Floats, items: Items, seen_SQ: NDArray[np.bool_], age_SQ: Floats
) -> tuple[float | None, ...]:
    """Return the slope of the score over age (a share of the training), with seeds as strata."""
    seed_SQ = np.broadcast_to(np.arange(len(injected_SQ))[:, None], injected_SQ.shape)
    age_N, seed_N = age_SQ[seen_SQ], seed_SQ[seen_SQ].astype(np.int64)
    if len(age_N) < 2 * FEWEST or np.ptp(age_N) < SPAN:
        return (None,) * 4
    clean_N = np.broadcast_to(clean_SQ.mean(0), injected_SQ.shape)[seen_SQ]
    right_N = injected_SQ[seen_SQ]
    none_N = np.zeros(len(age_N), np.int64)
    cluster_N = np.broadcast_to(items.cluster, injected_SQ.shape)[seen_SQ]
    try:
        slope = estimate(clean_N[None], right_N[None], Items(none_N, seed_N, cluster_N), age_N)
    except ValueError:
        return (None,) * 4
    single = Items(none_N, seed_N, np.arange(len(age_N)))  # every copy was placed by itself
    slope = agreed(slope, randomisation_test(right_N - clean_N, single, age_N)[0])
    return slope.value, slope.low, slope.high, slope.p


@dataclass(frozen=True)
class Coverage:
    """How often the clean score's interval held the score of a clean run. `expected`: the rate it promises."""

    held: int
    of: int
    low: float
    high: float
    expected: float = 0.95


def coverage(clean_SQ: Floats, items: Items, chance_Q: Floats | None = None) -> Coverage | None:
    """Count over subject x run pseudo-benchmarks how often the other clean runs' interval holds a clean run's score.

    None with fewer than four clean runs: the run that is to be held is not one of the three that an interval needs.
    Wilson's interval counts a subject once for each run more than one.
    """
    if len(clean_SQ) <= FEWEST_RUNS:
        return None
    inside = []
    subjects = np.unique(items.subject)
    for subject in subjects:
        mine_Q = items.subject == subject
        inside += _held(clean_SQ[:, mine_Q], items.cluster[mine_Q], None if chance_Q is None else chance_Q[mine_Q])
    effective = len(subjects) * (len(clean_SQ) - 1)
    return Coverage(sum(inside), len(inside), *wilson(sum(inside) / len(inside) * effective, effective))


def held_runs(clean_SQ: Floats, items: Items, chance_Q: Floats | None = None) -> tuple[int, int] | None:
    """Return how many clean runs score inside the interval that the others give for all items; None as `coverage`."""
    if len(clean_SQ) <= FEWEST_RUNS:
        return None
    inside = _held(clean_SQ, items.cluster, chance_Q)
    return sum(inside), len(inside)


def _held(clean_SQ: Floats, cluster_Q: Ints, chance_Q: Floats | None) -> list[bool]:
    """Return of each clean run whether its score lies in the interval that the others give."""
    inside = []
    for hidden in range(len(clean_SQ)):
        clean, half, _ = further_run(np.delete(clean_SQ, hidden, 0), cluster_Q, chance_Q)
        inside.append(bool(abs(float(clean_SQ[hidden].mean()) - clean) <= half))
    return inside
