"""The site's navigation: each page is in it once, and it names none that is not there. `make docs` checks the links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def named(nav: Any) -> Iterator[str]:
    """Yield the files of a navigation, from the top."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for part in nav.values():
            yield from named(part)
    else:
        for part in nav:
            yield from named(part)


def test_every_page_is_in_the_navigation_once() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = sorted(named(settings["nav"]))
    own = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    top = re.findall(r'^    "([\w.]+\.md)": "([\w.]+\.md)",$', (ROOT / "docs/site_pages.py").read_text("utf-8"), re.M)
    assert {source for source, _ in top} == {page.name for page in ROOT.glob("*.md")}
    assert pages == sorted([*own, *(place for _, place in top)])


def test_the_parts_are_those_of_diataxis() -> None:
    """Learning, looking up, understanding: whoever reads for one is not led through the others."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    parts = {name: [*named(pages)] for part in settings["nav"] for name, pages in part.items()}
    assert [*parts] == ["Home", "Tutorials", "教程", "Reference by command", "Explanation", "Results"]
    assert {page.replace(".zh.md", ".md") for page in parts["教程"]} == {*parts["Tutorials"]}
    assert all(page.startswith("tutorials/") for page in parts["Tutorials"])
    assert all(page.startswith("results/") for page in parts["Results"])


def test_the_site_fetches_nothing() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False  # else two fonts come from Google
    assert not {"extra_javascript", "extra_css", "repo_url"} & {*settings}
