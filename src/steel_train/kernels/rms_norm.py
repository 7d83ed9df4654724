# mypy: disable-error-code="no-untyped-def"
"""RMSNorm, with the addition of the residual before it.

Shapes: N tokens, H hidden, G programs (each sums the weight's gradient over its own rows).

    r = residual + x        s = 1 / sqrt(mean(r^2) + eps)        y = w * r * s
    g = dy * w              dr = s * (g - r * s^2 * mean(g * r)) + dr_upstream        dw = sum_N dy * r * s

Saved for the backward pass: r (also the next residual) and s. All arithmetic is float32; y is rounded once, where the
definition in transformers rounds r * s to bf16 before it multiplies by w. dx and dresidual are the same tensor where x
and residual have one dtype. Under autocast over float32 weights they do not: x comes from a bf16 GEMM, the residual
stream is float32; then r and y are float32 like the stream, and dx is dr rounded once to bf16.

Floor, bytes an element of [N, H] at b bytes: alone 2b forward (x; y), 3b backward (dy, x; dx);
with the residual 4b forward (x, residual; r, y), 4b backward (dy, dr, r; dr); with bf16 x and a float32 residual
2 + 12 forward and 12 + 2 + 4 backward (dy, dr, r; dx, dresidual).
"""

from __future__ import annotations

from typing import Any

import torch

from steel_train.kernels.backend import (
    VERIFIED_ROWS,
    Calls,
    jit,
    tl,
    triton,
    use_triton,
    verify_first,
    why_not_triton,
)

OP = "rms_norm"
LARGEST_HIDDEN = 16_384  # one row is kept in registers
PROGRAMS = 528  # four for each of an H100's 132 multiprocessors; each keeps the weight in registers for its rows


