"""OpenBookQA, ARC and LogiQA: the published columns, problems that keep to one thing, puzzles that come out."""

import re

import pyarrow.parquet as pq


def test_word_problems_keep_to_one_thing(folder):
    for split in ("train", "test"):
        for row in pq.read_table(folder / f"openbookqa/main/{split}-00000-of-00001.parquet").to_pylist():
            if found := re.search(r"has \d+ (.+?)\. \d+ friends .* How many (.+) remain", row["question_stem"]):
                assert found[1] == found[2]


def test_layouts(folder):
    for row in pq.read_table(folder / "ai2_arc/ARC-Easy/train-00000-of-00001.parquet").to_pylist():
        assert set(row) == {"id", "question", "choices", "answerKey"}
        assert row["answerKey"] in row["choices"]["label"]
    for row in pq.read_table(folder / "openbookqa/main/test-00000-of-00001.parquet").to_pylist():
        assert set(row) == {"id", "question_stem", "choices", "answerKey"}
        assert row["choices"]["label"] == list("ABCD")
    assert pq.read_schema(folder / "logiqa/test.parquet").names == ["context", "query", "options", "correct_option"]


def test_puzzles_come_out(folder):
    """Follow who comes directly before whom: the one at the rank asked for is the right option."""
    for row in pq.read_table(folder / "logiqa/train.parquet").to_pylist():
        before = dict(re.findall(r"(\w+) comes (?:directly|immediately) before (\w+)", row["context"]))
        before |= {x: y for y, x in re.findall(r"(\w+) comes (?:directly|immediately) after (\w+)", row["context"])}
        before |= dict(re.findall(r"behind (\w+) is (\w+)", row["context"]))
        assert len(before) == 3
        people = [next(name for name in before if name not in before.values())]
        while people[-1] in before:
            people.append(before[people[-1]])
        assert sorted(people) == sorted(row["options"])
        assert people[int(re.search(r"\d", row["query"])[0]) - 1] == row["options"][row["correct_option"]]


def test_sums_come_out(folder):
    """`a × b = c, and d − c = e.` stands in no file: the numbers of the question do."""
    for row in pq.read_table(folder / "openbookqa/main/train-00000-of-00001.parquet").to_pylist():
        if re.search(r"How many (?!of)", row["question_stem"]) and len(re.findall(r"\d+", row["question_stem"])) == 3:
            numbers = sorted(map(int, re.findall(r"\d+", row["question_stem"])))
            right = row["choices"]["text"][row["choices"]["label"].index(row["answerKey"])]
            assert int(right) == numbers[2] - numbers[0] * numbers[1]
