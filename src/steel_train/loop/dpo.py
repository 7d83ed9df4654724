"""The loss of direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) on pairs of examples.

Examples 2u and 2u + 1 are the chosen and the rejected answer of pair u. With the log-likelihoods of policy p and
reference r:
    loss = -log sigmoid(beta * ((p_chosen - r_chosen) - (p_rejected - r_rejected)))
The reference is the model as it stands before the first step; its log-likelihoods are computed once and kept.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from steel_data.files import atomic
from steel_train.loop.trainer import RowLoss, negative_log_likelihoods
from steel_train.schedule.batches import Steps, collate


def dpo_loss(reference_N: torch.Tensor, beta: float) -> RowLoss:
    """Return a row loss: pairs of examples in, the pair's loss at the chosen one and 0 at the rejected one out.

    `reference_N`: negative log-likelihoods of all examples under the reference, float32.
    """

    def row_loss(losses_E: torch.Tensor, rows_E: torch.Tensor) -> torch.Tensor:
        margin_E = reference_N[rows_E].to(losses_E.device) - losses_E  # log-likelihood above the reference's
        chosen, rejected = margin_E[0::2], margin_E[1::2]
        pair = -F.logsigmoid(beta * (chosen - rejected))
        return torch.stack([pair, torch.zeros_like(pair)], dim=1).reshape(-1)

    return row_loss


def sft_loss(losses_E: torch.Tensor, rows_E: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihoods themselves: the row loss of supervised fine-tuning."""
    return losses_E


def reference_log_likelihoods(trainer: Any, steps: Steps, file: Path) -> torch.Tensor:
    """Return the reference's negative log-likelihood of every example, (N,) float32, kept in `file` for resuming."""
    if not file.is_file():
        found = _compute(trainer, steps)
        if trainer.is_world_process_zero():
            with atomic(file) as temporary, temporary.open("wb") as handle:
                np.save(handle, found)
        trainer.accelerator.wait_for_everyone()
    return torch.from_numpy(np.load(file))


def _compute(trainer: Any, steps: Steps) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Run the model over all pairs once, each process over its share."""
    accelerator, examples = trainer.accelerator, steps.examples
    device, model = trainer.args.device, trainer.model.to(trainer.args.device).eval()
    found = np.zeros(len(examples.table), np.float32)
    mine = range(accelerator.process_index, examples.units, accelerator.num_processes)
    size = steps.schedule.micro_batch
    with torch.no_grad(), trainer.compute_loss_context_manager(), accelerator.autocast():
        for first in range(0, len(mine), size):
            batch = collate(examples, list(mine[first : first + size]), steps.schedule.room is not None, steps.pad_id)
            found[batch.rows_E.numpy()] = negative_log_likelihoods(model, batch, device).cpu().numpy()
    if accelerator.num_processes > 1:
        found = accelerator.reduce(torch.from_numpy(found).to(device), "sum").cpu().numpy()
    return found
