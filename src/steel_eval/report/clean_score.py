"""The clean score of contaminated checkpoints in a report: from the questions that each did not see."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_eval.compare.runs import Arm, Result, check_alike, values_of
from steel_eval.contamination.label import Estimate, Mark
from steel_eval.stats.effects import Floats, Items, clean_score


def with_estimates(
    arms: Sequence[Arm], task: str, marks: Sequence[Sequence[Mark]], items: Sequence[Item]
) -> list[list[Mark]]:
    """Return one task's labels (arm by arm, run by run) with the clean estimate of each contaminated run.

    `items`: the task's questions, to tell which are near; [] where they are not at hand. References are the arms that
    declare none of the questions and were not found to hold any.
    """
    if not any(mark.contaminated for of_arm in marks for mark in of_arm):
        return [list(of_arm) for of_arm in marks]
    near = dict(zip((item.item for item in items), cluster_names(items), strict=True))
    references = [
        (arm, of_arm[0]) for arm, of_arm in zip(arms, marks, strict=True)
        if all(m.n and m.declared is not None and not m.contaminated for m in of_arm)
    ]  # fmt: skip
    out: list[list[Mark]] = []
    for arm, of_arm in zip(arms, marks, strict=True):
        out.append([])
        for run, mark in zip(arm.runs, of_arm, strict=True):
            estimated = mark
            if mark.contaminated and mark.held is not None:
                result = next(r for r in reversed(run) if task in r.scores["tasks"])
                estimated = _estimated(result, mark, references, near)
            out[-1].append(estimated)
    return out


def _estimated(result: Result, mark: Mark, references: Sequence[tuple[Arm, Mark]], near: dict[str, str]) -> Mark:
    values = values_of([[result]], mark.task, "accuracy")
    if not values.items:
        return replace(mark, no_estimate="the answers are not published")
    items = _items(values.items, values.subject_Q, mark, near)
    estimates: list[Estimate] = []
    try:
        estimates.append(_estimate(values.arms[0][0], items, None, ""))
    except ValueError as error:
        return replace(mark, no_estimate=str(error).partition(":")[0])
    for arm, its in references:
        chosen = [next((r for r in reversed(run) if mark.task in r.scores["tasks"]), run[-1]) for run in arm.runs]
        try:
            check_alike([result, *chosen])
            both = values_of([[result], chosen], mark.task, "accuracy")
        except (InputError, KeyError):
            continue  # another protocol or other questions: no reference
        estimates.append(_estimate(both.arms[0][0], items, both.arms[1].mean(0), f"{arm.name} ({its.short()})"))
        break
    return replace(mark, estimates=estimates)


def _items(names: Sequence[str], subject_Q: "np.ndarray", mark: Mark, near: dict[str, str]) -> Items:
    """Return doses (undeclared questions: their rows), subjects and clusters; an item near a seen one is seen."""
    held = mark.held or {}
    cluster_Q = np.unique([near.get(name, name) for name in names], return_inverse=True)[1].reshape(-1)
    dose_Q = np.array([held[name].dose or held[name].rows if name in held else 0 for name in names], np.int64)
    highest_C = np.zeros(cluster_Q.max(initial=-1) + 1, np.int64)
    np.maximum.at(highest_C, cluster_Q, dose_Q)
    return Items(highest_C[cluster_Q], subject_Q, cluster_Q.astype(np.int64))


def _estimate(score_Q: Floats, items: Items, reference_Q: Floats | None, name: str) -> Estimate:
    found = clean_score(score_Q, items, reference_Q)
    low, clean, high = (min(1.0, max(0.0, v)) for v in (found.low, found.clean, found.high))
    return Estimate(clean, low, high, found.unseen_items, name)
