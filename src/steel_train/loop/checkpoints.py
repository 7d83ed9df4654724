"""Checkpoints that are there whole or not at all, what each says of itself, and which to go on from.

A checkpoint is written to `checkpoints/.writing/`, described by `steel.json`, synced, and renamed to `step-000100`. A
kill at any moment leaves at most a `.writing` folder, which the next save removes.
"""

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steel_data.errors import InputError
from steel_data.files import sha256_of
from steel_data.shapes import misfits, without_nulls
from steel_train.say import write_json

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

WRITING = ".writing"
# What only resuming needs: kept in the newest checkpoints alone, since it is twice the size of the weights or more.
_RESUME_FILES = ("optimizer.pt", "optimizer.bin", "pytorch_model_fsdp.bin")
_WIDE = ".float32"  # safetensors too, under a name that no loader takes for the model's weights
_RESUMABLE = 2


# What stands in steel.json under the keys that are read, as far as it is there; _FILES must be there.
FACTS: dict[str, Any] = {
    "step": int, "seed": int, "epoch": float, "epoch_end": bool, "scheduled": bool, "files": {"*": int},
    "weights_sha256": {"*": str}, "state_sha256": {"*": str}, "contamination": {"*": {"#": int}},
    "chat_template_kwargs": dict, "train": {"chat_template_kwargs": dict},
    "mixture": {"name": str, "content_sha256": str},
    "base": {"name": str, "fingerprint": str, "history": [dict]}, "eval": {"step": int, "loss": float},
}  # fmt: skip
_FILES = ("step", "epoch_end", "files", "weights_sha256")


def checkpoint_name(step: int) -> str:
    """Return the folder name of a step: `step-000100`."""
    return f"step-{step:06d}"


def finish(written: Path, target: Path, facts: dict[str, Any]) -> None:
    """Describe a written checkpoint, make it durable and give it its name. Raises OSError."""
    files = {p.relative_to(written).as_posix(): p for p in sorted(written.rglob("*")) if p.is_file()}
    sums = {name: sha256_of(path) for name, path in files.items()}
    weights = {name: sums.pop(name) for name in files if name.endswith((".safetensors", ".bin"))}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    described = {**facts, "files": sizes, "weights_sha256": weights, "state_sha256": sums}
    (written / "steel.json").write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in written.rglob("*"):
        if path.is_file():
            _sync(path)
    shutil.rmtree(target, ignore_errors=True)  # damaged, else the run would have gone on from it or from a later one
    written.replace(target)
    _sync(target.parent)


def narrow(written: Path, dtype: "torch.dtype") -> None:
    """Bring float32 weights of a written checkpoint to `dtype`, and keep them as they are for resuming beside it.

    What is of that type already, and adapters, stay as they are.
    """
    import torch
    from safetensors.torch import load_file, save_file

    if dtype == torch.float32:
        return
    for file in sorted(written.glob("model*.safetensors")):
        tensors = load_file(file)
        if not any(tensor.dtype == torch.float32 for tensor in tensors.values()):
            return
        file.rename(file.with_suffix(_WIDE))
        narrowed = {name: x.to(dtype) if x.is_floating_point() else x for name, x in tensors.items()}
        save_file(narrowed, file, metadata={"format": "pt"})
    for name in ("config.json", "model.safetensors.index.json"):
        if (written / name).is_file():
            said = json.loads((written / name).read_text(encoding="utf-8"))
            if "weight_map" in said:
                said["metadata"]["total_size"] = said["metadata"]["total_size"] * dtype.itemsize // 4
            else:
                said["dtype"] = str(dtype).removeprefix("torch.")
            write_json(written / name, said)


def keep_only(written: Path, names: Collection[str]) -> None:
    """Leave in a written adapter the tensors of these names: PEFT adds whole embeddings where a vocabulary has grown.

    The rows of new tokens are the adapter's own, all others are the base's.
    """
    from safetensors.torch import load_file, save_file

    file = written / "adapter_model.safetensors"
    tensors = load_file(file)
    if tensors.keys() - names:
        save_file({name: x for name, x in tensors.items() if name in names}, file, metadata={"format": "pt"})


