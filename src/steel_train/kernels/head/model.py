"""The model-level contract of a fused head, as TRL 1.16 has it: `model(..., labels=labels, fused_lm_head=True)`.

TRL's trainers (SFT, DPO, KTO) make that one call and read per-token fields from its output, so one op serves them
all. Shapes: B sequences, T tokens, H hidden, N = B T.
"""

import functools
import inspect
import types
from typing import Any

import torch
from torch import nn

from steel_train.kernels.backend import Calls
from steel_train.kernels.head.loss import IGNORE, OP, HeadSettings, token_log_probs

# what `add_fused_lm_head` can be asked for and this op does not do: name in its closure -> the value we can serve
SERVED = {"temperature": 1.0, "cast_lm_head_to_fp32": False, "final_logit_softcapping": None, "logit_scale": 1.0}


def why_not(model: nn.Module) -> str | None:
    """Return why the head of `model` cannot be replaced, or None. Reads what a TRL head before ours was asked for."""
    asked = _closure(model.__dict__.get("forward"))
    for name, served in SERVED.items():
        if asked.get(name, served) != served:
            return f"{name} = {asked[name]}"
    config: Any = model.config
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return f"{name} = {getattr(config, name)}"
    return _why_not_now(model)


def _closure(forward: Any) -> dict[str, Any]:
    function = getattr(forward, "__func__", None)
    return dict(inspect.getclosurevars(function).nonlocals) if function is not None and function.__closure__ else {}


def _why_not_now(model: Any) -> str | None:
    """Return what may change after patching: PEFT and FSDP replace the head."""
    head = model.get_output_embeddings()
    # with rows of new tokens that learn under an adapter; PEFT gives them in place in `weight`
    bare = head.original_module if type(head).__name__ == "TrainableTokensWrapper" else head
    if type(bare) is not nn.Linear or bare.bias is not None:
        return f"head of type {type(bare).__name__}" + (" with bias" if getattr(bare, "bias", None) is not None else "")
    if type(head.weight) not in (nn.Parameter, torch.Tensor):
        return f"head weight of type {type(head.weight).__name__}"
    return None


def fused_forward(model: Any, settings: HeadSettings, previous: Any) -> types.MethodType:
    """Return a bound `forward` for `model`: with `fused_lm_head=True` the fused head, else the forward it had.

    `previous`: the instance's own forward that is replaced (TRL's), or None for the class's. It also serves the calls
    that this op cannot (counted in `settings.calls`).
    """
    calls = settings.calls

    # generation and trainers read argument names off the signature
    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        before = previous if previous is not None else types.MethodType(type(self).forward, self)
        if not fused_lm_head:
            return before(*args, **kwargs)
        reason = _why_not_now(self)
        if reason is not None and previous is not None:
            calls.leave(OP, reason)
            return previous(*args, fused_lm_head=True, **kwargs)
        if reason is not None:
            raise ValueError(f"fused head: {reason}. Fix: a plain linear head, or unpatch(model).")
        return _fused(self, settings, *args, **kwargs)

    return types.MethodType(forward, model)


def counted_forward(model: Any, calls: Calls, previous: Any, reason: str) -> types.MethodType:
    """Return a bound `forward` that leaves the fused head to `previous` (TRL's) and counts its calls with `reason`."""

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if fused_lm_head:
            calls.leave(OP, reason)
        return previous(*args, fused_lm_head=fused_lm_head, **kwargs)

    return types.MethodType(forward, model)


def _fused(
    model: Any,
    settings: HeadSettings,
    *args: Any,
    labels: torch.Tensor | None = None,
    shift_labels: torch.Tensor | None = None,
    num_items_in_batch: Any = None,
    **kwargs: Any,
) -> Any:
    from trl.trainer.utils import FusedCausalLMOutput

    if (labels is None) == (shift_labels is None):
        raise ValueError("fused head: pass exactly one of labels and shift_labels.")
    hidden_BTH = model.base_model(*args, **(kwargs | {"use_cache": False})).last_hidden_state
    if shift_labels is None and labels is not None:
        # the labels move, not the hidden states: a sliced [B, T - 1, H] would have to be copied
        shifted_BT, width = nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE), labels.shape[1] - 1
    elif shift_labels is not None:
        shifted_BT, width = shift_labels, shift_labels.shape[1]
    weight_VH = model.get_output_embeddings().weight
    flat_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1])
    # a model split over devices may end on another one than its head
    flat_NH, labels_N = flat_NH.to(weight_VH.device), shifted_BT.reshape(-1).to(weight_VH.device)
    statistics = token_log_probs(flat_NH, weight_VH, labels_N, settings)
    mask_BT = (labels_N != IGNORE).view(shifted_BT.shape)[:, :width]
    log_probs, entropy, is_top1, mean_logits, log_sum_sq = (
        x.view(shifted_BT.shape)[:, :width] for x in statistics[:5] if x is not None
    )
    items = mask_BT.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return FusedCausalLMOutput(
        loss=-log_probs.sum() / items,
        log_probs=log_probs,
        entropy=entropy,
        log_sum_sq_probs=log_sum_sq,
        mean_logits=mean_logits,
        is_top1=is_top1,
        label_mask=mask_BT,
    )
