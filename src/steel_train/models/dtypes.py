"""In which type weights are held, computed with and saved (apart: loading, saving and the estimate must agree).

All weights learn in float32, unless the recipe says otherwise; a base that is frozen under an adapter learns nothing,
so it stays as it was published. What is saved is what the base was: nobody wants a model of twice the size back.
"""

from pathlib import Path
from typing import Any

import torch

from steel_train.settings import Settings


def uses_bf16(settings: Settings) -> bool:
    """Return whether the forward pass computes in bfloat16."""
    if settings.dtype == "bfloat16":
        return True
    if settings.precision != "auto":
        return settings.precision == "bf16"
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def own_dtype(config: Any, folder: Path | None = None) -> torch.dtype:
    """Return the type a model was published in: what its configuration says, else the first weight in `folder`."""
    said = getattr(config, "dtype", None)
    if isinstance(said, str):
        said = getattr(torch, said.removeprefix("torch."), None)
    if said is None and folder is not None:
        said = _of_first_weight(folder)
    return said if said in (torch.bfloat16, torch.float16) else torch.float32


def _of_first_weight(folder: Path) -> torch.dtype | None:
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                return {"BF16": torch.bfloat16, "F16": torch.float16}.get(stored.get_slice(name).get_dtype())
    return None


def held_dtype(settings: Settings, own: torch.dtype, bf16: bool) -> torch.dtype:
    """Return the type in which a run holds the weights of its base. `bf16`: whether it computes in bfloat16."""
    if settings.dtype != "auto":
        chosen: torch.dtype = getattr(torch, settings.dtype)
        return chosen
    return own if settings.uses_lora and bf16 else torch.float32


def saved_dtype(chosen: str, own: torch.dtype) -> torch.dtype:
    """Return the type in which a run's checkpoints and merges hold all weights. `chosen`: its recipe's `dtype`."""
    named: torch.dtype = own if chosen == "auto" else getattr(torch, chosen)
    return named
