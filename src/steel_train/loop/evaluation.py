"""Looks at the rows that are held out while a run trains: their loss, when to stop, and answers to fixed questions.

Nothing of a look reaches the training: no gradient, no random number, and the window of the log is another one.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steel_train.loop.losses import KtoLoss, RowLoss, likelihoods_of_all
from steel_train.loop.metrics import Window
from steel_train.models.load import padded_attention
from steel_train.schedule.batches import Steps
from steel_train.schedule.order import Schedule
from steel_train.settings import Settings

_COST = 0.025  # of the time, at the default interval
# what a forward pass costs of a step: the backward pass is as long again for each of activations and weights
_FORWARD = {False: 1 / 3, True: 1 / 2}
_ANSWER = 64  # tokens
_KEPT = ("step", "loss", "best_step", "best_loss", "waited")


def interval(settings: Settings, schedule: Schedule, held_out: Schedule) -> int:
    """Return the steps between two looks: as the recipe says, else as few as cost at most 3 % of the time (counted)."""
    if settings.eval is not None and settings.eval.every is not None:
        return settings.eval.every
    a_step = float(schedule.lengths.sum() / schedule.steps_per_epoch)
    return max(math.ceil(_FORWARD[settings.uses_lora] * float(held_out.lengths.sum()) / (_COST * a_step)), 1)


@dataclass
class Evaluation:
    """The looks of one run, `every` so many steps; `patience`: looks without a new best after which it stops.

    `weights` (N,): what an example's loss is a mean over. `step`, `loss`: of the last look; `best_step`,
    `best_loss`: of the best so far; `waited`: looks since.
    """

    steps: Steps
    row_loss: RowLoss
    weights: np.ndarray[Any, np.dtype[np.int64]]
    measures: tuple[str, ...]
    every: int
    patience: int | None = None
    prompts: tuple[str, ...] = ()
    step: int = 0
    loss: float = math.inf
    best_step: int = 0
    best_loss: float = math.inf
    waited: int = 0

    @property
    def is_over(self) -> bool:
        """Return whether the run is to stop."""
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON data; nothing before the first look."""
        if not self.step:
            return {}
        return {name: getattr(self, name) for name in _KEPT}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        for name in _KEPT:
            setattr(self, name, state.get(name, getattr(self, name)))

    def look(self, trainer: Any, step: int) -> dict[str, Any]:
        """Return `eval_loss`, `eval_loss_by_source`, `eval_loss_by_kind`, measures, and `answers` to the prompts."""
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            window = self._window(trainer)
            answers = self._answers(trainer) if self.prompts and trainer.is_world_process_zero() else {}
        found = {f"eval_{key}": value for key, value in window.means().items()}
        self.step, self.loss = step, float(found["eval_loss"])
        if self.loss < self.best_loss:
            self.best_step, self.best_loss, self.waited = step, self.loss, 0
        else:
            self.waited += 1
        return found | ({"answers": answers} if answers else {})

    def _window(self, trainer: Any) -> Window:
        window = Window(self.steps.examples, self.weights, self.measures)
        sums_QG = np.zeros_like(window.losses)
        if isinstance(self.row_loss, KtoLoss):
            self._set_level(self.row_loss, trainer)
        for rows_E, likelihoods_E in likelihoods_of_all(trainer, self.steps):
            losses_QE = self.row_loss(likelihoods_E, rows_E).double().cpu().numpy()
            sums_QG += window.sums(rows_E.numpy(), losses_QE)
        if trainer.accelerator.num_processes > 1:
            device = trainer.args.device
            sums_QG = trainer.accelerator.reduce(torch.from_numpy(sums_QG).to(device), "sum").cpu().numpy()
        window.add(sums_QG, np.arange(len(self.weights)), tokens=0)
        return window

    def _set_level(self, loss: KtoLoss, trainer: Any) -> None:
        gained = torch.zeros((), dtype=torch.float64)
        for rows_E, likelihoods_E in likelihoods_of_all(trainer, loss.others):
            gained += loss.gained(likelihoods_E, rows_E).cpu()
        if trainer.accelerator.num_processes > 1:
            gained = trainer.accelerator.reduce(gained.to(trainer.args.device), "sum")
        loss.set_level(float(gained), len(self.weights))

    def _answers(self, trainer: Any) -> dict[str, str]:
        """Return what the model answers to each prompt, greedily."""
        model, tokenizer = trainer.accelerator.unwrap_model(trainer.model).eval(), trainer.processing_class
        attention = model.config._attn_implementation
        answers = {}
        try:
            # that of packed rows knows no cache
            model.set_attn_implementation(padded_attention(model.config))
            for prompt in self.prompts:
                asked = tokenizer.apply_chat_template(
                    [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt",
                    return_dict=True,
                ).to(trainer.args.device)  # fmt: skip
                with torch.no_grad(), trainer.accelerator.autocast():
                    said = model.generate(**asked, max_new_tokens=_ANSWER, do_sample=False)
                answers[prompt] = tokenizer.decode(said[0, asked["input_ids"].shape[1] :])
        finally:
            model.set_attn_implementation(attention)
        return answers
