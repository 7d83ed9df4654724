"""The `leak` command: one checkpoint against its base, item by item, in one table.

Controls, in this order: the task named by `--control`; with a mixture, the items that it does not hold (tested are
those it holds); else the benchmark's own examples (dev), which few people train on.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import typer
from numpy.typing import NDArray

from steel_data.benchmarks.clusters import cluster_key, cluster_names
from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_data.files import atomic, atomic_write
from steel_data.page.nav import CARD, LEAK, publish
from steel_data.row.display import command, print_next
from steel_eval.ask.tasks import Task, limited, load_task
from steel_eval.contamination.items import card_of
from steel_eval.contamination.overlap import Held, mixture_overlap
from steel_eval.contamination.verdict import joint, print_block
from steel_eval.leak.detectors.loss_gap import LossGap, Messages, loss_gap, ordinary_rows, row_logprobs
from steel_eval.leak.detectors.permutation import has_free_order
from steel_eval.leak.judge import COMBINED, as_items, judge, levelled
from steel_eval.leak.kept import How, check_tokenizer, heard
from steel_eval.leak.measure import Measured, Texts, choose_permuted, measure
from steel_eval.leak.page import write_page
from steel_eval.leak.print import print_leak
from steel_eval.leak.rates.match import BASE, context_words, load_calibrations, match, strength, words
from steel_eval.leak.rates.regime import regime_of
from steel_eval.leak.reference_runs import FAMILY, as_family, check_recipes, mean_of, saw
from steel_eval.leak.reference_runs import FEWEST as FEWEST_RUNS
from steel_eval.leak.texts import Forms, as_injected, choose_form, fitting, in_words, measurable
from steel_eval.leak.verdict import LEVEL, Evidence, right_answers, verdict
from steel_eval.models import Opening, check, default_device, find_checkpoints, load
from steel_eval.stats.aggregate import SetTest
from steel_eval.stats.paired import Difference
from steel_train.models.weights import base_of

Floats = NDArray[np.float64]
FEWEST = 20  # items absent from a mixture, below which they are no controls


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """What is asked of whom: did `model`, trained from `base` (which saw none of them) on `mixture` (None: not known),
    see the items of `tasks`, which lie under `data`? `control`: a task that it never saw. `references`: clean runs of
    the model's own recipe, whose mean stands in the base's place. `limit`: of each subject so many questions, for a
    try (see `limited`); None: all.
    """

    model: str
    base: str
    tasks: Sequence[str]
    data: Path
    mixture: Path | None = None
    control: str | None = None
    references: Sequence[str] = ()
    limit: int | None = None


@dataclass(frozen=True)
class Set:
    """The items of one task that are measured. `tested` False: a control. `found`: what the mixture holds."""

    task: Task
    items: list[Item]
    tested: NDArray[np.bool_]
    controls: str  # what they are, in words
    stratified: bool
    like: bool  # controls are of the same benchmark
    found: dict[str, Held] | None
    notes: list[str]
    forms: dict[str, str]  # of injected items, as the mixture declares them
    saw: NDArray[np.bool_] | None = None  # (R, I): which of them each reference run's own mixture holds

    @property
    def injected(self) -> list[str]:
        """Return the form in which each item was injected, "" where it was not."""
        return [self.forms.get(item.item, "") for item in self.items]

    @property
    def two_sided(self) -> bool:
        """Return whether there are tested items and controls."""
        return bool(self.tested.any() and not self.tested.all())


@dataclass(frozen=True)
class Side:
    """What one of the two models showed: each set's scores, and the log-probabilities of ordinary training rows."""

    sets: list[Measured]
    train_R: Floats


