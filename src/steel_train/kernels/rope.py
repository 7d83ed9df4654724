# mypy: disable-error-code="no-untyped-def"
"""Rotary position embedding of queries and keys from position ids (packed rows restart them).

Shapes: B sequences, T tokens, A heads (queries or keys), F = head size / 2 frequencies.

    angle = position * inv_freq_F
    first half:  x1 cos - x2 sin        second half:  x2 cos + x1 sin        (times a scaling, 1 for plain RoPE)

The backward pass is the rotation by -angle. cos and sin are never in memory: the angle is kept in turns as a 64-bit
fixed-point fraction, so position * frequency wraps exactly, and two short polynomials give cos and sin to float32
accuracy at any position (a float32 product loses 2e-3 rad at position 32,768). Head sizes need not be powers of two.

Floor, bytes an element of q and k at b bytes: 2b forward, 2b backward, plus 8 bytes a token of positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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

OP = "rope"


def reference(
    q_BATD: torch.Tensor, k_BATD: torch.Tensor, positions_BT: torch.Tensor, inv_freq_F: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition; the angle in float64, all else in the dtype of the inputs as they come."""
    angle_BTF = positions_BT[..., None].double() * inv_freq_F.double()
    cos = (angle_BTF.cos() * scaling).to(q_BATD.dtype)[:, None]
    sin = (angle_BTF.sin() * scaling).to(q_BATD.dtype)[:, None]

    def rotate(x: torch.Tensor) -> torch.Tensor:
        x1, x2 = x.chunk(2, -1)
        return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), -1)

    return rotate(q_BATD), rotate(k_BATD)


def fixed_point_turns(inv_freq_F: torch.Tensor) -> torch.Tensor:
    """Return the frequencies in turns a position, as int64 [F] fractions of 2**64 (wrapping like the angle does)."""
    turns = inv_freq_F.detach().cpu().double() / (2 * math.pi)
    whole = [int(t * 2**63) * 2 for t in turns.tolist()]  # Python integers: float64 alone would overflow
    wrapped = [(w + 2**63) % 2**64 - 2**63 for w in whole]
    return torch.tensor(wrapped, dtype=torch.int64, device=inv_freq_F.device)


@dataclass(frozen=True)
class Frequencies:
    """Angles a position, float32 [F] as transformers keeps them, the same in turns, and the scaling of cos and sin."""

    inv_freq: torch.Tensor
    turns: torch.Tensor
    scaling: float

    @classmethod
    def of(cls, inv_freq_F: torch.Tensor, scaling: float = 1.0) -> Frequencies:
        """Make the fixed-point form once: it is a round trip to the host."""
        return cls(inv_freq_F, fixed_point_turns(inv_freq_F), scaling)


