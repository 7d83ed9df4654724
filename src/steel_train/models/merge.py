"""`merge`: a LoRA checkpoint and its base -> one full model that loads without PEFT."""

import json
import shutil
from pathlib import Path

from steel_data.errors import InputError, first_line
from steel_data.files import atomic_write


def merge_adapter(checkpoint: Path, out: Path | None = None) -> Path:
    """Write the merged model (float32, with its tokenizer) to `out`, by default `<checkpoint>-merged`; return it."""
    if not (checkpoint / "adapter_config.json").is_file():
        raise InputError(f'{checkpoint}: no adapter_config.json. Right: a checkpoint of a run with method = "lora".')
    target = out or checkpoint.with_name(f"{checkpoint.name}-merged")
    if target.exists():
        raise InputError(f"{target}: is there already. Right: another --out.")
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    try:
        model = AutoPeftModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint}: cannot be loaded with its base: {first_line(error)}.") from None
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        model.merge_and_unload().save_pretrained(temporary)
        AutoTokenizer.from_pretrained(checkpoint).save_pretrained(temporary)
        said = json.loads((checkpoint / "steel.json").read_text(encoding="utf-8"))
        said["merged_from"] = checkpoint.name
        for key in ("files", "weights_sha256", "window"):  # of the adapter, not of this model
            said.pop(key, None)
        atomic_write(temporary / "steel.json", (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode())
        temporary.replace(target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(f"{target}: cannot be written: {error.strerror or error}. Right: a disk with room.") from None
    return target
