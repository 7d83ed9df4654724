"""A kernel is trusted after its first call agreed with the definition; what did not run in Triton is counted."""

import pytest
import torch

from steel_data.errors import InputError
from steel_train.kernels import backend
from steel_train.kernels.backend import Calls, relative_error, use_triton, verify_first, why_not_triton

X = torch.linspace(-1, 1, 12).view(3, 4)


def square(x):
    return x * x


@pytest.mark.parametrize(
    "wrong",
    [lambda x: x * x * 1.001, lambda x: (x * x).detach() + 0 * x],
    ids=["a value", "a gradient"],
)
def test_a_kernel_that_differs_from_its_definition_stops_the_run(wrong):
    with pytest.raises(InputError, match=r"square in Triton differs from its definition by .* kernels = \"torch\""):
        verify_first(Calls("triton"), "square", wrong, square, (X,))


def test_the_comparison_is_made_once_and_only_if_asked():
    def never(x):
        raise AssertionError

    calls = Calls("triton")
    verify_first(calls, "square", square, square, (X,))
    verify_first(calls, "square", never, never, (X,))
    verify_first(Calls("triton", verify=False), "square", never, never, (X,))


def test_every_call_is_counted_with_the_reason_of_its_fallback():
    calls = Calls("triton")
    taken = [use_triton(calls, "op", reason) for reason in (None, "odd", "odd")]
    assert taken == [True, False, False]
    assert calls.report() == {"op": {"triton": 1, "torch": 2, "own": 0, "reasons": {"odd": 2}}}
    plain = Calls("torch")
    assert not use_triton(plain, "op", "odd")
    assert plain.report()["op"]["reasons"] == {}, "torch was asked for: no fallback"
    assert plain.report()["op"]["torch"] == 1


def test_a_fallback_is_said_once_and_counted_each_time(caplog):
    calls = Calls("triton")
    for _ in range(5):
        use_triton(calls, "op", "odd")
        calls.leave("head", "a bias")
    assert [r.message for r in caplog.records] == [
        "kernels: op runs in torch: odd",
        "kernels: head runs as the model had it: a bias",
    ]
    assert calls.report()["head"] == {"triton": 0, "torch": 0, "own": 5, "reasons": {"a bias": 5}}


def test_triton_without_a_gpu_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setattr(backend, "interpreting", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError) as error:
        backend.require_triton("r.toml [train]")
    lacks = "no GPU here" if backend.INSTALLED else "Triton is not installed"
    assert str(error.value) == f'r.toml [train]: kernels = "triton", but {lacks}. Fix: kernels = "auto", or "torch".'
    monkeypatch.setattr(backend, "interpreting", lambda: True)
    monkeypatch.setattr(backend, "triton", object())
    backend.require_triton("the interpreter is asked for by name")


@pytest.mark.parametrize(("inputs", "error", "passes"), [
    ((torch.float32,), 5e-5, False),
    ((torch.bfloat16, torch.float32), 5e-5, True),  # matrix units cut bits off while they add up
    ((torch.bfloat16, torch.float32), 5e-4, False),  # but not this many, whatever else is rounded to bf16
])  # fmt: skip
def test_a_float32_result_is_held_to_float32_even_beside_bf16(inputs, error, passes):
    tensors = [X.to(dtype) for dtype in inputs]

    def fast(*xs):
        return sum(x.float() for x in xs) * (1 + error)

    def slow(*xs):
        return sum(x.float() for x in xs)

    calls = Calls("triton")
    if passes:
        verify_first(calls, "sum", fast, slow, tensors)
    else:
        with pytest.raises(InputError, match="differs"):
            verify_first(calls, "sum", fast, slow, tensors)


def test_why_not_triton(monkeypatch):
    monkeypatch.setattr(backend, "triton", object())
    monkeypatch.setattr(backend, "interpreting", lambda: True)
    assert why_not_triton((X, torch.arange(3))) is None
    assert why_not_triton((X.double(),)) == "dtype float64"
    assert why_not_triton((X.T,)) == "last dimension not contiguous"
    monkeypatch.setattr(backend, "interpreting", lambda: False)
    assert why_not_triton((X,)) == "no Triton on device cpu"
    monkeypatch.setattr(backend, "triton", None)
    assert why_not_triton((X,)) == "Triton is not installed"


def test_the_error_is_relative_unless_the_exact_value_is_zero():
    assert relative_error(2 * X, X) == pytest.approx(1)
    assert relative_error(torch.full((4,), 0.5), torch.zeros(4)) == 1.0
