"""Which kernels a run uses. The kernels themselves are a part of their own (docs/kernels.md) and are found lazily."""

from pathlib import Path
from typing import Any

import torch

from steel_data.errors import InputError


def install(model: Any, kernels: str, recipe: Path) -> list[str]:
    """Give the model its fused operations and return their names; [] means TRL's own head and plain layers.

    "auto" is Triton on a CUDA device and plain torch elsewhere. Raises InputError where "triton" cannot be had.
    """
    try:
        from steel_train.patch import patch
    except ModuleNotFoundError as error:
        if error.name != "steel_train.patch":
            raise
        if kernels == "triton":
            raise InputError(f'{recipe} [train]: kernels = "triton" is not there. Right: kernels = "torch".') from None
        return []
    chosen = kernels if kernels != "auto" else "triton" if torch.cuda.is_available() else "torch"
    names: list[str] = patch(model, chosen)
    return names
