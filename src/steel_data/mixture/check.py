"""Verify a mixture folder: what is checked, and one line for each fault that is found.

First the books (the manifest's keys, the ledger's sums, the totals), then the files (names, checksums, row counts,
columns), then, row by row, the ids recomputed from the conversations, the order, `content_sha256`, the counts of the
ledger and the marks of declared contamination against truth.parquet. Memory is bounded by one batch of rows and the
injected items.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from steel_data.engine import progress
from steel_data.errors import InputError, first_line, one_line
from steel_data.files import sha256_of
from steel_data.mixture.manifest import broken_laws, misfits, read_manifest
from steel_data.mixture.rows import Row, collect, rows, scan
from steel_data.mixture.schema import Shape
from steel_data.row.faults import record_fault
from steel_data.row.record import EXTRA_KEYS, FORMS, form_of, record_id, text_view
from steel_data.row.table import UNREADABLE

_BESIDE = ("manifest.json", "card.md", "card.html")
_TRUTH = {"benchmark": "string", "item": "string", "dose": "int32", "form": "string", "subject": "string"}
_BESIDE_TURNS = ("kind", "language", "language_score", "benchmark", "item", "dose", "meta")
_MARKS = ["benchmark", "item", "dose"]
_KEYS: dict[str, type] = {
    "name": str, "seed": int, "recipe": dict, "recipe_sha256": str, "versions": dict, "tokenizer": dict, "inputs": dict,
    "sources": dict, "contamination": dict, "languages": dict, "tokens": int, "output": dict, "dropped_files": dict,
    "truth": dict, "rows": int, "content_sha256": str,
}  # fmt: skip
_COUNTS = ("read", "unreadable", "made", "built", "kept", "sampled_out", "repeated", "written", "tokens")


def check_mixture(folder: Path) -> str:
    """Return the verdict on a whole mixture, or write one line for each fault to stderr and raise InputError."""
    manifest = read_manifest(folder)
    faults = find_faults(folder, manifest)
    if not faults:
        return _verdict(folder, manifest)
    for fault in faults:
        sys.stderr.write(f"fault: {one_line(fault)}\n")
    many = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
    raise InputError(f"{folder}: {many}. Fix: build the recipe again.")


def find_faults(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return what is wrong with a mixture: one line each, nothing for a whole one."""
    manifest = dict(manifest)  # whose faults are listed, not told one by one
    faults = _manifest_faults(manifest) or [f"manifest.json: {fault}" for fault in misfits(manifest)]
    if faults:
        return faults  # nothing can be measured by a manifest that is itself broken
    files, schemas = _file_faults(folder, manifest)
    columns = _column_faults(manifest, schemas)
    faults = _total_faults(manifest) + files + columns
    if not columns and len(schemas) == sum(len(manifest[part]) for part in ("output", "dropped_files", "truth")):
        faults += _row_faults(folder, manifest) + _mark_faults(folder, manifest) + _dropped_faults(folder, manifest)
    return faults


def _verdict(folder: Path, manifest: dict[str, Any]) -> str:
    dropped = sum(entry["rows"] for entry in manifest["dropped_files"].values())
    files, sources = (
        f"{len(manifest[part]):,} {what}{'' if len(manifest[part]) == 1 else 's'}"
        for part, what in (("output", "file"), ("sources", "source"))
    )
    lines = [
        f"{folder}: OK",
        f"  {manifest['rows']:,} rows ({files}), {dropped:,} dropped rows, {sources}; "
        f"content {manifest['content_sha256'][:16]}",
        "  checksums and row counts of all files; no extra files",
        "  columns and types; every id from its conversation; order; content_sha256",
        "  the ledger adds up, and its counts match the rows, source by source and reason by reason",
    ]
    for benchmark, doses in manifest["contamination"].items():
        items, injected = sum(doses.values()), sum(int(dose) * n for dose, n in doses.items())
        lines.append(
            f"  declared contamination with {benchmark}: {items:,} items in {injected:,} rows, as in truth.parquet"
        )
    return "\n".join(lines)


