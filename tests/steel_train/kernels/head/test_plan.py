"""The plan of the head op follows the traffic law and its budget."""

import pytest
import torch
from bench.kernel_ops import head_floor
from hypothesis import given
from hypothesis import strategies as st

from steel_train.kernels.head.plan import HeadPlan, HeadShape, cost, l2_bytes, moved_bytes, plan_head


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


def test_our_own_gemm_is_taken_for_few_rows_only():
    """Its 64 x 128 tiles draw every operand out of L2 so often that many rows are done sooner by the library's GEMM."""
    for weight in (torch.float32, torch.bfloat16):
        assert not plan_head(steel(16_384, weight), in_forward=False).project
        assert not plan_head(steel(2048, weight), in_forward=False).project
        assert plan_head(steel(64, weight), in_forward=False).project
    assert not plan_head(steel(64, temporaries=2), in_forward=False).project, "torch has no such kernel"
    # the counts of docs/kernels.md, bytes out of L2 at 16,384 rows
    assert l2_bytes(steel(16_384, torch.bfloat16)) == pytest.approx(209e9, rel=0.01)
    assert l2_bytes(steel(16_384)) == pytest.approx(349e9, rel=0.01)


def test_a_float32_weight_is_cast_once_a_pass_not_once_a_chunk():
    one, many = (moved_bytes(steel(16_384), HeadPlan(False, rows, 8192)) for rows in (16_384, 2048))
    plain = [moved_bytes(steel(16_384, torch.bfloat16), HeadPlan(False, rows, 8192)) for rows in (16_384, 2048)]
    casts = 151_936 * 1792 * 6 * 2  # read in float32, written in bf16, for the statistics and for the gradients
    assert one - plain[0] == many - plain[1] == casts


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
