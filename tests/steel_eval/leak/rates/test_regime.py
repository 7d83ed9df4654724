"""The kind of a model, read from its own files; what is not known is said to be not known."""

from dataclasses import replace

import orjson
import pytest
from tests.steel_eval import toys

from steel_data.errors import InputError
from steel_eval.leak.rates.regime import Regime, count_parameters, differences, in_words, nearest, regime_of


def test_a_regime_is_read_from_the_checkpoints_own_files(lab, tmp_path):
    bare = regime_of(lab.base)
    assert (bare.architecture, bare.start, bare.method, bare.loss) == ("qwen2", None, None, None)
    rows = len(toys.tokenizer())
    expected = sum(p.numel() for p in toys.model(rows, hidden_size=96, intermediate_size=192).parameters())
    assert bare.parameters == expected == count_parameters(lab.base)
    folder = toys.save(tmp_path / "step-000010")
    train = {"model": {"type": "qwen2"}, "method": "full", "lora": None, "epochs": 2, "learning_rate": 1e-3}
    for changes, start, method in (
        ({}, "from scratch", "full"), ({"model": "base"}, "tuned", "full"),
        ({"model": "base", "method": "lora"}, "tuned", "lora"), ({"method": "dpo"}, "from scratch", "dpo"),
        ({"model": "base", "method": "kto"}, "tuned", "kto"), ({"model": "base", "method": "orpo"}, "tuned", "orpo"),
        ({"model": "base", "method": "simpo", "lora": {"rank": 4}}, "tuned", "simpo with lora"),
        ({"model": "base", "method": "lora", "lora": {"rank": 4}}, "tuned", "lora"),
    ):  # fmt: skip
        (folder / "steel.json").write_bytes(orjson.dumps({"train": train | changes}))
        found = regime_of(folder)
        assert (found.start, found.method, found.loss, found.epochs) == (start, method, "answers only", 2)
    for said, loss in (
        ({"train": train | {"loss": "all"}}, "all text"),
        ({"train": train, "loss_of_source": {"cmmlu": "all"}}, "answers only, of cmmlu all text"),
    ):
        (folder / "steel.json").write_bytes(orjson.dumps(said))
        assert regime_of(folder).loss == loss
    for name in ("steel.json", "config.json"):
        (folder / name).write_bytes(b"{")
        with pytest.raises(InputError, match=rf"{name}: cannot be read: .*Fix: copy the checkpoint again"):
            regime_of(folder)
    assert differences(found, found) == []
    assert "2 epochs" in in_words(found)


def test_a_merged_adapter_and_an_adapter_are_one_kind(lab, tmp_path):
    from peft import LoraConfig, get_peft_model

    from steel_eval.models import checkpoint_fingerprint, load

    inner = load(lab.base)
    adapter = get_peft_model(inner.model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapter.peft_config["default"].base_model_name_or_path = str(lab.base)
    adapter.save_pretrained(tmp_path / "adapter")
    found = regime_of(tmp_path / "adapter")
    assert (found.method, found.architecture) == ("lora", "qwen2")
    assert found.parameters == count_parameters(lab.base)
    assert checkpoint_fingerprint(tmp_path / "adapter") == load(tmp_path / "adapter").fingerprint
    assert checkpoint_fingerprint(tmp_path / "adapter") != checkpoint_fingerprint(lab.base)


def test_share_and_exposures_come_from_the_mixture_and_count_only_where_both_are_known(tmp_path):
    folder = toys.save(tmp_path / "run/step-000010")
    (folder / "steel.json").write_bytes(
        orjson.dumps({"train": {"model": "base", "method": "full", "epochs": 2, "learning_rate": 1e-3}})
    )
    assert (regime_of(folder).injected_share, regime_of(folder).exposures) == (None, None)
    mixture = tmp_path / "run/mixture"
    mixture.mkdir()
    recipe = {"source": {"leak": {"build": {"use": "contaminate"}}, "chat": {"path": "rows.jsonl"}}}
    account = dict.fromkeys(
        ("read", "unreadable", "made", "built", "kept", "sampled_out", "repeated", "written"), 1
    ) | {"dropped": {}}  # fmt: skip
    manifest = {
        "recipe": recipe, "tokens": 1000, "contamination": {"cmmlu": {"1": 8, "10": 2}},
        "sources": {"leak": account | {"tokens": 40}, "chat": account | {"tokens": 960}},
    }  # fmt: skip
    (mixture / "manifest.json").write_bytes(orjson.dumps(manifest))
    found = regime_of(folder)
    assert (found.injected_share, found.exposures) == (0.04, 20)
    assert "4 % of the tokens injected, up to 20 exposures" in in_words(found)
    (mixture / "manifest.json").write_bytes(orjson.dumps({**manifest, "contamination": {}}))
    unknown = regime_of(folder)
    assert unknown.injected_share is None  # a mixture that declares nothing may hold anything
    assert regime_of(folder, mixture=tmp_path / "nowhere") == unknown
    assert differences(unknown, found) == [] == differences(found, unknown)
    assert differences(replace(found, injected_share=0.5), found) == ["injected: 50 % of the tokens, not 4 %"]
    assert differences(replace(found, exposures=60), found) == ["exposures: up to 60, not 20"]
    assert differences(replace(found, exposures=1, injected_share=0.02), found) == []


def test_a_measured_regime_of_nought_is_far_from_any():
    """Found by bench/fuzz.py, 3 times in 60,000 damaged rates.json: a division by the rate, the size, the share."""
    model = Regime(10**6, "qwen2", "tuned", "full", "answers only", 2, 1e-5, 0.1, 2)
    assert differences(model, replace(model, learning_rate=3e-5)) == []
    for change in ({"parameters": 0}, {"parameters": -5}, {"epochs": 0}, {"learning_rate": 0.0}, {"injected_share": 0}):
        odd = replace(model, **change)
        assert len(differences(model, odd)) == len(differences(odd, model)) == 1
        assert nearest(model, [odd, model]) == (1, []) and nearest(odd, [model])[0] == 0
