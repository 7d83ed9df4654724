"""The one strict loader of weights: each tensor of the model comes from the file, each one of the file has a place.

transformers and peft fill what is missing with random numbers and pass over what does not fit, with a warning at most.
A checkpoint that lacks a tensor would be scored, and trained on, with noise in its place, and an adapter that fits
nothing would be scored as its base. Here both are an error that names them.
"""

import json
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from steel_data.errors import InputError, excerpt, first_line

# Written by older versions of transformers; computed from the configuration, never learnt.
_COMPUTED = ("rotary_emb.inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_full(
    folder: Path | str, trust_remote_code: bool = False, pickled: bool = False, **options: Any
) -> Any:  # fmt: skip
    """Return the model in a folder (or of a hub id), all of it from its files; `options` go to `from_pretrained`.

    Code that lies beside the weights runs only with `trust_remote_code`, and nobody is asked. `pickled`: read `.bin`
    files, of tensors alone. With `device_map="meta"`
    names and shapes are checked and no weight is read. Raises InputError for weights that are cut short, that lack a
    tensor of the model, that hold one more than the model has, or one of another shape; for pickles, for adapters; and
    for a configuration that cannot be read or is not known.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    import steel_train.models.steel  # noqa: F401 - makes the Steel-LLM architecture known to transformers

    config = check_folder(Path(folder)) if Path(folder).is_dir() else {}
    if config and not pickled:
        _check_files(Path(folder))
    hint = _code_hint(config, trust_remote_code)
    try:
        with _quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), output_loading_info=True, ignore_mismatched_sizes=True, use_safetensors=not pickled,
                trust_remote_code=trust_remote_code, **options,
            )  # fmt: skip
    except (SafetensorError, EOFError, RuntimeError) as error:
        raise InputError(f"{folder}: its weights cannot be read: {first_line(error)}. Fix: copy it again.") from error
    except Exception as error:  # whatever a configuration brings the library to
        raise InputError(f"{folder}: cannot be loaded: {why(error)}.{hint}") from error
    model, told = loaded
    missing = set(told["missing_keys"])
    # of tensors that share their place a file need hold only one
    missing = {name for name in missing if _sharing(model, name) <= missing}
    extra = [name for name in told["unexpected_keys"] if not name.endswith(_COMPUTED)]
    unlike = [entry[0] if isinstance(entry, tuple | list) else entry for entry in told["mismatched_keys"]]
    faults = {"no": missing, "no place for": extra, "another shape of": unlike, "": told.get("error_msgs") or ()}
    _refuse(folder, "its weights do", faults, hint)
    return model


def why(error: BaseException) -> str:
    """Return what a library says of a folder, on one line: of several, the first may only announce the second."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return excerpt(" ".join(lines[:2]), 160) if lines and lines[0].endswith(":") else first_line(error)


def check_folder(folder: Path) -> dict[str, Any]:
    """Return the configuration of a full model's folder. Raises InputError for an adapter, or without a config.json."""
    if (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder}: is an adapter, not a model. Fix: steel merge {folder}, then its output.")
    return read_config(folder / "config.json")


def _check_files(folder: Path) -> None:
    """Raise InputError where weights are not there, or a pickle: that is read once and on purpose (`convert`)."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        raise InputError(
            f"{folder}: its weights are a pickle ({pickles[0]}), which may run code when it is read. "
            f"Fix: steel convert {folder}, then the folder of safetensors that it writes."
        )
    raise InputError(f"{folder}: no weights (*.safetensors). Fix: the folder of a saved model.")


def read_config(file: Path) -> dict[str, Any]:
    """Return a JSON table (config.json, adapter_config.json). Raises InputError for anything else, in one line."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file.parent}: no {file.name}. Fix: the folder of a saved model.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as JSON: {first_line(error)}. Fix: copy it again.") from None
    if not isinstance(found, dict):
        raise InputError(f"{file}: holds a {type(found).__name__}, not a table. Fix: copy it again.")
    return found


def base_of(adapter: Path) -> str:
    """Return the folder of an adapter's base, else the hub id that it names.

    Looked for as adapter_config.json has it, then from the adapter's folder and from the one above. Raises InputError
    where it is neither.
    """
    name = str(read_config(adapter / "adapter_config.json").get("base_model_name_or_path") or "")
    for place in (Path(name), adapter / name, adapter.parent / name):
        if name and (place / "config.json").is_file():
            return str(place)
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return name
    raise InputError(
        f"{adapter}: its base model '{name}' is not there. Fix: base_model_name_or_path in adapter_config.json "
        "(for `score`, or --base)."
    )


