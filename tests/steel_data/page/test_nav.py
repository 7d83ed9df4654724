"""Links lead both ways between pages that are there, whichever was written first, and leave no trace of a machine."""

import re
from html import unescape

import pytest

from steel_data.errors import InputError
from steel_data.page import nav
from steel_data.page.nav import AUDIT, CARD, LEAK, MOST, REPORT, STUDY, publish, unlinked
from steel_data.page.templates import environment


@pytest.fixture
def html(tmp_path):
    (tmp_path / "toy.html.j2").write_text(
        '{% extends "page.html.j2" %}{% block body %}{{ text }}{% endblock %}', encoding="utf-8"
    )
    return lambda text="": str(environment(tmp_path).get_template("toy.html.j2").render(text=text))


def links(page):
    """Return name -> address of a page's links to others."""
    found = re.findall(r'<a href="([^"]*)" data-name="([^"]*)">', page.read_text(encoding="utf-8"))
    return {unescape(name): address for address, name in found}


@pytest.fixture
def run(tmp_path, html):
    """A run: a card, as a build leaves it."""
    card = tmp_path / "run" / "mixture" / "card.html"
    card.parent.mkdir(parents=True)
    card.write_text(html(), encoding="utf-8")
    return card.parents[1]


def test_a_card_that_was_there_first_learns_of_later_pages(run, html):
    card = run / "mixture/card.html"
    assert links(card) == {}
    publish(run / "study.html", html(), STUDY)
    publish(
        run / "elsewhere" / "page.html",
        html(),
        REPORT,
        {"Data card of exp3": card, "not there": run / "x.html", "none": None},
    )
    assert links(run / "study.html") == {CARD: "mixture/card.html"}
    assert links(run / "elsewhere/page.html") == {"Data card of exp3": "../mixture/card.html"}
    assert links(card) == {STUDY: "../study.html", REPORT: "../elsewhere/page.html"}
    for name, address in links(card).items():
        assert (card.parent / address).is_file(), name


def test_pages_side_by_side_find_one_another_and_keep_what_others_put_on_them(run, html):
    for file, name in (("study.html", STUDY), ("leak.html", LEAK), ("audit.html", AUDIT)):
        publish(run / file, html(), name)
    assert set(links(run / "study.html")) == {CARD, LEAK, AUDIT}
    publish(run.parent / "r.html", html(), REPORT, {"a": run / "study.html"})
    publish(run / "study.html", html("made again"), STUDY)
    assert set(links(run / "study.html")) == {CARD, LEAK, AUDIT, REPORT}
    assert "made again" in (run / "study.html").read_text(encoding="utf-8")
    (run.parent / "r.html").unlink()
    publish(run / "study.html", html(), STUDY)
    assert set(links(run / "study.html")) == {CARD, LEAK, AUDIT}


def test_the_same_command_again_changes_no_byte(run, html):
    for _ in range(2):
        publish(run / "study.html", html(), STUDY)
        now = {p: p.read_bytes() for p in run.rglob("*.html")}
    publish(run / "study.html", html(), STUDY)
    assert now == {p: p.read_bytes() for p in run.rglob("*.html")}


def test_without_its_links_a_card_is_as_it_was_built(run, html):
    before = (run / "mixture/card.html").read_text(encoding="utf-8")
    publish(run / "study.html", html(), STUDY)
    after = (run / "mixture/card.html").read_text(encoding="utf-8")
    assert after != before and unlinked(after) == before


def test_text_of_a_page_is_no_place_for_links(run, html):
    evil = nav._START + nav._END + '<a href="x" data-name="y">'
    publish(run / "study.html", html(evil), STUDY)
    page = (run / "study.html").read_text(encoding="utf-8")
    assert page.count(nav._START) == 1 and page.index("<nav") < page.index("<main")
    strange = run / "leak.html"  # a page of somebody else, with that name
    strange.write_text("<p>mine</p>", encoding="utf-8")
    publish(run / "study.html", html(), STUDY)
    assert strange.read_text(encoding="utf-8") == "<p>mine</p>"


def test_names_are_text_and_addresses_hold_any_name(run, html):
    other = run / "a b#?中" / "card.html"
    other.parent.mkdir()
    other.write_text(html(), encoding="utf-8")
    publish(run / "study.html", html(), STUDY, {'Data card of <b>"': other})
    text = (run / "study.html").read_text(encoding="utf-8")
    assert "<b>" not in text and "a%20b%23%3F%E4%B8%AD/card.html" in text
    publish(run / "study.html", html(), STUDY)  # read back, and still there
    assert links(run / "study.html")['Data card of <b>"'] == "a%20b%23%3F%E4%B8%AD/card.html"
    assert "../study.html" in other.read_text(encoding="utf-8")


def test_many_links_are_cut_and_alike_ones_told_apart(run, html):
    for i in range(MOST + 2):
        (run / f"{i}.html").write_text(html(), encoding="utf-8")
    publish(run / "study.html", html(), STUDY, {f"n{i}": run / f"{i}.html" for i in range(MOST + 2)})
    assert len(links(run / "study.html")) == MOST and "and 3 more." in (run / "study.html").read_text(encoding="utf-8")
    for name in ("one.html", "two.html"):
        publish(run.parent / name, html(), REPORT, {"card": run / "mixture/card.html"})
    text = (run / "mixture/card.html").read_text(encoding="utf-8")
    assert "(../../one.html)" in text and "(../../two.html)" in text


def test_far_away_is_another_run(run, html, monkeypatch):
    monkeypatch.setattr(nav, "MOST_UP", 0)
    publish(run / "deep" / "page.html", html(), REPORT, {"card": run / "mixture/card.html"})
    assert links(run / "deep/page.html") == {}


def test_a_page_that_cannot_be_written_is_an_error_and_one_beside_it_is_not(run, html, monkeypatch):
    written = nav.atomic_write

    def fails_for(name):
        def write(path, data):
            if path.name == name:
                raise InputError("full")
            written(path, data)

        return write

    monkeypatch.setattr(nav, "atomic_write", fails_for("card.html"))
    publish(run / "study.html", html(), STUDY)
    assert links(run / "mixture/card.html") == {} and links(run / "study.html") == {CARD: "mixture/card.html"}
    monkeypatch.setattr(nav, "atomic_write", fails_for("study.html"))
    with pytest.raises(InputError, match="full"):
        publish(run / "study.html", html(), STUDY)
