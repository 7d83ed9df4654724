"""Clean runs of the same recipe in place of a base (apart: what makes runs comparable, and their mean).

What a model learnt beyond a clean run of its own recipe is free of what the recipe teaches anyway; the mean of a few is
steadier than one, and than a likelihood ratio with a deviation of each item (LiRA, arXiv 2112.03570), which so few
cannot estimate. The set-level test stays exact: controls went through the same difference.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from steel_data.errors import InputError
from steel_eval.leak.measure import Measured
from steel_train.settings import completed

SEEDS = {"seed", "seeds"}  # in what runs of one recipe may differ


def check_recipes(model: Path, references: Sequence[Path]) -> None:
    """Raise InputError for a reference run that was trained by another recipe than the model, or says nothing of it.

    What it was trained on may differ: that is what is asked about.
    """
    mine = _training(model)
    for place in references:
        theirs = _training(place)
        unlike = [k for k in sorted({*mine, *theirs}) if k not in SEEDS and mine.get(k) != theirs.get(k)]
        if unlike:
            key = unlike[0]
            raise InputError(
                f"{place}: a run of another recipe: [train] {key} is {theirs.get(key)!r}, of {model} "
                f"{mine.get(key)!r}. Fix: clean runs of the model's own recipe."
            )


def _training(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "steel.json"
    said = orjson.loads(file.read_bytes()) if file.is_file() else {}
    if not isinstance(said.get("train"), dict):
        raise InputError(f"{checkpoint}: says nothing of how it was trained. Fix: runs of steel_train, or --base.")
    return completed(said["train"]) | {"loss_of_source": said.get("loss_of_source", {})}


def mean_of(runs: Sequence[Measured]) -> Measured:
    """Return the mean scores of several runs; what they cost is one run's."""
    scores = {name: np.mean([run.scores[name] for run in runs], axis=0) for name in runs[0].scores}
    right_I = np.mean([run.right_I for run in runs], axis=0)
    orders_IK = np.mean([run.orders_IK for run in runs], axis=0)
    return Measured(scores, right_I, runs[0].tokens_I, runs[0].trie_I, orders_IK, runs[0].context_tokens)
