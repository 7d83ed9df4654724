"""The `score` command: split local benchmarks from lm-eval tasks, spread a run over devices, print what came out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from steel_data.errors import InputError, nearest
from steel_data.row.display import one_line
from steel_eval.ask.prompts import preset_names
from steel_eval.ask.tasks import is_local, load_task
from steel_eval.contamination.label import MARK, mark_of_scores
from steel_eval.models import Checkpoint, default_device, find_checkpoints
from steel_eval.score.sweep import Settings, run_sweep


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `score` as given on the command line (cli.py explains them)."""

    tasks: str
    data: Path
    shots: int | None
    preset: str
    out: Path | None
    store: Path | None
    device: str | None
    dtype: str
    rotate: bool
    generator: str
    showcase: bool
    watch: float | None


def score_command(place: str, options: Options) -> None:
    """Run `score`: prints one table a checkpoint. `place`: a checkpoint, an adapter, a hub id or a run."""
    names = [name.strip() for name in options.tasks.split(",") if name.strip()]
    local = [load_task(name, options.data) for name in names if is_local(name, options.data)]
    foreign = [name for name in names if not is_local(name, options.data)]
    is_run = options.watch is not None or find_checkpoints(place)[1]
    out = options.out or (Path(place) / "scores" if is_run else Path("scores") / Path(place).name)
    devices = (options.device or default_device()).split(",")
    settings = Settings(
        tasks=local, presets=_presets(options.preset), shots=5 if options.shots is None else options.shots, out=out,
        store=options.store or out / "store.jsonl", device=devices[0], dtype=options.dtype, rotate=options.rotate,
        generator=options.generator, showcase=options.showcase,
    )  # fmt: skip
    _report_missing(local)
    if len(devices) > 1:
        _on_devices(place, settings, devices)
    if local:
        for checkpoint, results in run_sweep(place, settings, options.watch):
            print_scores(checkpoint, results)
    if foreign:
        from steel_eval.harness import score_foreign

        for checkpoint in find_checkpoints(place)[0]:
            folder = out / checkpoint.name if is_run else out
            print_foreign(
                checkpoint, score_foreign(checkpoint, foreign, options.shots, folder, devices[0], options.dtype)
            )


def _presets(names: str) -> list[str]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in preset_names():
            raise InputError(f"--preset {name}: no such preset.{nearest(name, preset_names())}")
    return wanted


def _on_devices(place: str, settings: Settings, devices: Sequence[str]) -> None:
    """Score a run's checkpoints in one process a device; all write to one store, from which the caller then reads."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    checkpoints, _ = find_checkpoints(place)
    with ProcessPoolExecutor(len(devices), mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(
                _score_share, [str(c.folder) for c in checkpoints[i :: len(devices)]], replace(settings, device=device)
            )
            for i, device in enumerate(devices)
        ]
        for job in jobs:
            job.result()


def _score_share(folders: Sequence[str], settings: Settings) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        for folder in folders:
            for _ in run_sweep(folder, replace(settings, out=Path(scratch))):
                pass


def _report_missing(tasks: Sequence[Any]) -> None:
    for task in tasks:
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
    from rich.console import Console
    from rich.table import Table

    table = Table(title=one_line(checkpoint.name), title_justify="left")
    for name in (
        "task",
        "preset",
        "accuracy",
        "± stderr",
        "macro",
        "n",
        "invalid",
        "on valid",
        "if guessed",
        "p(gold)",
        "bits/byte",
    ):
        table.add_column(name, justify="left" if name in ("task", "preset") else "right")
    labels: dict[str, str] = {}
    for preset, scores in results.items():
        for task, row in scores["tasks"].items():
            mark = mark_of_scores(scores, task)
            sign = MARK if mark.contaminated and row["accuracy"] is not None else ""
            if mark.contaminated:
                labels[task] = mark.short()
            table.add_row(
                one_line(task), preset, _percent(row["accuracy"]) + sign, _percent(row["stderr"]),
                _percent(row["macro"]) + sign, f"{row['n']:,}", f"{row['invalid']:,}",
                _percent(row["accuracy_on_valid"]) + sign, _percent(row["expected_if_guessed"]) + sign,
                _number(row["gold_probability"]) + sign, _number(row["gold_bits_per_byte"]) + sign,
            )  # fmt: skip
    # not narrower than the table needs: a file or pipe has no width of its own
    console = Console()
    Console(width=max(console.width, 130)).print(table)
    for task, label in labels.items():
        typer.echo(f"{MARK} {one_line(task)}: {label}. No score of ability alone; `report` estimates the clean one.")
    if len(results) > 1:
        _print_spread(results)


def _print_spread(results: dict[str, dict[str, Any]]) -> None:
    for task in next(iter(results.values()))["tasks"]:
        values = {
            p: r["tasks"][task]["accuracy"] for p, r in results.items() if r["tasks"][task]["accuracy"] is not None
        }
        if len(values) > 1:
            low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
            spread = 100 * (values[high] - values[low])
            typer.echo(
                f"{task}: the same checkpoint differs by {spread:.1f} points between protocols ({low} to {high})."
            )


def print_foreign(checkpoint: Checkpoint, scores: dict[str, Any]) -> None:
    """Print the metrics of lm-eval tasks."""
    for task, row in scores["tasks"].items():
        shown = ", ".join(f"{k} {v:.4f}" for k, v in row["metrics"].items() if isinstance(v, float))
        mark = mark_of_scores(scores, task)
        label = f"  {MARK} {mark.short()}: no score of ability alone" if mark.contaminated else ""
        typer.echo(f"{one_line(checkpoint.name)}  {one_line(task)}: {shown}{label}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
