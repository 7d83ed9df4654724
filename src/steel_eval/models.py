"""Checkpoints: found, identified by what they hold, loaded and swapped.

Full models, LoRA adapters without merging, hub ids, and the checkpoints of a run. What a result depends on is named by
hashes of contents, never by names or paths: a cache keyed by a path gives yesterday's answers for today's weights.
Weights are hashed by xxh3-128 of the files' bytes: fast enough to be read along with the weights, and nobody attacks
their own results.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import xxhash

from steel_data.engine import tell
from steel_data.errors import InputError, first_line, nearest
from steel_eval.trainers import planned_steps, step_of, trained_as

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
# Keys of config.json that say nothing about what the model computes.
_VOLATILE = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "base_model_name_or_path"}
_STEP = re.compile(r"(?:step|checkpoint|ckpt|iter)[-_](\d+)$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One model on disk. `name` is unique within its run (`seed-1/step-000100`); `step` None outside a run."""

    folder: Path
    name: str
    step: int | None


@dataclass
class Loaded:
    """A model in memory with what identifies it."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    fingerprint: str
    max_length: int
    folder: Path


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint folder, sorted; safetensors win over .bin."""
    for pattern in WEIGHT_FILES:
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder holds weights and their configuration (a model or a LoRA adapter)."""
    configured = (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()
    return configured and bool(weight_files(folder))


def find_checkpoints(place: str) -> tuple[list[Checkpoint], bool]:
    """Return the checkpoints at a place in order of steps, and whether it is a run (a folder of checkpoints).

    Understood: a checkpoint or adapter folder, a hub id, steel's runs (`checkpoints/step-*`,
    `seed-*/checkpoints/step-*`) and those of the Hugging Face trainer, LLaMA-Factory and ms-swift (`checkpoint-*`, also
    `v0-*/checkpoint-*`). Weights in a run's root are its last step (`_in_root`), and are there once. An unfinished
    checkpoint (no weights yet) is left out.
    """
    root = Path(place)
    if not root.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", place) and not place.startswith("."):
            return [Checkpoint(_from_hub(place), place, None)], False
        near = [p.name for p in root.parent.iterdir()] if root.parent.is_dir() else []
        raise InputError(f"{place}: no such folder, and no hub id (owner/name).{nearest(root.name, near, False)}")
    found = []
    for pattern in ("", "checkpoints/", "*/", "*/checkpoints/", "*/*/"):
        for folder in sorted(root.glob(pattern + "*")):
            match = _STEP.search(folder.name)
            if match and folder.is_dir() and is_checkpoint(folder):
                name = folder.relative_to(root).as_posix().replace("checkpoints/", "")
                found.append(Checkpoint(folder, name, int(match[1])))
        if found:
            runs = sorted({_run_of(c.folder) for c in found})
            found += [last for run in runs if (last := _in_root(run, found, root))]
            return sorted(found, key=lambda c: (c.name.rpartition("/")[0], c.step, c.name)), True
    if is_checkpoint(root):
        match = _STEP.search(root.name)
        return [Checkpoint(root, root.name, int(match[1]) if match else step_of(root))], False
    raise InputError(
        f"{place}: no checkpoint here. Right: config.json with *.safetensors, or a run with checkpoints/step-*."
    )


def _run_of(checkpoint: Path) -> Path:
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def _in_root(run: Path, found: list[Checkpoint], root: Path) -> Checkpoint | None:
    """Return the weights in a run's root as the checkpoint that `checkpoint-<step>` would be.

    The step is that of trainer_state.json beside them, else the one that the run was planned for. None where there are
    none, where they are those of a checkpoint (the last, or the best that was loaded in the end), or of no known step,
    which is said.
    """
    mine = [c for c in found if _run_of(c.folder) == run]
    if not is_checkpoint(run):
        return None
    step = step_of(run) or max(filter(None, (planned_steps(c.folder) for c in mine)), default=None)
    if step in [c.step for c in mine] or _equal_weights(run, [c.folder for c in mine]):
        return None
    if step is None:
        tell(f"{run}: its weights are of no known step, and not scored. Right: trainer_state.json beside them.")
        return None
    above = run.relative_to(root).as_posix()
    return Checkpoint(run, f"checkpoint-{step}" if above == "." else f"{above}/checkpoint-{step}", step)


def _equal_weights(folder: Path, others: list[Path]) -> bool:
    def sizes(place: Path) -> list[tuple[str, int]]:
        return [(file.name, file.stat().st_size) for file in weight_files(place)]

    alike = [other for other in others if sizes(other) == sizes(folder)]
    return bool(alike) and weights_fingerprint(folder) in map(weights_fingerprint, alike)


def with_base(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Return a run's checkpoints with the model that each run was trained from before them, as step 0.

    Raises InputError where the base is not said, or not there.
    """
    bases: dict[str, Checkpoint] = {}
    for checkpoint in checkpoints:
        run = checkpoint.name.rpartition("/")[0]
        if run not in bases:
            bases[run] = Checkpoint(_trained_from(checkpoint.folder), f"{run}/base" if run else "base", 0)
    order = [*bases.values(), *(c for c in checkpoints if c.step != 0)]
    return sorted(order, key=lambda c: (c.name.rpartition("/")[0], c.step or 0, c.name))


