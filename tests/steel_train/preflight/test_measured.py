"""The estimate of each form of training against the bytes that its real steps have alive, counted on a CPU."""

import json

import pytest
import torch
from tests.steel_train.conftest import BASIC
from tests.steel_train.kernels.live_bytes import LiveBytes
from tests.steel_train.loop.test_kto import judged
from tests.steel_train.toys import tokenizer

from steel_data.recipe.load import load
from steel_train.examples.encode import Encoder
from steel_train.examples.folder import encode_batch
from steel_train.examples.prepare import Prepared
from steel_train.loop import session
from steel_train.settings import read_settings

# 5 M weights, of which embeddings and head are half
MODEL = {
    "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 704, "vocab_size": 4096, "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
FORMS = {
    "full": {},
    "full bf16 compute": {"precision": '"bf16"'},
    "lora": {"method": '"lora"'},
    "lora, base in bf16": {"method": '"lora"', "precision": '"bf16"'},
    "bf16, adafactor": {"dtype": '"bfloat16"', "optimizer": '"adafactor"'},
    "bf16, lion": {"dtype": '"bfloat16"', "optimizer": '"lion"'},
    "lion": {"optimizer": '"lion"'},
    "muon": {"optimizer": '"muon"'},
    "padded": {"packing": "false"},
    "dpo": {"method": '"dpo"'},
    "orpo": {"method": '"orpo"'},
    "simpo with lora": {"method": '"simpo"', "lora": "{ rank = 8 }"},
    "kto": {"method": '"kto"'},
    "checkpointing": {"gradient_checkpointing": "true"},
    "new tokens under lora": {"method": '"lora"', "new_tokens": '["甲乙丙丁"]'},
}


def rows(form):
    made = judged(32)
    for i, row in enumerate(made):
        row["completion"][0]["content"] += "水壶用来装水。" * (i % 5)
    if form == "kto":
        return made
    if form == "preference":
        return [
            {k: row[k] for k in ("id", "source", "prompt")}
            | {"kind": form, "chosen": row["completion"], "rejected": made[i - 1]["completion"]}
            for i, row in enumerate(made)
        ]
    return [
        {k: row[k] for k in ("id", "source")} | {"kind": "chat", "messages": [*row["prompt"], *row["completion"]]}
        for row in made
    ]


def measured(tmp_path, monkeypatch, form):
    """Return (estimated, counted) bytes at the peak of three steps."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **MODEL))
    made.bfloat16().save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    table = {**BASIC, "micro_batch": 8, "accumulate": 1, "max_steps": 3, "packing": "true", **FORMS[form]}
    lines = "\n".join(f"{key} = {value}" for key, value in table.items() if key != "save_every")
    (tmp_path / "r.toml").write_text(f'[source.a]\npath = "a"\n[train]\nmodel = "base"\n{lines}\n', encoding="utf-8")
    recipe = load(tmp_path / "r.toml")
    settings = read_settings(recipe.train, recipe.path)
    from steel_train.examples.prepare import make_tokenizer

    tok = make_tokenizer(recipe, settings, tmp_path, tmp_path, {})
    examples = encode_batch(Encoder(tok, 256), rows(settings.form), 0).of_form(settings.form)
    manifest = {"name": "r", "content_sha256": "0" * 64, "rows": 32}
    found = {}

    def train(self, **_):
        with LiveBytes() as live:
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                tensor.detach()  # its storage is seen
            found["weights"] = live.now
            real(self)

    def save(self, *_):
        found.setdefault("peak", mode_of().peak)

    def mode_of():
        return torch.utils._python_dispatch._get_current_dispatch_mode()

    real = session.SteelTrainer.train
    monkeypatch.setattr(session.SteelTrainer, "train", train)
    monkeypatch.setattr(session.SteelTrainer, "_save_checkpoint", save)
    monkeypatch.setattr(session.Session, "_finish", lambda *_: None)
    session.Session(Prepared(recipe, settings, manifest, tok, examples), tmp_path / "run", 0).train([])
    report = json.loads((tmp_path / "run/preflight.json").read_text())
    return report["memory"]["peak"], found["peak"]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_estimate_is_within_a_tenth(tmp_path, monkeypatch, form):
    estimated, counted = measured(tmp_path, monkeypatch, form)
    print(f"{form}: {estimated / 1e6:.1f} MB estimated, {counted / 1e6:.1f} MB counted: {estimated / counted:.3f}")
    assert estimated == pytest.approx(counted, rel=0.1)
