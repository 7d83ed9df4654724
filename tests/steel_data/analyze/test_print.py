"""The terminal at 80 columns and the page: the verdict first, and no text of the data that could act."""

import io
import os
import re

import pytest
from rich.cells import cell_len
from tests.steel_data.toys import chat_rows, write_jsonl
from typer.testing import CliRunner

from steel_data.analyze.analysis import analyze
from steel_data.analyze.facts import facts
from steel_data.analyze.page import write_page
from steel_data.analyze.print import print_analysis
from steel_data.cli import app
from steel_data.row import display
from steel_data.row.display import Lines

EVIL = "[bold]\x1b[31m<script>alert(1)</script>\u202e{{ 7 * 7 }}"


@pytest.fixture
def said(tmp_path):
    data = tmp_path / "data"
    rows = chat_rows(30)
    odd = {"instruction": f"{EVIL} {'很长的一段话' * 40}", "output": f"<p>{EVIL}</p>", EVIL: EVIL}
    write_jsonl(data / "rows.jsonl", [*rows, rows[0], odd])
    if os.name != "nt":
        write_jsonl(data / "e\x1b[31m.jsonl", rows[1:2])  # names come from others too
    (data / "broken.jsonl").write_text(f"x{EVIL}\n")
    return facts(analyze([str(data)]))


@pytest.mark.parametrize("width", [40, 80, 132])
def test_no_line_is_wider_than_the_terminal_and_nothing_acts(said, monkeypatch, width):
    out = io.StringIO()
    terminal = Lines(file=out, width=width, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(display, "Lines", lambda **_: terminal)
    print_analysis(said)
    printed = re.sub("\x1b\\[[0-9]*m", "", out.getvalue())  # the verdict is bold
    assert max(map(cell_len, printed.splitlines())) <= width
    assert "\x1b" not in printed and "\u202e" not in printed
    assert width > 40 or re.search("^    rows.jsonl:30  .*…$", printed, re.M)  # a cut excerpt of the data has a mark


def test_in_a_pipe_every_line_is_whole_and_plain(said, capsys):
    print_analysis(said)
    printed = capsys.readouterr().out
    assert printed.startswith(said["verdict"] + "\n")
    assert max(map(cell_len, printed.splitlines())) > 132 and "\x1b" not in printed
    assert "[bold]" in printed  # no markup either
    assert re.search(r"lost: \d \(.*\)  dedup:exact\n(?:.*\n)*?    rows.jsonl:30  .*\n      = rows.jsonl:0  ", printed)
    assert "broken.jsonl: line 1: broken JSON" in printed


def test_the_page_holds_the_same_and_every_text_is_escaped(said, tmp_path):
    write_page(tmp_path / "page.html", said)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<script") == 1 and "\x1b" not in page and "\u202e" not in page and ">49<" not in page
    assert "&lt;script&gt;" in page
    for words in ("dedup:exact", "rows.jsonl:30", "rows.jsonl:0", "&#34;rows.jsonl&#34;"):
        assert words in page.replace(":<wbr>", ":")


def test_the_command_writes_page_and_recipe_and_refuses_to_write_over_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", chat_rows(5))
    asked = ["analyze", "rows.jsonl", "--recipe", "mine.toml", "--html", "page.html"]
    done = CliRunner().invoke(app, asked)
    assert (done.exit_code, (tmp_path / "page.html").is_file()) == (0, True)
    assert 'data_root = "."' in (tmp_path / "mine.toml").read_text("utf-8")
    assert "Next: steel build mine.toml builds the mixture." in done.output
    again = CliRunner().invoke(app, asked)
    assert "mine.toml: is there already" in str(again.exception)
    assert CliRunner().invoke(app, [*asked, "--force"]).exit_code == 0


def test_what_cannot_be_built_is_told_before_the_recipe_is_refused(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"text": "a"}])
    done = CliRunner().invoke(app, ["analyze", str(tmp_path), "--recipe", str(tmp_path / "mine.toml")])
    assert "no published layout has these columns" in done.output
    assert "mine.toml: not written" in str(done.exception)
    assert not (tmp_path / "mine.toml").exists()
