"""The one strict loader of weights: each tensor of the model comes from the file, each one of the file has a place.

transformers and peft fill what is missing with random numbers and pass over what does not fit, with a warning at most.
A checkpoint that lacks a tensor would be scored, and trained on, with noise in its place, and an adapter that fits
nothing would be scored as its base. Here both are an error that names them.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from steel_data.errors import InputError, first_line

# Written by older versions of transformers; computed from the configuration, never learnt.
_COMPUTED = ("rotary_emb.inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias")


def load_full(folder: Path | str, **options: Any) -> Any:
    """Return the model in a folder (or of a hub id), all of it from its files; `options` go to `from_pretrained`.

    Raises InputError for weights that are cut short, that lack a tensor of the model, that hold one more than the model
    has, or one of another shape; and for a configuration that cannot be read or is not known.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    import steel_train.models.steel  # noqa: F401 - makes the Steel-LLM architecture known to transformers

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(str(folder), output_loading_info=True, **options)
    except (SafetensorError, EOFError, RuntimeError) as error:
        raise InputError(f"{folder}: its weights cannot be read: {first_line(error)}. Right: copy it again.") from error
    except (ValueError, KeyError, OSError, TypeError, AttributeError, ImportError) as error:
        raise InputError(f"{folder}: cannot be loaded: {first_line(error)}.") from error
    model, told = loaded
    missing = set(told["missing_keys"])
    # of tensors that share their place a file need hold only one
    missing = {name for name in missing if _sharing(model, name) <= missing}
    extra = [name for name in told["unexpected_keys"] if not name.endswith(_COMPUTED)]
    unlike = [entry[0] if isinstance(entry, tuple | list) else entry for entry in told["mismatched_keys"]]
    _refuse(folder, "its weights do", missing, extra, unlike, told.get("error_msgs") or ())
    return model


def load_adapter(model: Any, folder: Path, **options: Any) -> Any:
    """Return `model` with the adapter of a folder in place, every key of it.

    An adapter that was trained with a larger vocabulary brings its embeddings along: the model gets as many rows first.
    Raises InputError where a tensor of the adapter has no place, or a place of it no tensor.
    """
    from peft import PeftModel, get_peft_model_state_dict

    held = adapter_shapes(folder)
    rows = {shape[0] for name, shape in held.items() if name.endswith(("embed_tokens.weight", "lm_head.weight"))}
    if len(rows) == 1 and rows != {model.get_input_embeddings().weight.shape[0]}:
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)
    try:
        fitted = PeftModel.from_pretrained(model, str(folder), **options)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise InputError(f"{folder}: the adapter does not fit its base: {first_line(error)}.") from error
    wanted = get_peft_model_state_dict(fitted, save_embedding_layers=False)
    saved = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    # peft saves embeddings of a grown vocabulary as well, under more than one name
    again = {
        name for name in held if name not in saved and re.search(r"(?:embed_tokens|lm_head)[.\w]*[.]weight$", name)
    }
    unlike = [name for name, shape in held.items() if name in saved and saved[name] != shape]
    missing, extra = sorted(saved.keys() - held.keys()), sorted(held.keys() - saved.keys() - again)
    _refuse(folder, "the adapter does", missing, extra, unlike)
    return fitted


def adapter_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the tensors that an adapter's file holds. Raises InputError where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    file = folder / "adapter_model.safetensors"
    try:
        if file.is_file():
            with safe_open(file, "pt") as stored:
                return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        held = torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)
        return {name: tuple(tensor.shape) for name, tensor in held.items()}
    except FileNotFoundError:
        raise InputError(f"{folder}: no adapter_model.safetensors. Right: the folder that peft saved.") from None
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise InputError(f"{folder}: the adapter cannot be read: {first_line(error)}. Right: copy it again.") from error


def _sharing(model: Any, name: str) -> set[str]:
    """Return the names of the tensors that lie where the tensor `name` lies, itself among them."""
    held = model.state_dict(keep_vars=True)
    place = held[name].data_ptr() if name in held else None
    return {name} | {other for other, tensor in held.items() if place and tensor.data_ptr() == place}


def _refuse(
    folder: Path | str, what: str, missing: Iterable[str], extra: Iterable[str], unlike: Iterable[str], faults: Any = ()
) -> None:
    """Raise InputError where anything is missing, has no place, or is of another shape."""
    said = [
        f"{words} {', '.join(names[:3])}{f' and {len(names) - 3:,} more' if len(names) > 3 else ''}"
        for words, found in (("no", missing), ("no place for", extra), ("another shape of", unlike))
        if (names := sorted(found))
    ]
    said += [str(fault).strip().splitlines()[0][:160] for fault in faults if str(fault).strip()]
    if said:
        raise InputError(f"{folder}: {what} not fit the model: {'; '.join(said)}.")