def leak_command(asked: Suspicion, how: How, calibration: Sequence[Path], out: Path) -> dict[str, Any]:
    """Run `leak`: print the verdict and a table for each task; write leak.json, leak.html and, for each task, its
    leak.json and items.parquet below `out`; return the content of leak.json.

    `calibration`: places of error rates beside those that ship.
    """
    calibrations = load_calibrations(calibration)
    model = find_checkpoints(asked.model, how.opening.revision)[0][-1].folder
    bases = [find_checkpoints(place)[0][-1].folder for place in asked.references or [asked.base]]
    if asked.references:
        check_recipes(model, bases)
    opened = _openings(model, bases[0], how.opening)
    check(model, opened[0])
    for base in bases:
        check(base, opened[1])
    sets = [make_set(load_task(name, asked.data), asked) for name in asked.tasks]
    for s in sets:
        fixed = sum(not has_free_order(item) for item in s.items)
        s.notes.append(f"permutations: {fixed} items left out whose options have an order of their own")
    if asked.references:
        sets = [_beside(s, bases) for s in sets]
    every = [item for s in sets for group in s.task.items.values() for item in group]
    rows = [] if asked.mixture is None else ordinary_rows(asked.mixture, every)
    sets, after, before, forms = _both([model, *bases], opened, sets, rows, how)
    regime = regime_of(model, opened[0].base, asked.mixture)
    compared = FAMILY if asked.references else BASE
    tasks, verdicts, said = [], [], []
    for s, mine, its, form in zip(sets, after.sets, before.sets, forms, strict=True):
        known = match(regime, in_words(form), calibrations, compared)
        said.append([*words(known), *context_words(known, how.in_context)])
        items = as_items(s.items, s.tested, s.stratified)
        level = levelled(mine, its, ~s.tested, form)
        findings, p_values, test = judge(mine, level, items)
        if asked.references:
            findings = as_family(findings, {n: mine.scores[n] - level.scores[n] for n in mine.scores}, items)
        right = right_answers(its.right_I, mine.right_I, items)
        verdicts.append(verdict(_evidence(s, test, right, strength(known)), LEVEL / len(sets)))
        gap, base_gap = (_gap(x, s.tested, side.train_R) for x, side in ((mine, after), (its, before)))
        about = {
            "task": s.task.name, "limit": s.task.limit, "form": in_words(form), "controls": s.controls,
            "notes": s.notes, "compared_with": compared,
            "loss_gap": gap.test_ref, "loss_gap_base": base_gap.test_ref, "loss_gap_train": gap.test_train,
            "loss_gap_train_base": base_gap.test_train, "train_rows": len(after.train_R),
            "pass_tokens": mine.pass_tokens, "trie_tokens": mine.trie_tokens, "context_tokens": mine.context_tokens,
            "in_mixture": None if s.found is None else len(s.found), "of": sum(map(len, s.task.items.values())),
            "set_test": None if test is None else {**asdict(test.excess), "p": test.p}, "calibration": known.data(),
        }  # fmt: skip
        folder = out / s.task.name.replace("/", "_")
        with atomic(folder / "items.parquet") as path:
            _item_frame(s, mine, its, p_values).write_parquet(path)
        report = {"verdict": verdicts[-1].data(), **about, "findings": [asdict(f) for f in findings]}
        atomic_write(folder / "leak.json", orjson.dumps(report, option=orjson.OPT_INDENT_2))
        tasks.append((about, findings, folder / "items.parquet"))
    sizes = [sum(map(len, s.task.items.values())) for s in sets]
    report = {
        "verdict": joint(verdicts, sizes),
        "tasks": {v.name: {"verdict": v.data(), "findings": [asdict(f) for f in findings]}
                  for v, (_, findings, _) in zip(verdicts, tasks, strict=True)},
    }  # fmt: skip
    atomic_write(out / "leak.json", orjson.dumps(report, option=orjson.OPT_INDENT_2))
    page = write_page(asked.model, verdicts, tasks, list(dict.fromkeys(line for lines in said for line in lines)))
    publish(out / "leak.html", page, LEAK, {CARD: card_of(model, asked.mixture)})
    print_block(verdicts)
    for (about, findings, file), lines in zip(tasks, said, strict=True):
        print_leak(about, findings, lines)
        typer.echo(f"per item: {file}")
    typer.echo(str(out / "leak.html"))
    print_next(f"{command('open', out / 'leak.html')} opens the page")
    return report


