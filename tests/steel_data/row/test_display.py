import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from steel_data.row.display import one_line, plain_table, print_table, shortened, turns, visible


@given(st.text())
def test_nothing_that_acts_is_left(text: str) -> None:
    shown = visible(text)
    acting = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}
    assert acting <= {"\n", "\t", "\u200c", "\u200d"}
    assert visible(shown) == shown
    assert "\n" not in one_line(text)


def test_text_stays_as_it_is() -> None:
    text = "第一行\n\t缩进　全角 👩‍🔬 <b>*x*</b> é"
    assert visible(text) == text


def test_escapes_say_which_character_it_was() -> None:
    assert visible("\x1b[31m\u202e\U000e0041") == "\\x1b[31m\\u202e\\U000e0041"


def test_turns_of_a_tool_conversation_in_order() -> None:
    call = {"id": None, "type": "function", "function": {"name": "weather", "arguments": '{"city":"北京"}'}}
    row = {
        "tools": '[{"name":"weather"}]',
        "messages": [
            {"role": "user", "content": "天气？", "reasoning_content": None, "tool_calls": None, "loss": None},
            {"role": "assistant", "content": "", "reasoning_content": "要查", "tool_calls": [call], "loss": False},
            {"role": "tool", "content": "晴", "reasoning_content": None, "tool_calls": None, "loss": None},
        ],
    }
    assert [(t.role, t.label, t.text) for t in turns(row)] == [
        ("tool", "tools", '[{"name":"weather"}]'),
        ("user", "user", "天气？"),
        ("assistant", "assistant, not trained on, reasoning", "要查"),
        ("assistant", "assistant, not trained on, call", 'weather({"city":"北京"})'),
        ("tool", "tool", "晴"),
    ]


def test_turns_of_a_preference_row() -> None:
    row = {key: [{"role": "assistant", "content": key}] for key in ("prompt", "chosen", "rejected")}
    assert [t.label for t in turns(row)] == ["assistant", "chosen, assistant", "rejected, assistant"]


def test_shortened_says_what_is_left_out() -> None:
    row = {"messages": [{"role": "user", "content": f"{i}" * 12} for i in range(6)]}
    cut = [(t.text, t.more) for t in shortened(turns(row), 10, 3)]
    assert cut == [("0" * 10, 2), ("3 more turns", 0), ("4" * 10, 2), ("5" * 10, 2)]
    assert [t.more for t in shortened(turns(row), 99, 6)] == [0] * 6


def test_a_row_without_conversation_has_no_turns() -> None:
    assert turns({"messages": None}) == []


NUMBERS = [["chat", "16,431", "1,234,567", "−12"], ["all", "20,000", "9,999,999", ""]]


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_number_of_a_table_is_ever_cut(width: int) -> None:
    """A terminal that is too narrow gets each row as a name and its columns below it."""
    table = plain_table("source", "rows that were read", "tokens in the mixture", "change")
    for row in NUMBERS:
        table.add_row(*row)
    out = io.StringIO()
    print_table(table, Console(file=out, width=width, force_terminal=True, color_system=None))
    shown = out.getvalue()
    assert all(cell in shown for row in NUMBERS for cell in row) and "…" not in shown
    # beside one number nothing more is needed; a name and its number alone may be wider than 20 cells
    assert max(map(len, shown.splitlines())) <= max(width, 2 + len("tokens in the mixture 1,234,567"))


def test_a_pipe_gets_the_whole_table(capsys: pytest.CaptureFixture[str]) -> None:
    table = plain_table("source", *(f"column {n}" for n in range(40)))
    table.add_row("chat", *(f"{10**n:,}" for n in range(40)))
    print_table(table)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "chat" in line)
    assert all(f"{10**n:,}" in line for n in range(40)) and "\x1b" not in line
