"""Rows become token ids and which of them are learnt; a row without an example has a reason."""

import numpy as np
import pytest
from tests.steel_train.examples.test_template import decoded, turns
from tests.steel_train.toys import INST, PLAIN, QWEN3_LIKE, tokenizer

from steel_train.examples.encode import NO_LABEL, TOO_LONG, Encoder, Learnt
from steel_train.examples.tokenizer import CHATML

TWO_ENDS = CHATML.replace("'<|im_end|>\\n'", "'<|im_end|><|endoftext|>\\n'")


def encoded(row, template=CHATML, max_length=512, eos="<|im_end|>"):
    tok = tokenizer(template)
    tok.eos_token = eos
    found = Encoder(tok, max_length).encode([row])[0]
    return found.reason or [tok.decode(e.ids[e.learnt]) for e in found.examples]


def test_a_row_cut_before_its_answer_is_dropped_with_the_reason():
    messages = turns("很长的问题" * 20, "答")
    assert decoded(messages, max_length=30) == NO_LABEL
    assert decoded(turns("问", "答" * 40), max_length=30)[0].startswith("答答")


def test_a_cut_is_counted_in_tokens():
    row = {"messages": turns("问", "答" * 40)}
    whole, cut = (Encoder(tokenizer(), length).encode([row])[0].examples[0] for length in (512, 30))
    assert (len(cut.ids), cut.cut) == (30, len(whole.ids) - 30)
    assert np.array_equal(cut.learnt, whole.learnt[:30])


def test_the_eos_after_another_end_token_is_learnt_too():
    """Generation stops at eos: a model that only learnt the token before it would go on."""
    row = {"messages": turns("问一", "答一", "问二", "答二")}
    assert TWO_ENDS != CHATML
    assert encoded(row, TWO_ENDS, eos="<|endoftext|>") == ["答一<|im_end|><|endoftext|>答二<|im_end|><|endoftext|>"]


def test_what_follows_the_eos_is_not_learnt():
    row = {"messages": turns("问一", "答一", "问二", "答二")}
    assert encoded(row, TWO_ENDS, eos="<|im_end|>") == ["答一<|im_end|>答二<|im_end|>"]


def test_the_first_token_is_never_learnt():
    bare = "{%- for message in messages -%}{{- message.content -}}{%- endfor -%}"
    row = {"messages": turns("", "水壶用来装水。")}
    example = Encoder(tokenizer(bare), 64).encode([row])[0].examples[0]
    assert not example.learnt[0] and example.learnt[1:].all()


PAIR = {"prompt": turns("问"), "chosen": turns("", "好答案")[1:], "rejected": turns("", "坏" * 40)[1:]}


def test_a_preference_row_gives_two_examples_and_learns_neither_prompt_nor_half():
    assert encoded(PAIR) == ["好答案<|im_end|>", "坏" * 40 + "<|im_end|>"]
    earlier = {**PAIR, "prompt": turns("问", "旧答", "再问")}
    assert encoded(earlier) == encoded(PAIR), "an answer in the prompt is context"
    assert encoded({**PAIR, "prompt": turns("很长" * 30)}, max_length=40) == NO_LABEL


@pytest.mark.parametrize("arguments", ['{"city": "沈阳", "unit": null}', {"city": "沈阳", "unit": None}])
def test_arguments_of_a_call_reach_the_template_as_an_object_without_nulls(arguments):
    calls = CHATML.replace(
        "(message['content'] or '')",
        "((message['content'] or '') + (message['tool_calls'][0]['arguments']|tojson if message['tool_calls'] else ''))",
    )
    messages = turns("天气？", "")
    messages[1]["tool_calls"] = [{"name": "weather", "arguments": arguments}]
    assert encoded({"messages": messages}, calls) == ['{"city": "沈阳"}<|im_end|>']


def test_a_row_that_is_too_long_is_cut_dropped_or_split():
    tok, row = tokenizer(), {"messages": turns("问一", "答" * 30, "问二", "乙" * 30)}
    whole = Encoder(tok, 512).encode([row])[0].examples[0]
    assert Encoder(tok, 20, "drop").encode([row])[0].reason == TOO_LONG
    parts = Encoder(tok, 20, "split").encode([row])[0].examples
    assert all(len(part.ids) <= 20 and part.cut == 0 for part in parts)
    # nothing is lost and nothing learnt twice
    assert np.concatenate([p.ids[p.learnt] for p in parts]).tolist() == whole.ids[whole.learnt].tolist()
    assert sum(p.turns for p in parts) == 2 and [e for p in parts for e in p.ends] == list(whole.ends)
    short = {"messages": turns("问", "答")}
    for how in ("drop", "split"):
        assert np.array_equal(
            Encoder(tok, 512, how).encode([short])[0].examples[0].ids,
            Encoder(tok, 512).encode([short])[0].examples[0].ids,
        )
    assert Encoder(tok, 20, "split").encode([PAIR])[0].reason == TOO_LONG, "half an answer cannot be compared"


def test_ends_are_counted_as_they_are_trained():
    """A cut row has no end: what is counted is what is left."""
    row = {"messages": turns("问一", "答一", "问二", "乙" * 60)}
    whole, cut = (Encoder(tokenizer(), length).encode([row])[0].examples[0] for length in (512, 30))
    end = tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert (whole.turns, whole.ends) == (2, (end, end)) and (cut.turns, cut.ends) == (2, (end,))


def whole(row, template=CHATML, learnt=None, max_length=512):
    found = Encoder(tokenizer(template), max_length, learnt=learnt or Learnt("all")).encode([row])[0]
    return found.reason or found.examples


@pytest.mark.parametrize("template", [CHATML, INST, PLAIN, QWEN3_LIKE], ids=["chatml", "inst", "plain", "qwen3"])
def test_of_a_whole_text_every_token_but_the_first_is_learnt(template):
    """As in pre-training: the question too, and the marks between turns. The text is that of `apply_chat_template`."""
    messages = turns("问一", "答一", "问二", "答二")
    messages[1]["loss"] = False
    (example,) = whole({"messages": messages}, template)
    tok = tokenizer(template)
    rendered = tok.apply_chat_template(turns("问一", "答一", "问二", "答二"), tokenize=False)
    text = tok.decode(example.ids)
    assert text.startswith(rendered.rstrip()) and text.count("问一") == 1
    assert not example.learnt[0] and example.learnt[1:].all()
    assert example.ends[-1] == tok.eos_token_id, "what ends the last turn is counted, so that generation stops there"


def test_a_source_may_say_what_is_learnt_of_its_rows():
    row = {"messages": turns("问", "答"), "source": "book"}
    (all_of_it,) = whole(row, learnt=Learnt("assistant", {"book": "all"}))
    (answer,) = whole(row, learnt=Learnt("all", {"book": "assistant"}))
    (other,) = whole({**row, "source": "chat"}, learnt=Learnt("assistant", {"book": "all"}))
    assert all_of_it.learnt.sum() == len(all_of_it.ids) - 1
    assert np.array_equal(answer.learnt, other.learnt) and answer.learnt.sum() < len(answer.ids) - 1
    assert Learnt("all", {"a": "all", "b": "assistant"}).exceptions() == {"b": "assistant"}


def test_a_whole_text_is_cut_and_split_like_any_other_and_refused_for_the_same_reasons():
    row = {"messages": turns("很长的问题" * 20, "答")}
    (cut,) = whole(row, max_length=30)
    assert len(cut.ids) == 30 and cut.learnt.sum() == 29 and cut.cut > 0, "the question alone is something to learn"
    assert whole({"messages": turns("问\uf8f0", "答")}) == "private-use characters"
