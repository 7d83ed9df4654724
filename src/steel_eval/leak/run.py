"""The `leak` command: one checkpoint against its base, item by item, in one table.

Controls, in this order: the task named by `--control`; with a mixture, the items that it does not hold (tested are
those it holds); else the benchmark's own examples (dev), which few people train on.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import typer
from numpy.typing import NDArray

from steel_data.benchmarks.clusters import cluster_key
from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_data.files import atomic, atomic_write
from steel_eval.ask.tasks import Task, load_task
from steel_eval.contamination.overlap import Held, mixture_overlap
from steel_eval.leak.detectors.loss_gap import LossGap, Messages, loss_gap, ordinary_rows, row_logprobs
from steel_eval.leak.detectors.permutation import has_free_order
from steel_eval.leak.judge import as_items, judge
from steel_eval.leak.kept import Texts, check_tokenizer, choose_form
from steel_eval.leak.measure import Measured, measure
from steel_eval.leak.print import print_leak
from steel_eval.leak.rates.match import load_calibrations, match, words
from steel_eval.leak.rates.regime import regime_of
from steel_eval.leak.texts import Form, measurable
from steel_eval.models import default_device, find_checkpoints, load

Floats = NDArray[np.float64]
FEWEST = 20  # items absent from a mixture, below which they are no controls


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `leak` (cli.py explains them)."""

    base: str
    tasks: str
    data: Path
    mixture: Path | None
    control: str | None
    form: str
    permute: int
    out: Path | None
    device: str | None
    dtype: str
    calibration: list[Path]


@dataclass(frozen=True)
class Set:
    """The items of one task that are measured. `tested` False: a control. `found`: what the mixture holds."""

    task: Task
    items: list[Item]
    tested: NDArray[np.bool_]
    controls: str  # what they are, in words
    stratified: bool
    found: dict[str, Held] | None
    notes: list[str]


def leak_command(place: str, options: Options) -> None:
    """Run `leak`: print a table for each task; write leak.json and items.parquet below `--out`."""
    if options.form not in ("auto", "chat", "plain"):
        raise InputError(f"--form {options.form}: unknown. Right: auto, chat or plain.")
    calibrations = load_calibrations(options.calibration)
    names = [name.strip() for name in options.tasks.split(",") if name.strip()]
    sets = [make_set(load_task(name, options.data), options) for name in names]
    model, base = (find_checkpoints(p)[0][-1].folder for p in (place, options.base))
    chosen = [_permuted(s, options.permute) for s in sets]
    every = [item for s in sets for group in s.task.items.values() for item in group]
    rows = [] if options.mixture is None else ordinary_rows(options.mixture, every)
    after, before, form = _both(model, base, (sets, chosen, rows), options)
    known = match(regime_of(model), form, calibrations)
    out = options.out or Path("leak") / Path(place).name
    for s, mine, its in zip(sets, after.sets, before.sets, strict=True):
        items = as_items(s.items, s.tested, s.stratified)
        findings, p_values = judge(mine, its, items)
        gap = [_gap(x, s.tested, side.train_R) for x, side in ((mine, after), (its, before))]
        about = {
            "task": s.task.name, "form": form, "controls": s.controls, "notes": s.notes,
            "loss_gap": gap[0].test_ref, "loss_gap_base": gap[1].test_ref, "loss_gap_train": gap[0].test_train,
            "loss_gap_train_base": gap[1].test_train, "train_rows": len(after.train_R),
            "pass_tokens": mine.pass_tokens, "trie_tokens": mine.trie_tokens,
            "in_mixture": None if s.found is None else len(s.found), "of": sum(map(len, s.task.items.values())),
            "calibration": known.data(),
        }  # fmt: skip
        folder = out / s.task.name.replace("/", "_")
        _write(folder, s, (mine, its, p_values), about | {"findings": [asdict(f) for f in findings]})
        print_leak(about, findings, words(known))
        typer.echo(f"per item: {folder / 'items.parquet'}")


