"""The card says what the ledger says, needs nothing from outside, and nothing in a text can act on it."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.card.write import code_span, fenced, write_card

Make = Callable[..., Result]
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><a href='https://evil.example'>\n```\n````\n# heading\n"
    "</pre></p></details></style>\n[x](javascript:alert(1)) ![i](https://evil.example/p.png) https://evil.example | a | b |\n"
    "\x1b[31m\x1b]0;title\x07\u202e{{ 7 * 7 }}{% raw %}"
)
NAME = "a|`<script>alert(1)</script>`|[x](javascript:alert(1))"


def _build(make: Make, root: Path, text: str, name: str) -> Result:
    write_cmmlu(root)
    rows = [*chat_rows(8), {"instruction": f"这是一段中文：{text}", "output": f"这是中文的回答：{text}"}]
    english = {"instruction": f"This is an English sentence about words. {text}", "output": "It is dropped, of course."}
    write_jsonl(root / "a`b[x](y).jsonl", [*rows, english, english])
    with (root / "a`b[x](y).jsonl").open("a", encoding="utf-8") as file:
        file.write("{" + json.dumps(text) + "\n")
    return make(
        f"""
[source.{json.dumps(name)}]
path = "a`*.jsonl"
filters = [{{ use = "language", keep = ["zh"] }}, {{ use = "pattern", drop = [{json.dumps("never" + name)}] }}]
repeat = 2
[source.leak]
path = "bench"
build = {{ use = "contaminate", split = "test", doses = {{ 1 = 6, 3 = 4 }} }}
allow_test_split = {json.dumps("because " + text)}
"""
    )


class Page(HTMLParser):
    """The English page: what stands in Chinese beside it is passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.depth = 0  # of spans, within a Chinese one

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "span" and (self.depth or ("class", "zh") in attrs):
            self.depth += 1
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag == "span" and self.depth > 0

    def handle_data(self, data: str) -> None:
        self.text += "" if self.depth else data + " "


@pytest.fixture
def hostile(make: Make, tmp_path: Path) -> Result:
    return _build(make, tmp_path, HOSTILE, NAME)


def test_hostile_text_is_only_text_in_html(hostile: Result) -> None:
    page = Page()
    page.feed((hostile.folder / "card.html").read_text(encoding="utf-8"))
    assert not {"img", "iframe", "link", "object", "form"} & set(page.tags)
    assert page.tags.count("script") == 1  # the pages' own
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "src"]
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert "<script>alert(1)</script>" in page.text  # it is shown, as it stands in the data
    assert "\\x1b[31m" in page.text
    assert "\\u202e" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page.text)
    assert "{{ 7 * 7 }}" in page.text


