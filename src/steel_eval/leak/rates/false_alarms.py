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

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from steel_eval.leak.detectors.reference import rank_p_values
from steel_eval.leak.rates.error_rates import Scores
from steel_eval.leak.rates.table import BENCHMARKS, ITEMS, RAISED, SIDES, Rate
from steel_eval.stats.effects import Items, contrast, randomisation_test
from steel_eval.stats.paired import wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
LEVEL = 0.05
CONTROLS = 19  # below, no rank p-value can be as small as 5 %
FEWEST = 20  # items of a pseudo-benchmark: below, the test has hardly any p-values to give


def item_alarms(scores: Scores, of: str) -> Iterator[Rate]:
    """Yield `items accused` for both kinds of controls; none with fewer than 19 controls. `scores`: unseen items."""
    cluster_I, subject_I = scores.items.cluster, scores.items.subject
    for controls in SIDES:
        accused, tested, effective = 0, 0, np.inf
        for seed, gain_I in enumerate(scores.gain_SI):
            known_I = ~np.isnan(gain_I)
            unit_I = cluster_I if controls == "same subjects" else subject_I
            mine_I = known_I & half_of(unit_I, known_I, np.random.default_rng([seed, 0]))
            other_I = known_I & ~mine_I
            if controls == "other subjects":  # a cluster may reach over subjects
                other_I &= ~np.isin(cluster_I, cluster_I[mine_I])
            if not mine_I.any() or other_I.sum() < CONTROLS:
                continue
            accused += int((rank_p_values(gain_I[mine_I], gain_I[other_I]) <= LEVEL).sum())
            tested += int(mine_I.sum())
            n, m = (len(np.unique(cluster_I[side])) for side in (mine_I, other_I))
            effective = min(effective, n * m / (n + m))
        if tested:
            rate = accused / tested
            low, high = wilson(rate * effective, effective)
            yield Rate(
                detector=scores.detector, what=ITEMS, of=of, controls=controls, n=tested, value=rate, low=low, high=high
            )


def half_of(unit_I: Ints, among_I: Bools, generator: np.random.Generator) -> Bools:
    """Return a random half of the units (clusters, subjects) that `among_I` holds, as a mask of items."""
    units = np.unique(unit_I[among_I])
    return np.isin(unit_I, generator.permutation(units)[: len(units) // 2])


def benchmark_alarms(scores: Scores, of: str) -> Iterator[Rate]:
    """Yield `benchmarks accused` and `raised` for both kinds of controls; none where no pseudo-benchmark can be made.

    A pseudo-benchmark is a subject, or neighbouring subjects together where one has fewer than 20 items with the score.
    `scores`: unseen items.
    """
    groups = list(pseudo_benchmarks(scores))
    for controls in SIDES if groups else ():
        tests = []
        for seed, gain_I in enumerate(scores.gain_SI):
            known_I = ~np.isnan(gain_I)
            for number, group_I in enumerate(groups):
                generator = np.random.default_rng([seed, number])
                if controls == "same subjects":
                    test = same_subjects(gain_I, scores.items, group_I & known_I, generator)
                else:
                    test = other_subjects(gain_I, scores.items, group_I & known_I, known_I & ~group_I, generator)
                if test is not None:
                    tests.append(test)
        # with controls from elsewhere a subject counts once, however many seeds asked it
        units = len(tests) if controls == "same subjects" else min(len(tests), len(groups))
        yield from _alarms(tests, units, scores.detector, of, controls, len(groups))


def whole_benchmark(scores: Scores) -> Iterator[Rate]:
    """Yield how often items that the study would inject differ from the others where neither was seen (`nulls`)."""
    s = scores.only(scores.known())
    made = [benchmark_test(row_I, s.items.dose > 0, s.items.subject, s.items.cluster) for row_I in s.gain_SI]
    tests = [test for test in made if test is not None]
    yield from _alarms(tests, len(tests), s.detector, "nulls", "the other dose", 1)


def pseudo_benchmarks(scores: Scores) -> Iterator[Bools]:
    """Yield masks of items, each at least 20 with a score in every seed; what is left over joins the last."""
    known_I = scores.known()
    masks: list[Bools] = []
    gathered_I = np.zeros(len(known_I), bool)
    for subject in np.unique(scores.items.subject):
        gathered_I = gathered_I | ((scores.items.subject == subject) & known_I)
        if gathered_I.sum() >= FEWEST:
            masks.append(gathered_I)
            gathered_I = np.zeros(len(known_I), bool)
    if masks:
        masks[-1] = masks[-1] | gathered_I
    yield from masks


class Excess(NamedTuple):
    """What a test of a pseudo-benchmark gave: p, and how much more its items changed than the controls."""

    p: float
    value: float


def same_subjects(gain_I: Floats, items: Items, among_I: Bools, generator: np.random.Generator) -> Excess | None:
    """Test a random half of the clusters of each subject against the other half."""
    tested_I = np.zeros(len(among_I), bool)
    for subject in np.unique(items.subject[among_I]):
        tested_I |= half_of(items.cluster, among_I & (items.subject == subject), generator)
    return benchmark_test(gain_I[among_I], tested_I[among_I], items.subject[among_I], items.cluster[among_I])


def other_subjects(
    gain_I: Floats, items: Items, mine_I: Bools, others_I: Bools, generator: np.random.Generator
) -> Excess | None:
    """Test a group of subjects against as many items of other subjects, all in one stratum, as `--control` does."""
    free = np.flatnonzero(others_I & ~np.isin(items.cluster, items.cluster[mine_I]))
    chosen = generator.permutation(free)[: int(mine_I.sum())]
    rows = np.concatenate([np.flatnonzero(mine_I), chosen])
    tested = np.arange(len(rows)) < mine_I.sum()
    return benchmark_test(gain_I[rows], tested, np.zeros(len(rows), np.int64), items.cluster[rows])


def benchmark_test(gain_I: Floats, tested_I: Bools, subject_I: Ints, cluster_I: Ints) -> Excess | None:
    """Return what the test gives that `leak` makes of a benchmark; None where nothing can be compared."""
    score_I = tested_I.astype(np.float64)
    try:
        excess = float(contrast(score_I, subject_I) @ gain_I)
        items = Items(tested_I.astype(np.int64), subject_I, cluster_I)
    except ValueError:
        return None
    return Excess(randomisation_test(gain_I, items, score_I)[0], excess)


def _alarms(
    tests: Sequence[Excess], units: int, detector: str, of: str, controls: str, subjects: int
) -> Iterator[Rate]:
    """Yield the two rates of tests that are worth `units` independent ones; none without tests."""
    accused = [test.p <= LEVEL for test in tests]
    raised = [test.p <= LEVEL and test.value > 0 for test in tests]
    for what, hits in ((BENCHMARKS, accused), (RAISED, raised)) if tests else ():
        rate = float(np.mean(hits))
        low, high = wilson(rate * units, units)
        yield Rate(
            detector=detector, what=what, of=of, controls=controls, n=len(tests), subjects=subjects, value=rate,
            low=low, high=high,
        )  # fmt: skip
