"""The pre-flight: what a run is going to do, and the mistakes that would only show after days.

`inspect` gathers facts, `judge` says which of them are faults (the run stops) or warnings. Both work on all examples
(before a run) or on a sample of them (`plan`), which they say.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from steel_data.errors import InputError
from steel_train.examples.folder import Examples
from steel_train.examples.tokenizer import TODAY
from steel_train.kernels.patch import card_of
from steel_train.models.dtypes import saved_dtype
from steel_train.models.optimiser import state_bytes
from steel_train.preflight.costs import Devices, hours, operations_per_token
from steel_train.preflight.memory import Memory, estimate_memory
from steel_train.schedule.batches import collate
from steel_train.schedule.order import Schedule, padded_tokens
from steel_train.settings import Kto, Settings

_STEPS_LOOKED_AT = 200  # for padding and the largest pass
_SMALL = 1_000_000  # parameters below which memory is no question
_GOOD_SHARE = 1.33
_MUCH = 0.05  # a share of rows cut or dropped that deserves a warning


@dataclass
class Report:
    """What a run is going to do. Where only some rows were read, whoever shows counts of them multiplies by `scale`."""

    rows: int
    rows_read: int
    sources: list[dict[str, Any]]
    dropped: dict[str, int]
    cut: int
    examples: int
    tokens: int
    learnt: int
    turns: int
    ends: dict[str, int]
    ended_share: float
    aside: int
    held_out: dict[str, int]
    date: str | None
    steps: int
    steps_per_epoch: int
    rows_per_step: int
    checkpoints: int
    packed: bool
    padding: float
    padding_plain: float
    parameters: int
    memory: Memory | None
    disk_needed: int
    disk_free: int
    devices: Devices | None
    hours: tuple[float, float] | None
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def scale(self) -> float:
        """Return by how much counts of a sample are multiplied."""
        return self.rows / self.rows_read if self.rows_read else 1.0


@dataclass(frozen=True)
class Question:
    """What is looked at: examples (all or a sample), their schedule, the model's config, the devices asked for.

    `own`: type of the base's weights as they are published; None: float32.
    """

    examples: Examples
    schedule: Schedule
    settings: Settings
    tokenizer: Any
    config: Any
    folder: Path
    bf16: bool
    devices: Devices | None = None
    held_out: Examples | None = None
    own: torch.dtype | None = None


def inspect(question: Question, with_memory: bool = True) -> Report:
    """Return the facts of a run and what is wrong with them."""
    examples, schedule, settings = question.examples, question.schedule, question.settings
    table, scale = examples.table, examples.of / max(examples.rows, 1)
    whole_steps = max(round(schedule.steps_per_epoch * scale), 1) * settings.epochs
    steps = schedule.steps if scale == 1 else min(whole_steps, settings.max_steps or whole_steps)
    per_epoch = schedule.steps_per_epoch if scale == 1 else max(whole_steps // settings.epochs, 1)
    checkpoints = _checkpoints(steps, per_epoch, settings.save_every)
    model = _bare_model(question.config)
    parameters, turns, ends = model.num_parameters(), int(table["turns"].sum()), _ends(question)
    report = Report(
        rows=examples.of, rows_read=examples.rows, sources=_by_source(examples),
        dropped=dict(sorted(examples.dropped["reason"].value_counts().iter_rows())),
        cut=int((table["cut"] > 0).sum()), examples=len(table), tokens=int(table["length"].sum()),
        learnt=int(table["learnt"].sum()), turns=turns, ends=ends, ended_share=sum(ends.values()) / max(turns, 1),
        aside=int(table["aside"].sum()), held_out=_held_out(question.held_out), date=_date(question),
        steps=steps, steps_per_epoch=per_epoch,
        rows_per_step=schedule.rows_per_step, checkpoints=checkpoints, packed=schedule.room is not None,
        padding=0.0, padding_plain=0.0, parameters=parameters, memory=None, devices=question.devices, hours=None,
        disk_needed=_disk(model, checkpoints, question), disk_free=_free(question.folder),
    )  # fmt: skip
    if len(table):
        real, laid = padded_tokens(schedule, _STEPS_LOOKED_AT)
        report.padding, report.padding_plain = 1 - real / max(laid, 1), _plain_padding(schedule)
        report.memory = _memory(question) if with_memory and parameters > _SMALL else None
        report.hours = _hours(question, report)
    judge(report, question)
    return report


def _by_source(examples: Examples) -> list[dict[str, Any]]:
    columns = [pl.len().alias("examples"), pl.col("length").sum().alias("tokens"), pl.col("learnt").sum()]
    found = examples.table.group_by("source").agg(*columns, (pl.col("cut") > 0).sum()).sort("source")
    return list(found.iter_rows(named=True))


def _held_out(examples: Examples | None) -> dict[str, int]:
    """Return the rows of each source that are held out."""
    if examples is None:
        return {}
    return dict(examples.table.group_by("source").agg(pl.col("id").n_unique()).sort("source").iter_rows())


def _ends(question: Question) -> dict[str, int]:
    """Return the tokens that end learnt turns, as the rows are trained, and how many turns each."""
    return {str(question.tokenizer.convert_ids_to_tokens(i)): n for i, n in question.examples.ends().items()}


def _date(question: Question) -> str | None:
    """Return the day that stands for today where the chat template writes the date, else None."""
    return TODAY.isoformat() if "strftime_now" in (question.tokenizer.chat_template or "") else None


def _checkpoints(steps: int, per_epoch: int, save_every: int | None) -> int:
    if not steps:
        return 0
    kept = {*range(per_epoch, steps + 1, per_epoch), steps}
    return len(kept | set(range(save_every, steps + 1, save_every)) if save_every else kept)


def _bare_model(config: Any) -> Any:
    """Return a model of this config whose weights have no data."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _disk(model: Any, checkpoints: int, question: Question) -> int:
    """Return the bytes of all checkpoints: weights, for two and one being written the optimiser's state too.

    These have the float32 weights as well, where they are narrower for use.
    """
    settings = question.settings
    kept = min(checkpoints, settings.keep + settings.epochs) if settings.keep else checkpoints
    if settings.uses_lora:
        return 0  # an adapter is small beside anything else
    width = saved_dtype(settings.dtype, question.own or torch.float32).itemsize
    state, parameters = state_bytes(model, settings.optimizer), int(model.num_parameters())
    if settings.dtype == "bfloat16" and settings.optimizer != "adamw_8bit":
        state //= 2
    wide = 4 * parameters if width < 4 and settings.dtype == "auto" else 0
    return int(parameters * width * (kept + 1) + 3 * (state + wide))


