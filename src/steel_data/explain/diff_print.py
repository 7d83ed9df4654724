"""Print what changed between two mixtures: keys, a warning where an ablation has two causes, tables, examples."""

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from steel_data.explain.diff import Diff, Example, Side
from steel_data.explain.diff_rows import Books
from steel_data.row.display import console, one_line, plain_table

_WINDOW = 160  # characters of an example
_LINES = 40  # changed keys shown
_WORDS = {
    "added": "added, only in B",
    "removed": "removed, only in A",
    "changed": "changed: another text at the same origin",
    "moved": "moved to another source",
    "repeated": "repeated otherwise",
}


def print_diff(found: Diff, out: Console | None = None) -> None:
    """Print a diff at 80 columns or more; texts of rows are made harmless and cut to where they differ."""
    out = out or console()
    out.print(Text(f"A: {one_line(str(found.a.path))}\nB: {one_line(str(found.b.path))}"), soft_wrap=True)
    _print_recipe(found, out)
    tokens = {
        "source": (found.a.tokens_by_source, found.b.tokens_by_source),
        "language": (found.a.tokens_by_language, found.b.tokens_by_language),
        "kind": None,
    }
    for column, by in found.by.items():
        _print_books(out, column, by, tokens[column])
    _print_totals(found, out)
    for change, title in _WORDS.items():
        mine = [example for example in found.examples if example.change == change]
        if mine:
            out.print(Text(f"\n{title} (records: {found.totals[change]:,}), for example", style="bold"))
            for example in mine:
                _print_example(out, example)


def _print_recipe(found: Diff, out: Console) -> None:
    if not found.recipe:
        out.print("the recipes ask for the same")
    for change in found.recipe[:_LINES]:
        out.print(Text(f"  {one_line(change.line())}"), soft_wrap=True)
    if len(found.recipe) > _LINES:
        out.print(f"  … and {len(found.recipe) - _LINES:,} more keys")
    if len(found.things) > 1:
        text = f"warning: {len(found.things)} things differ, so no difference in scores can be laid to one of them: "
        out.print(Text(text + one_line("; ".join(found.things)), style="bold yellow"), soft_wrap=True)
    elif found.things and not found.recipe:
        out.print(Text(f"but this differs: {one_line(found.things[0])}"), soft_wrap=True)


def _print_books(
    out: Console, column: str, by: dict[str, Books], tokens: tuple[dict[str, int], dict[str, int]] | None
) -> None:
    fields = ["before", "removed", "added", "changed", "out", "into", "repeats", "after"]
    shown = [f for f in fields if f in ("before", "after") or any(getattr(b, f) for b in by.values())]
    table = plain_table(
        column,
        *(f"{f} rows" if f in ("before", "after") else f for f in shown),
        *(["tokens A", "tokens B"] if tokens else []),
    )
    for name, book in by.items():
        counts = [_signed(f, getattr(book, f)) for f in shown]
        more = [f"{side.get(name, 0):,}" for side in tokens] if tokens else []
        table.add_row(escape(one_line(name)), *counts, *more)
    out.print(table)


def _signed(name: str, count: int) -> str:
    sign = {"removed": "-", "out": "-", "added": "+", "into": "+"}.get(name, "")
    if name == "repeats" and count > 0:
        sign = "+"
    return f"{sign}{count:,}" if count else "·" if name not in ("before", "after") else "0"


def _print_totals(found: Diff, out: Console) -> None:
    a, b, n = found.a, found.b, found.totals
    out.print(
        f"records: {n['same']:,} the same, {n['elsewhere']:,} the same from another place, {n['changed']:,} changed, "
        f"{n['moved']:,} moved to another source, {n['removed']:,} removed, {n['added']:,} added; "
        f"{n['repeated']:,} repeated otherwise"
    )
    out.print(f"rows: {_delta(a.size, b.size)}")
    names = [_tokenizer(side) for side in (a, b)]
    out.print(f"tokens: {_delta(a.tokens, b.tokens)} ({escape(names[1])})")
    if names[0] != names[1]:
        out.print(f"warning: A counts tokens by {escape(names[0])}: the two totals cannot be compared")
    (one, how_one), (two, how_two) = a.steps(), b.steps()
    if one is not None and two is not None:
        out.print(f"optimiser steps: {_delta(one, two)}: {escape(how_one)}; {escape(how_two)}")
    else:
        out.print(f"optimiser steps: not known ({escape(how_one if one is None else how_two)})")


def _tokenizer(side: Side) -> str:
    return str(side.head["tokenizer"]["name"])


def _delta(before: int, after: int) -> str:
    share = f", {(after - before) / before:+.1%}" if before and before != after else ""
    return f"{before:,} -> {after:,} ({after - before:+,}{share})"


def _print_example(out: Console, example: Example) -> None:
    sources = [example.source_a, example.source_b]
    names = " -> ".join(dict.fromkeys(source for source in sources if source))
    if example.change == "repeated":
        names += f", {example.n_a:,} -> {example.n_b:,} copies"
    texts = [text for text in (example.text_a, example.text_b) if text is not None]
    start = _first_difference(*texts) if example.change == "changed" and len(texts) == 2 else 0
    if example.change != "changed":
        texts = texts[-1:]
    for i, text in enumerate(texts):
        sign = "~" if example.change in ("moved", "repeated") else "-" if example.change == "removed" or (
            example.change == "changed" and i == 0
        ) else "+"  # fmt: skip
        out.print(Text(f"  {sign} [{one_line(names)}] {_window(text, start)}"), soft_wrap=True)


def _first_difference(a: str, b: str) -> int:
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return max(0, same - _WINDOW // 4)


def _window(text: str, start: int) -> str:
    cut = one_line(text[start : start + _WINDOW])
    return f"{'…' if start else ''}{cut}{'…' if len(text) > start + _WINDOW else ''}"
