"""`score` and `compare` as functions, for scripts and notebooks: what the commands print comes back as rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from steel_data.errors import visible
from steel_eval.compare.pair import Comparison, Test, compare_arms
from steel_eval.score.accounting import in_words


@dataclass(frozen=True)
class ScoreTable:
    """What was scored. `rows`: one for each checkpoint and task, as in scores.json, with `checkpoint`, `step`, `task`
    and, in words, `said`. `folder`: where answers and scores lie.
    """

    rows: tuple[dict[str, Any], ...]
    folder: Path

    def _repr_html_(self) -> str:
        """Return the accuracies as a table, for notebooks."""
        cells = [(r["checkpoint"], r["task"], _percent(r["accuracy"]), f"{r['n']:,}", r["said"]) for r in self.rows]
        return _table(("checkpoint", "task", "accuracy, %", "n", ""), cells)


@dataclass(frozen=True)
class Compared:
    """The comparisons of arms pair by pair, with `verdict` in words."""

    tests: tuple[Test, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return each test as a dict, as `compare --json` prints it; figures are fractions."""
        return [asdict(test) for test in self.tests]

    def _repr_html_(self) -> str:
        """Return the differences as a table, for notebooks."""
        cells = [
            (
                f"{t.b} - {t.a}",
                t.task,
                f"{100 * t.difference:+.1f}",
                f"{100 * t.low:+.1f} to {100 * t.high:+.1f}",
                t.verdict,
            )
            for t in self.tests
        ]
        return _table(("comparison", "task", "points", "95 % interval", ""), cells)


def score(
    model: str | Path,
    tasks: Sequence[str],
    *,
    data: Path = Path("data"),
    shots: int = 5,
    preset: str = "lm-eval",
    out: Path | None = None,
) -> ScoreTable:
    """Score a checkpoint, an adapter, a hub id or every checkpoint of a run on benchmarks that lie under `data`.

    `out`: as for the command, RUN/scores or scores/<name>. What was finished before is read, not computed again. Raises
    InputError for what the user can put right, so for tasks of lm-eval, which only the command scores.
    """
    from steel_data.errors import InputError, nearest
    from steel_eval.ask.prompts import known_presets
    from steel_eval.models import default_device
    from steel_eval.run import output_folder, refuse_other_parts, split_tasks
    from steel_eval.score.sweep import Settings, run_sweep

    local, foreign = split_tasks(tasks, data)
    if foreign:
        raise InputError(f"{data}: no benchmark '{foreign[0]}' there.{nearest(foreign[0], [t.name for t in local])}")
    folder = out or output_folder(str(model))
    refuse_other_parts(folder, None)
    settings = Settings(
        tasks=local, presets=known_presets([preset]), shots=shots, out=folder, store=folder / "store.jsonl",
        device=default_device(), dtype="auto",
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for checkpoint, results in run_sweep(str(model), settings, None):
        for scores in results.values():
            for task, row in scores["tasks"].items():
                about = {"checkpoint": checkpoint.name, "step": checkpoint.step, "task": task}
                rows.append({**row, **about, "said": in_words(task, row)})
    return ScoreTable(tuple(rows), folder)


def compare(*arms: str, tasks: Sequence[str] = (), metric: str = "accuracy", checkpoint: str = "last") -> Compared:
    """Compare scored runs or groups of seeds (`exp2=runs/exp2/seed-*`) pair by pair, as the command does.

    `tasks`: by default all that every arm was scored on; `metric`: accuracy, macro or gold_probability; `checkpoint`:
    last, first or a step. Raises InputError for arms that cannot be compared.
    """
    return Compared(tuple(compare_arms(arms, Comparison(tasks=tasks, metric=metric, checkpoint=checkpoint))))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = ("".join(f"<td>{escape(visible(str(cell)))}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
