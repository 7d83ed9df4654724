"""A build in parts on machines that know nothing of one another: `build --part k/n`, then `build --finish`.

All that parts share is the cache, whose files are addressed by what determines them: a part does its share of the
map pass and leaves a mark beside the output folder, and may be run again, on any machine, at any time. What comes after
is the plain build, which finds the map pass done, so the bytes are the same.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steel_data.build import Result, build, finished, reached_by, refuse_little_memory
from steel_data.engine import Executor, tell
from steel_data.errors import InputError
from steel_data.files import address, atomic, linked_to, read_sealed, refuse_foreign_folder, write_sealed
from steel_data.passes.map import map_part, unmapped
from steel_data.passes.prepare import manifest_head, prepare
from steel_data.recipe.load import Recipe
from steel_data.recipe.places import Places
from steel_data.store.copies import brought, removed, scratch
from steel_data.store.listings import tree
from steel_data.store.names import is_far, told

# What a mark and the build that finishes must have in common, and how it is called.
_ALIKE = {
    "recipe_sha256": "another recipe", "inputs": "other inputs", "versions": "other versions of steel or its libraries",
    "custom": "another module of yours", "tokenizer": "another tokenizer", "revisions": "another revision of a hub",
}  # fmt: skip


@dataclass(frozen=True)
class Share:
    """The `number`-th (from 1) of `of` parts."""

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> "Share":
        """Return the part that `3/8` means. Raises InputError."""
        match = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"--part {text}: is no part. Fix: 1/8 to 8/8.")
        return cls(int(match[1]), int(match[2]))


def build_part(recipe: Recipe, where: Places, part: Share, executor: Executor, verify: bool = False) -> int:
    """Do a part's share of the map pass; return how many tasks that were. Raises InputError as `build` does."""
    refuse_foreign_folder(where.out)
    refuse_little_memory(executor, None)
    where = reached_by(executor, where)
    with scratch(where.data_root, where.out, where.cache):
        prepared = prepare(recipe, where, executor, verify, begin=(part.number - 1) / part.of)
        tasks = map_part(prepared, part.number, part.of, executor)
        with atomic(_folder(where.out) / f"{part.number:06d}-of-{part.of:06d}.json") as temporary:
            write_sealed(temporary, _alike(manifest_head(prepared)))
    return tasks


def finish(recipe: Recipe, where: Places, executor: Executor, verify: bool = False) -> Result:
    """Build what the parts have prepared, and remove their marks.

    Raises InputError where a part never came, or is of another recipe, of other inputs, or of another number of parts.
    """
    where = reached_by(executor, where)
    with scratch(where.data_root, where.out, where.cache):
        _refuse_missing(recipe, where, executor, verify)
    result = build(recipe, data_root=where.data_root, out=where.out, cache=where.cache, workers=executor)
    marks = _folder(where.out)
    if is_far(marks):
        removed(marks)
    else:
        shutil.rmtree(marks, ignore_errors=True)
    return result


def _refuse_missing(recipe: Recipe, where: Places, executor: Executor, verify: bool) -> None:
    """Raise InputError where the mixture is not there yet, and the marks of its parts are not what it takes."""
    prepared = prepare(recipe, where, executor, verify)
    head = manifest_head(prepared)
    marks = _marks(_folder(where.out))
    if marks or finished(where.out, head) is None:
        _refuse_unlike(where.out, marks, _alike(head))
        if left := unmapped(prepared, executor.workers):
            tell(f"{told(where.cache)}: {left:,} chunks that the parts made are not there; they are made here")


def _folder(out: Path) -> Path:
    """Return where the parts of a mixture leave their marks."""
    place = linked_to(out)
    return place.with_name(f".{place.name}.parts")


def _alike(head: dict[str, Any]) -> dict[str, str]:
    return {key: address(head[key]) for key in _ALIKE}


def _marks(folder: Path) -> dict[Share, dict[str, str]]:
    marks = {}
    folder = brought(folder, tree(folder) if is_far(folder) else {})
    for path in sorted(folder.glob("*.json")):
        if match := re.fullmatch(r"(\d+)-of-(\d+)\.json", path.name):
            try:
                marks[Share(int(match[1]), int(match[2]))] = read_sealed(path)
            except (OSError, ValueError, KeyError, TypeError):
                path.unlink(missing_ok=True)  # as if it had not come
    return marks


def _refuse_unlike(out: Path, marks: dict[Share, dict[str, str]], head: dict[str, str]) -> None:
    if not marks:
        raise InputError(f"{out}: no part has come. Fix: build --part 1/8 to 8/8, with this --out and this --cache.")
    for part, mark in marks.items():
        for key, what in _ALIKE.items():
            if mark.get(key) != head[key]:
                raise InputError(f"{out}: part {part.number}/{part.of} is of {what}. Fix: run that part again.")
    sizes = sorted({part.of for part in marks})
    if len(sizes) > 1:
        which = " and ".join(f"/{size}" for size in sizes)
        raise InputError(
            f"{out}: parts of {which} have come. Fix: one n, and the folder {_folder(out)} removed before."
        )
    missing = [str(k) for k in range(1, sizes[0] + 1) if Share(k, sizes[0]) not in marks]
    if missing:
        more = f" and {len(missing) - 20:,} more" if len(missing) > 20 else ""
        raise InputError(
            f"{out}: of {sizes[0]:,} parts {len(missing):,} never came: {', '.join(missing[:20])}{more}. Fix: run "
            f"build --part {missing[0]}/{sizes[0]}, and so on."
        )
