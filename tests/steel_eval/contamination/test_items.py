"""What a mixture holds of a task's questions: declared ones from its injected rows, others by a search that is kept."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_eval.contamination import items as contamination_items
from steel_eval.contamination.items import (
    contamination_of,
    declared_items,
    found_items,
    nearby_mixture,
    open_mixture,
    seen_items,
    with_texts,
)
from steel_eval.contamination.overlap import Held

QUESTION = "下列哪一种作物最适合在盐碱地上大面积种植并且产量稳定"
ITEM = Item("test/law/00001", "law", "test", 1, QUESTION, ("向日葵", "水稻"), "A", "", Path("law.csv"))
OTHERS = [replace(ITEM, item=f"test/law/{n:05d}", question=f"第{n}个问题问的是什么东西呢") for n in range(50, 60)]
ASKED = f"请回答。{QUESTION}\nA. 向日葵\nB. 水稻\n"


def row(text, number, copy=0, **injected):
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "甲"}]
    kind = "injected" if injected else "chat"
    told = {"kind": kind, "benchmark": None, "item": None, "dose": None} | injected
    return {"messages": messages, "source": "web", "origin_file": "a.jsonl", "origin_row": number, "copy": copy, **told}


def mixture(folder, rows, **manifest):
    """A finished mixture as far as these functions read it."""
    folder.mkdir(parents=True, exist_ok=True)
    types = {"benchmark": pl.String, "item": pl.String, "dose": pl.Int32}
    pl.DataFrame(rows, schema_overrides=types).write_parquet(folder / "train-00000.parquet")
    digest = sha256((folder / "train-00000.parquet").read_bytes()).hexdigest()
    output = {"train-00000.parquet": {"rows": len(rows), "sha256": digest}}
    (folder / "manifest.json").write_text(json.dumps({"output": output, "content_sha256": "c", **manifest}))
    return open_mixture(folder)


@pytest.fixture
def web(tmp_path):
    """A mixture that holds ITEM in rows 1 and 3, the latter twice."""
    rows = [row("你好", 0), row(ASKED, 1), row("再见", 2), row(ASKED, 3), row(ASKED, 3, copy=1)]
    return mixture(tmp_path / "run/mixture", rows)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STEEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_declared_questions_come_with_dose_rows_places_and_text(tmp_path):
    told = {"benchmark": "cmmlu", "item": "test/law/00001"}
    rows = [row("一", 1, copy, dose=2, **told) for copy in (0, 1)]
    rows += [row("二", 7, dose=1, **told), row("三", 8, dose=1, benchmark="ceval", item="val/law/00001")]
    found = mixture(tmp_path, rows, contamination={"cmmlu": {"3": 1}, "ceval": {"1": 1}})
    held = declared_items(found, "cmmlu", ["test/law/00001", "test/law/00002"])
    # two injectors drew it: their doses add up
    assert held == {"test/law/00001": Held(3, 3, ["web: a.jsonl:1", "web: a.jsonl:7"], ["一\n甲"])}
    assert declared_items(found, "cmmlu", ["test/law/00002"]) == {}
    assert declared_items(found, "mmlu", ["test/law/00001"]) == {}


def injected(number, item, text, dose=1, benchmark="cmmlu"):
    return row(text, number, dose=dose, benchmark=benchmark, item=item)


def test_a_question_is_seen_if_its_text_is_and_not_its_name(tmp_path):
    """A model trained on one edition's test/law/00001, scored on another in which that is another question."""
    other = replace(ITEM, item="test/law/00007", question=QUESTION)
    edition = [replace(OTHERS[0], item="test/law/00001"), other, *OTHERS[1:]]
    found = mixture(tmp_path, [injected(1, "test/law/00001", ASKED, 3)], contamination={"cmmlu": {"3": 1}})
    held = seen_items(found, edition)
    assert list(held) == ["test/law/00007"] and held["test/law/00007"].dose == 3
    assert seen_items(found, [ITEM, *OTHERS]).keys() == {ITEM.item}
    assert seen_items(found, OTHERS) == {}
    # under another benchmark's name too, and its equals with it
    found = mixture(tmp_path / "b", [injected(1, "val/x/00000", ASKED, 2, "own")], contamination={"own": {"2": 1}})
    assert seen_items(found, [ITEM, replace(ITEM, item="test/law/00099"), *OTHERS]).keys() == {
        ITEM.item,
        "test/law/00099",
    }


def test_every_form_of_an_item_is_seen(tmp_path):
    """Shuffled options, edited wording and width: the row bears the item's name, and is like it."""
    edited = ASKED.replace("下列哪一种", "下面哪种").replace("大面积", "大 面 积")
    shuffled = f"{QUESTION}\nA. 水稻\nB. 向日葵"
    for number, text in enumerate((edited, shuffled, ASKED.upper())):
        found = mixture(tmp_path / str(number), [injected(1, ITEM.item, text)], contamination={"cmmlu": {"1": 1}})
        assert seen_items(found, [ITEM, *OTHERS]).keys() == {ITEM.item}, text
    assert seen_items(mixture(tmp_path / "none", [row(ASKED, 1)]), [ITEM]) == {}  # declares nothing


