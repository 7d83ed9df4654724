"""What is learnt, for templates of every habit: each test reads the learnt text back."""

import pytest
from tests.steel_train.toys import INST, PLAIN, QWEN3_LIKE, tokenizer

from steel_train.examples.encode import Encoder
from steel_train.examples.template import TemplateError, pieces
from steel_train.examples.tokenizer import CHATML, end_tokens, renderer


def turns(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def learnt(messages, template=CHATML):
    """Return the learnt texts of every piece."""
    tok = tokenizer(template)
    found = pieces(messages, None, renderer(tok), end_tokens(tok))
    return [[piece.text[a:b] for a, b in piece.spans] for piece in found]


def decoded(messages, template=CHATML, max_length=512):
    """Return the learnt tokens of every example, as text."""
    tok = tokenizer(template)
    encoded = Encoder(tok, max_length).encode([{"messages": messages}])[0]
    return encoded.reason or [tok.decode(e.ids[e.learnt]) for e in encoded.examples]


def test_every_assistant_turn_is_learnt_with_its_end():
    messages = turns("问一", "答一", "问二", "答二")
    assert learnt(messages) == [["答一<|im_end|>", "答二<|im_end|>"]]
    assert decoded(messages) == ["答一<|im_end|>答二<|im_end|>"]


def test_system_and_equal_texts_do_not_confuse_the_places():
    messages = [{"role": "system", "content": "答"}, *turns("答", "答", "答答", "答")]
    tok = tokenizer()
    piece = pieces(messages, None, renderer(tok), end_tokens(tok))[0]
    assert [piece.text[a - 10 : a] for a, _ in piece.spans] == ["assistant\n"] * 2


def test_a_turn_marked_loss_false_is_context_only():
    messages = turns("问", "错的答案", "再问", "对的答案")
    messages[1]["loss"] = False
    assert learnt(messages) == [["对的答案<|im_end|>"]]


def test_a_trimming_template_without_generation_marks():
    messages = turns(" 问 ", "\n答案 ", "又问", " 再答")
    assert learnt(messages, INST) == [["答案 <|im_end|>", "再答 <|im_end|>"]]


def test_a_template_that_ends_no_turn_gets_an_eos_at_the_end():
    assert learnt(turns("问", "答"), PLAIN) == [["答"]]
    # it takes the place of the newline that the template would write
    assert decoded(turns("问", "答一", "问", "答二"), PLAIN) == ["答一答二<|im_end|>"]


def test_an_empty_thinking_block_is_given_not_learnt():
    assert learnt(turns("问", "答"), QWEN3_LIKE) == [["答<|im_end|>"]]


def test_thinking_of_the_last_turn_is_learnt_with_its_tags():
    messages = turns("问", "答")
    messages[1]["reasoning_content"] = "想一想"
    assert learnt(messages, QWEN3_LIKE) == [["<think>\n想一想\n</think>\n\n答<|im_end|>"]]


@pytest.mark.parametrize("inline", [False, True])
def test_a_turn_whose_thinking_the_template_drops_is_learnt_in_a_piece_of_its_own(inline):
    messages = turns("问一", "答一", "问二", "答二")
    for i, thought in ((1, "想一"), (3, "想二")):
        if inline:
            messages[i]["content"] = f"<think>\n{thought}\n</think>\n\n" + messages[i]["content"]
        else:
            messages[i]["reasoning_content"] = thought
    assert learnt(messages, QWEN3_LIKE) == [
        ["<think>\n想二\n</think>\n\n答二<|im_end|>"],
        ["<think>\n想一\n</think>\n\n答一<|im_end|>"],
    ]


def test_reasoning_that_a_template_never_shows_leaves_the_answer():
    messages = turns("问", "答")
    messages[1]["reasoning_content"] = "想"
    assert learnt(messages, CHATML) == [["答<|im_end|>"]]


def test_a_call_is_learnt_from_the_generation_prompt_on():
    calls = CHATML.replace(
        "(message['content'] or '')",
        "((message['content'] or '') + ('<call>' + message['tool_calls'][0]['name'] + '</call>' if message['tool_calls'] else ''))",
    )
    messages = turns("天气？", "")
    messages[1]["tool_calls"] = [{"name": "weather"}]
    messages += [{"role": "tool", "content": "晴"}, {"role": "assistant", "content": "今天晴。"}]
    assert learnt(messages, calls) == [["<call>weather</call><|im_end|>", "今天晴。<|im_end|>"]]


def test_a_template_that_rewrites_text_is_refused_not_guessed():
    upper = CHATML.replace("(message['content'] or '')", "message['content'][:3]")
    with pytest.raises(TemplateError, match="rewrites"):
        learnt(turns("问", "a long answer"), upper)


def test_what_a_template_raises_is_the_reason_of_the_drop():
    strict = "{%- if messages[0].role == 'system' -%}{{ raise_exception('no system role') }}{%- endif -%}" + CHATML
    messages = [{"role": "system", "content": "s"}, *turns("q", "a")]
    assert decoded(messages, strict) == "template: no system role"
