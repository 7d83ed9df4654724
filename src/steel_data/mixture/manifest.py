"""The manifest of a mixture and the laws of its ledger (apart: what all readers need, without a data library)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steel_data.errors import InputError
from steel_data.files import sha256_of

# What the account of each source must fulfil: nothing vanishes between what was read and what was written.
LAWS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "built = read - unreadable + made": lambda a: a["built"] == a["read"] - a["unreadable"] + a["made"],
    "built = kept + dropped": lambda a: a["built"] == a["kept"] + sum(a["dropped"].values()),
    "written = kept - sampled_out + repeated": lambda a: a["written"] == a["kept"] - a["sampled_out"] + a["repeated"],
}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a finished mixture. Raises InputError where there is none."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no manifest.json, so no finished mixture. Right: the folder that `build` wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}/manifest.json: cannot be read: {error}.") from None
    if not isinstance(manifest, dict):
        raise InputError(f"{folder}/manifest.json: is no mixture's manifest. Right: the folder that `build` wrote.")
    return manifest


def damaged(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return what is wrong with a mixture's files: one line each, nothing for a whole one."""
    faults = []
    for name, entry in {**manifest["output"], **manifest.get("dropped_files", {}), **manifest.get("truth", {})}.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path}: is missing")
        elif sha256_of(path) != entry["sha256"]:
            faults.append(f"{path}: its bytes are not those that the manifest names")
    return faults


def broken_laws(account: dict[str, Any]) -> list[str]:
    """Return which of LAWS the account of a source does not fulfil."""
    return [law for law, holds in LAWS.items() if not holds(account)]
