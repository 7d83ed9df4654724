"""What a run has seen at a step: of each unit, of each source, and of each injected benchmark item."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.errors import InputError
from steel_train.examples.blocks import blocks
from steel_train.examples.folder import Examples, open_examples
from steel_train.examples.held_out import hold_out
from steel_train.schedule.order import Schedule

I64 = npt.NDArray[np.int64]


def seen_units(schedule: Schedule, step: int) -> tuple[I64, I64]:
    """Return for each unit how often it was seen in the first `step` steps, and the last of them (from 1; 0: never)."""
    seen, last = np.zeros(schedule.lengths.shape, np.int64), np.zeros(schedule.lengths.shape, np.int64)
    for number in range(step):
        units = schedule.units(number)
        seen[units] += 1
        last[units] = number + 1
    return seen, last


def exposures(examples: Examples, schedule: Schedule, step: int) -> dict[str, Any]:
    """Return what has been seen after `step` steps: rows by source, and injected items with their exposures.

    `{"rows": {source: n}, "injected": {benchmark: {dose: {"items": n, "exposures": n}}}}`
    """
    seen, _ = seen_units(schedule, step)
    table = _once_a_row(_with_units(examples, {"seen": seen}))
    rows = dict(sorted(table.group_by("source").agg(pl.col("seen").sum()).iter_rows()))
    injected: dict[str, Any] = {}
    counted = table.filter(pl.col("benchmark").is_not_null()).group_by("benchmark", "dose")
    for benchmark, dose, items, times in (
        counted.agg(pl.col("item").n_unique(), pl.col("seen").sum()).sort("benchmark", "dose").iter_rows()
    ):
        injected.setdefault(benchmark, {})[str(dose)] = {"items": items, "exposures": times}
    return {"rows": rows, "injected": injected}


def _with_units(examples: Examples, known: dict[str, I64]) -> pl.DataFrame:
    """Return the examples' table with what is known of their units; of a pair its first example."""
    first = np.arange(0, len(examples.table), examples.per_unit)
    of = first // examples.per_unit
    if examples.firsts is not None:
        of = np.searchsorted(examples.firsts, first, side="right") - 1
    return examples.table[first].with_columns(pl.Series(name, values[of]) for name, values in known.items())


def _once_a_row(table: pl.DataFrame) -> pl.DataFrame:
    """Leave the first unit of each row: one whose turns are rendered apart, or which is split, has several."""
    return table.filter(pl.col("row").ne_missing(pl.col("row").shift()))


def item_exposures(checkpoint: Path, facts: dict[str, Any]) -> pl.DataFrame:
    """Return the injected items of a checkpoint's run: `benchmark`, `item`, `dose`, `seen`, `last`.

    `seen`: exposures that this checkpoint has consumed; `last`: the step (from 1) of the latest, 0 for none. Worked out
    from the run's seed and examples, so it needs no log. `facts`: the checkpoint's steel.json. Raises InputError where
    the run's examples are gone.
    """
    folders = [folder / "examples" for folder in checkpoint.absolute().parents[:4]]
    place = next((folder for folder in folders if (folder / "examples.json").is_file()), None)
    if place is None:
        raise InputError(f"{checkpoint}: no examples/ above it. Fix: the checkpoint where `steel train` wrote it.")
    examples, train = open_examples(place), facts["train"]
    if train.get("eval"):
        rule = train["eval"]
        examples, _ = hold_out(examples, rule["rows"], rule["share"], facts["held_out"]["never"])
    if train["method"] == "pretrain":
        examples = blocks(examples, train["max_length"])
    schedule = Schedule(
        lengths=examples.unit_lengths(), seed=facts["seed"], epochs=train["epochs"], micro_batch=train["micro_batch"],
        accumulate=train["accumulate"], processes=facts.get("processes", 1), max_steps=train["max_steps"],
    )  # fmt: skip
    seen, last = seen_units(schedule, facts["step"])
    table = _once_a_row(_with_units(examples, {"seen": seen, "last": last}))
    injected = table.filter(pl.col("benchmark").is_not_null())
    return injected.group_by("benchmark", "item", "dose").agg(pl.sum("seen"), pl.max("last")).sort("benchmark", "item")
