"""What one pass calls completed is what greedy generation writes; what anyone could complete does not count."""

from pathlib import Path

import numpy as np
import torch

from steel_data.benchmarks.items import Item
from steel_eval.leak.detectors.completion import completed, option_logprob, telling_options
from steel_eval.leak.passes import token_scores
from steel_eval.leak.texts import item_texts
from steel_eval.models import load


def item(question="水稻的最适温度是", options=("二十度左右", "三十度左右", "四十度左右", "五十度左右"), answer="B"):
    return Item("test/a/00000", "a", "test", 0, question, tuple(options), answer, "", Path("a.csv"))


def test_one_pass_says_what_greedy_generation_would_write(lab):
    """On a model that knows some items: the option is completed exactly when generate() writes it."""
    loaded = load(lab.model)
    model, tokenizer, items = loaded.model, loaded.tokenizer, lab.items
    texts = item_texts(items, "chat", tokenizer)
    scores = token_scores(model, [t.tokens for t in texts], one_a_pass=False)
    outcomes = []
    for text, s in zip(texts[:8], scores, strict=False):
        start, stop = text.options[2]
        written = model.generate(
            torch.tensor([text.tokens[:start]]), max_new_tokens=stop - start, do_sample=False, pad_token_id=0
        )[0, start:].tolist()
        outcomes.append(completed(s, text, [2]))
        assert outcomes[-1] == float(written == text.tokens[start:stop])
    assert set(outcomes) == {0.0, 1.0}


def test_options_that_anyone_could_complete_do_not_count():
    assert telling_options(item(options=("正确", "12345", "3.14%", "因为天气变冷了"))) == [3]
    assert telling_options(item(question="三十度左右好吗", options=("三十度左右", "四十度左右"))) == [1]
    scores, text = None, None
    assert np.isnan(completed(scores, text, [])) and np.isnan(option_logprob(scores, text, []))
