"""A mixture in another tool's format: JSON lines beside the mixture, written whole or not at all.

`train.jsonl` has the mixture's rows in its order, copies included (only the first row of each form goes to the top,
since loaders take the columns' types from a file's beginning); `left_out.jsonl` the rows that the format cannot
hold, each with its reason; `export.json` says what was written, what was changed on the way, and which contamination
the rows carry (their marks are left behind). For LLaMA-Factory there is `dataset_info.json`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from steel_data.engine import progress
from steel_data.errors import InputError, first_line, nearest
from steel_data.files import locked, replaced_folder
from steel_data.mixture.export_formats import FORMATS, Row, UnheldError, may_show, shows
from steel_data.mixture.manifest import read_manifest

_BATCH = 2_000  # rows decoded at once
_TRAIN, _LEFT_OUT, _INFO, _SUMMARY = "train.jsonl", "left_out.jsonl", "dataset_info.json", "export.json"


@dataclass(frozen=True)
class Exported:
    """What an export wrote. `left_out`: reason -> rows; `notes`: what was written otherwise -> rows."""

    folder: Path
    to: str
    rows: int
    left_out: dict[str, int]
    notes: dict[str, int]
    contamination: dict[str, dict[str, int]]


def export(folder: Path, to: str, out: Path | None = None) -> Exported:
    """Write a mixture in the format `to` (llamafactory, sharegpt, alpaca, messages) into `out`.

    By default `out` is `<folder>-<to>` beside the mixture. An earlier export there is replaced. Raises InputError for
    an unknown format, a folder without a mixture or with a damaged one, and an `out` that is inside the mixture or
    holds anything else.
    """
    if to not in FORMATS:
        raise InputError(f"--to '{to}': no such format.{nearest(to, FORMATS)}")
    manifest = read_manifest(folder)
    beside = folder if folder.name not in ("", "..") else folder.resolve()
    target = out or beside.with_name(f"{beside.name}-{to}")
    _refuse(folder, target)
    with locked(target), replaced_folder(target) as fresh:
        done = _write(folder, manifest, to, fresh, target)
    return done


def _refuse(folder: Path, target: Path) -> None:
    """Raise InputError where the export would get into a mixture's way, or anything else's."""
    if target.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{target}: is inside the mixture, whose files are sealed. Right: a folder beside it.")
    if target.is_file():
        raise InputError(f"{target}: is a file. Right: a folder for --out.")
    names = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if names and _SUMMARY not in names:
        raise InputError(f"{target}: holds files that are no export ({min(names)}). Right: an empty or new folder.")


def _write(folder: Path, manifest: dict[str, Any], to: str, fresh: Path, target: Path) -> Exported:
    convert, rows = FORMATS[to], 0
    left_out: Counter[str] = Counter()
    noted: Counter[str] = Counter()
    with ExitStack() as stack, progress("export", manifest["rows"]) as advance:
        train = stack.enter_context((fresh / _TRAIN).open("wb"))
        rest = stack.enter_context((fresh / _LEFT_OUT).open("wb"))
        for row in _forms_first(folder, manifest, to):
            notes: set[str] = set()
            try:
                train.write(orjson.dumps(convert(row, notes), option=orjson.OPT_APPEND_NEWLINE))
                rows += 1
                noted.update(notes)
            except UnheldError as reason:
                left_out[str(reason).partition(": ")[0]] += 1
                rest.write(orjson.dumps({**row, "reason": str(reason)}, option=orjson.OPT_APPEND_NEWLINE))
            advance(1)
    if rows + left_out.total() != manifest["rows"]:
        found = rows + left_out.total()
        raise InputError(f"{folder}: holds {found:,} rows, its manifest says {manifest['rows']:,}. `check` says more.")
    if not left_out:
        (fresh / _LEFT_OUT).unlink()
    done = Exported(
        target, to, rows, dict(sorted(left_out.items())), dict(sorted(noted.items())), manifest["contamination"]
    )
    if to == "llamafactory":
        _write_json(fresh / _INFO, {manifest["name"]: _entry(folder, manifest)})
    _write_json(fresh / _SUMMARY, _summary(done, manifest))
    return done


def _forms_first(folder: Path, manifest: dict[str, Any], to: str) -> Iterator[Row]:
    """Yield the mixture's rows, those first that show a form (tool calls, reasoning, a history, …) before all others.

    `datasets` fixes the types of a JSON file's columns on its first 10 MB and fails on what comes up later.
    """
    wanted = may_show(to, _schema(folder, manifest))
    early: list[int] = []
    for at, row in enumerate(_rows(folder, manifest)) if wanted else ():
        with suppress(UnheldError):
            shown = wanted & shows(FORMATS[to](row, set()))
            if shown:
                early.append(at)
                wanted -= shown
                yield row
        if not wanted:
            break
    for at, row in enumerate(_rows(folder, manifest)):
        if at not in early:
            yield row


def _rows(folder: Path, manifest: dict[str, Any]) -> Iterator[Row]:
    for name in manifest["output"]:
        try:
            with pq.ParquetFile(folder / name) as file:
                for batch in file.iter_batches(batch_size=_BATCH):
                    yield from batch.to_pylist()
        except (OSError, ValueError) as error:
            raise _unreadable(folder / name, error) from None


def _schema(folder: Path, manifest: dict[str, Any]) -> pa.Schema:
    path = folder / next(iter(manifest["output"]))
    try:
        return pq.read_schema(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    first = first_line(error, 120)
    return InputError(f"{path}: cannot be read: {first}. `check` says what is whole.")


def _entry(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the data set's entry in LLaMA-Factory's dataset_info.json."""
    columns = {"messages": "conversations"}
    names = _schema(folder, manifest).names
    entry: dict[str, Any] = {"file_name": _TRAIN, "formatting": "sharegpt", "columns": columns}
    if "tools" in names:
        columns["tools"] = "tools"
    if "messages" not in names:
        entry["ranking"] = True
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    return entry


def _summary(done: Exported, manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": done.to,
        "mixture": manifest["name"],
        "content_sha256": manifest["content_sha256"],
        "rows": done.rows,
        "left_out": done.left_out,
        "notes": done.notes,
        "contamination": done.contamination,
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")
