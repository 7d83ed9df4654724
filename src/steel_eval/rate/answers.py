"""How hard a model finds a row's answers: with the question before them, and without it.

`perplexity`: exp of the mean loss on the tokens that training would learn, given all that stands before them.
`ifd`, instruction-following difficulty (Cherry, Li et al. 2023, arXiv 2308.12032): that mean loss over the same mean
loss when each answer follows an empty question. 1 or more: the question does not help.

All answers of a batch, with and without their question, are one trie of tokens (ask/trie.py): the turns of a
conversation and the common beginning of all empty questions go through the model once, logits are made where an answer
stands and nowhere else, and nothing is padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steel_eval.ask.trie import Request
from steel_eval.models import Loaded
from steel_eval.score.likelihood import Sharing, score_requests

if TYPE_CHECKING:
    from steel_train.examples.encode import Encoder

Floats = NDArray[np.float64]


@dataclass
class AnswerRater:
    """Rates conversations with one model; `forwarded` counts the tokens that went through it."""

    loaded: Loaded
    by: str
    sharing: Sharing
    forwarded: int = 0

    @cached_property
    def _encoder(self) -> "Encoder":
        from steel_train.examples.encode import Encoder

        return Encoder(self.loaded.tokenizer, self.loaded.max_length)

    def rate(self, rows: Sequence[dict[str, Any]]) -> list[float | None]:
        """Return the rating of each row (`messages`, `tools`); None where the template learns nothing of it."""
        requests: list[Request] = []
        of: list[int] = []  # of each request twice its row's number, and 1 more where the question is left out

        def ask(conversations: list[dict[str, Any]], numbers: list[int]) -> None:
            for number, encoded in zip(numbers, self._encoder.encode(conversations), strict=True):
                for example in encoded.examples:
                    found = _spans(example.ids.tolist(), example.learnt)
                    requests.extend(found)
                    of.extend([number] * len(found))

        ask(list(rows), [2 * i for i in range(len(rows))])
        if self.by == "ifd":
            alone = [(i, turn) for i, row in enumerate(rows) for turn in _answers(row)]
            ask(
                [{"messages": [{"role": "user", "content": ""}, turn]} for _, turn in alone],
                [2 * i + 1 for i, _ in alone],
            )
        scored = score_requests(self.loaded.model, requests, self.sharing)
        self.forwarded += scored.forwarded_tokens
        tokens = np.array([len(request.tokens) - request.start for request in requests], np.int64)
        loss, count = np.zeros(2 * len(rows)), np.zeros(2 * len(rows))
        np.add.at(loss, np.array(of, np.int64), -scored.logprob)
        np.add.at(count, np.array(of, np.int64), tokens)
        mean = loss / np.where(count, count, np.nan)
        rating = mean[::2] / mean[1::2] if self.by == "ifd" else np.exp(mean[::2])
        return [float(value) if np.isfinite(value) else None for value in rating]


def _answers(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [t for t in row["messages"] if t["role"] == "assistant" and t.get("loss") is not False]


def _spans(ids: list[int], learnt: NDArray[np.bool_]) -> list[Request]:
    """Return each run of learnt tokens as a continuation of all that stands before it."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], learnt, [False]]).astype(np.int8)))
    return [Request(ids[:end], start) for start, end in edge.reshape(-1, 2).tolist()]
