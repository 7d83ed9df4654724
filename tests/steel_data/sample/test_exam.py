"""Each odd exam row shows its case and no other; the counts are told."""

from collections import Counter
from itertools import pairwise


def rises(key):
    return all(a < b for a, b in pairwise(key.strip()))


def test_odd_exam_rows_are_counted(exam, truth, summary):
    case = {row["item"]: row["case"] for row in truth if row["source"] == "exam"}
    assert len(case) == len(exam)
    assert summary["exam_cases"] == Counter(case.values())
    shows = {
        "multiple_answer": lambda r: len(r["std_ans"].strip()) > 1 and rises(r["std_ans"]),
        "answer_sequence": lambda r: len(r["std_ans"].strip()) == 3 and not rises(r["std_ans"]),
        "true_false": lambda r: r["q_type"] == "判断题" and r["option_b"] and not r["option_c"],
        "key_in_answer": lambda r: not r["std_ans"] and len(r["answer"]) == 1,
        "no_explanation": lambda r: r["answer_detail"] == "",
        "fill_blank": lambda r: r["q_type"] == "填空题" and not r["option_a"] and r["answer"],
        "short_answer": lambda r: not r["option_a"] and len(r["answer"]) > 20,
        "placeholder": lambda r: r["answer_detail"].startswith("略"),
        "no_key": lambda r: r["std_ans"] == r["answer"] == "",
        "null_keypoint": lambda r: r["keypoint"] is None,
        "stray_whitespace": lambda r: r["option_b"] != r["option_b"].strip(),
        "option_e": lambda r: r["option_e"] != "",
    }
    for name, is_so in shows.items():
        assert {r["id"] for r in exam if is_so(r)} == {key for key, c in case.items() if c == name}, name
    for row in exam:
        if case[row["id"]] == "plain":
            assert row["q_type"] == "单选题"
            assert row["std_ans"] in "ABCD"
            assert row["answer_detail"].rstrip("。．.项 }$").endswith(row["std_ans"])


def test_the_key_names_the_fact(exam, truth):
    about = {row["item"]: row for row in truth if row["source"] == "exam"}
    plain = [row for row in exam if about[row["id"]]["case"] == "plain"]
    chosen = [(row[f"option_{row['std_ans'].lower()}"], about[row["id"]]) for row in plain]
    assert all(option == one["value"] for option, one in chosen if one["form"] == "value")
    assert all(option == one["thing"] for option, one in chosen if one["form"] == "thing")
    assert {one["form"] for _, one in chosen} == {"value", "thing", "statement", "reason"}


def test_five_options_are_five(exam):
    five = [[row[f"option_{x}"] for x in "abcde"] for row in exam if row["option_e"]]
    assert five
    assert all(len(set(options)) == 5 for options in five)
