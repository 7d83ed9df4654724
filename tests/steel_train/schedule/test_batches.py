"""A packed row gives each document the log-probabilities that it has alone."""

import numpy as np
import pytest
import torch
from tests.steel_train.toys import model, rows, tokenizer
from trl.trainer.utils import add_fused_lm_head

from steel_train.examples.encode import Encoder
from steel_train.examples.folder import encode_batch
from steel_train.models.attention import ATTENTION
from steel_train.schedule.batches import Steps, collate
from steel_train.schedule.order import Schedule


@pytest.fixture(scope="module")
def examples():
    return encode_batch(Encoder(tokenizer(), 256), rows(12), 0)


def token_log_probs(net, batch):
    """Return example -> log-probabilities of its tokens, learnt ones only."""
    out = net(**batch.inputs, fused_lm_head=True)
    segment = batch.segment_BS[:, 1:]
    return {
        int(row): out.log_probs[(segment == i) & out.label_mask].detach().double() for i, row in enumerate(batch.rows_E)
    }


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_packed_and_alone_agree(examples, kind):
    nets = {attention: model(attention, kind=kind) for attention in ("sdpa", ATTENTION)}
    for net in nets.values():
        add_fused_lm_head(net, outputs=("log_probs",))
    everyone = list(range(12))
    packed = token_log_probs(nets[ATTENTION], collate(examples, everyone, packed=True, pad_id=0))
    padded = token_log_probs(nets["sdpa"], collate(examples, everyone, packed=False, pad_id=0))
    for i in everyone:
        alone = token_log_probs(nets["sdpa"], collate(examples, [i], packed=False, pad_id=0))[i]
        assert len(alone) == examples.table["learnt"][i]
        assert (packed[i] - alone).abs().max() < 1e-5
        assert (padded[i] - alone).abs().max() < 1e-5


def test_a_window_is_kept_inside_a_segment(examples):
    from steel_train.models.attention import segment_attention

    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 10, 4) for _ in range(3))
    module = torch.nn.Module().eval()
    out, _ = segment_attention(module, q, k, v, None, segment_lengths=(6, 4), sliding_window=2)
    # the last token of the first segment sees itself and one before
    scores = (q[0, 0, 5] @ k[0, 0, 4:6].T) / 2
    assert torch.allclose(out[0, 5, 0], torch.softmax(scores, 0) @ v[0, 0, 4:6], atol=1e-6)


def test_a_process_without_a_row_takes_part_with_nothing_to_learn(examples):
    schedule = Schedule(examples.unit_lengths(), 0, 1, micro_batch=1, accumulate=1, processes=5)
    last = schedule.steps - 1  # 12 rows: two are left for five processes
    batches = [Steps(examples, schedule, 0)[last * 5 + p] for p in range(5)]
    learnt = [int((b.inputs["labels"] != -100).sum()) for part in batches for b in part]
    assert np.count_nonzero(learnt) == 2 and len(learnt) == 5
    assert [b.spare for part in batches for b in part] == [n == 0 for n in learnt], "and counts for nothing"


def test_labels_are_the_learnt_tokens_and_never_the_first(examples):
    batch = collate(examples, [0, 1, 2], packed=True, pad_id=0)
    bounds = batch.inputs["cu_seq_lens_q"][:-1].long()
    assert (batch.inputs["labels"][0, bounds] == -100).all()
    assert int((batch.inputs["labels"] != -100).sum()) == examples.table["learnt"][:3].sum()


def test_positions_start_anew_in_each_row(examples):
    # RoPE sees differences only, so log-probabilities would not tell; learned or scaled positions would
    batch = collate(examples, [0, 1, 2], packed=True, pad_id=0)
    lengths = examples.table["length"][:3].to_list()
    assert batch.inputs["position_ids"][0].tolist() == [p for length in lengths for p in range(length)]
    assert batch.segment_BS[0].tolist() == [i for i, length in enumerate(lengths) for _ in range(length)]
