"""Faults that the answers of many checkpoints show: a key that they agree against, or that better ones believe less.

Both use the log-probabilities that `score` stored. A model that prefers a letter whatever is asked would accuse every
other key: each letter's mean over the task's questions is taken off first. A model at chance is no witness.

Sources: item-rest correlation of classical test theory (Lord & Novick 1968); that keys
are wrong in numbers: MMLU-Redux (Gema et al. 2024, arXiv 2406.04127), 6.5 % of MMLU by hand.

Legend of array suffixes: _R one checkpoint, _Q one question, _K one option.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS
from steel_data.errors import InputError
from steel_eval.audit.findings import Asked, Suspect
from steel_eval.compare.runs import Result

F64 = NDArray[np.float64]
AGREE = 0.8  # share of the witnesses that must name one and the same other option
SURE = 0.5  # their mean probability of it
WITNESSES = 2  # fewer say nothing together
CHECKPOINTS = 8  # a correlation over fewer is noise
NEGATIVE = -0.3  # correlations above are no finding; a random key scatters round 0


@dataclass(frozen=True)
class Witnesses:
    """The answers of all checkpoints on one task.

    `probability_RQK`: of each option, letters' preferences taken off, NaN for options that are not there; `gold_Q`: the
    key's place; `able_R`: the last checkpoints of their runs that are above chance; `items`: the questions' names.
    """

    probability_RQK: F64
    gold_Q: NDArray[np.int64]
    able_R: NDArray[np.bool_]
    accuracy_R: F64
    items: list[str]


def witnesses(runs: Sequence[Sequence[Result]], task: str) -> Witnesses | None:
    """Return the answers of every checkpoint that has log-probabilities of the task's options; None without any.

    Raises InputError where two checkpoints answered unlike questions.
    """
    kept, last, frames = [], [], []
    for run in runs:
        answered = [(r, frame) for r in run if (frame := _frame(r, task)) is not None]
        for n, (result, frame) in enumerate(answered):
            kept.append(result)
            frames.append(frame)
            last.append(n == len(answered) - 1)
    if not frames:
        return None
    first = frames[0]
    for result, frame in zip(kept, frames, strict=True):
        if frame["item"].to_list() != first["item"].to_list():
            raise InputError(f"{result.folder}: other questions of {task} than in {kept[0].folder}. Fix: score alike.")
    width = max(sum(c.startswith("logprob_") for c in frame.columns) for frame in frames)
    raw_RQK = np.stack([_logprobs(frame, width) for frame in frames])
    gold_Q = np.array([LETTERS.index(letter) for letter in first["label"]], np.int64)
    right_RQ = np.nanargmax(np.where(np.isnan(raw_RQK), -np.inf, raw_RQK), 2) == gold_Q
    chance = float(np.mean(1 / np.maximum((~np.isnan(raw_RQK[0])).sum(1), 1)))
    accuracy_R = right_RQ.mean(1)
    # 2.33 standard errors: one model in a hundred at chance would pass
    bound = chance + 2.33 * np.sqrt(chance * (1 - chance) / len(gold_Q))
    return Witnesses(_fair(raw_RQK), gold_Q, np.array(last) & (accuracy_R > bound), accuracy_R, first["item"].to_list())


def _frame(result: Result, task: str) -> pl.DataFrame | None:
    frame = result.answers.filter((pl.col("task") == task) & (pl.col("label").str.len_chars() == 1)).sort("item")
    there = frame.height and not frame["logprob_A"].cast(pl.Float64).fill_null(float("nan")).is_nan().all()
    return frame if there else None


def _logprobs(frame: pl.DataFrame, width: int) -> F64:
    found = frame.select(pl.col("^logprob_.$").cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    return np.pad(found, ((0, 0), (0, width - found.shape[1])), constant_values=np.nan)


def _fair(raw_RQK: F64) -> F64:
    """Return probabilities of the options after each letter's mean log-odds over the questions is taken off."""
    odds = raw_RQK - np.nanmax(raw_RQK, 2, keepdims=True)
    odds -= np.log(np.nansum(np.exp(odds), 2, keepdims=True))
    with np.errstate(invalid="ignore"):
        mean = np.nanmean(odds, 1, keepdims=True)
    fair = np.exp(odds - np.where(np.isnan(mean), 0, mean))
    probability: F64 = fair / np.nansum(fair, 2, keepdims=True)
    return probability


def consensus(found: Witnesses, questions: Mapping[str, Asked]) -> list[Suspect]:
    """Return the questions on which the able agree on another option than the key; none under WITNESSES of them."""
    if int(found.able_R.sum()) < WITNESSES:
        return []
    seen_RQK = found.probability_RQK[found.able_R]
    mean_QK = np.nan_to_num(np.mean(seen_RQK, 0), nan=0.0)
    choice_RQ = np.argmax(np.nan_to_num(seen_RQK, nan=-1.0), 2)
    out = []
    for q, name in enumerate(found.items):
        top = int(np.argmax(mean_QK[q]))
        agreeing = float(np.mean(choice_RQ[:, q] == top))
        if top == found.gold_Q[q] or agreeing < AGREE or mean_QK[q, top] < SURE or name not in questions:
            continue
        question = questions[name]
        gold = int(found.gold_Q[q])
        why = (
            f"{round(agreeing * len(choice_RQ))} of {len(choice_RQ)} models choose {LETTERS[top]} "
            f"(mean probability {mean_QK[q, top]:.2f}), the key is {LETTERS[gold]} ({mean_QK[q, gold]:.2f})"
        )
        strength = float(np.log(mean_QK[q, top] + 1e-9) - np.log(mean_QK[q, gold] + 1e-9))
        out.append(Suspect("consensus", question, why, strength))
    return out


def discrimination(found: Witnesses) -> F64:
    """Return each question's item-rest correlation over the checkpoints, (Q,); NaN where nothing varies.

    An item's value is the log-odds of its key, the rest is the mean of all other questions' of the task.
    """
    gold_RQ = np.take_along_axis(found.probability_RQK, found.gold_Q[None, :, None], 2)[:, :, 0]
    clipped = np.clip(gold_RQ, 1e-6, 1 - 1e-6)
    value_RQ = np.log(clipped) - np.log1p(-clipped)
    n = value_RQ.shape[1]
    rest_RQ = (value_RQ.sum(1, keepdims=True) - value_RQ) / max(n - 1, 1)
    value, rest = value_RQ - value_RQ.mean(0), rest_RQ - rest_RQ.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: F64 = (value * rest).sum(0) / np.sqrt((value**2).sum(0) * (rest**2).sum(0))
    return out


def negative(found: Witnesses, questions: Mapping[str, Asked]) -> list[Suspect]:
    """Return the questions whose key better checkpoints believe less; none where fewer than CHECKPOINTS or none able.

    Checkpoints of one run are not independent: the correlation orders the list, and carries no p-value.
    """
    if len(found.able_R) < CHECKPOINTS or not found.able_R.any():
        return []
    value_Q, n = discrimination(found), len(found.able_R)
    return [
        Suspect("discrimination", questions[name], f"item-rest correlation {r:+.2f} over {n} checkpoints", -r)
        for name, r in zip(found.items, value_Q.tolist(), strict=True)
        if r < NEGATIVE and name in questions
    ]  # fmt: skip