def make_set(task: Task, options: Options) -> Set:
    """Choose tested items and controls. Raises InputError where there are no controls."""
    every = [item for group in task.items.values() for item in group]
    tested = [item for item in every if measurable(item)]
    notes = [f"{len(every) - len(tested)} items without options or a key are left out"] * (len(tested) < len(every))
    found = mixture_overlap(options.mixture, every) if options.mixture is not None else None
    if options.control is not None:
        other = load_task(options.control, options.data)
        controls = [item for group in other.items.values() for item in group]
        words, stratified = f"items of {other.name}", other.benchmark == task.benchmark
    else:
        absent = [item for item in tested if found is not None and item.item not in found]
        if found and FEWEST <= len(absent) < len(tested):
            held = [item for item in tested if item.item in found]
            mine = np.array([True] * len(held) + [False] * len(absent))
            return Set(task, held + absent, mine, "items that the mixture does not hold", True, found, notes)
        controls = [item for group in task.examples.values() for item in group]
        words, stratified = f"the examples (dev) of {task.benchmark}", True
    keys = {cluster_key(item) for item in every}
    kept = [item for item in controls if measurable(item) and cluster_key(item) not in keys]
    if found is not None and options.mixture is not None:
        taught = mixture_overlap(options.mixture, kept)
        notes += [f"{len(taught)} controls are in the mixture themselves and left out"] * bool(taught)
        kept = [item for item in kept if item.item not in taught]
    if len(kept) < 2:
        raise InputError(f"{task.name}: no controls among {words}. Right: --control with a task that it never saw.")
    flags = np.array([True] * len(tested) + [False] * len(kept))
    return Set(task, tested + kept, flags, words, stratified, found, notes)


def _permuted(s: Set, most: int) -> list[int]:
    """Choose at most `most` tested items and as many controls for the permutations, by a fixed draw."""
    free = np.array([has_free_order(item) for item in s.items], bool)
    s.notes.append(f"permutations: {int((~free).sum())} items left out whose options have an order of their own")
    generator = np.random.default_rng(0)
    sides = [np.flatnonzero(free & side) for side in (s.tested, ~s.tested)]
    return sorted(i for side in sides for i in generator.permutation(side)[:most].tolist())


@dataclass(frozen=True)
class Side:
    """What one of the two models showed: each set's scores, and the log-probabilities of ordinary training rows."""

    sets: list[Measured]
    train_R: Floats


def _both(
    model: Path, base: Path, what: tuple[Sequence[Set], Sequence[list[int]], Sequence[Messages]], options: Options
) -> tuple[Side, Side, Form]:
    """Measure all sets under the model, then under the base, one of them in memory at a time."""
    sets, chosen, rows = what
    device = options.device or default_device()
    loaded = load(model, device, options.dtype)
    tokenizer = loaded.tokenizer
    form = choose_form(options.form, tokenizer)

    def side() -> Side:
        found = [measure(loaded, s.items, c, form, tokenizer) for s, c in zip(sets, chosen, strict=True)]
        return Side(found, row_logprobs(loaded, rows, form, tokenizer))

    after = side()
    del loaded
    loaded = load(base, device, options.dtype)
    for s in sets:
        check_tokenizer(base, loaded.tokenizer, Texts(s.items, [], form, tokenizer))
    return after, side(), form


def _gap(measured: Measured, tested: NDArray[np.bool_], train_R: Floats) -> LossGap:
    values = measured.scores["loss gap: item"]
    return loss_gap(values[tested], values[~tested], train_R if len(train_R) else None)


def _write(folder: Path, s: Set, scores: tuple[Measured, Measured, dict[str, Any]], about: dict[str, Any]) -> None:
    import polars as pl

    after, before, p_values = scores
    found = s.found or {}
    columns: dict[str, Any] = {
        "item": [i.item for i in s.items], "subject": [i.subject for i in s.items], "control": ~s.tested,
        "rows_in_mixture": [None if s.found is None else found[i.item].rows if i.item in found else 0 for i in s.items],
        "training_rows": [found[i.item].places if i.item in found else [] for i in s.items],
    }  # fmt: skip
    for name in after.scores:
        columns |= {f"{name} | model": after.scores[name], f"{name} | base": before.scores[name]}
        if name in p_values:
            columns[f"{name} | p"] = p_values[name]
    with atomic(folder / "items.parquet") as path:
        pl.DataFrame(columns, schema_overrides={"training_rows": pl.List(pl.String)}).write_parquet(path)
    atomic_write(folder / "leak.json", orjson.dumps(about, option=orjson.OPT_INDENT_2))
