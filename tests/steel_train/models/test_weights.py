"""Weights that do not fit are an error that names them, never random numbers in their place."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from steel_data.errors import InputError
from steel_train.models.convert import convert
from steel_train.models.weights import adapter_shapes, base_of, load_adapter, load_full

SMALL = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 40, "max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=request.param)).save_pretrained(folder)
    return folder


def edited(whole, folder, edit):
    shutil.copytree(whole, folder)
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_whole_model_loads(whole):
    model = load_full(whole)
    state = load_file(whole / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"]
)
def test_a_missing_tensor_is_named(whole, tmp_path, name):
    folder = edited(whole, tmp_path / "m", lambda state: state.pop(name))
    with pytest.raises(InputError, match=f"do not fit the model: no .*{name.replace('.', '[.]')}"):
        load_full(folder)


def test_a_tensor_too_many_is_named(whole, tmp_path):
    def edit(state):
        state["model.layers.2.mlp.up_proj.weight"] = state["model.layers.1.mlp.up_proj.weight"].clone()

    with pytest.raises(InputError, match=r"no place for model\.layers\.2\.mlp\.up_proj\.weight"):
        load_full(edited(whole, tmp_path / "m", edit))


def test_what_is_computed_may_stand_in_the_file(whole, tmp_path):
    def edit(state):
        state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    assert load_full(edited(whole, tmp_path / "m", edit)) is not None


def test_a_tensor_of_another_shape_is_an_error(whole, tmp_path):
    def edit(state):
        state["model.layers.0.mlp.up_proj.weight"] = torch.zeros(31, 16)

    with pytest.raises(InputError, match=r"model\.layers\.0\.mlp\.up_proj\.weight|shape"):
        load_full(edited(whole, tmp_path / "m", edit))


def test_a_cut_file_and_a_broken_configuration_are_one_line(whole, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(whole, folder)
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match="cannot be"):
        load_full(folder)
    for text in ("", "{", '"text"', '{"model_type": "nobody"}', "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(InputError) as error:
            load_full(folder)
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SMALL)).save_pretrained(folder)
    return folder


def adapter(base, folder, **options):
    model = get_peft_model(
        LlamaForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"], **options)
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model.eval()(torch.arange(8)[None]).logits


def test_an_adapter_is_put_in_place_whole(base, tmp_path):
    folder = adapter(base, tmp_path / "a")
    assert not torch.allclose(logits(load_adapter(load_full(base), folder)), logits(load_full(base)))
    assert len(adapter_shapes(folder)) == 4


def renamed(folder, edit):
    state = load_file(folder / "adapter_model.safetensors")
    save_file(edit(state), folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def test_an_adapter_that_fits_nothing_is_not_its_base(base, tmp_path):
    folder = renamed(
        adapter(base, tmp_path / "a"), lambda s: {k.replace("model.model", "model.other"): v for k, v in s.items()}
    )
    with pytest.raises(InputError, match=r"the adapter does not fit the model: no .*lora_A"):
        load_adapter(load_full(base), folder)


def test_a_key_too_few_or_too_many_is_named(base, tmp_path):
    few = renamed(adapter(base, tmp_path / "few"), lambda s: dict(sorted(s.items())[1:]))
    with pytest.raises(InputError, match="no base_model"):
        load_adapter(load_full(base), few)
    many = renamed(
        adapter(base, tmp_path / "many"), lambda s: {**s, "base_model.model.other.lora_A.weight": torch.ones(2, 16)}
    )
    with pytest.raises(InputError, match=r"no place for base_model\.model\.other\.lora_A\.weight"):
        load_adapter(load_full(base), many)


def test_an_adapter_of_another_width_is_one_line(base, tmp_path):
    folder = renamed(
        adapter(base, tmp_path / "a"), lambda s: {k: v.repeat(1, 2) if "lora_A" in k else v for k, v in s.items()}
    )
    with pytest.raises(InputError) as error:
        load_adapter(load_full(base), folder)
    assert "\n" not in str(error.value)


def test_a_vocabulary_that_grew_comes_along(base, tmp_path):
    model = LlamaForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(48)
    tuned = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    )
    tuned.save_pretrained(tmp_path / "a")
    found = load_adapter(load_full(base), tmp_path / "a")
    assert logits(found).shape[-1] == 48
    assert torch.allclose(logits(found), logits(tuned))


def test_a_folder_without_an_adapter_is_one_line(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(InputError, match="no adapter_model"):
        adapter_shapes(tmp_path)


def test_a_pickle_is_refused_and_convert_makes_it_readable(whole, base, tmp_path):
    model = load_full(whole)
    shutil.copytree(whole, tmp_path / "m")
    (tmp_path / "m/model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "m/pytorch_model.bin")
    with pytest.raises(InputError, match=r"a pickle \(pytorch_model\.bin\).*steel convert"):
        load_full(tmp_path / "m")
    made = convert(tmp_path / "m")
    assert made == tmp_path / "m-safetensors"
    assert torch.equal(logits(load_full(made)), logits(model))
    folder = adapter(base, tmp_path / "a")
    before = logits(load_adapter(load_full(base), folder))
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"adapter is a pickle .*steel convert"):
        load_adapter(load_full(base), folder)
    assert torch.equal(logits(load_adapter(load_full(base), convert(folder))), before)


def test_an_adapter_is_no_model(base, tmp_path):
    folder = adapter(base, tmp_path / "a")
    with pytest.raises(InputError, match="is an adapter, not a model"):
        load_full(folder)  # transformers itself would load its base, and the adapter on top


def test_names_and_shapes_are_checked_without_the_weights(whole, tmp_path):
    assert next(load_full(whole, device_map="meta").parameters()).device.type == "meta"
    broken = edited(whole, tmp_path / "m", lambda state: state.pop("model.norm.weight"))
    with pytest.raises(InputError, match=r"no model\.norm\.weight"):
        load_full(broken, device_map="meta")


@pytest.mark.parametrize(
    ("text", "said"), [("", "cannot be read as JSON"), ('"text"', "holds a str"), ("[]", "a list")]
)
def test_a_configuration_that_is_none_is_named(whole, tmp_path, text, said):
    shutil.copytree(whole, tmp_path / "m")
    (tmp_path / "m/config.json").write_text(text)
    with pytest.raises(InputError, match=rf"config\.json: .*{said}"):
        load_full(tmp_path / "m")


def test_code_beside_the_weights_runs_only_where_it_is_asked_for(whole, tmp_path, capfd):
    folder = tmp_path / "m"
    shutil.copytree(whole, folder)
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": code}))
    (folder / "configuration_own.py").write_text(
        "from transformers import Qwen2Config\nclass OwnConfig(Qwen2Config):\n    model_type = 'own'\n"
    )
    (folder / "modeling_own.py").write_text(
        "from transformers import Qwen2ForCausalLM\nfrom .configuration_own import OwnConfig\n"
        "class OwnForCausalLM(Qwen2ForCausalLM):\n    config_class = OwnConfig\n"
    )
    with pytest.raises(InputError, match="--trust-remote-code runs it; read it first"):
        load_full(folder)
    assert "y/N" not in capfd.readouterr().out  # nobody is asked
    found = load_full(folder, trust_remote_code=True)
    assert type(found).__name__ == "OwnForCausalLM" and torch.equal(logits(found), logits(load_full(whole)))


def test_an_adapters_base_is_found_or_named(base, tmp_path):
    folder = adapter(base, tmp_path / "a")
    said = json.loads((folder / "adapter_config.json").read_text())
    for name, found in ((str(base), str(base)), ("owner/name", "owner/name")):
        (folder / "adapter_config.json").write_text(json.dumps(said | {"base_model_name_or_path": name}))
        assert base_of(folder) == found
    (folder / "adapter_config.json").write_text(json.dumps(said | {"base_model_name_or_path": "no/such/place"}))
    with pytest.raises(InputError, match="its base model 'no/such/place' is not there"):
        base_of(folder)
