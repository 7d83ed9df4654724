"""How far a proxy orders arms as its model does, and that both are trained on the same rows."""

import numpy as np
import pytest
from tests.steel_eval.mix.sources import RECIPE, SEARCH, world

from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.mixture.manifest import read_manifest
from steel_eval.mix.rank import own_tables, rank_agreement, rank_arms
from steel_eval.mix.search import prepare_search, run_design

SMALLER = 'proxy = { type = "qwen2", hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 2, intermediate_size = 32, vocab_size = 400, max_position_embeddings = 256, tie_word_embeddings = true }\n'


def test_equal_orders_agree_wholly_but_not_with_certainty():
    value, low, high = rank_agreement(np.arange(6.0), np.arange(6.0) ** 3)
    assert value == 1 and 0.4 < low < 0.9 < high <= 1
    assert rank_agreement(np.arange(6.0), -np.arange(6.0))[0] == -1
    assert rank_agreement(np.arange(40.0), np.arange(40.0))[1] > low
    assert rank_agreement(np.arange(6.0), np.ones(6)) == (0.0, -1.0, 1.0)


def test_intervals_hold_a_known_correlation():
    """Bivariate normal: Spearman's correlation is 6 / pi arcsin(r / 2)."""
    rng, r = np.random.default_rng(0), 0.8
    truth, held = 6 / np.pi * np.arcsin(r / 2), 0
    for _ in range(400):
        a, b = rng.standard_normal((2, 12))
        _, low, high = rank_agreement(a, r * a + np.sqrt(1 - r**2) * b)
        held += low <= truth <= high
    assert 0.91 <= held / 400 <= 0.98


def test_without_another_model_there_is_nothing_to_compare(tmp_path):
    search = prepare_search(world(tmp_path), None, tmp_path / "out", Local())
    with pytest.raises(InputError, match=r"proxy: is missing, and --rank compares it"):
        own_tables(search)


@pytest.mark.slow
def test_some_arms_are_trained_as_both_on_the_same_rows(tmp_path):
    path = world(tmp_path, RECIPE, SEARCH.replace("tokens = 3000", "tokens = 1500") + SMALLER)
    search = prepare_search(path, None, tmp_path / "out", Local())
    tables = own_tables(search)
    assert tables["train"]["model"]["hidden_size"] == 32 and search.pool.tables["train"]["model"]["hidden_size"] == 16
    found = rank_arms(search, tables, run_design(search), ["chat", "exam"], 5)
    assert len(found["arms"]) == 5 and found["proxy"] == sorted(found["proxy"]) and found["failed"] == {}
    assert -1 <= found["low"] <= found["spearman"] <= found["high"] <= 1
    for name in found["arms"]:
        one, other = (read_manifest(tmp_path / "out" / n / "mixture") for n in (name, f"own-{name}"))
        assert one["content_sha256"] == other["content_sha256"]
    assert len(list((tmp_path / "out").glob("own-arm-*/seed-*/result.json"))) == 5
