"""What was answered: accuracies by subject and checkpoint, the questions, and one question with every answer to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from steel_data.errors import InputError, first_line, nearest
from steel_eval.compare.runs import Result
from steel_eval.score.folder import ANSWERS, PROMPTS

QUESTIONS = 50  # of a page
PROMPT = 220  # characters of a prompt's end, in a list
MOST = 24  # checkpoints side by side: the last ones
ONLY = ("all", "wrong", "right", "changed")  # by the last checkpoint; changed: not all checkpoints answer alike


@dataclass(frozen=True)
class Column:
    """One checkpoint as shown."""

    name: str
    result: Result


def columns(results: Sequence[Result], run: Path, preset: str = "") -> tuple[list[Column], list[str]]:
    """Return the checkpoints of a run that were scored under a preset ("": the first one), and all presets."""
    presets = sorted({str(result.scores.get("preset")) for result in results})
    chosen = preset or presets[0]
    if chosen not in presets:
        raise InputError(f"no preset '{chosen}' was scored.{nearest(chosen, presets)}")
    return [Column(_name(r.folder, run), r) for r in results if str(r.scores.get("preset")) == chosen], presets


def _name(folder: Path, run: Path) -> str:
    parts = [part for part in folder.relative_to(run).parts if part != "scores"]
    return "/".join(parts) or folder.name


def tasks(shown: Sequence[Column]) -> list[str]:
    """Return the tasks that any checkpoint was scored on."""
    return sorted({task for column in shown for task in column.result.scores["tasks"]})


def accuracy(column: Column, task: str, subject: str = "") -> float | None:
    """Return an accuracy as scores.json has it; None where it has none."""
    found: Any = column.result.scores["tasks"].get(task)
    if subject and isinstance(found, dict):
        found = (found.get("subjects") or {}).get(subject)
    value = found.get("accuracy") if isinstance(found, dict) else None
    return float(value) if isinstance(value, int | float) else None


def heat(shown: Sequence[Column], task: str) -> list[tuple[str, list[float | None]]]:
    """Return subject -> accuracy of each checkpoint, the subjects of the last one's lowest accuracy first."""
    subjects = {
        subject for column in shown for subject in (column.result.scores["tasks"].get(task) or {}).get("subjects") or ()
    }
    rows = [(subject, [accuracy(column, task, subject) for column in shown]) for subject in subjects]
    return sorted(rows, key=lambda row: (row[1][-1] if row[1][-1] is not None else 2.0, row[0]))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which questions of a task: a subject, one of ONLY, a text of the prompt; from the `start`-th that fits."""

    task: str
    subject: str = ""
    only: str = "all"
    text: str = ""
    start: int = 0


def listed(shown: Sequence[Column], asked: Asked) -> tuple[list[dict[str, Any]], int]:
    """Return a page of questions, each with label, prompt's end and how each checkpoint answered, and how many fit."""
    if asked.only not in ONLY:
        raise InputError(f"only = '{asked.only}': unknown.{nearest(asked.only, ONLY)}")
    shown = shown[-MOST:]
    wide: pl.DataFrame | None = None
    for number, column in enumerate(shown):
        frame = _answers(column.result, asked.task, ["item", "subject", "label", "prediction"])
        frame = frame.rename({"prediction": f"answer_{number}"})
        wide = frame if wide is None else wide.join(frame.drop("subject", "label"), on="item", how="left")
    if wide is None:
        return [], 0
    answers = [f"answer_{number}" for number in range(len(shown))]
    right = pl.col(answers[-1]).eq_missing(pl.col("label"))
    if asked.subject:
        wide = wide.filter(subject=asked.subject)
    if asked.only == "changed":
        wide = wide.filter(pl.any_horizontal(pl.col(a).ne_missing(pl.col(answers[0])) for a in answers))
    elif asked.only != "all":
        wide = wide.filter(right if asked.only == "right" else ~right)
    prompts = _prompts(shown, asked.task)
    wide = wide.join(prompts, on="item", how="left") if prompts is not None else wide.with_columns(prompt=pl.lit(""))
    if asked.text:
        wide = wide.filter(pl.col("prompt").str.contains(asked.text, literal=True))
    page = wide.slice(asked.start, QUESTIONS).with_columns(answers=pl.concat_list(answers)).drop(answers)
    rows = page.to_dicts()
    for row in rows:
        row["prompt"] = _as_turns(row["prompt"])[-PROMPT:]
    return rows, len(wide)


def one(shown: Sequence[Column], task: str, item: str) -> dict[str, Any]:
    """Return a question: `prompt`, `subject`, `label`, and `answers`: of each checkpoint its row of answers.parquet.

    Raises InputError where no checkpoint was asked it.
    """
    answers, subject, label = [], "", ""
    for column in shown[-MOST:]:
        row = next(_answers(column.result, task, None, item).iter_rows(named=True), None)
        if row is not None:
            subject, label = row["subject"], row["label"]
            numbers = {key[8:]: row[key] for key in row if key.startswith("logprob_") and row[key] is not None}
            answers.append({"name": column.name, "prediction": row["prediction"], "raw": row["raw"], "log": numbers})
    if not answers:
        raise InputError(f"no question '{item}' of {task} was asked here.")
    prompts = _prompts(shown, task, item)
    prompt = prompts["prompt"][0] if prompts is not None and len(prompts) else ""
    return {"prompt": _as_turns(prompt), "subject": subject, "label": label, "answers": answers}


def _answers(result: Result, task: str, wanted: list[str] | None, item: str | None = None) -> pl.DataFrame:
    frame = pl.scan_parquet(result.folder / "answers.parquet", glob=False).filter(task=task)
    frame = frame if item is None else frame.filter(item=item)
    return _collected(frame if wanted is None else frame.select(wanted), "answers.parquet")


def _prompts(shown: Sequence[Column], task: str, item: str | None = None) -> pl.DataFrame | None:
    """Return the prompts of a task as the last checkpoint that kept them was asked; None where none did."""
    for column in reversed(shown):
        file = column.result.folder / "prompts.parquet"
        if file.is_file():
            frame = pl.scan_parquet(file, glob=False).filter(task=task)
            frame = frame if item is None else frame.filter(item=item)
            return _collected(frame.select("item", "prompt"), "prompts.parquet").unique("item", keep="first")
    return None


def _collected(frame: pl.LazyFrame, name: str) -> pl.DataFrame:
    try:
        held = frame.collect_schema()
        for column, kind in {**ANSWERS, **PROMPTS}.items():
            if held.get(column, kind) != kind:
                raise InputError(f"{name}: column {column} holds {held[column]}, not {kind}.")
        return frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{name}: cannot be read: {first_line(error, 120)}.") from None


def _as_turns(prompt: str | None) -> str:
    """Return a chat prompt, stored as JSON, with a line for each role; another prompt as it is."""
    if not prompt or not prompt.startswith("["):
        return prompt or ""
    try:
        return "\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in orjson.loads(prompt))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return prompt
