"""Where a run starts: found or refused by name, told apart by its weights, and able to pack or not."""

import re

import pytest
import torch
from tests.steel_train.toys import model, tokenizer
from transformers import AutoConfig

from steel_data.errors import InputError
from steel_train.models.adapter import adapter
from steel_train.models.dtypes import uses_bf16
from steel_train.models.load import (
    check_vocabulary,
    describe_base,
    fingerprint,
    load_config,
    load_model,
    packs,
    resolve,
)
from steel_train.settings import Settings

TABLE = {"type": "qwen2", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
         "intermediate_size": 32}  # fmt: skip


@pytest.fixture
def recipe(tmp_path):
    return tmp_path / "r.toml"


def test_a_name_is_a_folder_beside_the_recipe_else_a_hub_id(recipe):
    (recipe.parent / "org" / "base").mkdir(parents=True)
    assert resolve("org/base", recipe) == str(recipe.parent / "org" / "base")
    assert resolve("org/other", recipe) == "org/other"
    with pytest.raises(InputError, match=r"model 'a/b/c': no such folder"):
        resolve("a/b/c", recipe)
    (recipe.parent / "run" / "checkpoints" / "step-000005").mkdir(parents=True)
    with pytest.raises(InputError, match=r'is a run, not a model\. Fix: model = "run/checkpoints/step-000005"'):
        resolve("run", recipe)


def test_a_table_makes_a_config_with_room_for_every_token(recipe):
    settings = Settings(model=TABLE)
    assert load_config(settings, recipe, 401).vocab_size == 448  # a multiple of 64
    assert load_config(Settings(model={**TABLE, "vocab_size": 1000}), recipe, 401).vocab_size == 1000
    for key, message in (("type", "unknown type 'qwen22'. Did you mean 'qwen2'"), ("hiden_size", "unknown key")):
        with pytest.raises(InputError, match=re.escape(message)):
            load_config(Settings(model={**TABLE, key: "qwen22"}), recipe, 401)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("hidden_size", True, "hidden_size = true: no whole number. Fix: a whole number such as 4096."),
        ("num_hidden_layers", "two", "num_hidden_layers = 'two': no whole number."),
        ("vocab_size", True, "vocab_size = true: no whole number."),
        ("rms_norm_eps", True, "rms_norm_eps = true: no number. Fix: a number such as 1e-06."),
        ("tie_word_embeddings", 1, "tie_word_embeddings = 1: neither true nor false."),
        ("hidden_size", -4, "hidden_size = -4: too small. Fix: more than 0."),
    ],
)
def test_a_value_of_another_type_in_the_table_is_refused(recipe, key, value, said):
    with pytest.raises(InputError, match=re.escape(f"[train] model: {said}")):
        load_config(Settings(model={**TABLE, key: value}), recipe, 401)


def test_the_steel_architecture_is_known_by_name(recipe):
    table = {**TABLE, "type": "steel", "mlp_div_ratio": 4}
    config = load_config(Settings(model=table), recipe, 64)
    assert config.model_type == "steel"
    assert not packs(Settings(model=table), config, recipe), "it mixes over the row"
    with pytest.raises(InputError, match="steel cannot keep rows apart"):
        packs(Settings(model=table, packing=True), config, recipe)


def test_rows_are_packed_where_the_model_keeps_them_apart(recipe):
    config = load_config(Settings(model=TABLE), recipe, 64)
    assert packs(Settings(model=TABLE), config, recipe)
    assert not packs(Settings(model=TABLE, packing=False), config, recipe)


def test_a_model_from_scratch_is_the_same_for_the_same_seed(recipe):
    settings = Settings(model=TABLE)
    config = load_config(settings, recipe, 64)
    one, again, other = (
        load_model(settings, config, recipe, packed, seed) for packed, seed in ((1, 1), (0, 1), (1, 2))
    )
    assert fingerprint(one) == fingerprint(again) != fingerprint(other)


def test_a_fingerprint_sees_one_weight_and_its_type():
    net = model()
    before = fingerprint(net)
    with torch.no_grad():
        net.model.norm.weight[3] += 1e-6
    changed = fingerprint(net)
    assert len({before, changed, fingerprint(net.bfloat16())}) == 3


def test_bases_of_one_architecture_are_alike_and_others_are_not(recipe):
    settings = Settings(model=TABLE)
    bases = [describe_base(model(layers=layers), settings, recipe) for layers in (2, 2, 3)]
    assert bases[0].architecture == bases[1].architecture != bases[2].architecture
    assert bases[0].name == "qwen2 from scratch" and bases[0].history == []
    base = recipe.parent / "base"
    model().save_pretrained(base)
    for damage in ("{", "[]", '{"base": 3}'):
        (base / "steel.json").write_text(damage)
        with pytest.raises(InputError, match=r"steel\.json: cannot be read: .*Fix: copy the checkpoint again"):
            describe_base(model(), Settings(model=str(base)), recipe)


def test_a_tokenizer_with_more_ids_than_rows_is_refused(recipe):
    entries = len(tokenizer())
    check_vocabulary(entries, tokenizer(), recipe)
    with pytest.raises(InputError, match=f"largest id is {entries - 1}, the model has {entries - 1} embedding rows"):
        check_vocabulary(entries - 1, tokenizer(), recipe)


def test_precision_and_adapter_follow_the_settings():
    assert uses_bf16(Settings(model="m", precision="bf16")) and not uses_bf16(Settings(model="m", precision="fp32"))
    assert adapter(Settings(model="m"), None, []) is None
    made = adapter(Settings(model="m", method="lora", lora={"rank": 4, "targets": ["q_proj"]}), None, [])
    assert (made.r, made.target_modules) == (4, {"q_proj"})
    assert adapter(Settings(model="m", method="lora"), None, []).target_modules == "all-linear"


def test_a_folder_that_is_no_model_is_named(recipe):
    (recipe.parent / "empty").mkdir()
    with pytest.raises(InputError, match="model 'empty' cannot be loaded"):
        load_config(Settings(model="empty"), recipe, 64)
    with pytest.raises(InputError, match="model 'empty' cannot be loaded"):
        load_model(Settings(model="empty"), AutoConfig.for_model("qwen2"), recipe, False, 0)
