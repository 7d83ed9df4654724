"""What the script of all pages does, in a real Chromium: it hands out tables and pictures and pages through rows."""

import asyncio
import json
from xml.etree import ElementTree

import pytest
from tests.chromium import browser, tab
from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.build import build
from steel_data.page.templates import environment
from steel_data.recipe.load import load

pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser() is None, reason="no Chromium here")]
EVIL = "<img src=x onerror=alert(1)>=HYPERLINK(1)"
SHOWN = "[...document.querySelectorAll('[data-page] > details:not([hidden])')]"
TABLE = """{% extends "page.html.j2" %}
{% block body %}<h2>{{ t("Arms") }}</h2><div class="wide"><table>
<tr><th>{{ t("arm") }}</th><th colspan="2">share</th><td></td></tr>
<tr><td>{{ evil }}</td><td>1,234</td><td>−0.5</td><td><svg><title>no</title></svg></td></tr>
<tr><td>a, "b"<br>c</td><td>007</td><td>–</td><td></td></tr>
</table></div>{% endblock %}"""


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    root = tmp_path_factory.mktemp("card")
    rows = [*chat_rows(60), {"instruction": f"这一行要找到：{EVIL}", "output": "好的，这是中文的回答。"}]
    write_jsonl(root / "a.jsonl", rows)
    write_jsonl(root / "b.jsonl", [{"instruction": "How are you today, my friend?", "output": "I am fine, thank you."}])
    recipe = root / "r.toml"
    recipe.write_text('name = "r"\n[source.a]\npath = "a.jsonl"\n[source.b]\npath = "b.jsonl"\n', encoding="utf-8")
    return build(load(recipe), data_root=root, out=root / "mixture", cache=root / "cache").folder / "card.html"


def seen(page, *questions, taken=None, files=0, script=True):
    """Return what a page answers to pieces of JavaScript; the `files` that it hands out land in `taken`."""

    async def ask():
        async with tab() as opened:
            if taken:
                await opened.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(taken))
            if not script:
                await opened.ask("Emulation.setScriptExecutionDisabled", value=True)
            await opened.open(page.as_uri())
            answers = []
            for question in questions:
                answers.append(await opened.run(question))
                await asyncio.sleep(0.4)  # a search waits for the last letter
            for _ in range(300):
                if not taken or len([f for f in taken.iterdir() if f.suffix in (".csv", ".json", ".svg")]) == files:
                    break
                await asyncio.sleep(0.1)
            assert opened.said == []
            return answers

    return asyncio.run(ask())


def search(words):
    return f"(() => {{ const i = document.querySelector('[role=search] input'); i.value = {json.dumps(words)}; i.dispatchEvent(new Event('input')); }})()"


def test_rows_a_page_at_a_time(card):
    status = "document.querySelector('[role=search] [role=status]').innerText"
    press = "document.querySelectorAll('[role=search] button')[{}].click()".format
    first, said, _, second, again, _, _, last, end = seen(
        card, f"{SHOWN}.length", status, press(1), f"{SHOWN}[0].innerText", status, press(1), press(1), status,
        "document.querySelectorAll('[role=search] button')[1].disabled",
    )  # fmt: skip
    assert (first, said, again, last, end) == (
        20,
        "1 to 20 of 62 rows",
        "21 to 40 of 62 rows",
        "61 to 62 of 62 rows",
        True,
    )
    assert "row" in second


def test_a_search_finds_and_opens_rows_and_nothing_in_them_acts(card):
    _, found, marked, _, none, _, of_b = seen(
        card, search("要找到 HYPERLINK"), f"{SHOWN}.map(d => [d.open, d.querySelector('.text').innerText, d.querySelectorAll('img').length])",
        "[...CSS.highlights.get('found')].map(r => r.toString())", search("nowhere at all"), f"{SHOWN}.length",
        search("") + "; document.querySelector('[role=search] select[name=source]').value = '=b'; document.querySelector('[role=search] select[name=source]').dispatchEvent(new Event('change'))",
        f"{SHOWN}.map(d => d.dataset.source)",
    )  # fmt: skip
    assert found == [[True, f"这一行要找到：{EVIL}", 0]]
    assert sorted(set(marked)) == ["HYPERLINK", "要找到"]
    assert none == 0 and of_b == ["b"]