def _manifest_faults(manifest: dict[str, Any]) -> list[str]:
    """Return what is missing or of the wrong type in a manifest."""
    faults = []
    for key, kind in _KEYS.items():
        if not isinstance(manifest.get(key), kind):
            faults.append(f"manifest.json: '{key}' is {'missing' if key not in manifest else 'no ' + kind.__name__}")
    if faults:
        return faults
    for part in ("output", "dropped_files", "truth", "inputs"):
        for name, entry in manifest[part].items():
            if not isinstance(entry, dict) or not isinstance(entry.get("rows"), int) or "sha256" not in entry:
                faults.append(f"manifest.json: {part}: '{name}' has no rows or no sha256")
    for name, account in manifest["sources"].items():
        if not isinstance(account, dict):
            faults.append(f"manifest.json: source {name}: is no table")
            continue
        wrong = [key for key in _COUNTS if not isinstance(account.get(key), int) or account[key] < 0]
        if wrong or not isinstance(account.get("dropped"), dict):
            faults.append(f"manifest.json: source {name}: no count of {', '.join(wrong) or 'dropped'}")
    return faults


def _total_faults(manifest: dict[str, Any]) -> list[str]:
    """Return which laws of the ledger do not hold, and which totals are not the sums of their parts."""
    faults = [
        f"manifest.json: source {name}: {law} does not hold"
        for name, account in manifest["sources"].items()
        for law in broken_laws(account)
    ]
    accounts = manifest["sources"].values()
    sums = {
        "rows, by source": (manifest["rows"], sum(a["written"] for a in accounts)),
        "rows, by file": (manifest["rows"], sum(entry["rows"] for entry in manifest["output"].values())),
        "tokens, by source": (manifest["tokens"], sum(a["tokens"] for a in accounts)),
        "tokens, by language": (manifest["tokens"], sum(manifest["languages"].values())),
        "dropped and unreadable rows, by file": (
            sum(a["unreadable"] + sum(a["dropped"].values()) for a in accounts),
            sum(entry["rows"] for entry in manifest["dropped_files"].values()),
        ),
    }
    for what, (said, found) in sums.items():
        if said != found:
            faults.append(f"manifest.json: {what}: {said:,} is said, the sum is {found:,}")
    return faults


def _file_faults(folder: Path, manifest: dict[str, Any]) -> tuple[list[str], dict[str, pa.Schema]]:
    """Compare names, bytes and row counts with the manifest. Return the faults, and the schemas of readable files."""
    named = {**manifest["output"], **manifest["dropped_files"], **manifest["truth"]}
    schemas: dict[str, pa.Schema] = {}
    faults = [f"{name}: is missing" for name in _BESIDE if not (folder / name).is_file()]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if name != "dropped":
                faults.append(f"{name}/: does not belong to the mixture")
        elif name not in named and name not in _BESIDE and name.partition("/")[0] in ("dropped", path.name):
            faults.append(f"{name}: does not belong to the mixture")
    for name, entry in named.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name}: is missing")
            continue
        if sha256_of(path) != entry["sha256"]:  # a large file is read once, for this
            faults.append(f"{name}: its bytes are not those that the manifest names")
        try:
            metadata = pq.read_metadata(path)
            schemas[name] = metadata.schema.to_arrow_schema()
        except (OSError, ValueError, pa.ArrowException) as error:
            faults.append(f"{name}: is no parquet file that can be read: {first_line(error, 120)}")
            continue
        if metadata.num_rows != entry["rows"]:
            faults.append(f"{name}: has {metadata.num_rows:,} rows, the manifest says {entry['rows']:,}")
    return faults, schemas


def _column_faults(manifest: dict[str, Any], schemas: dict[str, pa.Schema]) -> list[str]:
    """Return where columns or types are not those of the contract. The first train file says which extras there are."""
    shape: Shape | None = None
    faults = []
    for name, schema in schemas.items():
        if name in manifest["truth"]:
            kinds = {field.name: str(field.type).removeprefix("large_") for field in schema}
            wrong = [column for column, kind in _TRUTH.items() if kinds.get(column) != kind]
            faults += [f"{name}: column '{column}' is not {_TRUTH[column]}" for column in wrong]
            continue
        shape = shape or _shape_of(schema)
        expected = shape.schema(dropped=name in manifest["dropped_files"])
        if not schema.equals(expected):
            faults.append(f"{name}: {_difference(expected, schema)}")
    return faults


