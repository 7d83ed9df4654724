"""Every page in a real Chromium: accessible, silent, readable on a phone and in the dark, in two languages, of no machine."""

import asyncio
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.chinese_page import english_left
from tests.chromium import axe, browser, tab
from tests.every_page import every_page
from tests.steel.ui.conftest import folder_of_runs, serving

NAMES = r"(base|tuned) on cmmlu(, )?|differences under 0.1 will mostly not be seen"  # of arms and tasks; a toy of test_results
LOOKS = {
    "desk, light": (1200, False),
    "desk, dark": (1200, True),
    "phone, light": (390, False),
    "phone, dark": (390, True),
}
OPEN = "document.querySelectorAll('details').forEach(d => { d.open = true; })"
RULES = "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html.slice(0, 200)))"
SHOWN = "(name => [...document.querySelectorAll(name)].filter(e => e.getClientRects().length).length)"


@pytest.mark.slow
def test_every_page_in_a_browser(tmp_path, monkeypatch):
    monkeypatch.setenv("STEEL_LANG", "en")
    rules = _rules()
    pages = every_page(tmp_path)
    assert len(pages) == 8
    for page in pages.values():
        text = page.read_text(encoding="utf-8")
        assert tmp_path.as_posix() not in text and not re.search(r"(src|href)=\"?(https?:|//|/)", text), page
    found = asyncio.run(_looked_at(pages, rules))
    assert {where: what for where, what in found.items() if what} == {}


@pytest.mark.slow
def test_every_page_of_steel_ui_in_a_browser(tmp_path):
    """As it is served: under its own policy, which forbids scripts, and with rows that would act if they could."""
    pytest.importorskip("uvicorn", reason='the extra "ui" is not installed')
    rules = _rules()
    with serving(folder_of_runs(tmp_path)) as port:
        seen, found = asyncio.run(_served(f"http://127.0.0.1:{port}/TOKEN/", rules))
    assert seen == {
        "",
        "rows",
        "rows, dropped",
        "row",
        "row, dropped",
        "run",
        "questions",
        "question",
        "compare",
        "error",
    }
    assert {where: what for where, what in found.items() if what} == {}


def _rules():
    """Return axe-core's source; skips the test where it or a browser is missing."""
    if browser() is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    rules = axe()
    if rules is None:
        pytest.skip("no axe-core here: pip install axe-core-python")
    return rules


def test_a_page_in_chinese_has_no_english_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("STEEL_LANG", "zh")
    left = {name: english_left(page.read_text(encoding="utf-8"), NAMES) for name, page in every_page(tmp_path).items()}
    assert {name: lines for name, lines in left.items() if lines} == {}


async def _looked_at(pages, rules):
    found = {}
    async with tab() as opened:
        for name, page in pages.items():
            for look, (width, dark) in LOOKS.items():
                opened.said.clear()
                await opened.open(page.as_uri(), width, dark)
                await opened.run(OPEN)
                if await opened.run("document.documentElement.scrollWidth > innerWidth"):
                    opened.said.append("scrolls sideways")
                if name == "report" and await opened.run("document.querySelector('details.q .t').clientWidth") < 200:
                    opened.said.append("the question's text is not to be seen")
                if not await opened.run(f"{SHOWN}('.en')") or await opened.run(f"{SHOWN}('.zh')"):
                    opened.said.append("is not in English")
                await opened.run(rules)
                opened.said += await opened.run(RULES)
                await opened.run("document.getElementById('zh').click()")
                if await opened.run(f"{SHOWN}('.en')") or not await opened.run(f"{SHOWN}('.zh')"):
                    opened.said.append("does not switch to Chinese")
                found[f"{name}, {look}"] = [*await opened.run(RULES), *opened.said]
            await opened.ask("Emulation.setEmulatedMedia", media="print")
            if await opened.run(f"{SHOWN}('button, input, select, nav')"):
                found[f"{name}, on paper"] = ["what is clicked on is printed"]
            await opened.ask("Emulation.setEmulatedMedia", media="")
    return found


async def _served(start, rules):
    """Return which pages `steel ui` has, found by following its links, and what is wrong with each."""
    found, pages = {}, {"error": f"{start}nothing"}
    async with tab() as opened:
        waiting = [start, f"{start}compare/?a=a&b=b"]
        while waiting:
            parts = urlsplit(address := waiting.pop())
            view = parts.path.split("/")[2] + (", dropped" if parse_qs(parts.query).get("part") == ["dropped"] else "")
            if view in (*pages, "page"):  # the latter is what other commands wrote, looked at above
                continue
            pages[view] = address
            await opened.open(address)
            waiting += await opened.run("[...document.links].map(a => a.href)")
        for view, address in pages.items():
            for tongue, spoken in (("en", "en"), ("zh", "zh-CN")):
                for look, (width, dark) in LOOKS.items():
                    opened.said.clear()
                    await opened.open(f"{address}{'&' if '?' in address else '?'}lang={tongue}", width, dark)
                    if view == "error":  # status 404, which the browser tells
                        opened.said.clear()
                    await opened.run(rules)
                    opened.said += await opened.run(RULES)
                    if await opened.run("document.documentElement.scrollWidth > innerWidth"):
                        opened.said.append("scrolls sideways")
                    if await opened.run("document.documentElement.lang") != spoken:
                        opened.said.append("is in another language")
                    found[f"{view}, {tongue}, {look}"] = list(opened.said)
            await opened.ask("Emulation.setEmulatedMedia", media="print")
            if await opened.run(f"{SHOWN}('button, input, select, nav')"):
                found[f"{view}, on paper"] = ["what is clicked on is printed"]
            await opened.ask("Emulation.setEmulatedMedia", media="")
    return set(pages), found
