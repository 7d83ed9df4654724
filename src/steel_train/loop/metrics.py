"""What a run says of itself while it runs: losses per source and kind, `metrics.jsonl`.

The loss curve of a run as a picture: `loss.svg`, drawn by hand so that no plotting library is needed.

One panel: the loss over steps in all and by source, a line an epoch. Colours: Okabe and Ito's, told apart by
colour-blind eyes.
"""

import json
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from steel_data.files import atomic_write
from steel_data.row.display import visible
from steel_train.examples.folder import Examples


class Window:
    """Sums since the last line of the log: of losses and of what they are means over, by source and by kind.

    SFT weighs a row by its learnt tokens, DPO a pair by 1 (`weights`, one per example). All in float64.
    """

    def __init__(self, examples: Examples, weights: npt.NDArray[np.int64]) -> None:
        self.weights = weights
        self.groups: list[str] = []
        self.of: dict[str, npt.NDArray[np.int64]] = {}
        for column in ("source", "kind"):
            names, codes = np.unique(examples.table[column].fill_null("").to_numpy().astype(str), return_inverse=True)
            self.of[column] = codes.astype(np.int64) + len(self.groups)
            self.groups += [f"{column}/{name}" for name in names]
        self.reset()

    def reset(self) -> None:
        """Begin a new window."""
        self.losses = np.zeros(len(self.groups))
        self.counts = np.zeros(len(self.groups))
        self.tokens = 0
        self.steps = 0

    def sums(self, rows: npt.NDArray[np.int64], losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum of losses of each group, for examples `rows` of one process."""
        total = np.zeros(len(self.groups))
        for codes in self.of.values():
            np.add.at(total, codes[rows], losses)
        return total

    def add(self, group_losses: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], tokens: int) -> float:
        """Add one step (`rows`: its examples of all processes) and return its mean loss."""
        self.losses += group_losses
        self.counts += self.sums(rows, self.weights[rows].astype(float))
        self.tokens += tokens
        self.steps += 1
        sources = [i for i, name in enumerate(self.groups) if name.startswith("source/")]
        return float(group_losses[sources].sum() / self.weights[rows].sum())

    def means(self) -> dict[str, Any]:
        """Return `loss`, `loss_by_source` and `loss_by_kind` of the window; a group that did not occur is left out."""
        found: dict[str, dict[str, float]] = {"source": {}, "kind": {}}
        for name, loss, count in zip(self.groups, self.losses, self.counts, strict=True):
            column, _, group = name.partition("/")
            if count:
                found[column][group] = float(loss / count)
        sources = [i for i, name in enumerate(self.groups) if name.startswith("source/")]
        total = float(self.losses[sources].sum() / max(self.counts[sources].sum(), 1))
        return {"loss": total, "loss_by_source": found["source"], "loss_by_kind": found["kind"]}

    def state(self) -> dict[str, Any]:
        """Return the window as JSON data (floats survive exactly)."""
        return {
            "losses": self.losses.tolist(), "counts": self.counts.tolist(), "tokens": self.tokens, "steps": self.steps
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a window that a checkpoint kept."""
        self.losses, self.counts = np.array(state["losses"]), np.array(state["counts"])
        self.tokens, self.steps = state["tokens"], state["steps"]


class Metrics:
    """`metrics.jsonl` of a run: one JSON object a line, ascending steps."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"

    def read(self) -> list[dict[str, Any]]:
        """Return all whole lines (a kill may have cut the last)."""
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines

    def rewind(self, step: int) -> None:
        """Forget lines after `step`: a resumed run writes them again."""
        kept = [line for line in self.read() if line["step"] <= step]
        atomic_write(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept).encode())

    def append(self, line: dict[str, Any]) -> None:
        """Write one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 860, 420, 60, 40, 200, 45
_COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b")
_MOST_LINES = len(_COLOURS)


def draw_losses(lines: list[dict[str, Any]], title: str, target: Path) -> None:
    """Write the curve of `metrics.jsonl` lines; nothing if there are fewer than two."""
    if len(lines) < 2:
        return
    series: dict[str, list[tuple[float, float]]] = {"all": [(line["step"], line["loss"]) for line in lines]}
    for line in lines:
        for source, loss in line["loss_by_source"].items():
            series.setdefault(source, []).append((line["step"], loss))
    atomic_write(target, _svg(series, lines, title).encode())


def _svg(series: dict[str, list[tuple[float, float]]], lines: list[dict[str, Any]], title: str) -> str:
    steps = [line["step"] for line in lines]
    losses = [loss for points in series.values() for _, loss in points]
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(step: float) -> float:
        return float(_LEFT + inner_w * (step - steps[0]) / max(steps[-1] - steps[0], 1))

    def y(loss: float) -> float:
        return float(_TOP + inner_h * (1 - (loss - low) / span))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(visible(title))}</text>',
    ]
    for i in range(5):
        loss, step = low + span * i / 4, steps[0] + (steps[-1] - steps[0]) * i / 4
        parts += [
            f'<line x1="{_LEFT}" x2="{_LEFT + inner_w}" y1="{y(loss):.1f}" y2="{y(loss):.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>',
            f'<text x="{x(step):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{step:,.0f}</text>',
        ]
    for before, after in pairwise(lines):
        if int(before["epoch"]) != int(after["epoch"]) and after is not lines[-1]:
            parts.append(
                f'<line x1="{x(after["step"]):.1f}" x2="{x(after["step"]):.1f}" y1="{_TOP}" y2="{_TOP + inner_h}" '
                'stroke="#999" stroke-dasharray="4 4"/>'
            )
    for i, (name, points) in enumerate(list(series.items())[:_MOST_LINES]):
        path = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in points)
        width = 2 if i == 0 else 1.2
        label_y = _TOP + 14 + 18 * i
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{_COLOURS[i]}" stroke-width="{width}"/>',
            f'<line x1="{_WIDTH - _RIGHT + 15}" x2="{_WIDTH - _RIGHT + 35}" y1="{label_y - 4}" y2="{label_y - 4}" '
            f'stroke="{_COLOURS[i]}" stroke-width="{width + 1}"/>',
            f'<text x="{_WIDTH - _RIGHT + 42}" y="{label_y}">{escape(visible(name[:24]))} {points[-1][1]:.3f}</text>',
        ]
    if len(series) > _MOST_LINES:
        parts.append(
            f'<text x="{_WIDTH - _RIGHT + 15}" y="{_TOP + 14 + 18 * _MOST_LINES}">'
            f"and {len(series) - _MOST_LINES} more</text>"
        )
    parts.append(f'<text x="{_LEFT + inner_w / 2}" y="{_HEIGHT - 8}" text-anchor="middle">step</text></svg>')
    return "\n".join(parts) + "\n"
