"""The pages: hostile text is text, what is not here is said in a line, every link leads to a page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from tests.chinese_page import english_left
from tests.steel.ui.conftest import HOSTILE

from steel.ui.views import Site, error, exported, page, seconds_to_reload, stylesheet
from steel_data.errors import InputError

TAGS = {
    "html", "head", "meta", "title", "link", "body", "header", "nav", "a", "span", "bdi", "main", "h1", "h2", "p", "code",
    "div", "table", "caption", "tr", "th", "td", "form", "label", "select", "option", "input", "button", "ul", "li", "b",
    "article", "strong", "pre", "svg", "rect", "path", "text", "g", "circle", "polyline", "polygon",
}  # fmt: skip


class Tags(HTMLParser):
    """The elements of a page, and its links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def links(self) -> list[str]:
        return [str(a["href"]) for tag, a in self.found if tag == "a"]


def get(site: Site, address: str) -> str:
    """Return the page of an address, as the server takes it apart."""
    parts = urlsplit(address)
    assert parts.path.startswith("/TOKEN/") and not parts.netloc
    view, _, place = unquote(parts.path).removeprefix("/TOKEN/").partition("/")
    return exported(site, place).decode() if view == "page" else page(site, view, place, dict(parse_qsl(parts.query)))


def test_every_page_is_reached_and_only_our_elements_are_in_it(runs_once: Path) -> None:
    site = Site(runs_once, "/TOKEN")
    seen, waiting = set(), ["/TOKEN/", "/TOKEN/compare/?a=a&b=b", "/TOKEN/rows/a/mixture?text=alert(1)&part="]
    while waiting:
        address = waiting.pop()
        kind = re.sub(r"(item|at|start|file|id)=[^&]*", r"\1", address)
        if kind in seen:
            continue
        seen.add(kind)
        html = get(site, address)
        if "/page/" in address:
            continue
        tags = Tags(html)
        assert {tag for tag, _ in tags.found} <= TAGS, address
        for tag, attributes in tags.found:
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (address, tag)
            assert all("evil" not in str(attributes.get(name)) for name in ("href", "src", "action", "content"))
            if tag == "svg":
                assert attributes["role"] == "img" and attributes["aria-label"]
        assert "49" not in re.findall(r"alert\(2\)&gt;&#34;&#39;&gt;(.{2})", html)  # no template was run
        assert "\x1b" not in html and "\u202e" not in html
        waiting += tags.links()
    views = {urlsplit(address).path.split("/")[2] for address in seen}
    assert views == {"", "rows", "row", "run", "questions", "question", "compare", "page"}


@pytest.mark.parametrize(
    "address", ["", "rows/a/mixture", "rows/a/mixture?part=dropped", "run/a", "questions/a", "compare/?a=a&b=b"]
)
def test_a_page_in_chinese_has_no_english_sentence(runs_once: Path, address: str) -> None:
    html = get(Site(runs_once, "/TOKEN", "zh"), f"/TOKEN/{address}")
    assert english_left(html, r"alert|refresh|evil") == []
    assert not re.search(r">(any|rows|tokens|dropped|kept|Search|Compare|subject|question|step|accuracy, %)<", html)


def test_hostile_rows_are_shown_as_they_stand(runs_once: Path) -> None:
    html = page(Site(runs_once, "/TOKEN"), "rows", "a/mixture", {"text": "alert(1)"})
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "{{ 7 * 7 }}" in html and "<script" not in html
    assert "1 row found" in html
    asked = page(Site(runs_once, "/TOKEN"), "rows", "a/mixture", {"text": HOSTILE})
    assert "<script" not in asked and 'content="0;url' not in asked


@pytest.mark.parametrize(
    "place", ["../", "..", "/etc", "a/../a/mixture", "a/mixture/", "a//mixture", "%2e%2e", "", "\0"]
)
def test_only_what_was_found_can_be_asked_for(runs_once: Path, place: str) -> None:
    for view in ("rows", "row", "run", "questions", "question"):
        with pytest.raises(InputError, match="is here"):
            page(Site(runs_once, "/TOKEN"), view, place, {})
    with pytest.raises(InputError, match="is here"):
        exported(Site(runs_once, "/TOKEN"), f"{place}/manifest.json")


