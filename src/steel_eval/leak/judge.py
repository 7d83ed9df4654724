"""From scores under a model and its base to findings: how much more than the controls did the tested items change?

Each score is judged the same way, as a difference in differences (stats/effects.py): the tested items' change from
base to model minus the controls'. A bare level is never a finding: it differs between models, forms and benchmarks
without any leak.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import Item
from steel_eval.leak.detectors.reference import against_own_subject, flagged, rank_p_values
from steel_eval.leak.measure import IN_CONTEXT, MEASURES, Measured
from steel_eval.leak.texts import Forms
from steel_eval.stats.aggregate import SetTest, set_test
from steel_eval.stats.detection import Rates, detection_rates, stratified_area
from steel_eval.stats.effects import Items, dose_response
from steel_eval.stats.paired import benjamini_hochberg

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One row of the table. `model`, `base`: means over the tested items; `excess` with its 95 % interval and p: over
    base and controls; `flags`: items flagged by rank among the controls, at most 5 % of them falsely on average.
    `rates`: AUC inside subjects, with clusters in its interval; hits of what is left beside the subject's own controls.
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


def levelled(model: Measured, base: Measured, unseen_I: NDArray[np.bool_], forms: Forms) -> Measured:
    """Return the base's scores so that unseen items of every form change by the same on average.

    A form of text changes by what training teaches of that form; only what an item gains beside others of its own form
    says that it was seen. The mean over all unseen items stays.
    """
    if isinstance(forms, str):
        return base
    form_I, scores = np.array(forms), {}
    for name, before in base.scores.items():
        gain, moved = model.scores[name] - before, before.copy()
        known = unseen_I & ~np.isnan(gain)
        for form in np.unique(form_I):
            mine = form_I == form
            if (known & mine).any():
                moved[mine] += gain[known & mine].mean() - gain[known].mean()
        scores[name] = moved
    return replace(base, scores=scores)


COMBINED = "all detectors"  # the plain mean of their normal ranks, without those in context


def judge(model: Measured, base: Measured, items: Items) -> tuple[list[Finding], dict[str, Floats], SetTest | None]:
    """Return a finding for each score that tested items and controls have, the items' p-values by score, and a test.

    A p-value is NaN for controls and for items without the score; that of COMBINED is of all scores together. The test
    and COMBINED go without the scores of IN_CONTEXT: what a set must be to be found was measured without them. Scores
    for which no subject holds both tested items and controls are left out; the test is None where that is all of them.
    """
    rows, p_values, gains = [], {}, []
    tested = items.dose > 0
    for name in (m.name for m in (*MEASURES, *IN_CONTEXT) if m.name in model.scores):
        after, before = model.scores[name], base.scores[name]
        known = ~np.isnan(after) & ~np.isnan(before)
        if not (known & tested).any() or not (known & ~tested).any():
            continue
        try:
            effect = dose_response(before[None, known], after[None, known], items.only(known))[0]
        except ValueError:
            continue
        gain = np.where(known, after - before, np.nan)
        if name not in {m.name for m in IN_CONTEXT}:
            gains.append(gain)
        mine = known & tested
        p_I = p_values[name] = _item_p_values(gain, items)
        area = stratified_area(gain[known], tested[known], items.subject[known], items.cluster[known])
        left_I = against_own_subject(gain, tested, items.subject)
        rates = detection_rates(left_I[mine], left_I[known & ~tested])
        rows.append(
            Finding(
                measure=name, items=int(mine.sum()), controls=int((known & ~tested).sum()),
                model=float(after[mine].mean()), base=float(before[mine].mean()), excess=effect.effect,
                low=effect.low, high=effect.high, p=effect.p, q=1.0, flags=int(flagged(p_I[mine]).sum()),
                rates=None if rates is None else replace(rates, auc=area[0], auc_low=area[1], auc_high=area[2]),
            )
        )  # fmt: skip
    adjusted = benjamini_hochberg([row.p for row in rows])
    test = set_test(np.stack(gains, 1), items) if gains else None
    if test is not None:
        p_values[COMBINED] = _item_p_values(test.mean_I, items)
    return [Finding(**{**vars(r), "q": q}) for r, q in zip(rows, adjusted, strict=True)], p_values, test


def _item_p_values(gain_I: Floats, items: Items) -> Floats:
    """Return the tested items' rank p-values beside their own subject's controls; NaN for controls, missing gains."""
    tested = items.dose > 0
    left_I = against_own_subject(gain_I, tested, items.subject)
    p_I = np.full(len(gain_I), np.nan)
    mine = tested & ~np.isnan(gain_I)
    p_I[mine] = rank_p_values(left_I[mine], left_I[~tested])
    return p_I
