"""The examples of a mixture: made once, kept in a folder, read by every process through a memory map.

Layout of the folder: `tokens.bin` (int32, all examples end to end), `learnt.bin` (bool, alike), `examples.parquet` (one
row an example: where it came from, its length), `dropped.parquet` (rows without an example, with the reason), and
`examples.json`, written last: the key of all that the examples depend on, and the counts.
"""

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from steel_data.engine import progress, run
from steel_data.files import address, locked, put_right, replaced_folder, source_sha256
from steel_data.mixture.rows import Row, Slice, collect, count, files, rows_at, rows_of, scan, schema, slices
from steel_train.examples.encode import Encoder
from steel_train.examples.tokenizer import tokenizer_sha256
from steel_train.say import write_json

_BATCH = 1_000  # rows encoded at once
_SLICE = 2_000  # rows of a task: what is written does not depend on who does it
_STREAMS = ("tokens.bin", "learnt.bin")
_ENCODERS: dict[Path, Encoder] = {}  # of this process
_ORIGIN = ("id", "copy", "source", "kind", "benchmark", "item", "dose")
_SCHEMA: dict[str, Any] = {
    "id": pl.String, "copy": pl.Int32, "source": pl.String, "kind": pl.String, "benchmark": pl.String,
    "item": pl.String, "dose": pl.Int32, "row": pl.Int64, "length": pl.Int32, "learnt": pl.Int32, "cut": pl.Int32,
    "turns": pl.Int32, "ends": pl.List(pl.Int32), "aside": pl.Int32, "label": pl.Boolean,
}  # fmt: skip
_DROPPED: dict[str, Any] = {name: _SCHEMA[name] for name in (*_ORIGIN, "row")} | {"reason": pl.String}
_TABLES = {"examples.parquet": _SCHEMA, "dropped.parquet": _DROPPED}


