"""RMSNorm: the op against its definition and the gradients that its docstring derives."""

import pytest
import torch

from steel_train.kernels.backend import Calls
from steel_train.kernels.rms_norm import LARGEST_HIDDEN, reference, rms_norm

EPS = 1e-6


def toy(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("residual", [False, True])
def test_the_gradients_are_those_of_the_formula(residual):
    x, w, r, dy, dr = (toy(*shape, seed=i) for i, shape in enumerate([(3, 8), (8,), (3, 8), (3, 8), (3, 8)]))
    y, total = reference(x, w, EPS, r if residual else None)
    got = torch.autograd.grad((y, total) if residual else y, (x, w), (dy, dr) if residual else dy)
    sum_ = x + r if residual else x
    s = 1 / (sum_.square().mean(1, keepdim=True) + EPS).sqrt()
    g = dy * w
    want = s * (g - sum_ * s**2 * (g * sum_).mean(1, keepdim=True)) + (dr if residual else 0)
    torch.testing.assert_close(got[0], want)
    torch.testing.assert_close(got[1], (dy * sum_ * s).sum(0))


def test_a_row_has_the_mean_square_one_and_its_length_does_not_matter():
    x, ones = toy(4, 32), torch.ones(32, dtype=torch.float64)
    y, r = rms_norm(x, ones, 0.0)
    assert r is x
    torch.testing.assert_close(y.square().mean(1), ones[:4])
    torch.testing.assert_close(rms_norm(7 * x, ones, 0.0)[0], y)


def test_the_residual_is_added_before_and_handed_on():
    x, r, w = toy(2, 3, 8), toy(2, 3, 8, seed=1), toy(8, seed=2)
    y, total = rms_norm(x, w, EPS, r)
    torch.testing.assert_close(total, x + r)
    torch.testing.assert_close(y, rms_norm(x + r, w, EPS)[0])


def test_a_bf16_branch_into_a_float32_stream_keeps_the_stream():
    """Under autocast attention is bf16 and the residual float32: r and y stay float32, as in transformers' own layer."""
    x, r, w = (toy(*shape, seed=i).detach() for i, shape in enumerate([(5, 8), (5, 8), (8,)]))
    x, r, w = x.bfloat16().requires_grad_(), r.float().requires_grad_(), w.float().requires_grad_()
    y, total = rms_norm(x, w, EPS, r)
    assert y.dtype == total.dtype == torch.float32
    exact_y, exact_total = reference(x.double(), w.double(), EPS, r.double())
    torch.testing.assert_close(total, exact_total.float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y, exact_y.float(), rtol=1e-6, atol=1e-6)
    dx, dr = torch.autograd.grad((y, total), (x, r), (torch.ones_like(y), torch.ones_like(y)))
    assert (dx.dtype, dr.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(dx, dr.bfloat16())


def test_what_triton_cannot_take_runs_in_torch_and_is_counted():
    calls, w = Calls("triton"), torch.ones(8)
    rms_norm(torch.ones(2, 8), w, EPS, torch.ones(1, 8), calls)
    rms_norm(torch.ones(0, 8), w, EPS, calls=calls)
    rms_norm(torch.ones(1, LARGEST_HIDDEN + 1), torch.ones(LARGEST_HIDDEN + 1), EPS, calls=calls)
    reasons = calls.report()["rms_norm"]["reasons"]
    assert set(reasons) == {"residual of another shape", "no tokens", f"hidden size above {LARGEST_HIDDEN}"}
