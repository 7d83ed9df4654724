"""What a study found, as plain data: gains by dose, form and age, spill-over, clean scores.

`study_results` gives preset -> task -> what was found. Everything is a share, not percentage points.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_eval.ask.tasks import Task, parse_name
from steel_eval.contamination.overlap import mixture_overlap
from steel_eval.stats.clean import clean_score
from steel_eval.stats.effects import Items, dose_response, estimate
from steel_eval.stats.paired import seeds_and_questions, wilson
from steel_eval.study.effects import by_form, by_seed, coverage, forgetting, held_runs
from steel_eval.study.score import Point, ScoredArm, items_of
from steel_eval.study.settings import StudySettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scored = dict[str, ScoredArm]


@dataclass(frozen=True)
class Truth:
    """What one injected arm's draw did to a task's items, all (Q,) in the task's order. `kept`: items that count."""

    items: Items
    form: list[str]
    kept_Q: NDArray[np.bool_]
    left_out: dict[str, int]  # why -> items


UNMEASURED: dict[str, Any] = {"text_only": None, "overlap": {}, "detectors": None}  # with [eval] detectors = false


def study_results(scored: Scored, tasks: Sequence[Task], settings: StudySettings) -> dict[str, Any]:
    """Return preset -> task -> the findings of a scored study. Raises InputError where no task was injected."""
    doses = drawn(scored["injected"].arm.mixture)
    hit = [task for task in tasks if doses.get(task.benchmark)]
    if not hit:
        raise InputError(f"tasks {', '.join(t.name for t in tasks)}: none was injected. Fix: {', '.join(doses)}.")
    truths = {task.name: truth_of(task, scored, "injected") for task in hit}
    out: dict[str, Any] = {}
    for preset in settings.presets:
        found: dict[str, Any] = {}
        for task in tasks:
            by_arm = {name: arm.answers(preset, task.name) for name, arm in scored.items()}
            entry: dict[str, Any] = {
                "accuracy": {name: right_SQ.mean(1).tolist() for name, right_SQ in by_arm.items()},
                "doses": None, "spill_over": None,
            }  # fmt: skip
            if task in hit:
                entry |= seen_entry(scored, task, preset, truths[task.name])
            else:
                # a placebo of the same benchmark taught what the task asks for: no control for spill-over
                same = settings.placebo is not None and parse_name(settings.placebo)[0] == task.benchmark
                against = "clean" if "placebo" not in scored or same else "placebo"
                entry["spill_over"] = _spill(by_arm, task, near_seen(task, hit, truths, scored), against)
            found[task.name] = entry
        out[preset] = found
    return out


def drawn(mixture: Path) -> dict[str, dict[str, tuple[int, str]]]:
    """Return benchmark -> item -> (dose, form), from the truth file of a mixture."""
    import polars as pl

    out: dict[str, dict[str, tuple[int, str]]] = {}
    for row in pl.read_parquet(mixture / "truth.parquet").iter_rows(named=True):
        out.setdefault(row["benchmark"], {})[row["item"]] = (row["dose"], row["form"] or "")
    return out


def truth_of(task: Task, scored: Scored, arm: str) -> Truth:
    """Return the draw of an injected arm on a task.

    Items that the ordinary rows hold too (train-side overlap with the clean arm's mixture) do not count: their "unseen"
    is none.
    """
    items = items_of(task)
    draws = drawn(scored[arm].arm.mixture).get(task.benchmark, {})
    numbers = [np.unique(keys, return_inverse=True)[1].astype(np.int64) for keys in
               ([i.subject for i in items], cluster_names(items))]  # fmt: skip
    dose_Q = np.array([draws.get(i.item, (0, ""))[0] for i in items], np.int64)
    held = mixture_overlap(scored["clean"].arm.mixture, items)
    kept_Q = np.array([i.item not in held for i in items])
    left_out = {"stand in ordinary rows too": int((~kept_Q).sum())} if held else {}
    return Truth(Items(dose_Q, *numbers), [draws.get(i.item, (0, ""))[1] for i in items], kept_Q, left_out)


