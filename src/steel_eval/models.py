"""Checkpoints: found, identified by what they hold, loaded and swapped.

Full models, LoRA adapters without merging, hub ids, and the checkpoints of a run. What a result depends on is named by
hashes of contents, never by names or paths: a cache keyed by a path gives yesterday's answers for today's weights.
Weights are hashed by xxh3-128 of the files' bytes: fast enough to be read along with the weights, and nobody attacks
their own results.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import xxhash

from steel_data.engine import progress, tell
from steel_data.errors import InputError, first_line, nearest
from steel_data.files import address
from steel_data.shapes import misfits, without_nulls
from steel_eval.tokenizer import load_tokenizer, switched, thinking_switch
from steel_eval.trainers import planned_steps, step_of, trained_as
from steel_train.examples.tokenizer import pinned
from steel_train.loop.checkpoints import FACTS
from steel_train.models.weights import (
    adapter_shapes,
    base_of,
    check_folder,
    load_adapter,
    load_full,
    read_config,
    take_ends,
)

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


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a model is opened, beside its folder, device and type.

    `base`: in place of the one that an adapter names; `tokenizer`: of another folder or hub id; `trust_remote_code`:
    run the code beside the weights; `revision`: of a hub id; `max_length`: a shorter context, tokens;
    `thinking`: "on" or "off", the switch that the chat template has; `chat_template_kwargs`: values of its variables.
    """

    base: str | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    revision: str | None = None
    max_length: int | None = None
    thinking: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise InputError for a value that no model could have."""
        if self.thinking not in (None, "on", "off"):
            raise InputError(f"--thinking {self.thinking}: unknown. Fix: on or off.")
        if self.max_length is not None and self.max_length < 2:
            raise InputError(f"--max-length {self.max_length}: no room for a question. Fix: at least 2 tokens.")

    def said(self) -> dict[str, Any]:
        """Return what was asked for, for JSON: nothing of what is by default."""
        return {key: value for key, value in asdict(self).items() if value}


AS_SAVED = Opening()


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


def find_checkpoints(place: str, revision: str | None = None) -> tuple[list[Checkpoint], bool]:
    """Return the checkpoints at a place in order of steps, and whether it is a run (a folder of checkpoints).

    `revision`: of a hub id; elsewhere an error.

    Understood: a checkpoint or adapter folder, a hub id, steel's runs (`checkpoints/step-*`,
    `seed-*/checkpoints/step-*`) and those of the Hugging Face trainer, LLaMA-Factory and ms-swift (`checkpoint-*`, also
    `v0-*/checkpoint-*`). Weights in a run's root are its last step (`_in_root`), and are there once. An unfinished
    checkpoint (no weights yet) is left out.
    """
    root = Path(place)
    if not root.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", place) and not place.startswith("."):
            return [Checkpoint(_from_hub(place, revision), place, None)], False
        near = [p.name for p in root.parent.iterdir()] if root.parent.is_dir() else []
        raise InputError(
            f"{place}: no such folder, and no hub id.{nearest(root.name, near, False)} Fix: a folder, or owner/name."
        )
    if revision is not None:
        raise InputError(f"--revision {revision}: {place} is a folder. Fix: only with a hub id (owner/name).")
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
        f"{place}: no checkpoint here. Fix: config.json with *.safetensors, or a run with checkpoints/step-*."
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
        tell(f"{run}: its weights are of no known step, and not scored. Fix: trainer_state.json beside them.")
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
    raise InputError(f"{folder}: --with-base: the model that it was trained from {said}. Fix: score it by itself.")


def _from_hub(repository: str, revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download

    tell(f"fetching {repository}")
    try:
        return Path(
            snapshot_download(repository, revision=revision, ignore_patterns=["*.gguf", "*.onnx", "original/*"])
        )
    except Exception as error:  # every client error (offline, unknown, gated) is the user's to see in one line
        raise InputError(
            f"{repository}: cannot be fetched from the hub: {first_line(error)}. "
            "Fix: a network, its terms accepted, or a folder."
        ) from error


def weights_fingerprint(folder: Path) -> str:
    """Return 32 hex digits over weights and the parts of the configuration that change what is computed."""
    digest = xxhash.xxh3_128()
    for name in ("config.json", "adapter_config.json"):
        if (folder / name).is_file():
            config = read_config(folder / name)
            kept = {k: v for k, v in config.items() if k not in _VOLATILE}
            try:
                digest.update(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS))
            except TypeError as error:  # a number of more than 64 bits
                raise InputError(f"{folder / name}: {first_line(error)}. Fix: copy it again.") from None
    for file in weight_files(folder):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def load(folder: Path, device: str = "cpu", dtype: str = "auto", how: Opening = AS_SAVED) -> Loaded:
    """Load a checkpoint. `dtype` auto: float32 on a CPU, else the checkpoint's own (see `scoring_dtype`).

    Raises InputError for weights that are not whole, an unknown architecture or a missing base model of an adapter.
    """
    with progress(f"load {folder.name}", None):
        base = full_weights(folder, how.base)
        model: Any = _load_model(base, device, dtype, how.trust_remote_code)
        if base != folder:
            model = load_adapter(model, folder)
            take_ends(model, folder)
            model = model if _quantised(base) else model.to(device)
            model.eval()
        tokenizer = open_tokenizer(folder, how)
        fingerprint = checkpoint_fingerprint(folder, how.base)
        if code := _code_beside(model):
            fingerprint = address(fingerprint, code)[:32]
    longest = context_length(model, tokenizer)
    if how.max_length is not None and how.max_length > longest:
        raise InputError(f"--max-length {how.max_length}: {folder} has {longest} tokens. Fix: at most so many.")
    return Loaded(model, tokenizer, fingerprint, how.max_length or longest, folder)


def scoring_dtype(folder: Path, device: str, dtype: str = "auto", base: str | None = None) -> str:
    """Return in which type a checkpoint is scored where `dtype` is auto: on a CPU the cheaper one of two.

    bfloat16 for weights that are stored so, on a CPU that multiplies them itself (AVX512-BF16, AMX: half the seconds of
    float32, docs/results/scoring.md); float32 for all others, since rounding weights would change what is scored.
    """
    full = full_weights(folder, base)
    if dtype != "auto" or device != "cpu" or _quantised(full) or not _multiplies_bf16():
        return dtype
    stored = {kind for file in weight_files(full) for kind in _stored_types(file)}
    return "bfloat16" if stored == {"BF16"} else "auto"


def _multiplies_bf16() -> bool:
    import torch

    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not say it
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def _stored_types(file: Path) -> set[str]:
    """Return the types of a safetensors file's tensors of floats, by its header; nothing for what cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as stored:
            types = {stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return set()
    return {kind for kind in types if "F" in kind}


def check(folder: Path, how: Opening = AS_SAVED) -> None:
    """Look at a checkpoint before data are read: its configuration, its base. Raises InputError. No weight is read."""
    base = full_weights(folder, how.base)
    check_folder(base)
    if base != folder:
        adapter_shapes(folder)
    if how.tokenizer is not None:
        _place(how.tokenizer, "--tokenizer")


def full_weights(folder: Path, base: str | None = None) -> Path:
    """Return the folder of the full weights: for an adapter its base's, or `base` in its place.

    Raises InputError where that is missing, or for a `base` of what is no adapter.
    """
    if not (folder / "adapter_config.json").is_file():
        if base is not None:
            raise InputError(f"--base {base}: {folder} is a whole model. Fix: only with an adapter.")
        return folder
    if base is not None:
        return _place(base, "--base")
    name, revision = base_of(folder), read_config(folder / "adapter_config.json").get("revision")
    return Path(name) if Path(name).is_dir() else _from_hub(name, revision)


def _place(name: str, option: str) -> Path:
    """Return the folder that an option names, fetched where it is a hub id."""
    if Path(name).is_dir():
        return Path(name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        return _from_hub(name)
    raise InputError(f"{option} {name}: no such folder, and no hub id. Fix: a folder, or owner/name.")


def _quantised(folder: Path) -> bool:
    return bool(read_config(folder / "config.json").get("quantization_config"))


def _code_beside(model: Any) -> str:
    """Return a hash of the code that came with a model and was run; empty where it was transformers' own or ours."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    if not type(inner).__module__.startswith("transformers_modules"):
        return ""
    file = Path(inspect.getfile(type(inner)))
    return address([path.read_text(encoding="utf-8") for path in sorted(file.parent.glob("*.py"))])


def checkpoint_fingerprint(folder: Path, base: str | None = None) -> str:
    """Return 32 hex digits over what a checkpoint computes: its weights, an adapter's and its base's (or `base`'s)."""
    full = full_weights(folder, base)
    own = weights_fingerprint(folder)
    return own if full == folder else own[:16] + weights_fingerprint(full)[:16]


def open_tokenizer(folder: Path, how: Opening = AS_SAVED) -> "PreTrainedTokenizerBase":
    """Return a checkpoint's tokenizer, its chat template switched as asked, else as it was in training (steel.json).

    It lies in the checkpoint, in the root of its run, or with an adapter's base.
    """
    if how.tokenizer is not None:
        places = [_place(how.tokenizer, "--tokenizer")]
    else:
        above = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
        places = [folder, *([above] if _STEP.search(folder.name) else []), full_weights(folder, how.base)]
    tokenizer = load_tokenizer(*places, trust_remote_code=how.trust_remote_code)
    said = training_of(folder) or {}
    trained = said.get("chat_template_kwargs") or (said.get("train") or {}).get("chat_template_kwargs") or {}
    asked = {**trained, **how.chat_template_kwargs}
    if how.thinking is not None:
        asked[thinking_switch(tokenizer)] = how.thinking == "on"
    if isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = pinned(tokenizer.chat_template)
    return switched(tokenizer, asked)


def context_length(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the model's context in tokens: what its configuration says, else the tokenizer, else 2048 (as lm-eval)."""
    config = model.config.get_text_config()
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return int(tokenizer.model_max_length) if tokenizer.model_max_length < 10**9 else 2048


def _load_model(folder: Path, device: str, dtype: str, trust_remote_code: bool) -> Any:
    import torch

    kind: Any = {"auto": torch.float32 if device == "cpu" else "auto"}.get(dtype) or getattr(torch, dtype, None)
    if kind is None:
        raise InputError(f"--dtype {dtype}: unknown.{nearest(dtype, ['auto', 'float32', 'bfloat16', 'float16'])}")
    check_folder(folder)
    if _quantised(folder):  # its own configuration says the types, and it is made where it stays
        options: dict[str, Any] = {"dtype": "auto" if dtype == "auto" else kind, "device_map": device}
        return load_full(folder, trust_remote_code, **options).eval()
    return load_full(folder, trust_remote_code, dtype=kind).eval().to(device)


def read_weights(folder: Path) -> dict[str, Any] | None:
    """Read a full checkpoint's tensors (to swap them into a loaded model); None for adapters and old formats."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = weight_files(folder)
    adapter = (folder / "adapter_config.json").is_file()
    if adapter or not files or files[0].suffix != ".safetensors" or _quantised(folder):
        return None
    state: dict[str, Any] = {}
    try:
        for file in files:
            state |= load_file(file)
    except SafetensorError as error:
        raise InputError(f"{folder}: its weights cannot be read: {error}. Fix: copy it again.") from error
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
        raise InputError(f"{file}: cannot be read: {first_line(error)}. Fix: copy the checkpoint again.") from None
    if not isinstance(said, dict):
        raise InputError(f"{file}: is no table. Fix: copy the checkpoint again.")
    for fault in misfits("", without_nulls(said), FACTS):
        raise InputError(f"{file}: {fault}. Fix: copy the checkpoint again.")
    return said
