"""The estimate has its parts, and each grows with what it should."""

import pytest
import torch
from tests.steel_train.preflight.test_inspect import SETTINGS
from tests.steel_train.toys import rows, tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from steel_train.examples.encode import Encoder
from steel_train.examples.folder import encode_batch
from steel_train.kernels.head.plan import HeadShape, budget_of
from steel_train.kernels.patch import head_scratch
from steel_train.models.optimiser import state_bytes
from steel_train.preflight.memory import estimate_memory
from steel_train.schedule.batches import MicroBatch, collate, packed_inputs
from steel_train.settings import Settings

SEVEN_B = {
    "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("lora", "most"), [({}, 20e9), ({"quantize": "nf4"}, 10e9)], ids=["LoRA", "QLoRA"])
def test_an_adapter_of_seven_billion_fits_one_card(lora, most):
    """2,048 tokens at once, activations computed again: the frozen base in bfloat16, or in 4 bits."""
    ids = torch.zeros(2048, dtype=torch.long)
    inputs, segment = packed_inputs([ids], [ids + 1], [2048])
    batch = MicroBatch(inputs, segment, torch.tensor([0]), 2048)
    settings = Settings(model="m", method="lora", lora=lora, gradient_checkpointing=True)
    config = AutoConfig.for_model("qwen2", **SEVEN_B)
    assert 0.7 * most < estimate_memory(config, settings, batch, True, torch.bfloat16).peak < most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "dtype", "state"),
    [
        ("adamw", "auto", 2),
        ("adamw", "bfloat16", 2),
        ("adamw_8bit", "auto", 0.51),
        ("adafactor", "auto", 0.03),
        ("lion", "auto", 1),
        ("muon", "auto", None),
    ],
)
def test_weights_and_optimiser_have_their_own_sizes(optimizer, dtype, state):
    examples = encode_batch(Encoder(tokenizer(), 256), rows(2), 0)
    config = AutoConfig.for_model(
        "qwen2", hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        vocab_size=512,
    )  # fmt: skip
    settings = SETTINGS.model_copy(update={"optimizer": optimizer, "dtype": dtype})
    found = estimate_memory(config, settings, collate(examples, [0], True, 0), bf16=True, own=torch.bfloat16)
    net = AutoModelForCausalLM.from_config(config)
    parameters = sum(p.numel() for p in net.parameters())
    if state is None:
        state = state_bytes(net, optimizer) / (4 * parameters)
        assert 1 < state < 2
    assert found.weights == found.gradients == parameters * (2 if dtype == "bfloat16" else 4)
    assert found.optimiser == pytest.approx(state * found.weights, rel=0.05, abs=0.01 * found.weights)


@pytest.mark.slow
def test_memory_has_its_parts_and_grows_with_what_it_should():
    tok = tokenizer()
    examples = encode_batch(Encoder(tok, 256), rows(8), 0)
    config = AutoConfig.for_model(
        "qwen2", hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        vocab_size=512,
    )  # fmt: skip
    small = estimate_memory(config, SETTINGS, collate(examples, [0], True, 0), bf16=False)
    large = estimate_memory(config, SETTINGS, collate(examples, list(range(8)), True, 0), bf16=False)
    assert (
        small.weights
        == large.weights
        == 4 * sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    )
    assert small.optimiser == 2 * small.gradients == 2 * small.weights
    assert large.activations > 3 * small.activations
    lora = SETTINGS.model_copy(update={"model": "m", "method": "lora"})
    adapted = estimate_memory(config, lora, collate(examples, [0], True, 0), bf16=False)
    assert small.weights < adapted.weights < 2 * small.weights
    assert 0 < adapted.gradients < small.gradients


def test_the_head_is_the_one_that_runs():
    """On a GPU `auto` leaves TRL's head: a tile of at most 4,096 rows by 32,768 columns, whatever is learnt."""

    def scratch(device, kernels="auto", architecture="qwen2", rows=16_384, weight=torch.float32, card=None):
        shape = HeadShape(rows, 151_936, 896, weight, torch.bfloat16, True, device, temporaries=2)
        return head_scratch(shape, architecture, kernels, True, budget_of(card))

    cast = 32_768 * 896 * 2
    assert scratch("cuda") == scratch("cuda", architecture="gemma2") == 4096 * 32_768 * 2 + cast
    assert scratch("cuda", weight=torch.bfloat16) == scratch("cuda") - cast
    assert scratch("cuda", rows=100) == 100 * 32_768 * 2 + cast
    assert min(scratch("cuda", "torch"), scratch("cpu")) > 4e8, "ours: whole rows of logits, or its slices"
    assert scratch("cuda", "torch", card=int(24e9)) < 1e9 < scratch("cuda", "torch", card=int(141e9)) <= 2.5e9
    assert scratch("cpu", architecture="gemma2") is None, "TRL's in torch is played itself"