def seen_entry(scored: Scored, task: Task, preset: str, truth: Truth) -> dict[str, Any]:
    """Return what is found on an injected task: doses, seeds, forms, ages, exposures, clean scores, the diluted arm."""
    kept_Q, items = truth.kept_Q, truth.items.only(truth.kept_Q)
    by_arm = {name: arm.answers(preset, task.name)[:, kept_Q] for name, arm in scored.items()}
    against = "placebo" if "placebo" in by_arm else "clean"
    clean_SQ, control_SQ, injected_SQ = by_arm["clean"], by_arm[against], by_arm["injected"]
    form = [f for f, kept in zip(truth.form, kept_Q, strict=True) if kept]
    last_SQ, steps = _ages(scored["injected"], task, kept_Q)
    known = float(control_SQ.mean())
    entry = _gains(scored["injected"], task, truth, control_SQ, injected_SQ, clean_SQ)
    chance_Q = chance_of(task, kept_Q)
    held = coverage(clean_SQ, items, chance_Q)
    entry |= {
        "against": against, "left_out": truth.left_out,
        "forms": [asdict(c) for c in by_form(control_SQ, injected_SQ, items, form)],
        "forgetting": [asdict(f) for f in forgetting(control_SQ, injected_SQ, items, last_SQ, steps)],
        "trajectory": _trajectory(scored["injected"], task, preset, truth, control_SQ.mean(0)),
        "true_clean": float(clean_SQ.mean()), "control_arm": known,
        "held_clean_runs": held_runs(clean_SQ, items, chance_Q),
        "coverage": asdict(held) if held else None, "diluted": None,
    }  # fmt: skip
    entry |= _above_chance(injected_SQ, items, task, kept_Q)
    if "diluted" in scored:
        truth = truth_of(task, scored, "diluted")
        clean_SQ, diluted_SQ = (scored[n].answers(preset, task.name)[:, truth.kept_Q] for n in ("clean", "diluted"))
        entry["diluted"] = _gains(scored["diluted"], task, truth, clean_SQ, diluted_SQ, clean_SQ)
    return entry


def _gains(
    arm: ScoredArm, task: Task, truth: Truth, control_SQ: Floats, right_SQ: Floats, clean_SQ: Floats
) -> dict[str, Any]:
    """Return an injected arm's gains over a control arm by dose and seed, and its clean scores.

    `right_SQ`: its answers; `clean_SQ`: those of the clean arm, of which the clean scores are learnt.
    """
    items, chance_Q = truth.items.only(truth.kept_Q), chance_of(task, truth.kept_Q)
    return {
        "doses": [asdict(e) for e in dose_response(control_SQ, right_SQ, items)],
        "by_seed": [[asdict(c) for c in row] for row in by_seed(control_SQ, right_SQ, items)],
        "exposures": _exposures(arm, task),
        "clean_scores": [
            asdict(clean_score(right_Q, items, clean_SQ.mean(0), clean_SQ, chance_Q)) for right_Q in right_SQ
        ],
    }


def chance_of(task: Task, kept_Q: NDArray[np.bool_]) -> Floats:
    """Return what guessing gives on each of the kept items, 1 / options."""
    chance_Q: Floats = np.array([1 / len(item.options) for item in items_of(task)])[kept_Q]
    return chance_Q


def _above_chance(injected_SQ: Floats, items: Items, task: Task, kept_Q: NDArray[np.bool_]) -> dict[str, Any]:
    """Return accuracy on the unseen items, and whether it is surely above chance."""
    unseen_Q = items.dose == 0
    chance = float(chance_of(task, kept_Q)[unseen_Q].mean())
    right, n = round(float(injected_SQ[:, unseen_Q].mean(0).sum())), int(unseen_Q.sum())
    low = wilson(right, n)[0]
    return {"control_accuracy": right / max(1, n), "control_above": low, "chance": chance, "testable": low > chance}


def _seen(point: Point, task: Task) -> Any:
    """Return the exposures of a task's injected items consumed by a checkpoint: `item`, `dose`, `seen`, `last`."""
    import polars as pl

    from steel_train.schedule.exposures import item_exposures

    return item_exposures(point.folder, point.facts).filter(pl.col("benchmark") == task.benchmark)


