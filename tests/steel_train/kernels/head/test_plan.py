"""The plan of the head op follows the traffic law and its budget."""

import torch
from bench.kernel_ops import head_floor
from hypothesis import given
from hypothesis import strategies as st

from steel_train.kernels.head.plan import HeadShape, cost, moved_bytes, plan_head


def steel(rows, weight=torch.float32, compute=torch.bfloat16, **more):
    return HeadShape(
        rows, 151_936, 1792, weight_dtype=weight, compute_dtype=compute, **{"weight_gradient": True, **more}
    )


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
            assert moved_bytes(shape, plan_head(shape, in_forward)) > head_floor(shape)
