"""How well a score tells seen from unseen items: area under the curve, and hits at a bounded rate of false alarms."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.paired import wilson

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """`hits`: share of seen items above the score that at most `alarms` of the unseen exceed; 95 % intervals.

    `alarms` is the rate asked for; `false_alarms` the rate that this sample has at that cut.
    """

    auc: float
    auc_low: float
    auc_high: float
    hits: float
    hits_low: float
    hits_high: float
    alarms: float
    false_alarms: float
    seen: int
    unseen: int


def detection_rates(seen_I: Floats, unseen_C: Floats, alarms: float = 0.05) -> Rates | None:
    """Measure a detector whose higher scores mean "seen". None where one side is empty, or too small for the rate.

    AUC with DeLong's variance (DeLong et al. 1988), ties count half; on the logit scale, so the interval stays inside
    0 and 1. The cut is the smallest unseen score that at most a share `alarms` of the unseen exceed; a rate of 1 %
    needs 1,000 unseen items, one of 5 % 20. Items are taken as independent: clusters make the intervals too short.
    """
    seen_I, unseen_C = seen_I[~np.isnan(seen_I)], unseen_C[~np.isnan(unseen_C)]
    if not len(seen_I) or len(unseen_C) < (1000 if alarms < 0.05 else math.ceil(1 / alarms)):
        return None
    ordered, ordered_seen = np.sort(unseen_C), np.sort(seen_I)
    below_I = (np.searchsorted(ordered, seen_I, "left") + np.searchsorted(ordered, seen_I, "right")) / 2 / len(ordered)
    place_C = np.searchsorted(ordered_seen, unseen_C, "left") + np.searchsorted(ordered_seen, unseen_C, "right")
    above_C = 1 - place_C / 2 / len(ordered_seen)
    auc = float(below_I.mean())
    variance = _spread(below_I) + _spread(above_C)
    cut = ordered[len(ordered) - 1 - math.floor(alarms * len(ordered))]
    hits = int((seen_I > cut).sum())
    low, high = logit_interval(auc, variance, min(len(seen_I), len(unseen_C)))
    return Rates(
        auc, low, high, hits / len(seen_I), *wilson(hits, len(seen_I)), alarms, float((unseen_C > cut).mean()),
        len(seen_I), len(unseen_C),
    )  # fmt: skip


def _spread(values: Floats) -> float:
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.25


def logit_interval(auc: float, variance: float, n: int, quantile: float = 1.959964) -> tuple[float, float]:
    """Return auc +- quantile x deviation on the logit scale, `n` the smaller side's number of items."""
    # at 0 and 1 the estimated variance is 0; half an error among the n items keeps an interval there
    inner = min(max(auc, 0.5 / n), 1 - 0.5 / n)
    half = quantile * math.sqrt(max(variance, (0.5 / n) ** 2)) / (inner * (1 - inner))
    centre = math.log(inner / (1 - inner))
    low, high = (1 / (1 + math.exp(-min(700.0, max(-700.0, centre + s * half)))) for s in (-1, 1))
    return min(low, auc), max(high, auc)
