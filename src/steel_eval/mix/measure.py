"""One arm trained and measured: an ordinary run folder, and of its last checkpoint the value of each measure.

The loss on held-out rows is the mean over rows of a row's mean loss on the tokens that training would learn, in nats.
Rows of equal length go through the model together, so that nothing is padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS, benchmark_path, split_of
from steel_data.benchmarks.known_tests import holders_of_hashes, question_hash
from steel_data.engine import Executor
from steel_data.errors import InputError, one_line
from steel_data.files import address, kept, source_sha256
from steel_eval.arms import Job, followed, train_job
from steel_eval.ask.tasks import Task, load_task
from steel_eval.jobs import side_by_side
from steel_eval.mix.pool import read_held
from steel_eval.mix.settings import SearchMeasure
from steel_eval.models import checkpoint_fingerprint, default_device, find_checkpoints, load
from steel_eval.score.sweep import Settings, run_sweep

Floats = NDArray[np.float64]
_TOKENS = 16_384  # in one forward pass


@dataclass(frozen=True)
class Measuring:
    """What is measured, where questions (`data`) and held-out rows lie, and where finished scores are kept."""

    measure: SearchMeasure
    data: Path
    held: Path
    store: Path


@dataclass(frozen=True)
class ArmResult:
    """One run. `value`: measure -> value; `items`: measure -> a value for each row or question, (Q,).

    `above_chance`: how much better each item is than an even guess, (Q,); `failed`: why there is no value.
    """

    job: Job
    value: dict[str, float]
    items: dict[str, Floats]
    above_chance: dict[str, Floats]
    failed: str = ""

    def words(self) -> str:
        """Return arm, seed and what came of it, in one line."""
        said = one_line(self.failed) or ", ".join(f"{name} {value:.4f}" for name, value in self.value.items())
        return f"{self.job.arm.name}, seed {self.job.seed}: {said}"


def check_tasks(where: str, measure: SearchMeasure, data: Path) -> list[Task]:
    """Return the tasks. Raises InputError for a test split: what decides a mixture must not be what judges it."""
    tasks = []
    for name in measure.tasks or ():
        task = load_task(name, data)
        place = benchmark_path(task.name.partition("/")[0], data)
        own_file = place is not None and place.is_file() and split_of(place) is None
        known = _known_test(task)
        if known or (task.split == "test" and not own_file) or not task.published:
            what = f"its questions are those of {known}" if known else f"its split is '{task.split}'"
            raise InputError(
                f"{where}: measure: {one_line(name)}: {what}, and a test split that chooses the mixture judges nothing "
                f"any more. Fix: a dev, val or train split, such as {task.benchmark}-dev."
            )
        tasks.append(task)
    return tasks


def _known_test(task: Task) -> str:
    """Return the published test split that half of a task's questions or more come from."""
    holders = holders_of_hashes()
    items = [item for group in task.items.values() for item in group]
    found = [h for item in items for h in holders.get(question_hash(item.question), ()) if h.endswith("/test")]
    best = max(set(found), key=found.count, default="")
    return best if best and found.count(best) >= len(items) / 2 else ""


def measure_all(jobs: Sequence[Job], how: Measuring, executor: Executor, on_done: Any) -> list[ArmResult]:
    """Train and measure jobs, side by side; one that fails says why, and the others go on."""
    with followed(jobs):
        return side_by_side(executor, partial(measured, how=how), jobs, on_done, "train and measure")


def measured(job: Job, how: Measuring) -> ArmResult:
    """Train one seed of an arm, or verify it, and measure its last checkpoint."""
    from steel_train.say import quiet

    quiet()
    try:
        train_job(job, how.data)
        last = find_checkpoints(str(job.folder))[0][-1]
        if how.measure.tasks:
            return _on_tasks(job, how, last.folder)
        return _on_held(job, how, last.folder)
    except InputError as error:
        return ArmResult(job, {}, {}, {}, str(error))


def _on_tasks(job: Job, how: Measuring, checkpoint: Path) -> ArmResult:
    measure = how.measure
    tasks = [load_task(name, how.data) for name in measure.tasks or ()]
    out = job.folder / "scores" / checkpoint.name
    settings = Settings(tasks, [measure.preset], measure.shots, out, how.store, device=default_device())
    _, results = next(iter(run_sweep(str(checkpoint), settings)))
    answers = pl.read_parquet(out / "answers.parquet")
    value, items, above = {}, {}, {}
    for task in tasks:
        scores = results[measure.preset]["tasks"][task.name]
        mine = answers.filter((pl.col("task") == task.name) & (pl.col("label") != "")).sort("item")
        found = scores[measure.metric]
        if found is None:
            raise InputError(
                f"{task.name}: no {measure.metric} under preset '{measure.preset}'. Fix: a likelihood preset."
            )
        value[task.name] = float(found)
        items[task.name], above[task.name] = _by_question(mine, measure.metric, float(found))
    return ArmResult(job, value, items, above)


