"""Which kernels a run uses. The kernels themselves are a part of their own (docs/kernels.md) and are found lazily."""

from pathlib import Path
from typing import Any

from steel_data.errors import InputError


def install(model: Any, kernels: str, recipe: Path, in_forward: bool) -> list[str]:
    """Give the model its fused operations and return their names; [] means TRL's own head and plain layers.

    `in_forward`: gradients of the head in the forward pass (for SFT, not for DPO). Raises InputError where "triton"
    cannot be had.
    """
    try:
        from steel_train.patch import patch
    except ModuleNotFoundError as error:
        if error.name != "steel_train.patch":
            raise
        if kernels == "triton":
            raise InputError(f'{recipe} [train]: kernels = "triton" is not there. Right: kernels = "torch".') from None
        return []
    names: list[str] = patch(model, kernels, in_forward)
    return names


def head_scratch(config: Any, learnt: int, compute_bytes: int) -> int | None:
    """Return the bytes of logits the fused head holds at once for `learnt` rows, or None where TRL's head would run."""
    try:
        import torch

        from steel_train.kernels.head_plan import HeadShape, plan_head
        from steel_train.patch import ARCHITECTURES
    except ModuleNotFoundError:
        return None
    if config.model_type not in ARCHITECTURES:
        return None
    compute = torch.float32 if compute_bytes == 4 else torch.bfloat16
    shape = HeadShape(learnt, config.vocab_size, config.hidden_size, torch.float32, compute, True, "cpu", temporaries=2)
    plan = plan_head(shape)
    wide = shape.vocabulary if plan.in_forward else plan.columns
    return int(plan.rows * (4 * wide + (compute_bytes + 8) * plan.columns))
