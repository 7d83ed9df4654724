"""Reference difference: what did the model learn since the base, more than it learnt others? (apart: a detector)

Access: log-probabilities of model and of a base that saw none of the items. Cost: two forward passes an item (one for
each model), shared with the other detectors of that pass. A likelihood-ratio attack with one reference (after Carlini
et al. 2022, arXiv 2112.03570), calibrated by ranks: an item's p-value is the share of control items that gained as much
(conformal p-value, valid where item and controls are exchangeable; Bates et al. 2023, arXiv 2104.08279), and
Benjamini-Hochberg keeps the share of false flags at 5 % on average.
"""

import numpy as np
from numpy.typing import NDArray

from steel_eval.stats.paired import benjamini_hochberg

Floats = NDArray[np.float64]


def against_own_subject(gain_I: Floats, tested_I: NDArray[np.bool_], subject_I: NDArray[np.int64]) -> Floats:
    """Return each item's gain less the mean gain of its subject's *other* controls, (I,); NaN without any.

    A subject that gained as a whole is no leak of its items. A control is left out of its own mean, which makes it vary
    no less than a tested item does: the ranks err on the careful side.
    """
    out_I = np.full(len(gain_I), np.nan)
    for subject in np.unique(subject_I):
        mine_I = (subject_I == subject) & ~np.isnan(gain_I)
        controls_I = mine_I & ~tested_I
        n, total = int(controls_I.sum()), float(gain_I[controls_I].sum())
        if n > 1:
            out_I[controls_I] = gain_I[controls_I] - (total - gain_I[controls_I]) / (n - 1)
        if n:
            out_I[mine_I & tested_I] = gain_I[mine_I & tested_I] - total / n
    return out_I


def rank_p_values(gain_I: Floats, control_gain_C: Floats) -> Floats:
    """Return (1 + controls with at least the item's gain) / (1 + controls), (I,). A NaN gain gets p = 1."""
    ordered = np.sort(control_gain_C[~np.isnan(control_gain_C)])
    above = len(ordered) - np.searchsorted(ordered, gain_I, side="left")
    p_I: Floats = (1 + above) / (1 + len(ordered))
    return np.where(np.isnan(gain_I), 1.0, p_I)


def flagged(p_I: Floats, rate: float = 0.05) -> NDArray[np.bool_]:
    """Return which items are flagged when at most `rate` of the flags may be false on average."""
    return np.array(benjamini_hochberg(p_I.tolist()), np.float64) <= rate


def smallest_flaggable(items: int, controls: int, rate: float = 0.05) -> int:
    """Return how many items must stand above *every* control before any can be flagged.

    The smallest p-value is 1 / (1 + controls), and Benjamini-Hochberg wants k of them with 1 / (1 + controls) <= rate k
    / items.
    """
    return int(np.ceil(items / (rate * (1 + controls)) - 1e-9))
