"""`check`: whether scores are whole and follow from their answers. (apart: compare says nothing of one folder)"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from steel_data.errors import InputError
from steel_eval.compare.runs import Result, load_runs
from steel_eval.score.folder import PROMPTS, read_table

TOLERANCE = 1e-6


def check_scores(places: Sequence[Path], preset: str | None = None) -> str:
    """Return in one line what was found whole. Raises InputError for the first fault, which it names."""
    results = [result for place in places for run in load_runs(place, preset) for result in run]
    answers = sum(_check(result) for result in results)
    many = "" if len(results) == 1 else "s"
    return f"{len(results)} scored checkpoint{many}, whole: {answers:,} answers give the scores"


def _check(result: Result) -> int:
    """Return how many answers a folder holds, each with its prompt and every accuracy theirs."""
    frame = result.answers
    for task, row in result.scores["tasks"].items():
        mine = frame.filter((pl.col("task") == task) & (pl.col("label") != ""))
        said = row.get("accuracy")
        if said is None or not len(mine):
            continue
        found = float((mine["prediction"] == mine["label"]).sum()) / len(mine)
        if abs(found - said) > TOLERANCE:
            raise InputError(
                f"{result.folder}: {task}: scores.json says accuracy {said:.6f}, its answers give {found:.6f}. "
                "Fix: score again, into a new folder."
            )
    if (result.folder / "prompts.parquet").is_file():
        prompts = read_table(result.folder, "prompts.parquet", PROMPTS, result.scores)
        asked = frame.filter(pl.col("task").is_in(prompts["task"].unique().to_list()))
        lacking = asked.join(prompts, on=("task", "item"), how="anti")
        if len(lacking):
            raise InputError(
                f"{result.folder / 'prompts.parquet'}: no prompt of {lacking['item'][0]}. "
                "Fix: score again, into a new folder."
            )
    return len(frame)
