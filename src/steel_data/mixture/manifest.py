"""The manifest of a mixture and the laws of its ledger (apart: what all readers need, without a data library)."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from steel_data import shapes
from steel_data.errors import InputError
from steel_data.files import sha256_of
from steel_data.store.names import is_far, told

# What the account of each source must fulfil: nothing vanishes between what was read and what was written.
LAWS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "built = read - unreadable + made": lambda a: a["built"] == a["read"] - a["unreadable"] + a["made"],
    "built = kept + dropped": lambda a: a["built"] == a["kept"] + sum(a["dropped"].values()),
    "written = kept - sampled_out + repeated": lambda a: a["written"] == a["kept"] - a["sampled_out"] + a["repeated"],
}


_FILES = {"*": {"rows": int, "sha256": str}}
# What stands under the keys that readers use, as far as it is there; `*`: under every name.
_SHAPE: dict[str, Any] = {
    "name": str, "seed": int, "rows": int, "tokens": int, "recipe_sha256": str, "content_sha256": str,
    "recipe": {"source": {"*": {"build": {"use": str}, "filters": [{"use": str}]}}, "filters": [{"use": str}],
               "mix": dict, "train": dict, "eval": dict, "name": str},
    "versions": {"*": str}, "custom": {"*": str}, "revisions": {"*": str}, "test_splits": {"*": str},
    "tokenizer": {"name": str}, "inputs": _FILES, "output": _FILES, "dropped_files": _FILES, "truth": _FILES,
    "sources": {"*": {
        "read": int, "unreadable": int, "made": int, "built": int, "kept": int, "sampled_out": int, "repeated": int,
        "written": int, "tokens": int, "dropped": {"*": int},
    }},
    "contamination": {"*": {"#": int}}, "languages": {"*": int}, "unused_columns": {"*": {"*": int}},
    "quality": dict, "language_check": dict, "losses": [str], "warnings": [str],
}  # fmt: skip
_NEEDED = {"rows", "sha256", "use", *_SHAPE["sources"]["*"]}  # of every file, of every account


class Manifest(dict[str, Any]):
    """A manifest that tells in words what is not there, or of another type than belongs there, when it is asked for."""

    folder: Path

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        for fault in shapes.misfits(key, value, _SHAPE.get(key, object), _NEEDED):
            raise InputError(f"{self.folder}/manifest.json: {fault}. Fix: build the recipe again.")
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """Return what stands under a key, looked through like any other; `default` where nothing does."""
        return self[key] if key in self else default  # noqa: SIM401 - that is this

    def __missing__(self, key: str) -> Any:
        raise InputError(f"{self.folder}/manifest.json: has no '{key}'. Fix: build the recipe again.")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a finished mixture, which is looked through as it is used.

    Raises InputError where there is none; later, when a key is asked for that it lacks, or whose value is of another
    type than belongs there. A mixture in a bucket is read from a copy (`store.copies.brought`), or not at all.
    """
    if is_far(folder):
        raise InputError(f"{told(folder)}: lies in a bucket. Fix: copy it here (aws s3 cp --recursive).")
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no manifest.json, so no finished mixture. Fix: the folder that `build` wrote."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{folder}/manifest.json: cannot be read: {error}. Fix: build again.") from None
    if not isinstance(manifest, dict):
        raise InputError(f"{folder}/manifest.json: is no mixture's manifest. Fix: the folder that `build` wrote.")
    found = Manifest(manifest)
    found.folder = folder
    return found


def misfits(manifest: dict[str, Any]) -> Iterator[str]:
    """Yield what in a manifest is of another type than belongs there."""
    return shapes.misfits("", dict(manifest), _SHAPE, _NEEDED)


def damaged(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return what is wrong with a mixture's files: one line each, nothing for a whole one."""
    faults = []
    for name, entry in {**manifest["output"], **manifest.get("dropped_files", {}), **manifest.get("truth", {})}.items():
        path = folder / name
        try:
            same = sha256_of(path) == entry["sha256"]
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            faults.append(f"{path}: is missing")
            continue
        if not same:
            faults.append(f"{path}: its bytes are not those that the manifest names")
    return faults


def broken_laws(account: dict[str, Any]) -> list[str]:
    """Return which of LAWS the account of a source does not fulfil."""
    return [law for law, holds in LAWS.items() if not holds(account)]
