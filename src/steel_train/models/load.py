"""The model of a run: loaded or made from a table, what identifies where it starts, its precision and its adapter."""

import inspect
import json
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import xxhash

from steel_data.errors import InputError, excerpt, first_line, nearest
from steel_data.recipe.first_fault import shown
from steel_train.models.adapter import four_bits, started_adapter
from steel_train.models.attention import ATTENTION, register_attention
from steel_train.models.dtypes import held_dtype, own_dtype, uses_bf16
from steel_train.models.weights import base_of, check_folder, load_adapter, load_full, read_config, why
from steel_train.settings import Settings

# Layers whose output depends on the rest of a row in ways that no mask can undo: padding or packing would change it.
_MIXES_THE_ROW = ("steel",)


@dataclass(frozen=True)
class Base:
    """Where a run starts: a name for people, the fingerprint of all weights, the architecture, and how they came to be.

    `history`: one entry for each earlier run of steel, oldest first (what its checkpoint's steel.json says of itself).
    """

    name: str
    fingerprint: str
    architecture: str
    history: list[dict[str, Any]] = field(default_factory=list)


def resolve(name: str, recipe: Path) -> str:
    """Return the folder that a recipe names (relative to it), else the name itself as a hub id. Raises InputError."""
    folder = Path(name) if Path(name).is_absolute() else recipe.parent / name
    if folder.is_dir():
        if not (folder / "config.json").exists() and (folder / "checkpoints").is_dir():
            steps = sorted(p.name for p in (folder / "checkpoints").glob("step-*"))
            example = f"{name}/checkpoints/{steps[-1]}" if steps else "one with config.json"
            raise InputError(f"{recipe} [train]: model '{name}' is a run, not a model. Fix: model = \"{example}\".")
        return str(folder)
    if name.count("/") != 1 or name.startswith(("/", ".")):
        raise InputError(f"{recipe} [train]: model '{name}': no such folder ({folder}). Fix: a folder or a hub id.")
    return name


def resolve_base(settings: Settings, recipe: Path) -> str:
    """Return the folder or hub id of the full model that a run starts from: of an adapter, its base."""
    start = started_adapter(settings, recipe)
    return base_of(start) if start is not None else resolve(str(settings.model), recipe)


def load_config(settings: Settings, recipe: Path, vocabulary: int) -> Any:
    """Return the config of the model, from disk, the hub or the recipe's table. Raises InputError.

    `vocabulary`: how many tokens there are; new ones have a row each.
    """
    from transformers import AutoConfig

    import steel_train.models.steel  # noqa: F401 - makes the Steel-LLM architecture known to transformers

    if isinstance(settings.model, dict):
        return _config_of_table(settings.model, recipe, vocabulary)
    name = resolve_base(settings, recipe)
    try:
        if Path(name).is_dir():
            check_folder(Path(name))
        config: Any = AutoConfig.from_pretrained(name, trust_remote_code=False)  # nobody is asked, no code is run
    except InputError as error:
        raise InputError(f"{recipe} [train]: model '{settings.model}' cannot be loaded: {error}") from None
    except Exception as error:
        place = Path(name) / "config.json"
        if place.is_file() and read_config(place).get("auto_map"):
            said = "it brings code of its own, which is not run here. Fix: a model that transformers knows"
        else:
            said = f"{why(error)}. Fix: a whole model that transformers knows"
        raise InputError(f"{recipe} [train]: model '{settings.model}' cannot be loaded: {said}.") from None
    if settings.new_tokens or settings.new_special_tokens:
        text = config.get_text_config()
        text.vocab_size = max(text.vocab_size, vocabulary)
    return config


def strictly(settings: Settings, recipe: Path, name: str, **options: Any) -> Any:
    """Return the model of a folder or hub id, loaded whole. Raises InputError that names the recipe."""
    try:
        return load_full(name, **options)
    except InputError as error:
        raise InputError(f"{recipe} [train]: model '{settings.model}' cannot be loaded: {error}") from None


