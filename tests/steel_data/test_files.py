"""Files appear whole or not at all; what is kept is found again, and made again when it is damaged."""

import json

import pytest

from steel_data.errors import InputError
from steel_data.files import address, atomic_write, kept, source_sha256


def keep(place, value, made):
    def make():
        made.append(value)
        return value

    return kept(place, make, lambda path, v: path.write_text(json.dumps(v)), lambda path: json.loads(path.read_text()))


def test_what_is_kept_is_made_once(tmp_path):
    made = []
    assert [keep(tmp_path / "a/b.json", {"x": 1}, made) for _ in range(3)] == [{"x": 1}] * 3
    assert made == [{"x": 1}]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.json"]  # no temporary file stays


@pytest.mark.parametrize("damage", [b"", b'{"x"', b"\xff\xfe"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    made = []
    keep(tmp_path / "b.json", {"x": 1}, made)
    (tmp_path / "b.json").write_bytes(damage)
    assert keep(tmp_path / "b.json", {"x": 1}, made) == {"x": 1}
    assert len(made) == 2
    assert json.loads((tmp_path / "b.json").read_text()) == {"x": 1}


def test_what_fails_in_the_making_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        kept(tmp_path / "b.json", lambda: 1 // 0, lambda path, v: None, lambda path: 0)
    assert list(tmp_path.iterdir()) == []


def test_an_address_holds_every_part():
    parts = ["weights", {"b": 1, "a": [2, None]}, 3, "文"]
    assert address(*parts) == address("weights", {"a": [2, None], "b": 1}, 3, "文")
    others = [["weight", *parts[1:]], [parts[0], {"b": 1, "a": [2, 0]}, *parts[2:]], [*parts[:2], "3", "文"], parts[:3]]
    assert len({address(*p) for p in (parts, *others)}) == 5
    with pytest.raises(TypeError):
        address(object())  # its text would hold a place in memory, another in every process


def test_a_module_that_is_missing_never_leaves_a_key():
    assert source_sha256("steel_data.files") != source_sha256("steel_data.errors")
    assert source_sha256("steel_data.files", "steel_data.errors") != source_sha256("steel_data.files")
    with pytest.raises(ModuleNotFoundError, match=r"steel_data\.renamed"):
        source_sha256("steel_data.files", "steel_data.renamed")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        atomic_write(tmp_path / "file" / "below", b"x")