def load_adapter(model: Any, folder: Path, **options: Any) -> Any:
    """Return `model` with the adapter of a folder in place, every key of it.

    An adapter that was trained with a larger vocabulary brings its embeddings along, or the rows of new tokens alone:
    the model gets as many rows first.
    Raises InputError where a tensor of the adapter has no place, or a place of it no tensor.
    """
    from peft import PeftModel

    said, known = read_config(folder / "adapter_config.json"), model.get_input_embeddings().weight.shape[0]
    held = adapter_shapes(folder)
    rows = {shape[0] for name, shape in held.items() if name.endswith(("embed_tokens.weight", "lm_head.weight"))}
    rows = rows or {max(known, 0, *(i + 1 for i in _token_rows(said)))}
    if len(rows) == 1 and rows != {known}:
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)
    try:
        with _quiet():
            fitted = PeftModel.from_pretrained(model, str(folder), **options)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise InputError(
            f"{folder}: the adapter does not fit its base: {first_line(error)}. "
            "Fix: --base, the model that it was trained on."
        ) from error
    check_adapter(fitted, folder)
    return fitted


def _token_rows(adapter_config: dict[str, Any]) -> list[int]:
    """Return the ids of the tokens whose own rows an adapter holds."""
    said = adapter_config.get("trainable_token_indices") or []
    return sorted(set(chain.from_iterable(said.values()))) if isinstance(said, dict) else list(said)


def check_adapter(fitted: Any, folder: Path) -> None:
    """Raise InputError where the adapter in a folder has not exactly the tensors of that in the model `fitted`."""
    from peft import get_peft_model_state_dict

    held = adapter_shapes(folder)
    wanted = get_peft_model_state_dict(fitted, save_embedding_layers=False)
    saved = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    # peft saves embeddings of a grown vocabulary as well, under more than one name
    again = {
        name for name in held if name not in saved and re.search(r"(?:embed_tokens|lm_head)[.\w]*[.]weight$", name)
    }
    unlike = [name for name, shape in held.items() if name in saved and saved[name] != shape]
    missing, extra = saved.keys() - held.keys(), held.keys() - saved.keys() - again
    _refuse(folder, "the adapter does", {"no": missing, "no place for": extra, "another shape of": unlike})


def take_ends(model: Any, folder: Path) -> None:
    """Let a model stop where the generation_config.json of its adapter's folder says, if there is one."""
    from transformers import GenerationConfig

    if not (folder / "generation_config.json").is_file():
        return
    said: Any = GenerationConfig.from_pretrained(folder)
    model.generation_config.eos_token_id = said.eos_token_id
    model.generation_config.pad_token_id = model.config.pad_token_id = said.pad_token_id
    model.config.eos_token_id = said.eos_token_id


def adapter_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the tensors that an adapter's file holds. Raises InputError where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    file = folder / "adapter_model.safetensors"
    if not file.is_file() and (folder / "adapter_model.bin").is_file():
        raise InputError(
            f"{folder}: the adapter is a pickle (adapter_model.bin), which may run code when it is read. "
            f"Fix: steel convert {folder}, then the folder of safetensors that it writes."
        )
    try:
        with safe_open(file, "pt") as stored:
            return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{folder}: no adapter_model.safetensors. Fix: the folder that peft saved.") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder}: the adapter cannot be read: {first_line(error)}. Fix: copy it again.") from error


def _code_hint(config: dict[str, Any], trusted: bool) -> str:
    """Return what helps with a model that brings code of its own, where it was not run."""
    if "FFN_type" in config and config.get("model_type") != "steel":
        return " It is a Steel-LLM in its published form: steel convert makes it loadable."
    if config.get("auto_map") and not trusted:
        return " It brings code of its own: --trust-remote-code runs it; read it first."
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' report of what did not fit, and its bars, off the screen: our error says it in one line."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _sharing(model: Any, name: str) -> set[str]:
    """Return the names of the tensors that lie where the tensor `name` lies, itself among them."""
    held = model.state_dict(keep_vars=True)
    place = held[name].data_ptr() if name in held else None
    return {name} | {other for other, tensor in held.items() if place and tensor.data_ptr() == place}


def _refuse(folder: Path | str, what: str, faults: dict[str, Iterable[str]], hint: str = "") -> None:
    """Raise InputError where anything is missing, has no place, or is of another shape."""
    said = []
    for words, found in faults.items():
        names = sorted(name for fault in found if (name := str(fault).strip().split("\n")[0][:160]))
        if names:
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            said.append(f"{words} {', '.join(names[:3])}{more}".strip())
    if said:
        right = hint or " Fix: the files as they were saved, all of them."
        raise InputError(f"{folder}: {what} not fit the model: {'; '.join(said)}.{right}")
