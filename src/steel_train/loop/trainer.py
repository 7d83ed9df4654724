"""TRL's SFTTrainer with a step of our own: one data item is the whole accumulated step of one process.

Why a step and not a micro batch: the divisor of the loss is then known before the first backward pass, from the rows
themselves, whatever the model's signature says (transformers#34191 and its successors: the mean of micro-batch means is
not the mean). Shapes: E examples of a pass, B rows and S positions of it.
"""

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import get_peft_model_state_dict
from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from steel_data.errors import InputError, excerpt, first_line
from steel_train.loop.checkpoints import WRITING, checkpoint_name, finish, keep_only, narrow, prune, wide_weights
from steel_train.loop.evaluation import Evaluation
from steel_train.loop.losses import KtoLoss, RowLoss, negative_log_likelihoods
from steel_train.loop.metrics import Metrics, Window, flat
from steel_train.models.dtypes import uses_bf16
from steel_train.models.optimiser import OURS, MuonAdamW, make_optimiser
from steel_train.say import say
from steel_train.schedule.batches import MicroBatch, Steps
from steel_train.schedule.order import Schedule
from steel_train.settings import Settings

_DECAY = 0.1  # share of the steps in which wsd falls


@dataclass
class Job:
    """What the trainer needs besides TRL's own arguments.

    `facts(step)` is what a checkpoint says of itself. `stop` is set by a signal. `evaluation`: looks at rows held out.
    `saved_as`: type of all weights in checkpoints. `advance` is called with 1 after each step.
    """

    folder: Path
    settings: Settings
    steps: Steps
    window: Window
    row_loss: RowLoss
    facts: Callable[[int], dict[str, Any]]
    stop: list[int]
    evaluation: Evaluation | None = None
    saved_as: torch.dtype = torch.float32
    advance: Callable[[int], None] = lambda _: None


