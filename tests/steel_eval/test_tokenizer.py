"""Variables of a chat template, set for good: they reach it as they were given."""

import pytest
from tests.steel_eval import toys

from steel_data.errors import InputError
from steel_eval.tokenizer import switched

TEMPLATE = "{{ style }}|{% for m in messages %}{{ m.content }}{% endfor %}"


def rendered(value):
    tokenizer = toys.tokenizer()
    tokenizer.chat_template = TEMPLATE
    return switched(tokenizer, {"style": value}).apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)


@pytest.mark.parametrize("value", ["简短 😀", 'a "quoted"\nline', ["😀", 1], {"k": "é"}, True, 2.5])
def test_a_value_is_rendered_as_it_was_given(value):
    """An emoji came as two halves of which neither is a character."""
    assert rendered(value) == f"{value}|?"


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_jinja_would_read_as_a_name_that_nobody_set_is_refused(value):
    with pytest.raises(InputError, match=r"Fix: a finite number"):
        rendered(value)
