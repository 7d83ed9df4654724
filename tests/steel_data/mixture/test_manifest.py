"""Reading a manifest is light; the laws of the ledger stand once and each of them can break."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import steel_data.mixture
from steel_data.errors import InputError
from steel_data.mixture.manifest import LAWS, broken_laws, damaged, read_manifest

ACCOUNT = {
    "read": 10, "unreadable": 1, "made": 3, "built": 12, "kept": 8, "dropped": {"a": 3, "b": 1}, "sampled_out": 2,
    "repeated": 5, "written": 11,
}  # fmt: skip


def test_reading_a_manifest_loads_few_modules_and_no_data_library(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "x"}', encoding="utf-8")
    code = (
        "import sys, pathlib, steel_data.mixture\n"
        f"assert steel_data.mixture.read_manifest(pathlib.Path({str(tmp_path)!r})) == {{'name': 'x'}}\n"
        "print(*sorted(name for name in sys.modules if name.startswith('steel_data')))\n"
        "print(*sorted({'polars', 'pyarrow', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours, heavy = done.stdout.split("\n")[:2]
    assert len(ours.split()) <= 12, ours
    assert heavy == ""


def test_the_face_hands_on_what_it_names() -> None:
    for name in steel_data.mixture.__all__:
        assert callable(getattr(steel_data.mixture, name)), name
    with pytest.raises(AttributeError, match="no attribute 'rws'"):
        steel_data.mixture.rws  # noqa: B018


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, []),
        ({"read": 11}, ["built = read - unreadable + made"]),
        ({"dropped": {"a": 3}}, ["built = kept + dropped"]),
        ({"written": 10}, ["written = kept - sampled_out + repeated"]),
        ({"kept": 9}, ["built = kept + dropped", "written = kept - sampled_out + repeated"]),
    ],
)
def test_each_law(change: dict[str, object], broken: list[str]) -> None:
    assert broken_laws({**ACCOUNT, **change}) == broken
    assert set(broken) <= set(LAWS)


def test_what_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no manifest\.json, so no finished mixture"):
        read_manifest(tmp_path)
    for text, said in (("[1]", "is no mixture's manifest"), ("{", "cannot be read"), ("[" * 9999, "cannot be read")):
        (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            read_manifest(tmp_path)


def test_files_that_are_gone_or_changed_are_damage(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest = {"output": {"a": {"sha256": empty}}, "truth": {"b": {"sha256": empty}}}
    assert damaged(tmp_path, manifest) == [f"{tmp_path / 'b'}: is missing"]
    manifest["output"]["a"]["sha256"] = json.dumps(empty)
    assert "its bytes are not those" in damaged(tmp_path, manifest)[0]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("rows", "58", "rows is '58', where a whole number belongs"),
        ("inputs", {"a.jsonl": 1.5}, "inputs.a.jsonl is 1.5, where a table belongs"),
        ("inputs", {"a.jsonl": {"rows": 1}}, "inputs.a.jsonl has no 'sha256'"),
        (
            "sources",
            {"a": {**ACCOUNT, "tokens": 1, "dropped": {"x": None}}},
            "sources.a.dropped.x is None, where a whole",
        ),
        ("recipe", {"filters": [{"use": {}}]}, "recipe.filters.use is {}, where text belongs"),
        ("name", "a\ud800", "name is no valid Unicode"),
    ],
)
def test_what_is_of_another_type_is_told_when_it_is_asked_for(
    key: str, value: object, said: str, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({key: value}), encoding="utf-8")
    manifest = read_manifest(tmp_path)
    with pytest.raises(InputError, match=re.escape(said)):
        manifest[key]
    with pytest.raises(InputError, match="has no 'tokens'"):
        manifest["tokens"]
    assert manifest.get("tokens") is None
