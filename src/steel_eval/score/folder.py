"""A folder of scores: read strictly, added to, and never of two models.

`scores.json` is written last and names the bytes of the tables beside it, so that a table that was damaged is not read
as another result. Whatever is wrong with a file is one InputError that names it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steel_data.engine import tell
from steel_data.errors import InputError, excerpt, first_line
from steel_data.files import atomic, atomic_write, sha256_of

ANSWERS = {"task": pl.String, "subject": pl.String, "item": pl.String, "label": pl.String, "prediction": pl.String}
PROMPTS = {"task": pl.String, "subject": pl.String, "item": pl.String, "prompt": pl.String}
TRIES = "scores-limit-"  # begins the name of a run's folder of scores of a part of the questions
_AGAIN = "Fix: score again, into a new folder."


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


# What a reader looks through is never null, and what it counts with a number: it need not ask again.
_Dose = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
_Doses = dict[_Dose, int]


class _Numbers(_Checked):
    accuracy: float | None = None
    macro: float | None = None
    n: int | None = None


class _Group(_Numbers):
    accuracy: float | None = Field()  # shown wherever a group is named
    subjects: int | None = None  # how many


class _Letters(_Checked):
    predicted: dict[str, int] = {}
    label: dict[str, int] = {}
    always: float | None = None


class _Task(_Numbers):
    stderr: float | None = None
    invalid: int | None = None
    missing: int | None = None
    accuracy_on_valid: float | None = None
    expected_if_guessed: float | None = None
    gold_probability: float | None = None
    gold_bits_per_byte: float | None = None
    data_sha256: str | None = None
    limit: int | None = None
    of: int | None = None
    subjects: dict[str, _Numbers] = {}
    groups: dict[str, _Group] = {}
    letters: _Letters = _Letters()
    counts: dict[str, Any] = {}
    metrics: dict[str, Any] = {}


class _Mixture(_Checked):
    content_sha256: str | None = None


class _Base(_Checked):
    name: str | None = None
    fingerprint: str | None = None
    history: list[dict[str, Any]] | None = None


class _Training(_Checked):
    step: int | None = None
    seed: int | None = None
    mixture: _Mixture | None = None
    base: _Base | None = None
    train: dict[str, Any] | None = None
    contamination: dict[str, _Doses] | None = None


class _Scores(_Checked):
    tasks: dict[str, _Task]
    model: str | None = None
    folder: str | None = None
    step: int | None = None
    preset: str | None = None
    shots: int | None = None
    model_fingerprint: str | None = None
    tokenizer_fingerprint: str | None = None
    data_sha256: str | None = None
    versions: dict[str, str] | None = None
    contamination: dict[str, _Doses] | None = None
    inherited: dict[str, _Doses] | None = None
    declared_items: dict[str, _Doses] | None = None
    rotation: dict[str, Any] | None = None
    training: _Training | None = None
    files: dict[str, str] | None = None


def read_json(file: Path, right: str = _AGAIN) -> Any:
    """Return what a JSON file holds. Raises InputError for one that is missing or damaged."""
    try:
        return orjson.loads(file.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{file}: is missing. {right}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read: {first_line(error)}. {right}") from None


def read_scores(folder: Path) -> dict[str, Any]:
    """Return a folder's scores.json, its types checked. Raises InputError for a damaged one."""
    file = folder / "scores.json"
    scores: dict[str, Any] = read_json(file)
    try:
        _Scores.model_validate(scores)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise InputError(
            f"{file}: is not what `score` writes: {excerpt(where)}: {first_line(ValueError(fault['msg']))}. {_AGAIN}"
        ) from None
    return scores