def _by_question(answers: pl.DataFrame, metric: str, mean: float) -> tuple[Floats, Floats]:
    """Return the metric of each question, and how far the gold option's probability is above guessing, (Q,) each."""
    logprob_QK = answers.select(pl.col("^logprob_.$")).to_numpy().astype(float)
    gold_Q = np.array([LETTERS.index(letter) for letter in answers["label"]])
    there_QK = ~np.isnan(logprob_QK)
    safe_QK = np.where(there_QK, logprob_QK, -np.inf)
    odds_QK = np.exp(safe_QK - safe_QK.max(1, keepdims=True))
    probability_Q = odds_QK[np.arange(len(gold_Q)), gold_Q] / odds_QK.sum(1)
    above_Q = probability_Q - 1 / there_QK.sum(1)
    if metric == "accuracy":
        return (answers["prediction"] == answers["label"]).to_numpy().astype(float), above_Q
    if metric == "gold_probability":
        return probability_Q, above_Q
    bits_Q = -safe_QK[np.arange(len(gold_Q)), gold_Q]
    return bits_Q * mean / bits_Q.mean(), above_Q  # answers of one size, as letters are: bits a byte


def _on_held(job: Job, how: Measuring, checkpoint: Path) -> ArmResult:
    frame = kept(
        job.folder / "held-out" / f"{_key(checkpoint, how)[:32]}.parquet",
        lambda: _losses(checkpoint, how), lambda place, made: made.write_parquet(place), pl.read_parquet,
    )  # fmt: skip
    value, items, above = {}, {}, {}
    for name in how.measure.names:
        mine = frame.filter(pl.col("source") == name)
        items[name] = mine["loss"].to_numpy()
        above[name] = mine["guess"].to_numpy() - items[name]
        value[name] = float(items[name].mean())
    return ArmResult(job, value, items, above)


def _key(checkpoint: Path, how: Measuring) -> str:
    code = source_sha256("steel_eval.mix.measure", "steel_train.examples.encode", "steel_train.examples.template")
    rows = [(row["source"], row["id"]) for row in read_held(how.held) if row["measured"]]
    return address(checkpoint_fingerprint(checkpoint), rows, how.measure.names, code)


def _losses(checkpoint: Path, how: Measuring) -> pl.DataFrame:
    """Return source, id and loss of each held-out row that gives labels; `guess`: the loss of an even guess."""
    import torch

    from steel_train.examples.encode import Encoder

    loaded = load(checkpoint, default_device())
    encoder = Encoder(loaded.tokenizer, loaded.max_length)
    rows = [row for row in read_held(how.held) if row["measured"] and row["source"] in how.measure.names]
    found = [
        (row, encoded.examples[0]) for row, encoded in zip(rows, encoder.encode(rows), strict=True) if encoded.examples
    ]
    by_length: dict[int, list[int]] = {}
    for i, (_, example) in enumerate(found):
        by_length.setdefault(len(example.ids), []).append(i)
    loss_R = np.full(len(found), np.nan)
    with torch.inference_mode():
        for length, members in by_length.items():
            room = max(1, _TOKENS // length)
            for start in range(0, len(members), room):
                batch = members[start : start + room]
                ids_BL = torch.tensor(
                    np.stack([found[i][1].ids for i in batch]), dtype=torch.long, device=loaded.model.device
                )
                learnt_BL = torch.tensor(np.stack([found[i][1].learnt for i in batch]), device=loaded.model.device)
                logits_BLV = loaded.model(input_ids=ids_BL).logits[:, :-1].float()
                nats_BL = torch.nn.functional.cross_entropy(logits_BLV.transpose(1, 2), ids_BL[:, 1:], reduction="none")
                label_BL = learnt_BL[:, 1:].float()
                loss_R[batch] = ((nats_BL * label_BL).sum(1) / label_BL.sum(1)).cpu().numpy()
    guess = float(np.log(loaded.model.config.get_text_config().vocab_size))
    frame = pl.DataFrame({
        "source": [row["source"] for row, _ in found], "id": [row["id"] for row, _ in found], "loss": loss_R,
        "guess": [guess] * len(found),
    }, schema={"source": pl.String, "id": pl.String, "loss": pl.Float64, "guess": pl.Float64})  # fmt: skip
    if not np.isfinite(loss_R).all():
        raise InputError(f"{checkpoint}: its loss on held-out rows is not a number. Fix: a smaller learning_rate.")
    for name in how.measure.names:
        if not (frame["source"] == name).any():
            raise InputError(
                f"{name}: no held-out row has an answer within {loaded.max_length} tokens. "
                "Fix: shorter rows, or another source."
            )
    return frame
