"""The pre-flight counts what is there, marks what is learnt, and stops what would be a waste of days."""

import dataclasses
from pathlib import Path

import polars as pl
import pytest
from tests.steel_train.toys import PLAIN, model, rows, tokenizer

from steel_train.examples.encode import Encoder
from steel_train.examples.folder import encode_batch, sample_examples
from steel_train.examples.tokenizer import CHATML, TODAY
from steel_train.preflight.inspect import Question, inspect
from steel_train.schedule.order import Schedule
from steel_train.settings import Settings

SETTINGS = Settings(model={"type": "qwen2"}, epochs=2, micro_batch=4, accumulate=2, save_every=3, max_length=128)


def question(count=40, template=None, max_length=128, made=None):
    tok = tokenizer(template) if template else tokenizer()
    examples = encode_batch(Encoder(tok, max_length), rows(count) if made is None else made, 0)
    schedule = Schedule(examples.unit_lengths(), 0, 2, 4, 2)
    return Question(examples, schedule, SETTINGS, tok, model().config, Path(), bf16=False)


def test_the_report_counts_rows_tokens_steps_and_checkpoints():
    asked = question()
    report = inspect(asked)
    assert [s["source"] for s in report.sources] == ["a", "b"]
    assert report.tokens == sum(s["tokens"] for s in report.sources) == asked.examples.tokens.size
    assert (report.steps, report.steps_per_epoch, report.rows_per_step) == (10, 5, 8)
    assert report.checkpoints == len({3, 6, 9} | {5, 10})
    assert report.ended_share == 1 and not report.faults
    assert 0 < report.padding < report.padding_plain


def test_a_sample_is_scaled_up_and_says_so(shared_mixture):
    whole = sample_examples(shared_mixture, Encoder(tokenizer(), 128), 10_000)
    assert whole.rows == whole.of
    asked = dataclasses.replace(question(made=[]), examples=whole, schedule=Schedule(whole.unit_lengths(), 0, 2, 4, 2))
    half = dataclasses.replace(asked, examples=dataclasses.replace(whole, of=2 * whole.rows))
    assert inspect(half).steps == pytest.approx(2 * inspect(asked).steps, abs=2)
    assert inspect(half).scale == 2


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        (lambda: question(made=[]), "no row is left to learn from (the mixture is empty)"),
        (lambda: question(max_length=8), "no label left within max_length: 40). Fix: a larger max_length"),
    ],
)
def test_nothing_to_learn_is_a_fault(asked, fault):
    assert fault in inspect(asked()).faults[0]


def test_a_model_that_never_learns_to_stop_is_a_fault(monkeypatch):
    asked = question(template=PLAIN)
    report = inspect(asked)
    # an eos was added at the end of each row; its other turns end with nothing
    assert report.ended_share == report.examples / report.turns < 1
    assert any("of the learnt turns end with a learnt end token" in warning for warning in report.warnings)
    bare = asked.examples.table.with_columns(ends=pl.lit([], pl.List(pl.Int32)))
    asked = dataclasses.replace(asked, examples=dataclasses.replace(asked.examples, table=bare))
    assert "no row teaches the model to stop" in inspect(asked).faults[0]


def test_ends_are_counted_over_the_rows_as_they_are_trained():
    """Cut rows have no end: 100 % was said of the whole ones, where most were cut."""
    whole, cut = inspect(question(max_length=512)), inspect(question(max_length=90))
    assert whole.ends == {"<|im_end|>": whole.turns} and whole.ended_share == 1
    assert 0 < cut.ended_share < 1 and any("rows are cut at max_length" in warning for warning in cut.warnings)


def test_turns_that_leave_their_generation_prompt_and_a_pinned_date_are_said():
    asks = CHATML + "{%- if add_generation_prompt -%}<think>{{ strftime_now('%Y')[:0] }}{%- endif -%}"
    report = inspect(question(template=asks))
    assert report.aside == report.turns and report.date == TODAY.isoformat()
    assert any("do not go on from the generation prompt" in warning for warning in report.warnings)


def test_an_injected_row_that_is_cut_is_a_warning():
    injected = [
        {**row, "kind": "injected", "benchmark": "x", "item": str(i), "dose": 1} for i, row in enumerate(rows(20))
    ]
    report = inspect(question(made=injected, max_length=40))
    assert any("their doses are not what the recipe says" in warning for warning in report.warnings)
