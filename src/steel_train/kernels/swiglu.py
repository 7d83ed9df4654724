# mypy: disable-error-code="no-untyped-def"
"""SwiGLU: y = silu(a) * b for the two projections of a gated MLP.

Shapes: N tokens, I width.

    p = sigmoid(a)        y = a p b        da = dy b p (1 + a (1 - p))        db = dy a p

Saved for the backward pass: a and b only (silu(a) is recomputed). All arithmetic is float32, each result rounded once.

Floor, bytes an element at b bytes: 3b forward (a, b; y), 5b backward (dy, a, b; da, db).
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

OP = "swiglu"
BLOCK = 1024


def reference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The definition, in the dtype of the inputs as they come."""
    return a * torch.sigmoid(a) * b


def swiglu(a: torch.Tensor, b: torch.Tensor, calls: Calls | None = None) -> torch.Tensor:
    """Return silu(a) * b for a, b of one shape [..., I], float32 or bfloat16; else torch runs it, counted."""
    calls = calls or Calls()
    reason = "shapes or dtypes differ" if (a.shape, a.dtype) != (b.shape, b.dtype) else why_not_triton((a, b))
    if use_triton(calls, OP, reason or ("no tokens" if not a.numel() else None)):
        a_NI, b_NI = (t.reshape(-1, t.shape[-1]) for t in (a, b))
        verify_first(calls, OP, _SwiGLU.apply, reference, (a_NI[:VERIFIED_ROWS], b_NI[:VERIFIED_ROWS]))
        y_NI: torch.Tensor = _SwiGLU.apply(a_NI, b_NI)
        return y_NI.view(a.shape)
    return torch.nn.functional.silu(a) * b


@jit()
def forward_kernel(a_ptr, a_stride, b_ptr, b_stride, y_ptr, n_width, BLOCK: tl.constexpr):
    """One program a row and a block of columns."""
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n_width
    a = tl.load(a_ptr + row * a_stride + i, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + row * b_stride + i, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + row * n_width + i, (a * tl.sigmoid(a) * b).to(y_ptr.dtype.element_ty), mask=inside)


@jit()
def backward_kernel(dy_ptr, dy_stride, a_ptr, a_stride, b_ptr, b_stride, da_ptr, db_ptr, n_width, BLOCK: tl.constexpr):
    """One program a row and a block of columns."""
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n_width
    dy = tl.load(dy_ptr + row * dy_stride + i, mask=inside, other=0.0).to(tl.float32)
    a = tl.load(a_ptr + row * a_stride + i, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + row * b_stride + i, mask=inside, other=0.0).to(tl.float32)
    p = tl.sigmoid(a)
    da = dy * b * p * (1 + a * (1 - p))
    tl.store(da_ptr + row * n_width + i, da.to(da_ptr.dtype.element_ty), mask=inside)
    tl.store(db_ptr + row * n_width + i, (dy * a * p).to(db_ptr.dtype.element_ty), mask=inside)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a_NI: torch.Tensor, b_NI: torch.Tensor) -> torch.Tensor:
        rows, width = a_NI.shape
        y_NI = torch.empty_like(a_NI, memory_format=torch.contiguous_format)
        forward_kernel[(rows, triton.cdiv(width, BLOCK))](
            a_NI, a_NI.stride(0), b_NI, b_NI.stride(0), y_NI, width, BLOCK=BLOCK, num_warps=4
        )
        ctx.save_for_backward(a_NI, b_NI)
        return y_NI

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a_NI, b_NI = ctx.saved_tensors
        dy_NI = upstream[0] if upstream[0].stride(-1) == 1 else upstream[0].contiguous()
        rows, width = a_NI.shape
        da_NI, db_NI = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (a_NI, b_NI))
        backward_kernel[(rows, triton.cdiv(width, BLOCK))](
            dy_NI, dy_NI.stride(0), a_NI, a_NI.stride(0), b_NI, b_NI.stride(0), da_NI, db_NI, width,
            BLOCK=BLOCK, num_warps=4,
        )  # fmt: skip
        return da_NI, db_NI
