"""All that is known before the first row is built: inputs found and scanned, test splits refused, injections drawn."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from steel_data.benchmarks.index import overlap_files, scored_files
from steel_data.benchmarks.items import (
    PUBLISHED,
    benchmark_files,
    benchmark_name,
    part_line,
    part_of,
    read_benchmark,
    read_items,
)
from steel_data.builders.contaminate import Draw, draw
from steel_data.engine import Executor, Local, progress
from steel_data.errors import InputError, nearest
from steel_data.files import sha256_of
from steel_data.passes.cache import sweep, versions
from steel_data.passes.inputs import (
    InputFile,
    Looking,
    SourceInputs,
    benchmark_inputs,
    benchmark_root,
    origin_name,
    resolve,
    whole_inputs,
)
from steel_data.passes.known_tests import check_test_splits
from steel_data.read.rows import FileScan
from steel_data.recipe.load import Recipe, portable, recipe_sha256
from steel_data.recipe.places import Places
from steel_data.recipe.steps import Builder, Filter
from steel_data.row.tokens import Tokenizer, find_tokenizer
from steel_data.selection.choose import BoundSelect, prepare_choice
from steel_data.selection.ratings import RatingStore
from steel_data.store.copies import told_as
from steel_data.store.listings import forget


@dataclass(frozen=True)
class Injection:
    """What is drawn from a benchmark for one source: a Draw an item, in file order, and the injector's settings."""

    benchmark: str
    settings: dict[str, Any]
    draws: tuple[Draw, ...]


@dataclass(frozen=True)
class Prepared:
    """All that is known before the first row is built. The data root of `places` is where benchmarks are read."""

    recipe: Recipe
    places: Places
    tokenizer: Tokenizer
    inputs: tuple[SourceInputs, ...]
    benchmarks: dict[tuple[str, ...], tuple[InputFile, ...]]  # of the decontaminate steps
    warnings: tuple[str, ...] = ()
    choices: dict[str, BoundSelect] = field(default_factory=dict)  # of the sources that select
    targets: tuple[InputFile, ...] = ()  # the files that they aim at
    ratings: dict[str, RatingStore] = field(default_factory=dict)  # of a model, by source: own filters see them
    _injections: dict[str, Injection] = field(default_factory=dict, compare=False)

    def injection(self, inputs: SourceInputs) -> Injection:
        """Return the draw of an injected source; drawn when first asked for, once. Raises InputError."""
        name = inputs.source.name
        if name not in self._injections:
            self._injections[name] = _draw(self.recipe, self.places, inputs)
        return self._injections[name]

    @property
    def notices(self) -> tuple[str, ...]:
        """What is said on the terminal only: it depends on what else lies in the folders, not on what is read."""
        passed_over = (f"source '{i.source.name}': {line}" for i in self.inputs for line in i.passed_over)
        return (*passed_over, *dict.fromkeys(_parts(self)))

    @property
    def injections(self) -> dict[str, Injection]:
        """The draw of each injected source by the source's name."""
        return {i.source.name: self.injection(i) for i in self.inputs if i.builder.injects}

    @property
    def raw_rows(self) -> dict[str, int]:
        """How many rows (of an injected source: items) each source reads."""
        rows = {inputs.source.name: inputs.rows for inputs in self.inputs}
        return rows | {name: len(injection.draws) for name, injection in self.injections.items()}


def prepare(
    recipe: Recipe, where: Places, executor: Executor | None = None, verify: bool = False, begin: float = 0.0
) -> Prepared:
    """Find and scan all inputs and check what can be checked before a row is built.

    executor: who looks through large inputs; this process where there is none. verify, begin: see `Looking`.
    """
    sweep(where.cache)
    _check_priorities(recipe)
    forget()
    whole = whole_inputs(where.data_root, *_read_whole(recipe))
    looking = Looking(where.data_root, where.cache, executor or Local(), verify, begin, whole)
    with told_as(whole, where.data_root), progress("prepare", None):
        return _prepared(recipe, replace(where, data_root=whole), looking)


def _prepared(recipe: Recipe, where: Places, looking: Looking) -> Prepared:
    tokenizer = find_tokenizer(recipe.tokenizer, recipe.path.parent)
    inputs = resolve(recipe, looking)
    warnings = check_test_splits(recipe, inputs, where.cache)
    benchmarks: dict[tuple[str, ...], tuple[InputFile, ...]] = {}
    for step in _filters(recipe):
        if step.compares != "benchmarks":
            continue
        names = tuple(step.options["benchmarks"])
        try:
            files = overlap_files(list(names), where.data_root)
        except InputError as error:
            raise InputError(f"{recipe.path} filter '{step.use}': {error}") from None
        benchmarks[names] = benchmark_inputs(files, where.data_root, where.cache, looking.verify)
    choices = {
        source.name: prepare_choice(
            f"{recipe.path} [source.{source.name}]", source.table.select, recipe.path, where.data_root, where.cache
        )
        for source in recipe.sources
        if source.table.select is not None
    }
    warnings += [
        f"source {name}: {choice.left_out:,} rows of its target are left out: their questions stand in a test split too"
        for name, choice in choices.items() if choice.left_out
    ]  # fmt: skip
    aimed = dict.fromkeys(file for choice in choices.values() for file in choice.files)
    targets = tuple(InputFile(f, origin_name(f, where.data_root), look_at(f)) for f in aimed)
    ratings = {name: choice.store for name, choice in choices.items() if choice.store is not None}
    return Prepared(recipe, where, tokenizer, inputs, benchmarks, tuple(warnings), choices, targets, ratings)


