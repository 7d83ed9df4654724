"""Reference runs, a family of detectors: what did the model learn beyond clean runs of its own recipe?

What a recipe teaches anyway is taken out, which no base can do; the mean of a few runs is steadier than one, and than a
likelihood ratio with a deviation of each item (LiRA, arXiv 2112.03570), which so few cannot estimate. A reference run
need not be clean of everything: an item that its own mixture holds is compared with the other runs alone. The family
has rows of its own, one-sided: an item's p is its rank among the controls, a set's comes from exchanging tested items
and controls inside subjects, as a draw could have had them, and is exact (stats/crossed.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_eval.contamination.items import nearby_mixture
from steel_eval.contamination.overlap import mixture_overlap
from steel_eval.leak.judge import Finding
from steel_eval.leak.measure import Measured
from steel_eval.models import read_steel_json
from steel_eval.stats.crossed import run_test
from steel_eval.stats.effects import Items
from steel_eval.stats.paired import benjamini_hochberg
from steel_train.settings import completed

Bools = NDArray[np.bool_]
FAMILY = "reference runs"  # also what calibrations of it are compared with
FEWEST = 2  # runs; one is a base like any other
_SHORT = {"loss gap: item": "item", "reference difference: answer": "answer"}
_SEEDS = {"seed", "seeds"}  # in what runs of one recipe may differ


def check_recipes(model: Path, references: Sequence[Path]) -> None:
    """Raise InputError for too few reference runs, one given twice, the model itself, or a run that was trained by
    another recipe than the model, or says nothing of it.

    What it was trained on may differ: that is what is asked about.
    """
    for number, place in enumerate(references):
        if place.resolve() == model.resolve():
            raise InputError(f"{place}: is the model itself. Fix: clean runs of its recipe.")
        if place.resolve() in {other.resolve() for other in references[:number]}:
            raise InputError(f"{place}: given twice. Fix: another seed of the recipe.")
    if len(references) < FEWEST:
        raise InputError(
            f"{', '.join(map(str, references))}: {len(references)} reference run, {FEWEST} are needed. Fix: a second "
            "clean run (another seed) of the recipe, or --base with this one."
        )
    mine = _training(model)
    for place in references:
        theirs = _training(place)
        unlike = [k for k in sorted({*mine, *theirs}) if k not in _SEEDS and mine.get(k) != theirs.get(k)]
        if unlike:
            key = unlike[0]
            raise InputError(
                f"{place}: a run of another recipe: [train] {key} is {theirs.get(key)!r}, of {model} "
                f"{mine.get(key)!r}. Fix: clean runs of the model's own recipe."
            )


def _training(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "steel.json"
    said = read_steel_json(file) if file.is_file() else {}
    if not isinstance(said.get("train"), dict):
        raise InputError(f"{checkpoint}: says nothing of how it was trained. Fix: runs of steel_train, or --base.")
    return completed(said["train"]) | {"loss_of_source": said.get("loss_of_source", {})}


def saw(references: Sequence[Path], items: Sequence[Item], notes: list[str]) -> Bools:
    """Return which items each reference run's own mixture holds, (R, I), and add to `notes` what was found."""
    saw_RI = np.zeros((len(references), len(items)), bool)
    for r, place in enumerate(references):
        mixture = nearby_mixture(place)
        if mixture is None:
            notes.append(f"{place}: its mixture is not at hand, so it is taken to hold none of the items")
            continue
        held = mixture_overlap(mixture, items)
        saw_RI[r] = [item.item in held for item in items]
        notes += [f"{place}: its own mixture holds {len(held)} items: other runs stand for it there"] * bool(held)
    return saw_RI


def mean_of(runs: Sequence[Measured], saw_RI: Bools | None = None) -> Measured:
    """Return the mean scores of several runs, what they cost as one run's.

    `saw_RI`: an item's mean leaves out the runs that saw it; every item has one that did not.
    """
    kept_RI = np.ones((len(runs), len(runs[0].right_I)), bool) if saw_RI is None else ~saw_RI
    count_I = kept_RI.sum(0)

    def mean(value_RI: NDArray[np.float64]) -> NDArray[np.float64]:
        shape = (*kept_RI.shape, *[1] * (value_RI.ndim - 2))
        total = np.where(kept_RI.reshape(shape), value_RI, 0.0).sum(0)
        out: NDArray[np.float64] = total / count_I.reshape(shape[1:])
        return out

    scores = {name: mean(np.stack([run.scores[name] for run in runs])) for name in runs[0].scores}
    right_I, orders_IK = (mean(np.stack([getattr(run, name) for run in runs])) for name in ("right_I", "orders_IK"))
    return replace(runs[0], scores=scores, right_I=right_I, orders_IK=orders_IK)


def family_name(measure: str) -> str:
    """Return the family's name of a score."""
    return f"{FAMILY}: {_SHORT.get(measure, measure)}"


def as_family(findings: Sequence[Finding], gains: Mapping[str, NDArray[np.float64]], items: Items) -> list[Finding]:
    """Return findings against reference runs under the family's names, with one-sided exact p-values of the set.

    `gains`: each score's change against the mean of the runs, (I,).
    """
    tested_I = items.dose > 0
    p = [run_test(gains[f.measure], tested_I, items.subject, items.cluster) for f in findings]
    q = benjamini_hochberg(p)
    return [
        replace(f, measure=family_name(f.measure), p=one, q=other) for f, one, other in zip(findings, p, q, strict=True)
    ]
