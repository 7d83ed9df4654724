"""What is minimised: a function of the log-likelihoods of a pass's examples. Shapes: E examples, P = E / 2 pairs.

Supervised fine-tuning takes them as they are. Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290):
examples 2u and 2u + 1 are the chosen and the rejected answer of pair u. With the log-likelihoods of policy p and
reference r:
    loss = -log sigmoid(beta * ((p_chosen - r_chosen) - (p_rejected - r_rejected)))
The reference is the model as it stands before the first step; its log-likelihoods are computed once and kept.

Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306, equation 7) learns from single answers judged
good or bad. With gain = p - r of an answer, and level = max(0, mean gain of the step's prompts with others' answers):
    good: w_good * (1 - sigmoid(beta * (gain - level))), bad: w_bad * (1 - sigmoid(beta * (level - gain)))
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from steel_data.engine import progress
from steel_data.files import atomic
from steel_train.schedule.batches import MicroBatch, Steps, collate
from steel_train.settings import Kto

# (E,) negative log-likelihoods and the examples' numbers -> (Q, E): the loss, then what is only measured
RowLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


_AT_ONCE = 1_024  # units that are laid out together


def negative_log_likelihoods(model: torch.nn.Module, batch: MicroBatch, device: torch.device) -> torch.Tensor:
    """Return the negative log-likelihood of each example of a pass, summed over its learnt tokens: (E,) float32."""
    inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.inputs.items()}
    output = model(**inputs, fused_lm_head=True)
    segment = batch.segment_BS[:, 1:].to(device).reshape(-1)
    # in float64, where there is one: a GPU adds in no fixed order, and a resumed run is to log the same losses
    wide = torch.float32 if device.type == "mps" else torch.float64
    losses_E = torch.zeros(len(batch.rows_E), device=device, dtype=wide)
    # zero where nothing is learnt
    return losses_E.index_add(0, segment, -output.log_probs.reshape(-1).to(wide)).float()


def likelihoods_of_all(trainer: Any, steps: Steps) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (rows_E, their negative log-likelihoods) of this process's share of all examples, without a gradient.

    The model is left in evaluation mode; the next training step ends that.
    """
    accelerator, schedule = trainer.accelerator, steps.schedule
    device, model = trainer.args.device, trainer.model.to(trainer.args.device).eval()
    for first in range(0, steps.examples.units, _AT_ONCE):
        units = np.arange(first, min(first + _AT_ONCE, steps.examples.units))
        for group in schedule.layout(units)[accelerator.process_index :: accelerator.num_processes]:
            if not group:
                continue
            batch = collate(steps.examples, group, schedule.room is not None, steps.pad_id)
            with torch.no_grad(), trainer.compute_loss_context_manager(), accelerator.autocast():
                yield batch.rows_E, negative_log_likelihoods(model, batch, device)


# what is measured of a pair beside its loss: how much more the chosen answer gained, and whether it did
MEASURES = ("margin", "accuracy")


def dpo_loss(reference_N: torch.Tensor, beta: float) -> RowLoss:
    """Return a row loss: pairs of examples in, the pair's loss at the chosen one and 0 at the rejected one out.

    `reference_N`: negative log-likelihoods of all examples under the reference, float32. The measures are the margin of
    the rewards, beta * (gain of the chosen - gain of the rejected), and whether it is above 0.
    """

    def row_loss(losses_E: torch.Tensor, rows_E: torch.Tensor) -> torch.Tensor:
        margin_E = reference_N[rows_E].to(losses_E.device) - losses_E  # log-likelihood above the reference's
        chosen, rejected = margin_E[0::2], margin_E[1::2]
        margin = beta * (chosen - rejected)
        return at_chosen(-F.logsigmoid(margin), margin)

    return row_loss


# of a judged answer: how far beyond the level it moved the right way, whether it did, and the level
JUDGED_MEASURES = ("margin", "accuracy", "kl")


