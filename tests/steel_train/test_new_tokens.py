"""New tokens: rows that begin as the mean, learn under an adapter too, and load wherever the checkpoint does."""

import pytest
import torch
from tests.steel_train.loop.test_session import interrupt_at, trace
from tests.steel_train.toys import model, tokenizer

from steel_data.errors import InputError
from steel_train.loop.checkpoints import whole_checkpoints
from steel_train.models.convert import merge_adapter
from steel_train.models.load import grow
from steel_train.models.weights import adapter_shapes, load_adapter, load_full
from steel_train.settings import Settings

NEW = {"new_tokens": '["水壶", "甲乙丙丁"]', "new_special_tokens": '["<|tool|>"]'}
LORA = {"method": '"lora"', "learning_rate": "2e-2", "max_steps": "6", "save_every": "3"}
KNOWN = len(tokenizer())
IDS = list(range(KNOWN, KNOWN + 3))


def save_base(folder, spare, tied):
    """Save a base with a row for each known token, or with `spare` ones more."""
    net = model(vocab=KNOWN + spare)
    if tied:
        net.config.tie_word_embeddings = True
        net.tie_weights()
    net.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return net


def last(folder):
    return whole_checkpoints(folder)[-1]


def logits(net):
    with torch.no_grad():
        return net.float().eval()(torch.tensor([[5, *IDS, 6, 7]])).logits


def test_new_rows_are_the_mean_of_the_known_ones():
    for spare in (0, 40):
        net = model(vocab=KNOWN + spare)
        before = {
            end: getattr(net, end)().weight.detach().clone()
            for end in ("get_input_embeddings", "get_output_embeddings")
        }
        grow(net, IDS)
        assert net.config.vocab_size == max(KNOWN + 3, KNOWN + spare)
        for end, old in before.items():
            rows = getattr(net, end)().weight
            assert torch.equal(rows[:KNOWN], old[:KNOWN])
            assert torch.allclose(rows[IDS], old[:KNOWN].mean(dim=0).expand(3, -1), atol=1e-7)
            assert torch.equal(rows[KNOWN + 3 :], old[KNOWN + 3 :]), "what is spare stays so"


@pytest.mark.parametrize("spare", [0, 40], ids=["resized", "spare rows"])
def test_all_weights(train, tmp_path, spare):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from steel_eval.models import load

    save_base(tmp_path / "base", spare, tied=True)
    folder = train(model='model = "base"', **NEW, max_steps="4")
    tok, net = AutoTokenizer.from_pretrained(last(folder)), AutoModelForCausalLM.from_pretrained(last(folder))
    assert tok("水壶<|tool|>甲乙丙丁", add_special_tokens=False).input_ids == [IDS[0], IDS[2], IDS[1]]
    assert tok.decode(IDS, skip_special_tokens=True).replace(" ", "") == "水壶甲乙丙丁"
    rows = net.get_input_embeddings().weight
    assert rows.shape[0] == net.config.vocab_size == max(KNOWN + 3, KNOWN + spare)
    assert not torch.allclose(rows[IDS[0]], rows[IDS[1]], atol=1e-4), "each has learnt something of its own"
    assert torch.allclose(logits(load(last(folder)).model), logits(net), atol=1e-5)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("spare", [0, 40], ids=["resized", "spare rows"])
def test_an_adapter_learns_the_new_rows_and_no_others(train, tmp_path, spare, tied):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    from steel_eval.models import load

    base = save_base(tmp_path / "base", spare, tied)
    folder = train(model='model = "base"', **NEW, **LORA)
    apart = [name for name in adapter_shapes(last(folder)) if "lora" not in name]
    assert len(apart) == (1 if tied else 2) and all("trainable_tokens_delta" in name for name in apart)
    adapted = load_adapter(load_full(tmp_path / "base"), last(folder))
    merged = AutoModelForCausalLM.from_pretrained(merge_adapter(last(folder)))
    assert merged.config.tie_word_embeddings == tied
    for end in ("get_input_embeddings", "get_output_embeddings"):
        rows, old = (getattr(net, end)().weight.detach() for net in (merged, base))
        assert torch.equal(rows[:KNOWN], old[:KNOWN])
        moved = (rows[IDS] - old[:KNOWN].mean(dim=0)).abs().amax(dim=1)
        assert (moved[:2] > 1e-3).all(), "the rows of tokens that the data have"
    ours = logits(adapted)
    assert torch.allclose(logits(merged), ours, atol=1e-4)
    assert torch.allclose(logits(load(last(folder)).model), ours, atol=1e-4)
    with_peft = logits(AutoPeftModelForCausalLM.from_pretrained(last(folder)))
    width = with_peft.shape[-1]  # peft cuts spare rows
    assert width >= KNOWN + 3 and torch.allclose(with_peft, ours[..., :width], atol=1e-4)


def test_a_killed_run_with_new_tokens_goes_on_bit_for_bit(train, tmp_path, monkeypatch):
    save_base(tmp_path / "base", 0, True)
    options = {"model": 'model = "base"', **NEW, **LORA, "packing": "true"}
    whole = train("whole", **options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            train("killed", **options)
    killed = train("killed", **options)
    file = "adapter_model.safetensors"
    assert trace(killed) == trace(whole) and (last(killed) / file).read_bytes() == (last(whole) / file).read_bytes()


def test_the_plan_counts_the_new_rows(tmp_path):
    from steel_train.models.load import load_config

    save_base(tmp_path / "base", 0, True)
    settings = Settings(model="base", new_tokens=["a b", "c d"])
    assert load_config(settings, tmp_path / "r.toml", KNOWN + 2).vocab_size == KNOWN + 2
    assert load_config(Settings(model="base"), tmp_path / "r.toml", KNOWN + 2).vocab_size == KNOWN


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"new_tokens": '["<|im_end|>"]'}, r"new token '<\|im_end\|>' is in the vocabulary already \(id \d+\)\. Fix"),
        ({"new_tokens": '["a", "a"]'}, "new tokens: 'a' is empty or stands twice"),
        ({"new_special_tokens": '[" "]'}, "new tokens: ' ' is empty or stands twice"),
        ({"new_tokens": '["a", "b"]', "new_special_tokens": '["b"]'}, "new tokens: 'b' is text and of control at once"),
        (LORA | {"new_tokens": '["水壶"]', "lora": '{ targets = ["q_proj", "embed_tokens"] }'},
         r"\[train\.lora\]: targets: new tokens learn their own rows of embed_tokens"),
    ],
)  # fmt: skip
def test_faults_are_one_line(train, tmp_path, settings, message):
    save_base(tmp_path / "base", 0, True)
    with pytest.raises(InputError, match=message):
        train(model='model = "base"', **settings)
