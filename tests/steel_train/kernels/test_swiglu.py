"""SwiGLU: the op against its definition and the gradients that its docstring derives."""

import torch

from steel_train.kernels.backend import Calls
from steel_train.kernels.swiglu import reference, swiglu


def test_the_gradients_are_those_of_the_formula():
    g = torch.Generator().manual_seed(0)
    a, b, dy = (torch.randn(5, 7, generator=g, dtype=torch.float64).requires_grad_() for _ in range(3))
    p = torch.sigmoid(a)
    want = dy * b * p * (1 + a * (1 - p)), dy * a * p
    for function in (reference, swiglu):
        for got, exact in zip(torch.autograd.grad(function(a, b), (a, b), dy), want, strict=True):
            torch.testing.assert_close(got, exact)


def test_far_from_zero_the_gate_is_open_or_shut():
    a, b = torch.tensor([-100.0, 0.0, 100.0]), torch.full((3,), 2.0)
    assert swiglu(a, b).tolist() == [0.0, 0.0, 200.0]


def test_what_triton_cannot_take_runs_in_torch_and_is_counted():
    calls = Calls("triton")
    swiglu(torch.ones(2, 4), torch.ones(2, 4, dtype=torch.bfloat16), calls)
    assert calls.report()["swiglu"] == {"triton": 0, "torch": 1, "own": 0, "reasons": {"shapes or dtypes differ": 1}}
