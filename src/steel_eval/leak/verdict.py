"""The verdict of `leak` on one task: what the mixture proves, what the model shows, and what these controls can show.

Two pieces of evidence share the rate of false alarms: train-side overlap, which errs on at most OVERLAP_ERRORS of the
items nobody put there (docs/contamination.md, "What it finds in real rows": 4 of 2,832), and the set-level test over
all detectors, one-sided and by randomisation. The test carries a verdict only with controls of the same benchmark:
innocent benchmarks were accused in up to 63 of 100 cases with controls of other subjects.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.contamination.verdict import OVERLAP_ERRORS, Inflation, Seen, Verdict, found_by_most
from steel_eval.stats.aggregate import SetTest
from steel_eval.stats.effects import Items, dose_response
from steel_eval.stats.paired import Difference

Floats = NDArray[np.float64]
FEWEST = 8  # controls, below which nothing is said of the set
LEVEL = 0.05
STRENGTH = 1.0  # standard deviations that a seen item is taken to gain where no calibration says it
HALF = 0.5  # of the items: a "no" that a leak of so many could escape is none


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """`held` of `of` items stand in the mixture (`held` None: no mixture at hand); `tested`, `controls`: numbers of
    items; `like`: controls are of the same benchmark; `test` None: nothing could be compared; `inflation`: change of
    right answers, tested minus controls (a share; None: not known); `share`: of the benchmark's items that were tested;
    `strength`: standard deviations that a seen item gains, measured on models of this kind, None: not calibrated.
    """

    task: str
    of: int
    held: int | None
    tested: int
    controls: int
    controls_are: str
    like: bool
    test: SetTest | None
    inflation: Difference | None
    share: float
    strength: float | None


def verdict(found: Evidence, level: float = LEVEL) -> Verdict:
    """Return the verdict; `level`: the rate of false alarms that this task may spend."""
    proven = found.held is not None and _by_error(found.held, found.of) <= level / 2
    few, level_test = found.controls < FEWEST, level / (1 if found.held is None else 2)
    told = found.test is not None and not few and found.like
    shown = told and found.test is not None and found.test.p <= level_test
    need = found.test.excess.detectable / (found.strength or STRENGTH) if found.test and found.test.excess else None
    seen, words = _seen(found, proven, shown, told and need is not None and need <= HALF)
    i = found.inflation
    points = 100 * found.share
    return Verdict(
        name=found.task, mixture=_mixture(found, proven), seen=seen, finding=words,
        false_alarm_rate=level if seen != "cannot-tell" else None,
        inflation=None if i is None or few
        else Inflation(*(points * min(1.0, max(-1.0, v)) for v in (i.value, i.low, i.high))),
        no_inflation="not enough controls" if few else "not known: the answer is not one token" if i is None
        else "not only by a leak: the controls are of another benchmark" if not found.like else "",
        smallest_detectable=None if i is None or few else points * i.detectable, limits=_limits(found, need, few),
    )  # fmt: skip


def right_answers(before_I: Floats, after_I: Floats, items: Items) -> Difference | None:
    """Return the change of right answers, tested minus controls, as `dose_response` has it; None where it is not known.

    `detectable` is that of its interval.
    """
    known_I = ~np.isnan(before_I) & ~np.isnan(after_I)
    try:
        e = dose_response(before_I[None, known_I], after_I[None, known_I], items.only(known_I))[0]
    except (ValueError, IndexError):
        return None
    # where no answer changed the sample shows no variance; one item of the smaller side may yet differ
    seen = int((items.dose[known_I] > 0).sum())
    few = 1 / max(1, min(seen, int(known_I.sum()) - seen))
    low, high = min(e.low, e.effect - few), max(e.high, e.effect + few)
    return Difference(e.effect, low, high, e.p, found_by_most(low, high))


def _by_error(held: int, of: int) -> float:
    """Return how likely overlap's own errors name so many of the items."""
    from scipy.stats import poisson

    return float(poisson.sf(held - 1, OVERLAP_ERRORS * of)) if held else 1.0


def _mixture(found: Evidence, proven: bool) -> str:
    if found.held is None:
        return "not at hand, so nothing is proven (--mixture)"
    if not found.held:
        return f"holds none of {found.of:,} items, verbatim or edited (overlap is blind to paraphrase and translation)"
    sure = "the rows are named" if proven else "no more than overlap names by error: read the rows"
    return f"holds {found.held:,} of {found.of:,} items; {sure}"


def _seen(found: Evidence, proven: bool, shown: bool, strong: bool) -> tuple[Seen, str]:
    """Return `seen` and the words behind it."""
    test = found.test
    p = f"set-level p {test.p:.2g}, one-sided" if test else ""
    if proven:
        also = f"; the model shows it too ({p})" if shown else f"; its scores do not show it ({p})" if test else ""
        return "yes", f"It was trained on rows that hold them{also}."
    if shown and test:
        exchange = "left out of the mixture" if "mixture" in found.controls_are else "by assumption like the tested"
        return "yes", (
            f"The tested items gained {test.excess.value:+.2f} standard deviations more than the controls ({p}; "
            f"controls: {found.controls_are}, {exchange})."
        )
    if found.controls < FEWEST:
        return "cannot-tell", f"Not enough controls: {found.controls}, {FEWEST} are needed."
    if test is None:
        return "cannot-tell", "Nothing could be compared: no subject holds both tested items and controls."
    if not found.like:
        return "cannot-tell", (
            f"Controls of another benchmark cannot tell ({p}): innocent benchmarks were accused in up to 63 of 100 "
            "cases with controls of other subjects."
        )
    if found.held == 0:
        return "no", f"Not in this mixture, and the model shows nothing ({p})."
    if strong:
        return "no", f"Nothing shows ({p})."
    return "cannot-tell", f"Nothing shows ({p}), but a leak of half of the items could have escaped."


def _limits(found: Evidence, need: float | None, few: bool) -> str:
    if few or need is None:
        return f"any leak, with {found.controls} controls"
    known = found.strength is not None
    strength = found.strength if found.strength else STRENGTH
    basis = "as measured on models of this kind" if known else "an assumption: not calibrated here"
    what = (
        f"a leak of fewer than {100 * need:.0f} % of the {found.tested:,} tested items" if need < 1
        else f"a leak even of all {found.tested:,} tested items"
    )  # fmt: skip
    return (
        f"{what} with {found.controls:,} controls, where a seen item gains {strength:.2g} standard "
        f"deviation{'s' * (strength != 1)} ({basis}; one pass over answers alone gave 0.1)"
    )
