"""The data card: card.md and card.html, two forms of the same view of a written mixture.

card.html is one file that needs nothing else: no font, no picture from anywhere; a content security policy in it
forbids the browser to fetch anything, and to run anything but the pages' own script (page/page.js, without which it can
be read), should a text from the data ever slip through the escaping. Both are functions of the mixture alone: the same
mixture has the same cards, byte for byte.
"""

import re
from pathlib import Path
from typing import Any

from steel_data.card.evidence import evidence
from steel_data.card.facts import Table, facts
from steel_data.files import atomic_write
from steel_data.page.templates import environment
from steel_data.row.display import one_line, visible

_TEMPLATES = Path(__file__).parent
_BAR = 24  # characters of a full bar in Markdown


def write_card(folder: Path, manifest: dict[str, Any]) -> None:
    """Write card.md and card.html into a mixture folder whose other files are there."""
    seen = facts(folder, manifest) | evidence(folder, manifest)
    atomic_write(folder / "card.md", _render("card.md.j2", seen).encode())
    atomic_write(folder / "card.html", _render("card.html.j2", seen).encode())


def _render(name: str, seen: dict[str, Any]) -> str:
    return str(templates().get_template(name).render(seen))


def templates(*folders: Path) -> Any:
    """Return the environment of the card's templates, its style and macros, and of those in further folders.

    Filters: `n` a number, `pc` a share, `line` on one line; for Markdown `code`, `fence`, `bar`.
    """
    found = environment(*folders, _TEMPLATES)
    filters = {"n": _number, "pc": _percent, "code": code_span, "fence": fenced, "bar": _bar, "line": one_line}
    filters |= {"opening": _opening, "signed_rows": _signed_rows, "rows_by_length": _rows_by_length}
    found.filters |= filters
    return found


def _number(value: int) -> str:
    return f"{value:,}"


def _percent(share: float) -> str:
    """Return a share as people read it: `80 %`, `3.4 %`, `< 0.1 %`; nothing but all is `100 %`."""
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "<\u00a00.1\u00a0%" if share < 0.5 else ">\u00a099.9\u00a0%"
    whole = share in (0, 1) or 0.0995 <= share <= 0.995
    return f"{100 * share:.{0 if whole else 1}f}\u00a0%"


def _signed_rows(bars: Table) -> list[tuple[str, int]]:
    """Return what each bar of a waterfall is and its rows, those that are lost below 0."""
    return [(bar["label"], -bar["rows"] if bar["form"] in ("falls", "rests") else bar["rows"]) for bar in bars]


def _rows_by_length(bins: Table) -> list[tuple[str, str, int]]:
    """Return (characters, kind, rows) of a histogram."""
    return [(one["label"], kind, rows) for one in bins for kind, rows, _ in one["pieces"]]


def _opening(text: str) -> str:
    """Return how a text begins, on one line: what is to be recognised, not its breaks."""
    begun = " ".join(text[:200].split())
    return begun if len(begun) <= 60 else begun[:60] + "…"


def _bar(share: float) -> str:
    return "█" * max(round(_BAR * share), 1 if share > 0 else 0)


def code_span(text: Any) -> str:
    """Return text for Markdown, also inside a table, as code: nothing in it can be markup.

    What a code span cannot hold there (backticks, pipes) is written with all punctuation as character references, which
    Markdown never takes for structure.
    """
    line = one_line(str(text)).strip()
    if not line:
        return ""
    if "`" not in line and "|" not in line:
        return f"`{line}`"
    return re.sub(r"[!-/:-@\[-`{-~]", lambda match: f"&#{ord(match[0])};", line)


def fenced(text: Any, language: str = "text") -> str:
    """Return text as a fenced block of Markdown that no line of it can close."""
    body = visible(str(text))
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}{language}\n{body.rstrip(chr(10))}\n{fence}"
