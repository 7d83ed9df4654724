"""The files of a mixture folder against its manifest: names, bytes, row counts, columns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steel_data.gather import sha256_of
from steel_data.record import EXTRA_KEYS
from steel_data.schema import Shape

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