def _read_whole(recipe: Recipe) -> tuple[list[str], list[str]]:
    """Return the benchmarks that a recipe names, and the targets."""
    steps = [step for step in _filters(recipe) if step.compares == "benchmarks"]
    names = [str(name) for step in steps for name in step.options["benchmarks"]]
    names += [benchmark_root(source) for source in recipe.sources if source.builder.injects]
    return names, [t for s in recipe.sources if s.table.select is not None for t in s.table.select.targets]


def _parts(prepared: Prepared) -> Iterator[str]:
    """Yield a line for each benchmark of which fewer questions are here than were published, in the words of `score`.

    Of those to be kept out, and of those to be injected.
    """
    root = prepared.places.data_root
    asked = [(name, scored_files(name, root)) for names in prepared.benchmarks for name in names]
    for inputs in prepared.inputs:
        if inputs.builder.injects:
            split = inputs.builder.make()["split"]
            asked.append((inputs.benchmark, benchmark_files(inputs.benchmark, root, split)))
    files = (f for some in (*prepared.benchmarks.values(), *(i.files for i in prepared.inputs)) for f in some)
    rows = {file.path: file.scan.rows for file in files}
    for name, placed in asked:
        found: Counter[str] = Counter()
        for split, file in placed if benchmark_name(name) in PUBLISHED else ():
            found[split] += len(read_items([(split, file)])) if file.suffix == ".zip" else rows[file]
        yield from (part_line(name, split, *part) for split, part in part_of(name, found).items())


def look_at(file: Path) -> FileScan:
    """Return what is noted of a target's file: its hash; its rows are not counted."""
    return FileScan("target", "none", sha256_of(file), 0, ())


def _filters(recipe: Recipe) -> Iterator[Filter]:
    """Yield the recipe's filters, then each source's own."""
    yield from recipe.filters
    for source in recipe.sources:
        yield from source.filters


def _check_priorities(recipe: Recipe) -> None:
    """Refuse a dedup step whose `keep` lists what is no source of the recipe."""
    known = [source.name for source in recipe.sources]
    for step in _filters(recipe):
        if step.compares == "rows" and isinstance(step.settings.keep, list):
            for name in step.settings.keep:
                if name not in known:
                    raise InputError(
                        f"{recipe.path} filter '{step.use}': keep names '{name}', which is no source of this recipe. "
                        f'Fix: "first", "longest", or a list of sources.{nearest(name, known)}'
                    )


def _draw(recipe: Recipe, where: Places, inputs: SourceInputs) -> Injection:
    root = inputs.benchmark
    try:
        settings = inputs.builder.make()
        items = read_benchmark(root, where.data_root, settings["split"])
        name = settings["benchmark"] or benchmark_name(root)
        return Injection(name, settings, tuple(draw(items, settings)))
    except InputError as error:
        raise InputError(f"{recipe.path} [source.{inputs.source.name}]: {error}") from None


def manifest_head(prepared: Prepared) -> dict[str, Any]:
    """Return the part of the manifest that is known before a row is built: what the mixture depends on."""
    recipe = prepared.recipe
    inputs: dict[str, dict[str, Any]] = {}
    groups = [prepared.targets, *(i.files for i in prepared.inputs), *prepared.benchmarks.values()]
    for file in sorted((f for files in groups for f in files), key=lambda f: f.name):
        entry = inputs.setdefault(file.name, {"sha256": file.scan.sha256, "rows": file.scan.rows})
        if entry["sha256"] != file.scan.sha256:
            raise InputError(f"{recipe.path}: two unlike files are both named '{file.name}'. Fix: rename one of them.")
        entry["rows"] = max(entry["rows"], file.scan.rows)  # those of a target alone are not counted
    steps: list[Builder | Filter] = [*_filters(recipe), *(source.builder for source in recipe.sources)]
    custom = {step.use: step.source_sha256 for step in steps if step.is_custom}
    head = {
        "name": recipe.name,
        "seed": recipe.seed,
        "recipe": portable(recipe.merged),
        "recipe_sha256": recipe_sha256(recipe),
        "versions": versions(),
        "tokenizer": prepared.tokenizer.describe(),
        "inputs": inputs,
        "custom": dict(sorted(custom.items())),
        "revisions": {i.source.name: i.revision for i in prepared.inputs if i.revision},
        "test_splits": {
            i.source.name: i.source.table.allow_test_split
            for i in prepared.inputs
            if i.source.table.allow_test_split is not None
        },
        **({"ratings": ratings} if (ratings := _ratings(prepared)) else {}),
        **({"warnings": list(prepared.warnings)} if prepared.warnings else {}),  # for the card
    }
    return json.loads(json.dumps(head))  # type: ignore[no-any-return]


def _ratings(prepared: Prepared) -> dict[str, dict[str, str]]:
    """Return, of each source that selects by a model's ratings, what they are and whose."""
    return {
        name: {"by": store.by, "model": store.model, "fingerprint": store.fingerprint}
        for name, store in prepared.ratings.items()
    }
