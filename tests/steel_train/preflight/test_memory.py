"""The estimate has its parts, and each grows with what it should."""

import pytest
from tests.steel_train.preflight.test_inspect import SETTINGS
from tests.steel_train.toys import rows, tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from steel_train.examples.encode import Encoder
from steel_train.examples.folder import encode_batch
from steel_train.preflight.memory import estimate_memory
from steel_train.schedule.batches import collate


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
