import io
import json
import math
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from steel_data.row.display import (
    Lines,
    one_line,
    plain_table,
    print_line,
    print_table,
    run_shown,
    shortened,
    turns,
    visible,
)


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


@pytest.mark.parametrize("width", [20, 40, 80])
def test_lines_break_between_words_on_a_terminal(width: int) -> None:
    path = "runs/" + "a" * 90 + "/mixture"
    out = io.StringIO()
    terminal = Lines(file=out, width=width, force_terminal=True, color_system=None, highlight=False)
    said = f"796 rows are in the mixture. 丢弃了一百七十九行，其中最多的是语言不符，一百四十三行。Next: steel show {path} prints rows."
    terminal.print(Text(said), soft_wrap=True)
    lines = out.getvalue().splitlines()
    assert [line for line in lines if cell_len(line) > width and line.strip() != path] == []
    assert path in lines  # whole, to be copied
    assert "".join(out.getvalue().split()) == "".join(said.split())
    assert not any(line.startswith(("，", "。", " ")) for line in lines)


def test_in_a_pipe_a_line_stays_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("word " * 100 + "\x1b[2J")
    assert capsys.readouterr().out == "word " * 100 + "\\x1b[2J\n"


def test_with_json_the_words_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> dict[str, Any]:
        print_line("read this")
        return {"p": math.nan, "low": -math.inf, "n": [1.5, "中\u202e"]}

    run_shown(True, command)
    said = capsys.readouterr()
    assert said.err == "read this\n" and json.loads(said.out) == {"p": None, "low": None, "n": [1.5, "中\u202e"]}
    assert said.out.isascii()
    run_shown(False, command)
    assert capsys.readouterr().out == "read this\n"
