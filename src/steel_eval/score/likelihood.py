"""Log-likelihoods of continuations under a causal model, each shared prefix computed once (see plan.py).

A batch is one packed row: its tokens are a slice of the token trie, told apart by an attention mask instead of by rows,
so there is no padding and the shared prefix lies in memory once. On a CPU attention skips what the mask hides from a
whole block of tokens (`InBlocks`). Logits are computed only where a continuation token is scored, and in rows bounded
by `LOGIT_ELEMENTS`, so memory depends neither on the prompt's length nor on length x vocabulary. They are made in
float32 of models in 16 bits too (`wide_head`): a bfloat16 logit of 20 moves in steps of 0.125, so that letters would
tie and the first of them be taken.

Not every model can do this: a sliding window, a recurrent state or a layer that mixes the whole sequence does not
honour a mask. `prefix_sharing` finds out by running one small trie both ways; what fails is scored one full prompt at a
time.

Legend: T tokens of a pass, P cached path, R rows of logits, V vocabulary, Q requests, E (request, token) pairs.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from steel_eval.ask.trie import Batch, Plan, Request, make_plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# Tokens of one pass. Shorter passes use a core badly, longer ones add attention that the mask discards
# (bench/score.py --budgets). The GPU's figure is a guess: no machine had one.
CPU_BUDGET, GPU_BUDGET = 512, 4096
LOGIT_ELEMENTS = 32_000_000  # R x V of one pass: 128 MB in float32
HEAD_ELEMENTS = 1 << 22  # of the head, brought to float32 at a time: 16 MB, which a cache can hold
_CACHED = 8  # rows of logits whose softmax is made together
_BLOCK, _SPARED = 64, 1 << 16  # tokens whose attention is made together; least (token, column) pairs worth skipping


@dataclass
class Likelihoods:
    """One entry a request. `logprob` (Q,) float64 sums the continuation's tokens; NaN where the model gave NaN."""

    logprob: NDArray[np.float64]
    greedy: NDArray[np.bool_]  # the continuation is what greedy decoding would say
    forwarded_tokens: int
    shared: bool


@dataclass
class Partial:
    """Likelihoods half-way: what the first `passes` forward passes have given, in arrays as of `Likelihoods`."""

    logprob: NDArray[np.float64]
    greedy: NDArray[np.bool_]
    done: NDArray[np.bool_]  # all of the request's tokens are scored
    passes: int = 0

    @classmethod
    def none(cls, requests: int) -> "Partial":
        """Return the state before the first pass."""
        return cls(np.zeros(requests), np.ones(requests, np.bool_), np.zeros(requests, np.bool_))


@dataclass(frozen=True)
class Sharing:
    """Whether prefixes can be shared with a model, up to which length, and in words why not."""

    ok: bool
    longest: int | None = None  # None: no bound
    reason: str = ""


def score_requests(
    model: "PreTrainedModel", requests: Sequence[Request], sharing: Sharing | None = None
) -> Likelihoods:
    """Score requests; without `sharing` (from `prefix_sharing`) the model is examined first."""
    if not requests:
        return Likelihoods(np.zeros(0), np.zeros(0, np.bool_), 0, True)
    return score_plan(model, make_plan(requests), requests, sharing or prefix_sharing(model))


def score_plan(model: "PreTrainedModel", plan: Plan, requests: Sequence[Request], sharing: Sharing) -> Likelihoods:
    """Run a plan on one model. Falls back to full prompts where `sharing` forbids; the result says which it was."""
    state = Partial.none(len(requests))
    for _ in score_passes(model, plan, requests, sharing, state):
        pass
    shared = shares(plan, sharing)
    tokens = plan.forwarded_tokens if shared else sum(map(len, _by_input(requests)))
    return Likelihoods(state.logprob, state.greedy, tokens, shared)


def shares(plan: Plan, sharing: Sharing) -> bool:
    """Return whether a plan's prefixes are shared: the model can, and its longest prompt is not longer than it can."""
    longest = int(plan.position_N.max(initial=0)) + 1
    return sharing.ok and (sharing.longest is None or longest <= sharing.longest)


