"""From answers to scores: every number a reader needs to judge an accuracy, always together.

An answer that cannot be read is wrong, is counted, and is never guessed or dropped: with 10 % unreadable answers the
three habits (drop, guess, count wrong) differ by 3.6 points, as much as many a reported gain.

Legend: Q questions, K options (columns beyond a question's own options are NaN).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS
from steel_eval.ask.prompts import subject_table
from steel_eval.stats.paired import wilson

NEAR_TIE = 0.01  # nats between the two best options: below, rounding at 16 bits may decide


def predict(logprob_QK: NDArray[np.float64], weight_QK: NDArray[np.float64] | None = None) -> list[str]:
    """Return the letter of the largest value a row; of equal ones the first. A row with a NaN gives "".

    `weight_QK` divides (per-byte comparison). Options a question does not have are -inf.
    """
    values = logprob_QK if weight_QK is None else logprob_QK / weight_QK
    return ["" if np.isnan(row).any() else LETTERS[int(np.argmax(row))] for row in values]


def summarise(answers: pl.DataFrame, benchmark: str, published: bool = True) -> dict[str, Any]:
    """Return the scores of one task from its answers (columns as in answers.parquet, plus options, gold_bits_per_byte).

    Without a key all scores are null and only counts remain.
    """
    if not published:
        empty = dict.fromkeys(("accuracy", "stderr", "macro", "accuracy_on_valid", "expected_if_guessed"))
        counts = {"n": len(answers), "invalid": _invalid(answers), "letters": _letters(answers)}
        nothing: dict[str, Any] = {"gold_probability": None, "gold_bits_per_byte": None, "subjects": {}, "groups": {}}
        return {**empty, **counts, **nothing}
    by_subject = {str(key[0]): frame for key, frame in answers.group_by("subject", maintain_order=True)}
    subjects = {name: _scores(frame) for name, frame in sorted(by_subject.items())}
    return {
        **_scores(answers),
        "macro": float(np.mean([s["accuracy"] for s in subjects.values()])),
        "chance": _mean(1 / answers["options"]),  # of a blind guess, by the options that each question has
        "near_ties": _near_ties(answers),
        "letters": _letters(answers),
        "subjects": subjects,
        "groups": _groups(subjects, benchmark),
    }


def in_words(task: str, row: Mapping[str, Any]) -> str:
    """Return a task's accuracy in a sentence: with its 95 % interval, against chance level; "" without an accuracy."""
    if row.get("accuracy") is None or not row.get("n"):
        return ""
    low, high = wilson(row["accuracy"] * row["n"], row["n"])
    said = (
        f"{task}: {100 * row['accuracy']:.1f} % of {row['n']:,} questions right "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )
    chance = row.get("chance")
    if chance is None:  # scores of before: as many options as letters that were right
        chance = 1 / max(1, len((row.get("letters") or {}).get("label") or ()))
    if chance == 1:
        return f"{said}."
    shown = "above" if low > chance else "below" if high < chance else "not shown to differ from"
    return f"{said}, {shown} chance level ({100 * chance:.1f} %)."


def _scores(frame: pl.DataFrame) -> dict[str, Any]:
    n, invalid = len(frame), _invalid(frame)
    right = int((frame["prediction"] == frame["label"]).sum())
    guessed = right + float((1 / frame.filter(pl.col("prediction") == "")["options"]).sum())
    p = right / n
    return {
        "accuracy": p,
        "stderr": math.sqrt(p * (1 - p) / (n - 1)) if n > 1 else None,
        "n": n,
        "invalid": invalid,
        "accuracy_on_valid": right / (n - invalid) if n > invalid else None,
        "expected_if_guessed": guessed / n,
        "gold_probability": _mean(frame["gold_probability"]),
        "gold_bits_per_byte": _mean(frame["gold_bits_per_byte"]),
    }


def _mean(column: pl.Series) -> float | None:
    value = column.drop_nulls().drop_nans().mean()
    return float(value) if isinstance(value, float) else None


def _invalid(frame: pl.DataFrame) -> int:
    return int((frame["prediction"] == "").sum())


def _near_ties(frame: pl.DataFrame) -> int:
    values = frame.select(pl.col("^logprob_.$")).to_numpy().astype(float)
    top = np.sort(np.where(np.isnan(values), -np.inf, values), axis=1)[:, -2:]
    with np.errstate(invalid="ignore"):
        return int(((top[:, 1] - top[:, 0]) < NEAR_TIE).sum())


def _letters(frame: pl.DataFrame) -> dict[str, Any]:
    """Return how often each letter was predicted and was right; `always`: the accuracy of saying the commonest only."""
    said = dict(frame["prediction"].value_counts().sort("prediction").iter_rows())
    gold = dict(frame.filter(pl.col("label") != "")["label"].value_counts().sort("label").iter_rows())
    return {"predicted": said, "label": gold, "always": max(gold.values()) / len(frame) if gold else None}


def _groups(subjects: Mapping[str, Mapping[str, Any]], benchmark: str) -> dict[str, Any]:
    """Return the published groups: `accuracy` over questions, `macro` over subjects, and how many of each."""
    table = subject_table().get(benchmark, {})
    members: dict[str, list[Mapping[str, Any]]] = {}
    for name, scores in subjects.items():
        for group in table.get(name, {}).get("groups", ()):
            members.setdefault(group, []).append(scores)
    return {group: _group(rows) for group, rows in sorted(members.items())}


def _group(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    n = sum(r["n"] for r in rows)
    return {
        "accuracy": sum(r["accuracy"] * r["n"] for r in rows) / n,
        "macro": float(np.mean([r["accuracy"] for r in rows])),
        "n": n,
        "subjects": len(rows),
    }


def gold_probability(logprob_QK: NDArray[np.float64], gold_Q: Sequence[int]) -> NDArray[np.float64]:
    """Return the share of the gold option in the probability of all options, (Q,); NaN where it is unknown (-1)."""
    shifted = logprob_QK - np.max(np.where(np.isnan(logprob_QK), -np.inf, logprob_QK), axis=1, keepdims=True)
    weight = np.exp(shifted)
    gold = np.array(gold_Q)
    out: NDArray[np.float64] = weight[np.arange(len(gold)), np.maximum(gold, 0)] / weight.sum(axis=1)
    out[gold < 0] = np.nan
    return out
