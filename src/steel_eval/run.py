"""The `score` command: split local benchmarks from lm-eval tasks, spread a run over devices, print what came out."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from steel_data.benchmarks.items import part_line
from steel_data.engine import Executor
from steel_data.errors import InputError
from steel_data.row.display import command, one_line, plain_table, print_next, print_table, told_line
from steel_eval.ask.tasks import Foreign, Task, is_local, key_may_be_another, limited, load_task
from steel_eval.contamination.label import MARK, mark_of_scores
from steel_eval.jobs import side_by_side
from steel_eval.models import Checkpoint, find_checkpoints
from steel_eval.score.accounting import in_words
from steel_eval.score.folder import TRIES, read_scores
from steel_eval.score.spread import (
    ScoreJob,
    checkpoints_of,
    fill_on_devices,
    on_this_device,
    refuse_unseen,
    score_jobs,
    seen_everywhere,
    sweep_on_cluster,
)
from steel_eval.score.sweep import Settings, run_sweep

_COLUMNS = ("task", "preset", "accuracy", "± stderr", "macro", "n", "invalid", "on valid",
            "invalid at chance", "p(gold)", "bits/byte")  # fmt: skip


def split_tasks(names: Sequence[str], data: Path, limit: int | None = None) -> tuple[list[Task], list[str]]:
    """Return the tasks that lie under `data`, read (`limit` questions a subject), and the names of lm-eval's."""
    here = [is_local(name, data) for name in names]
    local = [limited(load_task(name, data), limit) for name, ours in zip(names, here, strict=True) if ours]
    return local, [name for name, ours in zip(names, here, strict=True) if not ours]


def output_folder(
    place: str, watch: float | None = None, limit: int | None = None, revision: str | None = None
) -> Path:
    """Return where a place's scores go unless it is said: into the run itself, else scores/<name>.

    Those of a part of the questions lie apart, in `scores-limit-<n>`.
    """
    scores = "scores" if limit is None else f"{TRIES}{limit}"
    is_run = watch is not None or find_checkpoints(place, revision)[1]
    return Path(place) / scores if is_run else Path(scores) / Path(place).name


def refuse_other_parts(out: Path, limit: int | None) -> None:
    """Raise InputError where `out` holds scores of all questions or of another part of them: parts are never mixed.

    `limit`: questions a subject of what is to be scored; None: all.
    """
    for file in (f for depth in ("", "*/", "*/*/") for f in sorted(out.glob(f"{depth}scores.json"))):
        try:
            rows = read_scores(file.parent)["tasks"].values()
        except InputError:
            continue  # damaged: written anew
        held = max(((row.get("limit") or 0) for row in rows), default=limit or 0)
        if held != (limit or 0):
            part = f"of --limit {held}" if held else "of all questions"
            raise InputError(f"{file.parent}: holds scores {part}. Fix: another --out, which keeps the two apart.")


def score_command(place: str, settings: Settings, foreign: Foreign, watch: float | None) -> list[dict[str, Any]]:
    """Run `score`: print one table a checkpoint, and return its rows. `place`: a checkpoint, adapter, hub id or run.

    `settings.device` may name several, with commas. `foreign`: tasks of lm-eval. `watch`: idle seconds to wait for
    further checkpoints.
    """
    found: list[dict[str, Any]] = []
    devices = settings.device.split(",")
    settings = replace(settings, device=devices[0])
    _report_missing(settings.tasks)
    if len(devices) > 1:
        fill_on_devices(place, settings, devices)
    if settings.tasks:
        for checkpoint, results in run_sweep(place, settings, watch):
            print_scores(checkpoint, results)
            found += rows_of(checkpoint, results)
    if foreign.tasks:
        from steel_eval.harness import score_foreign

        checkpoints, is_run = checkpoints_of(place, settings)
        for job in score_jobs(checkpoints, is_run or watch is not None, settings):
            scores = score_foreign(job.checkpoint, foreign, settings, job.folder)
            print_foreign(job.checkpoint, scores)
            found += rows_of(job.checkpoint, {"lm-eval": scores})
    _say_next(settings.out)
    return found


def score_on_cluster(place: str, settings: Settings, foreign: Foreign, executor: Executor) -> list[dict[str, Any]]:
    """Run `score` on a cluster: each (checkpoint, task) is a job; prints and returns as `score_command` does.

    `settings.device`: of every machine; "": a GPU where one is. The folders are those that every machine sees.
    """
    found: list[dict[str, Any]] = []
    _report_missing(settings.tasks)
    if settings.tasks:
        for checkpoint, results in sweep_on_cluster(place, settings, executor):
            print_scores(checkpoint, results)
            found += rows_of(checkpoint, results)
    if foreign.tasks:
        checkpoints, is_run = checkpoints_of(place, settings)
        settings = seen_everywhere(settings)
        include = None if foreign.include is None else foreign.include.absolute()
        function = partial(_foreign_job, replace(foreign, include=include), settings)
        jobs = score_jobs(checkpoints, is_run, settings)
        for checkpoint, scores in zip(checkpoints, side_by_side(executor, function, jobs, what="score"), strict=True):
            print_foreign(checkpoint, scores)
            found += rows_of(checkpoint, {"lm-eval": scores})
    _say_next(settings.out)
    return found


