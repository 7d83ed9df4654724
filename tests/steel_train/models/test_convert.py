"""A checkpoint in the published layout becomes one that loads without remote code."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.steel_train.models.test_steel import PUBLISHED_KEYS, tiny, tokens
from transformers import AutoModelForCausalLM

from steel_data.errors import InputError
from steel_train.models.convert import convert


def publish(folder, form="safetensors"):
    """Write what is published: config of type qwen2 with remote code, weights under their names, a tokenizer."""
    model = tiny()
    folder.mkdir()
    remote = {"model_type": "qwen2", "auto_map": {"AutoConfig": "configuration_steel.Qwen2Config"}}
    (folder / "config.json").write_text(json.dumps(PUBLISHED_KEYS | remote | {"_attn_implementation": "sdpa"}))
    (folder / "modeling_steel.py").write_text("raise SystemExit")
    (folder / "tokenizer_config.json").write_text("{}")
    state = {name: x.clone() for name, x in model.state_dict().items()}
    if form == "safetensors":
        save_file(state, folder / "model.safetensors")
    else:
        names = sorted(state)
        halves = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
        for name, keys in halves.items():
            torch.save({k: state[k] for k in keys}, folder / name)
        where = {"weight_map": {k: name for name, keys in halves.items() for k in keys}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(where))
    return model


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_the_converted_folder_loads_with_the_auto_class(tmp_path, form):
    model = publish(tmp_path / "published", form)
    out = convert(tmp_path / "published")
    assert out == tmp_path / "published-steel"
    assert not list(out.glob("*.py")) and (out / "tokenizer_config.json").exists()
    loaded, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True, dtype=torch.float32)
    assert type(loaded).__name__ == "SteelForCausalLM"
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(loaded.eval()(tokens()).logits, model(tokens()).logits)


def test_what_is_no_steel_checkpoint_is_refused_in_one_line(tmp_path):
    publish(tmp_path / "p")
    config, weights = tmp_path / "p" / "config.json", tmp_path / "p" / "model.safetensors"
    text, state = config.read_text(), load_file(weights)

    def refused(what):
        with pytest.raises(InputError, match=what) as caught:
            convert(tmp_path / "p", tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert [p.name for p in tmp_path.iterdir()] == ["p"], "nothing half-written stays"

    config.write_text("[]")
    refused("config.json: holds a list, not a table")
    config.write_text(text.replace("FFN_type", "ffn"))
    refused("not a Steel-LLM model")
    config.write_text(text.replace("senet", "mlp"))
    refused("not implemented")
    config.write_text(text)
    save_file({k: x for k, x in state.items() if k != "model.layers.1.mlp.phi"}, weights)
    refused(r"1 weights are missing, the first: model\.layers\.1\.mlp\.phi")
    save_file(state | {"model.layers.1.mlp.phy": torch.zeros(1)}, weights)
    refused("Did you mean 'model.layers.1.mlp.phi'")
    save_file(state | {"model.norm.weight": torch.zeros(3)}, weights)
    refused(r"model.norm.weight has shape \[3\]")
    weights.write_bytes(b"cut off")
    refused("intact download")
    weights.unlink()
    refused("no weights")


def test_an_existing_output_is_not_replaced(tmp_path):
    publish(tmp_path / "p")
    convert(tmp_path / "p", tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        convert(tmp_path / "p", tmp_path / "out")