def _trained_from(folder: Path) -> Path:
    name = str(((training_of(folder) or {}).get("base") or {}).get("name") or "")
    for place in (Path(name), folder / name, *(above / name for above in list(folder.absolute().parents)[:5])):
        if name and is_checkpoint(place):
            return place
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        return _from_hub(name)
    said = f"'{name}' is not there" if name else "is not said"
    raise InputError(f"{folder}: --with-base: the model that it was trained from {said}. Right: score it by itself.")


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, ignore_patterns=["*.gguf", "*.onnx", "original/*"]))
    except Exception as error:  # every client error (offline, unknown, gated) is the user's to see in one line
        raise InputError(f"{repository}: cannot be fetched from the hub: {first_line(error)}") from error


def weights_fingerprint(folder: Path) -> str:
    """Return 32 hex digits over weights and the parts of the configuration that change what is computed."""
    digest = xxhash.xxh3_128()
    for name in ("config.json", "adapter_config.json"):
        if (folder / name).is_file():
            config = orjson.loads((folder / name).read_bytes())
            kept = {k: v for k, v in config.items() if k not in _VOLATILE}
            digest.update(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS))
    for file in weight_files(folder):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a hash of vocabulary, rules, special tokens and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else orjson.dumps(sorted(tokenizer.get_vocab().items())).decode()
    special = orjson.dumps({k: str(v) for k, v in sorted(tokenizer.special_tokens_map.items())}).decode()
    return hashlib.sha256("\0".join([rules, special, str(tokenizer.chat_template)]).encode()).hexdigest()[:32]


def load(folder: Path, device: str = "cpu", dtype: str = "auto") -> Loaded:
    """Load a checkpoint for scoring. `dtype` auto: float32 on a CPU, else the checkpoint's own.

    Raises InputError for truncated weights, an unknown architecture or a missing base model of an adapter.
    """
    base = full_weights(folder)
    fingerprint = checkpoint_fingerprint(folder)
    model: Any = _load_model(base, device, dtype)
    if base != folder:
        from steel_train.models.weights import load_adapter

        model = load_adapter(model, folder).to(device).eval()
    tokenizer = load_tokenizer(folder, base)
    return Loaded(model, tokenizer, fingerprint, context_length(model, tokenizer), folder)


def full_weights(folder: Path) -> Path:
    """Return the folder of the full weights: for an adapter its base's. Raises InputError where that is missing."""
    return _base_of(folder) if (folder / "adapter_config.json").is_file() else folder


def checkpoint_fingerprint(folder: Path) -> str:
    """Return 32 hex digits over what a checkpoint computes: its weights, an adapter's and its base's."""
    base = full_weights(folder)
    own = weights_fingerprint(folder)
    return own if base == folder else own[:16] + weights_fingerprint(base)[:16]


