"""The rows of a mixture against its manifest: ids, order, content hash, counts, and marks of contamination."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import xxhash

from steel_data.engine import progress
from steel_data.row.record import conversation_fault, record_id, text_view
from steel_data.row.table import UNREADABLE

Row = dict[str, Any]
_BATCH = 2_000
_MARKS = ("benchmark", "item", "dose")


class _Faults:
    """Faults of rows by kind: how many, and the first one's place. One line a kind, not one a row."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, what: str, where: str) -> None:
        self.count[what] += 1
        self.first.setdefault(what, where)

    def lines(self) -> list[str]:
        return [
            f"{self.first[what]}: {what}" + (f" (and {n - 1:,} more)" if n > 1 else "")
            for what, n in self.count.items()
        ]


def check_rows(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return what is wrong with the rows of train files and dropped/."""
    faults, marks = _Faults(), _Marks(folder, manifest)
    written: Counter[tuple[str, bool]] = Counter()  # (source, is a repeat)
    digest, before = hashlib.sha256(), None
    key = manifest["seed"] & (2**64 - 1)
    for where, row in _rows(folder, manifest["output"], "check rows"):
        _check_row(where, row, faults)
        order = xxhash.xxh3_64_intdigest(f"order/{row['id']}/{row['copy']}".encode(), key)
        now = (order, row["source"], row["origin_file"], row["origin_row"], row["copy"])
        if before is not None and now < before:
            faults.add("the row does not stand in the mixture's order", where)
        before = now
        digest.update(f"{row['id']}\t{row['source']}\t{row['copy']}\n".encode())
        written[row["source"], row["copy"] > 0] += 1
        marks.add(where, row, faults)
    lines = faults.lines()
    if digest.hexdigest() != manifest["content_sha256"]:
        lines.append("manifest.json: content_sha256 is not that of the rows")
    return lines + _written(manifest, written) + marks.lines() + _dropped(folder, manifest)


def _rows(folder: Path, files: dict[str, Any], label: str) -> Iterator[tuple[str, Row]]:
    """Yield (place, row) of all rows, with a progress bar where somebody can see it."""
    with progress(label, sum(entry["rows"] for entry in files.values())) as advance:
        for name in files:
            number = 0
            with pq.ParquetFile(folder / name) as file:
                for batch in file.iter_batches(batch_size=_BATCH):
                    for row in batch.to_pylist():
                        yield f"{name} row {number}", row
                        number += 1
                    advance(batch.num_rows)


def _check_row(where: str, row: Row, faults: _Faults) -> None:
    """Check what a row says of itself: its id, its length, whether it can be trained on."""
    record = _record(row)
    if record is None:
        faults.add("no conversation", where)
        return
    if record_id(record) != row["id"]:
        faults.add("the id is not that of the conversation", where)
    if len(text_view(record)) != row["chars"]:
        faults.add("chars is not the length of the conversation", where)
    fault = conversation_fault(record["messages"]) if record.get("messages") is not None else None
    if fault:
        faults.add(f"the conversation cannot be trained on: {fault}", where)


def _record(row: Row) -> Row | None:
    """Return the record as the builder made it, without the nulls that parquet adds; None for no conversation."""
    if row.get("messages") is not None:
        record: Row = {"messages": [_message(m) for m in row["messages"]]}
    elif row.get("prompt") is not None:
        record = {key: [_message(m) for m in row[key] or ()] for key in ("prompt", "chosen", "rejected")}
    else:
        return None
    if row.get("tools"):
        record["tools"] = json.loads(row["tools"])
    return record


def _message(message: Row) -> Row:
    made = {key: value for key, value in message.items() if value is not None}
    if made.get("tool_calls"):
        made["tool_calls"] = [_call(call) for call in made["tool_calls"]]
    return {"role": message["role"], "content": message["content"], **made}


def _call(call: Row) -> Row:
    """Return a call with its keys in the builder's order (builders.turns.tool_calls_of), which the id depends on."""
    function = {key: call["function"][key] for key in ("name", "arguments")}
    made = {"type": call["type"], "function": function}
    return made | ({"id": call["id"]} if call.get("id") is not None else {})


def _written(manifest: dict[str, Any], written: Counter[tuple[str, bool]]) -> list[str]:
    faults = [
        f"rows of a source '{s}' that the manifest does not name" for s, _ in written if s not in manifest["sources"]
    ]
    for name, account in manifest["sources"].items():
        first, again = account["kept"] - account["sampled_out"], account["repeated"]
        for what, said, found in (("rows", first, written[name, False]), ("repeats", again, written[name, True])):
            if said != found:
                faults.append(f"source {name}: {found:,} {what} in the mixture, the ledger says {said:,}")
    return faults


def _dropped(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Compare dropped/ with the ledger, reason by reason; and recompute the ids of what was dropped."""
    faults: _Faults = _Faults()
    found: Counter[tuple[str, str]] = Counter()
    for where, row in _rows(folder, manifest["dropped_files"], "check dropped rows"):
        found[row["source"], row["reason"]] += 1
        record = _record(row)
        if not row["step"] or not row["reason"]:
            faults.add("a dropped row without step or reason", where)
        if record is not None and record_id(record) != row["id"]:
            faults.add("the id is not that of the conversation", where)
    said = Counter({(name, UNREADABLE): a["unreadable"] for name, a in manifest["sources"].items() if a["unreadable"]})
    said.update({(s, r): n for s, a in manifest["sources"].items() for r, n in a["dropped"].items()})
    lines = faults.lines()
    for source, reason in sorted(set(said) | set(found), key=str):
        if said[source, reason] != found[source, reason]:
            lines.append(
                f"source {source}: {found[source, reason]:,} rows dropped by {reason} in dropped/, the ledger says "
                f"{said[source, reason]:,}"
            )
    return lines


class _Marks:
    """Declared contamination: rows, truth.parquet and manifest must tell the same story."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.copies: dict[tuple[str, str, int], set[int]] = {}
        self.truth: dict[tuple[str, str], set[int]] = {}
        for name in manifest["truth"]:
            drawn = pl.scan_parquet(folder / name, glob=False).filter(pl.col("dose") > 0).select(_MARKS).collect()
            for benchmark, item, dose in drawn.iter_rows():
                self.truth.setdefault((benchmark, item), set()).add(dose)

    def add(self, where: str, row: Row, faults: _Faults) -> None:
        """Take in one row of the mixture."""
        marked = [row[key] is not None for key in _MARKS]
        if (row["kind"] == "injected") != all(marked) or any(marked) != all(marked):
            faults.add("benchmark, item and dose stand on injected rows, all three, and on no other", where)
        elif row["kind"] == "injected":
            if row["dose"] not in self.truth.get((row["benchmark"], row["item"]), ()):
                faults.add("the row's item and dose are not in truth.parquet", where)
            copies = self.copies.setdefault((row["benchmark"], row["item"], row["dose"]), set())
            if row["copy"] in copies:
                faults.add("the same copy of an injected item stands twice", where)
            copies.add(row["copy"])

    def lines(self) -> list[str]:
        """Return what does not agree over the whole mixture."""
        lines = []
        for (benchmark, item, dose), copies in self.copies.items():
            if copies != set(range(dose)):
                lines.append(f"{benchmark} {item}: stands {len(copies)} times in the mixture, its dose is {dose}")
        for (benchmark, item), doses in self.truth.items():
            for dose in sorted(doses):
                if (benchmark, item, dose) not in self.copies:
                    lines.append(f"{benchmark} {item}: has dose {dose} in truth.parquet and is not in the mixture")
        counts: dict[str, dict[str, int]] = {}
        for benchmark, _, dose in self.copies:
            of = counts.setdefault(benchmark, {})
            of[str(dose)] = of.get(str(dose), 0) + 1
        if counts != self.manifest["contamination"]:
            lines.append("manifest.json: contamination is not that of the injected rows")
        if len(lines) > 5:
            lines = [*lines[:5], f"and {len(lines) - 5:,} more faults of injected items"]
        return lines
