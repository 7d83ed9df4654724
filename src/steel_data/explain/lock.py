"""`build --locked`: the manifest of the mixture that is there is the lock; anything that differs from it is named.

Compared are the recipe, every input file by checksum, hub revisions, the user's own modules, the versions of steel and
of the libraries that can change a mixture's bytes, and the mixture's own files. Nothing is built and nothing of the
mixture is written (checksums of inputs are remembered in the cache, as by every look at them).
"""

import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from steel_data.engine import Executor, Local, held
from steel_data.errors import InputError, one_line
from steel_data.mixture.manifest import damaged, read_manifest
from steel_data.passes.prepare import Prepared, manifest_head, prepare
from steel_data.recipe.changes import changes, recipe_changes
from steel_data.recipe.load import Recipe, of_mixture
from steel_data.recipe.places import Places
from steel_data.store.copies import copied_alone

_PREFIX = 12  # hex digits of a checksum that are shown
_LINES = 20  # differences shown


def verify_lock(
    recipe: Recipe, where: Places, executor: Executor | None = None, verify: bool = False
) -> tuple[Path, dict[str, Any], tuple[str, ...]]:
    """Return folder, manifest and warnings where the mixture is the one that this recipe and these inputs make.

    executor: where large inputs are looked through; None: here. verify: by their bytes, all read again.
    Raises InputError where there is no finished mixture, and where anything differs: the differences stand on stderr, a
    line each.
    """
    folder = copied_alone(where.out, "manifest.json")
    if not (folder / "manifest.json").is_file():
        raise InputError(
            f"{where.out}: no manifest.json, so nothing is locked. Fix: `steel build {recipe.path}` "
            "without --locked once; its manifest is the lock."
        )
    manifest = read_manifest(folder)
    executor = executor or Local()
    with held(executor):
        prepared = prepare(recipe, where, executor, verify)
    found = differences(manifest, manifest_head(prepared), prepared) + damaged(where.out, manifest)
    if not found:
        return where.out, manifest, prepared.warnings
    for line in found[:_LINES]:
        sys.stderr.write(f"differs: {one_line(line)}\n")
    if len(found) > _LINES:
        sys.stderr.write(f"differs: … and {len(found) - _LINES:,} more\n")
    raise InputError(
        f"{where.out}: locked, but {len(found):,} thing{'s differ' if len(found) > 1 else ' differs'}, first: "
        f"{found[0]}. Fix: what the manifest names, or a build without --locked."
    )


def differences(manifest: dict[str, Any], head: dict[str, Any], prepared: Prepared) -> list[str]:
    """Return what a mixture was made of and what is there now differ in: one line each, inputs first."""
    lines = _input_lines(manifest, head, prepared)
    lines += [
        f"recipe, {change.line()}"
        for change in recipe_changes(of_mixture(manifest["recipe"]), of_mixture(head["recipe"]))
    ]
    for key, what, digits in (
        ("revisions", "source {}: hub revision", 16),
        ("custom", "module of '{}'", 16),
        ("ratings", "source {}: ratings", None),
        ("versions", "version of {}", None),
    ):
        for change in sorted(changes(manifest.get(key, {}), head.get(key, {})), key=lambda change: change.path):
            one, two = (str(value or "none")[:digits] for value in (change.old, change.new))
            lines.append(f"{what.format(change.key)} {one} -> {two}")
    if manifest["tokenizer"] != head["tokenizer"]:
        both = (manifest["tokenizer"], head["tokenizer"])
        one, two = (f"{described['name']} {described.get('sha256', '')[:_PREFIX]}".strip() for described in both)
        lines.append(f"tokenizer {one} -> {two}")
    if not lines and manifest["recipe_sha256"] != head["recipe_sha256"]:
        # what is no difference in meaning (`repeat = 1` said or not) is one to a build, which compares the bytes
        lines.append("recipe, written otherwise with the same meaning")
    return lines


def _input_lines(manifest: dict[str, Any], head: dict[str, Any], prepared: Prepared) -> list[str]:
    old, new = manifest["inputs"], head["inputs"]
    lines = []
    for name in sorted({change.path[0] for change in changes(old, new)}):
        who = f"{_users(name, prepared, manifest['recipe'])}: {name}"
        one, two = (side[name]["sha256"][:_PREFIX] if name in side else "" for side in (old, new))
        rows = [f"{side[name]['rows']:,}" for side in (old, new) if name in side]
        if not two:
            lines.append(f"{who} is gone (was {one}, {rows[0]} rows)")
        elif not one:
            lines.append(f"{who} is new ({two}, {rows[0]} rows)")
        else:
            lines.append(f"{who} changed, {one} -> {two} ({rows[0]} -> {rows[1]} rows)")
    return lines


def _users(name: str, prepared: Prepared, recipe: dict[str, Any]) -> str:
    """Return who reads a file: sources by name, else the benchmark of a decontaminate step.

    A file that is gone is no input any more: the patterns of the manifest's recipe say whose it was.
    """
    sources = [i.source.name for i in prepared.inputs if any(f.name == name for f in i.files)]
    if not sources:
        for source, table in recipe.get("source", {}).items():
            paths = table.get("path") or (table.get("build") or {}).get("benchmark") or []
            patterns = [paths] if isinstance(paths, str) else paths
            # a benchmark's path is its folder, a hub's pattern ends as its files' names do
            if any(
                fnmatch(name, p) or name.startswith(f"{p}/") or fnmatch(name, p.rpartition("/")[2]) for p in patterns
            ):
                sources.append(source)
    if not sources:
        sources += [
            source
            for source, choice in prepared.choices.items()
            if any(f.name == Path(name).name for f in choice.files)
        ]
    if sources:
        return f"source {', '.join(sources)}" if len(sources) == 1 else f"sources {', '.join(sources)}"
    return "a benchmark of decontaminate"
