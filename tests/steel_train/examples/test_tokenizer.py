"""The tokenizer of a run: trained alike each time, with a template, end tokens, and a pad that ends nothing."""

import pytest
from tests.steel_train.toys import INST, tokenizer

from steel_data.errors import InputError
from steel_train.examples.tokenizer import end_tokens, load_tokenizer, settle, tokenizer_sha256, train_tokenizer

TEXTS = ["请说明水壶的用途。", "What is a kettle for?"] * 4


def test_pad_is_no_end_of_turn_and_a_missing_template_is_refused(tmp_path):
    tok = tokenizer()
    tok.pad_token = "<|im_end|>"
    settle(tok, None, tmp_path / "r.toml")
    assert tok.pad_token == "<|endoftext|>"
    tok.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        settle(tok, None, tmp_path / "r.toml")


def test_training_is_repeatable_and_needs_room_for_bytes(tmp_path):
    for name in ("a", "b"):
        train_tokenizer(TEXTS, 320, tmp_path / name)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
    with pytest.raises(InputError, match="no room for 256 bytes"):
        train_tokenizer(TEXTS, 299, tmp_path / "c")


def test_end_tokens_are_the_eos_first_and_what_the_template_names():
    assert end_tokens(tokenizer()) == ("<|im_end|>",)
    ends_otherwise = tokenizer(INST + "<|endoftext|>")
    assert end_tokens(ends_otherwise) == ("<|im_end|>", "<|endoftext|>")
    ends_otherwise.bos_token = "<|endoftext|>"
    assert end_tokens(ends_otherwise) == ("<|im_end|>",), "what begins a text ends no turn"


def test_a_template_is_a_file_beside_the_recipe_or_chatml_where_its_tokens_are(tmp_path):
    recipe = tmp_path / "r.toml"
    (tmp_path / "own.jinja").write_text(INST, encoding="utf-8")
    tok = tokenizer()
    settle(tok, "own.jinja", recipe)
    assert tok.chat_template == INST
    with pytest.raises(InputError, match=r"chat_template none\.jinja: No such file"):
        settle(tok, "none.jinja", recipe)


def test_a_saved_padding_rule_neither_pads_nor_counts(tmp_path):
    plain, padded = tokenizer(), tokenizer()
    padded.backend_tokenizer.enable_padding(length=64)
    padded.backend_tokenizer.enable_truncation(4)
    for name, tok in (("plain", plain), ("padded", padded)):
        tok.save_pretrained(tmp_path / name)
    one, other = (load_tokenizer(str(tmp_path / name), "r.toml") for name in ("plain", "padded"))
    assert tokenizer_sha256(one) == tokenizer_sha256(other)
    assert len(other.backend_tokenizer.encode("水壶").ids) < 64


def test_what_cannot_be_loaded_is_named():
    with pytest.raises(InputError, match=r"exp\.toml: the tokenizer of '/no/where' cannot be loaded"):
        load_tokenizer("/no/where", "exp.toml")
