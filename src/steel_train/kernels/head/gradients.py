"""The chunk loop of the head op: statistics and gradients, the same code on CPU and GPU; the job holds the tiles.

Shapes: M rows that bear a label, V vocabulary, H hidden, C rows of a chunk, S columns of a vocabulary slice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from steel_train.kernels.head import tiles
from steel_train.kernels.head.plan import HeadPlan, HeadShape, plan_head
from steel_train.kernels.head.tiles import MAX, SUM


@dataclass
class HeadJob:
    """One call: which rows bear a label, how it runs, and what its first backward may give away.

    `rows` [M]: indices of the labelled tokens among `tokens`; `labels` [M]; `triton`: which tiles; `needs`: whether
    (hidden, weight) need gradients; `gradients`: [dX, dW] for an upstream gradient of one, until given away.
    """

    rows: torch.Tensor
    labels: torch.Tensor
    tokens: int
    shape: HeadShape
    plan: HeadPlan
    triton: bool
    needs: tuple[bool, bool]
    budget_bytes: int
    gradients: list[torch.Tensor | None] | None = None

    def chunks(self) -> Iterator[slice]:
        """Yield the row ranges of the chunks."""
        for begin in range(0, self.shape.rows, self.plan.rows):
            yield slice(begin, min(begin + self.plan.rows, self.shape.rows))

    def slices(self) -> Iterator[slice]:
        """Yield the column ranges of the vocabulary slices."""
        for begin in range(0, self.shape.vocabulary, self.plan.columns):
            yield slice(begin, min(begin + self.plan.columns, self.shape.vocabulary))

    def compact(self, x_NH: torch.Tensor) -> torch.Tensor:
        """Return the labelled rows of `x_NH`: itself where all are."""
        return x_NH if self.shape.rows == self.tokens else x_NH.index_select(0, self.rows)

    def spread(self, x_M: torch.Tensor) -> torch.Tensor:
        """Return `x_M` at its rows of all tokens, zero elsewhere."""
        if self.shape.rows == self.tokens:
            return x_M
        return x_M.new_zeros(self.tokens, *x_M.shape[1:]).index_copy_(0, self.rows, x_M)

    def empty(self, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
        """Return an uninitialised buffer on the device of the job."""
        return torch.empty(rows, columns, device=self.labels.device, dtype=dtype)

    def fold(self, *tile: Any) -> None:
        """Fold one tile of logits into the running statistics."""
        (tiles.fold_triton if self.triton else tiles.fold_torch)(*tile)

    def logit_gradients(self, *tile: Any) -> None:
        """Turn one tile of logits into its gradient."""
        (tiles.gradients_triton if self.triton else tiles.gradients_torch)(*tile)


def statistics(x_MH: torch.Tensor, weight_VH: torch.Tensor, job: HeadJob) -> torch.Tensor:
    """Return the [7, M] statistics; one [C, S] block of logits at a time, or none where the plan says `project`.

    The slice is the outer loop, so that a float32 weight is cast once.
    """
    shape, plan = job.shape, job.plan
    x_MH = x_MH.to(shape.compute_dtype)
    if plan.project and shape.rows:
        return tiles.project_fold_triton(x_MH, weight_VH, job.labels)
    logits = job.empty(plan.rows, plan.columns, shape.accumulate_dtype)
    stats_7M = tiles.empty_statistics(shape.rows, logits)
    for s in job.slices():
        w_SH = weight_VH[s].to(shape.compute_dtype)
        for c in job.chunks():
            block_CS = logits[: c.stop - c.start, : s.stop - s.start]
            multiply(x_MH[c], w_SH.T, block_CS)
            job.fold(block_CS, job.labels[c], s.start, stats_7M[:, c])
    return stats_7M


def gradients_with_statistics(x_MH: torch.Tensor, weight_VH: torch.Tensor, job: HeadJob) -> torch.Tensor:
    """Return the [7, M] statistics and leave d(sum of log p)/dX, dW in `job.gradients`."""
    shape, plan = job.shape, job.plan
    compute, accumulate = shape.compute_dtype, shape.accumulate_dtype
    weight_VH = weight_VH.to(compute) if plan.cast_once else weight_VH
    logits = job.empty(plan.rows, shape.vocabulary, accumulate)
    block = job.empty(plan.rows, plan.columns, compute)
    stats_7M = tiles.empty_statistics(shape.rows, logits)
    dx_MH = torch.empty_like(x_MH) if job.needs[0] else None
    dw_VH = torch.zeros_like(weight_VH, dtype=accumulate) if job.needs[1] else None
    for c in job.chunks():
        x_CH, n = x_MH[c].to(compute), c.stop - c.start
        for s in job.slices():
            multiply(x_CH, weight_VH[s].to(compute).T, logits[:n, s])
            job.fold(logits[:n, s], job.labels[c], s.start, stats_7M[:, c])
        log_z_2C = torch.stack((stats_7M[MAX, c], stats_7M[SUM, c].log()))
        dx_CH = x_CH.new_zeros(x_CH.shape, dtype=accumulate)
        for s in job.slices():
            d_CS = block[:n, : s.stop - s.start]
            job.logit_gradients(logits[:n, s], job.labels[c], s.start, log_z_2C, None, d_CS)
            if dx_MH is not None:
                _add_product(d_CS, weight_VH[s].to(compute), dx_CH)
            if dw_VH is not None:
                _add_product(d_CS.T, x_CH, dw_VH[s])
        if dx_MH is not None:
            dx_MH[c] = dx_CH
    job.gradients = [dx_MH, dw_VH]
    return stats_7M


def scaled(ready: list[torch.Tensor | None], scale_M: torch.Tensor, job: HeadJob) -> tuple[torch.Tensor | None, ...]:
    """Scale the buffers of the forward pass by the upstream gradient; dW is None where no one scale fits all rows."""
    dx_MH, dw_VH = ready
    if dx_MH is not None:
        dx_MH.mul_(scale_M[:, None])
    if dw_VH is not None and job.shape.rows:
        low, high = torch.stack(scale_M.aminmax()).tolist()  # the one host sync of the backward pass
        if low != high:
            return dx_MH, None
        if low != 1.0:
            dw_VH.mul_(low)
    return dx_MH, dw_VH


def recomputed(
    x_MH: torch.Tensor,
    weight_VH: torch.Tensor,
    log_z_2M: torch.Tensor,
    scale_M: torch.Tensor,
    job: HeadJob,
    wanted: tuple[bool, bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return dX [M, H] and dW [V, H] (None: not wanted) from recomputed logits, one vocabulary slice after another.

    The slice is the outer loop, so the float32 sum of dW over all rows is one slice large, whatever the weight's dtype.
    """
    shape, plan = job.shape, plan_head(job.shape, False, job.budget_bytes)
    compute, accumulate = shape.compute_dtype, shape.accumulate_dtype
    logits = job.empty(plan.rows, plan.columns, accumulate)
    block = job.empty(plan.rows, plan.columns, compute)
    dx_MH = torch.zeros_like(x_MH, dtype=accumulate) if wanted[0] else None
    dw_VH = torch.empty_like(weight_VH) if wanted[1] else None
    for begin in range(0, shape.vocabulary, plan.columns):
        w_SH = weight_VH[begin : begin + plan.columns].to(compute)
        dw_SH = torch.zeros_like(w_SH, dtype=accumulate) if wanted[1] else None
        for first in range(0, shape.rows, plan.rows):
            c = slice(first, min(first + plan.rows, shape.rows))
            x_CH = x_MH[c].to(compute)
            z_CS, d_CS = logits[: len(x_CH), : len(w_SH)], block[: len(x_CH), : len(w_SH)]
            multiply(x_CH, w_SH.T, z_CS)
            job.logit_gradients(z_CS, job.labels[c], begin, log_z_2M[:, c], scale_M[c], d_CS)
            if dx_MH is not None:
                _add_product(d_CS, w_SH, dx_MH[c])
            if dw_SH is not None:
                _add_product(d_CS.T, x_CH, dw_SH)
        if dw_VH is not None and dw_SH is not None:
            dw_VH[begin : begin + plan.columns] = dw_SH
    return dx_MH, dw_VH


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """`out = a @ b` in the dtype of `out`: the GEMM's own float32 result is never rounded to bf16 on the way."""
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    elif a.is_cuda:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    else:  # the CPU has no GEMM with a wider result
        torch.mm(a.to(out.dtype), b.to(out.dtype), out=out)


def _add_product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """`out += a @ b` in the dtype of `out`."""
    if a.dtype == out.dtype:
        out.addmm_(a, b)
    elif a.is_cuda:
        torch.addmm(out, a, b, out_dtype=out.dtype, out=out)
    else:
        out.addmm_(a.to(out.dtype), b.to(out.dtype))
