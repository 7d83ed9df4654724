"""The Arrow schema of a mixture's files, with the extras that occur (apart: gather writes, `check` verifies by it)."""

from dataclasses import dataclass

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
            columns += [(name, pa.string()) for name in ("step", "reason", "witness_id", "witness_text", "error")]
        return pa.schema(columns)


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
