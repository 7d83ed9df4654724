"""A tile sees a slice of the vocabulary; folded one after another or merged, slices give what the whole row gives."""

from itertools import pairwise

import pytest
import torch

from steel_train.kernels.head import tiles

COLUMNS = 700


@pytest.fixture
def row_block():
    g = torch.Generator().manual_seed(0)
    logits_CS = torch.randn(5, COLUMNS, generator=g, dtype=torch.float64) * 4
    logits_CS[1, [3, 400]] = 50.0  # a tie: the first column is the best
    return logits_CS, torch.tensor([0, 699, 5, 350, 17])


def folded(logits_CS, labels_C, borders):
    stats_7C = tiles.empty_statistics(len(labels_C), logits_CS)
    for a, b in pairwise(borders):
        tiles.fold_torch(logits_CS[:, a:b], labels_C, a, stats_7C)
    return stats_7C


def by_definition(z, labels):
    top = z.max(1, keepdim=True).values
    p = (z - top).exp()
    return torch.stack([
        top[:, 0], p.sum(1), (p * (z - top)).sum(1), (p * p).sum(1), z.sum(1),
        (z == top).double().argmax(1).double(), z[torch.arange(len(z)), labels],
    ])  # fmt: skip


@pytest.mark.parametrize("borders", [[0, 700], [0, 1, 700], [0, 350, 699, 700]])
def test_slices_folded_one_by_one_are_the_whole_row(row_block, borders):
    torch.testing.assert_close(folded(*row_block, borders), by_definition(*row_block), rtol=1e-12, atol=1e-12)


def test_ranges_merged_are_the_whole_row(row_block):
    parts = torch.stack([folded(*row_block, [a, b]) for a, b in ((0, 100), (100, 400), (400, 700))])
    # a range without the label has seen 0 of it, so that the sum over ranges is the label's logit
    torch.testing.assert_close(tiles.merge_statistics(parts), by_definition(*row_block), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_gradient_of_a_slice_is_that_of_the_log_probability(row_block, scaled):
    logits, labels = row_block
    scale = torch.linspace(-1, 2, 5, dtype=torch.float64) if scaled else None
    stats = folded(logits, labels, [0, COLUMNS])
    log_z = torch.stack((stats[tiles.MAX], stats[tiles.SUM].log()))
    out = torch.empty_like(logits)
    for a, b in ((0, 300), (300, 700)):
        tiles.gradients_torch(logits[:, a:b].clone(), labels, a, log_z, scale, out[:, a:b])
    leaf = logits.clone().requires_grad_()
    picked = leaf.log_softmax(1)[torch.arange(5), labels]
    (want,) = torch.autograd.grad((picked * (1 if scale is None else scale)).sum(), leaf)
    torch.testing.assert_close(out, want, rtol=1e-9, atol=1e-12)


def test_a_sure_label_keeps_its_small_gradient():
    """1 - p in float32 would be 0 at p = 1 - 1e-9; -expm1(log p) is not."""
    logits, labels = torch.tensor([[0.0, -20.7232658]]), torch.tensor([0])
    stats = folded(logits, labels, [0, 2])
    out = torch.empty_like(logits)
    tiles.gradients_torch(logits, labels, 0, torch.stack((stats[tiles.MAX], stats[tiles.SUM].log())), None, out)
    assert out[0, 1].item() == pytest.approx(-1e-9, rel=1e-3)
    log_p = torch.tensor([[-1e-9, -20.7232658]])
    tiles.gradients_torch(log_p, labels, 0, torch.zeros(2, 1), None, out)
    assert out[0, 0].item() == pytest.approx(1e-9, rel=1e-3)
