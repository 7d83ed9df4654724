"""An analysis as one HTML file in the look of the data card (apart: only `--html` needs the card's templates)."""

from pathlib import Path
from typing import Any

from steel_data.analyze.print import layout_lines
from steel_data.card.facts import Table, waterfall
from steel_data.card.write import templates
from steel_data.chinese import language
from steel_data.files import atomic_write


def write_page(path: Path, said: dict[str, Any]) -> None:
    """Write what `facts` returns as a page that needs nothing else: no font, no picture from anywhere."""
    bars = {part["name"]: _bars(part["sampled"]) for part in said["parts"] if part["sampled"]}
    lines = {part["name"]: layout_lines(part) for part in said["parts"]}
    page = (
        templates(Path(__file__).parent)
        .get_template("analysis.html.j2")
        .render(**said, bars=bars, lines=lines, first=language())
    )
    atomic_write(path, str(page).encode())


def _bars(sampled: dict[str, Any]) -> Table:
    """Return the waterfall of a part, from its sampled rows to those that are kept."""
    account = {name: sampled[name] for name in ("dropped", "kept")}
    nothing = dict.fromkeys(("unreadable", "sampled_out", "repeated"), 0)
    made = sampled["built"] - sampled["rows"]
    return waterfall({**account, **nothing, "read": sampled["rows"], "made": made, "written": sampled["kept"]})[:-1]
