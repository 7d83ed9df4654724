"""The head op in torch: values and gradients against float64, masks, second backward, memory at real sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.steel_train.kernels.live_bytes import LiveBytes
from torch._subclasses.fake_tensor import FakeTensorMode

from steel_data.errors import InputError
from steel_train.kernels.backend import relative_error
from steel_train.kernels.head import gradients as head_gradients
from steel_train.kernels.head import loss as head_loss
from steel_train.kernels.head.loss import HeadSettings, token_log_probs
from steel_train.kernels.head.plan import HeadPlan, HeadShape, cost, floor_bytes, floor_flops, moved_bytes, plan_head

STEEL = {"vocabulary": 151_936, "hidden": 1792}


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


@pytest.mark.parametrize("in_forward", [True, False])
def test_a_second_backward_is_right(in_forward):
    hidden, weight, labels = toy()
    ours = token_log_probs(hidden, weight, labels, HeadSettings(in_forward)).log_probs
    scale = torch.full((37,), 0.5, dtype=torch.float64)
    first = [g.clone() for g in gradients(ours, scale, hidden, weight)]
    second = gradients(ours, 3 * scale, hidden, weight)
    for one, three in zip(first, second, strict=True):
        torch.testing.assert_close(3 * one, three)


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


def test_a_frozen_weight_gets_no_gradient_and_no_buffer():
    hidden, weight, labels = toy()
    statistics = token_log_probs(hidden, weight.detach(), labels)
    statistics.log_probs.sum().backward()
    expected = torch.autograd.grad(head_loss.reference(hidden, weight, labels).sum(), hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)


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


def steel(rows, weight=torch.float32, compute=torch.bfloat16, **more):
    return HeadShape(rows, **STEEL, weight_dtype=weight, compute_dtype=compute, **{"weight_gradient": True, **more})


def test_the_plan_follows_the_law():
    # small chunks would pass over W and dW too often: a fourth GEMM is cheaper
    assert not plan_head(steel(16_384), budget_bytes=700_000_000).in_forward
    roomy = plan_head(steel(16_384), budget_bytes=2_000_000_000)
    assert roomy.in_forward and roomy.cast_once and roomy.rows >= 2048
    # the float32 sum of a bf16 weight's gradient needs 1.09 GB of its own
    assert not plan_head(steel(16_384, torch.bfloat16)).in_forward
    assert plan_head(steel(16_384, torch.bfloat16), budget_bytes=2_500_000_000).in_forward
    # one chunk always pays; a CPU computes little in the time of a byte
    assert plan_head(steel(800)).in_forward and plan_head(steel(800)).rows == 800
    assert plan_head(steel(1600, compute=torch.float32, device="cpu", temporaries=2)).in_forward
    assert not plan_head(steel(800), in_forward=False).in_forward
    assert plan_head(steel(16_384), budget_bytes=1).rows == 128


@given(st.integers(1, 20_000), st.sampled_from([5e8, 7e8, 1.3e9, 3e9]), st.booleans())
def test_no_plan_that_fits_is_cheaper(rows, budget, gradient):
    shape = steel(rows, weight_gradient=gradient)
    chosen = plan_head(shape, budget_bytes=int(budget))
    assert cost(shape, chosen) <= cost(shape, plan_head(shape, False, int(budget)))


def test_the_traffic_model_is_never_below_the_floor():
    for rows in (1, 819, 6554, 16_384):
        shape = steel(rows)
        for in_forward in (True, False):
            assert moved_bytes(shape, plan_head(shape, in_forward)) > floor_bytes(shape)
    assert floor_flops(shape) == 6 * 16_384 * 151_936 * 1792


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