def arguments(settings: Settings, schedule: Schedule, folder: Path, seed: int) -> Any:
    """Return TRL's SFTConfig: batches, order, saving and masks are ours, so it is told to leave them alone."""
    scheduler, shape = _scheduler(settings, schedule.steps)
    theirs = settings.optimizer in ("adamw_8bit", "adafactor")
    chosen: dict[str, Any] = {"optim": settings.optimizer} if theirs else {}
    return SFTConfig(
        output_dir=str(folder / "checkpoints" / WRITING),
        per_device_train_batch_size=1,  # one item is a whole step
        gradient_accumulation_steps=1,
        max_steps=schedule.steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=scheduler,
        lr_scheduler_kwargs=shape,
        neftune_noise_alpha=settings.neftune_alpha,
        warmup_steps=round(settings.warmup * schedule.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=uses_bf16(settings),
        gradient_checkpointing=settings.gradient_checkpointing,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        save_strategy="no",  # _SaveAndStop decides
        report_to=settings.report_to,
        **chosen,
        run_name=folder.name,
        seed=seed,
        data_seed=seed,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        use_cpu=not torch.accelerator.is_available(),
        disable_tqdm=True,
        log_level="warning",
    )


def _scheduler(settings: Settings, steps: int) -> tuple[str, dict[str, Any]]:
    """Return transformers' name of the schedule and what shapes it."""
    floor = settings.min_lr_ratio
    if settings.schedule == "wsd":
        return "warmup_stable_decay", {"num_decay_steps": max(round(_DECAY * steps), 1), "min_lr_ratio": floor}
    if floor:
        return "cosine_with_min_lr", {"min_lr_rate": floor}
    return settings.schedule, {}


class SteelTrainer(SFTTrainer):
    """Trains on `job.steps`; everything but the step, the log and the checkpoint folder is TRL's."""

    # our loss is divided by the whole step's count, so nothing may divide it again
    loss_is_scaled_for_ga: bool | None = True  # type: ignore[assignment]

    def __init__(self, job: Job, **options: Any) -> None:
        self.job = job
        self.metrics_file = Metrics(job.folder)
        self.began = time.monotonic()
        self.begins_longer = False
        self.step_losses: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None = None
        # TRL takes its own kind of data set only: the items are numbers, the collator looks them up
        collator: Any = self._look_up
        items = Dataset.from_dict({"item": range(len(job.steps))})
        super().__init__(train_dataset=items, data_collator=collator, callbacks=[_SaveAndStop(job)], **options)
        for callback in ("PrinterCallback", "ProgressCallback"):
            for found in [c for c in self.callback_handler.callbacks if type(c).__name__ == callback]:
                self.remove_callback(found)

    def _look_up(self, items: list[dict[str, int]]) -> list[MicroBatch]:
        return self.job.steps[items[0]["item"]]

    def create_optimizer(self, model: Any = None) -> Any:
        """Return the optimiser: transformers', or one of models/optimiser.py."""
        name = self.job.settings.optimizer
        if name not in OURS or self.optimizer is not None:
            return super().create_optimizer(model)
        if name == "muon" and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise InputError(
                '[train]: optimizer = "muon" needs whole matrices, and here they are divided. Fix: "lion".'
            )
        net: Any = self.model if model is None else model
        decayed = self.get_decay_parameter_names(net)
        self.optimizer = make_optimiser(net, name, self.args.learning_rate, self.args.weight_decay, decayed)
        if isinstance(self.optimizer, MuonAdamW):
            count, share = self.optimizer.by_muon()
            say(f"muon moves {count} matrices, {share:.0%} of what learns; AdamW moves the rest")
        return self.optimizer

    def training_step(self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Run all passes of one step (a list of MicroBatch); return the process's share of its loss (a scalar)."""
        model.train()
        step = self.state.global_step
        units = self.job.steps.schedule.units(step)
        rows = self.job.steps.examples.members(units)
        scale = self.accelerator.num_processes / float(self.job.window.weights[rows].sum())
        if isinstance(self.job.row_loss, KtoLoss):
            self._set_level(self.job.row_loss, model, len(units))
        total, losses = torch.zeros((), device=self.args.device), []
        for i, batch in enumerate(inputs):
            last = i == len(inputs) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    likelihoods_E = negative_log_likelihoods(model, batch, self.args.device)
                    losses_QE = self.job.row_loss(likelihoods_E, batch.rows_E) * (not batch.spare)
                loss = losses_QE[0].sum() * scale
                if self.is_deepspeed_enabled:  # its engine moves the weights as soon as it takes a gradient for whole
                    self.accelerator.gradient_state._set_sync_gradients(last)
                self.accelerator.backward(loss)
            total += loss.detach()
            losses.append(losses_QE.detach())
        self._account(step, rows, np.concatenate([b.rows_E.numpy() for b in inputs]), torch.cat(losses, dim=1))
        return total

    def _set_level(self, loss: KtoLoss, model: torch.nn.Module, rows: int) -> None:
        """Give KTO the level of the step, of all processes' rows, before its first pass."""
        item = self.state.global_step * self.accelerator.num_processes + self.accelerator.process_index
        gained = torch.zeros((), device=self.args.device, dtype=torch.float64)
        model.eval()  # without dropout and noise: it is a level, not a gradient
        for batch in loss.others[item]:
            with torch.no_grad(), self.compute_loss_context_manager():
                likelihoods_E = negative_log_likelihoods(model, batch, self.args.device)
            gained += loss.gained(likelihoods_E, batch.rows_E) * (not batch.spare)
        model.train()
        if self.accelerator.num_processes > 1:
            gained = self.accelerator.reduce(gained, "sum")
        loss.set_level(float(gained), rows)

    def _account(self, step: int, rows: Any, mine: Any, losses: torch.Tensor) -> None:
        """Add the step to the window, on every process alike, and stop before a bad loss reaches the weights."""
        own = losses.double().cpu().numpy() if losses.device.type != "mps" else losses.cpu().double().numpy()
        self.step_losses = (mine, own[0])
        sums = np.append(self.job.window.sums(mine, own).ravel(), len(self.job.stop))
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(torch.from_numpy(sums).to(self.args.device), "sum").cpu().numpy()
        self.job.stop += [15] * int(sums[-1] > 0)
        if not np.isfinite(sums[:-1]).all():
            raise self._bad_step("the loss")
        tokens = int(self.job.steps.examples.lengths[rows].sum())
        self.job.window.add(sums[:-1].reshape(self.job.window.losses.shape), rows, tokens)

    def _bad_step(self, what: str) -> InputError:
        mine, own = self.step_losses or (np.zeros(0, int), np.zeros(0))
        bad = mine[~np.isfinite(own)]
        named = self.job.steps.examples.table["id"][bad.tolist() if len(bad) else mine.tolist()].unique(
            maintain_order=True
        )
        shown = ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")
        saved = sorted(p.name for p in (self.job.folder / "checkpoints").glob("step-*"))
        return InputError(
            f"{self.job.folder}: {what} is not a number at step {self.state.global_step + 1}; rows: {shown}. The last "
            f"good checkpoint is {saved[-1] if saved else 'none'}. Fix: a lower learning_rate, or look at these rows."
        )

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None and not np.isfinite(float(norm)):
            raise self._bad_step("the gradient")
        return norm

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: the count that transformers keeps expects one batch a step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a line of metrics.jsonl, say it, and hand the numbers to the loggers of `report_to`."""
        if "loss" not in logs:  # the summary at the end of train()
            return
        window, step, schedule = self.job.window, self.state.global_step, self.job.steps.schedule
        seconds, self.began = time.monotonic() - self.began, time.monotonic()
        line = {"step": step, "epoch": round(step / schedule.steps_per_epoch, 6), **window.means()}
        line |= {key: logs[key] for key in ("learning_rate", "grad_norm") if key in logs}
        line |= {"tokens": window.tokens, "tokens_per_second": round(window.tokens / seconds, 1)}
        left = (schedule.steps - step) * seconds / max(window.steps, 1)
        window.reset()
        if self.is_world_process_zero():
            self.metrics_file.append(line)
            say(
                f"step {step:,}/{schedule.steps:,}  epoch {line['epoch']:.2f}  loss {line['loss']:.4f}  "
                f"{line['tokens_per_second']:,.0f} tokens/s  {_clock(left)} left"
            )
        logs.clear()
        logs.update(flat(line))
        self._metrics["train"].clear()
        Trainer.log(self, logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Look at the held-out rows; write a line of metrics.jsonl; stop, or keep what is best, where that is asked."""
        evaluation, step, began = self.job.evaluation, self.state.global_step, time.monotonic()
        assert evaluation is not None
        line: dict[str, Any] = {"step": step, "epoch": round(step / self.job.steps.schedule.steps_per_epoch, 6)}
        line |= evaluation.look(self, step)
        if self.is_world_process_zero():
            self.metrics_file.append(line)
            say(f"step {step:,}  held out: loss {line['eval_loss']:.4f}{_lowest(evaluation)}")
            for task, share in line.get("eval_task_accuracy", {}).items():
                say(f"  {task}: {share:.1%} right, gold probability {line['eval_task_gold_probability'][task]:.3f}")
            for prompt, answer in line.get("answers", {}).items():
                say(f"  {excerpt(prompt, 60)} -> {excerpt(answer, 200)}")
        Trainer.log(self, flat(line))
        self.control.should_evaluate = False
        if evaluation.is_over:
            self.control.should_training_stop = self.control.should_save = True
            say(f"stopped early: {evaluation.waited} looks without a lower loss than at step {evaluation.best_step:,}")
        elif evaluation.patience and evaluation.waited == 0:
            self.control.should_save = True
        self.began += time.monotonic() - began  # tokens a second are those of training
        return {"eval_loss": line["eval_loss"]}

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load a checkpoint; where its weights were narrowed for use, those that training goes on from."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        net: Any = model or self.model
        for tensors in wide_weights(Path(resume_from_checkpoint)):
            net.load_state_dict(tensors, strict=False)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load both; where a finished run is extended, the learning rate of the next step is that of the new length."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if not self.begins_longer:
            return
        scheduler: Any = self.lr_scheduler
        ended = scheduler.get_last_lr()[0]
        rates = [
            base * rate(scheduler.last_epoch)
            for base, rate in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        ]
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates
        name, step = self.job.settings.schedule, scheduler.last_epoch
        say(f"learning rate: {name} over the new length; {rates[0]:.3g} at step {step + 1:,} (it ended at {ended:.3g})")

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint beside the others and rename it when it is whole."""
        step, main = self.state.global_step, self.is_world_process_zero()
        place = self.job.folder / "checkpoints"
        target, written = place / checkpoint_name(step), place / WRITING / f"checkpoint-{step}"
        self.args.output_dir = str(place / WRITING)
        try:
            Trainer._save_checkpoint(self, model, trial)
            self.accelerator.wait_for_everyone()
            if main:
                if (written / "adapter_config.json").is_file():
                    # peft saves none: where to stop is the adapter's to say
                    net: Any = self.accelerator.unwrap_model(model)
                    net.generation_config.save_pretrained(written)
                    if net.active_peft_config.trainable_token_indices and not self.is_fsdp_enabled:
                        keep_only(written, get_peft_model_state_dict(net, save_embedding_layers=False).keys())
                if not self.is_fsdp_enabled:
                    narrow(written, self.job.saved_as)
                (written / "training_args.bin").unlink(missing_ok=True)  # a pickle of paths; nothing reads it
                finish(written, target, self.job.facts(step) | {"window": self.job.window.state()})
                prune(self.job.folder, self.job.settings.keep)
        except (OSError, RuntimeError, SafetensorError) as error:
            if main:
                shutil.rmtree(place / WRITING, ignore_errors=True)
            reason = getattr(error, "strerror", None) or first_line(error)
            raise InputError(
                f"{target}: cannot be written: {reason}. Earlier checkpoints are whole. Fix: free some room and run "
                "the same command to go on."
            ) from error
        self.accelerator.wait_for_everyone()


def is_scheduled(step: int, schedule: Schedule, save_every: int | None) -> bool:
    """Return whether a checkpoint is due at a step: at an epoch's end, at the run's, or every so many steps."""
    return step % schedule.steps_per_epoch == 0 or step == schedule.steps or bool(save_every and step % save_every == 0)


def _lowest(evaluation: Evaluation) -> str:
    """Say how the loss stands to the lowest before."""
    return "" if evaluation.waited == 0 else f" (lowest {evaluation.best_loss:.4f} at step {evaluation.best_step:,})"


class _SaveAndStop(TrainerCallback):
    """Decides after each step whether to save and whether to stop."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step, schedule = state.global_step, self.job.steps.schedule
        every = self.job.settings.save_every
        if is_scheduled(step, schedule, every):
            control.should_save = True
        evaluation = self.job.evaluation
        if evaluation is not None and (control.should_save or step % evaluation.every == 0):
            control.should_evaluate = True
        if step == schedule.steps:
            control.should_log = True
        if self.job.stop:
            control.should_save = control.should_training_stop = True
        self.job.advance(1)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
