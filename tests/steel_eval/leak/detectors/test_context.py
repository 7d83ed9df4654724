"""CoDeC: what stands before an item, what is scored of it, and that who learnt it by heart is disturbed most."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.steel_eval import toys

from steel_eval.leak.detectors.context import in_context, lost, samples
from steel_eval.leak.measure import IN_CONTEXT, Texts, measure
from steel_eval.leak.passes import mean_logprob, token_scores
from steel_eval.leak.texts import ItemText, item_texts
from steel_eval.models import load

LOST, SHARE = (m.name for m in IN_CONTEXT)


def test_samples_are_of_the_items_subject_and_never_it_or_near_it(lab):
    twin = replace(lab.items[5], item="test/agronomy/00099", row=99)
    items = [*lab.items, twin]
    found = samples(items, 3)
    for i, before in enumerate(found):
        assert len(before) == 3 and i not in before
        assert {items[k].subject for k in before} == {items[i].subject}
    assert 5 not in found[-1] and len(items) - 1 not in found[5]
    assert len({found[i] for i, item in enumerate(items) if item.subject == "agronomy"}) == 2  # two sets serve all


def test_who_stands_before_whom_does_not_depend_on_the_order_of_items(lab):
    def named(items):
        return {items[i].item: [items[k].item for k in before] for i, before in enumerate(samples(items, 2))}

    assert named(lab.items) == named(lab.items[::-1])


def test_small_subjects_have_fewer_and_a_lone_item_none(lab):
    some = [replace(lab.items[0], subject="law"), *lab.items[1:4]]
    assert [len(before) for before in samples(some, 3)] == [0, 1, 1, 1]


def text(*tokens, item=(1, 3)):
    return ItemText(list(tokens), item, (item,), (0, 1))


def test_an_item_keeps_its_tokens_behind_others_and_is_scored_where_it_stands():
    texts = [text(7, 1, 2, 9), text(7, 3, 4, 9)]
    requests = in_context(texts, [(1,), (0,)], 100, bos=None)
    assert requests[0].tokens == [7, 3, 4, 9, 7, 1, 2] and requests[0].start == 5


def test_a_mark_of_the_beginning_stands_once():
    texts = [text(0, 1, 2, 9), text(0, 3, 4, 9), text(0, 5, 6, 9)]
    (request,) = in_context(texts[:1], [()], 100, bos=0)
    assert request is None
    first = in_context(texts, [(1, 2), (), ()], 100, bos=0)[0]
    assert first.tokens == [0, 3, 4, 9, 5, 6, 9, 1, 2] and first.start == 7
    again = [text(0, 1, 0, 9), text(0, 3, 0, 9)]  # the mark of a turn, which the tokenizer calls its bos
    assert in_context(again, [(1,), ()], 100, bos=0)[0].tokens == [0, 3, 0, 9, 0, 1, 0]


def test_samples_that_a_context_has_no_room_for_are_left_out():
    texts = [text(7, 1, 2, 9), text(7, 3, 4, 9), text(7, 5, 6, 9)]
    before = [(1, 2), (), ()]
    assert len(in_context(texts, before, 12, None)[0].tokens) == 11
    assert in_context(texts, before, 11, None)[0].tokens == [7, 3, 4, 9, 7, 1, 2]
    assert in_context(texts, before, 7, None)[0] is None


def test_the_fall_is_of_the_mean_and_the_share_counts_falls():
    requests = in_context([text(7, 1, 2, 9)] * 3, [(1,), (2,), ()], 100, None)
    fall, share = lost(np.array([-1.0, -3.0, -1.0]), np.array([-3.0, -4.0, np.nan]), requests)
    assert fall.tolist()[:2] == [0.5, -1.0] and np.isnan(fall[2])
    assert share.tolist()[:2] == [1.0, 0.0] and np.isnan(share[2])


def test_it_is_what_plain_passes_give(lab):
    loaded, tokenizer = load(lab.model), toys.tokenizer()
    found = measure(loaded, Texts(lab.items, [], "chat", tokenizer, 2))
    texts = item_texts(lab.items, "chat", tokenizer)
    for i, before in list(enumerate(samples(lab.items, 2)))[::11]:
        ids = [token for k in before for token in texts[k].tokens] + texts[i].tokens
        with torch.no_grad():
            log_TV = torch.log_softmax(loaded.model(input_ids=torch.tensor([ids])).logits[0].double(), -1)
        at = len(ids) - len(texts[i].tokens)
        value = np.mean([float(log_TV[t - 1, ids[t]]) for t in range(at + texts[i].item[0], at + texts[i].item[1])])
        alone = mean_logprob(token_scores(loaded.model, [texts[i].tokens], one_a_pass=True)[0], texts[i].item)
        assert found.scores[LOST][i] == pytest.approx(alone - value, abs=1e-3)


def test_who_learnt_an_item_by_heart_is_disturbed_more_than_by_one_it_never_saw(lab):
    texts = Texts(lab.items, [], "chat", toys.tokenizer(), 3)
    model, base = (measure(load(place), texts) for place in (lab.model, lab.base))
    seen = np.array([item.item in lab.seen for item in lab.items])
    change = model.scores[LOST] - base.scores[LOST]
    assert change[seen].min() > change[~seen].max()
    assert model.scores[SHARE][seen].mean() == 1.0 > model.scores[SHARE][~seen].mean()
    assert 0 < model.context_tokens < 2 * model.pass_tokens  # samples are read once a subject, not once an item


def test_without_being_asked_nothing_stands_before_an_item(lab):
    found = measure(load(lab.base), Texts(lab.items[:4], [], "chat", toys.tokenizer()))
    assert not {LOST, SHARE} & set(found.scores) and found.context_tokens == 0
