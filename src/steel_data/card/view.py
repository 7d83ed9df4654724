"""What the card's templates print: every figure named, every bar with its place; no text is escaped here.

The picture of a source is a *waterfall*: it starts at the rows that were read, each reason takes its piece off the end
of the bar before, and what is left is what stands in the mixture.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl
import regex

from steel_data.card.facts import Facts, Reason, length_bins, quantiles
from steel_data.mixture.rows import Row
from steel_data.recipe.toml import to_toml
from steel_data.row.display import Turn, shortened, turns
from steel_data.row.table import UNREADABLE

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_TURNS, _CHARS = 6, 700  # of a conversation that is shown
_WITNESS = 500
_MOST_LANGUAGES, _MOST_BARS, _MOST_INPUTS = 12, 10, 200


@dataclass(frozen=True)
class Bar:
    """One line of a waterfall: rows, and where the bar lies, in percent of the widest level.

    form: level (a total), falls (rows lost here), rests (not sampled: nothing wrong with them), rises (rows added).
    """

    label: str
    form: str
    rows: int
    left: float
    width: float


@dataclass(frozen=True)
class Share:
    """One line of a table of shares. `target` is the share that the recipe asks for; counts not known are None."""

    name: str
    rows: int
    row_share: float
    tokens: int | None = None
    token_share: float | None = None
    target: float | None = None
    spoken: tuple[tuple[str, float], ...] = ()  # languages of a source's rows, the most frequent first


def view(manifest: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Return the templates' variables."""
    account = manifest["sources"]
    recipe = {k: v for k, v in manifest["recipe"].items() if k != "name"}
    fallen = sum(sum(a["dropped"].values()) for a in account.values())
    return {
        "name": manifest["name"],
        "manifest": manifest,
        "estimated": "sha256" not in manifest["tokenizer"],
        "read": sum(a["read"] for a in account.values()),
        "dropped": fallen,
        "unreadable": {name: a["unreadable"] for name, a in account.items() if a["unreadable"]},
        "warnings": manifest.get("warnings", []),
        "contamination": _contamination(manifest, facts),
        "waterfalls": {name: waterfall(a) for name, a in account.items()},
        "waterfall_of_all": waterfall(_sum(account)) if len(account) > 1 else [],
        "allowed": _allowed(manifest, facts),
        "about": {name: _about(manifest["recipe"].get("source", {}).get(name, {})) for name in account},
        "notes": {name: a["notes"] for name, a in account.items() if a.get("notes")},
        "by_source": _by_source(manifest, facts.counts),
        "by_kind": _by_kind(manifest, facts.counts),
        "by_language": _by_language(manifest, facts.counts),
        "lengths": _lengths(facts.counts),
        "quantiles": _quantiles(manifest, facts.counts),
        "samples": {name: [shown(row) for row in rows] for name, rows in facts.samples.items() if rows},
        "reasons": [_reason(reason) for reason in facts.reasons],
        "toml": to_toml({"name": manifest["name"], **recipe}),
        "inputs": dict(list(manifest["inputs"].items())[:_MOST_INPUTS]),
        "more_inputs": max(len(manifest["inputs"]) - _MOST_INPUTS, 0),
    }


def waterfall(account: dict[str, Any]) -> list[Bar]:
    """Return the bars of one source's account, from rows read to rows written; lines without rows are left out."""
    reasons = sorted(account["dropped"].items(), key=lambda item: (-item[1], item[0]))
    falls = reasons if len(reasons) <= _MOST_BARS else reasons[: _MOST_BARS - 1]
    if len(falls) < len(reasons):
        falls = [*falls, (f"{len(reasons) - len(falls)} more reasons", sum(n for _, n in reasons[len(falls) :]))]
    steps = [("read", "level", account["read"]), (UNREADABLE, "falls", -account["unreadable"])]
    steps += [("made", "rises", account["made"]), *((name, "falls", -rows) for name, rows in falls)]
    steps += [("kept", "level", account["kept"]), ("sampled out", "rests", -account["sampled_out"])]
    steps += [("repeated", "rises", account["repeated"]), ("written", "level", account["written"])]
    peak, level = 1, 0
    for _, form, rows in steps:
        level = rows if form == "level" else level + rows
        peak = max(peak, level)
    bars, level = [], 0
    for label, form, rows in steps:
        before, level = level, rows if form == "level" else level + rows
        start = 0 if form == "level" else min(before, level)
        if rows or label in ("kept", "written"):
            bars.append(Bar(label, form, abs(rows), _percent(start, peak), _percent(abs(rows), peak)))
    return bars


