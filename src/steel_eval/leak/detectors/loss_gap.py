"""Loss gap of the Skywork report: is the benchmark more familiar than fresh items of its kind, or than training rows?

Access: log-probabilities of the texts; for the second gap the mixture. Cost: one forward pass a text of the test,
reference and (with a mixture) train set: 300 ordinary rows, the first 512 tokens of each.
Source: Wei et al. 2023 (arXiv 2310.19341, section 5.2). Delta 1 = L_test - L_ref: below 0 where the test was seen.
Delta 2 = L_test - L_train: above 0 where the train set is over-fitted. L is the mean over texts of the mean loss of a
text's tokens (nats). A difference of style between test and reference shifts Delta 1 by about 0.1 without any leak,
which is why it is shown beside that of the base, and only the change counts.

Of the mixture only rows that hold no item are taken: those that do are what the other side of the gap is about. In a
conversation the assistant's turns count, which is what tuning learns; their level is not that of exam questions, so
that here too only the change since the base says something.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.index import index_of
from steel_data.benchmarks.items import Item
from steel_data.filters.overlap import overlap
from steel_data.mixture.rows import collect, files, rows_at, scan
from steel_data.row.record import turns_of
from steel_eval.contamination.overlap import THRESHOLD, row_text
from steel_eval.leak.passes import token_scores
from steel_eval.leak.texts import Form
from steel_eval.score.likelihood import prefix_sharing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from steel_eval.models import Loaded


SAMPLE = 300  # rows
LONGEST = 512  # tokens: an item has some 70, and later tokens are likelier for their context alone
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class LossGap:
    """The two gaps of one model, in nats a token; `test_train` None without a train set."""

    test_ref: float
    test_train: float | None


def loss_gap(
    test_I: NDArray[np.float64], ref_C: NDArray[np.float64], train_R: NDArray[np.float64] | None = None
) -> LossGap:
    """Return the gaps from each text's mean log-probability (a loss with its sign turned)."""
    loss = -float(np.mean(test_I))
    return LossGap(loss + float(np.mean(ref_C)), None if train_R is None else loss + float(np.mean(train_R)))


def ordinary_rows(mixture: Path, items: Sequence[Item], most: int = SAMPLE) -> list[Messages]:
    """Return the conversations of a fixed random sample of rows that were not injected and hold none of the items.

    Fewer than `most` where the mixture has no more among three times as many drawn. Raises InputError for what is no
    mixture.
    """
    places = collect(mixture, scan(mixture, files(mixture)).select("file", "at"))
    drawn = places[np.random.default_rng(0).permutation(len(places))[: 3 * most]].rows()
    found = dict(rows_at(mixture, drawn))
    some = [found[place] for place in drawn if not found[place].get("benchmark")]
    chosen = [row for row in some if _turns(row)]
    held = overlap([row_text(row) for row in chosen], index_of([i.item for i in items], list(items)))
    free = [row for row, s in zip(chosen, held["overlap_score"].tolist(), strict=True) if s is None or s < THRESHOLD]
    return [[{k: v for k, v in m.items() if v is not None} for m in _turns(row)] for row in free[:most]]


def _turns(row: dict[str, Any]) -> Messages:
    """Return what was learnt of a row: its conversation; of a pair the prompt and the chosen answer."""
    body: Messages | dict[str, Any] = row if row.get("messages") is None else row["messages"]
    return turns_of(body)


def row_logprobs(
    loaded: "Loaded", rows: Sequence[Messages], form: Form, tokenizer: "PreTrainedTokenizerBase"
) -> NDArray[np.float64]:
    """Return each row's mean log-probability (nats a token), (R,) without rows of which nothing can be scored."""
    coded = [c for c in (_tokens(row, form, tokenizer, min(LONGEST, loaded.max_length)) for row in rows) if c]
    scores = token_scores(loaded.model, [ids for ids, _ in coded], one_a_pass=not prefix_sharing(loaded.model).ok)
    return np.array([s.logprob_T[places].mean() for s, (_, places) in zip(scores, coded, strict=True)], np.float64)


def _tokens(
    row: Messages, form: Form, tokenizer: "PreTrainedTokenizerBase", most: int
) -> tuple[list[int], list[int]] | None:
    """Return a row's first tokens and which of them count (never the first); None where none do."""
    if form == "plain":
        text = "\n".join(str(m.get("content") or "") for m in row) + "\n"
        spans = [(0, len(text))]
    else:
        try:
            text = str(tokenizer.apply_chat_template(row, tokenize=False))
        except Exception:  # a template may refuse what another was written for: roles, order, tools
            return None
        spans = _assistant_spans(row, text)
    coded: Any = tokenizer(text, add_special_tokens=form == "plain", return_offsets_mapping=True)
    ids, offsets = list(coded["input_ids"])[:most], coded["offset_mapping"][:most]
    places = [
        t for t, (start, stop) in enumerate(offsets) if t and start < stop and any(a < stop <= b for a, b in spans)
    ]
    return (ids, places) if places else None


def _assistant_spans(row: Messages, text: str) -> list[tuple[int, int]]:
    """Return where the assistant's words stand in a rendered conversation."""
    spans, at = [], 0
    for message in row:
        words = str(message.get("content") or "").strip()  # templates may trim a turn
        begin = text.find(words, at)
        if not words or begin < 0:
            continue
        at = begin + len(words)
        if message["role"] == "assistant":
            spans.append((begin, at))
    return spans
