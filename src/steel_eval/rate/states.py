"""A conversation as a vector: RDS+, arXiv 2503.01807 (apart: the other ratings need no hidden states).

The mean of the last hidden states of all its tokens, a token's weight growing with its place (1, 2, 3, …), brought to
unit length (Ivison et al. 2025).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_eval.models import Loaded

_TOKENS = 4096  # of one pass, padding included


def vectors(loaded: Loaded, rows: Sequence[dict[str, Any]]) -> list[NDArray[np.float16] | None]:
    """Return the vector of each row (`messages`, `tools`); None where the template can make nothing of it."""
    import torch

    from steel_train.examples.encode import Encoder

    encoder = Encoder(loaded.tokenizer, loaded.max_length)
    ids = [e.examples[0].ids if e.examples else None for e in encoder.encode(list(rows))]
    found: list[NDArray[np.float16] | None] = [None] * len(rows)
    order = sorted((i for i, one in enumerate(ids) if one is not None), key=lambda i: len(ids[i]))  # type: ignore[arg-type]
    mixes = "softmoe" in str(getattr(loaded.model.config.get_text_config(), "FFN_type", ""))
    with torch.inference_mode():
        while order:
            # the longest first; a causal model does not see what is filled up behind a row
            length = len(ids[order[-1]])  # type: ignore[arg-type]
            batch = [order.pop() for _ in range(min(len(order), 1 if mixes else max(1, _TOKENS // length)))]
            ids_BL = torch.zeros(len(batch), length, dtype=torch.long)
            weight_BL = torch.zeros(len(batch), length)
            for b, i in enumerate(batch):
                mine = torch.from_numpy(np.asarray(ids[i], np.int64))
                ids_BL[b, : len(mine)] = mine
                weight_BL[b, : len(mine)] = torch.arange(1, len(mine) + 1)
            device = loaded.model.device
            output = loaded.model(
                input_ids=ids_BL.to(device), use_cache=False, output_hidden_states=True, logits_to_keep=1
            )
            state_BLD, weight_BL = output.hidden_states[-1].float(), weight_BL.to(device)
            mean_BD = (state_BLD * weight_BL[..., None]).sum(1) / weight_BL.sum(1, keepdim=True)
            unit_BD = torch.nn.functional.normalize(mean_BD, dim=-1).cpu().numpy().astype(np.float16)
            for b, i in enumerate(batch):
                found[i] = unit_BD[b]
    return found
