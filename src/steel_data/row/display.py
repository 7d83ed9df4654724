"""Rows made readable: conversations as labelled turns, and text of which nothing can act on a terminal or a page."""

import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from steel_data.chinese import heading, say
from steel_data.errors import is_spokesman
from steel_data.errors import one_line as one_line
from steel_data.errors import visible as visible
from steel_data.store.names import told


@dataclass(frozen=True)
class Turn:
    """One part of a conversation as shown. `role` is bare (for colour), `label` says more (`assistant, reasoning`)."""

    role: str
    label: str
    text: str
    more: int = 0  # characters that were cut off
    shared: slice | None = None  # what a row and a benchmark's item have in common


def turns(row: dict[str, Any]) -> list[Turn]:
    """Return the parts of a mixture row in order: tools, then each message's reasoning, text and calls.

    A preference row shows the prompt, then the chosen and the rejected answer; a judged answer says good or bad. A row
    without a conversation gives [].
    """
    parts = [Turn("tool", "tools", str(row["tools"]))] if row.get("tools") else []
    if row.get("messages") is not None:
        return parts + [part for message in row["messages"] for part in _message(message, "")]
    judged = "good, " if row.get("label") else "bad, "
    for column, prefix in (("prompt", ""), ("chosen", "chosen, "), ("rejected", "rejected, "), ("completion", judged)):
        parts += [part for message in row.get(column) or () for part in _message(message, prefix)]
    return parts


def _message(message: dict[str, Any], prefix: str) -> list[Turn]:
    role = str(message["role"])
    label = prefix + role
    if message.get("loss") is not None:
        label += ", trained on" if message["loss"] else ", not trained on"
    parts = []
    if message.get("reasoning_content"):
        parts.append(Turn(role, f"{label}, reasoning", message["reasoning_content"]))
    if message["content"] or not message.get("tool_calls"):
        parts.append(Turn(role, label, message["content"] or ""))
    for call in message.get("tool_calls") or ():
        function = (call or {}).get("function") or {}
        arguments = function.get("arguments")
        shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        parts.append(Turn(role, f"{label}, call", f"{function.get('name')}({shown})"))
    return parts


def shortened(parts: list[Turn], length: int, most: int) -> list[Turn]:
    """Return at most `most` turns (2 or more) of at most `length` characters, saying what was left out.

    The last two always stay: they are the answer, and in a preference row both answers.
    """
    cut = [replace(t, text=t.text[:length], more=max(len(t.text) - length, 0)) for t in parts]
    if len(cut) <= most:
        return cut
    return [*cut[: most - 2], Turn("", "", f"{len(cut) - most:,} more turns"), *cut[-2:]]


def harmless(text: str) -> str:
    """Return text from data (names, reasons, warnings) for rich to print in a line: nothing of it acts, no markup."""
    return escape(one_line(text))


def run_shown(as_json: bool, command: Callable[[], Any]) -> None:
    """Run a command that prints for people and returns the same as data: with `as_json` that is printed, the rest told.

    Then stdout holds JSON alone, and what people read goes to stderr.
    """
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        found = command()
    if as_json:
        print_data(found)