def _config_of_table(table: dict[str, Any], recipe: Path, vocabulary: int) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = table["type"]
    where = f"{recipe} [train] model"
    if kind not in CONFIG_MAPPING:
        raise InputError(f"{where}: unknown type '{kind}'.{nearest(kind, list(CONFIG_MAPPING), show_known=False)}")
    options = {key: value for key, value in table.items() if key != "type"}
    known = AutoConfig.for_model(kind).to_dict()
    unknown = [key for key in options if key not in known]
    if unknown:
        raise InputError(f"{where}: unknown key '{unknown[0]}'.{nearest(unknown[0], known, show_known=False)}")
    for key, value in options.items():
        if fix := _misfit(key, value, known[key]):
            raise InputError(f"{where}: {key} = {shown(value)}: {fix}.")
    # a multiple of 64 suits the matrix units; the spare rows are never a label
    options["vocab_size"] = max(options.get("vocab_size", 0), -(-vocabulary // 64) * 64)
    try:
        return AutoConfig.for_model(kind, **options)
    except Exception as error:  # the field in the first line, what is wrong with it in the second
        raise InputError(f"{where}: {excerpt(' '.join(str(error).split()), 200).rstrip('.')}.") from None


def _misfit(key: str, value: Any, default: Any) -> str:
    """Return why a value is none for a key of a config, by the type of its default; "" where it may be one."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "neither true nor false. Fix: true or false"
    if isinstance(default, int) and type(value) is not int:
        return f"no whole number. Fix: a whole number such as {default}"
    if isinstance(default, float) and type(value) not in (int, float):
        return f"no number. Fix: a number such as {default:g}"
    counts = key == "vocab_size" or key.startswith("num_") or key.endswith("_size")
    return "too small. Fix: more than 0" if isinstance(default, int) and counts and value < 1 else ""


def load_model(settings: Settings, config: Any, recipe: Path, packed: bool, seed: int) -> Any:
    """Return the model, its attention fit for packed rows if `packed`; a base is loaded strictly. Raises InputError.

    In float32, or as models/dtypes.py has it. An adapter that is trained on is not in it yet (`with_adapter`).
    """
    from transformers import AutoModelForCausalLM, set_seed
    from transformers.utils.import_utils import is_flash_attn_2_available

    register_attention()
    # of what ours passes on, a cap of the scores is all that flash attention 2 takes
    able = torch.cuda.is_available() and is_flash_attn_2_available() and config.model_type != "gpt_oss"
    attention = padded_attention(config) if not packed else "flash_attention_2" if able else ATTENTION
    options: dict[str, Any] = {"attn_implementation": attention, "dtype": torch.float32}
    if not isinstance(settings.model, dict):
        name = resolve_base(settings, recipe)
        options["dtype"] = held_dtype(settings, base_dtype(settings, config, recipe), uses_bf16(settings))
        quantised = four_bits(settings, recipe)
        if quantised is not None:
            options |= {"quantization_config": quantised, "device_map": {"": torch.cuda.current_device()}}
        return strictly(settings, recipe, name, **options)
    if settings.dtype == "bfloat16":
        options["dtype"] = torch.bfloat16
    try:
        set_seed(seed)
        return AutoModelForCausalLM.from_config(config, **options)
    except Exception as error:
        raise InputError(
            f"{recipe} [train]: model '{settings.model}' cannot be loaded: {first_line(error)}. "
            "Fix: a whole model that transformers knows."
        ) from None


def base_dtype(settings: Settings, config: Any, recipe: Path) -> torch.dtype:
    """Return the type of the base's weights as they are published; float32 for a model from scratch."""
    if isinstance(settings.model, dict):
        return torch.float32
    name = Path(resolve_base(settings, recipe))
    return own_dtype(config, name if name.is_dir() else None)


def with_adapter(model: Any, settings: Settings, recipe: Path) -> Any:
    """Return the model with the adapter that is trained on in place; as it is where there is none."""
    start = started_adapter(settings, recipe)
    return model if start is None else load_adapter(model, start, is_trainable=True)


def new_ids(settings: Settings, tokenizer: Any) -> list[int]:
    """Return the ids of the tokens that the recipe adds, in order; none where the model is made from scratch."""
    if isinstance(settings.model, dict):
        return []
    return sorted(tokenizer.convert_tokens_to_ids([*settings.new_tokens, *settings.new_special_tokens]))


def grow(model: Any, ids: list[int]) -> None:
    """Give new tokens their rows of embeddings and head: the mean of those of all known tokens.

    So their logits begin inside the spread of the known ones' (Hewitt 2021, nlp.stanford.edu/~johnhew/vocab-expansion).
    Rows that the model has to spare are taken first.
    """
    if not ids:
        return
    if ids[-1] >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(ids[-1] + 1, mean_resizing=False)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            for values in (module.weight, getattr(module, "bias", None)):
                if values is not None:
                    values[ids] = values[: ids[0]].float().mean(dim=0).to(values.dtype)


def freeze(model: Any, patterns: list[str], recipe: Path) -> None:
    """Let weights whose name fits a pattern learn nothing. Raises InputError where one fits none, or all are."""
    names = dict(model.named_parameters())
    for pattern in patterns:
        fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            near = nearest(pattern, sorted(names), show_known=False)
            raise InputError(f"{recipe} [train]: freeze: no weight is named '{pattern}'.{near}")
        for name in fitting:
            names[name].requires_grad_(False)
    if not any(weight.requires_grad for weight in names.values()):
        raise InputError(f"{recipe} [train]: freeze leaves no weight to learn. Fix: fewer patterns.")


def padded_attention(config: Any) -> str:
    """Return the attention of padded rows: torch's kernel, or the model's own code where it has what that lacks.

    A cap of the scores is passed over by torch's kernel in silence; sinks have no place in it.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "eager" if capped or not getattr(model_class, "_supports_sdpa", True) else "sdpa"


def packs(settings: Settings, config: Any, recipe: Path) -> bool:
    """Return whether rows are to be packed, which the run proves on the model before it starts (preflight/apart.py).

    Raises InputError where that is asked of a model that cannot keep rows apart.
    """
    fault = packing_fault(settings, config)
    if settings.packing and fault:
        raise InputError(f"{recipe} [train]: packing = true, but {fault}. Fix: packing = false.")
    return fault is None if settings.packing is None else settings.packing


def packing_fault(settings: Settings, config: Any) -> str | None:
    """Return why rows cannot be packed, as far as the configuration tells, or None."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    able = (
        model_class is not None
        and getattr(model_class, "_supports_attention_backend", False)
        and config.model_type not in _MIXES_THE_ROW
        and any(p.kind is p.VAR_KEYWORD for p in inspect.signature(model_class.forward).parameters.values())
    )
    if not able:
        return f"{config.model_type} cannot keep rows apart"
    chunk = getattr(config.get_text_config(), "attention_chunk_size", None)
    if chunk and settings.max_length > chunk:
        return f"rows of {settings.max_length:,} tokens are longer than the attention chunks of {chunk:,}"
    return None


def check_vocabulary(model_rows: int, tokenizer: Any, recipe: Path) -> None:
    """Raise InputError where the tokenizer has ids that the embedding has no row for."""
    highest = max(tokenizer.get_vocab().values())
    if highest >= model_rows:
        raise InputError(
            f"{recipe} [train]: the tokenizer's largest id is {highest}, the model has {model_rows} embedding rows. "
            "Fix: the model's own tokenizer, and what is new as new_tokens."
        )


def fingerprint(model: torch.nn.Module) -> str:
    """Return xxh3-128 over names, shapes and values of all parameters and buffers that are saved.

    Values are taken as float32, so a base has one fingerprint in whichever type it is held.
    """
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        wide = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        digest.update(f"{name} {wide.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(wide.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def describe_base(model: Any, settings: Settings, recipe: Path) -> Base:
    """Return where the run starts. A base that is a checkpoint of steel brings its history along."""
    sizes = {k: v for k, v in model.config.to_dict().items() if type(v) is int and not k.endswith("token_id")}
    architecture = json.dumps({"type": model.config.model_type, **sizes}, sort_keys=True)
    history: list[dict[str, Any]] = []
    if isinstance(settings.model, dict):
        name = f"{settings.model['type']} from scratch"
    else:
        name = settings.model
        said = Path(resolve(name, recipe)) / "steel.json"
        if said.is_file():
            history = _history(said)
    return Base(name, fingerprint(model), xxhash.xxh3_64_hexdigest(architecture.encode()), history)


def _history(file: Path) -> list[dict[str, Any]]:
    """Return what a checkpoint of steel says of those before it, and of itself. Raises InputError for a damaged one."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return [*said["base"].pop("history", []), said]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read: {first_line(error)}. Fix: copy the checkpoint again.") from None
