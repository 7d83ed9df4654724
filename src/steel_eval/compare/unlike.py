"""What two arms differ in beside their mixtures, and which arm of an experiment is missing: named beside any number.

A difference of scores is one of mixtures only where all else is equal. What a run was trained with is read from its
scores (`training`), be it steel's or another trainer's; of what is not known nothing is said.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steel_data.errors import InputError
from steel_data.mixture.manifest import read_manifest
from steel_eval.compare.runs import Arm, Result
from steel_eval.contamination.items import nearby_mixture
from steel_eval.contamination.label import mark_of_scores


def unlike(arms: Sequence[Arm], checkpoint: str = "last") -> list[str]:
    """Return one sentence for each thing beside the mixture in which arms, or the runs of one arm, differ.

    Base models, steps, learning rate, epochs, rows, the type that was computed in.
    """
    chosen = {arm.name: arm.chosen(checkpoint) for arm in arms}
    found = []
    bases = {name: _values(results, _base) for name, results in chosen.items()}
    if _differ(bases):
        found.append(
            f"The arms start from different base models ({_shown(bases)}): a difference is not one of mixtures."
        )
    for what, of in (
        ("steps", _step), ("learning rate", _rate), ("epochs", _epochs), ("rows", _rows), ("dtype", _dtype),
    ):  # fmt: skip
        values = {name: _values(results, of) for name, results in chosen.items()}
        if _differ(values):
            found.append(f"The arms differ in {what} ({_shown(values)}).")
        for name, of_arm in values.items():
            if len(of_arm) > 1:
                found.append(f"The runs of {name} differ in {what} ({', '.join(of_arm)}): they are no seeds of one.")
    return found


def unfinished(arms: Sequence[Arm], checkpoint: str, task: str) -> list[str]:
    """Return which control an experiment on contamination lacks: a placebo arm, or unseen questions.

    `arms`: all of the comparison.
    """
    results = {arm.name: [r for r in arm.chosen(checkpoint) if task in r.scores["tasks"]] for arm in arms}
    marks = {name: [mark_of_scores(r.scores, task) for r in of_arm] for name, of_arm in results.items()}
    seen = [name for name, of_arm in marks.items() if any(mark.declared for mark in of_arm)]
    if not seen:
        return []
    found = [
        f"{name} saw every question of {task}: no unseen half is left to compare with."
        for name in seen
        if any(mark.declared and mark.n and mark.seen >= mark.n for mark in marks[name])
    ]
    injected = {name for name, of_arm in results.items() if any(r.scores.get("contamination") for r in of_arm)}
    if len(arms) > 1 and not injected - set(seen):
        found.append(
            f"No placebo arm: what rows of the same form do without the questions of {task} is not told apart from "
            f"what the questions do ({', '.join(seen)})."
        )
    return found


def _values(results: Sequence[Result], of: Any) -> list[str]:
    """Return the different values of an arm's runs, in words; those that are not known are left out."""
    return list(dict.fromkeys(str(value) for r in results if (value := of(r)) not in (None, "")))


def _differ(values: Mapping[str, list[str]]) -> bool:
    known = [set(of_arm) for of_arm in values.values() if of_arm]
    return any(of_arm != known[0] for of_arm in known[1:])


def _shown(values: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{name} {' and '.join(of_arm) or 'unknown'}" for name, of_arm in values.items())


def _training(result: Result) -> dict[str, Any]:
    return result.scores.get("training") or {}


def _base(result: Result) -> str:
    base = _training(result).get("base") or {}
    return str(base.get("fingerprint") or "")[:12] or str(base.get("name") or "")


def _step(result: Result) -> int | None:
    return result.step if result.step >= 0 else None


def _rate(result: Result) -> Any:
    return _number((_training(result).get("train") or {}).get("learning_rate"))


def _epochs(result: Result) -> Any:
    return _number((_training(result).get("train") or {}).get("epochs"))


def _dtype(result: Result) -> Any:
    return result.scores.get("dtype")


def _number(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, int | float) else None


def _rows(result: Result) -> Any:
    """Return the rows of what a run was trained on: as its trainer says, else its mixture beside it."""
    training = _training(result)
    if training.get("rows"):
        return training["rows"]
    place = nearby_mixture(result.folder)
    try:
        manifest = read_manifest(place) if place is not None else {}
    except InputError:
        return None
    content = (training.get("mixture") or {}).get("content_sha256")
    return manifest.get("rows") if content and content == manifest.get("content_sha256") else None