def test_without_a_script_the_first_page_can_be_read(card):
    # the tools' own questions still run: only the page's script is off
    shown, controls, buttons = seen(
        card, f"{SHOWN}.length", "getComputedStyle(document.querySelector('[role=search]')).display",
        "document.querySelectorAll('.take').length", script=False,
    )  # fmt: skip
    assert (shown, controls, buttons) == (20, "none", 0)


def test_tables_and_pictures_of_a_card_are_files(card, tmp_path):
    some = "[...document.querySelectorAll('[data-drawn]')].slice({}).map(e => e.nextElementSibling.querySelectorAll('button').forEach(b => b.click())).length"
    # a browser hands out ten files of one page at most, before somebody touches it
    pictures = [
        *seen(card, some.format("0, 2"), taken=tmp_path, files=6),
        *seen(card, some.format("2"), taken=tmp_path, files=12),
    ]
    files = sorted(tmp_path.iterdir())
    assert pictures == [2, 2] and [f.suffix for f in files] == [".csv", ".json", ".svg"] * 4
    fall = json.loads(next(f for f in files if f.suffix == ".json").read_text(encoding="utf-8"))
    assert fall["columns"] == ["reason", "rows"] and ["read", 62] in fall["rows"]
    for file in files:
        if file.suffix == ".svg":
            drawn = ElementTree.parse(file).getroot()
            words = [e.text for e in drawn.iter("{http://www.w3.org/2000/svg}text")]
            assert {"written", "60"} & set(words) and len(list(drawn.iter("{http://www.w3.org/2000/svg}rect"))) > 2


def test_a_table_as_a_file(tmp_path):
    (tmp_path / "table.html.j2").write_text(TABLE, encoding="utf-8")
    page = tmp_path / "table.html"
    page.write_text(environment(tmp_path).get_template("table.html.j2").render(evil=EVIL), encoding="utf-8")
    (tmp_path / "taken").mkdir()
    both = "document.querySelectorAll('.take button').forEach(b => b.click())"
    seen(page, both, "document.getElementById('zh').click()", both, taken=tmp_path / "taken", files=4)
    csv = [f.read_bytes().decode("utf-8-sig") for f in sorted((tmp_path / "taken").glob("*.csv"))]
    assert csv[0] == f'arm,share,\r\n{EVIL},1234,-0.5\r\n"a, ""b"" c",007,\r\n'
    assert csv[1].startswith("组,share,") and len(csv) == 2
    held = json.loads(next((tmp_path / "taken").glob("Arms*.json")).read_text(encoding="utf-8"))
    assert held == {"columns": ["arm", "share", ""], "rows": [[EVIL, 1234, -0.5], ['a, "b" c', "007", None]]}


@pytest.mark.parametrize(
    ("cell", "written"),
    [("=1+1", "'=1+1"), ("@x", "'@x"), ("-cmd|x", "'-cmd|x"), ("+0.5 (0.1 … 0.9)", "+0.5 (0.1 … 0.9)")],
)
def test_a_spreadsheet_runs_nothing_of_a_table(tmp_path, cell, written):
    (tmp_path / "table.html.j2").write_text(TABLE, encoding="utf-8")
    page = tmp_path / "table.html"
    page.write_text(environment(tmp_path).get_template("table.html.j2").render(evil=cell), encoding="utf-8")
    (tmp_path / "taken").mkdir()
    seen(page, "document.querySelector('.take button').click()", taken=tmp_path / "taken", files=1)
    (csv,) = (tmp_path / "taken").iterdir()
    assert csv.read_text(encoding="utf-8-sig").splitlines()[1] == f"{written},1234,-0.5"
