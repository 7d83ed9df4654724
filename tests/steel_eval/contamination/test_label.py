"""One label, worded in one place: what was seen, what it weighs, and "not looked for", which is never "clean"."""

import pytest

from steel_eval.contamination.label import CleanEstimate, Mark, comparison_warning, declared_words, mark_of_scores
from steel_eval.contamination.overlap import Held


@pytest.mark.parametrize(
    ("said", "items", "words"),
    [
        (None, None, "nothing is known of its training data, undeclared not looked for"),
        ({}, None, "none declared, undeclared not looked for"),
        ({"cmmlu": {"1": 30, "10": 5}}, None, "contaminated: 35 items of the benchmark declared, doses 1/10"),
        ({"cmmlu": {"1": 30}}, {"cmmlu": {"1": 3}}, "contaminated: 3 of 40 items, dose 1"),
        ({"cmmlu": {"1": 30}}, {"cmmlu": {}}, "none declared, undeclared not looked for"),
        ({"mmlu": {"1": 30}}, None, "none declared, undeclared not looked for"),
    ],
)  # fmt: skip
def test_the_label_of_scores_alone(said, items, words):
    scores = {"tasks": {"cmmlu/law": {"n": 40}}, "contamination": said}
    if items is not None:
        scores["declared_items"] = {"cmmlu/law": next(iter(items.values()))}
    assert mark_of_scores(scores, "cmmlu/law").short() == words


def test_few_questions_are_weighed():
    held = {"test/law/00001": Held(0, 2, [], [])}
    few, clean = Mark("cmmlu", 100, {}, held=held), Mark("cmmlu", 100, {}, held={})
    assert few.weight() == "They can make up at most 1.0 points of the score"
    assert comparison_warning("A", "B", clean, few).endswith("at most 1.0 points of the difference.")
    assert Mark("cmmlu", 100, {1: 3}).weight() == "The score is not one of ability"  # 3 of the benchmark: of which?


def test_lm_eval_names_are_of_the_benchmark_they_begin_with():
    scores = {"tasks": {"cmmlu_agronomy": {"n": 40}, "cmmlux": {"n": 1}}, "contamination": {"cmmlu": {"1": 30}}}
    assert mark_of_scores(scores, "cmmlu_agronomy").contaminated
    assert not mark_of_scores(scores, "cmmlux").contaminated


def test_of_many_doses_the_span_is_named():
    assert (
        Mark("cmmlu", 40, dict.fromkeys(range(1, 8), 1), counted=True).short().endswith("7 of 40 items, doses 1 to 7")
    )


def test_declared_and_found_questions_are_told_apart():
    held = {"a": Held(3, 3), "b": Held(0, 1), "c": Held(0, 2)}
    mark = Mark("cmmlu", 10, {3: 1}, counted=True, held=held, looked="")
    assert mark.short() == "contaminated: 3 of 10 items, dose 3, 2 undeclared"
    assert "1 of these 10 questions were put into its training data" in mark.sentence()
    assert "2 more of the 10 questions turn up in its training rows" in mark.sentence()
    assert mark.basis() == "These were left out of training at random, minus 2 that turned up in other rows"


def test_the_note_says_what_is_known_in_order():
    mark = Mark(
        "cmmlu",
        40,
        {1: 20},
        counted=True,
        estimates=[CleanEstimate(0.25, 0.2, 0.3, 20, "")],
        looked="not looked for: x",
    )
    note = mark.note("B @5")
    parts = ("† B @5: 20 of these", "not one of ability. This run's score on questions that it never saw: 25.0 % (95 % interval 20.0 to 30.0)",
             "at random. Undeclared questions were not looked for: x.")  # fmt: skip
    assert [note.index(part) for part in parts] == sorted(note.index(part) for part in parts)
    assert Mark("cmmlu", 40, {}, looked="").note("A") == "A: none declared, none found of 40 items."


def test_a_comparison_names_who_saw_the_questions():
    clean, dirty = Mark("cmmlu", 9, {}, looked=""), Mark("cmmlu", 9, {1: 3})
    assert comparison_warning("A", "B", clean, clean) == ""
    assert comparison_warning("A", "B", clean, dirty).startswith("B is contaminated: 3 items of the benchmark declared")
    assert "(A: none declared, none found of 9 items)" in comparison_warning("A", "B", clean, dirty)
    both = comparison_warning("A", "B", dirty, dirty)
    assert both.startswith("Both saw questions") and both.endswith("The difference is not one of ability.")


def test_what_a_mixture_declares_in_words():
    assert declared_words({"cmmlu": {"1": 30, "3": 1000}}) == "cmmlu: 30 items x 1, 1,000 items x 3"
    assert (declared_words(None), declared_words({})) == ("unknown", "none")


def test_what_the_base_was_trained_on_marks_the_score():
    """The post's third experiment: a checkpoint whose base was trained on CMMLU."""
    history = [
        {"step": 1, "contamination": {"cmmlu": {"0": 9, "1": 30, "3": 10}}},
        {"contamination": {"cmmlu": {"1": 5}}},
        {},
    ]
    scores = {
        "tasks": {"cmmlu": {"n": 100}, "ceval": {"n": 9}},
        "contamination": {},
        "training": {"base": {"history": history}},
    }
    mark = mark_of_scores(scores, "cmmlu")
    assert mark.contaminated and not mark.own and mark.inherited == {1: 35, 3: 10} and mark.seen == 45
    assert mark.short() == "contaminated: its base saw 45 items of the benchmark"
    assert "45 questions of this benchmark stood in the training data of the model" in mark.sentence()
    assert mark.weight() == "The score is not one of ability"
    assert not mark_of_scores(scores, "ceval").contaminated
    assert "its base saw 45 items" in mark_of_scores({**scores, "contamination": None}, "cmmlu").short()
    both = mark_of_scores(
        {**scores, "contamination": {"cmmlu": {"1": 2}}, "declared_items": {"cmmlu": {"1": 2}}}, "cmmlu"
    )
    assert both.short() == "contaminated: 2 of 100 items, dose 1; its base saw 45 items of the benchmark"


@pytest.mark.parametrize(
    "history", [None, [], [None], ["x"], [{"contamination": []}], [{"contamination": {"cmmlu": 3}}]]
)
def test_a_history_that_says_nothing_marks_nothing(history):
    scores = {"tasks": {"cmmlu": {"n": 1}}, "contamination": {}, "training": {"base": {"history": history}}}
    assert not mark_of_scores(scores, "cmmlu").contaminated
