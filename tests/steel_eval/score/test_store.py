"""The store survives kills, cut lines and company."""

import multiprocessing

import pytest

from steel_eval.score import store as store_module
from steel_eval.score.store import Store, _unit


def test_what_was_put_is_found_again_by_another_store(tmp_path):
    Store(tmp_path / "s.jsonl").put("k", {"logprob": [[0.1, None]]})
    assert Store(tmp_path / "s.jsonl").get("k") == {"key": "k", "logprob": [[0.1, None]]}
    assert Store(tmp_path / "s.jsonl").get("other") is None


def test_floats_come_back_bit_for_bit(tmp_path):
    value = -12.345678901234567
    Store(tmp_path / "s").put("k", {"v": value})
    assert Store(tmp_path / "s").get("k")["v"] == value


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_line_cut_short_by_a_crash_is_scored_again_and_hurts_no_other(tmp_path, cut):
    file = tmp_path / "s"
    store = Store(file)
    store.put("a", {"v": 1})
    store.put("b", {"v": "text that is long enough to be cut in many places"})
    file.write_bytes(file.read_bytes()[:-cut])
    again = Store(file)
    assert again.get("a") == {"key": "a", "v": 1}
    assert again.get("b") is None
    again.put("b", {"v": 2})
    final = Store(file)
    assert (final.get("a")["v"], final.get("b")["v"], final.damaged) == (1, 2, cut > 1)


def test_a_flipped_bit_is_noticed(tmp_path):
    file = tmp_path / "s"
    Store(file).put("a", {"v": 1234})
    file.write_bytes(file.read_bytes().replace(b"1234", b"1235"))
    assert Store(file).get("a") is None


def test_parts_of_finished_units_and_replaced_lines_go(tmp_path):
    """A whole score is kept once: the parts of it were there for a kill. Parts of what is not done stay."""
    file, other = tmp_path / "s", Store(tmp_path / "s")
    store = Store(file)
    for number in range(3):
        store.put(f"part {number}", {"of": "whole", "v": "x" * 1000})
    store.put("mine", {"of": "not done", "v": 1})
    store.put("asked", {"v": [1, None]})
    assert other.get("part 2") is not None
    store.put("whole", {"v": 2})
    store.put("asked", {"v": [1, 2]})
    file.write_bytes(file.read_bytes() + b"cut short")
    store.compact()
    text = file.read_bytes()
    assert len(text) < 400 and text.count(b"\n") == 3 and text.endswith(b"cut short")
    store.put("after", {"v": 3})
    for reader in (store, other, Store(file)):  # `other` had read beyond the new file's end
        assert [reader.get(key)["v"] for key in ("whole", "mine", "asked", "after")] == [2, 1, [1, 2], 3]
    assert Store(file).get("part 0") is None
    before = file.stat().st_ino, file.read_bytes()
    store.compact()
    assert (file.stat().st_ino, file.read_bytes()) == before  # nothing to take out: the file stays


def test_a_file_with_nothing_to_take_out_is_not_read_again(tmp_path, monkeypatch):
    """A sweep compacts after each checkpoint: reading all of it each time grows with the square of them."""
    read = []
    monkeypatch.setattr(store_module, "_unit", lambda line: read.append(line) or _unit(line))
    store = Store(tmp_path / "s")
    for checkpoint in range(5):
        store.put(f"part {checkpoint}", {"of": "never done", "v": 1})
        store.put(f"unit {checkpoint}", {"v": 2})
        store.compact()
    assert len(read) == 10  # each line once
    store.put("never done", {"v": 3})
    store.compact()
    assert len(read) == 22 and (tmp_path / "s").read_bytes().count(b"\n") == 6


def _compacts(path):
    store = Store(path)
    for i in range(20):
        store.put(f"part {i}", {"of": f"unit {i}", "v": 1})
        store.put(f"unit {i}", {"v": 2})
        store.compact()


def test_one_process_compacts_while_another_appends(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(tmp_path / "s", "x"))]
    workers.append(context.Process(target=_compacts, args=(tmp_path / "s",)))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    end = Store(tmp_path / "s")
    assert all(end.get(f"x{i}") and end.get(f"unit {i}") for i in range(20)) and end.damaged == 0
    assert end.get("part 3") is None


def test_what_another_process_appends_is_seen(tmp_path):
    mine, other = Store(tmp_path / "s"), Store(tmp_path / "s")
    assert mine.get("k") is None
    other.put("k", {"v": 1})
    assert mine.get("k")["v"] == 1


def _append(path, name):
    store = Store(path)
    for i in range(20):
        store.put(f"{name}{i}", {"v": name * 3000})


def test_two_processes_on_one_store_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(tmp_path / "s", name)) for name in "xy"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store = Store(tmp_path / "s")
    assert all(store.get(f"{name}{i}") for name in "xy" for i in range(20))
    assert store.damaged == 0
