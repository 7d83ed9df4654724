"""What the runs left behind, as arrays, and what each run's scores are compared with.

Legend: R runs, I items.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from bench.truth_pool.design import Plan, plans
from bench.truth_pool.run import file_of
from numpy.typing import NDArray

from steel_eval.stats.crossed import unseen_mean

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DETECTORS = (  # as measured when the runs were made
    "loss gap: item", "reference difference: answer", "zlib", "dc-pdd", "min-k % 20", "min-k %++ 20", "option completion: greedy",
    "option completion: log-prob", "permutation a: published first", "permutation a: z of published",
    "permutation b: z of the likeliest",
)  # fmt: skip
TEXT = DETECTORS[:8]  # of the single pass: measured on every item
LETTERED = "answer beside its letter"  # the answer's change less its mean over items with the same right letter
REFERENCES = ("alone", "base", "1 clean run", "4 clean runs", "pool")


@dataclass(frozen=True)
class Done:
    """One run's results. `scores`: (I,) by detector; `right_I`, `dose_I`, `inside_I` (of its benchmark) and forms."""

    plan: Plan
    scores: dict[str, Floats]
    right_I: Floats
    dose_I: Ints
    form_I: NDArray[Any]
    inside_I: NDArray[np.bool_]
    about: dict[str, Any]


@dataclass(frozen=True)
class Pool:
    """The runs of one model and loss. `fitted` are references for all; `sealed` may be empty: not opened."""

    model: str
    loss: str
    fitted: Sequence[Done]
    sealed: Sequence[Done]
    base: dict[str, Floats]
    subject_I: Ints
    key_I: NDArray[np.str_]  # the right letters
    kept: dict[tuple[str, str], Floats] = field(default_factory=dict)

    @cached_property
    def letters(self) -> Ints:
        """Return the number of each item's right letter."""
        return np.unique(self.key_I, return_inverse=True)[1].astype(np.int64)

    def of_letter(self, value_I: Floats) -> Floats:
        """Return for each item the mean value over all items with the same right letter, (I,)."""
        mean: Floats = (np.bincount(self.letters, value_I) / np.bincount(self.letters))[self.letters]
        return mean

    @cached_property
    def clean(self) -> list[Done]:
        """Return the fitted clean runs."""
        return [run for run in self.fitted if not run.plan.doses]

    def reference(self, run: Done, name: str, kind: str) -> Floats:
        """Return what a detector's score of a run is compared with, (I,); NaN where there is nothing to compare with."""
        if kind == "alone":
            return np.zeros(len(run.right_I))
        if kind == "base":
            return self.base[name]
        others = [o for o in (self.fitted if kind == "pool" else self.clean) if o.plan != run.plan]
        others = others[:1] if kind == "1 clean run" else others
        scores, doses = (np.stack(rows) for rows in ([o.scores[name] for o in others], [o.dose_I for o in others]))
        return unseen_mean(scores, doses)

    def changes(self, run: Done, kind: str) -> Floats:
        """Return a run's changes of all detectors of the single pass, (I, F); kept, as every set asks for them."""
        key = (run.plan.name, kind)
        if key not in self.kept:
            self.kept[key] = np.stack([self.change(run, name, kind) for name in TEXT], 1)
        return self.kept[key]

    def change(self, run: Done, name: str, kind: str) -> Floats:
        """Return a run's score of a detector less the reference, (I,)."""
        if name == LETTERED:
            left = self.change(run, "reference difference: answer", kind)
            return left - self.of_letter(left)
        found: Floats = run.scores[name] - self.reference(run, name, kind)
        return found


def load_pools(folder: Path, results: Path, model: str, sealed: bool) -> list[Pool]:
    """Return a model's pools, one a loss, of the runs that are done; without `sealed` their files are not touched."""
    if not (results / file_of(model)).is_file():
        return []
    items = json.loads((folder / "items.json").read_text(encoding="utf-8"))
    base = _scores(np.load(results / file_of(model)))
    items = items[:: len(items) // len(base[DETECTORS[0]])]  # fewer in a dry run
    subject_I = np.unique([i["subject"] for i in items], return_inverse=True)[1].astype(np.int64)
    key_I = np.array([i["answer"] for i in items])
    out = []
    every = [p for p in plans(model) if (results / file_of(p)).is_file()]
    for loss in dict.fromkeys(p.loss for p in every):
        mine = [p for p in every if p.loss == loss]
        fitted = [_done(p, results) for p in mine if p.kind == "fitted"]
        opened = [_done(p, results) for p in mine if p.kind == "sealed" and sealed]
        out.append(Pool(model, loss, fitted, opened, base, subject_I, key_I))
    return out


def _scores(found: Any) -> dict[str, Floats]:
    return {name: found[f"score {name}"].astype(np.float64) for name in DETECTORS}


def _done(plan: Plan, results: Path) -> Done:
    found = np.load(results / file_of(plan))
    about = json.loads(str(found["about"]))
    if {**vars(plan), "doses": list(plan.doses)} != about["plan"]:
        raise SystemExit(f"{file_of(plan)}: made by another design. Fix: an empty folder of results.")
    return Done(
        plan,
        _scores(found),
        found["right"].astype(np.float64),
        found["dose"].astype(np.int64),
        found["form"],
        found["inside"],
        about,
    )
