"""The tokenizer of a run: trained alike each time, with a template, end tokens, and a pad that ends nothing."""

import pytest
from tests.steel_train.toys import INST, tokenizer

from steel_data.errors import InputError
from steel_train.examples.tokenizer import (
    CHATML,
    TODAY,
    end_tokens,
    load_tokenizer,
    pinned,
    renderer,
    settle,
    stopping,
    tokenizer_sha256,
    train_tokenizer,
    with_variables,
)

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


SWITCH = (
    CHATML
    + "{%- if add_generation_prompt and enable_thinking is defined and not enable_thinking -%}<t></t>{%- endif -%}"
)
ASK = [{"role": "user", "content": "q"}]


def test_variables_of_the_template_are_set_in_it_so_that_everyone_asks_as_it_was_trained(tmp_path):
    tok = tokenizer(SWITCH)
    settle(tok, None, tmp_path / "r.toml", {"enable_thinking": False})
    assert renderer(tok)(ASK, None, True).endswith("assistant\n<t></t>")
    tok.save_pretrained(tmp_path / "tok")
    again = load_tokenizer(str(tmp_path / "tok"), "r.toml")
    asked = {"tokenize": False, "add_generation_prompt": True}
    assert again.apply_chat_template(ASK, **asked).endswith("<t></t>")
    assert not again.apply_chat_template(ASK, **asked, enable_thinking=True).endswith("<t></t>"), (
        "a caller may say otherwise"
    )
    assert with_variables(tok.chat_template, {"enable_thinking": False}) == tok.chat_template, "once is enough"


@pytest.mark.parametrize("value", ["😀 中 \\ud83d \"'", 3, True, ["水", {"a": 1.5}]])
def test_a_variable_s_value_is_rendered_as_it_was_given(tmp_path, value):
    tok = tokenizer("{%- if add_generation_prompt -%}{{- [said] -}}{%- endif -%}")
    settle(tok, None, tmp_path / "r.toml", {"said": value})
    assert renderer(tok)(ASK, None, True) == str([value])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("enable_thinkng", "no 'enable_thinkng'. Did you mean 'enable_thinking'"),
        ("messages", "cannot be set"),
        ("a-b", "cannot be set"),
    ],
)
def test_a_variable_that_the_template_does_not_know_is_refused(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        settle(tokenizer(SWITCH), None, tmp_path / "r.toml", {name: False})


@pytest.mark.parametrize(
    ("date", "written"),
    [("strftime_now('%d %b %Y')", TODAY.strftime("%d %b %Y")), ("strftime_now(f)", TODAY.isoformat())],
)
def test_a_template_that_writes_todays_date_writes_the_same_on_every_day(date, written):
    tok = tokenizer("{%- set f = '%Y' -%}{{- " + date + " -}}" + CHATML)
    assert renderer(tok)(ASK, None, False).startswith(written)
    assert pinned(CHATML) == CHATML


def test_the_saved_tokenizer_stops_at_what_ends_turns():
    """Qwen2.5's base has an eos that ends no turn of its template."""
    tok = tokenizer()
    tok.eos_token = "<|endoftext|>"
    end = tok.convert_tokens_to_ids("<|im_end|>")
    assert stopping(tok, {end: 3}).eos_token == "<|im_end|>" and tok.eos_token == "<|endoftext|>", "a copy"
    assert stopping(tok, {}) is tok
    tok.chat_template = INST  # writes eos_token itself
    assert stopping(tok, {end: 3}) is tok
