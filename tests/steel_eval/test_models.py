"""Checkpoints: found in every trainer's layout, named by what they hold, swapped only where they fit."""

import shutil
from importlib.util import find_spec
from types import SimpleNamespace

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.steel_eval import toys

from steel_data.errors import InputError
from steel_eval.models import (
    Opening,
    check,
    checkpoint_fingerprint,
    context_length,
    find_checkpoints,
    load,
    open_tokenizer,
    read_weights,
    scoring_dtype,
    swap,
    training_of,
    weights_fingerprint,
)
from steel_eval.tokenizer import load_tokenizer, tokenizer_fingerprint


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (("checkpoint-5", "checkpoint-10", "."), ["checkpoint-5", "checkpoint-10"]),  # LLaMA-Factory, the Trainer
        (("v0-20260101/checkpoint-5",), ["v0-20260101/checkpoint-5"]),  # ms-swift
        (
            ("seed-1/checkpoints/step-000005", "seed-2/checkpoints/step-000005"),
            ["seed-1/step-000005", "seed-2/step-000005"],
        ),
    ],
)
def test_run_folders_of_other_trainers(toy_checkpoint, tmp_path, layout, names):
    for place in layout:
        shutil.copytree(toy_checkpoint, tmp_path / "run" / place, dirs_exist_ok=True)
    (tmp_path / "run/checkpoint-99").mkdir()  # being written: no weights yet
    found, is_run = find_checkpoints(str(tmp_path / "run"))
    assert is_run
    assert [c.name for c in found] == names


def test_a_place_without_a_checkpoint_is_named(tmp_path):
    (tmp_path / "exp2").mkdir()
    with pytest.raises(InputError, match="Did you mean 'exp2'"):
        find_checkpoints(str(tmp_path / "exp1"))
    with pytest.raises(InputError, match="no checkpoint here"):
        find_checkpoints(str(tmp_path / "exp2"))


def test_a_cpu_scores_in_bfloat16_what_is_stored_so_where_it_multiplies_that_itself(tmp_path, monkeypatch):
    toys.save(tmp_path / "wide")
    toys.model().to(torch.bfloat16).save_pretrained(tmp_path / "narrow")
    for told, wanted in (({"avx512_bf16": True}, "bfloat16"), ({"amx_bf16": True}, "bfloat16"), ({}, "auto")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        assert scoring_dtype(tmp_path / "narrow", "cpu") == wanted
        assert scoring_dtype(tmp_path / "wide", "cpu") == "auto"  # rounded weights would be other weights
        assert scoring_dtype(tmp_path / "narrow", "cpu", "float32") == "float32"
        assert scoring_dtype(tmp_path / "narrow", "cuda:0") == "auto"
    config = tmp_path / "wide/config.json"
    config.write_text(
        config.read_text().replace('"float32"', '"bfloat16"')
    )  # what lies there decides, not what is said
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert scoring_dtype(tmp_path / "wide", "cpu") == "auto"


def test_contents_and_not_names_make_the_fingerprint(toy_checkpoint, tmp_path):
    copy = shutil.copytree(toy_checkpoint, tmp_path / "elsewhere")
    known = checkpoint_fingerprint(toy_checkpoint)
    assert checkpoint_fingerprint(copy) == known == load(copy).fingerprint
    config = orjson.loads((copy / "config.json").read_bytes())
    (copy / "config.json").write_bytes(orjson.dumps(config | {"transformers_version": "0", "dtype": "bfloat16"}))
    assert weights_fingerprint(copy) == known  # says nothing of what is computed
    (copy / "config.json").write_bytes(orjson.dumps(config | {"rope_theta": 7.0}))
    assert weights_fingerprint(copy) != known
    (copy / "config.json").write_bytes(orjson.dumps(config))
    state = load_file(copy / "model.safetensors")
    state["model.norm.weight"][0] += 1e-3
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    assert weights_fingerprint(copy) != known


def test_an_adapters_fingerprint_holds_its_bases(tmp_path):
    base = toys.save(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_bytes(orjson.dumps({"base_model_name_or_path": str(base)}))
    save_file({"lora": torch.zeros(2)}, adapter / "adapter_model.safetensors")
    first = checkpoint_fingerprint(adapter)
    toys.save(base, seed=1)
    assert checkpoint_fingerprint(adapter) != first
    shutil.rmtree(base)
    with pytest.raises(InputError, match=r"its base model .* is not there"):
        checkpoint_fingerprint(adapter)


def test_vocabulary_special_tokens_and_template_are_in_a_tokenizers_fingerprint():
    known = tokenizer_fingerprint(toys.tokenizer())
    assert tokenizer_fingerprint(toys.tokenizer()) == known
    found = {known}
    for change in (
        lambda t: t.add_tokens(["水稻"]), lambda t: setattr(t, "eos_token", "<|endoftext|>"),
        lambda t: setattr(t, "chat_template", "{{ messages }}"),
    ):  # fmt: skip
        tokenizer = toys.tokenizer()
        change(tokenizer)
        found.add(tokenizer_fingerprint(tokenizer))
    assert len(found) == 4


def test_weights_are_swapped_whole_or_not_at_all(toy_checkpoint, tmp_path):
    loaded = load(toy_checkpoint)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    other = read_weights(toys.save(tmp_path / "other", seed=1))
    for bad in (
        {**other, "another": torch.zeros(1)}, {**other, "model.norm.weight": torch.zeros(5)},
        {name: tensor for name, tensor in other.items() if name != "model.norm.weight"},
    ):  # fmt: skip
        assert not swap(loaded, bad)
        assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())
    assert swap(loaded, other)  # without an entry for the tied head
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded.model(ids).logits, load(tmp_path / "other").model(ids).logits)


