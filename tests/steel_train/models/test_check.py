"""What can be told before a row is read is told in one line: adapter, positions, loggers, code of others."""

import json
import re

import pytest
from tests.steel_train.conftest import write_recipe
from tests.steel_train.test_bad_input import save_model

from steel_data.errors import InputError
from steel_train.run import run

BASE = 'model = "base"'
LORA = {"model": BASE, "method": '"lora"'}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"report_to": '"tensorbord"'}, "report_to: unknown logger 'tensorbord'. Did you mean 'tensorboard'"),
        ({"report_to": '["comet_ml"]'}, "report_to: comet_ml is not installed. Fix: pip install comet_ml, or report_to"),
        ({**LORA, "lora": '{ targets = ["q_prj"] }'}, "[train.lora]: targets: the model has no 'q_prj'. Did you mean 'q_proj'"),
        ({**LORA, "lora": '{ targets = ["lm_head"] }'}, 'whose weight the loss is computed with. Fix: modules_to_save = ["lm_head"]'),
        ({**LORA, "lora": '{ modules_to_save = ["head"] }'}, "modules_to_save: the model has no 'head'. Did you mean 'lm_head'"),
        ({"model": 'model = { type = "gpt2", n_embd = 32, n_layer = 1, n_head = 2, n_positions = 128 }'},
         "max_length = 256, but the model has 128 positions. Fix: max_length = 128"),
    ],
)  # fmt: skip
def test_it_is_told_before_data_are_read(tmp_path, shared_mixture, settings, message):
    save_model(tmp_path / "base")
    recipe = write_recipe(tmp_path, shared_mixture, **settings)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        run(recipe, tmp_path / "no-mixture-here", tmp_path / "out", None)
    assert "\n" not in str(caught.value)


def test_rows_longer_than_a_rotary_model_knows_are_a_warning(tmp_path, shared_mixture, capsys):
    recipe = write_recipe(tmp_path, shared_mixture, max_length="600")
    with pytest.raises(InputError, match="no-mixture-here"):
        run(recipe, tmp_path / "no-mixture-here", tmp_path / "out", None)
    assert "warning: max_length = 600, but the model has 512 positions" in capsys.readouterr().out


def test_code_of_others_is_neither_run_nor_asked_about(tmp_path, shared_mixture, monkeypatch):
    """With a terminal at hand transformers would ask; an answer of ours must not be waited for."""
    folder = save_model(tmp_path / "base")
    said = json.loads((folder / "config.json").read_text())
    said |= {"model_type": "odd", "auto_map": {"AutoConfig": "odd.Config", "AutoModelForCausalLM": "odd.Model"}}
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "odd.py").write_text("raise SystemExit('was run')")

    def asked(*_):
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", asked)
    recipe = write_recipe(tmp_path, shared_mixture, model=BASE)
    with pytest.raises(InputError, match="model 'base' cannot be loaded") as caught:
        run(recipe, tmp_path / "no-mixture-here", tmp_path / "out", None)
    assert "code of its own" in str(caught.value) and "\n" not in str(caught.value)
    assert "--trust-remote-code" not in str(caught.value), "an option that training does not have"
