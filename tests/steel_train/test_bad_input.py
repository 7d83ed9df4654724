"""What a user can put right ends in one line that says how, before or without losing anything."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.steel_train.conftest import write_recipe
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


@pytest.mark.parametrize("fault", ["a tensor too few", "an adapter", "a pickle", "a broken configuration"])
def test_a_base_that_is_not_whole_is_refused_before_a_row_is_read(tmp_path, shared_mixture, fault):
    from steel_train.run import run

    folder = save_model(tmp_path / "base")
    state = load_file(folder / "model.safetensors")
    if fault == "a tensor too few":
        del state["model.norm.weight"]
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    elif fault == "an adapter":
        (folder / "adapter_config.json").write_text("{}")
    elif fault == "a pickle":
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    else:
        (folder / "config.json").write_text("{")
    said = {"a tensor too few": r"no model\.norm\.weight", "an adapter": "is an adapter", "a pickle": "are a pickle",
            "a broken configuration": r"config\.json: cannot be read as JSON"}[fault]  # fmt: skip
    recipe = write_recipe(tmp_path, shared_mixture, model='model = "base"')
    with pytest.raises(InputError, match=said) as caught:
        run(recipe, tmp_path / "no-mixture-here", tmp_path / "out", None)
    assert "model 'base' cannot be loaded" in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_does_not_go_on_from_weights_that_lack_a_tensor(train, tmp_path):
    folder = train(max_steps="10", save_every="5")
    (folder / "result.json").unlink()
    (folder / "checkpoints/step-000010").rename(tmp_path / "last")
    checkpoint = folder / "checkpoints/step-000005"
    state = load_file(checkpoint / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, checkpoint / "model.safetensors", {"format": "pt"})
    # as an earlier steel described it: by the sizes of its files alone
    said = json.loads((checkpoint / "steel.json").read_text())
    said["files"]["model.safetensors"] = (checkpoint / "model.safetensors").stat().st_size
    said["weights_sha256"] = {}
    (checkpoint / "steel.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=r"step-000005: its weights do not fit the model: no model\.norm\.weight"):
        train(max_steps="10", save_every="5")


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


def test_neighbours_of_another_base_are_one_warning_a_base(tmp_path):
    """Twenty-six runs side by side were fifty-two lines: each neighbour, and each twice."""
    from steel_train.loop.session import other_bases
    from steel_train.models.load import Base

    for i in range(5):
        (tmp_path / f"runs/r{i}").mkdir(parents=True)
        about = {"name": "b" if i < 3 else "c", "fingerprint": "f" * 8 if i < 3 else "e" * 8, "architecture": "a"}
        (tmp_path / f"runs/r{i}/run.json").write_text(json.dumps({"base": about, "identity": {"train": {}}}))
    found = other_bases(tmp_path / "runs/mine", Base("mine", "d" * 32, "a"))
    assert len(found) == 2
    assert found[0].startswith(f"{tmp_path}/runs/r0 and 2 more start from b (ffffffff), this run from mine (dddddddd)")
    (about_c,) = other_bases(tmp_path / "runs/r0", Base("b", "f" * 8, "a"))
    assert "runs/r3 and 1 more start from c" in about_c


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would run")
def test_triton_without_a_gpu_is_refused_before_a_row_is_read(tmp_path, shared_mixture):
    from steel_train.run import run

    recipe = write_recipe(tmp_path, shared_mixture, kernels='"triton"')
    with pytest.raises(InputError, match=r'r\.toml \[train\]: kernels = "triton", but .*\. Fix: kernels = "auto"'):
        run(recipe, tmp_path / "no such mixture", tmp_path / "runs/r", None)
    assert not (tmp_path / "runs").exists()
