"""Attention that keeps the rows of a packed batch apart; transformers calls it by name, from any model.

On a GPU in half precision all rows go through torch's variable-length kernel in one call. Elsewhere, and where a model
caps its scores or has attention sinks, which that kernel has no place for, they go through one by one.
"""

import inspect
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

ATTENTION = "steel_segments"
_HALF = (torch.bfloat16, torch.float16)


def segment_attention(
    module: torch.nn.Module,
    query_BHSD: torch.Tensor,
    key_BKSD: torch.Tensor,
    value_BKSD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each segment of a packed row (B = 1).

    Options: `segment_lengths` (lengths that sum to S), `scaling`, `dropout`, `sliding_window` (tokens a query looks
    back), `softcap` (bound of the scores), `s_aux` (sinks, one a head). Returns (1, S, H, D) and no weights.
    """
    query_BHSD, key_BKSD, value_BKSD = _as_computed(query_BHSD, key_BKSD, value_BKSD)
    lengths = options.get("segment_lengths") or (query_BHSD.shape[2],)
    window, softcap, sinks = (options.get(name) for name in ("sliding_window", "softcap", "s_aux"))
    dropout = options.get("dropout", 0.0) if module.training else 0.0
    plain = softcap is None and sinks is None
    if plain and not dropout and query_BHSD.is_cuda and query_BHSD.dtype in _HALF and (kernel := _kernel()) is not None:
        return _at_once(kernel, query_BHSD, key_BKSD, value_BKSD, options), None
    # split, not slices: its backward is one concatenation instead of a full-size tensor for each segment
    parts = zip(*(x.split(lengths, dim=2) for x in (query_BHSD, key_BKSD, value_BKSD)), strict=True)
    outputs = []
    for query, key, value in parts:
        if plain:
            mask = _window_mask(query, window) if window is not None and query.shape[2] > window else None
            outputs.append(
                F.scaled_dot_product_attention(
                    query, key, value, attn_mask=mask, is_causal=mask is None, scale=options.get("scaling"),
                    dropout_p=dropout, enable_gqa=query.shape[1] != key.shape[1],
                )
            )  # fmt: skip
        else:
            scores = _capped_scores(query, key, options.get("scaling"), softcap)
            scores = scores.masked_fill(~_window_mask(query, window or query.shape[2]), -torch.inf)
            shares = F.dropout(_shares(scores, sinks).to(value.dtype), dropout)
            outputs.append(shares @ value.repeat_interleave(query.shape[1] // value.shape[1], dim=1))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _as_computed(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return queries, keys and values in the type that autocast computes in, where it is on.

    Over float32 weights the rotary tables are float32 and turn queries and keys into it. Torch's own attention casts
    them back; a variable-length kernel has to be given them so. On an H200 rows went through one by one instead.
    """
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in tensors)


def _capped_scores(query: torch.Tensor, key: torch.Tensor, scale: float | None, softcap: float | None) -> torch.Tensor:
    """Return the scores of each query, (1, H, S, S), squeezed between -softcap and softcap (Gemma 2)."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ key.transpose(2, 3) * (scale if scale is not None else query.shape[-1] ** -0.5)
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _shares(scores_1HSS: torch.Tensor, sinks_H: torch.Tensor | None) -> torch.Tensor:
    """Return the softmax of scores; a sink takes its share of each query's attention and gives nothing (gpt-oss)."""
    if sinks_H is None:
        return scores_1HSS.float().softmax(-1)
    sinks = sinks_H.reshape(1, -1, 1, 1).expand(*scores_1HSS.shape[:3], 1)
    return torch.cat([scores_1HSS, sinks], dim=-1).float().softmax(-1)[..., :-1]


@cache
def _kernel() -> Any:
    """Return torch's variable-length attention, or None where this torch has none that takes a window."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


def _at_once(
    kernel: Any, query_BHSD: torch.Tensor, key_BKSD: torch.Tensor, value_BKSD: torch.Tensor, options: dict[str, Any]
) -> torch.Tensor:
    """Return the attention of all segments, (1, S, H, D), in one call of torch's variable-length kernel."""
    takes = inspect.signature(kernel).parameters
    groups = query_BHSD.shape[1] // key_BKSD.shape[1]
    if groups > 1 and "enable_gqa" not in takes:
        key_BKSD, value_BKSD = (x.repeat_interleave(groups, dim=1) for x in (key_BKSD, value_BKSD))
    query, key, value = (x[0].transpose(0, 1) for x in (query_BHSD, key_BKSD, value_BKSD))
    bounds, longest = options.get("cu_seq_lens_q"), options.get("max_length_q")
    if bounds is None or longest is None:  # one row
        longest = query.shape[0]
        bounds = torch.tensor([0, longest], dtype=torch.int32, device=query.device)
    window = options.get("sliding_window")
    out: torch.Tensor = kernel(
        query, key, value, bounds, bounds, longest, longest, scale=options.get("scaling"),
        window_size=(-1 if window is None else window - 1, 0),
        **({"enable_gqa": groups > 1} if "enable_gqa" in takes else {}),
    )  # fmt: skip
    return out[None]


def _window_mask(query: torch.Tensor, window: int) -> torch.Tensor:
    """Return which keys each query sees, (S, S): itself and the `window` - 1 before it."""
    place = torch.arange(query.shape[2], device=query.device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


def register_attention() -> None:
    """Make `segment_attention` known to transformers as `attn_implementation="steel_segments"`."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, segment_attention)
