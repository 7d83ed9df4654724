"""Copies live as long as what they are for; what is written under a prefix is seen whole or not at all."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from tests.steel_data.store.server import Lab

from steel_data.errors import InputError
from steel_data.store import copies
from steel_data.store.copies import (
    bring,
    brought,
    copied_alone,
    copy_of,
    present,
    removed,
    replaced_prefix,
    scratch,
    written,
)
from steel_data.store.listings import tree


def test_copies_are_gone_when_the_block_is_over(lab: Lab) -> None:
    lab.bucket.put("c/a", b"1")
    with scratch(lab.root):
        copy = present(lab.root / "c/a")
        assert copy is not None and copy.read_bytes() == b"1"
        lab.bucket.put("c/a", b"2")
        assert present(lab.root / "c/a") == copy and copy.read_bytes() == b"1"  # addressed by what is in it
        with scratch(lab.root):
            assert copy_of(lab.root / "c/a").read_bytes() == b"2"
    assert not copy.exists()
    assert [*Path(os.environ["STEEL_SCRATCH"]).iterdir()] == []
    with scratch(Path("here")):
        assert [*Path(os.environ["STEEL_SCRATCH"]).iterdir()] == []


def test_folders_of_the_dead_are_removed_and_those_of_the_living_stay(lab: Lab) -> None:
    parent = Path(os.environ["STEEL_SCRATCH"])
    for name in ("steel-scratch-dead", "steel-scratch-alive", "steel-scratch-just-made", "something-else"):
        (parent / name).mkdir(parents=True)
        (parent / name / ".lock").touch()
        if name != "steel-scratch-just-made":
            os.utime(parent / name, (1, 1))
    with FileLock(parent / "steel-scratch-alive" / ".lock"):
        os.utime(parent / "steel-scratch-alive", (1, 1))
        with scratch(lab.root):
            pass
    assert {path.name for path in parent.iterdir()} == {
        "steel-scratch-alive",
        "steel-scratch-just-made",
        "something-else",
    }


def test_what_is_nowhere_is_said(lab: Lab) -> None:
    with scratch(lab.root):
        assert present(lab.root / "none") is None
        with pytest.raises(FileNotFoundError):
            copy_of(lab.root / "none")
        bring([lab.root / "none", Path("a local file")])
        with pytest.raises(InputError, match=r"s3://.*/none: nothing is there"):
            brought(lab.root / "none")
        assert [*copied_alone(lab.root / "none", "manifest.json").iterdir()] == []


def test_many_are_brought_at_once_and_none_twice(lab: Lab) -> None:
    for i in range(5):
        lab.bucket.put(f"c/{i}", str(i).encode())
    with scratch(lab.root):
        bring(lab.root / f"c/{i}" for i in (0, 1, 2, 3, 4, 4, 0))
        lab.server.asked.clear()
        assert [copy_of(lab.root / f"c/{i}").read_bytes() for i in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        assert lab.server.asked == []


def test_a_prefix_is_brought_as_it_is_now(lab: Lab) -> None:
    lab.bucket.put("b/x/1.csv", b"one")
    lab.bucket.put("b/x/empty", b"")
    with scratch(lab.root):
        folder = brought(lab.root / "b")
        assert folder.name == "b"
        assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == {
            "x/1.csv": b"one",
            "x/empty": b"",
        }
        assert brought(lab.root / "b") == folder
        lab.bucket.put("b/x/1.csv", b"two")
        assert (brought(lab.root / "b") / "x/1.csv").read_bytes() == b"two"
        assert (folder / "x/1.csv").read_bytes() == b"one"
        before = tree(lab.root / "b")
        lab.bucket.put("b/x/1.csv", b"three")
        with pytest.raises(InputError, match="changed since it was listed"):
            brought(lab.root, before)
    assert brought(Path("here")) == Path("here")


def test_an_object_is_written_by_one_request_or_not_at_all(lab: Lab) -> None:
    with scratch(lab.root):
        with written(lab.root / "c/a") as temporary:
            temporary.write_bytes(b"whole")
        assert lab.held("c") == {"a": b"whole"}
        lab.server.asked.clear()
        assert copy_of(lab.root / "c/a").read_bytes() == b"whole"
        assert lab.server.asked == []
        with pytest.raises(RuntimeError), written(lab.root / "c/b") as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError
        assert lab.held("c") == {"a": b"whole"}


def mixture(folder: Path, text: str, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"{name} {text}", encoding="utf-8")


def test_the_last_object_is_written_last_and_what_is_left_over_goes(lab: Lab) -> None:
    out = lab.root / "mix"
    with scratch(lab.root):
        with replaced_prefix(out, "manifest.json", lambda: None) as fresh:
            mixture(fresh, "old", ("manifest.json", "train-0", "train-1", "dropped/part-0"))
        lab.server.asked.clear()
        with replaced_prefix(out, "manifest.json", lambda: None) as fresh:
            mixture(fresh, "new", ("manifest.json", "train-0", "dropped/part-0"))
    done = [(a.kind, a.key) for a in lab.server.asked if a.kind != "LIST"]
    # DELETE names its keys in its body
    assert done[0] == done[-1] == ("DELETE", "")
    assert sorted(done[1:3]) == [("PUT", "mix/dropped/part-0"), ("PUT", "mix/train-0")]
    assert done[3] == ("PUT", "mix/manifest.json")
    assert {name: data.decode() for name, data in lab.held("mix").items()} == {
        name: f"{name} new" for name in ("manifest.json", "train-0", "dropped/part-0")
    }


@pytest.mark.parametrize("after", range(6))
def test_whenever_it_ends_there_is_the_old_one_or_none_or_the_new_one(lab: Lab, after: int) -> None:
    """Killed after any number of requests that write: with a manifest, every file is of its generation."""
    out, names = lab.root / "mix", ("manifest.json", "train-0", "train-1")
    with scratch(lab.root):
        with replaced_prefix(out, "manifest.json", lambda: None) as fresh:
            mixture(fresh, "old", (*names, "train-2"))
        writes = iter(range(100))
        lab.server.answer = lambda kind, _: (
            "403 AccessDenied" if kind in ("PUT", "DELETE") and next(writes) >= after else None
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(copies, "SIDE_BY_SIDE", 1)
            try:
                with replaced_prefix(out, "manifest.json", lambda: None) as fresh:
                    mixture(fresh, "new", names)
            except InputError:
                assert after < 5
        lab.server.answer = lambda kind, _: None
    held = {name: data.decode() for name, data in lab.held("mix").items()}
    if "manifest.json" in held:
        generation = held["manifest.json"].split()[1]
        assert all(held[name] == f"{name} {generation}" for name in names)
        assert generation == ("old" if after == 0 else "new")
    else:
        assert 0 < after < 4


def test_who_may_no_longer_write_does_not(lab: Lab) -> None:
    out = lab.root / "mix"

    def refuse() -> None:
        raise InputError("lost")

    with scratch(lab.root), pytest.raises(InputError, match="lost"), replaced_prefix(out, "manifest.json", refuse) as f:
        mixture(f, "new", ("manifest.json", "train-0"))
    assert lab.held("mix") == {}


def test_a_prefix_is_removed(lab: Lab) -> None:
    lab.bucket.put("p/a", b"")
    lab.bucket.put("p/b/c", b"")
    lab.bucket.put("pq", b"")
    removed(lab.root / "p")
    removed(lab.root / "never")
    assert {*lab.bucket.list("").objects} == {"pq"}
