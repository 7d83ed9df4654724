"""The chunk loop of the head op: a second backward, a frozen weight, the memory of a step at real sizes."""

import pytest
import torch
from tests.steel_train.kernels.head.test_loss import gradients, toy
from tests.steel_train.kernels.head.test_plan import steel
from tests.steel_train.kernels.live_bytes import LiveBytes
from torch._subclasses.fake_tensor import FakeTensorMode

from steel_train.kernels.head import gradients as head_gradients
from steel_train.kernels.head import loss as head_loss
from steel_train.kernels.head.loss import HeadSettings, token_log_probs
from steel_train.kernels.head.plan import HeadPlan, plan_head


@pytest.mark.parametrize("in_forward", [True, False])
def test_a_second_backward_is_right(in_forward):
    hidden, weight, labels = toy()
    ours = token_log_probs(hidden, weight, labels, HeadSettings(in_forward)).log_probs
    scale = torch.full((37,), 0.5, dtype=torch.float64)
    first = [g.clone() for g in gradients(ours, scale, hidden, weight)]
    second = gradients(ours, 3 * scale, hidden, weight)
    for one, three in zip(first, second, strict=True):
        torch.testing.assert_close(3 * one, three)


def test_a_frozen_weight_gets_no_gradient_and_no_buffer():
    hidden, weight, labels = toy()
    statistics = token_log_probs(hidden, weight.detach(), labels)
    statistics.log_probs.sum().backward()
    expected = torch.autograd.grad(head_loss.reference(hidden, weight, labels).sum(), hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)


@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("in_forward", [True, False])
@pytest.mark.parametrize("supervised", [1.0, 0.4])
@pytest.mark.parametrize("budget", [0.7e9, 2.5e9])
def test_memory_beyond_inputs_and_gradients_at_16384_tokens(monkeypatch, weight_dtype, in_forward, supervised, budget):
    shape = steel(int(16_384 * supervised), weight_dtype)
    plan = plan_head(shape, in_forward, int(budget))
    assert plan.in_forward == (in_forward and budget > 1e9)
    peak = head_peak(monkeypatch, 16_384, shape, plan)
    assert peak <= budget, f"{peak / 1e9:.3f} GB, {plan}"


def test_memory_with_gradients_in_the_forward_pass_fits_the_default_budget_too(monkeypatch):
    peak = head_peak(monkeypatch, 16_384, steel(16_384), HeadPlan(True, 1024, 8192))
    assert peak <= 0.70e9, f"{peak / 1e9:.3f} GB"


def head_peak(monkeypatch, tokens, shape, plan):
    """Most live bytes of forward and backward beyond inputs and the two gradients, with the GPU's GEMMs and tiles."""
    # what the GPU runs instead of the CPU's casts and temporaries; none of them allocates
    for module, name in (
        (head_gradients, "multiply"),
        (head_gradients, "_add_product"),
        (head_loss.HeadJob, "fold"),
        (head_loss.HeadJob, "logit_gradients"),
    ):
        monkeypatch.setattr(module, name, lambda *tile: None)
    monkeypatch.setattr(head_loss, "scaled", lambda ready, scale, job: tuple(ready))  # it reads numbers, which are fake
    with FakeTensorMode():
        hidden = torch.empty(tokens, shape.hidden, dtype=torch.bfloat16, requires_grad=True)
        weight = torch.empty(shape.vocabulary, shape.hidden, dtype=shape.weight_dtype, requires_grad=True)
        rows, labels = (torch.empty(shape.rows, dtype=torch.int64) for _ in range(2))
        budget = head_loss.BUDGET_BYTES
        job = head_gradients.HeadJob(rows, labels, tokens, shape, plan, False, (True, True), budget)
        with LiveBytes(hidden, weight, rows, labels) as meter:
            log_probs = head_loss._HeadLoss.apply(hidden, weight, job, ())[0]
            torch.autograd.grad(log_probs, (hidden, weight), torch.empty_like(log_probs))
    # the gradient of the hidden states is compact (rows, not tokens) when the most is alive
    given_away = shape.rows * shape.hidden * hidden.element_size() + weight.numel() * weight.element_size()
    return meter.peak - given_away
