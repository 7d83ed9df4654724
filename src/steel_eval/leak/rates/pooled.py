"""Error rates from a crossed pool of runs: each saw other items, and was compared with a reference of its own.

As error_rates.py and false_alarms.py have them of a study's seeds, which share one draw. A run's hits are counted above
the cut that its own unseen items give. A set is tested one-sided, by exchange (stats/crossed.run_test).

Legend: R runs, I items.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_eval.leak.detectors.reference import rank_p_values
from steel_eval.leak.rates.false_alarms import CONTROLS, FEWEST, LEVEL, half_of
from steel_eval.leak.rates.table import AUC, BENCHMARKS, HITS, ITEMS, SIDES, Rate
from steel_eval.stats.crossed import pool_area, run_test, spread_over_runs
from steel_eval.stats.detection import fewest_unseen, share_interval
from steel_eval.stats.effects import Items
from steel_eval.stats.paired import wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DRAWS = 199  # exchanges of a test of which only "at 5 %" is asked
UNSEEN = "unseen"


def pooled_rates(detector: str, change_RI: Floats, dose_RI: Ints, items: Items) -> Iterator[Rate]:
    """Yield AUC and hits at 5 % of each dose above 0, and how often unseen items and subjects are accused at 5 %.

    `change_RI`: a run's score less its reference, NaN where there is none; `items`: subjects and clusters (its doses
    are not read).
    """
    unseen_RI = (dose_RI == 0) & ~np.isnan(change_RI)
    for dose in sorted(set(dose_RI.ravel().tolist()) - {0}):
        found = pool_area(change_RI, dose_RI, dose, items.subject, items.cluster)
        if found is None:
            continue
        about: dict[str, Any] = {
            "detector": detector, "of": "seen", "dose": dose, "form": "all", "controls": UNSEEN, "n": found.pairs,
            "unseen": int(unseen_RI.sum(1).min()),
        }  # fmt: skip
        yield Rate(what=AUC, value=found.auc, low=found.low, high=found.high, by_seed=list(found.by_run), **about)
        yield from _hits(change_RI, dose_RI == dose, unseen_RI, about)
    for controls in SIDES:
        yield from _items(detector, change_RI, unseen_RI, items, controls)
        yield from _benchmarks(detector, change_RI, unseen_RI, items, controls)


def _hits(change_RI: Floats, seen_RI: Any, unseen_RI: Any, about: dict[str, Any]) -> Iterator[Rate]:
    """Yield the share of seen items above their run's cut; none without enough unseen ones."""
    what, rate = next(iter(HITS.items()))
    by_run = []
    for change_I, seen_I, unseen_I in zip(change_RI, seen_RI & ~np.isnan(change_RI), unseen_RI, strict=True):
        if seen_I.any() and unseen_I.sum() >= fewest_unseen(rate):
            ordered = np.sort(change_I[unseen_I])
            cut = ordered[len(ordered) - 1 - int(rate * len(ordered))]
            by_run.append((float((change_I[seen_I] > cut).mean()), float(seen_I.sum())))
    if by_run:
        share_R, count_R = (np.array(column) for column in zip(*by_run, strict=True))
        value, pairs = float(share_R @ count_R / count_R.sum()), int(count_R.sum())
        variance, quantile = spread_over_runs(share_R, count_R, value)
        variance = max(variance, value * (1 - value) / pairs)
        low, high = share_interval(value, variance, quantile, pairs, seeds=1)
        yield Rate(what=what, value=value, low=low, high=high, by_seed=share_R.tolist(), **about)


def _items(detector: str, change_RI: Floats, unseen_RI: Any, items: Items, controls: str) -> Iterator[Rate]:
    """Yield the share of unseen items that rank p accuses; the runs' splits are one sample of items."""
    accused, tested, effective = 0, 0, np.inf
    for run, (change_I, known_I) in enumerate(zip(change_RI, unseen_RI, strict=True)):
        unit_I = items.cluster if controls == "same subjects" else items.subject
        mine_I = known_I & half_of(unit_I, known_I, np.random.default_rng([run, 0]))
        other_I = known_I & ~mine_I & ~np.isin(items.cluster, items.cluster[mine_I])
        if mine_I.any() and other_I.sum() >= CONTROLS:
            accused += int((rank_p_values(change_I[mine_I], change_I[other_I]) <= LEVEL).sum())
            tested += int(mine_I.sum())
            n, m = (len(np.unique(items.cluster[side])) for side in (mine_I, other_I))
            effective = min(effective, n * m / (n + m))
    if tested:
        rate = accused / tested
        low, high = wilson(rate * effective, effective)
        yield Rate(
            detector=detector, what=ITEMS, of=UNSEEN, controls=controls, n=tested, value=rate, low=low, high=high
        )


def _benchmarks(detector: str, change_RI: Floats, unseen_RI: Any, items: Items, controls: str) -> Iterator[Rate]:
    """Yield the share of subjects (of a run, each a benchmark) that the one-sided test accuses."""
    accused: list[bool] = []
    groups = _groups(items.subject, unseen_RI.all(0))
    for run, (change_I, known_I) in enumerate(zip(change_RI, unseen_RI, strict=True)):
        for number, subjects in enumerate(groups):
            generator = np.random.default_rng([run, number])
            mine_I, subject_I = np.isin(items.subject, subjects) & known_I, items.subject
            if controls == "same subjects":
                tested_I, kept_I = np.zeros(len(mine_I), bool), mine_I
                for subject in subjects:
                    tested_I |= half_of(items.cluster, mine_I & (items.subject == subject), generator)
            else:
                free = np.flatnonzero(known_I & ~mine_I & ~np.isin(items.cluster, items.cluster[mine_I]))
                tested_I, kept_I, subject_I = mine_I, mine_I.copy(), np.zeros(len(mine_I), np.int64)
                kept_I[generator.permutation(free)[: int(mine_I.sum())]] = True
            if 0 < (tested_I & kept_I).sum() < kept_I.sum():
                gain, tested, subject, cluster = (x[kept_I] for x in (change_I, tested_I, subject_I, items.cluster))
                accused.append(run_test(gain, tested, subject, cluster, DRAWS) <= LEVEL)
    if accused:
        # with controls from elsewhere a subject counts once, however many runs asked it
        units = len(accused) if controls == "same subjects" else min(len(accused), len(groups))
        rate = float(np.mean(accused))
        low, high = wilson(rate * units, units)
        yield Rate(
            detector=detector, what=BENCHMARKS, of=UNSEEN, controls=controls, n=len(accused), subjects=len(groups),
            value=rate, low=low, high=high,
        )  # fmt: skip


def _groups(subject_I: Ints, known_I: Any) -> Sequence[Ints]:
    """Return the subjects of each pseudo-benchmark: neighbours together where one has few items."""
    groups: list[list[int]] = []
    gathered: list[int] = []
    for subject in np.unique(subject_I).tolist():
        gathered.append(subject)
        if (np.isin(subject_I, gathered) & known_I).sum() >= FEWEST:
            groups.append(gathered)
            gathered = []
    if groups:
        groups[-1] += gathered
    return [np.array(group) for group in groups]
