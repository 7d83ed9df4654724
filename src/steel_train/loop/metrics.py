"""What a run says of itself while it runs: losses by source and kind, `metrics.jsonl`, and their curve, `loss.svg`."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from steel_data.files import atomic_write
from steel_data.page.chart import Axis, Line, Point, line_chart
from steel_train.examples.folder import Examples


class Window:
    """Sums since the last line of the log: of losses and of what they are means over, by source and by kind.

    SFT weighs a row by its learnt tokens, DPO a pair by 1 (`weights`, one per example). `measures`: names of what is
    summed beside the loss, and told in all only. All in float64. Shapes: G groups, Q the loss and its measures.
    """

    def __init__(self, examples: Examples, weights: npt.NDArray[np.int64], measures: tuple[str, ...] = ()) -> None:
        self.weights, self.measures = weights, measures
        self.groups: list[str] = []
        self.of: dict[str, npt.NDArray[np.int64]] = {}
        for column in ("source", "kind"):
            names, codes = np.unique(examples.table[column].fill_null("").to_numpy().astype(str), return_inverse=True)
            self.of[column] = codes.astype(np.int64) + len(self.groups)
            self.groups += [f"{column}/{name}" for name in names]
        self.reset()

    def reset(self) -> None:
        """Begin a new window."""
        self.losses = np.zeros((1 + len(self.measures), len(self.groups)))
        self.counts = np.zeros(len(self.groups))
        self.tokens = 0
        self.steps = 0

    def sums(self, rows: npt.NDArray[np.int64], losses_QE: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum of each measure over each group, (Q, G), for examples `rows` of one process."""
        total = np.zeros_like(self.losses)
        for codes in self.of.values():
            for row, losses in zip(total, losses_QE, strict=True):
                np.add.at(row, codes[rows], losses)
        return total

    def add(self, sums_QG: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], tokens: int) -> None:
        """Add one step (`rows`: its examples of all processes)."""
        self.losses += sums_QG
        for codes in self.of.values():
            np.add.at(self.counts, codes[rows], self.weights[rows].astype(float))
        self.tokens += tokens
        self.steps += 1

    def means(self) -> dict[str, Any]:
        """Return `loss`, `loss_by_source`, `loss_by_kind` and the measures; a group that did not occur is left out."""
        found: dict[str, dict[str, float]] = {"source": {}, "kind": {}}
        for name, loss, count in zip(self.groups, self.losses[0], self.counts, strict=True):
            column, _, group = name.partition("/")
            if count:
                found[column][group] = float(loss / count)
        sources = [i for i, name in enumerate(self.groups) if name.startswith("source/")]
        whole = [float(x) for x in self.losses[:, sources].sum(axis=1) / max(self.counts[sources].sum(), 1)]
        told = {"loss": whole[0], "loss_by_source": found["source"], "loss_by_kind": found["kind"]}
        return told | dict(zip(self.measures, whole[1:], strict=True))

    def state(self) -> dict[str, Any]:
        """Return the window as JSON data (floats survive exactly)."""
        return {
            "losses": self.losses.tolist(), "counts": self.counts.tolist(), "tokens": self.tokens, "steps": self.steps
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a window that a checkpoint kept (one of an earlier steel has the losses alone)."""
        self.reset()
        kept = np.atleast_2d(state["losses"])
        self.losses[: len(kept)] = kept
        self.counts = np.array(state["counts"])
        self.tokens, self.steps = state["tokens"], state["steps"]


class Metrics:
    """`metrics.jsonl` of a run: one JSON object a line, ascending steps."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"

    def read(self) -> list[dict[str, Any]]:
        """Return all whole lines (a kill may have cut the last)."""
        lines: list[dict[str, Any]] = []
        for line in self.path.read_bytes().splitlines() if self.path.is_file() else []:
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(found, dict) or not isinstance(found.get("step"), int):
                break
            lines.append(found)
        return lines

    def begin(self, lines: list[dict[str, Any]]) -> None:
        """Write these lines, and none besides."""
        atomic_write(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())

    def rewind(self, step: int) -> None:
        """Forget lines after `step`: a resumed run writes them again."""
        self.begin([line for line in self.read() if line["step"] <= step])

    def append(self, line: dict[str, Any]) -> None:
        """Write one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def flat(line: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a line, those of its tables under `table/key`, for loggers."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, dict):
            found |= {f"{key}/{name}": number for name, number in value.items()}
        elif isinstance(value, int | float) and key != "step":
            found[key] = value
    return found


def draw_scores(lines: list[dict[str, Any]], title: str, target: Path) -> None:
    """Write the scores of tasks while a run trained as a picture: accuracy over steps. Nothing without a score."""
    series: dict[str, list[Point]] = {}
    for line in lines:
        for task, share in line.get("eval_task_accuracy", {}).items():
            series.setdefault(task, []).append(Point(line["step"], share, words=f"{share:.1%}"))
    if series:
        curves = [Line(f"{points[-1].y:.1%} {task}", points) for task, points in series.items()]
        steps = Axis(label="step", words="{:,.0f}".format, least=1)
        atomic_write(target, line_chart(curves, steps, Axis(label="accuracy", words="{:.0%}".format), title).encode())


def draw_losses(lines: list[dict[str, Any]], title: str, target: Path) -> None:
    """Write `metrics.jsonl` lines as a picture: the loss over steps in all, by source and held out, a rule an epoch.

    Nothing is written of fewer than two lines of training.
    """
    looks = [Point(line["step"], line["eval_loss"]) for line in lines if "eval_loss" in line]
    lines = [line for line in lines if "loss" in line]
    if len(lines) < 2:
        return
    series: dict[str, list[Point]] = {}
    for line in lines:
        for source, loss in line["loss_by_source"].items():
            series.setdefault(source, []).append(Point(line["step"], loss))
    every = Line(f"{lines[-1]['loss']:.3f} all", [Point(line["step"], line["loss"]) for line in lines], total=True)
    curves = [every, *(Line(f"{points[-1].y:.3f} {name}", points) for name, points in series.items())]
    if looks:
        curves.append(Line(f"{looks[-1].y:.3f} held out", looks))
    epochs = {
        after["step"]: "" for before, after in pairwise(lines[:-1]) if int(before["epoch"]) != int(after["epoch"])
    }
    steps = Axis(label="step", words="{:,.0f}".format, least=1, rules=epochs)
    atomic_write(target, line_chart(curves, steps, Axis(label="loss"), title).encode())
