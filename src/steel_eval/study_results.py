"""What a study found: the gain by dose, spill-over to other tasks, and how good the clean score's estimate is."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from steel_data.benchmarks import Item
from steel_data.item_clusters import cluster_key
from steel_data.display import one_line
from steel_data.errors import InputError
from steel_eval.effects import CleanScore, Items, clean_score, dose_response
from steel_eval.models import find_checkpoints
from steel_eval.run import default_device
from steel_eval.stats import seeds_and_questions, wilson
from steel_eval.sweep import Settings, run_sweep
from steel_eval.tasks import Task, load_task

if TYPE_CHECKING:
    from steel_eval.study import Arm, Options

Floats = NDArray[np.float64]


def study_results(arms: list["Arm"], options: "Options", folder: Path) -> dict[str, Any]:
    """Score the last checkpoint of every seed and arm, and compare. Raises InputError where no task was injected."""
    tasks = [load_task(name.strip(), options.data) for name in options.tasks.split(",") if name.strip()]
    right = {arm.name: _scored(arm, tasks, options, folder) for arm in arms}
    truth = _doses(folder / "injected" / "mixture")
    out: dict[str, Any] = {"tasks": {}}
    for task in tasks:
        items = [item for group in task.items.values() for item in group]
        by_arm = {name: scores[task.name] for name, scores in right.items()}
        accuracy = {name: scores_SQ.mean(1).tolist() for name, scores_SQ in by_arm.items()}
        entry: dict[str, Any] = {"accuracy": accuracy, "spill_over": None, "doses": None}
        doses = truth.get(task.benchmark, {})
        if any(doses.get(item.item) for item in items):
            entry |= _seen(by_arm, _items(items, doses))
        else:
            entry["spill_over"] = _spill(by_arm, task)
        out["tasks"][task.name] = entry
    if not any(entry["doses"] for entry in out["tasks"].values()):
        raise InputError(f"--tasks {options.tasks}: none of them was injected. Right: {', '.join(sorted(truth))}.")
    return out


def _scored(arm: "Arm", tasks: list[Task], options: "Options", folder: Path) -> dict[str, Floats]:
    """Return for each task the answers of an arm, right or wrong, (S, Q) in the order of the task's items."""
    import polars as pl

    rows: dict[str, list[Floats]] = {task.name: [] for task in tasks}
    for seed in sorted(arm.folder.glob("seed-*")):
        last = find_checkpoints(str(seed))[0][-1].folder
        out = seed / "scores" / last.name
        device, preset = default_device(), options.preset
        settings = Settings(tasks, [preset], options.shots, out, folder / "store.jsonl", device=device)
        for _ in run_sweep(str(last), settings):
            pass
        answers = pl.read_parquet(out / "answers.parquet")
        for task in tasks:
            mine = answers.filter(pl.col("task") == task.name)
            hit = dict(zip(mine["item"], (mine["prediction"] == mine["label"]).cast(pl.Float64), strict=True))
            rows[task.name].append(np.array([hit[i.item] for group in task.items.values() for i in group]))
    return {name: np.array(values) for name, values in rows.items()}


def _doses(mixture: Path) -> dict[str, dict[str, int]]:
    """Return benchmark -> item -> dose, from the truth file of a mixture."""
    import polars as pl

    out: dict[str, dict[str, int]] = {}
    for row in pl.read_parquet(mixture / "truth.parquet").iter_rows(named=True):
        out.setdefault(row["benchmark"], {})[row["item"]] = row["dose"]
    return out


def _items(items: list[Item], doses: dict[str, int]) -> Items:
    numbers = [np.unique(keys, return_inverse=True)[1] for keys in
               ([i.subject for i in items], [cluster_key(i) for i in items])]  # fmt: skip
    dose = np.array([doses.get(i.item, 0) for i in items], np.int64)
    return Items(dose, numbers[0].astype(np.int64), numbers[1].astype(np.int64))


def _seen(by_arm: dict[str, Floats], items: Items) -> dict[str, Any]:
    """Return the dose-response, against the placebo where there is one, and the clean scores of the injected seeds."""
    control = by_arm.get("placebo", by_arm["clean"])
    effects = dose_response(control, by_arm["injected"], items)
    reference_Q = by_arm["clean"].mean(0)
    clean = [clean_score(score_Q, items, reference_Q) for score_Q in by_arm["injected"]]
    unseen_Q = items.dose == 0
    right, n = round(float(by_arm["injected"][:, unseen_Q].mean(0).sum())), int(unseen_Q.sum())
    return {
        "doses": [vars(e) for e in effects], "against": "placebo" if "placebo" in by_arm else "clean",
        "clean_scores": [_fields(c) for c in clean], "true_clean": float(by_arm["clean"].mean()),
        "control_accuracy": right / max(1, n), "control_above": wilson(right, n)[0],
    }  # fmt: skip


def _fields(score: CleanScore) -> dict[str, Any]:
    return vars(score)


def _spill(by_arm: dict[str, Floats], task: Task) -> dict[str, Any]:
    """Return the difference injected - clean on a task that was not injected; chance is 1 / options."""
    items = [item for group in task.items.values() for item in group]
    clean_SQ, injected_SQ = by_arm["clean"], by_arm["injected"]
    chance = float(np.mean([1 / len(item.options) for item in items]))
    if min(len(clean_SQ), len(injected_SQ)) < 2:
        return {"verdict": "not testable here: one seed an arm says nothing of mixtures"}
    above = wilson(round(float(clean_SQ.mean(0).sum())), clean_SQ.shape[1])[0] > chance
    subject = np.unique([item.subject for item in items], return_inverse=True)[1].astype(np.int64)
    found = seeds_and_questions(clean_SQ, injected_SQ, subject, macro=False)
    values = {"difference": found.value, "low": found.low, "high": found.high, "p": found.p}
    return values | {"verdict": "" if above else "not testable here: the clean arm is at chance"}


def print_study(results: dict[str, Any]) -> None:
    """Print a table of doses for the injected task, then spill-over and clean scores in words."""
    out = Console(width=max(Console().width, 110))
    for name, entry in results["tasks"].items():
        lines = [
            ", ".join(f"{arm} {_percent(float(np.mean(v)))} ({len(v)} seeds)" for arm, v in entry["accuracy"].items())
        ]
        if entry["doses"] is None:
            lines.append(_spill_words(entry["spill_over"]))
        else:
            out.print(_doses_table(entry["doses"]))
            lines += [
                f"reported {_percent(c['reported'])}, estimated clean {_percent(c['clean'])} ({_percent(c['low'])} .. "
                f"{_percent(c['high'])}); the clean arm has {_percent(entry['true_clean'])}"
                for c in entry["clean_scores"]
            ]
        for line in lines:
            out.print(one_line(f"{name}: {line}"), markup=False, highlight=False, soft_wrap=True)


def _doses_table(effects: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE)
    for column in ("copies in the mixture", "items", "seen", "unseen", "gain, points", "95 % interval", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for e in effects:
        dose = "trend, a doubling" if e["dose"] is None else str(e["dose"])
        gain, interval = _points(e["effect"]), f"{_points(e['low'])} .. {_points(e['high'])}"
        table.add_row(
            dose, str(e["items"]), _percent(e["seen"]), _percent(e["unseen"]), gain, interval, f"{e['p']:.2g}"
        )
    return table


def _spill_words(found: dict[str, Any]) -> str:
    if "difference" not in found:
        return str(found["verdict"])
    interval = f"{_points(found['low'])} .. {_points(found['high'])}"
    return f"spill-over {_points(found['difference'])} points ({interval}), p {found['p']:.2g}. {found['verdict']}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
