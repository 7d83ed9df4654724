"""What stands in a bucket is told by listings, one for each prefix; patterns mean what pathlib means by them."""

from pathlib import Path

import pytest
from tests.steel_data.store.server import Lab

from steel_data.store.listings import files, folders, forget, glob, known, seen, tree, under

NAMES = (
    "a.jsonl",
    "b.json",
    "d/a.jsonl",
    "d/é 中.jsonl",
    "d/e/f/a.jsonl",
    "d/e/a.jsonl",
    "d/.hidden.jsonl",
    "e[1].jsonl",
)
PATTERNS = (
    "a.jsonl", "*.jsonl", "*", "d/*.jsonl", "d/?*.jsonl", "**/*.jsonl", "d/**/a.jsonl", "d/**", "*/*/a.jsonl", "d/e/*",
    "[ab].js*", "[!a].js*", "none/*.jsonl", "d", "./a.jsonl", "A.JSONL", "**/f/*", "e[[]1].jsonl",
)  # fmt: skip


@pytest.fixture
def names(lab: Lab, tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(name.encode())
    return lab.upload(tmp_path / "data", "data")


def test_patterns_find_what_they_find_in_a_folder(lab: Lab, names: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for pattern in PATTERNS:
        here = sorted(p.relative_to(folder).as_posix() for p in folder.glob(pattern) if p.is_file())
        assert [p.relative_to(names).as_posix() for p in glob(names, pattern)] == here, pattern


def test_each_prefix_is_listed_once_until_it_is_forgotten(lab: Lab, names: Path) -> None:
    forget()
    lab.server.asked.clear()
    assert glob(names, "a.jsonl") and glob(names, "*.json") and seen(names / "b.json")
    assert {*files(names)} == {"a.jsonl", "b.json", "e[1].jsonl"} and folders(names) == {"d"}
    assert lab.server.count() == {"LIST": 1}
    assert len(under(names)) == len(under(names)) == len(NAMES)
    assert lab.server.count() == {"LIST": 2}
    assert seen(names / "not there") is None and known(names / "d/a.jsonl") is None
    assert lab.server.count() == {"LIST": 2}
    forget()
    assert known(names / "a.jsonl") is None
    assert seen(names / "a.jsonl") is not None
    assert lab.server.count() == {"LIST": 3}


def test_a_changed_object_is_another_one(lab: Lab, names: Path) -> None:
    before = seen(names / "a.jsonl")
    lab.bucket.put("data/a.jsonl", b"a.jsonL")
    forget()
    after = seen(names / "a.jsonl")
    assert before is not None and after is not None
    assert before.size == after.size and before.tag != after.tag


def test_empty_objects_that_stand_for_folders_are_no_files(lab: Lab) -> None:
    import urllib.request

    for key in ("data/", "data/d/"):  # as consoles leave them
        request = urllib.request.Request(f"{lab.server.address}/{lab.bucket.name}/{key}", data=b"", method="PUT")
        urllib.request.urlopen(request).close()
    lab.bucket.put("data/d/a", b"a")
    assert [*tree(lab.root / "data")] in ([lab.root / "data/d/a"], [lab.root / "data/d", lab.root / "data/d/a"])
    assert files(lab.root / "data").keys() <= {"d"}