@dataclass
class KtoLoss:
    """The row loss of KTO, given the level of the step (`set_level`) before its passes.

    `reference_N`, `reference_other_N`: negative log-likelihoods under the reference of all N answers, and of the same
    prompts with the answers of others, whose passes are `others`. `good_N`: which answers were judged good.
    """

    reference_N: torch.Tensor
    reference_other_N: torch.Tensor
    good_N: torch.Tensor
    others: Steps
    settings: Kto
    level: float = 0.0

    def gained(self, losses_E: torch.Tensor, rows_E: torch.Tensor) -> torch.Tensor:
        """Return how much likelier the answers of others became since the reference, summed: a scalar, float64."""
        return (self.reference_other_N[rows_E].to(losses_E.device) - losses_E).double().sum()

    def set_level(self, gained: float, rows: int) -> None:
        """Take the mean gain of the answers of others over `rows` rows, 0 if it is below, as the level."""
        self.level = max(gained / max(rows, 1), 0.0)

    def __call__(self, losses_E: torch.Tensor, rows_E: torch.Tensor) -> torch.Tensor:
        """Return loss, margin, accuracy and level of each answer: (4, E)."""
        own, good_E = self.settings, self.good_N[rows_E].to(losses_E.device)
        gain_E = self.reference_N[rows_E].to(losses_E.device) - losses_E
        margin_E = own.beta * torch.where(good_E, gain_E - self.level, self.level - gain_E)
        weight_E = torch.where(good_E, own.desirable_weight, own.undesirable_weight)
        measured = margin_E.detach()
        level_E = torch.full_like(measured, self.level)
        return torch.stack([weight_E * torch.sigmoid(-margin_E), measured, (measured > 0).to(measured.dtype), level_E])


def simpo_loss(learnt_N: torch.Tensor, beta: float, gamma: float) -> RowLoss:
    """Return the row loss of SimPO: -log sigmoid(beta * (mean of chosen - mean of rejected) - gamma).

    Means are of the log-likelihood of an answer's tokens; `learnt_N`: how many each example has. The margin is the
    scaled difference of the means, without gamma (Meng et al. 2024, arXiv 2405.14734).
    """

    def row_loss(losses_E: torch.Tensor, rows_E: torch.Tensor) -> torch.Tensor:
        mean_E = -losses_E / learnt_N[rows_E].to(losses_E.device)
        margin = beta * (mean_E[0::2] - mean_E[1::2])
        return at_chosen(-F.logsigmoid(margin - gamma), margin)

    return row_loss


def orpo_loss(learnt_N: torch.Tensor, beta: float) -> RowLoss:
    """Return the row loss of ORPO: the chosen answer's mean loss - beta * log sigmoid(log of the ratio of odds).

    Odds are p / (1 - p) of the mean probability of a token, p = exp(mean log-likelihood). The margin is beta times the
    log of the ratio (Hong et al. 2024, arXiv 2403.07691).
    """

    def row_loss(losses_E: torch.Tensor, rows_E: torch.Tensor) -> torch.Tensor:
        # below 0, where log(1 - p) has no value
        mean_E = (-losses_E / learnt_N[rows_E].to(losses_E.device)).clamp(max=-1e-6)
        odds_E = mean_E - torch.log(-torch.expm1(mean_E))
        ratio = odds_E[0::2] - odds_E[1::2]
        return at_chosen(-mean_E[0::2] - beta * F.logsigmoid(ratio), beta * ratio)

    return row_loss


def at_chosen(loss_P: torch.Tensor, margin_P: torch.Tensor) -> torch.Tensor:
    """Return loss, margin and accuracy of pairs at their chosen examples, 0 at the rejected ones: (3, 2P)."""
    each_QP = torch.stack([loss_P, margin_P.detach(), (margin_P > 0).to(loss_P.dtype)])
    return torch.stack([each_QP, torch.zeros_like(each_QP)], dim=2).flatten(1)


def sft_loss(losses_E: torch.Tensor, rows_E: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihoods themselves, (1, E): the row loss of supervised fine-tuning."""
    return losses_E[None]


def reference_log_likelihoods(trainer: Any, steps: Steps, file: Path) -> torch.Tensor:
    """Return the reference's negative log-likelihood of every example, (N,) float32, kept in `file` for resuming."""
    if not file.is_file():
        found = np.zeros(len(steps.examples.table), np.float32)
        with progress("reference", len(found), "answers") as advance:
            for rows_E, losses_E in likelihoods_of_all(trainer, steps):
                found[rows_E.numpy()] = losses_E.cpu().numpy()
                advance(len(rows_E))
        if trainer.accelerator.num_processes > 1:
            found = trainer.accelerator.reduce(torch.from_numpy(found).to(trainer.args.device), "sum").cpu().numpy()
        if trainer.is_world_process_zero():
            with atomic(file) as temporary, temporary.open("wb") as handle:
                np.save(handle, found)
        trainer.accelerator.wait_for_everyone()
    return torch.from_numpy(np.load(file))
