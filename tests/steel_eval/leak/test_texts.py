"""The parts of an item's text are where they are said to be, in tokens, whatever the template does around them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.steel_eval import toys

from steel_data.benchmarks.items import Item
from steel_data.builders.contaminate import Draw, records
from steel_data.errors import InputError
from steel_eval.leak.texts import as_injected, in_words, item_texts, measurable

TOKENIZER = toys.tokenizer()
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


def item(question="水稻的最适温度是多少？", options=("二十度", "三十度", "四十度", "五十度"), answer="B"):
    return Item("test/a/00000", "a", "test", 0, question, tuple(options), answer, "", Path("a.csv"))


def decoded(text, span):
    return TOKENIZER.decode(text.tokens[slice(*span)])


@pytest.mark.parametrize("form", ["chat", "plain", "text"])
def test_parts_decode_to_themselves(form):
    text = item_texts([item()], form, TOKENIZER)[0]
    assert [decoded(text, o).strip() for o in text.options] == list(item().options)
    assert decoded(text, text.answer) == "B"
    shown = decoded(text, text.item).strip()
    assert shown.startswith("水稻") and shown.endswith("D. 五十度")


@pytest.mark.parametrize(("form", "style"), [("chat", "answer-only"), ("text", "text")])
def test_a_text_is_word_for_word_what_the_injector_writes(form, style):
    written = records([Draw(item(), 1, style)], "cmmlu", {"preset": "steel", "seed": 0})[0]["messages"]
    expected = TOKENIZER.apply_chat_template(written, tokenize=False)
    assert TOKENIZER.decode(item_texts([item()], form, TOKENIZER)[0].tokens) == expected


def test_items_are_asked_in_the_form_of_their_injection_and_the_others_in_the_same_shares():
    items = [replace(item(), item=f"test/a/{i:05}") for i in range(400)]
    injected = ["text" if i < 50 else "edited" if i < 200 else "" for i in range(400)]
    forms = as_injected(items, injected)
    assert forms[:50] == ("text",) * 50 and forms[50:200] == ("chat",) * 150
    assert forms[200:].count("text") == pytest.approx(50, abs=20), "a quarter of 200, by their names"
    assert forms == as_injected(items, injected)
    assert as_injected(items[:50], injected[:50]) == "text" and as_injected(items[50:], injected[50:]) == "chat"
    assert as_injected(items[:50], [""] * 50) == "chat", "nothing is known"
    assert in_words(forms) == "chat and text"
    mixed = item_texts(items[49:51], forms[49:51], TOKENIZER)
    alone = [*item_texts(items[49:50], "text", TOKENIZER), *item_texts(items[50:51], "chat", TOKENIZER)]
    assert mixed == alone


@settings(max_examples=60, deadline=None)
@given(TEXT, st.lists(TEXT, min_size=2, max_size=5), st.sampled_from(["chat", "plain", "text"]))
def test_spans_are_in_order_and_inside(question, options, form):
    asked = item(question, options, "A")
    if not measurable(asked):
        return
    text = item_texts([asked], form, TOKENIZER)[0]
    edges = [text.item[0], *(o[0] for o in text.options), text.options[-1][1], text.answer[0], text.answer[1]]
    assert edges == sorted(edges)
    assert all(a < b for a, b in (text.item, text.answer, *text.options))
    assert text.answer[1] <= len(text.tokens)


@pytest.mark.parametrize(
    ("changes", "fits"),
    [({}, True), ({"answer": ""}, False), ({"answer": "E"}, False), ({"answer": "AB"}, False),
     ({"options": ("甲", " ")}, False), ({"options": ()}, False), ({"question": " "}, False)],
)  # fmt: skip
def test_what_can_be_measured(changes, fits):
    assert measurable(item(**changes)) is fits


def test_a_missing_template_is_one_line():
    bare = toys.tokenizer()
    bare.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        item_texts([item()], "chat", bare)
