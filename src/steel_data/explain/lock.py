"""`build --locked`: the manifest of the mixture that is there is the lock; anything that differs from it is named.

Compared are the recipe, every input file by checksum, hub revisions, the user's own modules, the versions of steel and
of the libraries that can change a mixture's bytes, and the mixture's own files. Nothing is built and nothing of the
mixture is written (checksums of inputs are remembered in the cache, as by every look at them).
"""

import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from steel_data.errors import InputError
from steel_data.mixture.manifest import damaged, read_manifest
from steel_data.passes.prepare import Prepared, manifest_head, prepare
from steel_data.recipe.changes import recipe_changes
from steel_data.recipe.load import Recipe
from steel_data.recipe.places import places

_PREFIX = 12  # hex digits of a checksum that are shown
_LINES = 20  # differences shown


def verify_lock(
    recipe: Recipe, *, data_root: Path | None = None, out: Path | None = None, cache: Path | None = None
) -> tuple[Path, dict[str, Any], tuple[str, ...]]:
    """Return folder, manifest and warnings where the mixture is the one that this recipe and these inputs make.

    Raises InputError where there is no finished mixture, and where anything differs: the differences stand on stderr, a
    line each.
    """
    where = places(recipe, data_root, out, cache)
    if not (where.out / "manifest.json").is_file():
        raise InputError(
            f"{where.out}: no manifest.json, so nothing is locked. Right: `python -m steel_data build {recipe.path}` "
            "without --locked once; its manifest is the lock."
        )
    manifest = read_manifest(where.out)
    prepared = prepare(recipe, where)
    found = differences(manifest, manifest_head(prepared), prepared) + damaged(where.out, manifest)
    if not found:
        return where.out, manifest, prepared.warnings
    for line in found[:_LINES]:
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        sys.stderr.write(f"differs: {shown}\n")
    if len(found) > _LINES:
        sys.stderr.write(f"differs: … and {len(found) - _LINES:,} more\n")
    raise InputError(
        f"{where.out}: locked, but {len(found):,} thing{'s differ' if len(found) > 1 else ' differs'}, first: "
        f"{found[0]}. Right: what the manifest names, or a build without --locked."
    )


def differences(manifest: dict[str, Any], head: dict[str, Any], prepared: Prepared) -> list[str]:
    """Return what a mixture was made of and what is there now differ in: one line each, inputs first."""
    lines = _input_lines(manifest, head, prepared)
    for change in recipe_changes(manifest["recipe"], head["recipe"], ignore=("train", "eval")):
        lines.append(f"recipe, {change.line()}")
    for key, what in (
        ("revisions", "source {}: hub revision"),
        ("custom", "module of '{}'"),
        ("versions", "version of {}"),
    ):
        old, new = manifest.get(key, {}), head[key]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                one, two = (str(side.get(name, "none"))[: 16 if key != "versions" else None] for side in (old, new))
                lines.append(f"{what.format(name)} {one} -> {two}")
    if manifest["tokenizer"] != head["tokenizer"]:
        old_one, new_one = (_tokenizer(side["tokenizer"]) for side in (manifest, head))
        lines.append(f"tokenizer {old_one} -> {new_one}")
    if not lines and manifest["recipe_sha256"] != head["recipe_sha256"]:
        # what is no difference in meaning (`repeat = 1` said or not) is one to a build, which compares the bytes
        lines.append("recipe, written otherwise with the same meaning")
    return lines


def _tokenizer(described: dict[str, str]) -> str:
    return f"{described['name']} {described.get('sha256', '')[:_PREFIX]}".strip()


def _input_lines(manifest: dict[str, Any], head: dict[str, Any], prepared: Prepared) -> list[str]:
    old, new = manifest["inputs"], head["inputs"]
    lines = []
    for name in sorted({*old, *new}):
        if old.get(name, {}).get("sha256") == new.get(name, {}).get("sha256"):
            continue
        who = _users(name, prepared, manifest["recipe"])
        if name not in new:
            lines.append(f"{who}: {name} is gone (was {old[name]['sha256'][:_PREFIX]}, {old[name]['rows']:,} rows)")
        elif name not in old:
            lines.append(f"{who}: {name} is new ({new[name]['sha256'][:_PREFIX]}, {new[name]['rows']:,} rows)")
        else:
            one, two = old[name], new[name]
            lines.append(
                f"{who}: {name} changed, {one['sha256'][:_PREFIX]} -> {two['sha256'][:_PREFIX]} "
                f"({one['rows']:,} -> {two['rows']:,} rows)"
            )
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
    if sources:
        return f"source {', '.join(sources)}" if len(sources) == 1 else f"sources {', '.join(sources)}"
    return "a benchmark of decontaminate"
