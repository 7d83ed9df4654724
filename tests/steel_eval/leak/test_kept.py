"""What is kept of a measured checkpoint is found by all that it depends on, and by nothing else."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.steel_eval import toys
from tests.waiting import until

from steel_data import engine
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_eval.leak import kept
from steel_eval.leak.kept import How, check_tokenizer, code_fingerprint, key_of, measured
from steel_eval.leak.measure import Texts, measure
from steel_eval.models import Opening, load


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return toys.save(tmp_path_factory.mktemp("model") / "checkpoint", seed=3)


@pytest.fixture
def texts(lab):
    return Texts(lab.items[:4], [0, 2], "chat", toys.tokenizer())


def other_item(texts, **changes):
    return replace(texts, items=[replace(texts.items[0], **changes), *texts.items[1:]])


def other_tokenizer(texts, change):
    tokenizer = toys.tokenizer()
    change(tokenizer)
    return replace(texts, tokenizer=tokenizer)


TEXTS = {
    "a question": lambda t: other_item(t, question="另一个"),
    "an option": lambda t: other_item(t, options=("甲", *t.items[0].options[1:])),
    "a key": lambda t: other_item(t, answer="ABCD".replace(t.items[0].answer, "")[0]),
    "an item": lambda t: replace(t, items=t.items[:3]),
    "the order of items": lambda t: replace(t, items=t.items[::-1]),
    "what is permuted": lambda t: replace(t, permuted=[0]),
    "what stands before an item": lambda t: replace(t, context=1),
    "the form": lambda t: replace(t, form="plain"),
    "a token": lambda t: other_tokenizer(t, lambda tokenizer: tokenizer.add_tokens(["水稻"])),
    "the chat template": lambda t: other_tokenizer(
        t, lambda tokenizer: setattr(tokenizer, "chat_template", toys.CHAT.replace("assistant", "model"))
    ),
}
HOW = {
    "the number type": {"dtype": "bfloat16"},
    "how it is opened": {"opening": Opening(trust_remote_code=True)},
    "the device": {"device": "cuda:1"},  # `auto` is another type there
}


@pytest.mark.parametrize("what", [*TEXTS, *HOW])
def test_each_input_alone_makes_another_key(checkpoint, texts, what):
    how = How(device="cpu")
    before = key_of(checkpoint, texts, how)
    changed = TEXTS[what](texts) if what in TEXTS else texts
    assert key_of(checkpoint, changed, replace(how, **HOW.get(what, {}))) != before


def test_weights_wording_and_code_make_another_key(checkpoint, texts, monkeypatch, tmp_path):
    how = How(device="cpu")
    before = key_of(checkpoint, texts, how)
    assert key_of(toys.save(tmp_path / "other", seed=4), texts, how) != before
    assert key_of(toys.save(tmp_path / "same", seed=3), texts, how) == before  # the folder's name is none of it
    assert key_of(checkpoint, texts, replace(how, permute=3, executor=Local(2), forests=1, cache=tmp_path)) == before
    monkeypatch.setattr(kept, "WORDING", "plain")
    assert key_of(checkpoint, texts, how) != before
    monkeypatch.undo()
    for name in kept._CODE:
        code_fingerprint.cache_clear()
        monkeypatch.setattr(kept, "_CODE", tuple(n for n in kept._CODE if n != name))
        assert key_of(checkpoint, texts, how) != before, name
        monkeypatch.undo()
    code_fingerprint.cache_clear()
    monkeypatch.setattr(kept, "_CODE", ("steel_eval.leak.renamed",))
    with pytest.raises(ModuleNotFoundError, match="renamed"):
        code_fingerprint()
    code_fingerprint.cache_clear()


def test_a_damaged_file_is_measured_again(checkpoint, texts, tmp_path):
    how, texts = How(device="cpu", cache=tmp_path), replace(texts, context=1)
    first = measured(checkpoint, texts, how)
    (file,) = tmp_path.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    again = measured(checkpoint, texts, how)
    direct = measure(load(checkpoint), texts)
    for found in (first, again, measured(checkpoint, texts, how)):
        for name, values in direct.scores.items():
            assert np.array_equal(found.scores[name], values, equal_nan=True), name
        assert np.array_equal(found.orders_IK, direct.orders_IK, equal_nan=True)
        assert found.context_tokens == direct.context_tokens > 0


def test_a_base_with_another_tokenizer_is_refused(checkpoint, texts):
    other = toys.tokenizer()
    check_tokenizer(checkpoint, other, texts)
    other.add_tokens([texts.items[0].question[:3]])
    with pytest.raises(InputError, match="another tokenizer"):
        check_tokenizer(checkpoint, other, texts)


def test_while_a_model_reads_its_tokens_are_told(checkpoint, capsys, monkeypatch):
    monkeypatch.setattr(engine, "TELL_EVERY", 0.05)
    model, ids = load(checkpoint, "cpu").model, torch.ones(2, 5, dtype=torch.long)
    with torch.inference_mode(), kept.heard(model, "step-000100"):
        model(ids)
        model(input_ids=ids)
        until(lambda: "step-000100: 20 tokens, " in capsys.readouterr().err)
    assert not model._forward_pre_hooks


def test_whatever_measures_a_model_is_heard():
    """`leak` was silent for ten minutes of a real model: its measures stood outside of what tells how far it is."""
    calls, inside = 0, 0
    for path in Path(kept.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        measures = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "measure"]
        told = [n for n in ast.walk(tree) if isinstance(n, ast.With) and "heard(" in ast.unparse(n.items[0])]
        calls += len(measures)
        inside += sum(any(call in ast.walk(block) for block in told) for call in measures)
    assert calls == inside >= 3
