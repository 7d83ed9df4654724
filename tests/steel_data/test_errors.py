"""One line a fault, whatever another library says or does not say."""

import pytest

from steel_data.errors import excerpt, first_line, nearest, one_line, visible


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError(""), "ValueError"),
        (ValueError(), "ValueError"),
        (KeyError("\n \n"), "'\\n \\n'"),
        (RuntimeError("  \n"), "RuntimeError"),
        (OSError("a sentence."), "a sentence"),
        (ValueError("\x1b[2Jgone"), "\\x1b[2Jgone"),
    ],
)
def test_the_first_line_of_any_exception(error, line):
    assert first_line(error) == line


def test_it_is_cut():
    assert first_line(ValueError("x" * 500)) == "x" * 159 + "…"
    assert first_line(ValueError("x" * 500), 80) == "x" * 79 + "…"


def test_what_comes_from_data_is_safe_in_a_terminal():
    assert excerpt("a\rb\u202ec") == one_line("a\rb\u202ec") == "a\\rb\\u202ec"


def test_a_full_width_blank_is_text_but_an_escape_in_what_a_mixture_stores() -> None:
    """The evidence in dropped/ is part of a mixture's bytes: its form must not change."""
    assert visible("甲\u3000乙\n") == "甲\u3000乙\n"
    assert one_line("甲\u3000乙\n") == "甲\u3000乙\\n"
    assert excerpt("甲\u3000乙\n") == "甲\\u3000乙\\n"


def test_the_nearest_known_word():
    assert nearest("lenght", ["length", "language"]) == " Did you mean 'length'? Known: language, length."
    assert nearest("x", []) == ""
