"""What is measured of an arm: the loss of its own answers, questions that are no test split, and how far above a guess."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from tests.steel_eval import toys

from steel_data.errors import InputError
from steel_eval.arms import Job, RunArm
from steel_eval.mix.measure import Measuring, _by_question, _losses, check_tasks, measured
from steel_eval.mix.settings import SearchMeasure
from steel_eval.models import load


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = toys.benchmarks(tmp_path_factory.mktemp("data"))
    lines = [f'{{"question": "第{i}回的天气怎么样？", "options": ["晴", "雨"], "answer": "A"}}' for i in range(12)]
    (root / "own.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "own_test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_dev_val_and_own_questions_may_choose(data):
    names = [task.name for task in check_tasks("r", SearchMeasure(tasks=["ceval", "cmmlu-dev", "own.jsonl"]), data)]
    assert names == ["ceval", "cmmlu-dev", "own.jsonl"]
    assert check_tasks("r", SearchMeasure(held_out=["exam"]), data) == []


@pytest.mark.parametrize("name", ["cmmlu", "cmmlu-test", "cmmlu/agronomy", "ceval-test", "own_test.jsonl"])
def test_a_test_split_is_refused(data, name):
    with pytest.raises(InputError, match=f"r: measure: {name}: its split is 'test', and a test split that chooses"):
        check_tasks("r", SearchMeasure(tasks=[name]), data)


def test_a_test_split_under_another_name_is_refused(data, shared_data):
    file = next((shared_data / "cmmlu/test").glob("*.csv"))
    known = [
        row
        for f in sorted((shared_data / "cmmlu/test").glob("*.csv"))
        for row in pl.read_csv(f, infer_schema=False).to_dicts()
    ]
    header = ["", "Question", "A", "B", "C", "D", "Answer"]
    rows = [[str(i), *(row[c] for c in header[1:])] for i, row in enumerate(known[:400])]
    toys.write_csv(data / "renamed/val/law.csv", header, rows)
    assert file.is_file()
    with pytest.raises(InputError, match="its questions are those of cmmlu/test"):
        check_tasks("r", SearchMeasure(tasks=["renamed-val"]), data)


def held_rows(folder, n=6):
    folder.mkdir()
    messages = [
        [{"role": "user", "content": f"第{i}题"}, {"role": "assistant", "content": f"答案是{i}" * (1 + i % 2)}]
        for i in range(n)
    ]
    pl.DataFrame({
        "source": ["exam"] * (n - 1) + ["chat"], "id": [str(i) for i in range(n)], "measured": [True] * (n - 2) + [False, True],
        "messages": messages,
    }).write_parquet(folder / "rows.parquet")  # fmt: skip
    return folder


def test_the_loss_is_the_mean_over_rows_of_their_answers_tokens(toy_checkpoint, tmp_path):
    """Each row alone, by the model's own loss with labels: the batches of equal length change nothing."""
    from steel_train.examples.encode import Encoder

    how = Measuring(SearchMeasure(held_out=["exam"]), tmp_path, held_rows(tmp_path / "held"), tmp_path / "store.jsonl")
    frame = _losses(toy_checkpoint, how)
    assert frame["id"].to_list() == ["0", "1", "2", "3"]  # neither other sources nor rows that stand elsewhere
    loaded = load(toy_checkpoint)
    rows = pl.read_parquet(tmp_path / "held/rows.parquet").to_dicts()[:4]
    for found, encoded in zip(frame["loss"], Encoder(loaded.tokenizer, 512).encode(rows), strict=True):
        example = encoded.examples[0]
        ids = torch.tensor(example.ids, dtype=torch.long)[None]
        labels = torch.where(torch.tensor(example.learnt)[None], ids, -100)
        with torch.no_grad():
            assert found == pytest.approx(float(loaded.model(input_ids=ids, labels=labels).loss), abs=1e-4)
    assert frame["guess"][0] == pytest.approx(np.log(loaded.model.config.vocab_size))


def test_rows_without_an_answer_are_named(toy_checkpoint, tmp_path):
    folder = held_rows(tmp_path / "held")
    rows = pl.read_parquet(folder / "rows.parquet").with_columns(source=pl.lit("chat"))
    rows.write_parquet(folder / "rows.parquet")
    how = Measuring(SearchMeasure(held_out=["exam", "chat"]), tmp_path, folder, tmp_path / "s")
    with pytest.raises(InputError, match="exam: no held-out row has an answer"):
        _losses(toy_checkpoint, how)


def test_values_by_question_have_the_scores_mean_and_know_a_guess():
    letters = {f"logprob_{k}": [-1.0, -3.0, None] if k == "D" else [-2.0, -2.0, -1.0] for k in "ABCD"}
    frame = pl.DataFrame({**letters, "label": ["D", "A", "B"], "prediction": ["D", "A", "A"]})
    right_Q, above_Q = _by_question(frame, "accuracy", 2 / 3)
    assert right_Q.tolist() == [1, 1, 0]
    odds = np.exp(1) / (np.exp(1) + 3)
    assert above_Q[[0, 2]].tolist() == pytest.approx([odds - 0.25, 0.0])  # the last question has three options
    bits_Q, _ = _by_question(frame, "gold_bits_per_byte", 0.7)
    assert bits_Q.mean() == pytest.approx(0.7) and bits_Q[1] == pytest.approx(2 * bits_Q[0])
    assert _by_question(frame, "gold_probability", 0)[0][2] == pytest.approx(1 / 3)


def test_an_arm_that_cannot_be_trained_says_why_and_is_no_error(tmp_path):
    (tmp_path / "r.toml").write_text('[source.a]\npath = "a.jsonl"\n[train]\nmodel = "nowhere"\nseeds = [1]\n')
    job = Job(RunArm("one", tmp_path / "r.toml", tmp_path / "one"), 1)
    how = Measuring(SearchMeasure(held_out=["exam"]), tmp_path, tmp_path / "held", tmp_path / "s")
    found = measured(job, how)
    assert found.value == {} and found.failed.startswith("arm one, seed 1: ") and "seed-1.log" in found.failed
    assert replace(found, failed="").failed == ""
