"""What the HTML pages have in common: the template environment and its filters. All text is escaped by default."""

from pathlib import Path
from typing import Any

from steel_data.display import visible


def environment() -> Any:
    """Return the jinja environment of the templates beside this file."""
    import jinja2

    here = jinja2.FileSystemLoader(Path(__file__).parent)
    found = jinja2.Environment(loader=here, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    found.filters["percent"] = lambda v: "–" if v is None else f"{100 * v:.1f}"
    found.filters["signed"] = lambda v: "–" if v is None else f"{100 * v:+.1f}"
    found.filters["number"] = lambda v: "–" if v is None else f"{v:.3f}"
    found.filters["p"] = lambda v: "–" if v is None else f"{v:.2g}"
    found.filters["visible"] = lambda v: visible(str(v))
    return found
