"""The Arrow schema of a mixture's files, with the extras that occur (apart: gather writes, `check` verifies by it)."""

from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from steel_data.row.record import FORMS, TURNS

_CALL = pa.struct([
    ("id", pa.string()), ("type", pa.string()),
    ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())])),
])  # fmt: skip
_EXTRA_TYPES = {
    "tool_calls": pa.list_(_CALL), "reasoning_content": pa.string(), "loss": pa.bool_(), "name": pa.string(),
    "tool_call_id": pa.string(),
}  # fmt: skip
_COLUMNS = (
    ("source", pa.string()), ("language", pa.string()), ("language_score", pa.float32()), ("kind", pa.string()),
    ("origin_file", pa.string()), ("origin_row", pa.int64()), ("benchmark", pa.string()), ("item", pa.string()),
    ("dose", pa.int32()), ("chars", pa.int32()), ("meta", pa.string()),
)  # fmt: skip

_OF_DROPPED = ("step", "reason", "witness_id", "witness_text", "error")


@dataclass(frozen=True)
class Shape:
    """What the mixture's schema depends on: the rows' form (FORMS), which extras occur, whether rows are rated."""

    form: str
    extras: tuple[str, ...]
    tools: bool
    rated: bool = False

    def schema(self, dropped: bool = False) -> pa.Schema:
        """Return the Arrow schema of the train files, or of dropped/."""
        turn = pa.list_(
            pa.struct([("role", pa.string()), ("content", pa.string()), *((k, _EXTRA_TYPES[k]) for k in self.extras)])
        )
        body = [(column, turn) for column in FORMS[self.form]]
        body += [("label", pa.bool_())] if self.form == "kto" else []
        columns = [("id", pa.string()), ("copy", pa.int32()), *body]
        columns += [("tools", pa.string())] if self.tools else []
        columns += _COLUMNS
        columns += [("rating", pa.float64())] if self.rated else []
        if dropped:
            columns += [(name, pa.string()) for name in _OF_DROPPED]
        return pa.schema(columns)


# All columns that a file of a mixture may have, and those that readers ask for in each row.
_KNOWN = {
    field.name: field.type
    for form in FORMS for field in Shape(form, tuple(_EXTRA_TYPES), tools=True, rated=True).schema(dropped=True)
}  # fmt: skip
_NEEDED = ("source", "kind", "origin_file", "origin_row")


def unlike(schema: pa.Schema, whole: bool, dropped: bool = False) -> str | None:
    """Return what readers of a mixture would trip over in a file of this schema: a column of another type, or missing.

    `whole`: the file is one that `build` wrote; else columns may be missing. `dropped`: it lies in dropped/. None where
    there is nothing.
    """
    for field in schema:
        if field.name in _KNOWN and not _fits(_KNOWN[field.name], field.type):
            return f"column '{field.name}' is of type {field.type}, where {_KNOWN[field.name]} belongs"
    if not whole:
        return None
    missing = [name for name in (*_NEEDED, *(_OF_DROPPED if dropped else ())) if name not in schema.names]
    if not any({*columns} <= {*schema.names} for columns in FORMS.values()):
        missing.append("messages")
    return f"has no column '{missing[0]}'" if missing else None


def _fits(wanted: pa.DataType, found: pa.DataType) -> bool:
    """Whether a column of a type may be read as one of another: widths and encodings do not matter, nulls alone do."""
    kinds: Any = pa.types
    if kinds.is_dictionary(found):
        found = found.value_type
    if kinds.is_null(found):
        return True
    if kinds.is_list(wanted):
        is_list = kinds.is_list(found) or kinds.is_large_list(found) or kinds.is_fixed_size_list(found)
        return bool(is_list) and _fits(wanted.value_type, found.value_type)
    if kinds.is_struct(wanted):
        if not kinds.is_struct(found):
            return False
        there = {found.field(i).name: found.field(i).type for i in range(found.num_fields)}
        wants = {wanted.field(i).name: wanted.field(i).type for i in range(wanted.num_fields)}
        needed = {"role", "content"} & {*wants}
        return needed <= {*there} and all(_fits(kind, there[name]) for name, kind in wants.items() if name in there)
    if kinds.is_string(wanted):
        return bool(kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_string_view(found))
    if kinds.is_integer(wanted):
        return bool(kinds.is_integer(found))
    if kinds.is_floating(wanted):
        return bool(kinds.is_floating(found) or kinds.is_integer(found))
    return bool(found == wanted)


def to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return the rows as an Arrow table of `schema`, conversations decoded from their JSON."""
    columns = []
    for column in schema:
        if column.name == "label":
            columns.append((frame["messages"].str.json_path_match("$.label") == "true").to_arrow().cast(column.type))
        elif column.name in TURNS:
            # pa.array would import pandas wherever it is installed: half a second
            dtype = pl.from_arrow(pa.nulls(0, column.type)).dtype  # type: ignore[union-attr]
            body = frame["messages"]
            if column.name != "messages":
                body = body.str.json_path_match(f"$.{column.name}")
            decoded = body.str.json_decode(dtype)
            columns.append(decoded.to_arrow().cast(column.type))
        elif column.name in frame.columns:
            columns.append(frame[column.name].to_arrow().cast(column.type))
        else:
            columns.append(pa.nulls(len(frame), column.type))
    return pa.Table.from_arrays(columns, schema=schema)
