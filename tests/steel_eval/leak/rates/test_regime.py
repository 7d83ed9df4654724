"""The kind of a model, read from its own files; what is not known is said to be not known."""

import orjson
from tests.steel_eval import toys

from steel_eval.leak.rates.regime import count_parameters, differences, in_words, regime_of


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