def _sum(accounts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the account of all sources together."""
    dropped: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for account in accounts.values():
        dropped.update(account["dropped"])
        total.update({key: n for key, n in account.items() if isinstance(n, int)})
    return {**{key: total[key] for key in ("read", "unreadable", "made", "kept", "sampled_out", "repeated", "written")},
            "dropped": dict(dropped)}  # fmt: skip


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2)


def _about(source: dict[str, Any]) -> str:
    """Return what a source is in a few words: builder, path."""
    build = source.get("build", {}).get("use", "chat")
    path = source.get("path")
    paths = [path] if isinstance(path, str) else path or []
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{build} from {paths[0]}{more}" if paths else str(build)


def _rows_by(counts: pl.DataFrame, column: str) -> dict[Any, int]:
    by = counts.group_by(column).agg(pl.col("rows").cast(pl.Int64).sum())
    return dict(by.sort("rows", column, descending=[True, False], nulls_last=True).iter_rows())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _by_source(manifest: dict[str, Any], counts: pl.DataFrame) -> list[Share]:
    table = []
    for name, account in manifest["sources"].items():
        mine = counts.filter(pl.col("source") == name)
        spoken = list(_rows_by(mine, "language").items())
        table.append(
            Share(
                name,
                account["written"],
                _share(account["written"], manifest["rows"]),
                account["tokens"],
                _share(account["tokens"], manifest["tokens"]),
                spoken=tuple((language or "unknown", _share(n, account["written"])) for language, n in spoken[:4]),
            )
        )
    return table


def _by_kind(manifest: dict[str, Any], counts: pl.DataFrame) -> list[Share]:
    """Return rows a kind; tokens too where every source is of one kind, since tokens are counted by source."""
    kinds = dict(counts.group_by("source").agg(pl.col("kind").unique().sort()).iter_rows())
    pure = all(len(found) == 1 for found in kinds.values())
    table = []
    for kind, rows in _rows_by(counts, "kind").items():
        tokens = sum(manifest["sources"][name]["tokens"] for name, found in kinds.items() if found == [kind])
        share = _share(tokens, manifest["tokens"])
        table.append(
            Share(kind, rows, _share(rows, manifest["rows"]), tokens if pure else None, share if pure else None)
        )
    return sorted(table, key=lambda line: -(line.tokens or 0))


def _by_language(manifest: dict[str, Any], counts: pl.DataFrame) -> list[Share]:
    targets = manifest["recipe"].get("mix", {}).get("languages") or {}
    table = []
    for language, rows in _rows_by(counts, "language").items():
        tokens = manifest["languages"].get(language, 0)
        share = _share(tokens, manifest["tokens"])
        target = targets.get(language)
        table.append(Share(language or "unknown", rows, _share(rows, manifest["rows"]), tokens, share, target))
    table.sort(key=lambda line: (-(line.tokens or 0), -line.rows, line.name))
    rest = table[_MOST_LANGUAGES:]
    if len(rest) > 1:
        rows, tokens = sum(line.rows for line in rest), sum(line.tokens or 0 for line in rest)
        other = Share(
            f"{len(rest)} more", rows, _share(rows, manifest["rows"]), tokens, _share(tokens, manifest["tokens"])
        )
        table = [*table[:_MOST_LANGUAGES], other]
    return table


def _lengths(counts: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the histogram: a label, rows, and the height of each kind's piece in percent of the highest column."""
    bins = length_bins(counts)
    peak = max((sum(by_kind.values()) for _, by_kind in bins), default=1)
    return [
        {
            "label": label, "edge": label.partition("–")[0].replace(",000", "k"), "rows": sum(by_kind.values()),
            "pieces": [(kind, rows, _percent(rows, peak)) for kind, rows in by_kind.items()],
        }
        for label, by_kind in bins
    ]  # fmt: skip


def _quantiles(manifest: dict[str, Any], counts: pl.DataFrame) -> dict[str, list[int]]:
    found = {name: quantiles(counts.filter(pl.col("source") == name), SHARES) for name in manifest["sources"]}
    found = {name: values for name, values in found.items() if values}
    return found | ({"all": quantiles(counts, SHARES)} if len(found) > 1 and "all" not in found else {})


def _contamination(manifest: dict[str, Any], facts: Facts) -> list[dict[str, Any]]:
    """Return, for each benchmark, doses with items and rows, forms, untouched items; and the reasons given."""
    table = []
    for benchmark, doses in manifest["contamination"].items():
        mine = facts.injected.filter(pl.col("benchmark") == benchmark)
        by_dose = sorted((int(dose), items) for dose, items in doses.items())
        most = max(dose * items for dose, items in by_dose)
        forms = mine.filter(pl.col("dose") > 0).group_by("form").agg(pl.col("items").sum()).sort("form")
        table.append(
            {
                "benchmark": benchmark,
                "doses": [(dose, items, dose * items, _percent(dose * items, most)) for dose, items in by_dose],
                "drawn": sum(items for _, items in by_dose),
                "rows": sum(dose * items for dose, items in by_dose),
                "unseen": int(mine.filter(pl.col("dose") == 0)["items"].sum()),
                "forms": dict(forms.iter_rows()),
                "reasons": {
                    s: manifest["test_splits"][s] for s in sorted(set(mine["source"])) if s in manifest["test_splits"]
                },
            }
        )
    return table


def _allowed(manifest: dict[str, Any], facts: Facts) -> dict[str, str]:
    """Return source -> reason of the test splits that are trained on without the injector's marks."""
    injecting = set(facts.injected["source"])
    return {source: reason for source, reason in manifest["test_splits"].items() if source not in injecting}


def shown(row: Row, whole: bool = False) -> dict[str, Any]:
    """Return a row as a sample: where it comes from, its parts, shortened (unless `whole`)."""
    language = row.get("language")
    return {
        "id": row["id"], "source": row["source"], "kind": row["kind"], "language": language,
        "tag": language if language and regex.fullmatch("[a-z]{2,3}", language) else "und",
        "chars": row.get("chars"), "place": f"{row['origin_file']} row {row['origin_row']}",
        "mark": f"{row['benchmark']} {row['item']}, dose {row['dose']}" if row.get("dose") else None,
        "turns": turns(row) if whole else shortened(turns(row), _CHARS, _TURNS),
    }  # fmt: skip


def _reason(reason: Reason) -> dict[str, Any]:
    """Return a reason with its examples: the row, what stood against it, what the reader or builder said."""
    examples = []
    for row in reason.examples:
        text = row.get("witness_text")
        witness = shortened([Turn("", "", text)], _WITNESS, 1)[0] if text is not None else None
        if not (witness or row.get("error") or turns(row)):
            continue  # an item that was not drawn, say: its place is all there is to it
        examples.append(
            {**shown(row), "witness_id": row.get("witness_id"), "witness": witness, "error": row.get("error")}
        )
    by_source = sorted(reason.by_source.items(), key=lambda item: (-item[1], item[0]))
    return {"name": reason.name, "step": reason.step, "rows": reason.rows, "by_source": by_source, "examples": examples}