def score_passes(
    model: "PreTrainedModel", plan: Plan, requests: Sequence[Request], sharing: Sharing, state: Partial
) -> Iterator[Partial]:
    """Run the passes that `state` lacks; yield it, filled on in place, after each.

    What comes out is bit for bit what one run without a stop gives: passes are the same whoever makes them.
    """
    if not shares(plan, sharing):
        yield from _plain_passes(model, requests, state)
        return
    budget = GPU_BUDGET if model.device.type != "cpu" else CPU_BUDGET
    batches = list(plan.batches(budget, max(1, LOGIT_ELEMENTS // _vocabulary(model))))
    last_Q = np.zeros(plan.n_requests, np.int64)
    np.maximum.at(last_Q, plan.pair_request_E, plan.pair_node_E)
    begun = state.passes
    cache = _path_cache(model, plan, batches, begun) if 0 < begun < len(batches) else _new_cache()
    for number, batch in enumerate(batches[begun:], begun):
        with torch.inference_mode(), wide_head(model):
            if number > begun:
                _keep(cache, batch.keep_P)
            logits_RV = _forward(model, plan, batch, cache)
            if logits_RV is not None:
                _collect(logits_RV, batch, state.logprob, state.greedy)
        state.passes = number + 1
        state.done = last_Q < batch.first + len(batch.tokens_T)
        yield state


@contextmanager
def wide_head(model: "PreTrainedModel") -> Iterator[None]:
    """Let a model in 16 bits make its logits in float32, from states and weights as they are.

    Only where its head is a plain linear layer; a cap or scale that the model lays on logits is in float32 then too.
    """
    narrow = model.dtype in (torch.bfloat16, torch.float16)
    head: Any = model.get_output_embeddings() if narrow else None
    if type(head) is not torch.nn.Linear or head.weight.dtype != model.dtype:
        yield
        return
    hook = head.register_forward_hook(_wide)
    try:
        yield
    finally:
        hook.remove()


def _wide(head: torch.nn.Linear, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> torch.Tensor:
    state_BTD, rows = inputs[0].float(), max(1, HEAD_ELEMENTS // head.in_features)
    logits_BTV = torch.cat([state_BTD @ part_RD.float().T for part_RD in head.weight.split(rows)], dim=-1)
    return logits_BTV if head.bias is None else logits_BTV + head.bias.float()


def _forward(model: "PreTrainedModel", plan: Plan, batch: Batch, cache: Any) -> torch.Tensor | None:
    """Run one pass; return logits (R, V) at the rows that are scored, None where there are none."""
    device = model.device
    seen_TC = torch.from_numpy(plan.mask(batch)).to(device)
    # an additive mask: eager attention adds it, SDPA takes it as it is
    low = torch.finfo(model.dtype).min
    mask_11TC = torch.zeros(seen_TC.shape, dtype=model.dtype, device=device).masked_fill_(~seen_TC, low)[None, None]
    rows_R = torch.from_numpy(batch.rows_R if len(batch.rows_R) else np.zeros(1, np.int64)).to(device)
    with InBlocks.of(seen_TC) or nullcontext():
        output = model(
            input_ids=torch.from_numpy(batch.tokens_T).to(device)[None],
            attention_mask=mask_11TC,
            position_ids=torch.from_numpy(batch.positions_T).to(device)[None],
            use_cache=True,
            logits_to_keep=rows_R,
            **{_cache_name(model): cache},
        )
    return output.logits[0] if len(batch.rows_R) else None


class InBlocks(TorchFunctionMode):
    """While it is entered, SDPA under the mask of a pass multiplies, block by block, the columns that the block sees.

    A packed pass holds several rows, of which a token sees its own: most of the mask hides. What is left out would
    weigh exactly 0, so only the order of sums changes.
    """

    def __init__(self, shape: tuple[int, int], parts: Sequence[tuple[int, int, torch.Tensor]]) -> None:
        super().__init__()
        self.shape, self.parts = shape, parts  # first token of a block, the one behind its last, the columns it sees

    @classmethod
    def of(cls, seen_TC: torch.Tensor) -> "InBlocks | None":
        """Return the mode for a mask (T, C) of who is seen; None where there is little to skip, and on a GPU."""
        if seen_TC.device.type != "cpu":
            return None
        edges = [*range(0, len(seen_TC), _BLOCK), len(seen_TC)]
        parts = [(a, b, seen_TC[a:b].any(0).nonzero()[:, 0]) for a, b in pairwise(edges)]
        multiplied = sum((b - a) * len(columns) for a, b, columns in parts)
        return cls((seen_TC.shape[0], seen_TC.shape[1]), parts) if seen_TC.numel() - multiplied >= _SPARED else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, in blocks where it is SDPA under the pass's own mask."""
        kwargs = kwargs or {}
        mask = kwargs.get("attn_mask")
        if func is not scaled_dot_product_attention or mask is None or len(args) != 3:
            return func(*args, **kwargs)
        query, key, value = args
        if mask.shape[-2:] != self.shape or key.shape[-2] != self.shape[1]:
            return func(*args, **kwargs)
        made = []
        for first, stop, columns in self.parts:
            mine = {**kwargs, "attn_mask": mask[..., first:stop, :].index_select(-1, columns)}
            there = (key.index_select(-2, columns), value.index_select(-2, columns))
            made.append(func(query[..., first:stop, :], *there, **mine))
        return torch.cat(made, dim=-2)


def _collect(logits_RV: torch.Tensor, batch: Batch, logprob: NDArray[np.float64], greedy: NDArray[np.bool_]) -> None:
    """Add a pass's log-probabilities (softmax in float32) to the requests they belong to."""
    # some rows at a time: what they need in between then stays in the processor's cache
    parts = logits_RV.split(_CACHED if logits_RV.device.type == "cpu" else max(1, len(logits_RV)))
    normaliser_R = torch.cat([torch.logsumexp(part.float(), dim=-1) for part in parts])
    best_R = torch.cat([part.argmax(dim=-1) for part in parts])
    row_E = torch.from_numpy(batch.pair_row_E).to(logits_RV.device)
    token_E = torch.from_numpy(batch.pair_token_E).to(logits_RV.device)
    value_E = (logits_RV[row_E, token_E].float() - normaliser_R[row_E]).double().cpu().numpy()
    np.add.at(logprob, batch.pair_request_E, value_E)
    hit_E = (best_R[row_E] == token_E).cpu().numpy()
    greedy[batch.pair_request_E[~hit_E]] = False


def _path_cache(model: "PreTrainedModel", plan: Plan, batches: Sequence[Batch], number: int) -> Any:
    """Return the cache as it stands before a pass, where the passes before it were made by another process.

    Only the passes that hold a token of its path are made again, in their own shapes, since other shapes round
    otherwise. Cached columns beside the path are zeros there: the mask hides them from every token of the path.
    """
    path_P = batches[number].path_P
    cache, held_P = _new_cache(), path_P[:0]
    with torch.inference_mode():
        for batch in batches[:number]:
            stop = batch.first + len(batch.tokens_T)
            if not ((path_P >= batch.first) & (path_P < stop)).any():
                continue
            if len(batch.path_P) and not cache.layers:  # any pass tells how wide a column is
                _forward(model, plan, batches[0], cache)
                _keep(cache, held_P)
            _spread(cache, held_P, batch.path_P)
            _forward(model, plan, batch, cache)
            columns, held_P = np.concatenate([batch.path_P, np.arange(batch.first, stop)]), path_P[path_P < stop]
            _keep(cache, np.searchsorted(columns, held_P))
    return cache


def _plain_passes(model: "PreTrainedModel", requests: Sequence[Request], state: Partial) -> Iterator[Partial]:
    """Score each distinct prompt by its own forward pass, without cache, mask or padding."""
    takes_rows = _takes_rows(model)
    for inputs, members in list(_by_input(requests).items())[state.passes :]:
        pairs = [(k - 1, requests[i].tokens[k], i) for i in members for k in range(requests[i].start, len(inputs) + 1)]
        rows_R, pair_row_E = np.unique([p[0] for p in pairs], return_inverse=True)
        batch = Batch(
            *(np.zeros(0, np.int64),) * 4, 0, rows_R, pair_row_E.reshape(-1),
            np.array([p[1] for p in pairs], np.int64), np.array([p[2] for p in pairs], np.int64),
        )  # fmt: skip
        with torch.inference_mode(), wide_head(model):
            keep = torch.from_numpy(rows_R).to(model.device)
            ids_1T = torch.tensor([inputs], device=model.device)
            extra = {"logits_to_keep": keep} if takes_rows else {}
            logits_RV = model(input_ids=ids_1T, use_cache=False, **extra).logits[0]
            _collect(logits_RV if takes_rows else logits_RV[keep], batch, state.logprob, state.greedy)
        state.passes += 1
        state.done[members] = True
        yield state


def _by_input(requests: Sequence[Request]) -> dict[tuple[int, ...], list[int]]:
    """Return each distinct input (all tokens but the last) with the numbers of its requests."""
    found: dict[tuple[int, ...], list[int]] = {}
    for i, request in enumerate(requests):
        found.setdefault(tuple(request.tokens[:-1]), []).append(i)
    return found


def _score_plain(model: "PreTrainedModel", requests: Sequence[Request]) -> Likelihoods:
    return score_plan(model, make_plan(requests), requests, Sharing(False))


def prefix_sharing(model: "PreTrainedModel") -> Sharing:
    """Examine whether a model gives the same log-probabilities with shared prefixes as without.

    One trie of five short random sequences is scored both ways; the allowed difference is 1e-4 in float32 and 0.25 in
    16 bits, where the order of sums alone moves a log-probability by that much.
    """
    config = model.config.get_text_config()
    if "softmoe" in str(getattr(config, "FFN_type", "")):
        # with small or fresh weights the effect hides below any tolerance, so the kind decides and not the trial
        return Sharing(False, reason="its soft mixture of experts mixes the whole sequence; trust generation more")
    if not _takes_rows(model):
        return Sharing(False, reason="its forward has no logits_to_keep")
    window = getattr(config, "sliding_window", None) if _uses_window(config) else None
    generator = np.random.default_rng(0)
    stem = generator.integers(0, config.vocab_size, 12).tolist()
    requests = [Request(stem + generator.integers(0, config.vocab_size, 3 + i).tolist(), 13) for i in range(4)]
    requests.append(Request([*requests[0].tokens[:14], 1], 13))
    plain = _score_plain(model, requests)
    try:
        shared = score_plan(model, make_plan(requests), requests, Sharing(True))
    except Exception as error:  # any model code may fail in its own way on a mask or cache it does not know
        return Sharing(False, reason=f"its forward refuses a packed mask ({type(error).__name__}: {error})")
    difference = float(np.nan_to_num(np.abs(plain.logprob - shared.logprob)).max())
    allowed = 1e-4 if model.dtype in (torch.float32, torch.float64) else 0.25
    if difference > allowed:
        return Sharing(False, reason=f"log-probabilities differ by {difference:.2g} with a shared prefix")
    return Sharing(True, longest=window)


def _uses_window(config: Any) -> bool:
    types = getattr(config, "layer_types", None)
    return any("sliding" in t for t in types) if types else getattr(config, "use_sliding_window", True)


def _takes_rows(model: "PreTrainedModel") -> bool:
    return "logits_to_keep" in _parameters(model)


def _cache_name(model: "PreTrainedModel") -> str:
    """Return what the forward calls its cache: transformers renames `past_key_values` to `cache`."""
    return "cache" if "cache" in _parameters(model) else "past_key_values"


def _parameters(model: "PreTrainedModel") -> Mapping[str, inspect.Parameter]:
    inner: Any = model
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        inner = inner.get_base_model()
    return inspect.signature(inner.forward).parameters


def _vocabulary(model: "PreTrainedModel") -> int:
    return int(model.config.get_text_config().vocab_size)


def _new_cache() -> Any:
    from transformers import DynamicCache

    return DynamicCache()


def _keep(cache: Any, keep_P: NDArray[np.int64]) -> None:
    """Drop all cached columns but `keep_P` in every layer: keys and values are (1, heads, columns, width)."""
    for layer in cache.layers:
        if layer.is_initialized and layer.keys.shape[-2] != len(keep_P):
            index_P = torch.from_numpy(keep_P).to(layer.keys.device)
            layer.keys = layer.keys.index_select(-2, index_P)
            layer.values = layer.values.index_select(-2, index_P)


def _spread(cache: Any, held_P: NDArray[np.int64], path_P: NDArray[np.int64]) -> None:
    """Lay cached columns (of the nodes `held_P`) where they stand among `path_P`, with zeros between them."""
    index_P = torch.from_numpy(np.searchsorted(path_P, held_P))
    for layer in cache.layers:
        for name in ("keys", "values"):
            old = getattr(layer, name)
            new = old.new_zeros((*old.shape[:-2], len(path_P), old.shape[-1]))
            setattr(layer, name, new.index_copy_(-2, index_P.to(old.device), old))
