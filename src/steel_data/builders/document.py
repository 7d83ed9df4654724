"""The builder `document`: a row's plain text as it stands, for pre-training (apart: a row that is no conversation).

A document has no question, so it is one assistant turn alone, of kind `document`. steel_train learns it whole, without
a chat template, where `method = "pretrain"` or the source says `loss = "all"`.
"""

from collections.abc import Mapping
from typing import Any

from steel_data.errors import excerpt, nearest
from steel_data.row.record import Record

COLUMNS = ("text", "content")  # C4, SkyPile, FineWeb; WanJuan, StarCoder


def document(row: dict[str, Any], *, column: str | None = None) -> list[Record] | str:
    """Return one record of kind `document` that holds the row's text untouched, or the reason why there is none.

    column: where the text is; by default `text`, else `content`.

    Reasons: `columns` (no such column), `content` (no text), `empty`.
    """
    name = column or next((name for name in COLUMNS if name in row), COLUMNS[0])
    if name not in row:
        has = excerpt(", ".join(row), 200)
        return f"columns: no column '{name}'.{nearest(name, row, show_known=False)} Row has: {has}."
    text = row[name]
    if not isinstance(text, str | None):
        return f"content: '{excerpt(name, 30)}' is no text"
    if not (text or "").strip():
        return "empty"
    return [{"messages": [{"role": "assistant", "content": text}], "kind": "document"}]


def columns_read(columns: tuple[str, ...], options: Mapping[str, Any]) -> set[str]:
    """Return which of a row's columns `document` reads with these options."""
    return {options.get("column") or next((name for name in COLUMNS if name in columns), COLUMNS[0])} & set(columns)