@dataclass(frozen=True)
class Examples:
    """N examples of some of T tokens.

    `tokens` (T,) int32, `learnt` (T,) bool, `starts` and `lengths` (N,): example i is `lengths[i]` tokens from
    `starts[i]`. `table`: N rows, in the order of the mixture. `dropped`: rows that gave none. `per_unit`: 2 where
    examples come in pairs (chosen, rejected), else 1. `rows`: rows read; `of`: rows of the mixture (more than `rows`
    for a sample). `mismatched`: of answers judged good or bad (`label`), the same prompts with the answers of others.
    `firsts` (units,): where a unit is a block of several examples (blocks.py), the first of each.
    """

    tokens: npt.NDArray[np.int32]
    learnt: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    table: pl.DataFrame
    dropped: pl.DataFrame
    per_unit: int
    rows: int
    of: int
    mismatched: "Examples | None" = None
    firsts: npt.NDArray[np.int64] | None = None

    @property
    def units(self) -> int:
        """Return how many rows a schedule orders: examples, pairs of them, or blocks."""
        return len(self.table) // self.per_unit if self.firsts is None else len(self.firsts)

    def unit_lengths(self) -> npt.NDArray[np.int64]:
        """Return the tokens of each unit, (units,); of a judged answer those of the longer of its two examples."""
        if self.firsts is not None:
            return np.add.reduceat(self.lengths, self.firsts) if len(self.firsts) else self.firsts
        if self.mismatched is not None:
            longer: npt.NDArray[np.int64] = np.maximum(self.lengths, self.mismatched.lengths)
            return longer
        lengths: npt.NDArray[np.int64] = self.lengths.reshape(-1, self.per_unit).sum(axis=1)
        return lengths

    def members(self, units: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the examples of units, unit by unit."""
        of = np.asarray(units, np.int64)
        if self.firsts is None:
            pairs: npt.NDArray[np.int64] = (of[:, None] * self.per_unit + np.arange(self.per_unit)).ravel()
            return pairs
        bounds = np.append(self.firsts, len(self.table))
        return np.concatenate([of[:0], *(np.arange(bounds[i], bounds[i + 1]) for i in of.tolist())])

    def ends(self) -> dict[int, int]:
        """Return which tokens end the learnt turns and how many each, the commonest first."""
        counted = self.table["ends"].explode(empty_as_null=True, keep_nulls=False).drop_nulls().value_counts()
        return dict(counted.sort(["count", "ends"], descending=[True, False]).iter_rows())

    def one(self, i: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Return ids and learnt of example `i`. Its first token never is: a block may begin inside a document."""
        part = slice(int(self.starts[i]), int(self.starts[i] + self.lengths[i]))
        learnt = np.array(self.learnt[part])
        learnt[:1] = False
        return self.tokens[part], learnt

    def part(self, chosen: npt.NDArray[np.bool_]) -> "Examples":
        """Return the examples at which `chosen` (N,) is true, over the same tokens."""
        table = self.table.filter(pl.Series(chosen))
        beside = None if self.mismatched is None else self.mismatched.part(chosen)
        return replace(self, starts=self.starts[chosen], lengths=self.lengths[chosen], table=table, mismatched=beside)

    def of_form(self, form: str) -> "Examples":
        """Return examples as rows of a form give them: one a row ("messages"), pairs, or judged answers ("kto")."""
        if form != "kto":
            return replace(self, per_unit=2 if form == "preference" else 1)
        is_matched = np.arange(len(self.table)) % 2 == 0
        return replace(self.part(is_matched), mismatched=self.part(~is_matched))


def examples_key(content_sha256: str, encoder: Encoder) -> str:
    """Return the SHA-256 of all that the examples of a mixture depend on, our code and the libraries' included."""
    code = source_sha256(*(f"steel_train.examples.{name}" for name in ("encode", "folder", "template", "tokenizer")))
    libraries = [version(name) for name in ("tokenizers", "transformers")]
    how = [tokenizer_sha256(encoder.tokenizer), encoder.max_length, encoder.overlong]
    how += [encoder.learnt.loss, encoder.learnt.exceptions(), encoder.learnt.documents]
    return address(content_sha256, how, code, libraries)


def make_examples(mixture: Path, encoder: Encoder, folder: Path, content_sha256: str, workers: int = 1) -> Examples:
    """Encode a whole mixture into `folder`, or take what is there if it was made from the same. Raises InputError.

    On `workers` processes; the bytes do not depend on how many. Memory is bounded by a slice of rows each, but for
    the table of examples, some hundred bytes a row.
    """
    key = examples_key(content_sha256, encoder)
    with locked(folder, wait=True):  # seeds that are trained side by side ask for the same examples at once
        put_right(folder)
        try:
            return open_examples(folder, key)
        except Exception:  # missing, of another key, or damaged in whatever way: it is ours and can be made again
            with replaced_folder(folder) as fresh:
                _write(mixture, encoder, fresh, key, workers)
            return open_examples(folder, key)


@dataclass(frozen=True)
class _Task:
    """A slice of a mixture to encode, with the encoder that lies in a file, into files in `parts`."""

    mixture: Path
    piece: Slice
    encoder: Path
    parts: Path

    def __str__(self) -> str:
        return str(self.piece)

    def part(self, name: str) -> Path:
        """Return where one of its files is written."""
        return self.parts / f"{self.piece.number}-{name}"


def _write(mixture: Path, encoder: Encoder, folder: Path, key: str, workers: int) -> None:
    parts = folder / "parts"
    parts.mkdir()
    place = parts / "encoder.pickle"
    if workers > 1:
        how = (encoder.tokenizer, encoder.max_length, encoder.overlong, encoder.learnt)
        place.write_bytes(pickle.dumps(how))
    cut = slices(mixture, files(mixture), _SLICE)
    tasks = [_Task(mixture, piece, place, parts) for piece in cut]
    number = sum(piece.rows for piece in cut)
    _ENCODERS[place] = encoder
    try:
        with _Laid(folder, number) as laid:
            run(_encode_slice, tasks, workers, laid, begin=_one_thread)
    finally:
        del _ENCODERS[place]
    shutil.rmtree(parts)
    form = form_of(mixture)
    facts = {"key": key, "rows": number, "per_unit": 1 if form == "messages" else 2, "form": form}
    write_json(folder / "examples.json", facts)


class _Laid(ExitStack):
    """Lays the part files of tasks end to end into the folder's, one task after another as it is called with them."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__()
        self.streams = {name: self.enter_context((folder / name).open("wb")) for name in _STREAMS}
        self.tables = {
            name: self.enter_context(
                pq.ParquetWriter(folder / name, pl.DataFrame(schema=columns).to_arrow().schema, compression="zstd")
            )
            for name, columns in _TABLES.items()
        }
        self.advance = self.enter_context(progress("encode", number))

    def __call__(self, task: _Task) -> None:
        for name, stream in self.streams.items():
            with task.part(name).open("rb") as part:
                shutil.copyfileobj(part, stream)
            task.part(name).unlink()
        for name, writer in self.tables.items():
            writer.write_table(pq.read_table(task.part(name)).cast(writer.schema))
            task.part(name).unlink()
        self.advance(task.piece.rows)


def _one_thread() -> None:
    """Let a worker's tokenizer be one thread: the workers are what runs side by side."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _encoder(place: Path) -> Encoder:
    """Return the encoder of a task: this process's own, or what lies in the file, read once."""
    if place not in _ENCODERS:
        _ENCODERS[place] = Encoder(*pickle.loads(place.read_bytes()))
    return _ENCODERS[place]


def _encode_slice(task: _Task) -> _Task:
    """Write the examples of a slice to its part files."""
    encoder, number = _encoder(task.encoder), task.piece.number
    tables, dropped = [pl.DataFrame(schema=_SCHEMA)], [pl.DataFrame(schema=_DROPPED)]
    with task.part("tokens.bin").open("wb") as tokens, task.part("learnt.bin").open("wb") as learnt:
        for batch in _batches(rows_of(task.mixture, task.piece)):
            made = encode_batch(encoder, batch, number)
            number += len(batch)
            tokens.write(made.tokens.tobytes())
            learnt.write(made.learnt.tobytes())
            tables.append(made.table)
            dropped.append(made.dropped)
    pl.concat(tables).write_parquet(task.part("examples.parquet"))
    pl.concat(dropped).write_parquet(task.part("dropped.parquet"))
    return task


def open_examples(folder: Path, key: str | None = None) -> Examples:
    """Open a folder of examples without reading its tokens into memory.

    Raises OSError or ValueError where it is not whole, or was made from another `key` than this.
    """
    facts = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    table = pl.read_parquet(folder / "examples.parquet")
    tokens, learnt = _map(folder / "tokens.bin", np.int32), _map(folder / "learnt.bin", np.bool_)
    starts, lengths = _places(table)
    form = facts.get("form") or ("preference" if facts["per_unit"] == 2 else "messages")  # an earlier steel's
    if key not in (None, facts["key"]) or not len(tokens) == len(learnt) == lengths.sum():
        raise ValueError(f"{folder}: made from something else, or cut short")
    return Examples(
        tokens=tokens, learnt=learnt, starts=starts, lengths=lengths, table=table,
        dropped=pl.read_parquet(folder / "dropped.parquet"), per_unit=1, rows=facts["rows"], of=facts["rows"],
    ).of_form(form)  # fmt: skip


def _map(path: Path, dtype: Any) -> Any:
    # an empty file cannot be mapped
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)