def _free(folder: Path) -> int:
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    return shutil.disk_usage(place).free


def _plain_padding(schedule: Schedule) -> float:
    """Return the share of padding if rows were batched as they come, `micro_batch` at a time."""
    looked_at = range(min(schedule.steps_per_epoch, _STEPS_LOOKED_AT))
    lengths = schedule.lengths[np.concatenate([schedule.units(step) for step in looked_at])]
    size = schedule.micro_batch
    whole = lengths[: len(lengths) // size * size].reshape(-1, size)
    return float(1 - whole.sum() / (whole.max(axis=1).sum() * size)) if len(whole) else 0.0


def _memory(question: Question) -> Memory:
    """Estimate the memory of the largest pass of the steps looked at."""
    schedule = question.schedule
    looked_at = range(min(schedule.steps, _STEPS_LOOKED_AT))
    largest = max((g for step in looked_at for g in schedule.layout(schedule.units(step))), key=schedule.laid)
    batch = collate(question.examples, largest, schedule.room is not None, pad_id=0)
    own = question.own or torch.float32
    here = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = question.devices.memory if question.devices else card_of(here)
    return estimate_memory(question.config, question.settings, batch, question.bf16, own, card)


def _hours(question: Question, report: Report) -> tuple[float, float] | None:
    if question.devices is None:
        return None
    mean = report.tokens / max(report.examples, 1)
    per_token = operations_per_token(question.config, report.parameters, mean, report.learnt / max(report.tokens, 1))
    share_of_run = report.steps / (report.steps_per_epoch * question.settings.epochs)
    tokens = report.tokens * report.scale * question.settings.epochs * share_of_run
    return hours(tokens * per_token, question.devices)


def judge(report: Report, question: Question) -> None:
    """Fill in faults and warnings."""
    table = question.examples.table
    reasons = ", ".join(f"{reason}: {n:,}" for reason, n in report.dropped.items())
    if not report.examples:
        right = "a larger max_length" if "no label left" in reasons else "another chat_template"
        report.faults.append(f"no row is left to learn from ({reasons or 'the mixture is empty'}). Fix: {right}.")
        return
    if report.ended_share == 0:
        cut = report.cut == report.examples
        right = "a larger max_length" if cut else "a chat_template that ends assistant turns"
        report.faults.append(
            f"no row teaches the model to stop: no learnt text is followed by an end token. Fix: {right}."
        )
    elif report.ended_share < 1 - _MUCH:
        why = f"; {report.cut:,} rows are cut at max_length" if report.cut else ""
        report.warnings.append(f"only {report.ended_share:.0%} of the learnt turns end with a learnt end token{why}")
    if report.aside > _MUCH * report.turns:
        report.warnings.append(
            f"{report.aside / report.turns:.0%} of the learnt turns do not go on from the generation prompt of the "
            "template: it renders them otherwise than it asks for them. Fix: chat_template_kwargs such as "
            "{ enable_thinking = false }, or a chat_template that renders both alike"
        )
    for count, what in ((sum(report.dropped.values()), f"dropped ({reasons})"), (report.cut, "cut at max_length")):
        if count > _MUCH * report.rows_read:
            report.warnings.append(f"{count / report.rows_read:.0%} of the rows are {what}")
    if question.settings.method == "kto":
        report.warnings += _unbalanced(table, question.settings.kto)
    injected = table.filter(pl.col("kind") == "injected")
    lost = int((injected["cut"] > 0).sum()) + len(question.examples.dropped.filter(pl.col("kind") == "injected"))
    if lost:
        report.warnings.append(f"{lost:,} injected rows are cut or dropped: their doses are not what the recipe says")
    if report.disk_needed > report.disk_free:
        report.faults.append(
            f"the checkpoints need {report.disk_needed / 1e9:.1f} GB, {report.disk_free / 1e9:.1f} GB are free. "
            "Fix: keep, a larger save_every, or another --out."
        )
    one = report.devices
    if one and report.memory and report.memory.peak > one.memory:
        report.warnings.append(
            f"{report.memory.peak / 1e9:.1f} GB do not fit one {one.name} ({one.memory / 1e9:.0f} GB). Smaller: "
            "micro_batch, max_length, gradient_checkpointing, or LoRA"
        )


def _unbalanced(table: pl.DataFrame, kto: Kto) -> list[str]:
    """Return a warning where good answers do not weigh 1 to 4/3 of bad ones (Ethayarajh et al. 2024, equation 8)."""
    good, bad = int(table["label"].sum()), int((~table["label"]).sum())
    if not good or not bad:
        return [f"all answers are judged {'good' if good else 'bad'}: KTO learns from both"]
    share = kto.desirable_weight * good / (kto.undesirable_weight * bad)
    if 1 <= round(share, 2) <= _GOOD_SHARE:
        return []
    low, high = (round(bound * kto.undesirable_weight * bad / good, 2) for bound in (1, _GOOD_SHARE))
    return [
        f"{good:,} answers are judged good, {bad:,} bad: the good ones weigh {share:.2f} of the bad ones. Fix: "
        f"[train.kto] desirable_weight from {low:g} to {high:g}, so that they weigh 1 to 1.33"
    ]


def stop_at_faults(report: Report, recipe: Path) -> None:
    """Raise InputError with the first fault, if there is one."""
    for fault in report.faults:
        raise InputError(f"{recipe} [train]: {fault}")