def completed(scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores with null, or an empty table, under the keys that an earlier steel, or a damaged file, lacks."""
    empty = _Task().model_dump()
    return {**scores, "tasks": {name: {**empty, **task} for name, task in scores["tasks"].items()}}


def read_table(folder: Path, name: str, columns: Mapping[str, Any], scores: Mapping[str, Any]) -> pl.DataFrame:
    """Return a folder's parquet file; these columns are there, of these types and without nulls.

    Raises InputError for a damaged one, by the checksum in `scores` where that names it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / name
    if not file.is_file():
        raise InputError(f"{file}: is missing. {_AGAIN}")
    written = (scores.get("files") or {}).get(name)
    try:
        if written is not None and sha256_of(file) != written:
            raise InputError(f"{file}: its bytes are not those that scores.json names. {_AGAIN}")
        table = pq.read_table(file, memory_map=False)
        table.validate(full=True)  # texts are UTF-8: polars takes that for granted
        frame = pl.DataFrame(pl.from_arrow(table))
    except (OSError, ValueError, MemoryError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise InputError(f"{file}: cannot be read: {first_line(error)}. {_AGAIN}") from None
    for column, kind in columns.items():
        if column not in frame.columns:
            raise InputError(f"{file}: no column {column}. {_AGAIN}")
        if frame.schema[column] != kind:
            raise InputError(f"{file}: column {column} holds {frame.schema[column]}, not {kind}. {_AGAIN}")
        if frame[column].null_count():
            raise InputError(f"{file}: column {column} has nulls. {_AGAIN}")
    return frame


def read_answers(folder: Path, scores: Mapping[str, Any]) -> pl.DataFrame:
    """Return a folder's answers: one row a question of a task, with `raw`, and log-probabilities that are numbers.

    Raises InputError for a damaged file.
    """
    frame = read_table(folder, "answers.parquet", ANSWERS, scores)
    file = folder / "answers.parquet"
    numbers = [name for name in frame.columns if name.startswith("logprob_")]
    for name in numbers:
        if not (frame.schema[name].is_numeric() or frame.schema[name] == pl.Null):
            raise InputError(f"{file}: column {name} holds {frame.schema[name]}, not numbers. {_AGAIN}")
    if frame.select("task", "item").is_duplicated().any():
        raise InputError(f"{file}: holds a question of a task twice. {_AGAIN}")
    if frame.schema.get("raw", pl.String) not in (pl.String, pl.Null):
        raise InputError(f"{file}: column raw holds {frame.schema['raw']}, not String. {_AGAIN}")
    raw = pl.col("raw").cast(pl.String).fill_null("") if "raw" in frame.columns else pl.lit("").alias("raw")
    return frame.with_columns(raw, *[pl.col(name).cast(pl.Float64) for name in numbers])


def refuse_another(folder: Path, about: Mapping[str, Any]) -> None:
    """Raise InputError where a folder holds scores of another model than `about` names.

    Another model has other weights (`model_fingerprint`), and another name (`model`) or place (`folder`): a checkpoint
    that was overwritten in place is the same one, anew.
    """
    if not (folder / "scores.json").is_file():
        return
    try:
        there = read_scores(folder)
    except InputError:
        return  # damaged: it is written anew
    place = there.get("folder", about.get("folder"))
    same = [there.get("model"), place] == [about.get("model"), about.get("folder")]
    if not same and there.get("model_fingerprint") not in (None, about.get("model_fingerprint")):
        theirs, mine = (
            f"{excerpt(str(s.get('model')))} (weights {str(s['model_fingerprint'])[:12]})" for s in (there, about)
        )
        raise InputError(
            f"{folder}: holds scores of {theirs}, not of {mine}. Fix: another --out, or delete the folder."
        )


def write_folder(folder: Path, scores: dict[str, Any], tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """Write tables (name -> frame with a column `task`) and scores.json last; returns what scores.json holds.

    Tasks that the folder holds of the same model and protocol stay; those of another protocol are replaced, and that
    is said. Raises InputError where the folder is another model's.
    """
    refuse_another(folder, scores)
    earlier, kept = _earlier(folder, scores)
    files = dict(earlier.get("files") or {})
    for name, frame in tables.items():
        if name in kept:
            others = kept[name].filter(~pl.col("task").is_in(list(scores["tasks"])))
            frame = pl.concat([others, frame], how="diagonal_relaxed") if len(others) else frame
        if "raw" in frame.columns:  # the column that stands last, whatever options other tasks have
            frame = frame.select(pl.exclude("raw"), "raw")
        with atomic(folder / name) as path:
            frame.write_parquet(path)
            files[name] = sha256_of(path)
    merged: dict[str, dict[str, Any]] = {}
    for key in ("tasks", "declared_items", "rotation"):
        if key in earlier or key in scores:
            merged[key] = {**(earlier.get(key) or {}), **(scores.get(key) or {})}
    shas = "".join(f"{task} {merged['tasks'][task].get('data_sha256')}\n" for task in sorted(merged["tasks"]))
    whole = {**scores, **merged, "data_sha256": hashlib.sha256(shas.encode()).hexdigest(), "files": files}
    atomic_write(folder / "scores.json", orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    return whole


def _earlier(folder: Path, scores: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Return what a folder holds that stays: its scores and tables; nothing where they are damaged or unlike."""
    if not (folder / "scores.json").is_file():
        return {}, {}
    try:
        there = read_scores(folder)
        tables = {"answers.parquet": read_answers(folder, there)} if (folder / "answers.parquet").is_file() else {}
        for name in ("prompts.parquet", "generations.parquet"):
            if (folder / name).is_file():
                tables[name] = read_table(folder, name, {"task": pl.String, "item": pl.String}, there)
    except InputError as error:
        tell(f"{error} It is written anew, with the tasks asked for.")
        return {}, {}
    if there.get("model_fingerprint") != scores.get("model_fingerprint"):
        return {}, {}  # the checkpoint was overwritten in place
    types = {s.get("dtype") for s in (scores, there)} - {None}
    mine, theirs = (
        f"{s.get('preset')}, {s.get('shots')}-shot" + f", {s.get('dtype')}" * (len(types) > 1) for s in (scores, there)
    )
    others = sorted(set(there["tasks"]) - set(scores["tasks"]))
    if mine != theirs:
        if others:
            tell(f"{folder}: {', '.join(others)} scored as {theirs} is replaced: now scored as {mine}.")
        return {}, {}
    return there, tables