@pytest.mark.parametrize(
    ("view", "place", "query", "message"),
    [
        ("rws", "", {}, "Did you mean 'row"),
        ("rows", "a/mixtur", {}, "Did you mean 'a/mixture'"),
        ("rows", "a/mixture", {"start": "-1"}, "no number"),
        ("rows", "a/mixture", {"start": "9" * 40}, "no number"),
        ("row", "a/mixture", {"file": "../../secret", "at": "0"}, "no file of this mixture"),
        ("questions", "a", {"task": "ceval"}, "no task"),
        ("questions", "a", {"only": "wrng"}, "Did you mean 'wrong'"),
        ("compare", "", {"a": "a", "b": "a"}, "are the same"),
        ("compare", "", {"a": "a", "b": "../b"}, "is here"),
        ("compare", "", {"a": "a", "b": "b", "metric": "accurcy"}, "Did you mean 'accuracy'"),
    ],
)
def test_a_wrong_address_says_what_would_be_right(
    runs_once: Path, view: str, place: str, query: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        page(Site(runs_once, "/TOKEN"), view, place, query)


def test_two_arms_are_compared_as_steel_compare_does(runs_once: Path) -> None:
    html = page(Site(runs_once, "/TOKEN"), "compare", "", {"a": "a", "b": "b"})
    assert "+37.5" in html and "Whether the mixtures do is not shown" in html


def test_a_run_at_work_reloads_and_a_finished_one_does_not(runs_once: Path) -> None:
    site = Site(runs_once, "/TOKEN")
    working = page(site, "run", "b", {})
    assert seconds_to_reload(working) == 15 and "Stop reloading" in working and '?still=1"' in working
    stopped = page(site, "run", "b", {"still": "1"})
    assert seconds_to_reload(stopped) is None and "Reload every 15 seconds" in stopped
    finished = page(site, "run", "a", {})
    assert seconds_to_reload(finished) is None and "logged step: 20" in finished and finished.count("<svg") == 2


def test_what_was_looked_at_while_it_trained_has_its_curves(runs: Path) -> None:
    looks = [
        {"step": s, "eval_loss": 4 - s / 10, "eval_task_accuracy": {"ceval": s / 100, "cmmlu-dev": 0.25}}
        for s in (5, 10, 15)
    ]
    with (runs / "a/metrics.jsonl").open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in [{"step": 1, "loss": 4.0}, *looks])
    shown = page(Site(runs, "/TOKEN"), "run", "a", {})
    assert "Tasks while it trained" in shown and "cmmlu-dev" in shown and "held out" in shown and "15.0 %" in shown


def test_a_damaged_folder_is_listed_with_what_is_wrong(runs: Path) -> None:
    (runs / "a/mixture/manifest.json").write_text("{")
    (runs / "b/scores/step-000010/scores.json").write_text('{"tasks": {"cmmlu": 3}}')
    (runs / "b/metrics.jsonl").write_text("\0\n")
    html = page(Site(runs, "/TOKEN"), "", "", {})
    assert html.count('class="fault"') == 2 and "manifest.json: cannot be read" in html
    assert "holds no tasks" in page(Site(runs, "/TOKEN"), "run", "b", {})


@pytest.mark.parametrize(
    "value", [{"sources": 3}, {"sources": {"a": 1}, "output": []}, {"rows": "many", "tokens": None}]
)
def test_a_manifest_of_another_shape_hides_no_other_run(runs: Path, value: dict[str, object]) -> None:
    (runs / "a/mixture/manifest.json").write_text(json.dumps(value))
    assert "a/mixture" in page(Site(runs, "/TOKEN"), "", "", {})


def test_a_card_that_is_not_shown_is_no_link(runs: Path) -> None:
    """A link that leads out of the folder is not followed, so nothing may lead to it."""
    (runs / "a/mixture/card.html").rename(runs.parent / "elsewhere.html")
    (runs / "a/mixture/card.html").symlink_to(runs.parent / "elsewhere.html")
    site = Site(runs, "/TOKEN")
    assert "card.html" not in get(site, "/TOKEN/") + get(site, "/TOKEN/rows/a/mixture")


def test_a_folder_without_runs_says_what_would_come_here(tmp_path: Path) -> None:
    assert "Nothing of steel" in page(Site(tmp_path, "/TOKEN"), "", "", {})


def test_style_and_error_hold_nothing_of_elsewhere(runs_once: Path) -> None:
    assert "url(" not in stylesheet() and "@import" not in stylesheet()
    assert "&lt;b&gt;" in error(Site(runs_once, "/TOKEN"), "<b>")
