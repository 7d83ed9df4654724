"""Error rates of the pool's detectors as `leak` looks them up: change from the base, and the family of reference runs.

Of the judged runs, against the base that all start from and against the fitted clean runs, as `leak --reference-runs` with
four has it. Only detectors of the single pass, which were measured on every item.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.truth_pool.results import TEXT, Done, Pool
from bench.truth_pool.run import RATE, new_model

from steel_eval.leak.rates.match import BASE
from steel_eval.leak.rates.pooled import pooled_rates
from steel_eval.leak.rates.regime import Regime
from steel_eval.leak.reference_runs import FAMILY, family_name
from steel_eval.stats.effects import Items

LOSS = {"assistant": "answers only", "all": "all text"}


def calibrations(pool: Pool, judged: Sequence[Done], folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a calibration of a model and loss for each thing that scores are compared with."""
    dose_RI = np.stack([r.dose_I for r in judged])
    items = Items(np.zeros(dose_RI.shape[1], np.int64), pool.subject_I, np.arange(dose_RI.shape[1]))
    vocabulary = len(json.loads((folder / "tokenizer/tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    dirty = [r for r in judged if r.plan.doses]
    regime = Regime(
        sum(p.numel() for p in new_model(pool.model, vocabulary).parameters()), "qwen2", "tuned", "full",
        LOSS[pool.loss], 1, RATE, round(float(np.mean([r.about["injected"] for r in dirty])), 4), int(dose_RI.max()),
    )  # fmt: skip
    forms = sorted({str(form) for r in dirty for form in r.form_I[r.dose_I > 0]})
    for kind, words in (("base", BASE), ("4 clean runs", FAMILY)):
        rates = []
        for name in TEXT:
            change_RI = np.stack([pool.change(r, name, kind) for r in judged])
            rates += [
                r.data()
                for r in pooled_rates(family_name(name) if words == FAMILY else name, change_RI, dose_RI, items)
            ]
        about = {"forms": forms, "asked_as": "chat", "compared_with": words}
        yield {
            "regime": regime.data() | about, "seeds": [r.plan.seed for r in judged], "nulls": 0,
            "items": len(items.subject), "left_out": 0, "rates": rates, "model": pool.model,
        }  # fmt: skip
