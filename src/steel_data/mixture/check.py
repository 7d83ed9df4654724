"""Verify a mixture folder: what is checked, and one line for each fault that is found.

First the books (manifest, ledger laws), then the files (names, checksums, row counts, columns), then, row by row, the
ids recomputed from the conversations, the order, `content_sha256`, the counts of the ledger and the marks of declared
contamination against truth.parquet. Memory is bounded by one batch of rows and the injected items.

The files of a mixture folder against its manifest: names, bytes, row counts, columns.

What a manifest says must hold by itself: the keys of the contract, the laws of the ledger, the totals.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steel_data.errors import InputError
from steel_data.files import sha256_of
from steel_data.mixture.check_rows import check_rows
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.schema import Shape
from steel_data.row.record import EXTRA_KEYS

_BESIDE = ("manifest.json", "card.md", "card.html")
_TRUTH = {"benchmark": "string", "item": "string", "dose": "int32", "form": "string", "subject": "string"}


@dataclass(frozen=True)
class Files:
    """What is wrong with the files; whether their rows can be looked at."""

    faults: list[str]
    readable: bool


def check_files(folder: Path, manifest: dict[str, Any]) -> Files:
    """Compare the folder with the manifest. Large files are read once, for their checksum."""
    named = {**manifest["output"], **manifest["dropped_files"], **manifest["truth"]}
    faults, schemas = _strangers(folder, set(named)), {}
    for name, entry in named.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name}: is missing")
            continue
        if sha256_of(path) != entry["sha256"]:
            faults.append(f"{name}: its bytes are not those that the manifest names")
        try:
            with pq.ParquetFile(path) as file:
                rows, schema = file.metadata.num_rows, file.schema_arrow
        except (OSError, ValueError) as error:
            faults.append(f"{name}: is no parquet file that can be read: {str(error).partition(chr(10))[0][:120]}")
            continue
        if rows != entry["rows"]:
            faults.append(f"{name}: has {rows:,} rows, the manifest says {entry['rows']:,}")
        schemas[name] = schema
    columns = _columns(manifest, schemas)
    return Files(faults + columns, len(schemas) == len(named) and not columns)


def _strangers(folder: Path, named: set[str]) -> list[str]:
    """Return the files that belong to a mixture and are not there, and those that are there and do not belong."""
    faults = [f"{name}: is missing" for name in _BESIDE if not (folder / name).is_file()]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if name != "dropped":
                faults.append(f"{name}/: does not belong to the mixture")
        elif name not in named and name not in _BESIDE and name.partition("/")[0] in ("dropped", path.name):
            faults.append(f"{name}: does not belong to the mixture")
    return faults


def _columns(manifest: dict[str, Any], schemas: dict[str, pa.Schema]) -> list[str]:
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
    preference = "messages" not in schema.names
    column = "prompt" if preference else "messages"
    found: set[str] = set()
    if column in schema.names and pa.types.is_list(schema.field(column).type):
        turn = schema.field(column).type.value_type
        found = {turn.field(i).name for i in range(turn.num_fields)} if pa.types.is_struct(turn) else set()
    return Shape(preference, tuple(key for key in EXTRA_KEYS if key in found), "tools" in schema.names)


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


_KEYS: dict[str, type] = {
    "name": str, "seed": int, "recipe": dict, "recipe_sha256": str, "versions": dict, "tokenizer": dict, "inputs": dict,
    "sources": dict, "contamination": dict, "languages": dict, "tokens": int, "output": dict, "dropped_files": dict,
    "truth": dict, "rows": int, "content_sha256": str,
}  # fmt: skip
_COUNTS = ("read", "unreadable", "made", "built", "kept", "sampled_out", "repeated", "written", "tokens")


def check_manifest(manifest: dict[str, Any]) -> list[str]:
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
        wrong = [key for key in _COUNTS if not isinstance(account.get(key), int) or account[key] < 0]
        if wrong or not isinstance(account.get("dropped"), dict):
            faults.append(f"manifest.json: source {name}: no count of {', '.join(wrong) or 'dropped'}")
    return faults


def check_totals(manifest: dict[str, Any]) -> list[str]:
    """Return which laws of the ledger do not hold, and which totals are not the sums of their parts."""
    faults = []
    for name, a in manifest["sources"].items():
        laws = {
            "built = read - unreadable + made": a["built"] == a["read"] - a["unreadable"] + a["made"],
            "built = kept + dropped": a["built"] == a["kept"] + sum(a["dropped"].values()),
            "written = kept - sampled_out + repeated": a["written"] == a["kept"] - a["sampled_out"] + a["repeated"],
        }
        faults += [f"manifest.json: source {name}: {law} does not hold" for law, holds in laws.items() if not holds]
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


def check_mixture(folder: Path) -> str:
    """Return the verdict on a whole mixture, or write one line for each fault to stderr and raise InputError."""
    manifest = read_manifest(folder)
    faults = find_faults(folder, manifest)
    if not faults:
        return _verdict(folder, manifest)
    for fault in faults:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in fault)
        sys.stderr.write(f"fault: {line}\n")
    many = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
    raise InputError(f"{folder}: {many}. Right: build the recipe again.")


def find_faults(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return what is wrong with a mixture: one line each, nothing for a whole one."""
    faults = check_manifest(manifest)
    if faults:
        return faults  # nothing can be measured by a manifest that is itself broken
    faults = check_totals(manifest)
    files = check_files(folder, manifest)
    faults += files.faults
    if files.readable:
        faults += check_rows(folder, manifest)
    return faults


def _count(things: dict[str, Any], what: str) -> str:
    return f"{len(things):,} {what}{'' if len(things) == 1 else 's'}"


def _verdict(folder: Path, manifest: dict[str, Any]) -> str:
    dropped = sum(entry["rows"] for entry in manifest["dropped_files"].values())
    lines = [
        f"{folder}: whole",
        f"  {manifest['rows']:,} rows ({_count(manifest['output'], 'file')}), {dropped:,} dropped rows, "
        f"{_count(manifest['sources'], 'source')}; content {manifest['content_sha256'][:16]}",
        "  checksums and row counts of all files; nothing else in the folder",
        "  columns and types; every id from its conversation; order; content_sha256",
        "  the ledger's laws, and its counts against the rows, source by source and reason by reason",
    ]
    for benchmark, doses in manifest["contamination"].items():
        items, rows = sum(doses.values()), sum(int(dose) * n for dose, n in doses.items())
        lines.append(
            f"  declared contamination with {benchmark}: {items:,} items in {rows:,} rows, as in truth.parquet"
        )
    return "\n".join(lines)
