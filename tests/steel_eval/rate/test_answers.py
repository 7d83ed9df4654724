"""Ratings are those of two plain forward passes a row, whatever is shared between them."""

import numpy as np
import pytest
import torch
from tests.steel_eval import toys

from steel_eval.models import load
from steel_eval.rate.answers import AnswerRater
from steel_eval.score.likelihood import prefix_sharing
from steel_train.examples.encode import Encoder


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load(toys.save(tmp_path_factory.mktemp("model")))


def chat(*turns: str):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)], "tools": None}


ROWS = [chat("水稻的最适温度是多少？", "三十度"), chat("选出答案", "B", "为什么？", "甲公司有效。"), chat("水稻", "A")]


def losses(loaded, row):
    example = Encoder(loaded.tokenizer, loaded.max_length).encode([row])[0].examples[0]
    ids = torch.tensor(example.ids.astype(np.int64))[None]
    with torch.inference_mode():
        nats = torch.nn.functional.cross_entropy(
            loaded.model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none"
        )
    return nats[torch.from_numpy(example.learnt[1:])]


def test_perplexity_is_that_of_the_answers(loaded):
    rater = AnswerRater(loaded, "perplexity", prefix_sharing(loaded.model))
    assert rater.rate(ROWS) == pytest.approx([float(losses(loaded, row).mean().exp()) for row in ROWS], rel=1e-4)


def test_ifd_is_the_loss_over_that_without_the_question(loaded):
    rater = AnswerRater(loaded, "ifd", prefix_sharing(loaded.model))
    expected = []
    for row in ROWS:
        alone = [losses(loaded, chat("", turn["content"])) for turn in row["messages"] if turn["role"] == "assistant"]
        expected.append(float(losses(loaded, row).mean() / torch.cat(alone).mean()))
    assert rater.rate(ROWS) == pytest.approx(expected, rel=1e-4)


def test_what_is_shared_goes_through_the_model_once(loaded):
    sharing = prefix_sharing(loaded.model)
    one, many = (AnswerRater(loaded, "ifd", sharing) for _ in range(2))
    one.rate(ROWS[:1])
    many.rate([ROWS[0]] * 5)
    assert one.forwarded == many.forwarded


def test_a_row_of_which_nothing_is_learnt_has_no_rating(loaded):
    rater = AnswerRater(loaded, "ifd", prefix_sharing(loaded.model))
    silent = {"messages": [ROWS[0]["messages"][0], {**ROWS[0]["messages"][1], "loss": False}], "tools": None}
    found = rater.rate([silent, ROWS[0]])
    assert found[0] is None
    assert found[1] > 0