def load_tokenizer(*folders: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of the first folder that has one."""
    from transformers import AutoTokenizer

    for folder in folders:
        if any(
            (folder / n).is_file() for n in ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
        ):
            return AutoTokenizer.from_pretrained(str(folder))
    raise InputError(
        f"{folders[0]}: no tokenizer beside the weights. Right: tokenizer.json in the checkpoint's folder."
    )


def context_length(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the model's context in tokens: what its configuration says, else the tokenizer, else 2048 (as lm-eval)."""
    config = model.config.get_text_config()
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return int(tokenizer.model_max_length) if tokenizer.model_max_length < 10**9 else 2048


def _load_model(folder: Path, device: str, dtype: str) -> Any:
    import torch
    from transformers.utils import logging

    from steel_train.models.weights import load_full

    logging.disable_progress_bar()
    kind: Any = {"auto": torch.float32 if device == "cpu" else "auto"}.get(dtype) or getattr(torch, dtype, None)
    if kind is None:
        raise InputError(f"--dtype {dtype}: unknown.{nearest(dtype, ['auto', 'float32', 'bfloat16', 'float16'])}")
    model = load_full(folder, dtype=kind)
    model.eval()
    return model.to(device)


def _base_of(adapter: Path) -> Path:
    name = str(orjson.loads((adapter / "adapter_config.json").read_bytes()).get("base_model_name_or_path") or "")
    for place in (Path(name), adapter / name, adapter.parent / name):
        if name and is_checkpoint(place):
            return place
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return _from_hub(name)
    raise InputError(
        f"{adapter}: its base model '{name}' is not there. Right: base_model_name_or_path in adapter_config.json."
    )


def read_weights(folder: Path) -> dict[str, Any] | None:
    """Read a full checkpoint's tensors (to swap them into a loaded model); None for adapters and old formats."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = weight_files(folder)
    if (folder / "adapter_config.json").is_file() or not files or files[0].suffix != ".safetensors":
        return None
    state: dict[str, Any] = {}
    try:
        for file in files:
            state |= load_file(file)
    except SafetensorError as error:
        raise InputError(f"{folder}: its weights cannot be read: {error}. Right: copy it again.") from error
    return state


def swap(loaded: Loaded, state: dict[str, Any]) -> bool:
    """Put other weights into a loaded model. Returns False, with the model untouched, where names or shapes do not fit.

    Tied tensors may be missing from the file: what shares storage with a tensor that is there needs no entry.
    """
    import torch

    own = loaded.model.state_dict(keep_vars=True)
    present = {own[name].data_ptr() for name in state if name in own}
    missing = [name for name, tensor in own.items() if name not in state and tensor.data_ptr() not in present]
    if missing or any(name not in own or own[name].shape != tensor.shape for name, tensor in state.items()):
        return False
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)
    return True


def share_cores(workers: int) -> None:
    """Leave to this process its share of the cores among `workers` that run side by side."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


def default_device() -> str:
    """Return the first GPU where there is one, else the CPU."""
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def training_of(folder: Path) -> Any:
    """Return the checkpoint's steel.json: step, mixture, base model, exposures, kernels; else what its trainer says.

    `base.history` holds what the base says of its own training, where that lies on this disk too.
    """
    file = folder / "steel.json"
    if file.is_file():
        return read_steel_json(file)
    told = trained_as(folder)
    base = Path(str(((told or {}).get("base") or {}).get("name") or ""))
    if told and base.parts and (base / "steel.json").is_file():
        earlier = read_steel_json(base / "steel.json")
        told["base"]["history"] = [*((earlier.get("base") or {}).get("history") or []), earlier]
    return told


def read_steel_json(file: Path) -> dict[str, Any]:
    """Return what a checkpoint of steel says of itself. Raises InputError for a damaged file."""
    try:
        said = orjson.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read: {first_line(error)}. Right: copy the checkpoint again.") from None
    if not isinstance(said, dict):
        raise InputError(f"{file}: is no table. Right: copy the checkpoint again.")
    return said