def _shape_of(schema: pa.Schema) -> Shape:
    """Return the shape that a schema's conversations have."""
    form = "messages" if "messages" in schema.names else "kto" if "completion" in schema.names else "preference"
    column = FORMS[form][0]
    found: set[str] = set()
    if column in schema.names and pa.types.is_list(schema.field(column).type):
        turn = schema.field(column).type.value_type
        found = {turn.field(i).name for i in range(turn.num_fields)} if pa.types.is_struct(turn) else set()
    return Shape(
        form, tuple(key for key in EXTRA_KEYS if key in found), "tools" in schema.names, "rating" in schema.names
    )


def _difference(expected: pa.Schema, schema: pa.Schema) -> str:
    for field in expected:
        if field.name not in schema.names:
            return f"column '{field.name}' is missing"
        if schema.field(field.name).type != field.type:
            return f"column '{field.name}' is {schema.field(field.name).type}, not {field.type}"
    for name in schema.names:
        if name not in expected.names:
            return f"column '{name}' does not belong there"
    return "the columns are in another order"


class _Faults:
    """Faults of rows by kind: how many, and the first one's place. One line a kind, not one a row."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, what: str, where: str, many: int = 1) -> None:
        self.count[what] += many
        self.first.setdefault(what, where)

    def lines(self) -> list[str]:
        return [
            f"{self.first[what]}: {what}" + (f" (and {n - 1:,} more)" if n > 1 else "")
            for what, n in self.count.items()
        ]


def _row_faults(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Check what the train files' rows say of themselves; their order, hash and counts against the manifest."""
    faults = _Faults()
    written: Counter[tuple[str, bool]] = Counter()  # (source, is a repeat)
    digest, before = hashlib.sha256(), None
    key = manifest["seed"] & (2**64 - 1)
    for where, row in _placed(folder, manifest["output"], "check rows"):
        _check_row(where, row, faults)
        order = xxhash.xxh3_64_intdigest(f"order/{row['id']}/{row['copy']}".encode(), key)
        now = (order, row["source"], row["origin_file"], row["origin_row"], row["copy"])
        if before is not None and now < before:
            faults.add("the row does not stand in the mixture's order", where)
        before = now
        digest.update(f"{row['id']}\t{row['source']}\t{row['copy']}\n".encode())
        written[row["source"], row["copy"] > 0] += 1
    lines = faults.lines()
    if digest.hexdigest() != manifest["content_sha256"]:
        lines.append("manifest.json: content_sha256 is not that of the rows")
    accounts = manifest["sources"]
    lines += [f"rows of a source '{s}' that the manifest does not name" for s, _ in written if s not in accounts]
    for name, account in accounts.items():
        first, again = account["kept"] - account["sampled_out"], account["repeated"]
        for what, said, found in (("rows", first, written[name, False]), ("repeats", again, written[name, True])):
            if said != found:
                lines.append(f"source {name}: {found:,} {what} in the mixture, the ledger says {said:,}")
    return lines


def _placed(folder: Path, files: dict[str, Any], label: str) -> Iterator[tuple[str, Row]]:
    """Yield (place, row) of all rows, with a progress bar where somebody can see it."""
    with progress(label, sum(entry["rows"] for entry in files.values())) as advance:
        for name in files:
            for at, row in enumerate(rows(folder, [name])):
                yield f"{name} row {at}", row
                if at % 1_000 == 999:
                    advance(1_000)


def _check_row(where: str, row: Row, faults: _Faults) -> None:
    record = _record(row)
    if record is None:
        faults.add("no conversation", where)
        return
    if record_id(record) != row["id"]:
        faults.add("the id is not that of the conversation", where)
    if len(text_view(record)) != row["chars"]:
        faults.add("chars is not the length of the conversation", where)
    beside = {key: row[key] for key in _BESIDE_TURNS}
    if fault := record_fault({**record, **beside}):
        why, _, detail = fault.partition(": ")
        faults.add(
            f"no record: {detail}" if why == "record" else f"the conversation cannot be trained on: {why}", where
        )


def _record(row: Row) -> Row | None:
    """Return the record as the builder made it, without the nulls that parquet adds; None for no conversation."""
    columns = FORMS[form_of(row)]
    if row.get(columns[0]) is None:
        return None
    record: Row = {key: [_message(m) for m in row.get(key) or ()] for key in columns}
    if "label" in row:
        record["label"] = row["label"]
    if row.get("tools"):
        record["tools"] = json.loads(row["tools"])
    return record


