"""RoPE: a rotation, relative in its positions, exact at any of them."""

import math

import pytest
import torch
from bench.kernel_ops import inverse_frequencies

from steel_train.kernels.backend import Calls
from steel_train.kernels.rope import Frequencies, fixed_point_turns, rope, rope_kernel

SIZE = 8


def heads(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(1, 2, 1, SIZE, generator=g, dtype=torch.float64)


def rotated(q, k, m, n):
    """Return q at position m and k at position n."""
    table = Frequencies.of(inverse_frequencies(SIZE).double())
    at = [torch.tensor([[position]]) for position in (m, n)]
    return rope(q, q, at[0], table)[0], rope(k, k, at[1], table)[0]


def test_position_zero_is_the_identity_and_lengths_are_kept():
    q, k = heads(), heads(1)
    start, far = rotated(q, k, 0, 100_000)
    torch.testing.assert_close(start, q)
    torch.testing.assert_close(far.norm(dim=-1), k.norm(dim=-1))
    assert not torch.allclose(far, k)


@pytest.mark.parametrize("shift", [1, 32_768])
def test_a_product_depends_on_the_distance_alone(shift):
    q, k = heads(), heads(1)
    near, moved = ((a * b).sum() for a, b in (rotated(q, k, 5, 2), rotated(q, k, 5 + shift, 2 + shift)))
    torch.testing.assert_close(near, moved)


def test_the_backward_pass_is_the_rotation_back():
    q, k = heads().requires_grad_(), heads(1)
    upstream = heads(2)
    (got,) = torch.autograd.grad(rotated(q, k, 9, 0)[0], q, upstream)
    torch.testing.assert_close(rotated(got, k, 9, 0)[0], upstream)


def test_turns_wrap_as_the_angle_does():
    """position x turns in 64-bit integers is the angle modulo a whole turn, at positions where float32 is far off."""
    frequencies, position = inverse_frequencies(SIZE), 1_048_575
    turns = fixed_point_turns(frequencies)
    phase = (turns * position).double() / 2.0**64 * 2 * math.pi  # the product wraps like int64
    exact = position * frequencies.double()
    torch.testing.assert_close(phase.cos(), exact.cos(), rtol=0, atol=1e-9)
    torch.testing.assert_close(phase.sin(), exact.sin(), rtol=0, atol=1e-9)


def test_what_triton_cannot_take_runs_in_torch_and_is_counted():
    calls, table = Calls("triton"), Frequencies.of(inverse_frequencies(SIZE))
    q = torch.ones(1, 1, 2, SIZE)
    rope(q, q, torch.zeros(1, 2, dtype=torch.int32), table, calls)
    rope(q, q.bfloat16(), torch.zeros(1, 2, dtype=torch.int64), table, calls)
    assert set(calls.report()["rope"]["reasons"]) == {"position ids are not int64 [B, T]", "dtypes differ"}


def test_the_kernel_depends_on_no_stride_that_grows_with_the_tokens():
    """A gradient may come as [B, A, T, D]: its stride, a constant of the kernel, had each length compiled anew on a GPU."""
    constants = {p.name for p in rope_kernel.params if p.is_constexpr}
    assert constants == {"FREQUENCIES", "SIGN", "HEADS", "HALF"}, "of the model alone"