def rope(
    q_BATD: torch.Tensor,
    k_BATD: torch.Tensor,
    positions_BT: torch.Tensor,
    frequencies: Frequencies,
    calls: Calls | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return q and k rotated. q [B, Aq, T, D], k [B, Ak, T, D] (any strides), positions int64 [B or 1, T].

    float32 or bfloat16; other cases run in torch and are counted in `calls`.
    """
    calls = calls or Calls()
    inv_freq_F, scaling = frequencies.inv_freq, frequencies.scaling
    if use_triton(calls, OP, _why_not(q_BATD, k_BATD, positions_BT, inv_freq_F)):
        positions_BT = positions_BT.expand(q_BATD.shape[0], -1)

        def fast(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            q_out, k_out = _Rope.apply(q, k, positions, frequencies)
            return q_out, k_out

        def slow(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return reference(q, k, positions, inv_freq_F, scaling)

        few = q_BATD[:2, :, :VERIFIED_ROWS], k_BATD[:2, :, :VERIFIED_ROWS], positions_BT[:2, :VERIFIED_ROWS]
        verify_first(calls, OP, fast, slow, few)
        return fast(q_BATD, k_BATD, positions_BT)
    q, k = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (q_BATD, k_BATD))
    q, k = reference(q, k, positions_BT, inv_freq_F, scaling)
    return q.to(q_BATD.dtype), k.to(k_BATD.dtype)


def _why_not(q: torch.Tensor, k: torch.Tensor, positions_BT: torch.Tensor, inv_freq_F: torch.Tensor) -> str | None:
    if q.shape[-1] != 2 * inv_freq_F.numel() or k.shape[-1] != q.shape[-1]:
        return "partial rotation"
    if positions_BT.dim() != 2 or positions_BT.shape[-1] != q.shape[2] or positions_BT.dtype != torch.int64:
        return "position ids are not int64 [B, T]"
    if q.dtype != k.dtype or not q.numel():
        return "dtypes differ" if q.numel() else "no tokens"
    return why_not_triton((q, k))


@jit()
def cos_sin_of_turns(phase):
    """cos and sin of 2 pi phase / 2**64 for int64 phases, by polynomials on an eighth of a turn either side of 0."""
    # the top 32 bits are the turn, half a unit of float32 near zero at worst
    turn = (phase >> 32).to(tl.float32) * 2.3283064365386963e-10
    quarter = tl.floor(turn * 4 + 0.5)
    # the remainder from the integer, exact: in floats it would cancel
    rest = (phase - (quarter.to(tl.int64) << 62)) >> 32
    t = rest.to(tl.float32) * 1.4629180792671596e-09  # 2 pi / 2**32
    u = t * t
    sin = t * (1 + u * (-0.16666667 + u * (8.3333333e-3 + u * (-1.9841270e-4 + u * 2.7557319e-6))))
    cos = 1 + u * (-0.5 + u * (4.16666667e-2 + u * (-1.3888889e-3 + u * (2.4801587e-5 - u * 2.7557319e-7))))
    which = quarter.to(tl.int32) & 3
    swap = (which & 1) == 1
    a = tl.where(swap, sin, cos)
    b = tl.where(swap, cos, sin)
    cos = tl.where((which == 1) | (which == 2), -a, a)
    sin = tl.where(which >= 2, -b, b)
    return cos, sin


@jit()
def rotate_heads(x_ptr, y_ptr, cos, sin, f, n_heads, FREQUENCIES: tl.constexpr, HEADS: tl.constexpr):
    """Rotate the heads of one token; `x_ptr` and `y_ptr` point to its first head."""
    inside = f < FREQUENCIES
    for first in range(0, n_heads, HEADS):
        a = first + tl.arange(0, HEADS)
        mask = (a < n_heads)[:, None] & inside[None, :]
        x = x_ptr + a[:, None] * FREQUENCIES * 2 + f[None, :]
        y = y_ptr + a[:, None] * FREQUENCIES * 2 + f[None, :]
        x1 = tl.load(x, mask=mask, other=0.0).to(tl.float32)
        x2 = tl.load(x + FREQUENCIES, mask=mask, other=0.0).to(tl.float32)
        tl.store(y, (x1 * cos[None, :] - x2 * sin[None, :]).to(y_ptr.dtype.element_ty), mask=mask)
        tl.store(y + FREQUENCIES, (x2 * cos[None, :] + x1 * sin[None, :]).to(y_ptr.dtype.element_ty), mask=mask)


@jit("positions_ptr", "positions_stride", "n_tokens")
def rope_kernel(
    q_ptr, q_stride_b, q_stride_t, q_out_ptr, k_ptr, k_stride_b, k_stride_t, k_out_ptr,
    positions_ptr, positions_stride, turns_ptr, scaling, n_q, n_k, n_tokens,
    FREQUENCIES: tl.constexpr, SIGN: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """One program a token: its cos and sin serve all its heads. In and outputs lie in memory as [B, T, A, D].

    The head's size is a constant: 56 is no multiple of 16, and only a constant lets loads be wide then.
    """
    token = tl.program_id(0).to(tl.int64)
    b = token // n_tokens
    t = token % n_tokens
    f = tl.arange(0, HALF)
    position = tl.load(positions_ptr + b * positions_stride + t)
    turns = tl.load(turns_ptr + f, mask=f < FREQUENCIES, other=0)
    cos, sin = cos_sin_of_turns(position * turns)
    cos *= scaling
    sin *= SIGN * scaling
    q = q_ptr + b * q_stride_b + t * q_stride_t
    k = k_ptr + b * k_stride_b + t * k_stride_t
    rotate_heads(q, q_out_ptr + token * n_q * FREQUENCIES * 2, cos, sin, f, n_q, FREQUENCIES, HEADS)
    rotate_heads(k, k_out_ptr + token * n_k * FREQUENCIES * 2, cos, sin, f, n_k, FREQUENCIES, HEADS)


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BATD: torch.Tensor, k_BATD: torch.Tensor, positions_BT: torch.Tensor, frequencies: Frequencies
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(positions_BT)
        ctx.frequencies = frequencies
        return _rotate(q_BATD, k_BATD, positions_BT, frequencies, 1)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (positions_BT,) = ctx.saved_tensors
        dq, dk = upstream
        return *_rotate(dq, dk, positions_BT, ctx.frequencies, -1), None, None


def _rotate(
    q_BATD: torch.Tensor, k_BATD: torch.Tensor, positions_BT: torch.Tensor, frequencies: Frequencies, sign: int
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, n_q, tokens, size = q_BATD.shape
    n_k = k_BATD.shape[1]
    # the memory order that the projection wrote and attention kernels like: heads of a token side by side
    q_out, k_out = (x.new_empty(batch, tokens, x.shape[1], size).transpose(1, 2) for x in (q_BATD, k_BATD))
    # heads of a token side by side: with a stride that grows with the tokens, a constant, each length was compiled anew
    q_BATD, k_BATD = (
        x if x.stride(1) == size and x.stride(3) == 1 else x.transpose(1, 2).contiguous().transpose(1, 2)
        for x in (q_BATD, k_BATD)
    )
    half = triton.next_power_of_2(size // 2)
    rope_kernel[(batch * tokens,)](
        q_BATD, q_BATD.stride(0), q_BATD.stride(2), q_out, k_BATD, k_BATD.stride(0), k_BATD.stride(2), k_out,
        positions_BT, positions_BT.stride(0), frequencies.turns, frequencies.scaling, n_q, n_k, tokens,
        FREQUENCIES=size // 2, SIGN=sign, HEADS=max(1, min(triton.next_power_of_2(n_q), 1024 // half)), HALF=half,
        num_warps=4,
    )  # fmt: skip
    return q_out, k_out