def _places(table: pl.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where each example begins where all lie end to end, and how long it is."""
    lengths = table["length"].to_numpy().astype(np.int64)
    return np.cumsum(lengths) - lengths, lengths


def sample_examples(mixture: Path, encoder: Encoder, most: int) -> Examples:
    """Encode at most `most` rows, in blocks spread evenly over the mixture, in memory (for a plan)."""
    total = count_rows(mixture)
    blocks = -(-total // _BATCH)
    step = max(blocks / max(most // _BATCH, 1), 1.0)
    block = pl.int_range(pl.len()) // _BATCH
    wanted = block.is_in([int(i * step) for i in range(blocks)])
    places = collect(mixture, scan(mixture, files(mixture)).select("file", "at").filter(wanted)).rows()
    sampled = (row for _, row in rows_at(mixture, places))
    batches = [encode_batch(encoder, batch, i * _BATCH) for i, batch in enumerate(_batches(sampled))]
    if not batches:
        batches = [encode_batch(encoder, [], 0)]
    table = pl.concat([b.table for b in batches])
    starts, lengths = _places(table)
    return Examples(
        tokens=np.concatenate([b.tokens for b in batches]), learnt=np.concatenate([b.learnt for b in batches]),
        starts=starts, lengths=lengths, table=table, dropped=pl.concat([b.dropped for b in batches]),
        per_unit=1, rows=len(places), of=total,
    ).of_form(form_of(mixture))  # fmt: skip


def encode_batch(encoder: Encoder, rows: list[dict[str, Any]], first: int) -> Examples:
    """Encode rows of which the first has number `first` in the mixture."""
    ids, learnt, table, dropped = [], [], [], []
    for number, (row, encoded) in enumerate(zip(rows, encoder.encode(rows), strict=True), start=first):
        origin = {name: row.get(name) for name in _ORIGIN} | {"row": number}
        if encoded.reason is not None:
            dropped.append(origin | {"reason": encoded.reason})
        for example in encoded.examples:
            ids.append(example.ids)
            learnt.append(example.learnt)
            facts: dict[str, Any] = {"length": len(example.ids), "learnt": int(example.learnt.sum())}
            facts |= {"cut": example.cut, "turns": example.turns, "aside": example.aside}
            table.append(origin | facts | {"ends": list(example.ends), "label": row.get("label")})
    frame = pl.DataFrame(table, schema=_SCHEMA)
    starts, lengths = _places(frame)
    return Examples(
        tokens=np.concatenate([np.zeros(0, np.int32), *ids]), learnt=np.concatenate([np.zeros(0, bool), *learnt]),
        starts=starts, lengths=lengths, table=frame, dropped=pl.DataFrame(dropped, schema=_DROPPED), per_unit=1,
        rows=len(rows), of=len(rows),
    )  # fmt: skip


def _batches(stream: Iterator[Row]) -> Iterator[list[Row]]:
    return iter(lambda: list(islice(stream, _BATCH)), [])


def count_rows(mixture: Path) -> int:
    """Return the rows of a mixture."""
    return count(mixture, files(mixture))


def form_of(mixture: Path) -> str:
    """Return the form of a mixture's rows: "messages", "preference" (prompt, chosen, rejected), or "kto" (label)."""
    columns = schema(mixture, files(mixture)[0])
    return "messages" if "prompt" not in columns else "kto" if "completion" in columns else "preference"
