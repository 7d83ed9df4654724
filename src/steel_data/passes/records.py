"""Raw rows -> records: call the builder (or a filter that edits) and account for each row.

The result is a table of plain columns (row/table.py); conversations stay as JSON text in it, so that one schema fits
every source.
"""

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

from steel_data.errors import InputError, excerpt
from steel_data.read.rows import RawRow
from steel_data.recipe.steps import Builder, Filter
from steel_data.row.columns import Watched, left_over, unread_among
from steel_data.row.columns import unread as unread_in
from steel_data.row.faults import record_fault
from steel_data.row.json_text import from_json, to_json
from steel_data.row.record import FORMS, Record, form_of, record_id, text_view
from steel_data.row.table import UNREADABLE, as_record, table


def build_records(where: str, builder: Builder, rows: Iterable[RawRow], meta: list[str]) -> pl.DataFrame:
    """Build one chunk. `where` names the file for messages.

    A column of `meta` that a row lacks is null there. Raises InputError when the builder raises or returns something
    that is neither records nor a reason, or when no row has the columns that the builder needs.
    """
    function, out = builder.function(), []
    left: dict[tuple[str, ...], Any] = {}  # columns of a row -> those that nobody reads
    missing_columns: str | None = None
    fitting = False
    for raw in rows:
        if raw.value is None:
            out.append({"origin_row": raw.row, "part": 0, "step": "read", "reason": UNREADABLE, "error": raw.error})
            continue
        value = Watched(raw.value) if builder.is_custom else raw.value
        made = _call(f"{where} row {raw.row}", builder, function, value)
        unread = None
        if not isinstance(value, Watched):
            names = tuple(value)
            if names not in left:
                left[names] = left_over(names, frozenset({*builder.columns_read(names), *meta}))
            unread = unread_among(value, left[names])
        elif not isinstance(made, str):  # a row that it refuses may say why before it has read all
            unread = unread_in(raw.value, {*value.read, *meta})
        if isinstance(made, str):
            reason, _, detail = made.partition(": ") if not builder.is_custom else (made, "", "")
            if reason == "columns" and not builder.is_custom:
                missing_columns = missing_columns or detail or reason
            else:
                fitting = True
            out.append(_unusable(builder, raw, reason, detail) | {"unread": unread})
            continue
        fitting = True
        for part, record in enumerate(made):
            out.append(_finish(where, builder, raw, part, record, meta) | {"unread": None if part else unread})
    if missing_columns is not None and not fitting:
        raise InputError(f"{where}: builder '{builder.use}' fits none of the rows: {missing_columns}")
    return table(out)


def _call(where: str, builder: Builder, function: Callable[..., Any], value: dict[str, Any]) -> list[Record] | str:
    try:
        made = function(value, **builder.options)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{where}: builder '{builder.use}' raised {type(error).__name__}: {excerpt(str(error))}. "
            "Fix: return records, or the reason why not as a string."
        ) from error
    if isinstance(made, str) and made:
        return made
    if isinstance(made, list) and made and all(isinstance(record, dict) for record in made):
        return made
    raise InputError(
        f"{where}: builder '{builder.use}' returned {excerpt(repr(made), 40)}. "
        "Fix: a list of records, or a reason (a string)."
    )


def _unusable(builder: Builder, raw: RawRow, reason: str, detail: str) -> dict[str, Any]:
    shown = excerpt(to_json(raw.value), 300)
    counted = reason if builder.is_custom else f"{builder.use}:{reason}"
    error = f"{detail} | {shown}" if detail else shown
    return {"origin_row": raw.row, "part": 0, "step": builder.use, "reason": counted, "error": error}


def _finish(where: str, builder: Builder, raw: RawRow, part: int, record: Record, meta: list[str]) -> dict[str, Any]:
    """Return the row of a record: id, length, JSON; or of its drop when the conversation cannot be trained on."""
    fault = record_fault(record)
    if fault:
        why, _, detail = fault.partition(": ")
        if why == "record":
            raise InputError(f"{where} row {raw.row}: '{builder.use}' made {detail}. Fix: docs/plugins.md.")
        return _unusable(builder, raw, f"{builder.use}:{why}" if builder.is_custom else why, detail)
    row = _row(raw.row, part, record)
    if row["id"] is None:
        return _unusable(
            builder, raw, f"{builder.use}:surrogate" if builder.is_custom else "surrogate", "not valid Unicode"
        )
    if meta and raw.value is not None:
        row["meta"] = to_json({name: raw.value.get(name) for name in meta})
    return row