def wide_weights(checkpoint: Path) -> Iterator[dict[str, Any]]:
    """Yield name -> tensor of the float32 weights that `narrow` kept, file by file; nothing where it kept none."""
    from safetensors.torch import load_file

    for file in sorted(checkpoint.glob(f"model*{_WIDE}")):
        yield load_file(file)


def _only_resumes(name: str) -> bool:
    return name in _RESUME_FILES or name.endswith(_WIDE)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_facts(checkpoint: Path) -> dict[str, Any] | None:
    """Return a checkpoint's steel.json, or None where it is missing, unreadable, or names files that are not whole."""
    try:
        facts: dict[str, Any] = json.loads((checkpoint / "steel.json").read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or set(_FILES) - {*facts} or any(misfits("", without_nulls(facts), FACTS)):
            return None
        for name, size in facts["files"].items():
            if not _only_resumes(name) and (checkpoint / name).stat().st_size != size:
                return None
    except (OSError, ValueError, KeyError, RecursionError):
        return None
    return facts


def whole_checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints of a run in order of steps; the others are named in a warning."""
    return list(_facts_of_whole(folder))


def _facts_of_whole(folder: Path) -> dict[Path, dict[str, Any]]:
    """Return the whole checkpoints of a run in order of steps, each with its steel.json."""
    found = {}
    for path in sorted((folder / "checkpoints").glob("step-*")):
        facts = read_facts(path)
        if facts is not None:
            found[path] = facts
        else:
            log.warning("%s is not a whole checkpoint and is left alone", path)
    return found


def resumable(folder: Path) -> Path | None:
    """Return the newest checkpoint of which every file is as it was written, or None; damaged ones are named.

    Older ones lack their optimiser's state: `prune` dropped it.
    """
    for path, facts in reversed(_facts_of_whole(folder).items()):
        if any(_only_resumes(name) and not (path / name).is_file() for name in facts["files"]):
            continue
        damaged = [name for name in facts["files"] if not _as_written(path, name, facts)]
        if not damaged:
            return path
        log.warning("%s: its %s is not what was written; an earlier checkpoint is taken", path, damaged[0])
    return None


def _as_written(checkpoint: Path, name: str, facts: dict[str, Any]) -> bool:
    file, sums = checkpoint / name, facts["weights_sha256"] | facts.get("state_sha256", {})
    # a checkpoint of an earlier steel knows of its state the sizes alone
    return file.stat().st_size == facts["files"][name] and sums.get(name) in (None, sha256_of(file))


def prune(folder: Path, keep: int | None) -> None:
    """Drop optimiser states that are no longer needed, and checkpoints beyond the newest `keep`.

    Epoch ends stay, and the best on held-out rows. One that was only kept for being the best is dropped when it is not.
    """
    facts_of = _facts_of_whole(folder)
    whole = list(facts_of)
    older, beyond = whole[:-_RESUMABLE], whole[:-keep] if keep else []
    for path in older:
        for file in [file for file in path.iterdir() if _only_resumes(file.name)]:
            file.unlink()
    best = _best(facts_of)
    for path, facts in facts_of.items():
        if facts["epoch_end"] or path == best:
            continue
        if path in beyond or (not facts.get("scheduled", True) and path in older):
            shutil.rmtree(path)


def best_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of the lowest loss on held-out rows, the earliest of equals; None without a look."""
    return _best(_facts_of_whole(folder))


def _best(facts_of: dict[Path, dict[str, Any]]) -> Path | None:
    looks = [(path, facts.get("eval"), facts["step"]) for path, facts in facts_of.items()]
    found = [(look["loss"], path) for path, look, step in looks if look and look["step"] == step]
    return min(found, default=(0.0, None))[1]


def verify(checkpoint: Path) -> None:
    """Check the weights of a checkpoint against their checksums. Raises InputError that names the damaged file."""
    facts = read_facts(checkpoint)
    if facts is None:
        raise InputError(f"{checkpoint}: is missing or not whole. Fix: delete the run's result.json and run again.")
    for name, sha256 in facts["weights_sha256"].items():
        if not _only_resumes(name) and sha256_of(checkpoint / name) != sha256:
            raise InputError(f"{checkpoint / name}: its bytes are not those that were written. Fix: restore it.")
