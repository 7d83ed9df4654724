"""Continuation ids come from the full string; what cannot be encoded faithfully is refused or counted."""

import copy

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from steel_data.errors import InputError
from steel_eval.ask.encode import context_text, encode_prompts, opened_thought
from steel_eval.ask.prompts import build_prompts, load_preset
from steel_eval.ask.tasks import load_task


def characters(words: str, merged: tuple[str, ...] = (), **special) -> PreTrainedTokenizerFast:
    """One token a character, but for `merged` strings."""
    vocabulary = {w: i for i, w in enumerate(["[UNK]", "<s>", "</s>", *merged, *sorted(set(words))])}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = Split(Regex("|".join([*merged, r"[\s\S]"])), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", eos_token="</s>", **special)


@pytest.fixture
def asked(toy_data):
    task = load_task("cmmlu/agronomy", toy_data)
    words = "".join(p.text() for p in build_prompts(load_preset("cmmlu", "cmmlu"), "cmmlu", "agronomy", task.items["agronomy"], task.examples["agronomy"]))  # fmt: skip

    def prompts(preset: str, shots: int = 5):
        found = load_preset(preset, "cmmlu")
        return found, build_prompts(
            found, "cmmlu", "agronomy", task.items["agronomy"], task.examples["agronomy"][:shots]
        )

    return prompts, words


@pytest.mark.parametrize("name", ["lm-eval", "cmmlu", "opencompass", "cloze"])
def test_tokens_are_those_of_the_full_string(asked, toy_tokenizer, name):
    preset, prompts = asked[0](name)
    encoded = encode_prompts(toy_tokenizer, preset, prompts, 4096)
    for i, prompt in enumerate(prompts):
        for request, continuation in zip(encoded.requests[encoded.first[i] :], prompt.continuations, strict=False):
            assert list(request.tokens) == toy_tokenizer(prompt.text() + continuation)["input_ids"]
            assert toy_tokenizer.decode(request.tokens[request.start :]).strip() == continuation.strip()
    assert encoded.merged == 0
    assert encoded.edge_ids[1][-1] == encoded.requests[0].tokens[-1]


def test_a_letter_that_merges_with_the_colon_is_still_compared(asked):
    """`：A` as one token: the context's own encoding is no prefix, so the cut moves to where the options part."""
    preset, prompts = asked[0]("cmmlu")
    tokenizer = characters(asked[1] + "ABCD", merged=("：A", "：B", "：C", "：D"))
    encoded = encode_prompts(tokenizer, preset, prompts, 4096)
    assert encoded.merged == len(prompts)
    ends = [tokenizer.decode(r.tokens[r.start :]) for r in encoded.requests[:4]]
    assert ends == ["：A", "：B", "：C", "：D"]


def test_letters_that_share_a_token_are_refused(asked):
    preset, prompts = asked[0]("cmmlu")
    with pytest.raises(InputError, match="different answer letters the same tokens"):
        encode_prompts(characters("".join(set(asked[1]) - set("BCD"))), preset, prompts, 4096)


def test_letters_of_several_tokens_are_scored_as_sums(asked, toy_tokenizer):
    preset, prompts = asked[0]("lm-eval")
    encoded = encode_prompts(characters(asked[1] + " ABCD"), preset, prompts, 4096)
    assert encoded.letter_tokens == [2, 2, 2, 2]


def test_a_start_token_stands_first_and_once(asked):
    preset, prompts = asked[0]("lm-eval")
    tokenizer = characters(asked[1] + " ", bos_token="<s>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    encoded = encode_prompts(tokenizer, preset, prompts, 4096)
    assert encoded.edge_ids[0][0] == 1
    assert encoded.edge_ids[0][1] != 1
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> <s> $A", special_tokens=[("<s>", 1)])
    with pytest.raises(InputError, match="start token stands twice"):
        encode_prompts(tokenizer, preset, prompts, 4096)


def test_an_end_token_behind_the_text_is_refused(asked):
    preset, prompts = asked[0]("lm-eval")
    tokenizer = characters(asked[1] + " ")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    with pytest.raises(InputError, match="appends its end token"):
        encode_prompts(tokenizer, preset, prompts, 4096)


def test_a_chat_preset_needs_a_chat_template(asked):
    preset, prompts = asked[0]("steel-likelihood")
    with pytest.raises(InputError, match="no chat template"):
        encode_prompts(characters(asked[1]), preset, prompts, 4096)


def test_a_template_that_refuses_a_system_turn_gets_it_in_the_first_question(asked, toy_tokenizer):
    _, prompts = asked[0]("steel-likelihood")
    tokenizer = characters(asked[1])
    tokenizer.chat_template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}[{{ m.content }}]{% endfor %}"
    assert context_text(tokenizer, prompts[0]).startswith("[You are a helpful assistant.\n以下是一道单选题:\n")


@pytest.mark.parametrize(("name", "counted"), [("cmmlu", "shots_dropped"), ("lm-eval", "truncated")])
def test_a_prompt_longer_than_the_context_follows_the_stated_rule(asked, toy_tokenizer, name, counted):
    preset, prompts = asked[0](name)
    longest = 300
    encoded = encode_prompts(toy_tokenizer, preset, prompts, longest)
    assert getattr(encoded, counted) == len(prompts)
    assert max(len(r.tokens) for r in encoded.requests) <= longest + 1
    if name == "cmmlu":
        assert 0 < len(encoded.prompts[0].shots) < 5
        assert encoded.truncated == 0


def test_likelihoods_inside_an_opened_thought_are_refused(asked, toy_tokenizer):
    preset, prompts = asked[0]("steel-likelihood")
    thinking = copy.deepcopy(toy_tokenizer)
    thinking.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    with pytest.raises(InputError, match=r"opens a thought \(<think>\).*--thinking off"):
        encode_prompts(thinking, preset, prompts, 4096)
    thinking.chat_template = (
        toy_tokenizer.chat_template + "{% if add_generation_prompt %}<think>\n\n</think>\n{% endif %}"
    )
    assert encode_prompts(thinking, preset, prompts, 4096).requests
    assert (opened_thought("答案<think>\n"), opened_thought("<think>在想</think>"), opened_thought("a")) == (
        "<think>",
        "",
        "",
    )
