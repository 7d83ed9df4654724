"""Rows that may be chosen, made by hand."""

from collections.abc import Sequence

import numpy as np
import orjson
import polars as pl
import xxhash

from steel_data.selection.candidates import Candidates


def candidates(answers: Sequence[str], questions: Sequence[str] = (), chunk: int = 3, **columns) -> Candidates:
    """Return candidates of one question and one answer each, in chunks; `columns`: `tokens`, `language`, `meta`."""
    asked = questions or ["问"] * len(answers)
    turns = [
        orjson.dumps([{"role": "user", "content": q}, {"role": "assistant", "content": a}]).decode()
        for q, a in zip(asked, answers, strict=True)
    ]
    n = len(answers)
    records = pl.DataFrame(
        {"messages": turns, "tools": [None] * n, "meta": columns.get("meta", [None] * n)},
        schema={"messages": pl.String, "tools": pl.String, "meta": pl.String},
    )
    ids = columns.get("ids", [f"{i:032x}" for i in range(n)])

    def read(view):
        for start in range(0, n, chunk):
            yield np.arange(start, min(start + chunk, n)), view(records[start : start + chunk])

    return Candidates(
        where="r.toml [source.a]", ids=pl.Series(ids, dtype=pl.String),
        key_R=np.array([xxhash.xxh3_64_intdigest(i.encode()) for i in ids], np.uint64),
        tokens_R=np.array(columns.get("tokens", [10] * n), np.int64),
        language=pl.Series(columns.get("language", ["zh"] * n), dtype=pl.String),
        file=pl.Series(columns.get("file", ["a.jsonl"] * n), dtype=pl.String), read=read,
    )  # fmt: skip
