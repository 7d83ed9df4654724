"""Targets come from dev, val or train; a test split under any name is refused, a question of one left out."""

from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.benchmarks import known_tests
from steel_data.errors import InputError
from steel_data.selection import target
from steel_data.selection.target import find_target, target_key


def read(root: Path, *places: str):
    return find_target("r.toml [source.a]", list(places), root).conversations()


def test_a_benchmark_is_read_as_conversations(tmp_path: Path) -> None:
    write_cmmlu(tmp_path, subjects=1, items=2, split="val")
    found, left_out = read(tmp_path, "bench/val")
    assert [turn["role"] for turn in found[0]] == ["user", "assistant"]
    assert "\nB. " in found[0][0]["content"]
    assert found[0][1]["content"].startswith("A. ")
    assert (len(found), left_out) == (2, 0)


def test_files_are_conversations_or_questions(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(3))
    write_jsonl(tmp_path / "own.jsonl", [{"question": "几月开花？", "answer": "三月"}])
    found, _ = read(tmp_path, "chat.jsonl", "own.jsonl")
    assert [turns[0]["content"] for turns in found][-1] == "几月开花？"
    assert len(found) == 4
    assert target_key(found) != target_key(found[:3])


@pytest.mark.parametrize("place", ["cmmlu/test", "bench/test", "own_test.jsonl", "ifeval/train"])
def test_a_test_split_is_refused(tmp_path: Path, place: str) -> None:
    for name in ("cmmlu", "bench", "ifeval"):
        folder = write_cmmlu(tmp_path / name, 1, 2, place.rpartition("/")[2] if "/" in place else "test")
        folder.rename(tmp_path / f"{name}-new")
        (tmp_path / name).rmdir()
        (tmp_path / f"{name}-new").rename(tmp_path / name)
    write_jsonl(tmp_path / "own_test.jsonl", chat_rows(3))
    with pytest.raises(InputError, match="what has chosen the data cannot judge it"):
        read(tmp_path, place)


def test_a_renamed_test_split_is_known_by_its_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [f"下列关于第{i}种水稻的说法，正确的是哪一项" for i in range(8)]
    holders = {known_tests.question_hash(text): ("cmmlu/test",) for text in asked[:4]}
    holders |= {known_tests.question_hash(asked[7]): ("ceval/val",)}  # C-Eval has a test split too: val may choose
    monkeypatch.setattr(target, "holders_of_hashes", lambda: holders)
    rows = [{"instruction": text, "input": "", "output": "好"} for text in asked]
    write_jsonl(tmp_path / "mine.jsonl", rows)
    with pytest.raises(InputError, match="cmmlu/test, by its questions"):
        read(tmp_path, "mine.jsonl")
    write_jsonl(tmp_path / "mine.jsonl", rows[3:])
    found, left_out = read(tmp_path, "mine.jsonl")
    assert (len(found), left_out) == (4, 1)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    write_cmmlu(tmp_path, 1, 2, "val")
    with pytest.raises(InputError, match='target = "bench/val"'):
        read(tmp_path, "bench")
    with pytest.raises(InputError, match="no such benchmark and split"):
        read(tmp_path, "benhc/val")
