"""In which type a base is held, trained and saved; adapters of every form, and one that is trained on."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.steel_train.conftest import BASIC, write_recipe
from tests.steel_train.loop.test_session import interrupt_at, trace
from tests.steel_train.test_bad_input import save_model
from tests.steel_train.toys import model, tokenizer, write_pairs

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_train.loop.checkpoints import read_facts, whole_checkpoints
from steel_train.models.convert import merge_adapter
from steel_train.models.load import fingerprint
from steel_train.models.weights import load_adapter, load_full

BASE = 'model = "base"'
LORA = {"model": BASE, "method": '"lora"', "learning_rate": "2e-2"}


def save_narrow(folder, tied=False):
    """Save a base in bfloat16, as most are published."""
    net = model(vocab=448).bfloat16()
    if tied:
        net.config.tie_word_embeddings = True
        net.tie_weights()
    net.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def types(file):
    with safe_open(file, "pt") as stored:
        return {stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118


def last(folder):
    return whole_checkpoints(folder)[-1]


def logits(net):
    with torch.no_grad():
        return net.float().eval()(torch.tensor([[5, 6, 7, 8]])).logits


def test_a_frozen_base_keeps_its_type_where_bf16_is_computed(train, tmp_path, monkeypatch):
    from steel_train.loop import session

    held, real = {}, session.SteelTrainer.training_step

    def looked(self, net, *args, **options):
        for p in net.parameters():
            held.setdefault(p.requires_grad, set()).add(p.dtype)
        return real(self, net, *args, **options)

    monkeypatch.setattr(session.SteelTrainer, "training_step", looked)
    save_narrow(tmp_path / "base")
    folder = train(**LORA, precision='"bf16"', max_steps="5", packing="true")
    assert held == {False: {torch.bfloat16}, True: {torch.float32}}
    merged = merge_adapter(last(folder))
    assert types(merged / "model.safetensors") == {"BF16"}
    assert json.loads((merged / "config.json").read_text())["dtype"] == "bfloat16"
    held.clear()
    train("exact", **LORA, precision='"fp32"', max_steps="5")
    assert held == {False: {torch.float32}, True: {torch.float32}}
    folder = train("wide", **LORA, dtype='"float32"', max_steps="5")
    assert types(merge_adapter(last(folder)) / "model.safetensors") == {"F32"}
    made, other = last(folder), tmp_path / "other"
    said = json.loads((made / "steel.json").read_text())
    for damaged in ({**said["train"], "dtype": "float64"}, {**said["train"], "dtype": []}, []):
        (made / "steel.json").write_text(json.dumps({**said, "train": damaged}))
        with pytest.raises(InputError, match=r"steel\.json: train\.dtype is .*no type of weights\. Fix: copy"):
            merge_adapter(made, other)
        assert not other.exists(), "it was merged in the base's type, without a word"


def test_checkpoints_have_the_type_of_the_base_and_training_goes_on_from_float32(train, tmp_path, monkeypatch):
    """Narrowed for use; beside them, for the newest, the weights that learn, which no loader takes for the model."""
    save_narrow(tmp_path / "base")
    whole = train("whole", model=BASE)
    names = {p.name: sorted(f.name for f in p.glob("model*")) for p in whole_checkpoints(whole)}
    assert names["step-000020"] == ["model.float32", "model.safetensors"] and names["step-000005"] == [
        "model.safetensors"
    ]
    assert types(last(whole) / "model.safetensors") == {"BF16"} and types(last(whole) / "model.float32") == {"F32"}
    assert load_full(last(whole), dtype="auto").dtype == torch.bfloat16
    with monkeypatch.context() as patch:
        interrupt_at(patch, 13)
        with pytest.raises(KeyboardInterrupt):
            train("killed", model=BASE)
    killed = train("killed", model=BASE)
    assert trace(killed) == trace(whole)
    for name in names["step-000020"]:
        assert (last(killed) / name).read_bytes() == (last(whole) / name).read_bytes()
    assert types(last(train("wide", model=BASE, dtype='"float32"', max_steps="2")) / "model.safetensors") == {"F32"}


def test_bfloat16_weights_learn_with_an_optimiser_that_is_named(train, tmp_path):
    save_narrow(tmp_path / "base")
    with pytest.raises(InputError, match=r"dtype = 'bfloat16' loses small updates\. Fix: name the optimizer"):
        train(model=BASE, dtype='"bfloat16"')
    folder = train(model=BASE, dtype='"bfloat16"', optimizer='"adafactor"', learning_rate="1e-2")
    found = [line["loss"] for line in trace(folder)]
    assert found[-1] < found[0] - 0.3 and types(last(folder) / "model.safetensors") == {"BF16"}
    assert not list(last(folder).glob("*.float32"))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "form",
    ["{ dora = true }", "{ rslora = true, rank = 4 }", '{ targets = ["q_proj", "embed_tokens"] }',
     '{ modules_to_save = ["lm_head"] }', '{ modules_to_save = ["embed_tokens", "lm_head"] }'],
)  # fmt: skip
def test_an_adapter_of_any_form_merges_to_what_it_was(train, tmp_path, form, tied):
    save_narrow(tmp_path / "base", tied)
    folder = train(**LORA, lora=form, dtype='"float32"', max_steps="6", save_every="3")
    adapted = load_adapter(load_full(tmp_path / "base", dtype=torch.float32), last(folder))
    merged = load_full(merge_adapter(last(folder)), dtype=torch.float32)
    assert torch.allclose(logits(merged), logits(adapted), atol=1e-4)
    assert not torch.allclose(logits(merged), logits(load_full(tmp_path / "base")), atol=1e-4)


def test_from_an_adapter_on_with_dpo(train, tmp_path):
    """SFT, then DPO on the same adapter: the reference is the model as SFT left it."""
    from steel_train.run import run

    save_model(tmp_path / "base")
    sft = last(train("sft", **LORA, lora="{ rank = 4 }", max_steps="10"))
    write_pairs(tmp_path / "pairs.json", 16)
    table = {**BASIC, "micro_batch": 2, "accumulate": 2, "epochs": 2, "log_every": 1, "learning_rate": "1e-2"}
    text = '[source.pairs]\npath = "pairs.json"\n[train]\nmodel = "{}"\nmethod = "dpo"\nlora = {}\n' + "\n".join(
        f"{k} = {v}" for k, v in table.items()
    )
    recipe = tmp_path / "dpo.toml"
    recipe.write_text(text.format(sft, "{}"), encoding="utf-8")
    mixture = build(load(recipe), out=tmp_path / "mixture", cache=tmp_path / "cache").folder
    run(recipe, mixture, tmp_path / "dpo", None)
    found = trace(tmp_path / "dpo")
    assert found[0]["loss"] == pytest.approx(np.log(2), abs=1e-4) and found[-1]["margin"] > 0.1
    facts = read_facts(last(tmp_path / "dpo"))
    assert facts["train"]["lora"]["rank"] == 4 and [h["step"] for h in facts["base"]["history"]] == [10]
    start = load_adapter(load_full(tmp_path / "base"), sft)
    assert facts["base"]["fingerprint"] == fingerprint(start)
    assert not torch.allclose(logits(load_full(merge_adapter(last(tmp_path / "dpo")))), logits(start), atol=1e-3)
    recipe.write_text(text.format(sft, "{ rank = 8 }"), encoding="utf-8")
    with pytest.raises(InputError, match=r"\[train.lora\]: rank = 8, but the adapter .* has 4\. Fix: without rank"):
        run(recipe, mixture, tmp_path / "other", None)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_base_whose_weights_were_exchanged_is_not_gone_on_from(train, tmp_path, method):
    save_model(tmp_path / "base")
    options = {"model": BASE, "method": f'"{method}"', "max_steps": "10"}
    folder = train(**options)
    (folder / "result.json").unlink()
    net = model(vocab=448)
    torch.nn.init.normal_(net.model.norm.weight)
    net.save_pretrained(tmp_path / "base")
    with pytest.raises(InputError, match=r"was started from base with weights \w{8}, now they are \w{8}\. Fix"):
        train(**options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": '"lora"', "lora": '{ quantize = "nf4" }'},
            r'quantize = "nf4" needs a CUDA device, and here is none',
        ),
        ({"optimizer": '"adamw_8bit"'}, r'optimizer = "adamw_8bit" needs a CUDA device, and here is none\. Fix'),
        ({"dtype": '"bfloat16"', "precision": '"fp32"'}, "dtype = 'bfloat16' computes in bf16"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without a GPU")
def test_what_needs_a_gpu_says_so_before_data_are_read(tmp_path, shared_mixture, settings, message):
    from steel_train.run import run

    save_model(tmp_path / "base")
    recipe = write_recipe(tmp_path, shared_mixture, model=BASE, **settings)
    with pytest.raises(InputError, match=message):
        run(recipe, tmp_path / "no-mixture-here", tmp_path / "out", None)


def test_a_run_does_not_go_on_where_its_base_would_be_held_in_another_type(train, tmp_path, monkeypatch):
    """An adapter begun on a GPU with bfloat16 over a base in bfloat16, gone on with on one without."""
    from steel_train.loop import session
    from steel_train.models import load

    save_narrow(tmp_path / "base")
    with monkeypatch.context() as patch:
        for module in (session, load):
            patch.setattr(module, "uses_bf16", lambda _: True)
        folder = train(**LORA, max_steps="2")
    (folder / "result.json").unlink()
    with pytest.raises(
        InputError, match=r'the type that it computes in = "bfloat16", now it is "float32"\. Fix: another'
    ):
        train(**LORA, max_steps="2")
    record = json.loads((folder / "run.json").read_text())
    record["identity"]["computes"] = "float32"
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"the type of the base's weights = \"bfloat16\", now it is \"float32\""):
        train(**LORA, max_steps="2")
    del record["identity"]["held"], record["identity"]["computes"]  # as an earlier steel wrote it
    (folder / "run.json").write_text(json.dumps(record))
    train(**LORA, max_steps="2")