def _exposures(arm: ScoredArm, task: Task) -> dict[str, float]:
    """Return for each dose the exposures that the finished runs consumed, a mean over items and seeds."""
    import polars as pl

    every = pl.concat([_seen(point, task) for point in arm.last])
    return {str(dose): seen for dose, seen in every.group_by("dose").agg(pl.mean("seen")).sort("dose").iter_rows()}


def _ages(arm: ScoredArm, task: Task, kept_Q: NDArray[np.bool_]) -> tuple[Ints, int]:
    """Return the step at which each item was last seen in each seed's run, (S, Q), and the steps of the runs."""
    last = [dict(_seen(point, task).select("item", "last").iter_rows()) for point in arm.last]
    rows = [[of_run.get(item.item, 0) for item in items_of(task)] for of_run in last]
    return np.array(rows, np.int64)[:, kept_Q], max(point.step for point in arm.last)


def _trajectory(arm: ScoredArm, task: Task, preset: str, truth: Truth, control_Q: Floats) -> list[dict[str, Any]]:
    """Return the gain by dose at each checkpoint of the injected arm, with the exposures consumed until there."""
    rows, items = [], truth.items.only(truth.kept_Q)
    steps = sorted(set.intersection(*({p.step for p in points} for points in arm.seeds)))
    for step in steps if len(steps) > 1 else []:
        points = [next(p for p in points if p.step == step) for points in arm.seeds]
        right_SQ = np.array([p.right[preset, task.name] for p in points])[:, truth.kept_Q]
        seen = [_seen(p, task) for p in points]
        for dose in sorted(set(items.dose.tolist()) - {0}):
            mine_Q = (items.dose == dose) | (items.dose == 0)
            gain = estimate(
                control_Q[None, mine_Q], right_SQ[:, mine_Q], items.only(mine_Q), (items.dose[mine_Q] > 0).astype(float)
            )
            consumed = float(np.mean([f.filter(dose=dose)["seen"].mean() for f in seen]))
            rows.append({
                "step": step, "dose": dose, "exposures": consumed,
                "gain": gain.value, "low": gain.low, "high": gain.high,
            })  # fmt: skip
    return rows


def near_seen(task: Task, hit: Sequence[Task], truths: dict[str, Truth], scored: Scored) -> NDArray[np.bool_]:
    """Return which items of a task that was not injected may not count for spill-over, (Q,).

    Those that are near an injected item (seeing that is seeing them), and those that ordinary rows hold.
    """
    mine = items_of(task)
    out_Q = np.zeros(len(mine), bool)
    for other in hit:
        theirs = items_of(other)
        names = cluster_names([*mine, *theirs])
        seen = {n for n, dose in zip(names[len(mine) :], truths[other.name].items.dose, strict=True) if dose > 0}
        out_Q |= np.array([name in seen for name in names[: len(mine)]], bool)
    held = mixture_overlap(scored["clean"].arm.mixture, mine)
    out_Q |= np.array([item.item in held for item in mine], bool)
    return out_Q


def _spill(by_arm: dict[str, Floats], task: Task, out_Q: NDArray[np.bool_], against: str) -> dict[str, Any]:
    """Return the difference injected - control (`against`) on a task that was not injected."""
    kept: list[Item] = [item for item, out in zip(items_of(task), out_Q, strict=True) if not out]
    control_SQ, injected_SQ = by_arm[against][:, ~out_Q], by_arm["injected"][:, ~out_Q]
    found: dict[str, Any] = {"against": against, "items": len(kept), "left_out": int(out_Q.sum())}
    if min(len(control_SQ), len(injected_SQ)) < 2:
        return found | {"verdict": "not testable here: one seed an arm says nothing of mixtures"}
    chance = float(np.mean([1 / len(item.options) for item in kept]))
    above = wilson(round(float(control_SQ.mean(0).sum())), control_SQ.shape[1])[0] > chance
    subject_Q = np.unique([item.subject for item in kept], return_inverse=True)[1].astype(np.int64)
    change = seeds_and_questions(control_SQ, injected_SQ, subject_Q, macro=False)
    found |= {"difference": change.value, "low": change.low, "high": change.high, "p": change.p}
    return found | {"verdict": "" if above else f"not testable here: the {against} arm is at chance"}
