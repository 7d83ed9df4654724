"""The one jinja environment of all pages: what it escapes, how it writes numbers, and both languages of a sentence."""

import base64
import hashlib
import re
from functools import cache
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

from steel_data.chinese import catalogue, chinese, closed
from steel_data.page.chart import as_data, in_both
from steel_data.row.display import visible

_PLACE = re.compile(r"(<(?:bdi|code|q)\b[^>]*>)?\{\d*\}")  # where a value stands; whether it is a name
_NAME = r"[^\s'\"<>|,;:/\\]+"
_PATH = re.compile(
    rf"(?<![\w:/.\\])(?:[A-Za-z]:[\\/]|/)(?:{_NAME}[\\/])+?(?P<last>(?:{_NAME}[\\/])?{_NAME})(?![\w/\\])"
)


def environment(*folders: Path, only: str = "") -> Any:
    """Return the jinja environment of the templates in some folders, and of those beside this file.

    In `*.html.j2` all text is escaped, in every template characters that act unseen are made visible. A name that is
    not there is an error. Filters, of shares: `percent`, `signed`; of numbers: `number`, `p`; None is a dash. `t("{} of
    {} rows", a, b)` writes a sentence of the template in both languages, `x | both` one that comes from elsewhere;
    `plain("…")`, for attributes, in one line; with `only`, "en" or "zh", all of them write that language alone.
    `x | place` is a path without the machine's part of it.
    """
    import jinja2

    markupsafe = import_module("markupsafe")  # comes with jinja2
    Markup, escape = markupsafe.Markup, markupsafe.escape

    def t(english: str, *values: Any) -> Any:
        shown = [value if hasattr(value, "__html__") else visible(str(value)) for value in values]
        said = catalogue().get(english)
        if said is None:
            return Markup(english).format(*shown)
        named = [bool(m[1]) for m in _PLACE.finditer(english)]
        words = [v if name or hasattr(v, "__html__") else chinese(v) or v for v, name in zip_longest(shown, named)]
        return _pair(Markup(english).format(*shown), Markup(closed(said, words)).format(*words))

    def both(text: Any) -> Any:
        shown = visible(str(text))
        said = chinese(shown)
        return shown if said is None else _pair(escape(shown), escape(said))

    def plain(english: str, *values: Any) -> str:
        return str(t(english, *values)) if only else _plain(english, *values)

    def _pair(english: Any, said: Any) -> Any:
        if only:
            return said if only == "zh" else english
        return Markup(f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh">{said}</span>')

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=jinja2.select_autoescape(["html.j2"]), undefined=jinja2.StrictUndefined, finalize=_visible,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    found.filters["percent"] = lambda v: "–" if v is None else f"{100 * v:.1f}"
    found.filters["signed"] = lambda v: "–" if v is None else f"{100 * v:+.1f}"
    found.filters["number"] = lambda v: "–" if v is None else f"{v:.3f}"
    found.filters["p"] = lambda v: "–" if v is None else f"{v:.2g}"

    @jinja2.pass_context
    def title(context: Any, english: str, *values: Any) -> str:
        """Return the title of a page, which can be in one language only: the one that the page begins with."""
        shown = english.format(*(visible(str(value)) for value in values))
        return (chinese(shown) or shown) if context.get("first") == "zh" else shown

    found.filters |= {"both": both, "label": _label, "place": lambda text: without_machine(str(text))}
    found.filters |= {"allowed": _allowed, "in_both": lambda svg: in_both(svg, only)}
    found.filters["as_data"] = lambda rows, *columns: Markup(as_data(columns, rows))
    found.globals |= {"t": t, "title": title, "plain": plain, "first": "en", "script_of_all": _script()}
    return found


def without_machine(text: str) -> str:
    """Return text with each absolute path cut to its last two parts: what a page shows tells nothing of a machine."""
    return _PATH.sub(r"…/\g<last>", text)


def _plain(english: str, *values: Any) -> str:
    """Return a sentence for an attribute: the English one, and the Chinese behind it."""
    said = catalogue().get(english)
    shown = visible(english.format(*values))
    return shown if said is None else f"{shown} · {visible(said.format(*(chinese(str(v)) or v for v in values)))}"


def _label(text: Any) -> str:
    """Return a sentence that comes from elsewhere for an attribute, as `plain` does one of the template."""
    shown = visible(str(text))
    said = chinese(shown)
    return shown if said is None else f"{shown} · {said}"


def _allowed(script: Any) -> str:
    """Return the source expression with which a content security policy lets this one script run and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode()}'"


@cache
def _script() -> str:
    """Return the script of all pages, which hands out tables and pictures and turns the pages of lists."""
    return Path(__file__).with_name("page.js").read_text(encoding="utf-8")


def _visible(value: Any) -> Any:
    """Make whatever a template prints visible; what it has escaped already stays as it is."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
