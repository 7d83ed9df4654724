"""Known test splits are told by path, not by the word alone, and by the hashes of their questions."""

import numpy as np
import pytest

from steel_data.benchmarks.known_tests import (
    FINGERPRINTS,
    fingerprints,
    known_test_split,
    names_test,
    question_hash,
)


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


def test_a_question_is_known_without_width_case_blanks_and_signs() -> None:
    same = ["下列 H2O 的说法,正确的是()", "下列Ｈ２Ｏ的说法，正确的是（　　）？", "“下列h2o的说法正确的是____”。"]
    assert len({question_hash(text) for text in same}) == 1
    assert question_hash("下列H2O的说法不正确的是") != question_hash(same[0])
    assert question_hash("为什么？") is None
    assert question_hash("") is None


def test_what_is_shipped_is_sorted_hashes_of_three_splits() -> None:
    fingerprints.cache_clear()
    shipped = fingerprints()
    assert set(shipped) == {"cmmlu/test", "ceval/test", "ceval/val"}
    for keys in shipped.values():
        assert keys.dtype == np.uint64
        assert (np.diff(keys.astype(object)) > 0).all()
    assert FINGERPRINTS.stat().st_size < 200_000
