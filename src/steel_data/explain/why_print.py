"""Print an answer of `why`: the verdict, where the row stands or what stands against it, and both texts."""

from rich.console import Console
from rich.text import Text

from steel_data.explain.query import Answer, Found, Place
from steel_data.row.display import console, one_line, shortened, turns, visible

_LENGTH, _TURNS, _PLACES = 400, 8, 6
_STYLES = {"kept": "bold green", "dropped": "bold red", "unreadable": "bold red", "sampled out": "bold yellow"}


def print_answer(answer: Answer, out: Console | None = None) -> None:
    """Print an answer. All text of rows is made harmless: control characters show as escapes."""
    out = out or console()
    for found in answer.found:
        out.print(Text(f"{found.verdict}: {_facts(found)}", style=_STYLES[found.verdict]), soft_wrap=True)
        for line in _lines(found):
            out.print(Text("  " + line), soft_wrap=True)
        out.print()
    if answer.total > len(answer.found):
        out.print(Text(f"{len(answer.found):,} of {answer.total:,} records; more with -n"), soft_wrap=True)
    if not answer.total:
        out.print(Text(f"not found as {answer.meant}: {one_line(answer.query.strip()[:80])}"), soft_wrap=True)
    for note in answer.notes:
        out.print(Text(f"note: {one_line(note)}"), soft_wrap=True)


def _facts(found: Found) -> str:
    row = found.row
    facts = [row.get("source"), row.get("kind"), row.get("language")]
    if row.get("chars") is not None:
        facts.append(f"{row['chars']:,} characters")
    facts.append(f"{row['origin_file']} row {row['origin_row']}")
    if row.get("item"):
        facts.append(f"{row['benchmark']}/{row['item']}, dose {row['dose']}")
    return " · ".join(one_line(str(fact)) for fact in [*facts, row.get("id")] if fact)


def _lines(found: Found) -> list[str]:
    row, lines = found.row, []
    if found.places:
        lines.append(_places(found.places))
    if found.why:
        lines.append(f"why: {one_line(found.why)}")
    if row.get("reason"):
        lines.append(f"step {one_line(row['step'] or '')}, reason {one_line(row['reason'])}")
    if found.passed:
        word = "passed before" if row.get("reason") else "passed"
        lines.append(f"{word}: {one_line(', '.join(found.passed))}")
    if row.get("error"):
        lines += ["evidence:", *_indented(row["error"])]
    for turn in shortened(turns(row), _LENGTH, _TURNS):
        lines += [f"{one_line(turn.label)}:" if turn.label else "…", *_indented(turn.text)]
        if turn.more:
            lines.append(f"  … {turn.more:,} more characters")
    if found.witness:
        lines += [f"because of {one_line(found.witness.id)} ({one_line(found.witness.where)}):"]
        lines += _indented(found.witness.text[: 2 * _LENGTH])
    return lines


def _indented(text: str) -> list[str]:
    return ["  " + line for line in visible(text[: 2 * _LENGTH].rstrip("\n")).split("\n")]


def _places(places: tuple[Place, ...]) -> str:
    shown = ", ".join(f"{place.file} row {place.at}" for place in places[:_PLACES])
    more = f" and {len(places) - _PLACES:,} more" if len(places) > _PLACES else ""
    copies = f"{len(places):,} copies: " if len(places) > 1 else ""
    return f"{copies}{shown}{more}"