def print_data(found: Any) -> None:
    """Print plain data as JSON: what is not a number as null, what JSON has no word for (dates, paths) as text.

    All of it in ASCII: nothing of it acts on a terminal.
    """
    print(json.dumps(_finite(found), indent=2, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


PIPED = 10_000  # cells: what is not a terminal has no width, and nothing in it is broken or cut
_EAST = "\u2e80-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"  # scripts that break between any two characters
_PIECES = re.compile(rf"[{_EAST}][，。、；：？！）」』”]*|[^\s{_EAST}]+|\s+")  # but not before a stop


class Lines(Console):
    """A console that breaks a line (`soft_wrap`) between words; a word that is longer than it, a path, stays whole."""

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """Print as rich does; lines of text broken where they are longer than the terminal is wide."""
        if not soft_wrap or not self.is_terminal or len(objects) != 1 or not isinstance(objects[0], str | Text):
            super().print(*objects, soft_wrap=soft_wrap, **options)
            return
        asked = {key: options[key] for key in ("markup", "emoji", "highlight") if key in options}
        text = self.render_str(objects[0], **asked) if isinstance(objects[0], str) else objects[0]
        for line in text.split("\n", allow_blank=True):
            for part in line.divide(breaks(line.plain, self.width)):
                part.rstrip()
                super().print(part, soft_wrap=True, **options)


def breaks(line: str, width: int) -> list[int]:
    """Return where a line is broken so that no part is wider than `width` cells, but for one word that is."""
    found, used = [], 0
    for piece in _PIECES.finditer(line):
        cells = cell_len(piece[0])
        if used and used + cells > width and not piece[0].isspace():
            found.append(piece.start())
            used = 0
        used += cells
    return found


def print_line(line: str) -> None:
    """Print one line of plain text, in which nothing acts: broken between words on a terminal, whole in a pipe."""
    console().print(Text(one_line(line)), soft_wrap=True)


def told_line(line: str, indent: int = 0, style: str = "", out: Console | None = None) -> None:
    """Print one line as `print_line` does, in the reader's language."""
    (out or console()).print(Text(" " * indent + one_line(say(line)), style=style), soft_wrap=True)


def command(*words: str | Path, **options: str | Path | Sequence[str] | None) -> str:
    """Return a command line of `steel`, as a shell reads it. options: None is none, several values are one each."""
    for name, value in options.items():
        values = [value] if isinstance(value, str | Path) else value or ()
        words += tuple(word for one in values for word in (f"--{name.replace('_', '-')}", one))
    return shlex.join(["steel", *(told(word) if isinstance(word, Path) else word for word in words)])


def print_next(*steps: str) -> None:
    """Print what may be done next, as a command's last line: each step a `command` and, behind it, what that does."""
    if not is_spokesman():
        return
    # step by step: no other sentence of the catalogue fits the whole line
    line, out = one_line(heading("Next: {}.").format(heading("; ").join(map(say, steps)))), console()
    if out.is_terminal and cell_len(line) > out.width:  # each from its own line, to be copied
        line = re.sub(r"(; |；)(?=steel )", lambda between: f"{between[0].rstrip()}\n  ", line)
    out.print(Text(line), soft_wrap=True)


def console() -> Console:
    """Return a console on stdout, as wide as the terminal; without one so wide that no line breaks."""
    with suppress(AttributeError, ValueError):  # Windows' older code pages hold no Chinese: a mark instead of a crash
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    out = Lines(highlight=False)
    return out if out.is_terminal else Lines(highlight=False, width=PIPED)


def plain_table(*columns: str, left: int = 1) -> Table:
    """Return a table without lines: the first `left` columns, names, to the left, numbers to the right.

    The headings are in the reader's language.
    """
    table = Table(box=SIMPLE, pad_edge=False)
    for i, name in enumerate(columns):
        indent = " " * (len(name) - len(name.lstrip()))
        table.add_column(indent + heading(name.lstrip()), justify="left" if i < left else "right", no_wrap=True)
    return table


def print_table(table: Table, out: Console | None = None) -> None:
    """Print a table whole: where the terminal is narrower, each row as a name and its filled columns below it.

    No number is ever cut or broken.
    """
    out = out or console()
    if Measurement.get(out, out.options.update(max_width=PIPED), table).maximum <= out.width:
        out.print(table)
        return
    names = [str(column.header) for column in table.columns]
    if table.title:
        out.print(table.title)
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *cells = (Text.from_markup(cell) if isinstance(cell, str) else Text(str(cell)) for cell in row)
        out.print(Text.assemble((first.plain or names[0], "bold")), soft_wrap=True)
        line = Text("  ")
        for name, cell in zip(names[1:], cells, strict=True):
            if not cell.plain.strip():
                continue
            said = Text.assemble((name, "dim"), " " * bool(name), cell)
            if line.plain.strip() and line.cell_len + 3 + said.cell_len > out.width:
                out.print(line, soft_wrap=True)
                line = Text("  ")
            line.append("   " * bool(line.plain.strip())).append_text(said)
        if line.plain.strip():
            out.print(line, soft_wrap=True)