def _row(origin_row: int, part: int, record: Record) -> dict[str, Any]:
    """Return the row of a record; its id is None where its text is not valid Unicode."""
    said = {key: record.get(key) for key in ("language", "benchmark", "item", "dose", "meta", "note", "unread")}
    return {"origin_row": origin_row, "part": part, "kind": _kind(record), **said, **_content(record)}


def _kind(record: Record) -> str:
    form = form_of(record)
    return record.get("kind") or ("chat" if form == "messages" else form)


def _content(record: Record) -> dict[str, Any]:
    """Return id, messages, tools and chars of a record; id None where its text is not valid Unicode."""
    tools = record.get("tools") or None
    if isinstance(tools, str):
        tools = from_json(tools)
    whole = {**record, "tools": tools}
    try:
        form = form_of(record)
        parts: dict[str, Any] = {column: _ordered(record[column]) for column in FORMS[form]}
        body = (
            parts["messages"] if form == "messages" else parts | ({"label": record["label"]} if form == "kto" else {})
        )
        return {
            "id": record_id(whole),
            "messages": to_json(body),
            "tools": to_json(tools) if tools else None,
            "chars": len(text_view(record)),
        }
    except (TypeError, UnicodeEncodeError):  # orjson's word for a lone surrogate
        return {"id": None}


def _ordered(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose first keys are role and content: the gather pass finds the extras behind them."""
    return [m if next(iter(m)) == "role" else {"role": m["role"], "content": m["content"], **m} for m in messages]


def made_records(made: Iterable[Record]) -> pl.DataFrame:
    """Return the records of a builder that makes its source as a whole, numbered from 0."""
    return table([_row(i, 0, record) for i, record in enumerate(made)])


def injected_records(use: str, made: Iterable[Record]) -> pl.DataFrame:
    """Return what the injector `use` made of a file's items: one row an item, dropped where it was not drawn.

    They are numbered from 0, not by the items' own rows: a zip or a parquet file may hold many subjects.
    """
    rows = []
    for i, record in enumerate(made):
        if record["messages"] is not None:
            rows.append(_row(i, 0, record))
            continue
        said = {key: record.get(key) for key in ("kind", "benchmark", "item", "dose", "unread")}
        rows.append({"origin_row": i, "part": 0, **said, "step": use, "reason": f"{use}:{record['reason']}"})
    return table(rows)


def edit_records(
    where: str, step: Filter, records: pl.DataFrame, passing: list[bool], columns: dict[str, Any]
) -> pl.DataFrame:
    """Run a filter that edits over the rows of a chunk that pass so far; return all rows, edited or marked as dropped.

    `columns` are the mixture's columns that the table does not hold (source, origin_file, language, …), row by row or
    one value for all.
    """
    function = step.function()
    rows = records.to_dicts()
    for i, row in enumerate(rows):
        if not passing[i] or row["kind"] == "injected":
            continue
        place = f"{where} row {row['origin_row']}"
        record = as_record(row) | {k: v[i] if isinstance(v, list) else v for k, v in columns.items()}
        result = _filter(place, step, function, record)
        if isinstance(result, str):
            row.update(step=step.use, reason=result)
            continue
        fault = record_fault(result)
        content = _content(result) if fault is None else {"id": None}
        if content["id"] is None:
            why, _, detail = (fault or "surrogate: not valid Unicode").partition(": ")
            row.update(
                step=step.use, reason=f"{step.use}:{why}", error=f"{step.use} made: {detail}" if detail else None
            )
            continue
        row.update(content, kind=_kind(result), meta=result.get("meta"))
        if not step.is_custom and result.get("note"):
            row["note"] = f"{row['note']},{result['note']}" if row["note"] else result["note"]
    return table(rows)


def _filter(where: str, step: Filter, function: Callable[..., Any], record: Record) -> Record | str:
    try:
        result = function(record, **step.options)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{where}: filter '{step.use}' raised {type(error).__name__}: {excerpt(str(error))}. "
            "Fix: return the record, or the reason of the drop as a string."
        ) from error
    if isinstance(result, dict) or (isinstance(result, str) and result):
        return result
    raise InputError(
        f"{where}: filter '{step.use}' returned {excerpt(repr(result), 40)}. Fix: the record, or a reason (a string)."
    )