def _evidence(s: Set, test: SetTest | None, right: Difference | None, strong: float | None) -> Evidence:
    of = sum(map(len, s.task.items.values()))
    return Evidence(
        task=s.task.name, of=of, held=None if s.found is None else len(s.found), tested=int(s.tested.sum()),
        controls=int((~s.tested).sum()), controls_are=s.controls, like=s.like, test=test, inflation=right,
        share=int(s.tested.sum()) / max(1, of), strength=strong,
    )  # fmt: skip


def _beside(s: Set, references: Sequence[Path]) -> Set:
    """Return a set's items that enough reference runs did not see. Raises InputError where none are left of a side."""
    saw_RI = saw(references, s.items, s.notes)
    kept_I = (~saw_RI).sum(0) >= FEWEST_RUNS
    kept = _only(replace(s, saw=saw_RI), kept_I)
    if not kept.two_sided:
        raise InputError(
            f"{s.task.name}: no items, or no controls, that {FEWEST_RUNS} reference runs did not see. Fix: runs in "
            f"place of {references[0]} whose mixtures do not hold them."
        )
    if not kept_I.all():
        s.notes.append(
            f"{int((~kept_I).sum())} items left out: fewer than {FEWEST_RUNS} reference runs did not see them"
        )
    return kept


def _only(s: Set, kept_I: NDArray[np.bool_]) -> Set:
    """Return some of a set's items."""
    return replace(
        s, items=list(itertools.compress(s.items, kept_I)), tested=s.tested[kept_I],
        saw=None if s.saw is None else s.saw[:, kept_I],
    )  # fmt: skip


def make_set(task: Task, asked: Suspicion) -> Set:
    """Choose tested items and controls. Raises InputError where there are no controls."""
    every = [item for group in task.items.values() for item in group]  # of those beyond a limit too: no controls
    task = limited(task, asked.limit)
    some = [item for group in task.items.values() for item in group]
    tested = [item for item in some if measurable(item)]
    notes = [f"{len(some) - len(tested)} items without options or a key are left out"] * (len(tested) < len(some))
    notes += [f"--limit {task.limit}: a try on {len(some):,} of {task.whole:,} items"] * (task.limit is not None)
    found = mixture_overlap(asked.mixture, some) if asked.mixture is not None else None
    forms = _injected_forms(asked.mixture, task.benchmark) if asked.mixture is not None else {}
    if asked.control is not None:
        other = limited(load_task(asked.control, asked.data), asked.limit)
        controls = [item for group in other.items.values() for item in group]
        words, stratified = f"items of {other.name}", other.benchmark == task.benchmark
        like = stratified
    else:
        absent = [item for item in tested if found is not None and item.item not in found]
        if found and FEWEST <= len(absent) < len(tested):
            held = [item for item in tested if item.item in found]
            absent = _apart(absent, held, notes)
            mine = np.array([True] * len(held) + [False] * len(absent))
            return Set(
                task, held + absent, mine, "items that the mixture does not hold", True, True, found, notes, forms
            )
        controls = [item for group in task.examples.values() for item in group]
        words, stratified, like = f"the examples (dev) of {task.benchmark}", True, True
    keys = {cluster_key(item) for item in every}
    kept = [item for item in controls if measurable(item) and cluster_key(item) not in keys]
    if found is not None and asked.mixture is not None:
        taught = mixture_overlap(asked.mixture, kept)
        notes += [f"{len(taught)} controls are in the mixture themselves and left out"] * bool(taught)
        kept = [item for item in kept if item.item not in taught]
    kept = _apart(kept, tested, notes)
    if len(kept) < 2:
        raise InputError(f"{task.name}: no controls among {words}. Fix: --control with a task that it never saw.")
    flags = np.array([True] * len(tested) + [False] * len(kept))
    return Set(task, tested + kept, flags, words, stratified, like, found, notes, forms)


def _injected_forms(mixture: Path, benchmark: str) -> dict[str, str]:
    """Return item -> form of a benchmark's items that a mixture says it injected; nothing where it says nothing."""
    file = mixture / "truth.parquet"
    if not file.is_file():
        return {}
    told = pl.read_parquet(file, columns=["benchmark", "item", "dose", "form"])
    mine = told.filter((pl.col("benchmark") == benchmark) & (pl.col("dose") > 0) & pl.col("form").is_not_null())
    return dict(mine.select("item", "form").iter_rows())