def test_the_context_is_the_configurations_else_the_tokenizers_else_lm_evals(toy_model):
    tokenizer = toys.tokenizer()
    assert context_length(toy_model, tokenizer) == 2048
    text = SimpleNamespace(get_text_config=lambda: SimpleNamespace(n_positions=None))
    bare = SimpleNamespace(config=text)
    tokenizer.model_max_length = 77
    assert context_length(bare, tokenizer) == 77
    tokenizer.model_max_length = 10**30
    assert context_length(bare, tokenizer) == 2048


def test_what_is_beside_the_weights(toy_checkpoint, tmp_path):
    with pytest.raises(InputError, match="no tokenizer beside the weights"):
        load_tokenizer(tmp_path)
    assert training_of(toy_checkpoint) is None
    (tmp_path / "steel.json").write_text('{"step": 3}', encoding="utf-8")
    assert training_of(tmp_path) == {"step": 3}


def test_steel_llms_architecture_is_known_to_whoever_scores_it(tmp_path):
    from steel_train.models.steel import SteelConfig, SteelForCausalLM

    config = SteelConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    SteelForCausalLM(config).save_pretrained(tmp_path)
    toys.tokenizer().save_pretrained(tmp_path)
    assert type(load(tmp_path).model).__name__ == "SteelForCausalLM"


QWEN3 = toys.CHAT.replace(
    "assistant\n",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
)


def rendered(tokenizer, **values):
    turns = [{"role": "user", "content": "?"}]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **values)


@pytest.mark.parametrize("template", [QWEN3, QWEN3.replace("enable_thinking", "thinking"), "\n" + QWEN3])
def test_thinking_is_switched_by_the_variable_that_the_template_has(toy_checkpoint, tmp_path, template):
    folder = shutil.copytree(toy_checkpoint, tmp_path / "m")
    (folder / "chat_template.jinja").write_text(template)
    plain = open_tokenizer(folder)
    for said, value in (("on", True), ("off", False)):
        found = open_tokenizer(folder, Opening(thinking=said))
        switch = "enable_thinking" if "enable_thinking" in template else "thinking"
        assert rendered(found) == rendered(plain, **{switch: value})
        assert tokenizer_fingerprint(found) != tokenizer_fingerprint(plain)  # another key of the store
    assert rendered(found) != rendered(plain)
    # what the model was trained with, unless something else is asked for
    (folder / "steel.json").write_text(orjson.dumps({"train": {"chat_template_kwargs": {switch: False}}}).decode())
    assert rendered(open_tokenizer(folder)) == rendered(plain, **{switch: False})
    assert rendered(open_tokenizer(folder, Opening(thinking="on"))) == rendered(plain)


