"""What a user can put right ends in one line that says how, before or without losing anything."""

import re

import pytest
import torch
from tests.steel_train.toys import tokenizer

from steel_data.errors import InputError
from steel_train.loop.checkpoints import resumable


def save_model(folder, tokenizer_too=True, vocab=448):
    from tests.steel_train.toys import model

    model(vocab=vocab).save_pretrained(folder)
    if tokenizer_too:
        tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": "8"}, "no row is left to learn from (no label left within max_length"),
        ({"model": 'model = "no/such/folder"'}, "model 'no/such/folder': no such folder"),
        ({"model": 'model = { type = "qwen22" }'}, "unknown type 'qwen22'. Did you mean 'qwen2'"),
        ({"model": 'model = { type = "qwen2", hiden_size = 3 }'}, "unknown key 'hiden_size'. Did you mean 'hidden_size'"),
        ({"chat_template": '"none.jinja"'}, "chat_template none.jinja: No such file"),
        ({"epoch": "3"}, "unknown key 'epoch'. Did you mean 'epochs'"),
        ({"model": 'model = { type = "mamba", hidden_size = 8, num_hidden_layers = 1 }', "packing": "true"},
         "packing = true, but mamba cannot keep rows apart"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named(train, settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        train(**settings)


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused(train, tmp_path):
    save_model(tmp_path / "small", vocab=300)
    with pytest.raises(InputError, match=r"largest id is \d+, the model has 300 embedding rows"):
        train(model='model = "small"')


def test_a_missing_chat_template_is_refused(train, tmp_path):
    folder = save_model(tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        train(model='model = "bare"')


def test_a_loss_that_is_no_number_stops_and_names_the_rows(train, tmp_path, monkeypatch):
    import steel_train.loop.trainer as trainer

    real, passes = trainer.negative_log_likelihoods, [0]

    def poisoned(*args):
        passes[0] += 1
        losses_E = real(*args)
        return losses_E + torch.tensor([float("nan")] + [0.0] * (len(losses_E) - 1)) if passes[0] == 14 else losses_E

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "negative_log_likelihoods", poisoned)
        with pytest.raises(InputError, match=r"the loss is not a number at step 7; rows: [0-9a-f]{32}\. .*step-000005"):
            train(packing="false")
    assert resumable(tmp_path / "runs" / "r").name == "step-000005"
    train(packing="false")  # and the same command goes on


def test_a_base_that_is_a_run_is_explained_and_a_checkpoint_brings_its_history(train, tmp_path, capsys):
    first = train("first", max_steps="5")
    with pytest.raises(InputError, match="is a run, not a model"):
        train("wrong", model='model = "runs/first"')
    second = train("second", max_steps="2", model='model = "runs/first/checkpoints/step-000005"')
    from steel_train.loop.checkpoints import read_facts

    facts = read_facts(second / "checkpoints" / "step-000002")
    assert [h["step"] for h in facts["base"]["history"]] == [5]
    # the slip of the post's third experiment: two arms that start from different weights
    assert f"warning: {first} starts from" in capsys.readouterr().out
