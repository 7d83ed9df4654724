"""Looks at the rows that are held out while a run trains: their loss, when to stop, and answers to fixed questions.

Nothing of a look reaches the training: no gradient, no random number, and the window of the log is another one.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from steel_train.tasks import SUMS, Scorer

_COST = 0.025  # of the time, at the default interval
# what a forward pass costs of a step: the backward pass is as long again for each of activations and weights
_FORWARD = {False: 1 / 3, True: 1 / 2}
# what a token of a task costs beside one of a held-out row: its passes are short and masked (docs/training.md)
_SCORED = 1.6
_ANSWER = 64  # tokens
_KEPT = ("step", "loss", "best_step", "best_loss", "waited")


def interval(settings: Settings, schedule: Schedule, held_out: Schedule, more: int = 0) -> int:
    """Return the steps between two looks: as the recipe says, else as few as cost at most 3 % of the time (counted).

    `more`: tokens of tasks that a look forwards besides the rows held out.
    """
    if settings.eval is not None and settings.eval.every is not None:
        return settings.eval.every
    return max(math.ceil(cost(settings, schedule, held_out, more) / _COST), 1)


def cost(settings: Settings, schedule: Schedule, held_out: Schedule, more: int = 0) -> float:
    """Return what a look costs, counted in steps. The arguments are those of `interval`."""
    a_step = float(schedule.lengths.sum() / schedule.steps_per_epoch)
    return _FORWARD[settings.uses_lora] * float(held_out.lengths.sum() + _SCORED * more) / a_step


@dataclass
class Evaluation:
    """The looks of one run, `every` so many steps; `patience`: looks without a new best after which it stops.

    `weights` (N,): what an example's loss is a mean over. `step`, `loss`: of the last look; `best_step`,
    `best_loss`: of the best so far; `waited`: looks since. `scorer`: scores `tasks` on the model, None: there are none.
    `seconds`: what the looks of this process took.
    """

    steps: Steps
    row_loss: RowLoss
    weights: np.ndarray[Any, np.dtype[np.int64]]
    measures: tuple[str, ...]
    every: int
    patience: int | None = None
    prompts: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    scorer: Scorer | None = None
    seconds: float = 0.0
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
        """Return `eval_loss`, `eval_loss_by_source`, `eval_loss_by_kind`, measures; of tasks `eval_task_accuracy` and
        `eval_task_gold_probability`; and `answers` to the prompts.
        """
        began = time.monotonic()
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            window = self._window(trainer)
            scores = self._scores(trainer) if self.scorer is not None else {}
            answers = self._answers(trainer) if self.prompts and trainer.is_world_process_zero() else {}
        found = {f"eval_{key}": value for key, value in window.means().items()}
        self.step, self.loss = step, float(found["eval_loss"])
        if self.loss < self.best_loss:
            self.best_step, self.best_loss, self.waited = step, self.loss, 0
        else:
            self.waited += 1
        self.seconds += time.monotonic() - began
        return found | scores | ({"answers": answers} if answers else {})

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
        tokenizer, answers = trainer.processing_class, {}
        with _unpacked(trainer) as model:
            for prompt in self.prompts:
                asked = _asked(prompt, tokenizer).to(trainer.args.device)
                with torch.no_grad(), trainer.accelerator.autocast():
                    said = model.generate(**asked, max_new_tokens=_ANSWER, do_sample=False)
                answers[prompt] = tokenizer.decode(said[0, asked["input_ids"].shape[1] :])
        return answers

    def _scores(self, trainer: Any) -> dict[str, dict[str, float]]:
        """Return the scores of each task, all processes' questions together."""
        assert self.scorer is not None
        accelerator = trainer.accelerator
        with _unpacked(trainer) as model, accelerator.autocast():
            sums = self.scorer(model, accelerator.process_index, accelerator.num_processes)
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(torch.from_numpy(sums).to(trainer.args.device), "sum").cpu().numpy()
        means = dict(zip(SUMS, (sums / np.maximum(sums[:, :1], 1)).T.tolist(), strict=True))
        # named apart from `eval_accuracy`, which of pairs says how often the chosen answer won
        measured = ("accuracy", "gold_probability")
        return {f"eval_task_{name}": dict(zip(self.tasks, means[name], strict=True)) for name in measured}


def _asked(prompt: str, tokenizer: Any) -> Any:
    """Return a prompt in tokens: as a question, or as the beginning of a text where there is no chat template."""
    if not tokenizer.chat_template:
        return tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    turns = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)


@contextmanager
def _unpacked(trainer: Any) -> Iterator[Any]:
    """Yield the model in evaluation mode, with the attention of padded rows: that of packed rows knows no cache."""
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    attention = model.config._attn_implementation
    try:
        model.set_attn_implementation(padded_attention(model.config))
        yield model
    finally:
        model.set_attn_implementation(attention)
