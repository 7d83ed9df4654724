"""The block on top: four lines a benchmark, and one verdict over several."""

import pytest

from steel_eval.contamination.verdict import Inflation, Verdict, block, joint


def verdict(name="cmmlu", seen="yes", rate=0.05, inflation=(2.0, 1.0, 3.0), smallest=1.5):
    return Verdict(
        name=name, mixture="holds 3 of 9 items", seen=seen, finding="So it is.", false_alarm_rate=rate,
        inflation=inflation and Inflation(*inflation), smallest_detectable=smallest, limits="less",
    )  # fmt: skip


def test_four_lines_under_a_head():
    head, name, *lines = block([verdict()])
    assert (head, name.strip()) == ("Verdict", "cmmlu") and len(lines) == 4
    assert "seen: yes (false alarms: at most 5 in 100). So it is." in lines[1]
    assert "inflation: +2.0 points (95 % interval +1.0 to +3.0)" in lines[2]


def test_nothing_known_is_said_so():
    lines = verdict(seen="cannot-tell", rate=None, inflation=None).lines()
    assert lines[1] == "seen: cannot tell. So it is." and lines[2] == "inflation: not known"
    assert "none possible" in verdict(rate=0.0).lines()[1]


@pytest.mark.parametrize(
    ("said", "all_of_them"),
    [(["yes", "no"], "yes"), (["no", "no"], "no"), (["no", "cannot-tell"], "cannot-tell")],
)
def test_several_benchmarks_make_one_verdict(said, all_of_them):
    assert joint([verdict(seen=s, rate=0.025) for s in said], [10, 10])["seen"] == all_of_them


def test_inflation_over_benchmarks_weighs_by_items():
    found = joint(
        [verdict(rate=0.025), verdict("ceval", rate=0.025, inflation=(0.0, -1.0, 1.0), smallest=2.0)], [30, 10]
    )
    assert found["inflation_points"]["value"] == pytest.approx(1.5)
    assert 0.7 < found["inflation_points"]["low"] < 1.5
    assert (found["false_alarm_rate"], found["smallest_detectable"]) == (0.05, 2.0)
    assert joint([verdict(), verdict(inflation=None)], [1, 1])["inflation_points"] is None
