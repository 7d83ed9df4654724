"""The proof that packing keeps rows apart: two short rows packed against the same rows alone, on the model itself.

What a library says of a model is not enough: layers that mix a row without attention (short convolutions, Mamba) know
nothing of boundaries, and an attention of another form may pass over what a model asks of it (a cap, sinks, chunks).
Both give wrong logits in silence. Two forward passes of some tens of tokens show it.
"""

from typing import Any

import torch

from steel_data.errors import first_line
from steel_train.schedule.batches import packed_inputs

# Largest difference of a logit, as a share of the largest logit: rounding is 1e-6 in float32, 1e-2 in bfloat16.
TOLERANCE = {False: 1e-4, True: 4e-2}
# In bfloat16 it grows with depth: 5 % in 28 layers of a random 7B, with nothing mixed (H200, 2026-11-27). So up to
# here it may be three times what the rows show alone, by one attention and the other. A cap left out makes more.
MOST_ROUNDING, TIMES = 0.15, 3.0
_SHORT, _LONGEST = 12, 256  # tokens of a row; the longest that is made to exceed a window


def mixing_fault(model: Any, bf16: bool) -> str | None:
    """Return how a packed pass differs from rows on their own (attention by the model's own code), or None.

    `bf16`: whether the model is going to run in bfloat16 on a GPU; on a CPU the proof is in the weights' type.
    """
    half = (bf16 and torch.cuda.is_available()) or model.dtype != torch.float32
    try:
        share = logit_difference(model, half)
        rounding = logit_difference(model, half, packed=False) if half and share > TOLERANCE[half] else 0.0
    except Exception as error:  # a model that cannot take a packed row says so in its own way
        return f"{model.config.model_type} fails on packed rows: {first_line(error, 80)}"
    if share <= TOLERANCE[half] or share <= min(TIMES * rounding, MOST_ROUNDING):
        return None
    return f"{model.config.model_type} mixes rows: packed, its logits differ by {share:.1g} of the largest"


def logit_difference(model: Any, half: bool = False, packed: bool = True) -> float:
    """Return the largest difference of a logit between rows packed and alone, as a share of the largest logit.

    `half`: under bfloat16 autocast, where there is a GPU. Not `packed`: both alone, and only the attention differs.
    """
    was_training, attention = model.training, model.config._attn_implementation
    model.eval()
    try:
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=half and torch.cuda.is_available()):
            rows = _rows(model)
            groups = [rows] if packed else [[row] for row in rows]
            together = torch.cat([_logits(model, _laid(group)) for group in groups])
            model.set_attn_implementation("eager")
            alone = torch.cat([_logits(model, {"input_ids": row[None]}) for row in rows])
    finally:
        model.set_attn_implementation(attention)
        model.train(was_training)
    return float((together - alone).abs().max() / alone.abs().max().clamp_min(1e-12))


def _laid(rows: list[torch.Tensor]) -> dict[str, Any]:
    """Return a packed pass of rows, as the model takes it."""
    inputs, _ = packed_inputs(rows, rows, [len(row) for row in rows])
    del inputs["labels"]
    return inputs


def _rows(model: Any) -> list[torch.Tensor]:
    """Return two rows of random tokens, longer than a window or chunk of the model where that is short."""
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) or 0 for name in ("sliding_window", "attention_chunk_size")]
    length = max([_SHORT, *(limit + 4 for limit in limits if isinstance(limit, int) and limit < _LONGEST)])
    length = min(length, (getattr(config, "max_position_embeddings", None) or length + 3) - 3)
    made = torch.Generator().manual_seed(0)
    return [torch.randint(config.vocab_size, (size,), generator=made) for size in (length, length + 3)]


def _logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Return the logits of all tokens, (T, vocabulary), in float32."""
    placed = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    logits: torch.Tensor = model(**placed, use_cache=False).logits[0].float()
    return logits
