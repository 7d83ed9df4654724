"""Checkpoints that are there whole or not at all, what each says of itself, and which to go on from.

A checkpoint is written to `checkpoints/.writing/`, described by `steel.json`, synced, and renamed to `step-000100`. A
kill at any moment leaves at most a `.writing` folder, which the next save removes.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from steel_data.errors import InputError

log = logging.getLogger(__name__)

WRITING = ".writing"
# What only resuming needs: kept in the newest checkpoints alone, since it is twice the size of the weights.
_RESUME_FILES = ("optimizer.pt", "optimizer.bin")
_RESUMABLE = 2


def checkpoint_name(step: int) -> str:
    """Return the folder name of a step: `step-000100`."""
    return f"step-{step:06d}"


def finish(written: Path, target: Path, facts: dict[str, Any]) -> None:
    """Describe a written checkpoint, make it durable and give it its name. Raises OSError."""
    files = {
        path.relative_to(written).as_posix(): path.stat().st_size
        for path in sorted(written.rglob("*"))
        if path.is_file()
    }
    weights = {name: _sha256(written / name) for name in files if name.endswith((".safetensors", ".bin"))}
    described = {**facts, "files": files, "weights_sha256": weights}
    (written / "steel.json").write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in written.rglob("*"):
        if path.is_file():
            _sync(path)
    if target.exists():
        shutil.rmtree(target)
    written.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_facts(checkpoint: Path) -> dict[str, Any] | None:
    """Return a checkpoint's steel.json, or None where it is missing, unreadable, or names files that are not whole."""
    try:
        facts: dict[str, Any] = json.loads((checkpoint / "steel.json").read_text(encoding="utf-8"))
        for name, size in facts["files"].items():
            if name not in _RESUME_FILES and (checkpoint / name).stat().st_size != size:
                return None
    except (OSError, ValueError, KeyError):
        return None
    return facts


def whole_checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints of a run in order of steps; the others are named in a warning."""
    found = []
    for path in sorted((folder / "checkpoints").glob("step-*")):
        if read_facts(path) is not None:
            found.append(path)
        else:
            log.warning("%s is not a whole checkpoint and is left alone", path)
    return found


def resumable(folder: Path) -> Path | None:
    """Return the newest whole checkpoint that has its optimiser's state, or None."""
    for path in reversed(whole_checkpoints(folder)):
        facts = read_facts(path) or {}
        states = [name for name in facts.get("files", {}) if name in _RESUME_FILES]
        if all(_size(path / name) == facts["files"][name] for name in states):
            return path
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def prune(folder: Path, keep: int | None) -> None:
    """Drop optimiser states that are no longer needed, and checkpoints beyond the newest `keep` (epoch ends stay)."""
    whole = whole_checkpoints(folder)
    for path in whole[:-_RESUMABLE]:
        for name in _RESUME_FILES:
            (path / name).unlink(missing_ok=True)
    for path in whole[:-keep] if keep else []:
        facts = read_facts(path)
        if facts is not None and not facts["epoch_end"]:
            shutil.rmtree(path)


def verify(checkpoint: Path) -> None:
    """Check the weights of a checkpoint against their checksums. Raises InputError that names the damaged file."""
    facts = read_facts(checkpoint)
    if facts is None:
        raise InputError(f"{checkpoint}: is missing or not whole. Right: delete the run's result.json and run again.")
    for name, sha256 in facts["weights_sha256"].items():
        if name not in _RESUME_FILES and _sha256(checkpoint / name) != sha256:
            raise InputError(f"{checkpoint / name}: its bytes are not those that were written. Right: restore it.")
