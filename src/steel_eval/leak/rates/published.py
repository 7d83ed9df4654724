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

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_eval.leak.measure import Measured
from steel_eval.leak.rates.table import FLAGGED, Rate
from steel_eval.stats.paired import wilson

THRESHOLDS = (-0.2, -0.17, -0.15)
BY_SCORE = {
    "scenario a: published order first": "permutation a: published first",
    "completion: an option by greedy decoding": "option completion: greedy",
}


def published_flags(model: Measured, reference: Measured, dose_I: NDArray[np.int64], forests: int) -> Iterator[Rate]:
    """Yield what each rule flags of unseen items, of those of the highest dose, and of unseen ones under the reference.

    `dose_I` 0: items that none saw. `forests`: items of a line, at most, for which forests are grown.
    """
    highest = int(dose_I.max(initial=0))
    for measured, of, dose in ((model, "unseen", 0), (model, "seen", highest), (reference, "reference", 0)):
        of_dose_I = dose_I == dose
        flags = {rule: (values := measured.scores[name][of_dose_I])[~np.isnan(values)] > 0
                 for rule, name in BY_SCORE.items()}  # fmt: skip
        whole_I = of_dose_I & ~np.isnan(measured.orders_IK).any(1)
        chosen = np.random.default_rng(0).permutation(np.flatnonzero(whole_I))[:forests]
        values = np.array([forest_value(measured.orders_IK[i]) for i in chosen])
        flags |= {f"scenario b: isolation forest below {threshold}": values < threshold for threshold in THRESHOLDS}
        for rule, hit in flags.items():
            if len(hit):
                low, high = wilson(float(hit.sum()), len(hit))
                yield Rate(
                    detector=rule,
                    what=FLAGGED,
                    of=of,
                    dose=dose,
                    n=len(hit),
                    value=float(hit.mean()),
                    low=low,
                    high=high,
                )


def forest_value(logprob_K: NDArray[np.float64]) -> float:
    """Return the decision value that scenario b's isolation forest gives the likeliest order; low means outlier."""
    from sklearn.ensemble import IsolationForest

    column_K1 = logprob_K[:, None]
    forest: Any = IsolationForest(n_estimators=100, contamination="auto", random_state=42).fit(column_K1)
    return float(forest.decision_function(column_K1[[int(logprob_K.argmax())]])[0])
