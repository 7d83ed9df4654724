"""Files appear whole or not at all; what is kept is found again, and made again when it is damaged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from steel_data.errors import InputError
from steel_data.files import (
    address,
    atomic_write,
    kept,
    linked_to,
    put_right,
    read_sealed,
    replaced_folder,
    source_sha256,
    write_sealed,
)


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


def test_a_link_to_a_folder_stays_when_the_folder_is_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "far" / "mixture")  # of which nothing is there yet
    for text in ("one", "two"):
        with replaced_folder(tmp_path / "link") as fresh:
            (fresh / "a").write_text(text)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "mixture" / "a").read_text() == "two"
    assert [p.name for p in (tmp_path / "far").iterdir()] == ["mixture"]


REPLACED = """
import os, sys
from pathlib import Path
from steel_data.files import replaced_folder
left = int(sys.argv[2])
def ends(event, arguments):
    global left
    left -= event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
    if left == 0:
        os._exit(9)
sys.addaudithook(ends)
with replaced_folder(Path(sys.argv[1])) as fresh:
    (fresh / "a").write_text("new")
"""


def test_ended_before_any_change_a_folder_is_the_old_or_the_new_one_and_nothing_lies_beside_it(tmp_path):
    """A build that was killed in its last moment was whole when it was given again, and the older mixture stayed, hidden."""
    found, number, ended = [], 0, True
    while ended:
        number += 1
        folder = tmp_path / str(number) / "mixture"
        folder.mkdir(parents=True)
        (folder / "a").write_text("old")
        ended = subprocess.run([sys.executable, "-c", REPLACED, str(folder), str(number)]).returncode == 9
        put_right(folder)
        assert [p.name for p in folder.parent.iterdir()] == ["mixture"]
        found.append((folder / "a").read_text())
    assert found == ["old"] * 3 + ["new"] * (number - 3) and number > 5  # mkdir and two renames


def test_what_fails_between_the_two_renames_leaves_what_stood_there(tmp_path, monkeypatch):
    folder, rename = tmp_path / "mixture", Path.rename
    folder.mkdir()

    def pressed(path, target):
        if path.name == ".mixture.new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", pressed)
    with pytest.raises(KeyboardInterrupt), replaced_folder(folder):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["mixture"]


def test_a_folder_that_leads_nowhere_is_one_line(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputError, match="leads nowhere"):
        linked_to(tmp_path / "a")
    with pytest.raises(InputError, match="no folder that can be replaced"):
        linked_to(Path("/"))
    assert linked_to(tmp_path / "c" / "..") == tmp_path.resolve()


def test_a_sealed_value_is_what_was_written_or_an_error(tmp_path):
    value = {"sha256": "ab12", "rows": 12, "文": [1, None]}
    place = tmp_path / "v.json"
    write_sealed(place, value)
    assert read_sealed(place) == value
    whole = place.read_bytes()
    for at in range(len(whole)):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises((ValueError, KeyError, TypeError)):
            read_sealed(place)
