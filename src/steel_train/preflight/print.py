"""The pre-flight as people read it: tables, and the first batch with the learnt text marked."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steel_data.chinese import heading, say
from steel_data.row.display import console as wide_console
from steel_data.row.display import plain_table, print_table, visible
from steel_train.examples.folder import Examples
from steel_train.preflight.inspect import Report
from steel_train.schedule.order import Schedule


def print_report(report: Report, console: Console | None = None) -> None:
    """Print a report to the terminal, or as plain text to a pipe."""
    out = console or wide_console()
    for part in _parts(report):
        if isinstance(part, Table):
            print_table(part, out)
        else:
            out.print(part, soft_wrap=True)


def _line(text: str, style: str = "") -> Text:
    return Text(say(text), style=style)


def _parts(report: Report) -> Iterator[Any]:
    read = "" if report.rows == report.rows_read else f", read a sample of {report.rows_read:,}; counts are scaled up"
    yield _line(f"rows {report.rows:,}{read}")
    yield _sources(report)
    if report.held_out:
        parts = ", ".join(f"{visible(source)} {round(n * report.scale):,}" for source, n in report.held_out.items())
        yield _line(f"held out: {round(sum(report.held_out.values()) * report.scale):,} rows ({parts})")
    for reason, count in report.dropped.items():
        yield _line(f"dropped: {round(count * report.scale):,} rows, {visible(reason)}")
    if report.cut:
        yield _line(f"cut at max_length: {round(report.cut * report.scale):,} rows")
    shares = [(visible(end), count / report.turns) for end, count in report.ends.items()]
    shares += [(heading("nothing"), 1 - report.ended_share)] if report.turns and report.ended_share < 1 else []
    yield _line(f"turns end with {', '.join(f'{end} {share:.1%}' for end, share in shares)}")
    if report.date:
        yield _line(f"the chat template writes the date of today: always {report.date} here")
    yield _line(
        f"steps {report.steps:,} of {report.rows_per_step:,} rows, {report.steps_per_epoch:,} an epoch; "
        f"{report.checkpoints:,} checkpoints"
    )
    layout = (
        "packed, no padding, proven when the run starts"
        if report.packed
        else f"padding {report.padding:.1%} of all positions"
    )
    yield _line(f"layout: {layout} (rows batched as they come: {report.padding_plain:.1%})")
    yield _line(f"parameters {report.parameters / 1e6:,.1f} M")
    if report.memory is not None:
        yield _memory(report)
    yield _line(f"disk: {_gb(report.disk_needed)} for checkpoints, {_gb(report.disk_free)} free")
    if report.devices is not None and report.hours is not None:
        (low, high), on = report.hours, report.devices
        rate = (on.price or 0) * on.count
        price = f", price {low * rate:,.1f} to {high * rate:,.1f}" if rate else ""
        yield _line(f"estimate on {on.count} x {on.name}: {_duration(low, high)}{price}")
    for warning in dict.fromkeys(report.warnings):
        yield _line(f"warning: {say(visible(warning))}", style="yellow")
    for fault in dict.fromkeys(report.faults):
        yield _line(f"fault: {visible(fault)}", style="red")


def _duration(low: float, high: float) -> str:
    """Return a range of hours in the unit in which it is more than nothing."""
    for unit, hours in (("hours", 1.0), ("minutes", 1 / 60)):
        if high >= hours:
            return f"{low / hours:.1f} to {high / hours:.1f} {unit}"
    return "under a minute"


def _sources(report: Report) -> Table:
    table = plain_table("source", "examples", "tokens", "learnt", "share learnt", "share of loss")
    rows = [
        *report.sources,
        {"source": heading("all"), **{k: getattr(report, k) for k in ("examples", "tokens", "learnt")}},
    ]
    for row in rows:
        counts = [f"{round(row[k] * report.scale):,}" for k in ("examples", "tokens", "learnt")]
        shares = [f"{row['learnt'] / max(of, 1):.1%}" for of in (row["tokens"], report.learnt)]
        table.add_row(visible(row["source"]), *counts, *shares)
    return table


def _memory(report: Report) -> Table:
    assert report.memory is not None
    names = ("memory (estimate)", "weights", "gradients", "optimiser", "activations", "head", "peak")
    table = plain_table(*names)
    m = report.memory
    table.add_row(say("one device"), *map(_gb, (m.weights, m.gradients, m.optimiser, m.activations, m.head, m.peak)))
    return table


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size < 10e9 else f"{size / 1e9:.1f} GB"


def first_batch(examples: Examples, schedule: Schedule, tokenizer: Any, most: int = 3) -> Text:
    """Return the first rows of the first step: learnt text in green between » and «, the rest dim."""
    text = Text()
    for unit in schedule.units(0)[:most].tolist():
        for i in examples.members([unit]).tolist():
            row = examples.table.row(i, named=True)
            judged = {True: ", judged good", False: ", judged bad", None: ""}[row["label"]]
            counts = f"{row['length']} tokens, {row['learnt']} learnt{judged}"
            text.append(f"\n── row {row['id'][:8]}, {row['source']}, {counts}\n")
            ids, learnt = examples.one(i)
            for part, is_learnt in _stretches(np.array(ids), np.array(learnt)):
                shown = visible(tokenizer.decode(part))
                text.append(f"»{shown}«" if is_learnt else shown, style="bold green" if is_learnt else "dim")
    return text


def _stretches(ids: Any, learnt: Any) -> Iterator[tuple[Any, bool]]:
    """Cut a row where learnt text begins or ends."""
    borders = [0, *(np.flatnonzero(learnt[1:] != learnt[:-1]) + 1).tolist(), len(ids)]
    for start, end in pairwise(borders):
        yield ids[start:end], bool(learnt[start])
