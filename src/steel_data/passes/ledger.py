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
        mine = plan.of(s)
        reasons = Counter(dict(mine["reason"].drop_nulls().value_counts().iter_rows()))
        unreadable = reasons.pop(UNREADABLE, 0)
        built = len(mine) - unreadable
        written = mine["written"].to_numpy()
        kept = mine["reason"].is_null().to_numpy()
        account: dict[str, Any] = {
            "read": read[source.name],
            "unreadable": unreadable,
            "made": built - (read[source.name] - unreadable),
            "built": built,
            "kept": int(kept.sum()),
            "dropped": dict(sorted(reasons.items())),
            "sampled_out": int((kept & (written == 0)).sum()),
            "repeated": int((written[kept] - 1).clip(min=0).sum()),
            "written": int(written.sum()),
        }
        notes = Counter(note for notes in mine["note"].drop_nulls().to_list() for note in notes.split(","))
        if notes:
            account["notes"] = dict(sorted(notes.items()))
        account["tokens"] = int(np.dot(mine["tokens"].fill_null(0).to_numpy().astype(np.int64), written))
        _balance(source.name, account, mine)
        accounts[source.name] = account
    return accounts


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
    mine = plan.of(source).select("chunk", "pos", "reason")
    row = mine.filter(pl.col("reason") == reason).row(0)
    records = plan.chunks[row[0]][1].stages[0].records
    error = read_columns(records, ["error"])["error"][row[1]]
    return f" ({excerpt(error, 120)})" if error else ""


def _balance(name: str, account: dict[str, Any], rows: pl.DataFrame) -> None:
    readable = (rows["reason"] != UNREADABLE).fill_null(True).to_numpy()
    raw_rows = _distinct(*(rows[name].fill_null(0).to_numpy()[readable] for name in ("file", "origin_row")))
    every = account["made"] >= 0 and (raw_rows == account["read"] - account["unreadable"] or account["read"] == 0)
    for law in [*([] if every else ["every readable raw row yields a record"]), *broken_laws(account)]:
        raise LedgerError(f"source {name}: {law} does not hold: {account}")


def _distinct(file_R: I64, row_R: I64) -> int:
    """Return how many raw rows there are; the records of one stand side by side, as a builder makes them."""
    same_file, same_row = file_R[1:] == file_R[:-1], row_R[1:] == row_R[:-1]
    if (same_file & (row_R[1:] < row_R[:-1])).any():  # not in the order of the file
        return pl.DataFrame({"file": file_R, "row": row_R}).unique().height
    return int(len(row_R) - (same_file & same_row).sum())


def faults_left(plan: Plan, sources: tuple[MappedSource, ...]) -> dict[str, dict[str, Any]]:
    """Return, of each source, in how many kept `rows` the checks of `quality` looked, and what each of them `found`."""
    counts = {}
    for s, source in enumerate(sources):
        kept = plan.of(s).select("quality", "reason").filter(pl.col("reason").is_null())["quality"]
        looked = dict(kept.drop_nulls().value_counts().iter_rows())
        found: Counter[str] = Counter()
        for checks, rows in looked.items():
            found.update(dict.fromkeys(checks.split(","), rows))
        counts[source.name] = {"rows": sum(looked.values()), "found": {check: found[check] for check in CHECKS}}
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
        tokens_R = plan.frame["tokens"].fill_null(0).cast(pl.Int64).gather(selection.rows_R[chosen.order_R])
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
    injected = plan.frame.filter((pl.col("kind") == "injected") & pl.col("reason").is_null())
    counts: dict[str, dict[str, int]] = {}
    for benchmark, dose in sorted(zip(injected["benchmark"], injected["dose"], strict=True)):
        of = counts.setdefault(benchmark, {})
        of[str(dose)] = of.get(str(dose), 0) + 1
    return counts
