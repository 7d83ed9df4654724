"""Checkpoints that need more than themselves to load -> folders that `AutoModelForCausalLM` loads as they are.

`convert`: the published Steel-LLM. Its config says `model_type = "qwen2"` and points to Python files beside the
weights; loaded as it stands, a Qwen2 model would be built and every expert's weight dropped. The weights' names and
values are kept; only the config changes, and `.bin` files become safetensors. Of any other model or adapter whose
weights are a pickle it makes safetensors, which is all that the loader reads. `merge_adapter`: a LoRA checkpoint, whose
base lies elsewhere.
"""

import shutil
from pathlib import Path
from typing import Any

from steel_data.errors import InputError, excerpt, nearest
from steel_data.files import replaced_folder
from steel_data.row.display import command
from steel_train.models.dtypes import own_dtype, saved_dtype
from steel_train.models.weights import base_of, load_adapter, load_full, read_config, take_ends
from steel_train.say import write_json

# what belongs to remote code or to one machine's loading, not to the model
DROPPED_KEYS = ("auto_map", "_attn_implementation", "_name_or_path", "transformers_version")
BESIDE = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "LICENSE*", "README*")
NOT_COPIED = ("config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json")


def convert(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write a loadable copy of the checkpoint `folder` to `out` and return its path.

    `folder`: a published Steel-LLM (`out`: by default `<folder>-steel`), or any model or adapter of which the weights
    are `.bin` files (`<folder>-safetensors`). The copy loads with `AutoModelForCausalLM.from_pretrained` after
    `import steel_train.models.steel`. Raises InputError when `folder` is neither, when weights are missing, unknown or
    of another shape, and when `out` exists. Needs room for one copy of the weights; of a Steel-LLM one weight file is
    in memory at a time.
    """
    folder = Path(folder)
    pickled = _is_pickled(folder)
    out = Path(out) if out is not None else folder.with_name(f"{folder.name}-{'safetensors' if pickled else 'steel'}")
    if out.exists():
        raise InputError(f"{out}: exists already. Fix: another output folder, or remove it first.")
    if pickled:
        return _unpickled(folder, out)
    settings = _settings(folder)
    files = _weight_files(folder)
    with replaced_folder(out) as fresh:
        _write_weights(files, _expected_shapes(folder, settings), fresh)
        write_json(fresh / "config.json", settings)
        for source in (path for pattern in BESIDE for path in folder.glob(pattern) if path.name not in NOT_COPIED):
            shutil.copyfile(source, fresh / source.name)
    return out


def next_steps(folder: Path) -> list[str]:
    """Return what may be done next with a model that loads."""
    score = command("score", folder, tasks="cmmlu,ceval")
    return [f"{score} scores the model", f"{command('chat', folder)} talks to the model"]


def _is_pickled(folder: Path) -> bool:
    """Return whether a folder holds a model of another kind than Steel-LLM, or an adapter, as a pickle alone."""
    if any(folder.glob("*.safetensors")) or not any(folder.glob("*.bin")):
        return False
    adapter = (folder / "adapter_config.json").is_file()
    return adapter or "FFN_type" not in read_config(folder / "config.json")


def _unpickled(folder: Path, out: Path) -> Path:
    """Write the folder with its weights as safetensors. Only tensors are read: what else a pickle holds is an error."""
    from safetensors.torch import save_file

    adapter = folder / "adapter_model.bin"
    with replaced_folder(out) as fresh:
        if adapter.is_file():
            read_config(folder / "adapter_config.json")
            tensors = {name: x.contiguous() for name, x in _read(adapter).items()}
            save_file(tensors, fresh / "adapter_model.safetensors", metadata={"format": "pt"})
        else:
            load_full(folder, pickled=True, dtype="auto").save_pretrained(fresh)
        kept = (path for pattern in BESIDE for path in folder.glob(pattern) if not path.name.endswith(".index.json"))
        for source in kept:
            shutil.copyfile(source, fresh / source.name)
    return out


def merge_adapter(checkpoint: Path, out: Path | None = None) -> Path:
    """Write a LoRA checkpoint as a full model (in its base's type, with its tokenizer) to `out` and return that.

    The sum is computed in float32. A run with `dtype = "float32"` merges to float32.

    Default: `<checkpoint>-merged`. Raises InputError when it is there already or the base cannot be found.
    """
    if not (checkpoint / "adapter_config.json").is_file():
        raise InputError(f'{checkpoint}: no adapter_config.json. Fix: a checkpoint of a run with method = "lora".')
    target = out or checkpoint.with_name(f"{checkpoint.name}-merged")
    if target.exists():
        raise InputError(f"{target}: is there already. Fix: another --out.")
    import torch
    from transformers import AutoTokenizer

    base = base_of(checkpoint)
    model = load_adapter(load_full(base, dtype=torch.float32), checkpoint)
    take_ends(model, checkpoint)
    of_the_adapter = ("files", "weights_sha256", "state_sha256", "window")
    with replaced_folder(target) as fresh:
        _untie(model)
        model.merge_and_unload().to(_merged_dtype(checkpoint, base)).save_pretrained(fresh)
        tokenizer = checkpoint if (checkpoint / "tokenizer_config.json").is_file() else base
        AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False).save_pretrained(fresh)
        if (checkpoint / "steel.json").is_file():  # an adapter of another trainer has none
            said = read_config(checkpoint / "steel.json")
            merged = {key: value for key, value in said.items() if key not in of_the_adapter}
            write_json(fresh / "steel.json", merged | {"merged_from": checkpoint.name})
    return target


def _untie(model: Any) -> None:
    """Give the head a weight of its own where it shares the embeddings' and an adapter changes one of the two."""
    import torch

    inner = model.get_base_model()
    embedding, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    if inner.config.tie_word_embeddings and (hasattr(embedding, "lora_embedding_A") or hasattr(head, "lora_A")):
        bare = getattr(head, "base_layer", head)
        bare.weight = torch.nn.Parameter(bare.weight.detach().clone())
        inner.config.tie_word_embeddings = False


def _merged_dtype(checkpoint: Path, base: str) -> Any:
    """Return the type of a merged model: that of the base as it was published, unless the run's recipe says another."""
    from transformers import AutoConfig

    own = own_dtype(
        AutoConfig.from_pretrained(base, trust_remote_code=False), Path(base) if Path(base).is_dir() else None
    )
    said = read_config(checkpoint / "steel.json") if (checkpoint / "steel.json").is_file() else {}
    train = said.get("train", {})
    chosen = train.get("dtype", "auto") if isinstance(train, dict) else train
    if chosen not in ("auto", "float32", "bfloat16"):
        raise InputError(
            f"{checkpoint / 'steel.json'}: train.dtype is {excerpt(str(chosen), 40)}, no type of weights. "
            "Fix: copy the checkpoint again."
        )
    return saved_dtype(chosen, own)


def _settings(folder: Path) -> dict[str, Any]:
    """Return the config with Steel's own model type, or say why the folder is not a Steel checkpoint."""
    path = folder / "config.json"
    settings = read_config(path)
    if settings.get("model_type") not in ("qwen2", "steel") or "FFN_type" not in settings:
        raise InputError(f"{path}: not a Steel-LLM model (no FFN_type). Fix: the published Steel-LLM checkpoint.")
    settings = {key: value for key, value in settings.items() if key not in DROPPED_KEYS}
    return settings | {"model_type": "steel", "architectures": ["SteelForCausalLM"]}


def _weight_files(folder: Path) -> list[Path]:
    """Return the weight files: safetensors if there are any, else `.bin`; shards that an index names must exist."""
    for pattern, index in (
        ("*.safetensors", "model.safetensors.index.json"),
        ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ):
        found = sorted(folder.glob(pattern))
        if (folder / index).exists():
            named = read_config(folder / index).get("weight_map")
            if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
                raise InputError(f"{folder / index}: names no shards. Fix: copy it again.")
            if missing := sorted(set(named.values()) - {f.name for f in found}):
                raise InputError(f"{folder}: {missing[0]} is missing. Fix: every shard that {index} names.")
        if found:
            return found
    raise InputError(f"{folder}: no weights. Fix: model.safetensors or pytorch_model.bin, whole or in shards.")


def _expected_shapes(folder: Path, settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    from steel_train.models.steel import SteelConfig, SteelForCausalLM

    try:
        config = SteelConfig.from_dict(settings)
        with torch.device("meta"):
            model = SteelForCausalLM(config)
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from error
    return {name: tuple(x.shape) for name, x in model.state_dict().items()}


def _write_weights(files: list[Path], expected: dict[str, tuple[int, ...]], out: Path) -> None:
    """Write each file's tensors as safetensors with the index of shards, after checking names and shapes."""
    from safetensors.torch import save_file

    shards: dict[str, str] = {}
    total = 0
    for number, path in enumerate(files, 1):
        tensors = {name: x for name, x in _read(path).items() if not name.endswith(".inv_freq")}
        shard = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        for name, x in tensors.items():
            if name not in expected:
                raise InputError(f"{path}: unknown weight {name}.{nearest(name, expected, show_known=False)}")
            if tuple(x.shape) != expected[name]:
                right = f"{list(expected[name])} by its config.json"
                raise InputError(f"{path}: {name} has shape {list(x.shape)}. Fix: {right}.")
            total += x.numel() * x.element_size()
        save_file({n: x.contiguous() for n, x in tensors.items()}, out / shard, metadata={"format": "pt"})
        shards |= dict.fromkeys(tensors, shard)
    if missing := sorted(set(expected) - set(shards)):
        raise InputError(f"{files[0].parent}: {len(missing)} weights are missing, the first: {missing[0]}. Fix: all.")
    index = {"metadata": {"total_size": total}, "weight_map": shards}
    write_json(out / "model.safetensors.index.json", index)


def _read(path: Path) -> dict[str, Any]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: a .bin file is a pickle, and a pickle could run code
        tensors: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {name: x.clone() for name, x in tensors.items()}
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as weights ({error}). Fix: an intact download.") from error
