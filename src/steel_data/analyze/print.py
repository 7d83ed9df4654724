"""An analysis in the terminal, as wide as it is, or whole in a pipe: the verdict first, then each part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from steel_data.analyze.facts import count, percent
from steel_data.chinese import heading, say
from steel_data.row.display import PIPED, command, console, one_line, plain_table, print_next, print_table, told_line

_COLUMNS, _FILES, _REASONS, _LANGUAGES, _ROLES = 24, 6, 12, 6, 10
_NAME = 28  # cells of a column's name, so that its numbers stand beside it on a terminal


def print_analysis(said: dict[str, Any], recipe: Path | None = None, paths: Sequence[str] = ("PATH",)) -> None:
    """Print what `facts` returns. recipe: where the recipe was written; paths: what was looked at."""
    out = console()
    _say(out, said["verdict"], style="bold")
    if sample := said["sample"]:
        drawn = f"{sample['rows']:,} of {sample['of']:,} rows, one in {sample['one_in']}, drawn by a hash of its number"
        _say(out, f"Sampled: {drawn}. Exact, over all rows: {sample['exact']}.")
        _say(out, "Among sampled rows there are fewer duplicates than among all.")
    if equal := said["equal_rows"]:
        says = "says" if equal == 1 else "say"
        _say(out, f"{count(equal, 'row')} {says} what an earlier one says, in every column but ids.")
    names = ", ".join(said["benchmarks"])
    _say(
        out,
        f"Compared with benchmarks: {names}." if names else "No benchmark was compared: --benchmark PATH names one.",
    )
    for left in said["left_out"][:_FILES]:
        _say(out, f"left out: {left['name']}: {left['why']}", indent=2)
    if len(said["left_out"]) > _FILES:
        _say(out, f"… and {len(said['left_out']) - _FILES} more left out", indent=2)
    for part in said["parts"]:
        _part(out, part)
    _end(out, said, paths, recipe)


def _part(out: Console, part: dict[str, Any]) -> None:
    out.print()
    _say(out, f"{part['name']}: {count(part['rows'], 'row')}, {part['what']}", style="bold")
    for file in part["files"][:_FILES] if len(part["files"]) > 1 else ():
        _say(out, f"{file['name']} ({file['format']}): {count(file['rows'], 'row')}", indent=2)
    if len(part["files"]) > _FILES:
        _say(out, f"… and {len(part['files']) - _FILES} more files", indent=2)
    for line in layout_lines(part):
        _say(out, line, indent=2)
    if part["first"]:
        _cut(out, f"the first: {part['first']}", indent=4)
    if part["unreadable"]:
        _say(out, f"unreadable: {count(part['unreadable'], 'row')}; the first:", indent=2)
        for place in part["unreadable_places"]:
            _cut(out, f"{place['file']}: {place['error']}", indent=4)
    if part["refused"]:
        _say(out, f"no recipe: {part['refused']}", indent=2)
    for warning in part["warnings"]:
        _say(out, f"warning: {warning}", indent=2)
    _columns(out, part)
    if part["roles"]:
        some = [f"{r['word']} {r['turns']:,} ({r['role'] or 'not known'})" for r in part["roles"][:_ROLES]]
        more = ", …" if len(part["roles"]) > _ROLES else ""
        _say(out, f"roles (turns): {', '.join(some)}{more}", indent=2)
    if part["sampled"]:
        _sampled(out, part["sampled"])


def layout_lines(part: dict[str, Any]) -> list[str]:
    """Return what is to be said of a part's layouts: several, none, the nearest, a proposal."""
    lines = []
    if len(part["layouts"]) > 1:
        each = ", ".join(f"{name} {rows:,}" for name, rows in part["layouts"].items())
        lines.append(f"layouts mixed, each row is read by its own columns: {each}")
    if part["mixed_with"]:
        lines.append(f"the same file holds rows for builder '{part['mixed_with']}' too, which this source drops")
    for other in part["other_columns"]:
        what = "of no known layout, " if part["layouts"] else ""
        lines.append(f"{count(other['rows'], 'row')} {what}with columns {', '.join(other['columns']) or '(none)'}")
    if near := part["nearest"]:
        lines.append(f"nearest layout: {near['layout']}; missing: {', '.join(near['missing'])}")
    elif part["other_columns"]:
        lines.append("no published layout is near")
    if part["proposed"]:
        said = part["proposed"]["columns"]
        lines.append(f"proposed, to be looked at: '{said['prompt']}' asks and '{said['response']}' answers")
    return lines


