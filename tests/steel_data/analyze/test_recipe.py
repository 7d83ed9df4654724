"""The recipe that `analyze` writes really builds, for every published layout, and keeps what was said."""

import json
import os

import pytest
from tests.steel_data.toys import write_jsonl

from steel_data.analyze.analysis import analyze
from steel_data.analyze.recipe import refuse_existing, write_recipe
from steel_data.benchmarks import layouts as exams
from steel_data.build import build
from steel_data.builders import chat
from steel_data.errors import InputError
from steel_data.recipe.load import load

ROWS = {name: layout.row for name, layout in chat.layouts().items()} | {one.name: one.row for one in exams.layouts()}


def built(folder, found):
    write_recipe(folder / "mine.toml", found.recipe, found.files.root)
    return build(load(folder / "mine.toml"), out=folder / "mixture", cache=folder / ".cache").manifest


GROUPS = {
    "pairs": [name for name, layout in chat.layouts().items() if "chosen" in chat.chat(json.loads(layout.row))[0]],
    "conversations": [
        name
        for name, layout in chat.layouts().items()
        if "messages" in chat.chat(json.loads(layout.row))[0] and not layout.said
    ],
    "exams": [one.name for one in exams.layouts()],
}


def miniature(layout, number):
    """Return a row of a layout, unlike those of the others."""
    row = json.loads(ROWS[layout].replace("问", f"第{number}问").replace("答", f"第{number}答"))
    return json.dumps(row, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("group", GROUPS)
def test_the_recipe_of_each_layout_builds_what_the_analysis_kept(group, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number, layout in enumerate(GROUPS[group]):
        (data / f"{number:02d}.jsonl").write_text(miniature(layout, number), encoding="utf-8")
    found = analyze([str(data)])
    assert [dict(part.layouts) for part in found.parts] == [{layout: 1} for layout in GROUPS[group]]
    manifest = built(tmp_path, found)
    kept = {part.name: found.figures[part.name].kept for part in found.parts}
    assert {name: account["kept"] for name, account in manifest["sources"].items()} == kept
    assert set(kept.values()) == {1}


def test_pairs_and_conversations_are_not_put_into_one_recipe(tmp_path):
    """No trainer takes both, and the build refuses them."""
    (tmp_path / "pairs.jsonl").write_text(miniature("preference", 0), encoding="utf-8")
    (tmp_path / "chat.jsonl").write_text(miniature("alpaca", 1) + miniature("alpaca", 2), encoding="utf-8")
    (tmp_path / "both.jsonl").write_text(miniature("preference", 3) + miniature("alpaca", 4), encoding="utf-8")
    found = analyze([str(tmp_path / name) for name in ("pairs.jsonl", "chat.jsonl", "both.jsonl")])
    assert "analyze these files by themselves" in found.refused["pairs"]
    assert "split the file" in found.refused["both"]
    assert built(tmp_path, found)["rows"] == 2


def test_judged_answers_are_built_with_their_labels(tmp_path):
    rows = [{"prompt": f"第{i}问？", "completion": f"第{i}答。", "label": bool(i % 2)} for i in range(4)]
    write_jsonl(tmp_path / "kto.jsonl", rows)
    (tmp_path / "chat.jsonl").write_text(miniature("alpaca", 1), encoding="utf-8")
    found = analyze([str(tmp_path / name) for name in ("kto.jsonl", "chat.jsonl")])
    assert "analyze these files by themselves" in found.refused["chat"]
    assert 'build = { use = "chat", layout = "kto" }' in found.recipe
    assert built(tmp_path, found)["rows"] == 4


def test_a_file_of_two_builders_becomes_two_sources(tmp_path):
    rows = [ROWS["alpaca"], ROWS["C-Eval"]]
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(json.loads(row)) + "\n" for row in rows), encoding="utf-8")
    found = analyze([str(tmp_path / "both.jsonl")])
    assert {part.build["use"] for part in found.parts} == {"chat", "exam"}
    assert built(tmp_path, found)["rows"] == 2


def test_columns_of_no_layout_are_proposed_and_marked_as_that(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"question": "磨在哪里？", "reply": "在河边。"}\n', encoding="utf-8")
    found = analyze([str(tmp_path / "own.jsonl")])
    assert "This is a proposal" in found.recipe
    assert built(tmp_path, found)["rows"] == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_names_that_are_patterns_or_not_toml_are_read_as_they_are(tmp_path):
    folder = tmp_path / "a [1]*"
    folder.mkdir()
    for name in ('x"[0-9].jsonl', "x1.jsonl", "问题.jsonl"):
        (folder / name).write_text(json.dumps({"instruction": name, "output": "b"}) + "\n", encoding="utf-8")
    found = analyze([str(folder / 'x"[0-9].jsonl'), str(folder / "问题.jsonl")])
    assert built(tmp_path, found)["rows"] == 2


def test_many_files_are_named_by_a_glob_that_finds_no_other(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(12):
        (data / f"{number}.jsonl").write_text(json.dumps({"instruction": f"{number}?", "output": "b"}) + "\n")
    found = analyze([str(data)])
    assert 'path = "*.jsonl"' in found.recipe
    assert built(tmp_path, found)["rows"] == 12
    found = analyze([str(data)], data_root=tmp_path / "elsewhere")
    assert f'path = "{data.as_posix()}/*.jsonl"' in found.recipe
    (data / "other.jsonl").write_text('{"text": "no layout"}\n')
    found = analyze([str(data)])
    assert "*.jsonl" not in found.recipe
    assert '"11.jsonl"' in found.recipe


def test_columns_that_are_not_read_are_kept_where_every_row_has_them(tmp_path):
    """Of a name that JSON writes otherwise the build would say that no row has it."""
    first = {"instruction": "a?", "output": "b", "topic": "x", 'e"vil\x1b': 1, "\u202e": 1}
    write_jsonl(tmp_path / "rows.jsonl", [{**first, "sparse": 1}, {**first, "instruction": "c?", "output": "d"}])
    found = analyze([str(tmp_path / "rows.jsonl")])
    assert 'meta = ["topic"]' in found.recipe
    assert built(tmp_path, found)["rows"] == 2


def test_a_recipe_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "mine.toml").write_text("seed = 1\n")
    with pytest.raises(InputError, match=r"is there already\. Fix: another name, or --force"):
        refuse_existing(tmp_path / "mine.toml", force=False)
    refuse_existing(tmp_path / "mine.toml", force=True)
    with pytest.raises(InputError, match="not a recipe's name"):
        refuse_existing(tmp_path / "mine.json", force=False)


@pytest.mark.parametrize("place", ["data/chat", "elsewhere"])
def test_the_recipe_builds_where_the_environment_says_another_data_root(place, tmp_path, monkeypatch):
    """STEEL_DATA_ROOT counts before a recipe's own data_root: files outside of it are named by absolute paths."""
    write_jsonl(tmp_path / place / "rows.jsonl", [{"instruction": "a?", "output": "b"}])
    monkeypatch.setenv("STEEL_DATA_ROOT", str(tmp_path / "data"))
    found = analyze([str(tmp_path / place)])
    assert built(tmp_path, found)["rows"] == 1
    assert ('path = "chat/rows.jsonl"' in found.recipe) == (place == "data/chat")
