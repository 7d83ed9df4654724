"""The fused head in a model gives what TRL's gives, to SFT and to DPO, and knows what it cannot serve."""

import pytest
import torch
from tests.steel_train.kernels.test_patch import batch, grads, model_of
from trl.trainer.utils import add_fused_lm_head

from steel_train.kernels.head.model import why_not
from steel_train.kernels.patch import patch

OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs")


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama", "steel"])
@pytest.mark.parametrize("in_forward", [True, False])
def test_the_fused_contract_gives_what_trl_gives(name, in_forward):
    theirs, ours = model_of(name), model_of(name)
    add_fused_lm_head(theirs, outputs=OUTPUTS)
    add_fused_lm_head(ours, outputs=OUTPUTS)
    assert patch(ours, "torch", in_forward) == ["head_loss"]
    want, got = theirs(**batch(), fused_lm_head=True), ours(**batch(), fused_lm_head=True)
    for field in ("loss", *OUTPUTS, "label_mask"):
        torch.testing.assert_close(getattr(got, field), getattr(want, field), rtol=1e-4, atol=1e-5)
    # SFT's use of it, and DPO's: a weight a sequence
    for weight in (torch.ones(2, 1), torch.tensor([[1.0], [-0.3]])):
        got, want = ours(**batch(), fused_lm_head=True), theirs(**batch(), fused_lm_head=True)
        a, b = grads(ours, -(got.log_probs * weight).sum() / 7), grads(theirs, -(want.log_probs * weight).sum() / 7)
        for key in b:
            torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_models_own_and_takes_num_items():
    model = model_of("qwen3")
    own = model(**batch()).loss
    patch(model, "torch")
    fused = model(**batch(), fused_lm_head=True)
    torch.testing.assert_close(fused.loss, own)
    torch.testing.assert_close(model(**batch()).loss, own)
    with_items = model(**batch(), fused_lm_head=True, num_items_in_batch=100).loss
    torch.testing.assert_close(with_items, own * fused.label_mask.sum() / 100)
    shifted = torch.nn.functional.pad(batch()["labels"][:, 1:], (0, 1), value=-100)
    inputs = {k: v for k, v in batch().items() if k != "labels"}
    torch.testing.assert_close(model(**inputs, shift_labels=shifted, fused_lm_head=True).loss, own)


def test_what_another_head_was_asked_for_is_read_before_it_is_replaced():
    cool, soft, biased = model_of("qwen2"), model_of("qwen2"), model_of("qwen2")
    assert why_not(cool) is None
    add_fused_lm_head(cool, temperature=0.7)
    soft.config.final_logit_softcapping = 30.0
    biased.lm_head = torch.nn.Linear(112, 131, bias=True)
    assert why_not(cool) == "temperature = 0.7"
    assert why_not(soft) == "final_logit_softcapping = 30.0"
    assert why_not(biased) == "head of type Linear with bias"


def test_a_head_that_changes_after_patching_is_served_by_the_one_before_or_refused():
    ours, alone = model_of("qwen2"), model_of("qwen2")
    add_fused_lm_head(ours)
    for model in (ours, alone):
        patch(model, "torch")
        model.set_output_embeddings(torch.nn.Linear(112, 131, bias=True))
    assert ours(**batch(), fused_lm_head=True).loss.isfinite()
    with pytest.raises(ValueError, match="with bias"):
        alone(**batch(), fused_lm_head=True)


def test_labels_come_once():
    model = model_of("llama")
    patch(model, "torch")
    with pytest.raises(ValueError, match="exactly one of labels"):
        model(**batch(), shift_labels=batch()["labels"], fused_lm_head=True)
