"""The trie plan: every node once, every mask the ancestors, whatever the cuts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_eval.ask.trie import Request, make_plan


def test_worked_example_of_the_docstring():
    plan = make_plan([Request([0, 1, 7, 9], 3), Request([0, 1, 8, 9], 3), Request([0, 2, 9], 2)])
    assert plan.token_N.tolist() == [0, 1, 7, 8, 2]
    assert plan.end_N.tolist() == [5, 4, 3, 4, 5]
    first, second = plan.batches(budget=3, rows=100)
    assert first.tokens_T.tolist() == [0, 1, 7]
    assert second.tokens_T.tolist() == [8, 2]
    assert second.path_P.tolist() == [0, 1]
    assert second.keep_P.tolist() == [0, 1]


def test_four_letters_of_one_question_cost_one_prompt():
    plan = make_plan([Request([5, 6, 7, letter], 3) for letter in range(4)])
    assert plan.forwarded_tokens == 3
    assert plan.plain_tokens == 3


@pytest.mark.parametrize("start", [0, 3])
def test_a_request_without_context_or_continuation_is_refused(start):
    with pytest.raises(ValueError, match="context and continuation"):
        make_plan([Request([1, 2, 3], start)])


tokens = st.lists(st.integers(0, 2), min_size=2, max_size=9)


@settings(max_examples=150, deadline=None)
@given(st.lists(tokens, min_size=1, max_size=12), st.integers(1, 7), st.integers(1, 4))
def test_batches_replay_to_the_sequences_themselves(rows, budget, logits):
    """Law: walking the batches with their kept columns, every scored token sees exactly the tokens before it."""
    requests = [Request(row, 1 + len(row) // 2 if len(row) > 2 else 1) for row in rows]
    plan = make_plan(requests)
    assert plan.forwarded_tokens == len({tuple(r[:k]) for r in rows for k in range(1, len(r))})
    columns = np.zeros((0, 2), np.int64)  # (token, position) of each cached column
    seen = set()
    for batch in plan.batches(budget, logits):
        assert len(batch.tokens_T) <= budget
        assert len(batch.rows_R) <= logits
        columns = columns[batch.keep_P]
        columns = np.concatenate([columns, np.stack([batch.tokens_T, batch.positions_T], axis=1)])
        mask = plan.mask(batch)
        for row, token, request in zip(batch.pair_row_E, batch.pair_token_E, batch.pair_request_E, strict=True):
            visible = columns[mask[batch.rows_R[row]]]
            assert visible[:, 1].tolist() == list(range(len(visible)))  # one token at each position
            full = list(requests[request].tokens)
            assert [*visible[:, 0].tolist(), token] == full[: len(visible) + 1]
            seen.add((int(request), len(visible)))
    assert seen == {(i, k) for i, r in enumerate(requests) for k in range(r.start, len(r.tokens))}
