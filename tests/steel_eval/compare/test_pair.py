"""Arms of checkpoints and seeds: what is said of them, and what is refused."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.cli import app
from steel_eval.compare.pair import Comparison, Primary, compare_arms, primary_of

N = 300


def result(folder, right, step=1, preset="lm-eval", data="d"):
    """A score folder in which the questions `right` (bool, Q) are answered well; gold is always A."""
    folder.mkdir(parents=True)
    subjects = ["agronomy" if i % 2 else "virology" for i in range(len(right))]
    frame = pl.DataFrame(
        {
            "task": ["cmmlu"] * len(right), "subject": subjects, "item": [f"test/{s}/{i:05d}" for i, s in enumerate(subjects)],
            "label": ["A"] * len(right), "prediction": ["A" if r else "B" for r in right],
            **{f"logprob_{c}": [-1.0 if (c == "A") == bool(r) else -2.0 for r in right] for c in "ABCD"}, "raw": [""] * len(right),
        }
    )  # fmt: skip
    frame.write_parquet(folder / "answers.parquet")
    accuracy = float(np.mean(right))
    scores = {
        "tasks": {"cmmlu": {"accuracy": accuracy, "macro": accuracy, "data_sha256": data}},
        "step": step,
        "preset": preset,
        "shots": 5,
    }
    (folder / "scores.json").write_text(json.dumps(scores))
    return folder


def answers(seed, rate=0.4):
    generator = np.random.default_rng(seed)
    return np.random.default_rng(99).random(N) < rate + generator.normal(0, 0.05, N)


def whole(tests):
    return next(t for t in tests if not t.group)


def test_one_seed_speaks_of_checkpoints_only(tmp_path):
    result(tmp_path / "a", answers(1, 0.3))
    result(tmp_path / "b", answers(2, 0.5))
    test = whole(compare_arms([f"A={tmp_path / 'a'}", f"B={tmp_path / 'b'}"]))
    assert test.difference == pytest.approx(test.value_b - test.value_a)
    assert test.low < test.difference < test.high
    assert test.only_b > test.only_a
    assert test.verdict.startswith("These checkpoints differ")
    assert "Whether the mixtures do is not shown: one seed" in test.verdict


def test_no_difference_names_what_would_go_unnoticed(tmp_path):
    result(tmp_path / "a", answers(1))
    result(tmp_path / "b", answers(2))
    test = whole(compare_arms([f"A={tmp_path / 'a'}", f"B={tmp_path / 'b'}"]))
    assert "cannot be told apart" in test.verdict and test.detectable_later is None
    assert f"under {100 * test.detectable:.1f} points" in test.verdict


def test_answers_that_are_all_alike_do_not_show_that_no_difference_would_go_unnoticed(tmp_path):
    """It said "a true difference under 0.0 points" of ten questions, whose interval is thirty points wide."""
    for arm in "ab":
        result(tmp_path / arm, answers(1)[:10])
    test = whole(compare_arms([f"A={tmp_path / 'a'}", f"B={tmp_path / 'b'}"]))
    assert (test.only_a, test.only_b) == (0, 0) and 0.2 < test.detectable < 0.4


def test_several_seeds_speak_of_mixtures(tmp_path):
    for i in range(3):
        result(tmp_path / f"exp2/seed-{i}/scores/step-000009", answers(i, 0.3), step=9)
        result(tmp_path / f"exp4/seed-{i}/scores/step-000009", answers(10 + i, 0.5), step=9)
    tests = compare_arms(
        [f"exp2={tmp_path}/exp2/seed-*", f"exp4={tmp_path}/exp4"]
    )  # a glob, or the folder of all seeds
    test = whole(tests)
    assert (test.seeds_a, test.seeds_b) == (3, 3)
    assert test.verdict.startswith("exp4 is better than exp2 by ") and "seeds included" in test.verdict
    assert 0 < test.detectable_later < test.detectable


def test_neighbouring_checkpoints_are_a_labelled_proxy(tmp_path):
    for step in range(1, 7):
        result(tmp_path / f"a/scores/step-{step:06d}", answers(step), step=step)
    result(tmp_path / "b", answers(50), step=6)
    assert "Rough proxy" in whole(compare_arms([f"A={tmp_path / 'a'}", f"B={tmp_path / 'b'}"])).verdict
    early = compare_arms([f"A={tmp_path / 'a'}", f"B={tmp_path / 'a'}"], Comparison(checkpoint="2"))
    assert whole(early).difference == 0
    assert whole(early).p == 1
    with pytest.raises(InputError, match="no checkpoint of step 77"):
        compare_arms([f"A={tmp_path / 'a'}", f"B={tmp_path / 'a'}"], Comparison(checkpoint="77"))


def test_the_declared_test_is_confirmatory_and_the_rest_is_corrected(tmp_path):
    for name, rate in (("a", 0.38), ("b", 0.45)):
        result(tmp_path / name / "scores/step-000005", answers(3, rate), step=5)
        manifest = tmp_path / name / "mixture/manifest.json"
        manifest.parent.mkdir()
        primary = {"task": "cmmlu"}  # metric and checkpoint have defaults
        manifest.write_text(json.dumps({"recipe": {"eval": {"primary": primary}}}))
    tests = compare_arms([str(tmp_path / "a"), str(tmp_path / "b")], Comparison(groups=True))
    assert [t.confirmatory for t in tests] == [True, False, False]
    assert tests[0].q is None
    assert all(t.q >= t.p for t in tests[1:])
    assert {t.group for t in tests[1:]} == {"Other", "STEM"}


@pytest.mark.parametrize(
    ("primary", "message"),
    [({"metric": "macro"}, "Fix: { task"), ({"task": "cmmlu", "metrik": "x"}, "Did you mean 'metric'")],
)
def test_a_primary_test_that_cannot_be_meant_is_refused(tmp_path, primary, message):
    for name in "ab":
        result(tmp_path / name / "scores/step-000005", answers(3), step=5)
        (tmp_path / name / "mixture").mkdir()
        (tmp_path / name / "mixture/manifest.json").write_text(json.dumps({"recipe": {"eval": {"primary": primary}}}))
    with pytest.raises(InputError, match=message):
        compare_arms([str(tmp_path / "a"), str(tmp_path / "b")])


def test_a_family_is_what_is_printed(tmp_path):
    """Groups that nobody asked for do not make the others' rate worse; p stands beside q."""
    for name, seed in (("a", 1), ("b", 2)):
        result(tmp_path / name, answers(seed, 0.4))
    places = [str(tmp_path / "a"), str(tmp_path / "b")]
    [alone] = compare_arms(places)
    assert alone.q == alone.p and f"p {alone.p:.2g}, false discovery rate {alone.q:.2g}" in alone.verdict
    assert len(compare_arms(places, Comparison(groups=True))) == 3