def _message(message: Row) -> Row:
    made = {key: value for key, value in message.items() if value is not None}
    if made.get("tool_calls"):
        # parquet adds nulls to calls too; the id sorts their keys
        made["tool_calls"] = [{k: v for k, v in call.items() if v is not None} for call in made["tool_calls"]]
    return {"role": message["role"], "content": message["content"], **made}


def _dropped_faults(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Compare dropped/ with the ledger, reason by reason; and recompute the ids of what was dropped."""
    faults = _Faults()
    found: Counter[tuple[str, str]] = Counter()
    for where, row in _placed(folder, manifest["dropped_files"], "check dropped rows"):
        found[row["source"], row["reason"]] += 1
        record = _record(row)
        if not row["step"] or not row["reason"]:
            faults.add("a dropped row without step or reason", where)
        if record is not None and record_id(record) != row["id"]:
            faults.add("the id is not that of the conversation", where)
    said = {(name, reason): n for name, a in manifest["sources"].items() for reason, n in a["dropped"].items()}
    said |= {(name, UNREADABLE): a["unreadable"] for name, a in manifest["sources"].items()}
    return faults.lines() + [
        f"source {source}: {found[source, reason]:,} rows dropped by {reason} in dropped/, the ledger says "
        f"{said.get((source, reason), 0):,}"
        for source, reason in sorted({*said, *found}, key=str)
        if said.get((source, reason), 0) != found[source, reason]
    ]


def _mark_faults(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Declared contamination: rows, truth.parquet and manifest must tell the same story."""
    whole, some = pl.all_horizontal(pl.col(_MARKS).is_not_null()), pl.any_horizontal(pl.col(_MARKS).is_not_null())
    injected = pl.col("kind").eq_missing("injected")
    train = scan(folder, manifest["output"]).select(*_MARKS, "kind", "copy", "file", "at")
    marked = collect(folder, train.filter(some | injected))
    truth = pl.DataFrame(schema={"benchmark": pl.String, "item": pl.String, "dose": pl.Int32})
    if manifest["truth"]:
        drawn = scan(folder, manifest["truth"]).filter(pl.col("dose") > 0)
        truth = collect(folder, drawn.select(_MARKS)).unique(maintain_order=True)
    sound, faults = marked.filter(injected & whole), _Faults()
    strange = sound.join(truth, on=_MARKS, how="anti", maintain_order="left")
    for what, wrong in {
        "benchmark, item and dose stand on injected rows, all three, and on no other": marked.filter(
            ~(injected & whole)
        ),
        "the row's item and dose are not in truth.parquet": strange,
        "the same copy of an injected item stands twice": sound.filter(~pl.struct(*_MARKS, "copy").is_first_distinct()),
    }.items():
        if len(wrong):
            faults.add(what, "{} row {}".format(*wrong.select("file", "at").row(0)), len(wrong))
    copies = pl.col("copy")
    items = sound.group_by(_MARKS, maintain_order=True).agg(copies.n_unique(), low=copies.min(), high=copies.max())
    odd = items.filter((copies != pl.col("dose")) | (pl.col("low") != 0) | (pl.col("high") != pl.col("dose") - 1))
    lines = [
        f"{benchmark} {item}: stands {n} times in the mixture, its dose is {dose}"
        for benchmark, item, dose, n, *_ in odd.iter_rows()
    ]
    lines += [
        f"{benchmark} {item}: has dose {dose} in truth.parquet and is not in the mixture"
        for benchmark, item, dose in truth.join(items, on=_MARKS, how="anti", maintain_order="left").iter_rows()
    ]
    counts: dict[str, dict[str, int]] = {}
    for benchmark, dose, n in items.group_by("benchmark", "dose").len().iter_rows():
        counts.setdefault(benchmark, {})[str(dose)] = n
    if counts != manifest["contamination"]:
        lines.append("manifest.json: contamination is not that of the injected rows")
    if len(lines) > 5:
        lines = [*lines[:5], f"and {len(lines) - 5:,} more faults of injected items"]
    return faults.lines() + lines
