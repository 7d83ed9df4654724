"""Links between the pages of one run, both ways: who writes a page says which others there are, and they learn of it.

Links are relative and lead to files that are there. A page's links stand between two marks, which no text of a page can
hold; so a link back is put onto a page that was written before, a data card too, without making it again.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from html import unescape
from pathlib import Path
from urllib.parse import quote, unquote

from steel_data.errors import InputError
from steel_data.files import atomic_write
from steel_data.page.templates import environment

MOST_UP = 4  # folders that a link climbs: further away is another run
MOST = 16  # links on a page
CARD, REPORT, STUDY, LEAK = "Data card", "Report of scores", "Contamination study", "Has it seen the benchmark?"
AUDIT, MIX, TRIAL = "Item audit", "Search for a better mixture", "Trial of recipes"
# what lies beside a page, by its file's name
BESIDE = {
    "mixture/card.html": CARD, "report.html": REPORT, "study.html": STUDY, "leak.html": LEAK, "audit.html": AUDIT,
    "mix.html": MIX, "trial.html": TRIAL,
}  # fmt: skip
_START, _END = "<!--pages of this run-->", "<!--end of pages-->"
_PLACE = re.compile(re.escape(_START) + ".*?" + re.escape(_END), re.DOTALL)
_LINK = re.compile(r'<a href="([^"]*)" data-name="([^"]*)">')

Links = dict[str, str]  # relative address -> name, an English sentence of the catalogue


def publish(page: Path, html: str, name: str, others: Mapping[str, Path | None] | None = None) -> None:
    """Write a page with links to the others of its run that are there, and a link back to it on each of them.

    name: what the links back are called. others: name -> page; those that lie beside the page are found without. Links
    that others have put onto the page before stay as long as their page does. Raises InputError where the page cannot
    be written; another that cannot keeps its links as they are.
    """
    near = {**(others or {}), **{f"{of}\0": page.parent / file for file, of in BESIDE.items()}}
    found: Links = {}
    for of, place in near.items():
        if place is not None and place.is_file() and (address := _address(page, place)):
            found.setdefault(address, of.removesuffix("\0"))
    before = _links_of(page)
    atomic_write(page, _with(html, {**found, **{a: n for a, n in before.items() if a not in found}}).encode())
    for address in found:
        other = (page.parent / unquote(address)).resolve()
        with suppress(InputError, OSError, UnicodeDecodeError):
            html, back = other.read_text(encoding="utf-8"), _address(other, page)
            links = _links_of(other)
            if back and _PLACE.search(html) and links.get(back) != name:
                atomic_write(other, _with(html, {**links, back: name}).encode())


def unlinked(html: str) -> str:
    """Return a page without its links to others: what leaves the run's folder alone."""
    return _with(html, {})


def _address(page: Path, other: Path) -> str | None:
    """Return the way from a page to another; None to itself, to another drive, and far away."""
    if other.resolve() == page.resolve():
        return None
    with suppress(ValueError):  # another drive
        way = Path(os.path.relpath(other.resolve(), page.resolve().parent))
        if way.parts.count("..") <= MOST_UP:
            return quote(way.as_posix())
    return None


def _links_of(page: Path) -> Links:
    """Return the links of a page whose pages are still there."""
    try:
        place = _PLACE.search(page.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
    links = {unescape(address): unescape(name) for address, name in _LINK.findall(place[0])} if place else {}
    return {a: name for a, name in links.items() if (page.resolve().parent / unquote(a)).is_file()}


def _with(html: str, links: Links) -> str:
    """Return a page with these links in place of its own; where two are called alike their file is said too."""
    names = list(links.values())
    shown = [
        (address, name, "" if names.count(name) == 1 else unquote(address))
        for address, name in list(links.items())[:MOST]
    ]
    nav = environment().get_template("nav.html.j2").render(links=shown, more=max(len(links) - MOST, 0)) if links else ""
    return _PLACE.sub(lambda _: _START + nav + _END, html, count=1)
