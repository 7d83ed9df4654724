"""One teacher-forced pass over each text gives what most detectors need: token log-probabilities and their moments.

Legend: B texts of a pass, T tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from steel_eval.score.likelihood import LOGIT_ELEMENTS, wide_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TokenScores:
    """One text, (T,) each. Nothing predicts the first token: NaN there, and never greedy.

    `mean` and `deviation`: of the log-probability of a token drawn from the model itself at that place (Min-K %++).
    `asked_K`: log-probabilities of the asked tokens at the asked place.
    """

    logprob_T: Floats
    mean_T: Floats
    deviation_T: Floats
    greedy_T: NDArray[np.bool_]
    asked_K: Floats


@dataclass(frozen=True)
class AskedTokens:
    """How likely are `tokens` in place of the token at `places` (one for each text, never the first)?"""

    places: Sequence[int]
    tokens: Sequence[int]


def token_scores(
    model: "PreTrainedModel", texts: Sequence[Sequence[int]], one_a_pass: bool, asked: AskedTokens | None = None
) -> list[TokenScores]:
    """Score texts of at least two tokens, in order; logits and softmax in float32 (see `wide_head`).

    Texts of like length share a pass, filled up on the right, which no earlier token of a causal model sees.
    `one_a_pass`: for models that mix the whole sequence (`prefix_sharing` says so).
    """
    found: dict[int, TokenScores] = {}
    rows = max(1, LOGIT_ELEMENTS // int(model.config.get_text_config().vocab_size))
    with torch.inference_mode(), wide_head(model):
        for members in _passes(texts, 1 if one_a_pass else rows):
            longest = max(len(texts[i]) for i in members)
            ids_BT = torch.zeros((len(members), longest), dtype=torch.long)
            seen_BT = torch.zeros_like(ids_BT)
            for b, i in enumerate(members):
                ids_BT[b, : len(texts[i])] = torch.tensor(texts[i])
                seen_BT[b, : len(texts[i])] = 1
            ids_BT = ids_BT.to(model.device)
            logits_BTV = model(input_ids=ids_BT, attention_mask=seen_BT.to(model.device), use_cache=False).logits
            for b, i in enumerate(members):
                length = len(texts[i])
                found[i] = _scores(logits_BTV[b, : length - 1], ids_BT[b, 1:length])
                if asked is not None:
                    log_V = torch.log_softmax(logits_BTV[b, asked.places[i] - 1].float(), dim=-1)
                    found[i] = replace(found[i], asked_K=log_V[list(asked.tokens)].double().cpu().numpy())
    return [found[i] for i in range(len(texts))]


def _passes(texts: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Yield the texts of each pass: shortest first, at most `budget` tokens with the filling (or one text)."""
    members: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if members and len(texts[i]) * (len(members) + 1) > budget:
            yield members
            members = []
        members.append(i)
    if members:
        yield members


def _scores(logits_TV: torch.Tensor, next_T: torch.Tensor) -> TokenScores:
    log_TV = torch.log_softmax(logits_TV.float(), dim=-1)
    share_TV = log_TV.exp()
    mean_T = (share_TV * log_TV).sum(-1)
    variance_T = (share_TV * log_TV.square()).sum(-1) - mean_T.square()
    value_T = log_TV.gather(-1, next_T[:, None])[:, 0]

    def padded(x_T: torch.Tensor) -> Floats:
        return np.concatenate([[np.nan], x_T.double().cpu().numpy()])

    greedy_T = (log_TV.argmax(-1) == next_T).cpu().numpy()
    deviation_T = variance_T.clamp_min(0).sqrt()
    greedy_T = np.concatenate([[False], greedy_T])
    return TokenScores(padded(value_T), padded(mean_T), padded(deviation_T), greedy_T, np.zeros(0))


def mean_logprob(scores: TokenScores, span: tuple[int, int]) -> float:
    """Return the mean log-probability of a stretch of tokens (nats a token), the text's first token left out."""
    return float(np.nanmean(scores.logprob_T[max(1, span[0]) : span[1]]))