def test_values_reach_loops_and_macros_of_a_template(toy_checkpoint, tmp_path):
    folder = shutil.copytree(toy_checkpoint, tmp_path / "m")
    (folder / "chat_template.jinja").write_text(
        "{% macro say(m) %}{{ m.content }}{{ mode.a[0] if mode else 'none' }}{% endmacro %}"
        "{% for m in messages %}{{ say(m) }}{{ date }}{{ quiet }}{% endfor %}"
    )
    values = {"mode": {"a": ["x'\"y\\n"]}, "date": None, "quiet": True}
    found = open_tokenizer(folder, Opening(chat_template_kwargs=values))
    assert rendered(found) == rendered(open_tokenizer(folder), **values) == "?x'\"y\\nNoneTrue"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"thinking": "off"}, "has no switch for thoughts"),
        ({"chat_template_kwargs": {"add_generation_promt": True}}, "Did you mean 'add_generation_prompt'"),
        ({"tokenizer": "no/such/place"}, "no such folder, and no hub id"),
        ({"max_length": 4096}, "has 2048 tokens. Fix: at most so many"),
        ({"base": "x"}, "is a whole model"),
    ],
)  # fmt: skip
def test_what_a_model_cannot_be_opened_with_is_named(toy_checkpoint, how, message):
    with pytest.raises(InputError, match=message):
        load(toy_checkpoint, how=Opening(**how))


def test_an_opening_changes_what_it_names(toy_checkpoint, tmp_path):
    other = toys.tokenizer()
    other.add_tokens(["水稻"])
    other.save_pretrained(tmp_path / "words")
    loaded = load(toy_checkpoint, how=Opening(tokenizer=str(tmp_path / "words"), max_length=300))
    assert (len(loaded.tokenizer), loaded.max_length) == (len(other), 300)
    with pytest.raises(InputError, match="--thinking perhaps: unknown"):
        Opening(thinking="perhaps")
    with pytest.raises(InputError, match="only with a hub id"):
        find_checkpoints(str(toy_checkpoint), "main")


def test_a_checkpoint_is_looked_at_without_its_weights(toy_checkpoint, tmp_path):
    folder = shutil.copytree(toy_checkpoint, tmp_path / "m")
    check(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config\.json: holds a list"):
        check(folder)


def test_code_beside_the_weights_is_part_of_what_a_model_is(toy_checkpoint, tmp_path):
    folder = shutil.copytree(toy_checkpoint, tmp_path / "own")
    config = orjson.loads((folder / "config.json").read_bytes())
    code = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (folder / "config.json").write_bytes(orjson.dumps(config | {"model_type": "own", "auto_map": code}))
    (folder / "configuration_own.py").write_text(
        "from transformers import Qwen2Config\n\n\nclass OwnConfig(Qwen2Config):\n    model_type = 'own'\n"
    )
    model = (
        "from transformers import Qwen2ForCausalLM\n\nfrom .configuration_own import OwnConfig\n\n\n"
        "class OwnForCausalLM(Qwen2ForCausalLM):\n    config_class = OwnConfig\n"
    )
    found = set()
    for number, text in enumerate((model, model + "    changed = True\n")):
        own = shutil.copytree(folder, tmp_path / f"own{number}")  # transformers keeps the code of a folder it has seen
        (own / "modeling_own.py").write_text(text)
        found.add(load(own, how=Opening(trust_remote_code=True)).fingerprint)
    assert len(found) == 2 and checkpoint_fingerprint(folder) not in found
    with pytest.raises(InputError, match="--trust-remote-code"):
        load(tmp_path / "own0")


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="it is installed")
def test_the_library_of_a_quantised_model_is_named_where_it_is_missing(toy_checkpoint, tmp_path):
    folder = shutil.copytree(toy_checkpoint, tmp_path / "m")
    config = orjson.loads((folder / "config.json").read_bytes())
    said = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_bytes(orjson.dumps(config | {"quantization_config": said}))
    with pytest.raises(InputError, match="bitsandbytes") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert read_weights(folder) is None  # never swapped in