def _columns(out: Console, part: dict[str, Any]) -> None:
    if not part["columns"]:
        return
    table = plain_table("  column", "filled", "type", "mean chars", "")
    for column in part["columns"][:_COLUMNS]:
        kinds = say(" or ").join(map(heading, column["types"])) or say("empty")
        chars = f"{column['mean_chars']:,}" if "text" in column["types"] else ""
        name = _fitted(one_line(column["name"]), _NAME if out.is_terminal else PIPED)
        unread = say("not read") if column["read"] is False and column["filled"] else ""
        table.add_row(Text(f"  {name or repr('')}"), percent(column["share"]), kinds, chars, unread)
    print_table(table, out)
    if len(part["columns"]) > _COLUMNS:
        _say(out, f"… and {len(part['columns']) - _COLUMNS} more columns", indent=2)


def _sampled(out: Console, sampled: dict[str, Any]) -> None:
    rows = sampled["rows"]
    languages = [(language, share) for language, share in sampled["languages"].items() if share >= 0.001]
    some = ", ".join(f"{language} {percent(share)}" for language, share in languages[:_LANGUAGES])
    if some:
        _say(out, f"languages (of characters): {some}{', …' if len(languages) > _LANGUAGES else ''}", indent=2)
    table = plain_table("  length", *({"50 %": "median", "100 %": "longest"}.get(q, q) for q in sampled["chars"]))
    for name, word in (("chars", "chars"), ("tokens", "tokens, estimated")):
        table.add_row(f"  {heading(word)}", *(f"{n:,}" for n in sampled[name].values()))
    if sampled["chars"]:
        print_table(table, out)
    turns = list(sampled["questions"].items())
    if turns and [number for number, _ in turns] != ["1"]:
        said = ", ".join(f"{number}: {n:,}" for number, n in turns[:8])
        _say(out, f"rows by their user turns: {said}{', …' if len(turns) > 8 else ''}", indent=2)
    share, tokens = percent(sampled["kept"] / max(rows, 1)), sampled["kept_tokens"]
    _say(out, f"kept: {sampled['kept']:,} of {rows:,} ({share}), about {tokens:,} tokens", indent=2)
    for what, reasons in (("lost", sampled["dropped"]), ("noted", sampled["notes"])):
        for reason, n in list(reasons.items())[:_REASONS]:
            _say(out, f"{what}: {n:,} ({percent(n / max(rows, 1))})  {reason}", indent=2)
            for example in sampled["examples"].get(reason, ()):
                _cut(out, f"{example['place']}  {example['text']}", indent=4)
                if example["against"]:
                    _cut(out, f"= {example['against']}  {example['against_text']}", indent=6)
        if len(reasons) > _REASONS:
            _say(out, f"… and {len(reasons) - _REASONS} more", indent=2)


def _end(out: Console, said: dict[str, Any], paths: Sequence[str], recipe: Path | None) -> None:
    out.print()
    if recipe:
        _say(out, "The recipe is written.")
        print_next(f"{command('build', recipe)} builds the mixture")
    elif said["recipe"]:
        writes = command("analyze", *paths, recipe="mine.toml")
        print_next(f"{writes} writes the recipe that keeps these rows")
    else:
        _say(out, "No recipe: no part of it can be built as it is.")


def _say(out: Console, line: str, indent: int = 0, style: str = "") -> None:
    """Print a line in the reader's language, broken between words, as text that can do nothing to a terminal."""
    told_line(line, indent, style, out)


def _cut(out: Console, line: str, indent: int) -> None:
    """Print an excerpt of the data on one line, cut to the terminal's width; whole in a pipe."""
    out.print(Text(" " * indent + _fitted(one_line(line), out.width - indent)), soft_wrap=True)


def _fitted(plain: str, room: int) -> str:
    """Return a line of at most `room` cells, with a mark where it was cut."""
    return plain if cell_len(plain) <= room else set_cell_size(plain, room - 1).rstrip() + "…"
