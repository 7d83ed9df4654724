"""Attention inside segments: row by row it is what each row has alone, with windows, caps and sinks."""

import pytest
import torch

from steel_train.models.attention import _as_computed, _at_once, segment_attention

LENGTHS = (7, 3, 12)


def tensors(heads=4, key_heads=2, size=8):
    torch.manual_seed(0)
    total = sum(LENGTHS)
    return [torch.randn(1, h, total, size, dtype=torch.float64) for h in (heads, key_heads, key_heads)]


def by_hand(query, key, value, window, softcap, sinks, scale):
    """Return softmax attention of one row, written out."""
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    size = query.shape[2]
    seen = torch.tensor([[0 <= i - j < (window or size) for j in range(size)] for i in range(size)])
    weights = scores.masked_fill(~seen, -torch.inf).exp()
    total = weights.sum(-1, keepdim=True) + (0 if sinks is None else sinks.exp().reshape(1, -1, 1, 1))
    return (weights / total) @ value.repeat_interleave(groups, 1)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)])
def test_each_row_attends_to_itself_alone(window, softcap, sinks):
    query, key, value = tensors()
    options = {"segment_lengths": LENGTHS, "scaling": 0.3, "sliding_window": window, "softcap": softcap, "s_aux": sinks}
    found, _ = segment_attention(torch.nn.Module(), query, key, value, None, **options)
    parts = zip(*(x.split(LENGTHS, dim=2) for x in (query, key, value)), strict=True)
    wanted = torch.cat([by_hand(*part, window, softcap, sinks, 0.3) for part in parts], dim=2).transpose(1, 2)
    assert torch.allclose(found, wanted, atol=1e-6)  # the shares of capped scores are float32


@pytest.mark.parametrize("window", [None, 4])
def test_the_kernel_gets_bounds_and_a_window_that_mean_the_same(window):
    """There is no GPU here: a stand-in reads the arguments as torch documents them."""

    def varlen(query_THD, key_THD, value_THD, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
        assert (max_q, max_k) == (12, 12) and enable_gqa
        out = []
        for a, b in zip(cu_seq_q.tolist(), cu_seq_k.tolist()[1:], strict=False):
            q, k, v = (x[a:b].transpose(0, 1)[None] for x in (query_THD, key_THD, value_THD))
            left, right = window_size
            assert right == 0
            out.append(by_hand(q, k, v, None if left < 0 else left + 1, None, None, scale)[0].transpose(0, 1))
        return torch.cat(out)

    query, key, value = tensors()
    bounds = torch.tensor([0, 7, 10, 22], dtype=torch.int32)
    options = {"segment_lengths": LENGTHS, "scaling": 0.3, "sliding_window": window}
    found = _at_once(varlen, query, key, value, options | {"cu_seq_lens_q": bounds, "max_length_q": 12})
    wanted, _ = segment_attention(torch.nn.Module(), query, key, value, None, **options)
    assert torch.allclose(found, wanted)


def test_under_autocast_queries_that_a_float32_table_widened_are_narrow_again():
    """Else no variable-length kernel takes them: packed rows of a float32 model went through one by one on a GPU."""
    wide = [x.float() for x in tensors()]
    with torch.autocast("cpu", torch.bfloat16):
        narrow = _as_computed(wide[0], wide[1], wide[2].bfloat16())
        found, _ = segment_attention(torch.nn.Module(), *wide, None, segment_lengths=LENGTHS, scaling=0.3)
    assert {x.dtype for x in narrow} == {torch.bfloat16} == {found.dtype}
    assert [x.dtype for x in _as_computed(*wide)] == [torch.float32] * 3
