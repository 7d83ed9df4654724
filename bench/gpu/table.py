"""The results of a run as the page docs/results/gpu.md has it: only what the lines say, and what failed or is missing."""

import json
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

TITLES = {
    "machine": "The machine", "correct": "Every op against float64", "head": "Head and loss, forward and backward",
    "layers": "The ops of a layer, forward and backward", "train": "Training end to end",
    "memory": "What fits on a card", "resume": "Killed and run again", "commands": "The commands, as a user gives them",
    "score": "Scoring at five shots",
}  # fmt: skip
# part -> columns: (heading, key of the row, format)
COLUMNS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "machine": (("check", "check", ""), ("error", "error", ".1e"), ("extra GB", "extra_gb", ".3f"), ("right", "pass", "")),
    "correct": (("op", "op", ""), ("case", "case", ""), ("worst error / bound", "worst", ".2f"),
                ("ten runs equal", "ten_runs_equal", ""), ("fell back", "fell_back", ""), ("right", "pass", "")),
    "head": (("rows", "rows", ",d"), ("hidden", "hidden", ",d"), ("weight", "regime", ""), ("form", "form", ""),
             ("ms", "ms", ".2f"), ("GB", "peak_gb", ".2f"), ("dX error", "dx_error", ".1e"), ("loss", "loss", ".6g"),
             ("", "skipped", "")),
    "layers": (("op", "op", ""), ("regime", "regime", ""), ("form", "form", ""), ("ms", "ms", ".3f"),
               ("of copy bandwidth", "of_copy_bandwidth", ".0%"), ("", "skipped", "")),
    "train": (("shape", "shape", ""), ("rows", "rows", ""), ("trainer", "way", ""), ("tokens/s", "tokens_s", ",.0f"),
              ("tokens a step", "tokens_a_step", ",d"), ("slowest step, s", "slowest_step_s", ".2f"), ("MFU", "mfu_of_gemm", ".0%"), ("peak GB", "peak_gb", ".1f"), ("estimated GB", "estimated_gb", ".1f"),
              ("attention", "attention", ""), ("loss", "loss", ".3f"), ("", "skipped", "")),
    "memory": (("base", "base", ""), ("form", "form", ""), ("peak GB", "peak_gb", ".2f"), ("estimated GB", "estimated_gb", ".2f"),
               ("tokens a step", "tokens", ",d"), ("loss", "loss", ".3f"),
               ("seconds", "seconds", ".0f"), ("", "skipped", "")),
    "resume": (("check", "check", ""), ("weights equal", "weights_equal", ""), ("losses equal", "losses_equal", ""),
               ("largest relative difference", "largest_relative_difference", ".1e"), ("right", "pass", "")),
    "commands": (("check", "check", ""), ("ended well", "pass", ""), ("seconds", "seconds", ".0f"), ("questions", "questions", ",d"),
                 ("same answers", "same_answers", ".1%"), ("largest difference, nats", "largest_difference", ".1e"), ("", "said", "")),
    "score": (("scorer", "way", ""), ("questions", "questions", ",d"), ("questions/s", "questions_s", ".1f"),
              ("same answers", "same_answers", ".1%"), ("largest difference", "largest_difference", ".1e"), ("", "skipped", "")),
}  # fmt: skip
NOTES = {
    "correct": "Error and bound: of the worst tensor of outputs and gradients; the bound is the error of rounding the exact "
    "result, with a margin (bench/gpu/correct.py).",
    "head": "Median of five in turns; GB beyond the inputs (dX and dW included); dX on the first 256 rows against float64.",
    "memory": "Random bases, written in bfloat16 and loaded as a user's are; packed passes of some 1,300 tokens, gradient "
    "checkpointing on.",
    "commands": "A model of two million parameters on the generated sample; other parts ran beside them.",
    "train": "Median of steps 5 to 12 of 12; 32 conversations or 256 short rows a step. MFU: 6 x parameters x tokens/s over the rate of a plain bf16 GEMM of 8,192 measured here; "
    "attention is not counted.",
}


def read(results: Path) -> list[dict[str, Any]]:
    """Return the lines of a run; one that was cut by a kill is left out."""
    rows = []
    for line in results.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def wrong(results: Path) -> bool:
    """Return whether a part failed, or an op or check was found wrong."""
    return any("failed" in row or row.get("pass") is False for row in read(results))


def page(results: Path, dry: bool) -> str:
    """Return the page; it says on top what did not run."""
    rows = read(results)
    about: dict[str, Any] = next((row for row in rows if "card" in row), {})
    versions = ", ".join(f"{name} {found}" for name, found in about.get("versions", {}).items() if found)
    rates = next((row for row in rows if "copy_tb_s" in row), {})
    lines = ["# Results: GPU", ""]
    if dry:
        lines += ["**A dry run at tiny sizes on a CPU: no number here means anything.**", ""]
    lines += [
        f"`make gpu` on {about.get('card', 'an unknown machine')}, {date.today()}; python {about.get('python', '?')}, {versions}."
    ]
    if rates:
        lines += [f"A copy moves {rates['copy_tb_s']:.2f} TB/s (read and written), a bf16 product of {rates['gemm_size']:,} does "
                  f"{rates['gemm_tflop_s']:.0f} Tflop/s."]  # fmt: skip
    failed = [f"{row['part']}: {row['failed']}" for row in rows if "failed" in row]
    missing = [part for part in TITLES if not any(row["part"] == part for row in rows)]
    lines += ["", *(f"- **Did not finish**: {text}" for text in [*failed, *(f"{part}: not run" for part in missing)])]
    for part, title in TITLES.items():
        mine = [
            with_worst(row) for row in rows if row["part"] == part and not row.keys() & {"failed", "finished", "card"}
        ]
        mine = [row for row in mine if "copy_tb_s" not in row]
        if mine:
            lines += ["", f"## {title}", "", *([NOTES[part], ""] if part in NOTES else []), *table(COLUMNS[part], mine)]
    return "\n".join(lines) + "\n"


def with_worst(row: dict[str, Any]) -> dict[str, Any]:
    """Add the largest ratio of an error to its bound."""
    pairs = zip(row.get("errors", ()), row.get("bounds", ()), strict=False)
    ratios = [error / bound for error, bound in pairs]
    return row | ({"worst": max(ratios)} if ratios else {})


def table(columns: Sequence[tuple[str, str, str]], rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return a Markdown table without the columns that no row has."""
    rows = list(rows)
    columns = [c for c in columns if any(row.get(c[1]) is not None for row in rows)]
    out = ["| " + " | ".join(heading for heading, _, _ in columns) + " |", "|" + "---|" * len(columns)]
    return out + ["| " + " | ".join(cell(row.get(key), how) for _, key, how in columns) + " |" for row in rows]


def cell(value: Any, how: str) -> str:
    """Return one cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return (format(value, how) if how else str(value)).replace("|", "\\|")
