"""Flaws of a comparison that can be seen from its scores: named in the report before any number."""

from collections.abc import Mapping, Sequence
from typing import Any

from steel_eval.compare.runs import Arm, Result
from steel_eval.compare.unlike import unfinished, unlike
from steel_eval.report.marks import Marks


def find_flaws(arms: Sequence[Arm], tests: Sequence[Mapping[str, Any]], marks: Marks) -> list[str]:
    """Return one sentence for each flaw:

    bases, steps, rates, seeds, protocols, missing controls, noise,
    contamination (by the labels in `marks`), unreadable or one-letter answers.
    """
    results = [r for arm in arms for run in arm.runs for r in run]
    missing = dict.fromkeys(flaw for task in marks for flaw in unfinished(arms, "last", task))
    found = unlike(arms) + _seeds(arms) + _protocols(results) + _contaminated(arms, marks) + [*missing] + _noise(tests)
    alike: dict[str, dict[str, None]] = {}  # what is said of several is said once
    for arm in arms:
        for run in arm.runs:
            for place, flaw in _answers(arm, run[-1]):
                alike.setdefault(flaw, {})[place] = None
    return found + [f"{', '.join(places)}: {flaw}" for flaw, places in alike.items()]


def _seeds(arms: Sequence[Arm]) -> list[str]:
    single = [arm.name for arm in arms if len(arm.runs) == 1]
    if len(arms) < 2 or not single:
        return []
    return [
        f"One seed only: {', '.join(single)}. Differences are of these checkpoints; mixtures need several seeds an arm."
    ]


def _protocols(results: Sequence[Result]) -> list[str]:
    protocols = sorted({r.protocol for r in results})
    return [f"Scores of different protocols stand side by side ({'; '.join(protocols)})."] if len(protocols) > 1 else []


def _contaminated(arms: Sequence[Arm], marks: Marks) -> list[str]:
    """Return what the arms saw of each task, then where nobody looked, a reason once."""
    found: list[str] = []
    unlooked: dict[str, list[str]] = {}
    for task, of_task in marks.items():
        for arm, of_arm in zip(arms, of_task, strict=True):
            scored = [mark for mark in of_arm if mark.n]
            for mark in scored:
                sentence = f"{arm.name} on {task}: {mark.sentence()}. {mark.weight()}."
                if mark.contaminated and sentence not in found:
                    found.append(sentence)
            for reason in sorted({mark.looked for mark in scored if mark.looked}):
                unlooked.setdefault(reason, []).append(f"{arm.name} on {task}")
    return found + [
        f"Undeclared questions in the training data were {reason}: {'; '.join(where)}."
        for reason, where in unlooked.items()
    ]


def _noise(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    whole = [t for t in tests if not t["group"]]
    lost = [t for t in whole if (t["p"] if t["q"] is None else t["q"]) >= 0.05]
    if not lost:
        return []
    named = "; ".join(f"{t['b']} - {t['a']} on {t['task']} ({100 * t['difference']:+.1f})" for t in lost)
    return [f"Within noise, no difference is shown: {named}."]


def _answers(arm: Arm, result: Result) -> list[tuple[str, str]]:
    """Return (arm and task, what is wrong with its answers)."""
    placed: list[tuple[str, str]] = []
    for task, row in result.scores["tasks"].items():
        if row.get("accuracy") is None or not row.get("n"):
            continue
        found = []
        place = f"{arm.name} on {task}"
        if row.get("limit"):
            part = f"{row['n']} of {row['of']} questions"
            found.append(f"--limit {row['limit']}: {part}: a try, no score of the benchmark.")
        invalid = row.get("invalid") or 0
        if invalid > 0.02 * row["n"] and row.get("expected_if_guessed") is not None:
            gap = 100 * (row["expected_if_guessed"] - row["accuracy"])
            found.append(f"{invalid} of {row['n']} answers unreadable; at chance level they add {gap:.1f} points.")
        letters = (row.get("letters") or {}).get("predicted") or {}
        top = max((n for letter, n in letters.items() if letter), default=0)
        if top > 0.8 * row["n"]:
            found.append(f"{100 * top / row['n']:.0f} % of the answers are one letter.")
        always = (row.get("letters") or {}).get("always") or 0
        if row["accuracy"] - always < 1.96 * (row.get("stderr") or 0):
            found.append(f"not shown to be better than always saying one letter ({100 * always:.1f} %).")
        counts = row.get("counts") or {}
        for name, what in (("truncated", "prompts cut at the left"), ("shots_dropped", "prompts lost examples")):
            if counts.get(name):
                found.append(f"{counts[name]} {what}: longer than the model's context.")
        placed += [(place, flaw) for flaw in found]
    return placed