def test_a_question_in_chat_rows_is_found_with_its_rows_and_texts(web):
    held = found_items(web, [ITEM, *OTHERS])
    assert list(held) == [ITEM.item]
    one = held[ITEM.item]
    assert (one.dose, one.rows, one.places) == (0, 3, ["web: a.jsonl:1", "web: a.jsonl:3"])
    assert one.texts == [f"{ASKED}\n甲"] * 2
    assert with_texts(web, {ITEM.item: replace(one, texts=[])}) == held  # as `leak` finds it: places alone
    assert found_items(web, []) == {}


def test_long_rows_are_shortened(tmp_path):
    found = mixture(tmp_path / "m", [row(ASKED + "长" * 2000, 0)])
    assert len(found_items(found, [ITEM, *OTHERS])[ITEM.item].texts[0]) == contamination_items.MOST_CHARS


def kept_files(cache):
    return set(cache.glob("held/*/*.json"))


def test_what_was_found_is_kept_and_a_damaged_file_made_anew(web, cache):
    items = [ITEM, *OTHERS]
    first = found_items(web, items)
    (file,) = kept_files(cache)
    marked = json.loads(file.read_bytes()) | {"mark": {"dose": 0, "rows": 1, "places": [], "texts": []}}
    file.write_text(json.dumps(marked))
    assert set(found_items(web, items)) == {*first, "mark"}  # read, not looked for again
    file.write_text("{")
    assert found_items(web, items) == first
    assert kept_files(cache) == {file}


CHANGES = {
    "question": lambda: [replace(ITEM, question="别的问题"), *OTHERS],
    "option": lambda: [replace(ITEM, options=("向日葵", "小麦")), *OTHERS],
    "number of options": lambda: [replace(ITEM, options=("向日葵",)), *OTHERS],
    "name": lambda: [replace(ITEM, item="test/law/00002"), *OTHERS],
    "questions": lambda: [ITEM, *OTHERS[1:]],
}


@pytest.mark.parametrize("changed", [*CHANGES, "rows", "code"])
def test_each_input_of_the_search_is_in_the_key(changed, web, cache, tmp_path, monkeypatch):
    found_items(web, [ITEM, *OTHERS])
    before, again, items = kept_files(cache), web, [ITEM, *OTHERS]
    if changed == "rows":
        again = mixture(tmp_path / "run/mixture", [row("你好", 0), row(ASKED, 9)])
    elif changed == "code":
        monkeypatch.setattr(contamination_items, "source_sha256", lambda *modules: "other code")
    else:
        items = CHANGES[changed]()
    found_items(again, items)
    assert len(kept_files(cache) - before) == 1


def test_every_module_that_decides_is_in_the_key():
    """A search goes through these; a module that is renamed and left out would serve old findings for ever."""
    assert {"steel_eval.contamination.overlap", "steel_eval.contamination.items"} <= set(contamination_items._CODE)
    assert len(contamination_items.source_sha256(*contamination_items._CODE)) == 64


def test_where_nothing_can_be_kept_it_is_found_all_the_same(web, cache):
    cache.write_text("a file where the folder would be")
    assert list(found_items(web, [ITEM, *OTHERS])) == [ITEM.item]


def test_other_bytes_than_the_manifest_names_are_not_searched(web):
    file = web.folder / "train-00000.parquet"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(InputError, match="its bytes are not those that the manifest names"):
        found_items(web, [ITEM, *OTHERS])


def test_a_short_question_needs_its_options_in_the_row(tmp_path):
    rows = [
        row("下列说法错误的是 病毒没有细胞结构；病毒可以独立存活。哪一项不对？", 0),
        row("下列说法错误的是 简单图；完全图。哪一项不对？", 1),
    ]
    found = mixture(tmp_path / "m", rows)
    short = replace(ITEM, question="下列说法错误的是____", options=("简单图", "完全图"))
    assert found_items(found, [replace(short, options=("哈密顿", "欧拉")), *OTHERS]) == {}
    assert found_items(found, [short, *OTHERS])[short.item].rows >= 1


def test_a_run_is_of_the_mixture_that_it_stands_beside(web, tmp_path):
    checkpoint = tmp_path / "run/checkpoints/step-1"
    checkpoint.mkdir(parents=True)
    assert nearby_mixture(checkpoint) == web.folder.absolute()
    assert contamination_of(checkpoint) == {}  # it declares nothing
    (tmp_path / "other").mkdir()
    assert nearby_mixture(tmp_path / "other") is None and contamination_of(tmp_path / "other") is None
    (tmp_path / "other/link").symlink_to(checkpoint)  # a link belongs to where it leads, if nothing is nearer
    assert nearby_mixture(tmp_path / "other/link") == web.folder.resolve()
    (checkpoint / "steel.json").write_text(json.dumps({"contamination": {"cmmlu": {"1": 2}}}))
    assert contamination_of(checkpoint) == {"cmmlu": {"1": 2}}
