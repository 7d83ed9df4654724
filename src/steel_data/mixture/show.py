"""Conversations of a mixture in the terminal: coloured where there is one, plain lines where the output is piped.

Files are read one after the other, narrow columns first, and reading stops when enough rows are found: a mixture of
millions of rows shows its first ten at once.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import regex
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from steel_data.errors import InputError, nearest
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.rows import Row, rows_where
from steel_data.row.display import console, one_line, turns, visible
from steel_data.row.record import KINDS

_COLOURS = {"user": "yellow", "assistant": "cyan", "system": "magenta", "tool": "green"}
_CLOSING, _OPENING = "，。、；：！？）》」』】〉”’…—,.;:!?)]}%", "（《「『【〈“‘([{"


def show_rows(
    folder: Path,
    *,
    source: str | None = None,
    kind: str | None = None,
    dropped: bool = False,
    grep: str | None = None,
    number: int = 10,
) -> None:
    """Print the first `number` rows that fit; the mixture's order is random, so they are a fair sample.

    dropped: rows of dropped/ with step, reason, witness and error. grep: a regular expression, looked for in all turns,
    in a dropped row also in reason, witness and error. Raises InputError for an unknown source or kind, a broken
    expression, a folder without a mixture or with a damaged file.
    """
    pattern, files = _pattern(grep), _files(folder, source, kind, dropped)
    out = console()
    total = sum(entry["rows"] for entry in files.values())
    count = 0
    for row in _fitting(folder, files, {"source": source, "kind": kind}, pattern):
        count += 1
        if count > number:
            break
        _print(out, row, count, pattern)
    _print_end(out, min(count, number), count > number, total, "dropped rows" if dropped else "rows")


def print_rows(
    folder: Path,
    *,
    source: str | None = None,
    kind: str | None = None,
    dropped: bool = False,
    grep: str | None = None,
    number: int = 10,
) -> None:
    """Print the rows that `show_rows` would show as JSON, one a line, with all their columns, and nothing else."""
    files = _files(folder, source, kind, dropped)
    for row in islice(_fitting(folder, files, {"source": source, "kind": kind}, _pattern(grep)), number):
        print(json.dumps(row, default=str))


def _files(folder: Path, source: str | None, kind: str | None, dropped: bool) -> dict[str, dict[str, Any]]:
    """Return the files that hold such rows. Raises InputError for an unknown source or kind."""
    manifest = read_manifest(folder)
    if source is not None and source not in manifest["sources"]:
        raise InputError(f"{folder}: no source '{source}'.{nearest(source, manifest['sources'])}")
    if kind is not None and kind not in KINDS:
        raise InputError(f"{folder}: no kind '{kind}'.{nearest(kind, KINDS)}")
    files: dict[str, dict[str, Any]] = manifest["dropped_files" if dropped else "output"]
    return files


def _pattern(grep: str | None) -> regex.Pattern[str] | None:
    try:
        return regex.compile(grep) if grep is not None else None
    except regex.error as error:
        raise InputError(f"--grep '{grep}': {error}. Fix: a regular expression.") from None


def _fitting(
    folder: Path, files: dict[str, Any], equal: dict[str, str | None], pattern: regex.Pattern[str] | None
) -> Iterator[Row]:
    # a dropped row of no conversation has no kind; it is shown by its source
    wanted = {name: value for name, value in equal.items() if value is not None}
    for row in rows_where(folder, files, wanted):
        if pattern is None or any(pattern.search(text) for text in _texts(row)):
            yield row


def _texts(row: Row) -> Iterator[str]:
    yield from (turn.text for turn in turns(row))
    yield from (row[key] for key in ("reason", "witness_text", "error") if row.get(key))


def _print(out: Console, row: Row, number: int, pattern: regex.Pattern[str] | None) -> None:
    parts = [(turn.label, _COLOURS.get(turn.role, "white"), turn.text) for turn in turns(row)] + _verdict(row)
    head, place = _head(row, number), _place(row)
    if out.is_terminal:
        style = "red" if row.get("dose") or row.get("reason") else "dim"
        out.print(Rule(Text(head, style="bold"), align="left", style=style))
        out.print(_wrapped(Text(place, style="dim"), out.width))
        for label, colour, text in parts:
            out.print(Text(one_line(label), style=f"bold {colour}"))
            out.print(Padding(_wrapped(_marked(text.rstrip("\n"), pattern), out.width - 2), (0, 0, 0, 2)))
        out.print()
        return
    # Piped: no colour, and no line broken that the text does not break, so that it can be searched and cut
    lines = [f"── {head} · {place}"]
    for label, _, text in parts:
        lines += [f"{one_line(label)}:", *("  " + line for line in visible(text.rstrip("\n")).split("\n"))]
    out.file.write("\n".join([*lines, "", ""]))  # not by rich, which turns tabs into blanks


def _head(row: Row, number: int) -> str:
    """Return what is to be seen first of a row: source, kind, language, length, dose."""
    facts = [str(number), row["source"], row.get("kind"), row.get("language")]
    if row.get("chars") is not None:
        facts.append(f"{row['chars']:,} characters")
    if row.get("dose"):
        facts.append(f"injected, dose {row['dose']}")
    if row.get("copy"):
        facts.append(f"copy {row['copy']}")
    return " · ".join(one_line(fact) for fact in facts if fact)


def _place(row: Row) -> str:
    """Return where a row comes from, and its id."""
    item = f"{row['benchmark']} {row['item']}" if row.get("item") else None
    facts = [f"{row['origin_file']} row {row['origin_row']}", item, row.get("id")]
    return " · ".join(one_line(fact) for fact in facts if fact)


def _verdict(row: Row) -> list[tuple[str, str, str]]:
    """Return the parts that only a dropped row has, as (label, colour, text): why it fell, and the evidence."""
    if "reason" not in row:
        return []
    parts = [("dropped", "red", f"{row['reason']} (step {row['step']})")]
    if row.get("error"):
        parts.append(("evidence", "red", row["error"]))
    if row.get("witness_id") or row.get("witness_text"):
        parts.append((f"against it, {row.get('witness_id')}", "red", row.get("witness_text") or ""))
    return parts


def _wrapped(text: Text, width: int) -> Text:
    """Return text with its lines broken to `width` cells, between wide characters as well as at blanks.

    rich breaks at blanks only, and so leaves the end of a line empty where a run of Chinese does not fit. No line
    begins with a closing mark or ends with an opening one.
    """
    out = Text(no_wrap=True, overflow="fold")
    for line in text.split("\n", allow_blank=True):
        plain, start, cells, last = line.plain, 0, 0, 0
        breaks: list[int] = []
        for at, character in enumerate(plain):
            if at > start and _may_break(plain[at - 1], character):
                last = at
            cells += cell_len(character)
            if cells > max(width, 2) and character != " ":  # a blank may hang over the edge
                start = last if last > start else at
                breaks.append(start)
                cells = cell_len(plain[start : at + 1])
        for part in line.divide(breaks):
            out.append_text(part).append("\n")
    out.right_crop(1)
    return out


def _may_break(before: str, after: str) -> bool:
    if after in _CLOSING or after == " " or before in _OPENING:
        return False
    return before == " " or cell_len(before) > 1 or cell_len(after) > 1


def _marked(text: str, pattern: regex.Pattern[str] | None) -> Text:
    """Return text that can do nothing to a terminal, with what `--grep` found set off."""
    if pattern is None:
        return Text(visible(text))
    marked, end = Text(), 0
    for match in pattern.finditer(text):
        marked.append(visible(text[end : match.start()]))
        marked.append(visible(match[0]), style="reverse")
        end = match.end()
    marked.append(visible(text[end:]))
    return marked


def _print_end(out: Console, shown: int, more: bool, total: int, what: str) -> None:
    """Say how much of the mixture this was; on stderr when piped, so that only rows are in the pipe."""
    note = f"{shown:,} of {total:,} {what}" if shown else f"none of {total:,} {what} fits"
    note += "; more with -n" if more else ""
    target = out if out.is_terminal else Console(stderr=True, highlight=False)
    target.print(Text(note, style="dim"), soft_wrap=True)
