"""The adapter of a run: its configuration, the 4-bit base under it, and one that is trained on (SFT, then DPO)."""

import importlib.util
from pathlib import Path
from typing import Any

import torch

from steel_data.errors import InputError
from steel_train.models.weights import base_of, read_config
from steel_train.settings import Lora, Settings

# our name -> that of PEFT's LoraConfig
_NAMES = {
    "rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "targets": "target_modules", "dora": "use_dora",
    "rslora": "use_rslora", "modules_to_save": "modules_to_save",
}  # fmt: skip


def adapter(settings: Settings, model: Any, new: list[int]) -> Any:
    """Return PEFT's LoraConfig for a model, or None where all weights are trained. `new`: ids of new tokens.

    The rows of new tokens learn beside the adapter, in the embeddings and, where it has a weight of its own, in the
    head. Raises InputError where an adapter on the embeddings is asked for too.
    """
    if not settings.uses_lora:
        return None
    from peft import LoraConfig

    lora = settings.lora or Lora()
    chosen = {name: getattr(lora, ours) for ours, name in _NAMES.items()}
    chosen |= {"target_modules": lora.targets or "all-linear"}
    if new:
        chosen["trainable_token_indices"] = dict.fromkeys(_rows_of_tokens(model, lora), new)
    return LoraConfig(task_type="CAUSAL_LM", **chosen)


def show_bias(model: Any) -> None:
    """Let a head whose rows of new tokens learn say its bias, which PEFT's wrapper hides and TRL's head asks for."""
    head = (model.get_base_model() if hasattr(model, "get_base_model") else model).get_output_embeddings()
    if type(head).__name__ == "TrainableTokensWrapper":
        head.__dict__["bias"] = head.original_module.bias  # not as a parameter: it has its place


def _rows_of_tokens(model: Any, lora: Lora) -> list[str]:
    """Return the names of the modules that have a row for each token, but those that are trained whole."""
    tied = model.config.get_text_config().tie_word_embeddings
    ends = [model.get_input_embeddings(), *([] if tied else [model.get_output_embeddings()])]
    names = [name.rpartition(".")[2] for end in ends for name, module in model.named_modules() if module is end]
    for name in names:
        if name in (lora.targets or ()):
            raise InputError(
                f"[train.lora]: targets: new tokens learn their own rows of {name}, beside which it has no adapter. "
                f'Fix: without {name}, or modules_to_save = ["{name}"].'
            )
    return [name for name in names if name not in (lora.modules_to_save or ())]


def started_adapter(settings: Settings, recipe: Path) -> Path | None:
    """Return the folder of the adapter that a run trains on, or None where its base is a full model."""
    if isinstance(settings.model, dict) or not settings.uses_lora:
        return None
    folder = recipe.parent / settings.model  # an absolute path stays itself
    return folder if (folder / "adapter_config.json").is_file() else None


def continued(settings: Settings, recipe: Path) -> Settings:
    """Return the settings with the rank, targets, … of the adapter that is trained on. Raises InputError.

    What `[train.lora]` itself says must be as in the adapter.
    """
    folder = started_adapter(settings, recipe)
    if folder is None:
        return settings
    base_of(folder)
    said, lora = read_config(folder / "adapter_config.json"), settings.lora or Lora()
    if said.get("peft_type") != "LORA":
        raise InputError(f"{folder}: an adapter of type {said.get('peft_type')} cannot be trained on. Fix: LoRA.")
    changed: dict[str, Any] = {}
    for ours, name in _NAMES.items():
        value = said.get(name)
        if value is None or (ours == "targets" and not isinstance(value, list)):
            continue
        value = sorted(value) if isinstance(value, list) else int(value) if ours == "alpha" else value
        mine = getattr(lora, ours)
        if ours in lora.model_fields_set and (sorted(mine) if isinstance(mine, list) else mine) != value:
            raise InputError(
                f"{recipe} [train.lora]: {ours} = {mine!r}, but the adapter {settings.model} has {value!r}. "
                f"Fix: without {ours}."
            )
        changed[ours] = value
    return settings.model_copy(update={"lora": lora.model_copy(update=changed)})


def four_bits(settings: Settings, recipe: Path) -> Any:
    """Return transformers' configuration of a base in 4 bits, or None. Raises InputError where it cannot run."""
    if settings.lora is None or settings.lora.quantize is None:
        return None
    check_bitsandbytes(f'{recipe} [train.lora]: quantize = "nf4"', "without quantize (the base in bfloat16)")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip


def check_bitsandbytes(what: str, right: str) -> None:
    """Raise InputError where what needs bitsandbytes on a CUDA device cannot run here."""
    if not torch.cuda.is_available():
        raise InputError(f"{what} needs a CUDA device, and here is none. Fix: {right}.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(f"{what} needs bitsandbytes. Fix: pip install bitsandbytes, or {right}.")
