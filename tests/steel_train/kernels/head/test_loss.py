"""The head op in torch: values and gradients against float64, statistics, masks, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_data.errors import InputError
from steel_train.kernels.backend import relative_error
from steel_train.kernels.head import loss as head_loss
from steel_train.kernels.head.loss import HeadSettings, token_log_probs


def toy(tokens=37, vocabulary=211, hidden=16, masked=0.4, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    hidden_NH = torch.randn(tokens, hidden, generator=g, dtype=dtype).requires_grad_()
    weight_VH = torch.randn(vocabulary, hidden, generator=g, dtype=dtype).requires_grad_()
    labels_N = torch.randint(0, vocabulary, (tokens,), generator=g)
    labels_N[torch.rand(tokens, generator=g) < masked] = -100
    return hidden_NH, weight_VH, labels_N


def gradients(log_probs_N, scale_N, *leaves):
    return torch.autograd.grad((log_probs_N * scale_N).sum(), leaves, retain_graph=True)


@settings(deadline=None, max_examples=40)
@given(
    tokens=st.integers(1, 300),
    vocabulary=st.integers(2, 9000),
    masked=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    in_forward=st.booleans(),
    budget=st.sampled_from([1, 3_000_000, 10**9]),
    uniform=st.booleans(),
)
def test_values_and_gradients_are_those_of_the_definition(tokens, vocabulary, masked, in_forward, budget, uniform):
    hidden, weight, labels = toy(tokens, vocabulary, 8, masked)
    scale = torch.full((tokens,), -0.125, dtype=torch.float64)
    if not uniform:
        scale = torch.randn(tokens, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = token_log_probs(hidden, weight, labels, HeadSettings(in_forward, budget)).log_probs
    exact = head_loss.reference(hidden, weight, labels)
    assert relative_error(ours.detach(), exact.detach()) < 1e-12
    for got, want in zip(gradients(ours, scale, hidden, weight), gradients(exact, scale, hidden, weight), strict=True):
        assert relative_error(got, want) < 1e-12


def test_statistics():
    hidden, weight, labels = toy(vocabulary=20_000)
    with torch.no_grad():
        got = token_log_probs(hidden, weight, labels, HeadSettings(choices=(3, 7, 19_999)))
        logits = hidden @ weight.T
        p = logits.softmax(-1)
        kept = labels != -100
    want = {
        "entropy": -(p * p.log()).sum(-1),
        "is_top1": logits.argmax(-1) == labels,
        "mean_logits": logits.mean(-1),
        "log_sum_sq_probs": p.square().sum(-1).log(),
        "choice_logits": logits[:, [3, 7, 19_999]],
    }
    for name, value in want.items():
        torch.testing.assert_close(getattr(got, name)[kept], value[kept])
        assert not getattr(got, name)[~kept].any()


def test_a_tie_is_top1_only_for_the_first_column():
    weight = torch.ones(20_000, 4)
    hidden = torch.ones(3, 4)
    assert token_log_probs(hidden, weight, torch.tensor([0, 1, 19_999])).is_top1.tolist() == [True, False, False]


def test_all_labels_masked_give_zero_gradients_and_a_connected_loss():
    hidden, weight, labels = toy(masked=1.0)
    statistics = token_log_probs(hidden, weight, labels)
    assert statistics.log_probs.tolist() == [0.0] * 37
    statistics.log_probs.sum().backward()
    assert not hidden.grad.any() and not weight.grad.any()


def test_inputs_are_not_written():
    hidden, weight, labels = toy()
    before = [x.detach().clone() for x in (hidden, weight, labels)]
    token_log_probs(hidden, weight, labels).log_probs.sum().backward()
    for x, was in zip((hidden, weight, labels), before, strict=True):
        assert torch.equal(x, was)


def test_autocast_sets_the_dtype_of_the_gemms_and_keeps_the_weight_in_float32():
    hidden, weight, labels = toy(dtype=torch.float32, hidden=64)
    exact = head_loss.reference(hidden.bfloat16().double(), weight.bfloat16().double(), labels).detach()
    with torch.autocast("cpu", torch.bfloat16):
        statistics = token_log_probs(hidden, weight, labels)
        log_probs = statistics.log_probs
    # only the operands are rounded: the logits stay float32, so the result is exact for the rounded operands
    assert relative_error(log_probs.detach(), exact) < 1e-6
    p = (hidden.bfloat16().double() @ weight.bfloat16().double().T).softmax(-1)[labels != -100]
    entropy = -(p * p.log()).sum(-1)
    assert relative_error(statistics.entropy[labels != -100], entropy.detach()) < 1e-5, "autocast reached the tiles"
    log_probs.sum().backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32


def test_what_does_not_fit_is_refused():
    hidden, weight, labels = toy()
    with pytest.raises(InputError, match="outside the vocabulary of 211"):
        token_log_probs(hidden, weight, labels.clamp(min=0) + 200)
    with pytest.raises(ValueError, match="do not fit"):
        token_log_probs(hidden, weight[:, :3], labels)
