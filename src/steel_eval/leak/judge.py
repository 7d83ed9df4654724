"""From scores under a model and its base to findings: how much more than the controls did the tested items change?

Each score is judged the same way, as a difference in differences (stats/effects.py): the tested items' change from
base to model less the controls'. A bare level is never a finding: it differs between models, forms and benchmarks
without any leak.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import Item
from steel_eval.leak.detectors.reference import flagged, rank_p_values
from steel_eval.leak.measure import MEASURES, Measured
from steel_eval.stats.detection import Rates, detection_rates
from steel_eval.stats.effects import Items, dose_response
from steel_eval.stats.paired import benjamini_hochberg

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One row of the table. `model`, `base`: means over the tested items; `excess` with its 95 % interval and p: over
    base and controls; `flags`: items flagged by rank among the controls, at most 5 % of them falsely on average.
    """

    measure: str
    items: int
    controls: int
    model: float
    base: float
    excess: float
    low: float
    high: float
    p: float
    q: float
    flags: int
    rates: Rates | None


def as_items(items: Sequence[Item], tested: NDArray[np.bool_], stratified: bool) -> Items:
    """Return tested items as dose 1 and controls as dose 0, with equal and near-equal items as clusters.

    `stratified`: compare inside subjects; for controls of another benchmark, all subjects are one.
    """
    _, subject = np.unique([i.subject if stratified else "" for i in items], return_inverse=True)
    _, cluster = np.unique(cluster_names(items), return_inverse=True)
    return Items(tested.astype(np.int64), subject.astype(np.int64), cluster.astype(np.int64))


def judge(model: Measured, base: Measured, items: Items) -> tuple[list[Finding], dict[str, Floats]]:
    """Return a finding for each score that tested items and controls have, and by score the items' p-values.

    A p-value is NaN for controls and for items without the score. Scores for which no subject holds both tested items
    and controls are left out.
    """
    rows, p_values = [], {}
    tested = items.dose > 0
    for name in (m.name for m in MEASURES):
        after, before = model.scores[name], base.scores[name]
        known = ~np.isnan(after) & ~np.isnan(before)
        if not (known & tested).any() or not (known & ~tested).any():
            continue
        try:
            effect = dose_response(before[None, known], after[None, known], items.only(known))[0]
        except ValueError:
            continue
        gain = np.where(known, after - before, np.nan)
        p_I = np.full(len(gain), np.nan)
        mine = known & tested
        p_I[mine] = rank_p_values(gain[mine], gain[known & ~tested])
        p_values[name] = p_I
        rows.append(
            Finding(
                measure=name, items=int(mine.sum()), controls=int((known & ~tested).sum()),
                model=float(after[mine].mean()), base=float(before[mine].mean()), excess=effect.effect,
                low=effect.low, high=effect.high, p=effect.p, q=1.0, flags=int(flagged(p_I[mine]).sum()),
                rates=detection_rates(gain[mine], gain[known & ~tested]),
            )
        )  # fmt: skip
    adjusted = benjamini_hochberg([row.p for row in rows])
    return [Finding(**{**vars(r), "q": q}) for r, q in zip(rows, adjusted, strict=True)], p_values