def reference(
    x_NH: torch.Tensor, weight_H: torch.Tensor, eps: float, residual_NH: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition: (y, r), both [N, H], in the dtype of the inputs as they come."""
    r_NH = x_NH if residual_NH is None else x_NH + residual_NH
    return weight_H * r_NH * torch.rsqrt(r_NH.square().mean(-1, keepdim=True) + eps), r_NH


def rms_norm(
    x: torch.Tensor,
    weight_H: torch.Tensor,
    eps: float,
    residual: torch.Tensor | None = None,
    calls: Calls | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (y, r) for x [..., H]: r = x + residual (x itself without one), y its RMSNorm times the weight.

    Inputs float32, bfloat16 or float16; r has the wider dtype of x and residual. Other cases run in torch and are
    counted in `calls`.
    """
    calls = calls or Calls()
    if use_triton(calls, OP, _why_not(x, weight_H, residual)):
        rows = [t.reshape(-1, t.shape[-1]) for t in (x, residual) if t is not None]
        verify_first(
            calls,
            OP if residual is None else "add_rms_norm",
            lambda x, w, *r: _RMSNorm.apply(x, w, eps, *r) if r else _RMSNorm.apply(x, w, eps, None)[0],
            lambda x, w, *r: reference(x, w, eps, *r) if r else reference(x, w, eps)[0],
            (rows[0][:VERIFIED_ROWS], weight_H, *(r[:VERIFIED_ROWS] for r in rows[1:])),
        )
        y_NH, r_NH = _RMSNorm.apply(rows[0], weight_H, eps, rows[1] if len(rows) == 2 else None)
        return y_NH.view(x.shape), x if residual is None else r_NH.view(x.shape)
    r = x if residual is None else residual + x
    wide = r.float()
    return weight_H * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(r.dtype), r


def _why_not(x: torch.Tensor, weight_H: torch.Tensor, residual: torch.Tensor | None) -> str | None:
    tensors = (x, weight_H) if residual is None else (x, weight_H, residual)
    if x.shape[-1] > LARGEST_HIDDEN:
        return f"hidden size above {LARGEST_HIDDEN}"
    if not x.numel():
        return "no tokens"
    if residual is not None and residual.shape != x.shape:
        return "residual of another shape"
    return why_not_triton(tensors)


@jit("n_rows", "rows_per_program")
def forward_kernel(
    x_ptr, x_stride, res_ptr, res_stride, w_ptr, y_ptr, r_ptr, s_ptr, eps, n_rows, rows_per_program, n_hidden,
    HAS_RESIDUAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a range of rows."""
    h = tl.arange(0, BLOCK)
    inside = h < n_hidden
    w = tl.load(w_ptr + h, mask=inside, other=0.0).to(tl.float32)
    first = tl.program_id(0).to(tl.int64) * rows_per_program
    for step in range(0, tl.minimum(rows_per_program, n_rows - first)):
        row = first + step
        r = tl.load(x_ptr + row * x_stride + h, mask=inside, other=0.0).to(tl.float32)
        if HAS_RESIDUAL:
            r += tl.load(res_ptr + row * res_stride + h, mask=inside, other=0.0).to(tl.float32)
            # what the next layer sees is the rounded sum, so normalise that one
            r = r.to(r_ptr.dtype.element_ty)
            tl.store(r_ptr + row * n_hidden + h, r, mask=inside)
            r = r.to(tl.float32)
        s = 1 / tl.sqrt(tl.sum(r * r, 0) / n_hidden + eps)
        tl.store(s_ptr + row, s)
        tl.store(y_ptr + row * n_hidden + h, (r * s * w).to(y_ptr.dtype.element_ty), mask=inside)


@jit("n_rows", "rows_per_program")
def backward_kernel(
    dy_ptr, dy_stride, dr_ptr, dr_stride, r_ptr, r_stride, s_ptr, w_ptr, dx_ptr, dres_ptr, dw_ptr,
    n_rows, rows_per_program, n_hidden, HAS_DR: tl.constexpr, TWO_DTYPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a range of rows; its sum of the weight's gradient is one row of dw [G, H].

    TWO_DTYPES: x and residual differ in theirs, so that dr is written twice, rounded for each.
    """
    program = tl.program_id(0).to(tl.int64)
    h = tl.arange(0, BLOCK)
    inside = h < n_hidden
    w = tl.load(w_ptr + h, mask=inside, other=0.0).to(tl.float32)
    dw = tl.zeros([BLOCK], tl.float32)
    first = program * rows_per_program
    for step in range(0, tl.minimum(rows_per_program, n_rows - first)):
        row = first + step
        r = tl.load(r_ptr + row * r_stride + h, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + row * dy_stride + h, mask=inside, other=0.0).to(tl.float32)
        s = tl.load(s_ptr + row)
        g = dy * w
        dx = s * (g - r * (s * s * (tl.sum(g * r, 0) / n_hidden)))
        if HAS_DR:
            dx += tl.load(dr_ptr + row * dr_stride + h, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx_ptr + row * n_hidden + h, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        if TWO_DTYPES:
            tl.store(dres_ptr + row * n_hidden + h, dx.to(dres_ptr.dtype.element_ty), mask=inside)
        dw += dy * r * s
    tl.store(dw_ptr + program * n_hidden + h, dw, mask=inside)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_NH: torch.Tensor, weight_H: torch.Tensor, eps: float, residual_NH: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows, hidden = x_NH.shape
        res = x_NH if residual_NH is None else residual_NH
        stream = torch.promote_types(x_NH.dtype, res.dtype)
        y_dtype = torch.promote_types(stream, weight_H.dtype)
        y_NH = torch.empty_like(x_NH, dtype=y_dtype, memory_format=torch.contiguous_format)
        r_NH = x_NH if residual_NH is None else torch.empty_like(y_NH, dtype=stream)
        s_N = torch.empty(rows, device=x_NH.device, dtype=torch.float32)
        per_program = triton.cdiv(rows, PROGRAMS)
        forward_kernel[(triton.cdiv(rows, per_program),)](
            x_NH, x_NH.stride(0), res, res.stride(0), weight_H, y_NH, r_NH, s_N, eps, rows, per_program, hidden,
            HAS_RESIDUAL=residual_NH is not None, BLOCK=triton.next_power_of_2(hidden), num_warps=_warps(hidden),
        )  # fmt: skip
        ctx.save_for_backward(r_NH, s_N, weight_H)
        ctx.has_residual, ctx.dtypes = residual_NH is not None, (x_NH.dtype, res.dtype)
        ctx.set_materialize_grads(False)
        if residual_NH is None:
            r_NH = r_NH.new_empty(0)  # x itself is the residual: handing it out again would alias an input
            ctx.mark_non_differentiable(r_NH)
        return y_NH, r_NH

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        dy_NH, dr_NH = upstream
        r_NH, s_N, weight_H = ctx.saved_tensors
        if not ctx.has_residual:
            dr_NH = None
        if dy_NH is None:  # only the residual was used
            both = (None, None) if dr_NH is None else (dr_NH.to(dtype) for dtype in ctx.dtypes)
            dx_NH, dres_NH = both
            return dx_NH, None, None, dres_NH
        dy_NH = _rows_contiguous(dy_NH)
        dr = dy_NH if dr_NH is None else _rows_contiguous(dr_NH)
        rows, hidden = r_NH.shape
        per_program = triton.cdiv(rows, PROGRAMS)
        programs = triton.cdiv(rows, per_program)
        dx_NH = torch.empty_like(r_NH, dtype=ctx.dtypes[0], memory_format=torch.contiguous_format)
        split = ctx.dtypes[0] != ctx.dtypes[1]
        dres_NH = torch.empty_like(dx_NH, dtype=ctx.dtypes[1]) if split else dx_NH
        dw_GH = torch.empty(programs, hidden, device=r_NH.device, dtype=torch.float32)
        backward_kernel[(programs,)](
            dy_NH, dy_NH.stride(0), dr, dr.stride(0), r_NH, r_NH.stride(0), s_N, weight_H, dx_NH, dres_NH, dw_GH,
            rows, per_program, hidden,
            HAS_DR=dr_NH is not None, TWO_DTYPES=split, BLOCK=triton.next_power_of_2(hidden), num_warps=_warps(hidden),
        )  # fmt: skip
        return dx_NH, dw_GH.sum(0).to(weight_H.dtype), None, dres_NH if ctx.has_residual else None


def _rows_contiguous(x_NH: torch.Tensor) -> torch.Tensor:
    # an expanded upstream gradient (stride 0) has no contiguous rows
    return x_NH if x_NH.stride(-1) == 1 else x_NH.contiguous()


def _warps(hidden: int) -> int:
    return 16 if hidden > 4096 else 8 if hidden > 1024 else 4
