"""Settings are checked before anything is loaded, and every fault names the key and the right word."""

import re
from pathlib import Path

import pytest

from steel_data.errors import InputError
from steel_train.settings import Dpo, Eval, Kto, Lora, Orpo, Settings, Simpo, read_settings

RECIPE = Path("exp.toml")


def test_the_settings_of_the_post_are_one_table():
    settings = read_settings(
        {"model": "m", "epochs": 3, "learning_rate": 2e-5, "micro_batch": 8, "accumulate": 8}, RECIPE
    )
    assert (settings.epochs, settings.method, settings.seeds) == (3, "full", None)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "exp.toml [train]: is missing"),
        ({"epochs": 3}, "model is missing"),
        ({"model": "m", "epoch": 3}, "unknown key 'epoch'. Did you mean 'epochs'?"),
        ({"model": "m", "epochs": "3"}, "epochs = '3': no whole number. Fix: a whole number."),
        ({"model": "m", "epochs": 0}, "epochs = 0: too small. Fix: more than 0."),
        ({"model": "m", "seeds": [1, 1]}, "a seed stands twice"),
        ({"model": "m", "method": "lora", "lora": {"rnk": 4}}, "[train.lora]: unknown key 'rnk'. Did you mean 'rank'?"),
        ({"model": "m", "lora": {"rank": 4}}, "method is 'full'. Fix: method = 'lora'"),
        ({"model": "m", "loss": "al"}, "loss = 'al'"),
        ({"model": "m", "loss": "all", "method": "dpo"}, "does nothing with method = 'dpo', which compares answers"),
        ({"model": "m", "chat_template_kwargs": {"x": [float("nan")]}}, "holds inf or nan. Fix: a finite number"),
        ({"model": {"hidden_size": 4}}, "a table without type"),
        ({"model": {"type": "qwen2"}, "method": "lora"}, "nothing to adapt"),
        ({"model": "m", "precision": "bf-16"}, "precision = 'bf-16'"),
    ],
)
def test_a_fault_is_one_line_that_names_the_place(table, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_settings(table, RECIPE)
    assert "\n" not in str(caught.value)


def test_every_key_is_described():
    for model in (Settings, Lora, Dpo, Orpo, Simpo, Kto, Eval):
        assert all(field.description for field in model.model_fields.values())


def test_every_key_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    for model in (Settings, Lora, Dpo, Orpo, Simpo, Kto, Eval):
        for name, field in model.model_fields.items():
            assert f"| `{name}` |" in page and field.description in page, name
