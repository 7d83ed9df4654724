"""Where a build reads and writes (apart: plan, diff and fetch settle the same folders and build nothing)."""

import os
from dataclasses import dataclass
from pathlib import Path

from steel_data.recipe.load import Recipe
from steel_data.store.names import below, is_far, refuse_unknown, told


@dataclass(frozen=True)
class Places:
    """Where a build reads and writes."""

    data_root: Path
    out: Path
    cache: Path


def places(recipe: Recipe, data_root: Path | None, out: Path | None, cache: Path | None) -> Places:
    """Settle the folders: options, else environment, else recipe, else the defaults of DESIGN.md.

    Each may be a prefix of a bucket, `s3://bucket/folder`. Raises InputError where the extra for it is missing.
    """
    root = data_root or from_environment("STEEL_DATA_ROOT")
    if root is None and recipe.data_root is not None:
        root = below(recipe.path.parent, recipe.data_root)
    folder = out or Path("runs") / recipe.name / "mixture"
    kept = cache or from_environment("STEEL_CACHE") or folder.parent / ".cache"
    found = Places(*map(refuse_unknown, (root or recipe.path.parent, folder, kept)))
    if far := next((place for place in (found.data_root, found.out, found.cache) if is_far(place)), None):
        from steel_data.store.bucket import refuse_without_client

        refuse_without_client(told(far))
    return found


def from_environment(name: str) -> Path | None:
    """Return the folder that a variable of the environment names, None where it is not set."""
    value = os.environ.get(name)
    return Path(value) if value else None
