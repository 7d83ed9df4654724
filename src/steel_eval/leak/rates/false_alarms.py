"""How often a detector accuses items that nobody has seen: of single items, and of whole benchmarks.

Only unseen items enter: those of dose 0 in the injected seeds, and every item of pairs in which none was seen
(`nulls`). Each seed parts them anew into "tested" and "controls" and asks what `leak` asks. Where both halves are
random parts of the same subjects, the rank p-value and the randomisation test hold their level by construction, and
the rate is a check of the code and of ties. That is the case of a randomised study. The other case is that of most
users: controls from elsewhere. So every rate is measured a second time with controls from other subjects, where
nothing guarantees it.

Intervals are Wilson's. Of items: one seed's clusters are the sample and other seeds add nothing to it (they ask the
same items), and the cut comes from as many again, so its effective size is n m / (n + m) for n tested and m control
clusters. Of benchmarks: with controls from the same subjects the split alone decides, which is drawn for each seed,
so every test counts; with controls from other subjects a subject counts once.

Legend: S seeds, I items.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.leak.detectors.reference import rank_p_values
from steel_eval.leak.rates.error_rates import Scores
from steel_eval.stats.effects import Items, contrast, randomisation_test
from steel_eval.stats.paired import wilson

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
LEVEL = 0.05
CONTROLS = 19  # below, no rank p-value can be as small as 5 %
FEWEST = 20  # items of a pseudo-benchmark: below, the test has hardly any p-values to give


@dataclass(frozen=True)
class ItemAlarms:
    """Items flagged at rank p <= 5 % among items that none saw. `tested` counts items over all seeds; `controls`:
    "same subjects" or "other subjects"; `of`: "unseen" or "nulls".
    """

    detector: str
    of: str
    controls: str
    tested: int
    seeds: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class BenchmarkAlarms:
    """Pseudo-benchmarks with p <= 5 %; `raised`: the share of those in the direction of a leak.

    `subjects`: how many there are in one seed. `controls` as in ItemAlarms, or "the other dose" (`nulls` only: the
    whole benchmark, items that the study would inject against those it would not).
    """

    detector: str
    of: str
    controls: str
    tests: int
    subjects: int
    rate: float
    low: float
    high: float
    raised: float


def item_alarms(scores: Scores, subject_I: Ints, of: str) -> list[ItemAlarms]:
    """Return the rate for both kinds of controls; none with fewer than 19 controls. `scores`: unseen items only."""
    rows = []
    for controls in ("same subjects", "other subjects"):
        flagged, tested, effective = 0, 0, np.inf
        for seed, gain_I in enumerate(scores.gain_SI):
            known_I = ~np.isnan(gain_I)
            unit_I = scores.cluster_I if controls == "same subjects" else subject_I
            mine_I = known_I & half_of(unit_I, known_I, np.random.default_rng([seed, 0]))
            other_I = known_I & ~mine_I
            if controls == "other subjects":  # a cluster may reach over subjects
                other_I &= ~np.isin(scores.cluster_I, scores.cluster_I[mine_I])
            if not mine_I.any() or other_I.sum() < CONTROLS:
                continue
            flagged += int((rank_p_values(gain_I[mine_I], gain_I[other_I]) <= LEVEL).sum())
            tested += int(mine_I.sum())
            n, m = (len(np.unique(scores.cluster_I[side])) for side in (mine_I, other_I))
            effective = min(effective, n * m / (n + m))
        if tested:
            rate = flagged / tested
            low, high = wilson(rate * effective, effective)
            rows.append(ItemAlarms(scores.detector, of, controls, tested, len(scores.gain_SI), rate, low, high))
    return rows


def half_of(unit_I: Ints, among_I: Bools, generator: np.random.Generator) -> Bools:
    """Return a random half of the units (clusters, subjects) that `among_I` holds, as a mask of items."""
    units = np.unique(unit_I[among_I])
    return np.isin(unit_I, generator.permutation(units)[: len(units) // 2])


def benchmark_alarms(scores: Scores, subject_I: Ints, of: str) -> list[BenchmarkAlarms]:
    """Return the rate for both kinds of controls; none where no pseudo-benchmark can be made. Unseen items only.

    A pseudo-benchmark is a subject, or neighbouring subjects together where one has fewer than 20 items with the score.
    """
    groups = list(pseudo_benchmarks(scores, subject_I))
    rows = []
    for controls in ("same subjects", "other subjects") if groups else ():
        found = []
        for seed, gain_I in enumerate(scores.gain_SI):
            for number, group_I in enumerate(groups):
                generator = np.random.default_rng([seed, number])
                known_I = ~np.isnan(gain_I)
                if controls == "same subjects":
                    found.append(same_subjects(scores, gain_I, subject_I, group_I & known_I, generator))
                else:
                    found.append(other_subjects(scores, gain_I, group_I & known_I, known_I & ~group_I, generator))
        tests = [f for f in found if f is not None]
        if tests:
            units = len(tests) if controls == "same subjects" else min(len(tests), len(groups))
            rows.append(_summary((scores.detector, of, controls), tests, len(groups), units))
    return rows


def pseudo_benchmarks(scores: Scores, subject_I: Ints) -> Iterator[Bools]:
    """Yield masks of items, each at least 20 with a score in every seed; what is left over joins the last."""
    known_I = ~np.isnan(scores.gain_SI).any(0)
    masks: list[Bools] = []
    gathered_I = np.zeros(len(subject_I), bool)
    for subject in np.unique(subject_I):
        gathered_I = gathered_I | ((subject_I == subject) & known_I)
        if gathered_I.sum() >= FEWEST:
            masks.append(gathered_I)
            gathered_I = np.zeros(len(subject_I), bool)
    if masks:
        masks[-1] = masks[-1] | gathered_I
    yield from masks


Test = tuple[float, float]  # p and excess


def same_subjects(
    scores: Scores, gain_I: NDArray[np.float64], subject_I: Ints, among_I: Bools, generator: np.random.Generator
) -> Test | None:
    """Test a random half of the clusters of each subject against the other half."""
    tested_I = np.zeros(len(among_I), bool)
    for subject in np.unique(subject_I[among_I]):
        tested_I |= half_of(scores.cluster_I, among_I & (subject_I == subject), generator)
    return benchmark_test(gain_I[among_I], tested_I[among_I], subject_I[among_I], scores.cluster_I[among_I])


def other_subjects(
    scores: Scores, gain_I: NDArray[np.float64], mine_I: Bools, others_I: Bools, generator: np.random.Generator
) -> Test | None:
    """Test a group of subjects against as many items of other subjects, all in one stratum, as `--control` does."""
    free = np.flatnonzero(others_I & ~np.isin(scores.cluster_I, scores.cluster_I[mine_I]))
    chosen = generator.permutation(free)[: int(mine_I.sum())]
    rows = np.concatenate([np.flatnonzero(mine_I), chosen])
    tested = np.arange(len(rows)) < mine_I.sum()
    return benchmark_test(gain_I[rows], tested, np.zeros(len(rows), np.int64), scores.cluster_I[rows])


def benchmark_test(gain_I: NDArray[np.float64], tested_I: Bools, subject_I: Ints, cluster_I: Ints) -> Test | None:
    """Return p and excess of the test that `leak` makes of a benchmark; None where nothing can be compared."""
    score_I = tested_I.astype(np.float64)
    try:
        excess = float(contrast(score_I, subject_I) @ gain_I)
        items = Items(tested_I.astype(np.int64), subject_I, cluster_I)
    except ValueError:
        return None
    return randomisation_test(gain_I, items, score_I)[0], excess


def whole_benchmark(scores: Scores, subject_I: Ints) -> list[BenchmarkAlarms]:
    """Return how often items that the study would inject differ from the others where neither was seen (`nulls`)."""
    known = scores.known()
    kept_I = ~np.isnan(scores.gain_SI).any(0)
    tests = [benchmark_test(row_I, known.dose_I > 0, subject_I[kept_I], known.cluster_I) for row_I in known.gain_SI]
    made = [f for f in tests if f is not None]
    if not made:
        return []
    return [_summary((scores.detector, "nulls", "the other dose"), made, 1, len(made))]


def _summary(what: tuple[str, str, str], tests: list[Test], subjects: int, units: int) -> BenchmarkAlarms:
    detector, of, controls = what
    rate = float(np.mean([p <= LEVEL for p, _ in tests]))
    raised = float(np.mean([p <= LEVEL and excess > 0 for p, excess in tests]))
    low, high = wilson(rate * units, units)
    return BenchmarkAlarms(detector, of, controls, len(tests), subjects, rate, low, high, raised)
