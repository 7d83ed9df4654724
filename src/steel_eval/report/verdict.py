"""What a report says first: the best arm of each task and how sure that is; then the verdict on each run's score.

A report asks no model: what it knows is what the mixture holds and how the run answered what it did not see.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steel_eval.compare.runs import Arm, Result
from steel_eval.contamination.label import Mark
from steel_eval.contamination.verdict import OVERLAP_ERRORS, Inflation, Verdict, found_by_most


def mark_verdict(mark: Mark, name: str, reported: float | None) -> Verdict:
    """Return what is known of one run (`name`) on one task; `reported`: its accuracy, a share."""
    held = f"holds {mark.seen:,} of {mark.n:,} items" if mark.own else ""
    if mark.contaminated:
        seen, rate = "yes", 0.0 if mark.declared or mark.inherited else min(1.0, OVERLAP_ERRORS * mark.n)
        finding, mixture = f"{mark.sentence()}.", held or mark.short()
    elif mark.declared is None or mark.looked:
        seen, rate = "cannot-tell", None
        finding = f"{mark.short()}; `leak` asks the model itself."
        mixture = mark.caveat() or mark.short()
    else:
        seen, rate = "no", min(1.0, OVERLAP_ERRORS * mark.n)
        finding = "None declared, none found, verbatim or edited; its base may have seen them (`leak` asks the model)."
        mixture = f"holds none of {mark.n:,} items"
    inflation = why = None
    if mark.contaminated and mark.estimates and reported is not None:
        e = mark.estimates[-1]
        inflation = Inflation(*(100 * (reported - v) for v in (e.clean, e.high, e.low)))
        why = "against a clean run" if e.runs else "against this run's score on questions it never saw"
    elif mark.contaminated:
        why = mark.no_estimate or "not known: which questions it saw is not known"
    smallest = None if inflation is None else found_by_most(inflation.low, inflation.high)
    return Verdict(
        name=f"{name}, {mark.task}", mixture=mixture, seen=seen, finding=finding,  # type: ignore[arg-type]
        false_alarm_rate=rate, inflation=inflation,
        no_inflation=why or ("none to expect" if seen == "no" else "not known"),
        smallest_detectable=smallest,
        limits=(
            f"an inflation of fewer than {smallest:.1f} points (four of five as large would be)" if smallest
            else "paraphrases and translations, and what an earlier training held"
        ),
    )  # fmt: skip


def headline(arms: Sequence[Arm], tests: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[str]:
    """Return a sentence for each task: its best arm, by how much and how sure, or the one arm's score."""
    return [words for task in tasks if (words := _of_task(arms, tests, task))]


def last_score(run: Sequence[Result], task: str) -> float | None:
    """Return the last accuracy of a run on a task, a share; None where there is none."""
    scores = [r.scores["tasks"].get(task, {}).get("accuracy") for r in run]
    return next((float(s) for s in reversed(scores) if s is not None), None)


def _of_task(arms: Sequence[Arm], tests: Sequence[Mapping[str, Any]], task: str) -> str:
    means = {}
    for arm in arms:
        scored = [s for run in arm.runs if (s := last_score(run, task)) is not None]
        if scored:
            means[arm.name] = sum(scored) / len(scored)
    ranked = sorted(means, key=means.__getitem__, reverse=True)
    if not ranked:
        return ""
    best = f"{100 * means[ranked[0]]:.1f} %"
    if len(ranked) == 1:
        return f"{task}: {ranked[0]} scores {best}."
    test = next(
        (t for t in tests if t["task"] == task and not t["group"] and {t["a"], t["b"]} == set(ranked[:2])), None
    )
    if test is None:
        return f"{task}: {ranked[0]} scores highest, {best}; how sure that is has not been tested."
    ends = [100 * v * (1 if test["b"] == ranked[0] else -1) for v in (test["difference"], test["low"], test["high"])]
    by, low, high = (round(v, 1) + 0.0 for v in (ends[0], min(ends[1:]), max(ends[1:])))  # 0.0: never -0.0
    seeds = min(test["seeds_a"], test["seeds_b"]) > 1
    if (test["p"] if test["q"] is None else test["q"]) >= 0.05:
        return (
            f"{task}: {ranked[0]} scores highest, {best}, but cannot be told apart from {ranked[1]}: "
            f"{by:+.1f} points ({low:+.1f} to {high:+.1f})."
        )
    if seeds:
        than = f"{ranked[1]} by {by:.1f} points ({low:.1f} to {high:.1f})"
        return f"{task}: {ranked[0]} is best, {best}: better than {than}."
    return (
        f"{task}: the checkpoint of {ranked[0]} is best, {best}: better than that of {ranked[1]} by {by:.1f} points "
        f"({low:.1f} to {high:.1f}); with one seed an arm, nothing is shown of the mixtures."
    )
