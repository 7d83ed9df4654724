"""How well detectors tell seen from unseen items: a rate for each dose and form of a study's injected items.

One number for a detector is the mean over seeds of what each seed's model shows by itself; its interval is that of
steel_eval.stats.detection.

Legend: S seeds, I items.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from steel_eval.leak.rates.table import ALONE, AUC, HITS, Rate
from steel_eval.stats.detection import alarm_cuts, area, fewest_unseen, hit_rate
from steel_eval.stats.effects import Items

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """One detector on items of which one knows what was seen: `gain_SI` change from reference to model, higher means
    seen; `alone_SI` the model's score without its reference; `form_I` (strings) how a seen item was injected.
    """

    detector: str
    gain_SI: Floats
    alone_SI: Floats
    items: Items
    form_I: NDArray[np.str_]

    def only(self, kept_I: Bools) -> "Scores":
        """Return some of the items."""
        gain_SI, alone_SI = self.gain_SI[:, kept_I], self.alone_SI[:, kept_I]
        return Scores(self.detector, gain_SI, alone_SI, self.items.only(kept_I), self.form_I[kept_I])

    def known(self) -> Bools:
        """Return which items have the score in every seed."""
        return np.array(~np.isnan(self.gain_SI).any(0))


def error_rates(scores: Scores) -> Iterator[Rate]:
    """Yield `AUC`, `AUC alone` and hits for each dose above 0: with form "all", then each form.

    None without unseen or seen items; hits at 5 % only with 20 unseen items, at 1 % with 1,000.
    """
    s = scores.only(scores.known())
    unseen_I = s.items.dose == 0
    if not unseen_I.any():
        return
    cuts = {
        what: alarm_cuts(s.gain_SI[:, unseen_I], s.items.cluster[unseen_I], rate)
        for what, rate in HITS.items() if unseen_I.sum() >= fewest_unseen(rate)
    }  # fmt: skip
    for dose in sorted(set(s.items.dose.tolist()) - {0}):
        of_dose_I = s.items.dose == dose
        for form in ["all", *sorted(set(s.form_I[of_dose_I].tolist()))]:
            seen_I = of_dose_I if form == "all" else of_dose_I & (s.form_I == form)
            found = {
                AUC: area(s.gain_SI, seen_I, unseen_I, s.items.cluster),
                ALONE: area(s.alone_SI, seen_I, unseen_I, s.items.cluster),
            } | {what: hit_rate(s.gain_SI[:, seen_I], s.items.cluster[seen_I], cut) for what, cut in cuts.items()}
            for what, estimate in found.items():
                yield Rate(
                    detector=s.detector, what=what, of="seen", dose=dose, form=form, controls="unseen",
                    n=int(seen_I.sum()), unseen=int(unseen_I.sum()), **asdict(estimate),
                )  # fmt: skip
