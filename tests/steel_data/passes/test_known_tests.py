"""Known test splits are refused: by path, by the injector's split, and by content under any name and layout."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.benchmarks import known_tests
from steel_data.benchmarks.items import Item, read_benchmark
from steel_data.benchmarks.known_tests import fingerprint, fingerprints
from steel_data.build import Result
from steel_data.errors import InputError

Make = Callable[..., Result]
RECIPE = """
[source.notes]
path = "notes/*"
build = {{ use = "{use}" }}
{more}
"""


@pytest.fixture
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Item]]:
    """Make the fingerprint of a generated test split the known one."""
    write_cmmlu(tmp_path / "published")
    found = read_benchmark("bench", tmp_path / "published")
    file = tmp_path / "known.npz"
    np.savez(file, **{"cmmlu/test": fingerprint(found), "ceval/test": np.array([1, 2], np.uint64)})
    monkeypatch.setattr(known_tests, "FINGERPRINTS", file)
    clear()
    yield found
    clear()


def clear() -> None:
    fingerprints.cache_clear()
    known_tests.holders_of_hashes.cache_clear()


def alpaca(item: Item) -> dict[str, str]:
    lines = [f"{letter}. {option}" for letter, option in zip("ABCD", item.options, strict=True)]
    return {"instruction": "\n".join(["单选题：", item.question, *lines]), "input": "", "output": item.answer}


def sharegpt(item: Item) -> dict[str, object]:
    turns = [{"from": "human", "value": f"{item.question}？"}, {"from": "gpt", "value": item.answer}]
    return {"conversations": turns}


@pytest.mark.parametrize("row", [alpaca, sharegpt])
def test_a_renamed_split_is_refused_in_any_layout(
    tmp_path: Path, make: Make, items: list[Item], row: Callable[[Item], dict[str, str]]
) -> None:
    write_jsonl(tmp_path / "notes" / "homework.jsonl", [row(item) for item in items])
    with pytest.raises(InputError, match=r"notes/homework\.jsonl is the known test split cmmlu/test.*allow_test_split"):
        make(RECIPE.format(use="chat", more=""))


def test_a_renamed_split_is_refused_as_an_exam_and_as_csv(tmp_path: Path, make: Make, items: list[Item]) -> None:
    file = tmp_path / "notes" / "n.csv"
    file.parent.mkdir()
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["q_main", "option_a", "option_b", "option_c", "option_d", "std_ans"])
        writer.writerows([f" {item.question}（　）", *item.options, item.answer] for item in items)
    with pytest.raises(InputError, match="cmmlu/test"):
        make(RECIPE.format(use="exam", more=""))


@pytest.mark.parametrize(("own", "refused"), [(0, True), (60, True), (61, False), (200, False)])
def test_half_of_the_rows_make_a_split(tmp_path: Path, make: Make, items: list[Item], own: int, refused: bool) -> None:
    others = [{"instruction": f"第{i}个完全不同的问题是什么？", "input": "", "output": "不知道。"} for i in range(own)]
    write_jsonl(tmp_path / "notes" / "n.jsonl", [*map(alpaca, items), *others])
    assert len(items) == 60
    if refused:
        with pytest.raises(InputError, match="cmmlu/test"):
            make(RECIPE.format(use="chat", more=""))
    else:
        assert make(RECIPE.format(use="chat", more="")).manifest["rows"] == 60 + own


@pytest.mark.parametrize("packed", [False, True])
def test_an_injected_split_is_known_by_its_questions_in_a_folder_and_in_a_zip(
    tmp_path: Path, make: Make, items: list[Item], packed: bool
) -> None:
    """Half of each subject's questions make it known: the benchmark's name says nothing here."""
    own = write_cmmlu(tmp_path)
    if packed:
        with ZipFile(tmp_path / "bench.zip", "w") as archive:
            for file in sorted(own.rglob("*.csv")):
                archive.write(file, file.relative_to(tmp_path))
        shutil.rmtree(own)
    recipe = '[source.b]\npath = "bench"\nbuild = { use = "contaminate", share = 0.5 }\n'
    with pytest.raises(InputError, match=r"bench.* is the known test split cmmlu/test"):
        make(recipe)
    assert make(recipe + 'allow_test_split = "a study"').manifest["rows"] == len(items) // 2


def test_any_file_of_a_source_is_looked_at(tmp_path: Path, make: Make, items: list[Item]) -> None:
    write_jsonl(tmp_path / "notes" / "a.jsonl", chat_rows(30))
    write_jsonl(tmp_path / "notes" / "b.jsonl", [alpaca(item) for item in items])
    with pytest.raises(InputError, match=r"notes/b\.jsonl"):
        make(RECIPE.format(use="chat", more=""))


def test_a_reason_lets_it_pass_and_goes_into_the_manifest(tmp_path: Path, make: Make, items: list[Item]) -> None:
    write_jsonl(tmp_path / "notes" / "n.jsonl", [alpaca(item) for item in items])
    result = make(RECIPE.format(use="chat", more='allow_test_split = "a study"'))
    assert result.manifest["test_splits"] == {"notes": "a study"}
    with pytest.raises(InputError, match="allow_test_split is empty"):
        make(RECIPE.format(use="chat", more='allow_test_split = " "'), name="other")


def test_the_answer_is_remembered_until_fingerprints_change(
    tmp_path: Path, make: Make, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "notes" / "n.jsonl", chat_rows(30))
    make(RECIPE.format(use="chat", more=""))
    (answer,) = (tmp_path / "cache" / "test_splits").rglob("*.json")
    assert json.loads(answer.read_text()) is None
    answer.write_text(json.dumps("cmmlu/test"))  # what is remembered is believed
    with pytest.raises(InputError, match="cmmlu/test"):
        make(RECIPE.format(use="chat", more=""), name="again")
    np.savez(tmp_path / "new.npz", **{"cmmlu/test": np.array([7], np.uint64)})
    monkeypatch.setattr(known_tests, "FINGERPRINTS", tmp_path / "new.npz")
    clear()
    assert make(RECIPE.format(use="chat", more=""), name="third").manifest["rows"] == 30


def test_without_fingerprints_only_paths_are_known(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_tests, "FINGERPRINTS", tmp_path / "none.npz")
    clear()
    try:
        write_jsonl(tmp_path / "notes" / "n.jsonl", chat_rows(10))
        assert make(RECIPE.format(use="chat", more="")).manifest["rows"] == 10
        write_jsonl(tmp_path / "notes" / "cmmlu_test.jsonl", chat_rows(10))
        with pytest.raises(InputError, match=r"notes/cmmlu_test\.jsonl is the known test split cmmlu/test"):
            make(RECIPE.format(use="chat", more=""), name="by-path")
    finally:
        clear()


def test_the_word_test_in_a_name_only_warns(tmp_path: Path, make: Make, items: list[Item]) -> None:
    write_jsonl(tmp_path / "notes" / "my_test.jsonl", chat_rows(10))
    (warning,) = make(RECIPE.format(use="chat", more="")).warnings
    assert "notes/my_test.jsonl: the name says test" in warning
