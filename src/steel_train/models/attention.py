"""Attention that keeps the rows of a packed batch apart (apart: transformers calls it by name, from any model)."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

ATTENTION = "steel_segments"


def segment_attention(
    module: torch.nn.Module,
    query_BHSD: torch.Tensor,
    key_BKSD: torch.Tensor,
    value_BKSD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each segment of a packed row (B = 1), by torch's own kernel, one segment at a time.

    Options: `segment_lengths` (lengths that sum to S), `scaling`, `dropout`, `sliding_window` (tokens a query looks
    back). Returns (1, S, H, D) and no weights.
    """
    lengths = options.get("segment_lengths") or (query_BHSD.shape[2],)
    window = options.get("sliding_window")
    # split, not slices: its backward is one concatenation instead of a full-size tensor for each segment
    parts = zip(*(x.split(lengths, dim=2) for x in (query_BHSD, key_BKSD, value_BKSD)), strict=True)
    outputs = []
    for query, key, value in parts:
        mask = _window_mask(query, window) if window is not None and query.shape[2] > window else None
        outputs.append(
            F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None, scale=options.get("scaling"),
                dropout_p=options.get("dropout", 0.0) if module.training else 0.0,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )  # fmt: skip
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _window_mask(query: torch.Tensor, window: int) -> torch.Tensor:
    """Return which keys each query sees, (S, S): itself and the `window` - 1 before it."""
    place = torch.arange(query.shape[2], device=query.device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


def register_attention() -> None:
    """Make `segment_attention` known to transformers as `attn_implementation="steel_segments"`."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, segment_attention)
