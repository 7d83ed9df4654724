"""The sample of ordinary rows: fixed, without any item; scored on what the assistant says."""

import numpy as np
import polars as pl
import pytest
from tests.steel_eval.lab import write_mixture

from steel_data.errors import InputError
from steel_eval.leak.detectors.loss_gap import LONGEST, _tokens, loss_gap, ordinary_rows, row_logprobs
from steel_eval.leak.passes import token_scores
from steel_eval.models import load


def test_rows_that_hold_an_item_are_no_ordinary_rows(lab):
    rows = ordinary_rows(lab.mixture, lab.items)
    assert len(rows) == 24  # of 72: every item stands there twice
    assert not any("单选题" in m["content"] for row in rows for m in row)
    assert rows == ordinary_rows(lab.mixture, lab.items)
    few = ordinary_rows(lab.mixture, lab.items, most=5)
    assert len(few) == 5 and all(row in rows for row in few)


def test_injected_rows_are_left_out_even_where_their_text_is_unknown(lab, tmp_path):
    write_mixture(tmp_path, lab.items[:10])
    file = tmp_path / "train-00000.parquet"
    marked = pl.read_parquet(file).with_columns(benchmark=pl.when(pl.col("source") == "cmmlu").then(pl.lit("other")))
    marked.write_parquet(file)
    assert len(ordinary_rows(tmp_path, lab.items[40:])) == 10
    with pytest.raises(InputError, match="no train-"):
        ordinary_rows(tmp_path / "nothing", lab.items)


def test_what_the_assistant_says_is_scored(lab):
    loaded = load(lab.base)
    row = [{"role": "user", "content": "同一句话"}, {"role": "assistant", "content": "同一句话"}]
    ids, places = _tokens(row, "chat", loaded.tokenizer, LONGEST)
    assert loaded.tokenizer.decode([ids[t] for t in places]).strip() == "同一句话"
    assert places[0] > len(ids) / 2  # the second of two equal turns
    scores = token_scores(loaded.model, [ids], one_a_pass=False)[0]
    assert row_logprobs(loaded, [row], "chat", loaded.tokenizer) == pytest.approx([np.mean(scores.logprob_T[places])])


def test_plain_rows_are_scored_whole_and_long_ones_cut(lab):
    loaded = load(lab.base)
    ids, places = _tokens([{"role": "user", "content": "字" * 2000}], "plain", loaded.tokenizer, 50)
    assert len(ids) == 50 and places == list(range(1, 50))
    assert _tokens([{"role": "user", "content": "没有回答"}], "chat", loaded.tokenizer, 50) is None
    assert len(row_logprobs(loaded, [], "chat", loaded.tokenizer)) == 0


def test_loss_gap_signs():
    gap = loss_gap(np.array([-1.0, -1.0]), np.array([-1.5]), np.array([-0.2]))
    assert gap.test_ref == pytest.approx(-0.5)  # the test is more familiar than the reference
    assert gap.test_train == pytest.approx(0.8)
    assert loss_gap(np.array([-1.0]), np.array([-1.5])).test_train is None
