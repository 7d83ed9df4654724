"""The ledger: what went in, what came out, and why they differ. It must balance, or the build fails."""

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.errors import InputError, excerpt
from steel_data.filters.quality import CHECKS
from steel_data.mixture.manifest import broken_laws
from steel_data.passes.map import MappedSource
from steel_data.passes.plan import Plan
from steel_data.recipe.load import Recipe
from steel_data.row.table import UNREADABLE, read_columns

I64 = npt.NDArray[np.int64]


class LedgerError(Exception):
    """The books do not balance: a bug of ours, never the user's fault. The build fails."""


def ledger(plan: Plan, sources: tuple[MappedSource, ...], read: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return the account of each source and assert that it balances (LedgerError when it does not)."""
    accounts = {}
    for s, source in enumerate(sources):
        counts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        notes: Counter[str] = Counter()
        first, last = plan.rows.span(s)
        for block in plan.rows.blocks(first, last, "reason", "written", "note", "tokens"):
            reasons.update(dict(block["reason"].drop_nulls().value_counts().iter_rows()))
            for joined, rows in block["note"].drop_nulls().value_counts().iter_rows():
                notes.update(dict.fromkeys(joined.split(","), rows))
            counts.update(_counted(block))
        unreadable = reasons.pop(UNREADABLE, 0)
        built = last - first - unreadable
        account: dict[str, Any] = {
            "read": read[source.name],
            "unreadable": unreadable,
            "made": built - (read[source.name] - unreadable),
            "built": built,
            "kept": counts["kept"],
            "dropped": dict(sorted(reasons.items())),
            "sampled_out": counts["sampled_out"],
            "repeated": counts["written"] - (counts["kept"] - counts["sampled_out"]),
            "written": counts["written"],
        }
        if notes:
            account["notes"] = dict(sorted(notes.items()))
        account["tokens"] = counts["tokens"]
        _balance(source.name, account, _raw_rows(plan, first, last))
        accounts[source.name] = account
    return accounts


def _counted(rows: pl.DataFrame) -> dict[str, int]:
    """Return how many of some rows are `kept` and `sampled_out`, and how many copies and tokens of them are written."""
    kept, written = rows["reason"].is_null(), rows["written"].cast(pl.Int64)
    return {
        "kept": int(kept.sum()), "sampled_out": int((kept & (written == 0)).sum()), "written": int(written.sum()),
        "tokens": int((rows["tokens"].fill_null(0).cast(pl.Int64) * written).sum()),
    }  # fmt: skip


def losses(recipe: Recipe, plan: Plan, accounts: dict[str, dict[str, Any]]) -> list[str]:
    """Return a warning for each source that keeps nothing, or loses nine rows in ten to one reason other than language.

    Raises InputError, unless the recipe allows it, for a mixture without a row, and for a source of which the builder
    can use no row: rows that it does not understand are a fault of the recipe, not a choice.
    """
    found = []
    for s, source in enumerate(recipe.sources):
        account = accounts[source.name]
        if source.builder.injects or not account["built"] or not account["dropped"]:
            continue
        reason, lost = max(account["dropped"].items(), key=lambda entry: entry[1])
        say = f"source '{source.name}' loses {lost:,} of {account['built']:,} rows to {reason}"
        if not account["kept"]:
            by_builder = all(r.startswith(f"{source.builder.use}:") for r in account["dropped"])
            if by_builder and not recipe.allow_empty:
                raise InputError(
                    f"{recipe.path} [source.{source.name}]: the builder '{source.builder.use}' can use none of its "
                    f"{account['built']:,} rows; most: {reason}{_example(plan, s, reason)}. "
                    "Fix: layout, columns or tags that fit them, or allow_empty = true."
                )
            found.append(f"{say}, and keeps none")
        elif lost > 0.9 * account["built"] and not reason.startswith("language:"):
            found.append(say)
    if not any(account["written"] for account in accounts.values()) and not recipe.allow_empty:
        why = "; ".join(found) or "its sources hold no rows"
        raise InputError(f"{recipe.path}: the mixture is empty: {why}. Fix: other filters, or allow_empty = true.")
    return found


def _example(plan: Plan, source: int, reason: str) -> str:
    """Return what the first of a source's rows that falls for a reason was told, in brackets."""
    mine = plan.rows.columns(*plan.rows.span(source), "chunk", "pos", "reason")
    row = mine.filter(pl.col("reason") == reason).row(0)
    records = plan.chunks[row[0]][1].stages[0].records
    error = read_columns(records, ["error"])["error"][row[1]]
    return f" ({excerpt(error, 120)})" if error else ""


def _balance(name: str, account: dict[str, Any], raw_rows: int) -> None:
    every = account["made"] >= 0 and (raw_rows == account["read"] - account["unreadable"] or account["read"] == 0)
    for law in [*([] if every else ["every readable raw row yields a record"]), *broken_laws(account)]:
        raise LedgerError(f"source {name}: {law} does not hold: {account}")


def _raw_rows(plan: Plan, first: int, last: int) -> int:
    """Return of how many raw rows some records are; those of one stand side by side, as a builder makes them."""
    found, before = 0, np.array([[-1, -1]])
    for block in plan.rows.blocks(first, last, "file", "origin_row", "reason"):
        raw = np.concatenate([before, _readable(block).to_numpy()])
        same_file, step = raw[1:, 0] == raw[:-1, 0], np.diff(raw[:, 1])
        if (same_file & (step < 0)).any():  # not in the order of the file
            return _readable(plan.rows.columns(first, last, "file", "origin_row", "reason")).unique().height
        found += int((~same_file | (step != 0)).sum())
        before = raw[-1:]
    return found


def _readable(rows: pl.DataFrame) -> pl.DataFrame:
    """Return file and row of the records that could be read."""
    readable = rows.filter((pl.col("reason").cast(pl.String) != UNREADABLE).fill_null(True))
    return readable.select(pl.col("file", "origin_row").cast(pl.Int64).fill_null(0))


def faults_left(plan: Plan, sources: tuple[MappedSource, ...]) -> dict[str, dict[str, Any]]:
    """Return, of each source, in how many kept `rows` the checks of `quality` looked, and what each of them `found`."""
    counts = {}
    for s, source in enumerate(sources):
        looked = 0
        found: Counter[str] = Counter()
        for block in plan.rows.blocks(*plan.rows.span(s), "quality", "reason"):
            quality = block.filter(pl.col("reason").is_null())["quality"].drop_nulls()
            looked += len(quality)
            for checks, rows in quality.value_counts().iter_rows():
                found.update(dict.fromkeys(checks.split(","), rows))
        counts[source.name] = {"rows": looked, "found": {check: found[check] for check in CHECKS}}
    return counts


def selections(plan: Plan, sources: tuple[MappedSource, ...]) -> dict[str, dict[str, Any]]:
    """Return, of each source that selects, by what, and how many rows and tokens were chosen `of` how many.

    `rating`: of the first and the last row that is in, and of the first that is out (null: none).
    """
    found = {}
    for source in sources:
        if source.choice is None:
            continue
        selection, how, store = plan.selections[source.name], source.choice.select, source.choice.store
        chosen = selection.chosen
        tokens_R = plan.rows.column("tokens")[selection.rows_R[chosen.order_R]].fill_null(0).cast(pl.Int64)
        ends = [0, chosen.count - 1, chosen.count] if chosen.count else []
        ratings = [chosen.rating_R[chosen.order_R[i]] if i < len(chosen.order_R) else math.nan for i in ends]
        found[source.name] = {
            "by": how.by, "within": how.within, "target": how.targets or None,
            "model": store.model if store else None, "fingerprint": store.fingerprint if store else None,
            "of": len(selection.rows_R), "of_tokens": int(tokens_R.sum()),
            "rows": chosen.count, "tokens": int(tokens_R[: chosen.count].sum()),
            "rating": [None if math.isnan(r) else round(float(r), 6) for r in ratings],
        }  # fmt: skip
    return found


def contamination(plan: Plan) -> dict[str, dict[str, int]]:
    """Return benchmark -> dose -> items, of what is in the mixture."""
    injected = plan.rows.at(np.flatnonzero(plan.rows.injected() & plan.rows.verdicts.kept()), "benchmark", "dose")
    counts: dict[str, dict[str, int]] = {}
    for benchmark, dose in sorted(zip(injected["benchmark"], injected["dose"], strict=True)):
        of = counts.setdefault(benchmark, {})
        of[str(dose)] = of.get(str(dose), 0) + 1
    return counts


def tokens_by_language(plan: Plan) -> dict[str, int]:
    """Return language -> tokens of what is written, most of them first."""
    found: Counter[str] = Counter()
    tokens = pl.col("tokens").fill_null(0).cast(pl.Int64) * pl.col("written")
    for block in plan.rows.blocks(0, len(plan.rows), "language", "tokens", "written"):
        said = block.group_by(pl.col("language").cast(pl.String)).agg(tokens.sum())
        found.update(dict(said.filter(pl.col("tokens") > 0).iter_rows()))
    return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0] or "")))
