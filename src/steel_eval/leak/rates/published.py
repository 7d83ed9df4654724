"""Detectors as published, with their own thresholds: how many items do they call leaked that nobody has seen?

steel uses none of these thresholds. They are measured beside its own figures because bare percentages by such rules are
what one reads in papers and model cards.

Scenario a (Ni et al. 2024, arXiv 2409.01790): the published order of options is the likeliest of all 24. Scenario b,
same source: an isolation forest (100 trees, seed 42) over the 24 log-probabilities gives the likeliest a decision
value below -0.2, -0.17 or -0.15. Completion (Xu et al. 2024, arXiv 2404.18824): at least one option is written out by
greedy decoding; here in full, there at a similarity of 0.75.

Cost: no forward pass beyond those of the detectors; a forest an item takes about a tenth of a second.

Legend: I items, K orders.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_eval.leak.measure import Measured
from steel_eval.stats.paired import wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
THRESHOLDS = (-0.2, -0.17, -0.15)


@dataclass(frozen=True)
class Flagged:
    """Share of items that a published rule calls leaked, with Wilson's interval. `dose` 0: items that none saw;
    `reference`: under the reference, which saw no item of any dose.
    """

    rule: str
    dose: int
    reference: bool
    items: int
    share: float
    low: float
    high: float


def published_flags(model: Measured, reference: Measured, dose_I: Ints, most: int) -> list[Flagged]:
    """Return the flags of each rule on unseen items, on those of the highest dose, and on unseen ones under the
    reference. `most`: items a row for which forests are grown; 0: none.
    """
    highest = int(dose_I.max(initial=0))
    rows = []
    for measured, dose, is_reference in ((model, 0, False), (model, highest, False), (reference, 0, True)):
        of_dose_I = dose_I == dose
        for rule, name in (
            ("scenario a: published order first", "permutation a: published first"),
            ("completion: an option by greedy decoding", "option completion: greedy"),
        ):
            values = measured.scores[name][of_dose_I]
            rows += _row((rule, dose, is_reference), values[~np.isnan(values)] > 0)
        whole_I = of_dose_I & ~np.isnan(measured.orders_IK).any(1)
        chosen = np.random.default_rng(0).permutation(np.flatnonzero(whole_I))[:most]
        values = np.array([forest_value(measured.orders_IK[i]) for i in chosen])
        for threshold in THRESHOLDS:
            rows += _row((f"scenario b: isolation forest below {threshold}", dose, is_reference), values < threshold)
    return rows


def _row(what: tuple[str, int, bool], hit: NDArray[np.bool_]) -> list[Flagged]:
    if not len(hit):
        return []
    share = float(hit.mean())
    return [Flagged(*what, len(hit), share, *wilson(share * len(hit), len(hit)))]


def forest_value(logprob_K: Floats) -> float:
    """Return the decision value that scenario b's isolation forest gives the likeliest order; low means outlier."""
    from sklearn.ensemble import IsolationForest

    column_K1 = logprob_K[:, None]
    make: Callable[..., Any] = IsolationForest
    forest = make(n_estimators=100, contamination="auto", random_state=42).fit(column_K1)
    return float(forest.decision_function(column_K1[[int(logprob_K.argmax())]])[0])


def flag_words(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each rule: what it flags of unseen items, of seen ones and under the reference."""
    out = []
    for rule in dict.fromkeys(r["rule"] for r in rows):
        said = []
        for r in (r for r in rows if r["rule"] == rule):
            what = f"items seen {r['dose']}x" if r["dose"] else "unseen items"
            of = f"{r['items']:,} {what}{' under the reference' if r['reference'] else ''}"
            said.append(f"{100 * r['share']:.0f} % ({100 * r['low']:.0f}-{100 * r['high']:.0f}) of {of}")
        out.append(f"published rule, {rule}: flags {', '.join(said)}")
    return out
