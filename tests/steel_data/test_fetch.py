"""`fetch` brings files to where `path` expects them, pinned; a second fetch takes the same commit and downloads nothing."""

import json
from pathlib import Path

import pytest
from tests.steel_data.read.test_hub import COMMIT, FILES, Hub, server  # noqa: F401  (the fixture)

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.fetch import PINS, fetch_recipe, pinned
from steel_data.recipe.load import load

RECIPE = """
[source.a]
path = "name/7M/train-*.jsonl"
origin = "hf://datasets/org/name/7M"
build = { use = "own_rows:turn" }
[source.byhand]
path = "hand.jsonl"
origin = "https://example.org/terms"
[source.identity]
build = { use = "identity", name = "小钢", team = "炼钢小组" }
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "own_rows.py").write_text(
        "def turn(row):\n"
        "    turns = [{'role': 'user', 'content': str(row['a'])}, {'role': 'assistant', 'content': 'ok'}]\n"
        "    return [{'messages': turns}]\n",
        encoding="utf-8",
    )
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "r.toml"


def test_fetch_then_build(
    server: type[Hub],  # noqa: F811
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fetch_recipe(recipe, None)
    printed = capsys.readouterr().out
    assert f"a: 2 files at {COMMIT[:12]}, 2 new" in printed
    assert "byhand: not on a hub, get it by hand from https://example.org/terms" in printed
    assert "identity: no origin; nothing to fetch" in printed
    name = "7M/train-00001-of-00002.jsonl"
    assert (tmp_path / "name" / name).read_bytes() == FILES[name]
    assert json.loads((tmp_path / PINS).read_text()) == {"hf://datasets/org/name/7M": COMMIT}
    gets = len(server.gets)
    fetch_recipe(recipe, None)
    assert len(server.gets) == gets
    (tmp_path / "hand.jsonl").write_text('{"instruction": "q", "output": "a"}\n')
    result = build(load(recipe), out=tmp_path / "out", cache=tmp_path / "cache")
    assert result.manifest["sources"]["a"]["read"] == 5001


def test_a_pin_is_put_into_the_address() -> None:
    pins = {"hf://datasets/org/name/7M": "abc"}
    assert pinned("hf://datasets/org/name/7M", pins) == "hf://datasets/org/name@abc/7M"
    assert pinned("hf://datasets/org/name@main/7M", pins) == "hf://datasets/org/name@main/7M"
    assert pinned("hf://datasets/org/other", pins) == "hf://datasets/org/other"


def test_a_broken_pin_file_is_named(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / PINS).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"\.steel-origins\.json: cannot be read"):
        fetch_recipe(recipe, None)