def test_a_primary_test_can_be_named_without_a_recipe(tmp_path):
    for name in "ab":
        result(tmp_path / name / "step-1", answers(ord(name)), step=1)
        result(tmp_path / name / "step-9", answers(ord(name) + 5), step=9)
    places = [str(tmp_path / "a"), str(tmp_path / "b")]
    first, other = compare_arms(places, Comparison(primary=primary_of("cmmlu:macro:1")))
    assert (first.confirmatory, first.metric, first.checkpoint, first.q) == (True, "macro", "1", None)
    assert (other.confirmatory, other.metric) == (False, "accuracy")
    assert "confirmatory, p" in first.verdict
    three = compare_arms([*places, f"C={tmp_path / 'a'}"], Comparison(primary=Primary("cmmlu")))
    assert [t.confirmatory for t in three] == [True] * 3 and all(t.q >= t.p for t in three)  # Holm
    with pytest.raises(InputError, match="no task of this comparison"):
        compare_arms(places, Comparison(primary=Primary("ceval")))
    for text in ("", "cmmlu:f1", "cmmlu:macro:1:2", "cmmlu:"):
        with pytest.raises(InputError, match="task:metric:checkpoint"):
            primary_of(text)


def test_detectable_holds_the_seeds(tmp_path):
    """It said 1.0 points where the interval was +- 4.7: it can never be less than half of the interval."""
    for i in range(3):
        result(tmp_path / f"a/seed-{i}", answers(i, 0.35 + 0.03 * i))
        result(tmp_path / f"b/seed-{i}", answers(10 + i, 0.35 + 0.03 * i))
    [test] = compare_arms([str(tmp_path / "a"), str(tmp_path / "b")])
    assert test.seeds_a == 3 and test.detectable > (test.high - test.low) / 2
    assert f"under {100 * test.detectable:.1f} points" in test.verdict


def test_one_subject_has_no_interval_by_subject(tmp_path, capsys):
    from steel_eval.compare.print import print_tests

    for name in "ab":
        folder = result(tmp_path / name, answers(ord(name)))
        frame = pl.read_parquet(folder / "answers.parquet").filter(pl.col("subject") == "virology")
        frame.write_parquet(folder / "answers.parquet")
    [test] = compare_arms([str(tmp_path / "a"), str(tmp_path / "b")])
    assert test.cluster_low is None and test.cluster_high is None
    print_tests([test])
    assert " - " in capsys.readouterr().out


def test_three_arms_are_compared_pair_by_pair(tmp_path):
    for name in "abc":
        result(tmp_path / name, answers(ord(name)))
    tests = compare_arms([f"{n}={tmp_path / n}" for n in "abc"])
    assert [(t.a, t.b) for t in tests if not t.group] == [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize("metric", ["macro", "gold_probability"])
def test_other_metrics(tmp_path, metric):
    result(tmp_path / "a", answers(1, 0.3))
    result(tmp_path / "b", answers(2, 0.5))
    test = whole(compare_arms([str(tmp_path / "a"), str(tmp_path / "b")], Comparison(metric=metric)))
    assert test.p < 0.01
    assert test.low > 0


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"preset": "cmmlu"}, "Fix: score alike"),
        ({"data": "other"}, "other questions of cmmlu"),
    ],
)
def test_what_was_not_obtained_alike_is_not_compared(tmp_path, second, message):
    result(tmp_path / "a", answers(1))
    result(tmp_path / "b", answers(2), **second)
    with pytest.raises(InputError, match=message):
        compare_arms([str(tmp_path / "a"), str(tmp_path / "b")])


def test_commands(tmp_path):
    result(tmp_path / "a", answers(1))
    result(tmp_path / "b", answers(2))
    run = CliRunner().invoke(
        app, ["compare", f"A={tmp_path / 'a'}", f"B={tmp_path / 'b'}", "--groups", "--out", str(tmp_path / "c.json")]
    )
    assert run.exit_code == 0
    assert "all are exploratory" in run.stdout
    assert len(json.loads((tmp_path / "c.json").read_text())) == 3
    run = CliRunner().invoke(app, ["power", "--effect", "2", "--sets", "ceval-val,cmmlu"])
    assert run.exit_code == 0
    assert "4.18 points" in run.stdout
    assert isinstance(CliRunner().invoke(app, ["power", "--sets", "cmlu"]).exception, InputError)
    assert isinstance(CliRunner().invoke(app, ["compare", str(tmp_path / "a")]).exception, InputError)