def _apart(controls: list[Item], tested: list[Item], notes: list[str]) -> list[Item]:
    """Return the controls that are near no tested item: who has seen one has as good as seen the other."""
    names = cluster_names([*tested, *controls])
    mine = set(names[: len(tested)])
    kept = [item for item, name in zip(controls, names[len(tested) :], strict=True) if name not in mine]
    notes += [f"{len(controls) - len(kept)} controls are near tested items and left out"] * (len(kept) < len(controls))
    return kept


def _openings(model: Path, base: Path, how: Opening) -> tuple[Opening, Opening]:
    """Return how the model and its base are opened. An adapter of which the own base is not there lies on `base`."""
    mine = replace(how, revision=None)
    if (model / "adapter_config.json").is_file():
        try:
            base_of(model)
        except InputError:
            mine = replace(mine, base=str(base))
    return mine, replace(how, revision=None)


def _both(
    places: Sequence[Path], opened: tuple[Opening, Opening], sets: Sequence[Set], rows: Sequence[Messages], how: How
) -> tuple[list[Set], Side, Side, list[Forms]]:
    """Measure all sets under the model, then under the base (`places`), one of them in memory at a time.

    Several bases are reference runs: the mean of those that did not see an item is the base. Returns the sets too,
    without items that the model's context has no room for, and the form that each was asked in.
    """
    device = how.device or default_device()
    loaded = load(places[0], device, how.dtype, opened[0])
    tokenizer = loaded.tokenizer
    form = choose_form(how.form, tokenizer)
    own = how.form == "auto" and form == "chat"
    whole: list[Forms] = [as_injected(s.items, s.injected) if own else form for s in sets]
    fits = [fitting(s.items, asked, tokenizer, loaded.max_length) for s, asked in zip(sets, whole, strict=True)]
    sets = [_fitted(s, fits_I, loaded.max_length) for s, fits_I in zip(sets, fits, strict=True)]
    forms = [
        asked if isinstance(asked, str) else tuple(itertools.compress(asked, fits_I))
        for asked, fits_I in zip(whole, fits, strict=True)
    ]
    texts = [
        Texts(
            s.items, choose_permuted(s.items, (~s.tested).astype(np.int64), how.permute), asked, tokenizer,
            how.in_context,
        ) for s, asked in zip(sets, forms, strict=True)
    ]  # fmt: skip

    def side(name: str) -> Side:
        with heard(loaded.model, name):
            return Side([measure(loaded, t) for t in texts], row_logprobs(loaded, rows, form, tokenizer))

    after = side(places[0].name)
    before = []
    for place in places[1:]:
        del loaded
        loaded = load(place, device, how.dtype, opened[1])
        for t in texts:
            check_tokenizer(place, loaded.tokenizer, t)
        before.append(side(place.name))
    sets_of = [mean_of([b.sets[k] for b in before], s.saw) for k, s in enumerate(sets)]
    return sets, after, Side(sets_of, np.mean([b.train_R for b in before], axis=0)), forms


def _fitted(s: Set, fits_I: NDArray[np.bool_], longest: int) -> Set:
    """Return a set's items that fit. Raises InputError where no tested item is left, or no control."""
    if fits_I.all():
        return s
    kept = _only(s, fits_I)
    if not kept.two_sided:
        raise InputError(f"{s.task.name}: no items, or no controls, fit into {longest} tokens. Fix: more --max-length.")
    s.notes.append(f"{int((~fits_I).sum())} items and controls longer than {longest} tokens are left out")
    return kept


def _gap(measured: Measured, tested: NDArray[np.bool_], train_R: Floats) -> LossGap:
    values = measured.scores["loss gap: item"]
    return loss_gap(values[tested], values[~tested], train_R if len(train_R) else None)


def _item_frame(s: Set, after: Measured, before: Measured, p_values: dict[str, Floats]) -> pl.DataFrame:
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
    if COMBINED in p_values:
        columns[f"{COMBINED} | p"] = p_values[COMBINED]
    return pl.DataFrame(columns, schema_overrides={"training_rows": pl.List(pl.String)})
