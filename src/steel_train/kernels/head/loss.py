"""Head and loss in one op: per-token log-probabilities of `hidden @ weight.T` without the [N, V] logits.

Shapes: N tokens, M of them with a label (the rest is never multiplied), V vocabulary, H hidden, C rows of a chunk,
S columns of a vocabulary slice, K choice letters.

    z = x W^T        log p = z[label] - logsumexp(z)        d log p / dz = 1[label] - p
    entropy = logsumexp(z) - sum p z

Two ways to the gradients (plan.py chooses, both give the same function):
* in the forward pass, while a chunk's logits are at hand: three GEMMs. dX is right for any upstream gradient (each
  row is scaled by its own); dW only for one that is the same for all rows, as in SFT. An upstream gradient that differs
  by row recomputes dW.
* in the backward pass from recomputed logits: four GEMMs, for DPO, and where the float32 dW would not fit the budget.

Logits are float32 (never rounded to bf16), dW and dX accumulate in float32, the per-logit gradient is rounded once to
the GEMM's dtype. Inputs are never written. A second backward recomputes, since the first gave its buffers away.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from steel_data.errors import InputError
from steel_train.kernels.backend import VERIFIED_ROWS, Calls, use_triton, verify_first, why_not_triton
from steel_train.kernels.head.gradients import (
    HeadJob,
    gradients_with_statistics,
    multiply,
    recomputed,
    scaled,
    statistics,
)
from steel_train.kernels.head.plan import BUDGET_BYTES, COLUMNS, HeadShape, plan_head
from steel_train.kernels.head.tiles import BEST, MAX, SUM, SUM_LOGITS, SUM_SHIFTED, SUM_SQUARES, TARGET

IGNORE = -100
OP = "head_loss"
# two vocabulary slices, the second one ragged: the definition makes all logits and float32 copies of the weight, which
# for a whole vocabulary would be gigabytes
VERIFIED_COLUMNS = COLUMNS + 1000


class TokenStatistics(NamedTuple):
    """Per-token results, each [N] and zero where the label is ignored. Only `log_probs` carries a gradient.

    Units: nats. `is_top1`: the label is the first largest logit. `mean_logits`: over the vocabulary.
    `log_sum_sq_probs`: log sum p^2. `choice_logits`: [N, K] logits of `HeadSettings.choices`, or None.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor
    is_top1: torch.Tensor
    mean_logits: torch.Tensor
    log_sum_sq_probs: torch.Tensor
    choice_logits: torch.Tensor | None


@dataclass(frozen=True)
class HeadSettings:
    """How to run the op. `in_forward`: gradients in the forward pass where memory allows (SFT); False for DPO.

    `choices`: token ids whose logits are wanted, for example those of A, B, C, D.
    """

    in_forward: bool = True
    budget_bytes: int = BUDGET_BYTES
    choices: tuple[int, ...] = ()
    calls: Calls = field(default_factory=Calls)


