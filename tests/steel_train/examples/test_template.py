"""What is learnt, for templates of every habit: each test reads the learnt text back."""

import pytest
from tests.steel_train.toys import INST, PLAIN, QWEN3_LIKE, tokenizer

from steel_train.examples.encode import Encoder
from steel_train.examples.template import Template, TemplateError, pieces
from steel_train.examples.tokenizer import CHATML, end_tokens, renderer


def turns(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def learnt(messages, template=CHATML):
    """Return the learnt texts of every piece."""
    tok = tokenizer(template)
    found = pieces(messages, None, Template(renderer(tok), end_tokens(tok)))
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
    piece = pieces(messages, None, Template(renderer(tok), end_tokens(tok)))[0]
    assert [piece.text[a - 10 : a] for a, _ in piece.spans] == ["assistant\n"] * 2


def test_a_turn_marked_loss_false_is_context_only():
    messages = turns("问", "错的答案", "再问", "对的答案")
    messages[1]["loss"] = False
    assert learnt(messages) == [["对的答案<|im_end|>"]]


def test_a_trimming_template_without_generation_marks():
    messages = turns(" 问 ", "\n答案 ", "又问", " 再答")
    # the blank before the answer too: it stands behind the prompt, so the model writes it
    assert learnt(messages, INST) == [[" 答案 <|im_end|>", " 再答 <|im_end|>"]]


def test_a_template_that_ends_no_turn_gets_an_eos_at_the_end():
    assert learnt(turns("问", "答"), PLAIN) == [["答"]]
    # it takes the place of the newline that the template would write
    assert decoded(turns("问", "答一", "问", "答二"), PLAIN) == ["答一答二<|im_end|>"]


def test_an_empty_thinking_block_is_learnt_unless_the_generation_prompt_gives_it():
    """Asked from the prompt, the model stands before the block: it has to write it, or it was never taught there."""
    assert learnt(turns("问", "答"), QWEN3_LIKE) == [["<think>\n\n</think>\n\n答<|im_end|>"]]
    given = QWEN3_LIKE.replace(
        "assistant\\n' -}}{%- endif -%}\n", "assistant\\n<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}\n"
    )
    assert given != QWEN3_LIKE
    assert learnt(turns("问", "答"), given) == [["答<|im_end|>"]]


@pytest.mark.parametrize("template", [CHATML, INST, PLAIN, QWEN3_LIKE])
def test_the_context_of_every_turn_is_exactly_the_generation_prompt(template):
    tok = tokenizer(template)
    messages = turns("问一", "答一", "问二", "答二", "问三", "答三")
    found = pieces(messages, None, Template(renderer(tok), end_tokens(tok)))
    contexts = {
        turn: piece.text[:start] for piece in found for (start, _), turn in zip(piece.spans, piece.turns, strict=True)
    }
    assert contexts == {i: renderer(tok)(messages[:i], None, True) for i in (1, 3, 5)}


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


def test_reasoning_that_a_template_has_no_place_for_is_written_into_the_answer():
    """It was lost in silence before: the answer alone was learnt."""
    messages = turns("问", "答")
    messages[1]["reasoning_content"] = "想"
    assert learnt(messages, CHATML) == [["<think>\n想\n</think>\n\n答<|im_end|>"]]


STRIPS = """{%- for m in messages -%}{%- if m.role == 'user' -%}<|im_start|>{{ m.content }}{%- else -%}
{{- '<|im_end|>A:' + m.content.split('</think>')[-1] + eos_token -}}{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_end|>A:<think>\\n' -}}{%- endif -%}"""


@pytest.mark.parametrize("inline", [False, True])
def test_a_template_that_strips_every_thought_still_trains_them(inline):
    """DeepSeek R1's template was made for asking: it drops the thought of the last turn as well."""
    messages = turns("问一", "答一", "问二", "答二")
    for i, thought in ((1, "想一"), (3, "想二")):
        messages[i] |= (
            {"content": f"<think>\n{thought}\n</think>\n\n{messages[i]['content']}"}
            if inline
            else {"reasoning_content": thought}
        )
    assert learnt(messages, STRIPS) == [["想二\n</think>\n\n答二<|im_end|>"], ["想一\n</think>\n\n答一<|im_end|>"]]
    plain = pieces(turns("问", "答"), None, Template(renderer(tok := tokenizer(STRIPS)), end_tokens(tok)))
    assert [(p.text[slice(*p.spans[0])], p.aside) for p in plain] == [("答<|im_end|>", 1)], (
        "and says what leaves the prompt"
    )


LAST_ONLY = CHATML + "{%- if not add_generation_prompt -%}<|endoftext|>{%- endif -%}"


def test_what_a_template_writes_behind_the_last_answer_only_is_no_end_of_a_turn():
    """Phi-3 closes the conversation with eos; the turn had ended before."""
    tok = tokenizer(LAST_ONLY)
    found = pieces(
        turns("问一", "答一", "问二", "答二"), None, Template(renderer(tok), ("<|endoftext|>", "<|im_end|>"))
    )
    assert [[p.text[a:b] for a, b in p.spans] for p in found] == [["答一<|im_end|>", "答二<|im_end|>"]]


HEADERS = """{%- for m in messages -%}{{- '<|im_start|>' if m.role == 'assistant' else '<|endoftext|>' -}}{{- m.content -}}
{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>{%- endif -%}"""


def test_where_answers_have_no_end_the_header_of_the_next_turn_ends_them():
    """GLM: the model stops by writing whose turn is next."""
    tok = tokenizer(HEADERS)
    [piece] = pieces(
        turns("问一", "答一", "问二", "答二"), None, Template(renderer(tok), ("<|im_end|>", "<|endoftext|>"))
    )
    assert [piece.text[a:b] for a, b in piece.spans] == ["答一<|endoftext|>", "答二<|endoftext|>"]
    assert piece.ended == (True, True)


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


def test_a_message_of_others_that_a_template_leaves_out_is_refused():
    deaf = CHATML.replace(
        "{%- for message in messages -%}", "{%- for message in messages if message.role != 'tool' -%}"
    )
    messages = [
        *turns("天气？", "我看看。"),
        {"role": "tool", "content": "晴"},
        {"role": "assistant", "content": "今天晴。"},
    ]
    assert decoded(messages, deaf) == "template: leaves out the text of a tool message"


CALLS = CHATML.replace("(message['content'] or '')", "((message['content'] or '') + WRITTEN)")
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "沈阳"}}}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("(message.tool_calls[0].function.arguments | tojson if message.tool_calls else '')", '{"city": "沈阳"}<|im_end|>'),
        # DeepSeek wants text, and fails on an object; another writes an object as Python does
        ("(message.tool_calls[0].function.arguments if message.tool_calls else '')", '{"city": "沈阳"}<|im_end|>'),
        ("(message.tool_calls[0].function.arguments | string if message.tool_calls else '')", '{"city": "沈阳"}<|im_end|>'),
        ("''", "template: does not render tool calls"),
        ("(message.tool_calls[0].function.name if message.tool_calls else '')", "template: does not render the arguments of tool calls"),
    ],
)  # fmt: skip
def test_arguments_are_given_as_the_template_wants_them_and_calls_that_it_leaves_out_are_refused(written, found):
    messages = turns("天气？", "")
    messages[1]["tool_calls"] = [CALL]
    got = decoded(messages, CALLS.replace("WRITTEN", written))
    assert got == found or got == [found]


def test_tools_that_a_template_leaves_out_are_refused():
    tok = tokenizer(CHATML)
    with pytest.raises(TemplateError, match="does not render tools"):
        pieces(turns("问", "答"), [CALL], Template(renderer(tok), end_tokens(tok)))


def test_an_answer_with_nothing_before_it_is_no_turn_to_learn():
    assert decoded([{"role": "assistant", "content": "你好"}, *turns("问", "答")]).startswith(
        "template: the conversation begins"
    )