def test_nothing_is_fetched(hostile: Result) -> None:
    html = (hostile.folder / "card.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert "url(" not in html
    assert not re.search(r'(?:src|href)="(?!#)', html)


def test_hostile_text_is_only_text_in_markdown(hostile: Result) -> None:
    text = (hostile.folder / "card.md").read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    kinds = {token.type for token in [*tokens, *inline]}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "hr"}
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert "heading" not in headings
    assert [t.info for t in tokens if t.type == "fence"].count("toml") == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    columns = [len(row) for row in _tables(tokens)]
    assert set(columns) <= {2, 3, 4, 6, 7}  # no cell was split by a pipe in a name


def _tables(tokens: list[Any]) -> list[list[str]]:
    rows: list[list[str]] = []
    for i, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append(tokens[i + 1].content)
    return rows


def test_contamination_damage_and_reason_are_said(hostile: Result) -> None:
    page = Page()
    html = (hostile.folder / "card.html").read_text(encoding="utf-8")
    page.feed(html)
    said = " ".join(page.text.split())
    assert "Declared contamination: bench" in said
    assert "10 items of this benchmark stand in the training data, in 18 rows; 50 items of the same split" in said
    assert "seen 3 times 4 12" in said
    assert "Damaged input 1 of 12 rows" in said
    assert html.index("Declared contamination") < html.index("<main>")
    markdown = (hostile.folder / "card.md").read_text(encoding="utf-8")
    assert "**Declared contamination with `bench`.** 10 items" in markdown
    assert "> | 3 | 4 | 12 |" in markdown


def test_says_the_ledger_in_both_forms(hostile: Result) -> None:
    markdown = (hostile.folder / "card.md").read_text(encoding="utf-8")
    html = (hostile.folder / "card.html").read_text(encoding="utf-8")
    for reason, rows in hostile.manifest["sources"][NAME]["dropped"].items():
        assert f"| `{reason}` | −{rows} |" in markdown
    for digest in (hostile.manifest["content_sha256"], next(iter(hostile.manifest["inputs"].values()))["sha256"]):
        assert digest in markdown
        assert digest in html
    for heading in (
        "Where the rows went",
        "What is in it",
        "Lengths",
        "Samples",
        "What was dropped",
        "Recipe",
        "Provenance",
    ):
        assert heading in markdown
        assert heading in html


def test_same_mixture_same_card_and_no_machine_in_it(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(12))
    result = make(f'data_root = "{tmp_path.as_posix()}"\n[source.a]\npath = "{(tmp_path / "a.jsonl").as_posix()}"\n')
    first = {name: (result.folder / name).read_bytes() for name in ("card.md", "card.html")}
    write_card(result.folder, json.loads((result.folder / "manifest.json").read_text(encoding="utf-8")))
    for name, content in first.items():
        assert (result.folder / name).read_bytes() == content
        assert tmp_path.as_posix().encode() not in content
        assert b"Declared contamination" not in content
        assert b"Damaged" not in content


def test_warnings_of_the_build_are_on_the_card(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "my_test.jsonl", chat_rows(5))
    result = make('[source.a]\npath = "my_test.jsonl"\n')
    assert result.warnings
    for name in ("card.md", "card.html"):
        assert "my_test.jsonl: the name says test" in (result.folder / name).read_text(encoding="utf-8")


def test_the_mixture_that_lost_every_row_has_a_card(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(3))
    result = make(
        'allow_empty = true\n[source.a]\npath = "a.jsonl"\nfilters = [{ use = "length", min_chars = 99999 }]\n'
    )
    assert result.manifest["rows"] == 0
    assert "length:too-short" in (result.folder / "card.html").read_text(encoding="utf-8")


PAIRS = """
filters = [{ use = "decontaminate", benchmarks = ["own.jsonl"] }, { use = "dedup", near = false }]
[source.a]
path = "a.jsonl"
[source.b]
path = "b.jsonl"
"""


def _pairs(make: Make, root: Path, text: str, clusters: int) -> Result:
    """Build `clusters` clusters of three rows and one of eight; one row is an item of the benchmark."""
    question = "水磨坊里第三只石磨每小时能磨出多少斤面粉才够全村人吃"
    write_jsonl(root / "own.jsonl", [{"question": question + text[:40], "answer": "十斤"}])
    rows = [
        {"instruction": f"{row['instruction']}{text}{i}", "output": row["output"]}
        for i, row in enumerate(chat_rows(clusters))
    ]
    asked = {"instruction": f"{'前言。' * 400}{question}{text}", "output": "十斤。"}
    write_jsonl(root / "a.jsonl", [*rows, asked])
    write_jsonl(root / "b.jsonl", [*rows, *rows, *[rows[0]] * 5])
    return make(PAIRS)


def test_duplicates_and_overlaps_are_shown_beside_what_they_repeat(make: Make, tmp_path: Path) -> None:
    result = _pairs(make, tmp_path, "", 6)
    html = (result.folder / "card.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    said = " ".join(page.text.split())
    assert "3 to 4: 5 clusters · 5 to 10: 1 cluster" in said
    assert "7 dropped (dedup:exact 7) for a.jsonl row 0 ·" in said
    assert said.count("b.jsonl row 0") >= 1
    assert "and 3 more." in said  # four of the seven are shown
    assert "1 row dropped for 1 item; 1 shown" in said
    at = said.index("own/test/own/00000 in a.jsonl row 6")
    assert "水磨坊里第三只石磨" in said[at : at + 400]  # 1,200 characters into the row, and yet shown
    markdown = (result.folder / "card.md").read_text(encoding="utf-8")
    assert "| 3 to 4 | 5 | 10 |" in markdown
    assert "| `own` | 1 | 1 |" in markdown


def test_the_evidence_is_bounded_and_only_text(make: Make, tmp_path: Path) -> None:
    result = _pairs(make, tmp_path, HOSTILE * 3, 150)
    html = (result.folder / "card.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert " ".join(page.text.split()).count("for a.jsonl row") == 30
    assert len(html.encode()) < 1_500_000
    assert not {"img", "iframe", "link", "object", "form"} & set(page.tags)
    assert page.tags.count("script") == 1  # the pages' own
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page.text)


@given(st.text())
def test_fence_holds_any_text(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse("before\n\n" + fenced(text) + "\n\nafter")
    assert [t.type for t in tokens].count("fence") == 1
    assert tokens[-2].content == "after"


@given(st.text(st.sampled_from("ab`|\\<>[]()*_&;:!# \n"), max_size=20))
def test_code_span_is_one_cell_without_markup(text: str) -> None:
    tokens = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .parse(f"| a | b |\n| - | - |\n| {code_span(text)} | x |\n")
    )
    cells = [tokens[i + 1] for i, t in enumerate(tokens) if t.type == "td_open"]
    assert len(cells) == 2
    assert cells[1].content == "x"
    assert {child.type for child in cells[0].children or ()} <= {"text", "code_inline", "text_special"}
    shown = "".join(child.content for child in cells[0].children or ())
    assert shown == text.replace("\n", "\\n").strip()
