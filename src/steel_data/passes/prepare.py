"""All that is known before the first row is built: inputs found and scanned, test splits refused, benchmarks read."""

import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from steel_data import __version__
from steel_data.benchmarks.items import benchmark_name, read_benchmark
from steel_data.errors import InputError, nearest
from steel_data.filters import overlap
from steel_data.passes.cache import code_version
from steel_data.passes.inputs import InputFile, SourceInputs, benchmark_inputs, resolve
from steel_data.passes.known_tests import check_test_splits
from steel_data.recipe.load import Recipe, portable, recipe_sha256
from steel_data.recipe.places import Places
from steel_data.recipe.steps import Builder, Filter
from steel_data.row.tokens import Tokenizer, find_tokenizer

FORMAT = 1
_PACKAGES = ("polars", "pyarrow", "numpy", "fasttext-community", "rensa", "regex", "tokenizers")


def versions() -> dict[str, str]:
    """Return the versions that can change a mixture's bytes."""
    found = {"steel-lab": __version__, "code": code_version()[:16], "format": str(FORMAT)}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


@dataclass(frozen=True)
class Prepared:
    """All that is known before the first row is built."""

    recipe: Recipe
    places: Places
    tokenizer: Tokenizer
    inputs: tuple[SourceInputs, ...]
    benchmarks: dict[tuple[str, ...], tuple[InputFile, ...]]  # of the decontaminate steps
    warnings: tuple[str, ...] = ()


def prepare(recipe: Recipe, where: Places, workers: int = 1) -> Prepared:
    """Find and scan all inputs and check what can be checked before a row is built."""
    _check_priorities(recipe)
    tokenizer = find_tokenizer(recipe.tokenizer, recipe.path.parent)
    inputs = tuple(resolve(recipe, source, where.data_root, where.cache) for source in recipe.sources)
    warnings = check_test_splits(recipe, inputs, where.cache)
    benchmarks: dict[tuple[str, ...], tuple[InputFile, ...]] = {}
    for step in [*recipe.filters, *(step for source in recipe.sources for step in source.filters)]:
        if step.use != "decontaminate":
            continue
        names = tuple(step.options["benchmarks"])
        try:
            files = overlap.overlap_files(list(names), where.data_root)
        except InputError as error:
            raise InputError(f"{recipe.path} filter 'decontaminate': {error}") from None
        benchmarks[names] = benchmark_inputs(files, where.data_root, where.cache)
    return Prepared(recipe, where, tokenizer, inputs, benchmarks, tuple(warnings))


def _check_priorities(recipe: Recipe) -> None:
    """Refuse a dedup step whose `keep` lists what is no source of the recipe."""
    known = [source.name for source in recipe.sources]
    for step in [*recipe.filters, *(step for source in recipe.sources for step in source.filters)]:
        if step.use == "dedup" and isinstance(step.settings.keep, list):
            for name in step.settings.keep:
                if name not in known:
                    raise InputError(
                        f"{recipe.path} filter 'dedup': keep names '{name}', which is no source of this recipe. "
                        f'Right: "first", "longest", or a list of sources.{nearest(name, known)}'
                    )


def draws(prepared: Prepared, inputs: SourceInputs) -> tuple[list[Any], str, dict[str, Any]]:
    """Return the draw of an injected source, the benchmark's name, and the injector's settings."""
    from steel_data.builders.contaminate import contaminate, draw

    where = f"{prepared.recipe.path} [source.{inputs.source.name}]"
    options = inputs.builder.options
    root = inputs.source.table.paths[0] if inputs.source.table.paths else options["benchmark"]
    name = options.get("benchmark") or benchmark_name(root)
    try:
        settings = contaminate(**options)
        items = read_benchmark(root, prepared.places.data_root, settings["split"])
        return draw(items, settings), name, settings
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def manifest_head(prepared: Prepared) -> dict[str, Any]:
    """Return the part of the manifest that is known before a row is built: what the mixture depends on."""
    recipe = prepared.recipe
    inputs: dict[str, dict[str, Any]] = {}
    groups = [i.files for i in prepared.inputs] + list(prepared.benchmarks.values())
    for file in sorted((f for files in groups for f in files), key=lambda f: f.name):
        inputs[file.name] = {"sha256": file.scan.sha256, "rows": file.scan.rows}
    steps: list[Builder | Filter] = [*recipe.filters]
    for source in recipe.sources:
        steps += [source.builder, *source.filters]
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
        **({"warnings": list(prepared.warnings)} if prepared.warnings else {}),  # for the card
    }
    return json.loads(json.dumps(head))  # type: ignore[no-any-return]