def reference(hidden_NH: torch.Tensor, weight_VH: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """The definition: [N] log-probabilities of the labels, zero where the label is -100. Makes all logits."""
    logits_NV = hidden_NH @ weight_VH.T
    log_p_NV = logits_NV.log_softmax(-1)
    kept_N = labels_N != IGNORE
    return log_p_NV.gather(1, labels_N.clamp(min=0)[:, None])[:, 0] * kept_N


def token_log_probs(
    hidden_NH: torch.Tensor, weight_VH: torch.Tensor, labels_N: torch.Tensor, settings: HeadSettings | None = None
) -> TokenStatistics:
    """Return the log-probability of each label under softmax(hidden @ weight.T), with statistics.

    `hidden_NH` and `weight_VH` are float32, bfloat16 (or float64 on CPU); under autocast the GEMMs run in its dtype.
    `labels_N`: int64, -100 where there is nothing to predict. Raises InputError for a label outside the vocabulary and
    ValueError for shapes that do not fit.
    """
    settings = settings or HeadSettings()
    if hidden_NH.dim() != 2 or labels_N.shape != hidden_NH.shape[:1] or weight_VH.shape[1:] != hidden_NH.shape[1:]:
        shapes = [tuple(x.shape) for x in (hidden_NH, weight_VH, labels_N)]
        raise ValueError(f"head_loss: shapes {shapes} do not fit. Fix: hidden [N, H], weight [V, H], labels [N].")
    device = hidden_NH.device.type
    compute = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NH.dtype
    with torch.autocast(device, enabled=False):
        job = _job(hidden_NH, weight_VH, labels_N, settings, compute)
        return TokenStatistics(*_HeadLoss.apply(hidden_NH, weight_VH, job, settings.choices))


def _job(
    hidden_NH: torch.Tensor,
    weight_VH: torch.Tensor,
    labels_N: torch.Tensor,
    settings: HeadSettings,
    compute: torch.dtype,
) -> HeadJob:
    """Find the labelled rows (the one host sync of the forward pass), check the labels, make the plan."""
    rows_M = (labels_N != IGNORE).nonzero()[:, 0]
    labels_M = labels_N.index_select(0, rows_M)
    vocabulary, hidden = weight_VH.shape
    if rows_M.numel() and not bool(((labels_M >= 0) & (labels_M < vocabulary)).all()):
        right = f"0..{vocabulary - 1}, or {IGNORE}"
        raise InputError(f"head_loss: a label is outside the vocabulary of {vocabulary}. Fix: {right}.")
    some_H = hidden_NH[:1].to(compute)
    triton = use_triton(settings.calls, OP, why_not_triton((hidden_NH, weight_VH, some_H)))
    if triton:
        _verify(
            hidden_NH.index_select(0, rows_M[:VERIFIED_ROWS]), weight_VH, labels_M[:VERIFIED_ROWS], settings, compute
        )
    grad = torch.is_grad_enabled()
    needs = (grad and hidden_NH.requires_grad, grad and weight_VH.requires_grad)
    shape = HeadShape(
        rows_M.numel(), vocabulary, hidden, weight_VH.dtype, compute, needs[1], hidden_NH.device.type,
        temporaries=0 if triton else 2,
    )  # fmt: skip
    plan = plan_head(shape, settings.in_forward and any(needs), settings.budget_bytes)
    return HeadJob(rows_M, labels_M, labels_N.numel(), shape, plan, triton, needs, settings.budget_bytes)


def _verify(
    x_MH: torch.Tensor, weight_VH: torch.Tensor, labels_M: torch.Tensor, settings: HeadSettings, compute: torch.dtype
) -> None:
    """Compare a few rows and columns with the definition, in both ways to the gradients, on the first Triton call."""
    if not settings.calls.verify or not labels_M.numel():
        return
    weight_VH = weight_VH[:VERIFIED_COLUMNS]
    labels_M = labels_M % len(weight_VH)
    for name, in_forward in ((f"{OP} (forward)", True), (f"{OP} (recomputed)", False)):
        alone = HeadSettings(in_forward, calls=Calls("triton", verify=False))

        def fast(x: torch.Tensor, w: torch.Tensor, alone: HeadSettings = alone) -> torch.Tensor:
            return token_log_probs(x, w, labels_M, alone).log_probs

        def slow(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return reference(x, w, labels_M)

        verify_first(settings.calls, name, fast, slow, (x_MH.to(compute), weight_VH.to(compute)))


class _HeadLoss(torch.autograd.Function):
    """Autograd around the chunk loop of gradients.py."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: torch.Tensor, weight_VH: torch.Tensor, job: HeadJob, choices: tuple[int, ...]
    ) -> tuple[Any, ...]:
        ctx.set_materialize_grads(False)
        x_MH = job.compact(hidden_NH.detach())
        if job.plan.in_forward:
            stats_7M = gradients_with_statistics(x_MH, weight_VH, job)
        else:
            stats_7M = statistics(x_MH, weight_VH, job)
        log_z_2M = torch.stack((stats_7M[MAX], stats_7M[SUM].log()))
        ctx.save_for_backward(x_MH, weight_VH, log_z_2M)
        ctx.job, ctx.hidden_dtype = job, hidden_NH.dtype
        outputs = _outputs(stats_7M, log_z_2M, job)
        chosen = _choices(x_MH, weight_VH, job, choices) if choices else None
        ctx.mark_non_differentiable(*outputs[1:], *(() if chosen is None else (chosen,)))
        return (*outputs, chosen)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        job: HeadJob = ctx.job
        x_MH, weight_VH, log_z_2M = ctx.saved_tensors
        if upstream[0] is None:
            return None, None, None, None
        with torch.autocast(x_MH.device.type, enabled=False):
            # a sum hands over one number seen from every row; a kernel reads as many as there are rows
            scale_M = job.compact(upstream[0]).to(log_z_2M.dtype).contiguous()
            ready, job.gradients = job.gradients, None  # given away once: a second backward recomputes
            dx_MH, dw_VH = scaled(ready, scale_M, job) if ready else (None, None)
            missing = (job.needs[0] and dx_MH is None, job.needs[1] and dw_VH is None)
            if any(missing):
                again = recomputed(x_MH, weight_VH, log_z_2M, scale_M, job, missing)
                dx_MH, dw_VH = dx_MH if again[0] is None else again[0], dw_VH if again[1] is None else again[1]
            dx_NH = None if dx_MH is None else job.spread(dx_MH.to(ctx.hidden_dtype))
            return dx_NH, None if dw_VH is None else dw_VH.to(weight_VH.dtype), None, None


def _outputs(stats_7M: torch.Tensor, log_z_2M: torch.Tensor, job: HeadJob) -> tuple[torch.Tensor, ...]:
    """Return log_probs, entropy, is_top1, mean_logits, log_sum_sq_probs over all tokens."""
    log_sum_M = log_z_2M[1]
    return tuple(
        job.spread(x_M)
        for x_M in (
            (stats_7M[TARGET] - stats_7M[MAX]) - log_sum_M,
            log_sum_M - stats_7M[SUM_SHIFTED] / stats_7M[SUM],
            stats_7M[BEST] == job.labels,
            stats_7M[SUM_LOGITS] / job.shape.vocabulary,
            stats_7M[SUM_SQUARES].log() - 2 * log_sum_M,
        )
    )


def _choices(x_MH: torch.Tensor, weight_VH: torch.Tensor, job: HeadJob, choices: tuple[int, ...]) -> torch.Tensor:
    chosen_KH = weight_VH.detach()[torch.tensor(choices, device=weight_VH.device)]
    out_MK = job.empty(job.shape.rows, len(choices), job.shape.accumulate_dtype)
    multiply(x_MH.to(job.shape.compute_dtype), chosen_KH.to(job.shape.compute_dtype).T, out_MK)
    return job.spread(out_MK)
