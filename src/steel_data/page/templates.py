"""(apart: cards and pages of three packages) The one jinja environment: what it escapes, and how it writes numbers."""

from pathlib import Path
from typing import Any

from steel_data.row.display import visible


def environment(*folders: Path) -> Any:
    """Return the jinja environment of the templates in some folders, and of page.css beside this file.

    In `*.html.j2` all text is escaped, in every template characters that act unseen are made visible. A name that is
    not there is an error. Filters, of shares: `percent`, `signed`; of numbers: `number`, `p`; None is a dash.
    """
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=jinja2.select_autoescape(["html.j2"]), undefined=jinja2.StrictUndefined, finalize=_visible,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    found.filters["percent"] = lambda v: "–" if v is None else f"{100 * v:.1f}"
    found.filters["signed"] = lambda v: "–" if v is None else f"{100 * v:+.1f}"
    found.filters["number"] = lambda v: "–" if v is None else f"{v:.3f}"
    found.filters["p"] = lambda v: "–" if v is None else f"{v:.2g}"
    return found


def _visible(value: Any) -> Any:
    """Make whatever a template prints visible; what it has escaped already stays as it is."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
