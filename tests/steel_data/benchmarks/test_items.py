"""Items keep their published text and names; known test splits are told by path, not by the word alone."""

from pathlib import Path

import pytest

from steel_data.benchmarks.items import read_benchmark
from steel_data.benchmarks.known_tests import known_test_split, names_test
from steel_data.errors import InputError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def test_cmmlu_layout(tmp_path: Path) -> None:
    write(tmp_path / "cmmlu/test/agronomy.csv", ',Question,A,B,C,D,Answer\n0,"问,一",甲,乙,丙,丁,B\n7,问二,1,2,3,4,D\n')
    items = read_benchmark("cmmlu", tmp_path, "test")
    assert [i.item for i in items] == ["test/agronomy/00000", "test/agronomy/00001"]
    assert items[0].question == "问,一"
    assert items[0].options == ("甲", "乙", "丙", "丁")
    assert [i.answer for i in items] == ["B", "D"]


def test_ceval_layout_keeps_crlf_in_fields_and_bom_out(tmp_path: Path) -> None:
    text = '\ufeffid,question,A,B,C,D,answer,explanation\r\n0,"一\r\n二",a,b,c,d,C,因为\r\n'
    write(tmp_path / "ceval/val/law_val.csv", text)
    (item,) = read_benchmark("ceval", tmp_path, "val")
    assert (item.item, item.question, item.answer, item.explanation) == ("val/law/00000", "一\r\n二", "C", "因为")


def test_ceval_test_without_answers(tmp_path: Path) -> None:
    write(tmp_path / "ceval/test/law_test.csv", "id,question,A,B,C,D\n0,问,a,b,c,d\n")
    assert read_benchmark("ceval", tmp_path, "test")[0].answer == ""


def test_mmlu_without_header_below_a_data_folder(tmp_path: Path) -> None:
    write(tmp_path / "mmlu/data/test/law_test.csv", "What?,1,2,3,4,C\n")
    (item,) = read_benchmark("mmlu", tmp_path, "test")
    assert (item.item, item.question, item.answer) == ("test/law/00000", "What?", "C")


def test_jsonl_answers_become_letters_where_they_can(tmp_path: Path) -> None:
    lines = (
        '{"question": "q1", "options": ["x", "y"], "answer": "y"}\n\n'
        '{"question": "q2", "options": null, "answer": "42"}\n'
        '{"question": "q3", "options": ["x", "y"], "answer": "a"}\n'
    )
    write(tmp_path / "own_test.jsonl", lines)
    items = read_benchmark("own_test.jsonl", tmp_path)
    assert [(i.item, i.options, i.answer) for i in items] == [
        ("test/own/00000", ("x", "y"), "B"),
        ("test/own/00001", (), "42"),
        ("test/own/00002", ("x", "y"), "A"),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such benchmark folder"),
        (lambda root: write(root / "own/dev/x.csv", "id,question,A,B,C,D,answer\n"), "no split 'test'"),
        (lambda root: write(root / "own/test/x.csv", "id,question,A,B,D,answer\n"), "column C is missing"),
        (lambda root: (root / "own/test").mkdir(parents=True), "no <split>/<subject>.csv"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, make, message: str) -> None:
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        read_benchmark("own", tmp_path, "test")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("cmmlu/test/agronomy.csv", "cmmlu/test"),
        ("cmmlu/dev/agronomy.csv", None),
        ("c-eval/val/law_val.csv", "ceval/val"),
        ("ceval/dev/law_dev.csv", None),
        ("data/ceval_test.jsonl", "ceval/test"),
        ("openbookqa/main/test-00000-of-00001.parquet", "openbookqa/test"),
        ("openbookqa/main/train-00000-of-00001.parquet", None),
        ("ai2_arc/ARC-Challenge/test-00000-of-00001.parquet", "arc/test"),
        ("ARC-Easy/validation-0.parquet", None),
        ("logiqa/Test.txt", "logiqa/test"),
        ("hellaswag/validation-0.parquet", "hellaswag/val"),
        ("exam/my_test.jsonl", None),
        ("search/results.jsonl", None),
        ("math_problems/test.jsonl", None),
        ("math/test.jsonl", "math/test"),
        ("hf://datasets/haonan-li/cmmlu/test/*.csv", "cmmlu/test"),
    ],
)
def test_known_test_splits(path: str, split: str | None) -> None:
    assert known_test_split(path) == split


def test_the_word_alone_only_warns() -> None:
    assert names_test("exam/my_test.jsonl")
    assert not names_test("exam/latest.jsonl")