def _foreign_job(foreign: Foreign, settings: Settings, job: ScoreJob) -> dict[str, Any]:
    from steel_eval.harness import score_foreign

    refuse_unseen(job.checkpoint, settings)
    return score_foreign(job.checkpoint, foreign, on_this_device(settings), job.folder)


def _say_next(out: Path) -> None:
    base, last = out / "base", max(out.glob("step-*"), default=out)
    pair = (f"base={base}", f"tuned={last}") if base.is_dir() and last != out else ("A", "B")
    print_next(f"{command('report', out)} shows every question", f"{command('compare', *pair)} sets two side by side")


def _report_missing(tasks: Sequence[Task]) -> None:
    for task in tasks:
        if task.part is not None:
            typer.echo(part_line(task.benchmark, task.split, *task.part), err=True)
        if key_may_be_another(task):
            typer.echo(
                f"{task.name}: scored by the key in these files. Its authors' own came out on 27 July 2025; copies "
                "from before may carry somebody else's",
                err=True,
            )
        if task.missing:
            shown = ", ".join(task.missing[:5]) + (" …" if len(task.missing) > 5 else "")
            typer.echo(
                f"{task.name}: {len(task.missing)} of its subjects are not in the data: {one_line(shown)}", err=True
            )
        without = [s for s in task.items if not task.examples.get(s)]
        if without and task.split != "dev":
            typer.echo(f"{task.name}: no examples (dev split) for {len(without)} subjects: scored without", err=True)


def print_scores(checkpoint: Checkpoint, results: dict[str, dict[str, Any]]) -> None:
    """Print the scores of one checkpoint: a row a task and preset, invalid answers never hidden."""
    typer.echo(one_line(checkpoint.name))
    table = plain_table(*_COLUMNS, left=2)
    labels: dict[str, str] = {}
    for preset, scores in results.items():
        for task, row in scores["tasks"].items():
            mark = mark_of_scores(scores, task)
            sign = MARK if mark.contaminated and row["accuracy"] is not None else ""
            if mark.contaminated:
                labels[task] = mark.short()
            table.add_row(
                one_line(task) + _part(row), preset, _percent(row["accuracy"]) + sign, _percent(row["stderr"]),
                _percent(row["macro"]) + sign, f"{row['n']:,}", f"{row['invalid'] or 0:,}",
                _percent(row["accuracy_on_valid"]) + sign, _percent(row["expected_if_guessed"]) + sign,
                _number(row["gold_probability"]) + sign, _number(row["gold_bits_per_byte"]) + sign,
            )  # fmt: skip
    print_table(table)
    for task, row in next(iter(results.values()))["tasks"].items():
        if row.get("limit"):
            told_line(f"{task}: --limit {row['limit']}: a try on a part, no score of the benchmark.")
    for task, label in labels.items():
        told_line(f"{MARK} {task}: {label}. No score of ability alone; `report` estimates the clean one.")
    if len(results) > 1:
        _print_spread(results)
    for preset, scores in results.items():
        for task, row in scores["tasks"].items():
            if words := in_words(task if len(results) == 1 else f"{task}, {preset}", row):
                told_line(words)


def rows_of(checkpoint: Checkpoint, results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table that `print_scores` prints, as data: what stands in scores.json but its subjects.

    `contaminated`: whether the training mixture held questions of the task.
    """
    return [
        {
            "checkpoint": checkpoint.name, "step": checkpoint.step, "task": task, "preset": preset,
            "contaminated": mark_of_scores(scores, task).contaminated,
            **{key: value for key, value in row.items() if key not in ("subjects", "groups")},
        }
        for preset, scores in results.items() for task, row in scores["tasks"].items()
    ]  # fmt: skip


def _print_spread(results: dict[str, dict[str, Any]]) -> None:
    for task in next(iter(results.values()))["tasks"]:
        values = {
            p: r["tasks"][task]["accuracy"] for p, r in results.items() if r["tasks"][task]["accuracy"] is not None
        }
        if len(values) > 1:
            low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
            spread = 100 * (values[high] - values[low])
            told_line(
                f"{task}: the same checkpoint differs by {spread:.1f} points between protocols ({low} to {high})."
            )


def print_foreign(checkpoint: Checkpoint, scores: dict[str, Any]) -> None:
    """Print the metrics of lm-eval tasks."""
    for task, row in scores["tasks"].items():
        shown = ", ".join(f"{k} {v:.4f}" for k, v in row["metrics"].items() if isinstance(v, float))
        mark = mark_of_scores(scores, task)
        label = f"  {MARK} {mark.short()}: no score of ability alone" if mark.contaminated else ""
        typer.echo(f"{one_line(checkpoint.name)}  {one_line(task)}: {shown}{label}")


def _part(row: dict[str, Any]) -> str:
    """Return in words that a task was asked in part."""
    return f" ({row['n']:,} of {row['of']:,})" if row.get("limit") else ""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
