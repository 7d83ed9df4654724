"""Time is arithmetic in a range, on devices that are read from the command line."""

import pytest
from transformers import AutoConfig

from steel_data.errors import InputError
from steel_train.preflight.costs import Devices, hours, operations_per_token, parse_devices


def test_time_is_arithmetic_in_a_range():
    assert hours(operations=2 * 165e12 * 3600, devices=Devices("4090", 2)) == pytest.approx((1 / 0.45, 1 / 0.15))


def test_devices_are_read_from_the_command_line():
    assert parse_devices("a100-40", None) == Devices("a100-40", 1)
    assert parse_devices("A100x8", "10") == Devices("a100", 8, 10.0)
    assert parse_devices(None, "10/h") is None
    with pytest.raises(InputError, match="--gpu 4o90: unknown device"):
        parse_devices("4o90", None)
    with pytest.raises(InputError, match="--price cheap: not a price"):
        parse_devices(None, "cheap")


def test_the_head_works_on_learnt_tokens_alone():
    config = AutoConfig.for_model(
        "qwen2", hidden_size=64, num_hidden_layers=2, vocab_size=100, tie_word_embeddings=True
    )
    assert operations_per_token(config, 10_000, 0, 0.5) == 6 * (10_000 - 6_400 + 3_200)
