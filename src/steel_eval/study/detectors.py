"""What a study says of detectors: their error rates on its arms, and that the draw itself gives nothing away."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.items import Item
from steel_data.engine import Executor
from steel_data.recipe.load import load
from steel_eval.ask.tasks import Task
from steel_eval.leak.kept import How
from steel_eval.leak.rates.calibrate import Pair, calibrate, overlap_by_form
from steel_eval.stats.effects import Items
from steel_eval.study.results import drawn, truth_of
from steel_eval.study.score import Point, ScoredArm, items_of
from steel_eval.study.settings import StudySettings
from steel_eval.study.text_only import text_only

UNSEEN = 1_200  # unseen items measured, at most: a rate of 1 % needs 1,000, and each costs a pass a checkpoint


def measure_detectors(
    scored: dict[str, ScoredArm], tasks: Sequence[Task], settings: StudySettings, folder: Path, executor: Executor
) -> dict[str, Any]:
    """Return `text_only`, `overlap` and `detectors` (by injected arm) for the task with the most seen items.

    `executor`: where checkpoints are measured side by side.
    """
    from steel_eval.models import Opening

    draws = drawn(scored["injected"].arm.mixture)

    def seen(task: Task) -> int:
        mine = draws.get(task.benchmark, {})
        return sum(mine.get(item.item, (0, ""))[0] > 0 for item in items_of(task))

    task = max(tasks, key=seen)
    out: dict[str, Any] = {"text_only": None, "overlap": {}, "detectors": {}}
    for name in ("injected", "diluted"):
        if name not in scored:
            continue
        truth = truth_of(task, scored, name)
        chosen_Q = truth.kept_Q & measured_items(truth.items)
        kept = [item for item, chosen in zip(items_of(task), chosen_Q, strict=True) if chosen]
        form = [form for form, chosen in zip(truth.form, chosen_Q, strict=True) if chosen]
        known = truth.items.only(chosen_Q)
        out["overlap"][name] = overlap_by_form(scored[name].arm.mixture, kept, known, form)
        if name == "injected":
            out["text_only"] = _text_only(kept, known)
        how = How(
            permute=settings.permute, in_context=settings.in_context, dtype=settings.dtype, cache=folder / "detectors",
            executor=executor, opening=Opening(max_length=settings.max_length),
        )  # fmt: skip
        pairs, nulls = _pairs(scored, name), _nulls(scored)
        out["detectors"][name] = calibrate(pairs, nulls, kept, known, form, how)
    return out


def _text_only(items: list[Item], known: Items) -> dict[str, Any] | None:
    """Return the text-only classifier's AUC with its interval and p; None where there are too few clusters."""
    try:
        return dict(vars(text_only(items, known.dose, cluster=known.cluster)))
    except ValueError:
        return None


def measured_items(items: Items) -> NDArray[np.bool_]:
    """Return which items detectors are measured on, (Q,): all seen ones, and at most UNSEEN others by a fixed draw."""
    unseen = np.flatnonzero(items.dose == 0)
    chosen_Q = items.dose > 0
    chosen_Q[np.random.default_rng(0).permutation(unseen)[:UNSEEN]] = True
    return chosen_Q


def _pairs(scored: dict[str, ScoredArm], name: str) -> list[Pair]:
    """Each seed of an arm with the model it was tuned from; from scratch with the clean arm of the same seed."""
    clean = scored["clean"].last
    return [_pair(scored, point, k, clean[k % len(clean)]) for k, point in enumerate(scored[name].last)]


def _nulls(scored: dict[str, ScoredArm]) -> list[Pair]:
    """Pairs that saw no item: each clean seed with the base; from scratch with the clean seed after it, if any is."""
    clean = scored["clean"].last
    pairs = [_pair(scored, point, k, clean[(k + 1) % len(clean)]) for k, point in enumerate(clean)]
    return [pair for pair in pairs if pair.reference != pair.model]


def _pair(scored: dict[str, ScoredArm], point: Point, number: int, other: Point) -> Pair:
    """Return a checkpoint with the model that all arms were tuned from; where there is none, with `other`."""
    base = load(scored["clean"].arm.recipe).train["model"]
    reference = Path(base) if isinstance(base, str) else other.folder
    return Pair(model=point.folder, reference=reference, seed=int(point.facts.get("seed", number)))
