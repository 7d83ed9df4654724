"""What a data card says in figures: counts of narrow columns, and the ledger, as shares, bars and bins.

Every figure is named, every bar has its place; no text is escaped here. The picture of a source is a *waterfall*: it
starts at the rows that were read, each reason takes its piece off the end of the bar before, and what is left is what
stands in the mixture.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from steel_data.mixture.rows import collect, scan
from steel_data.recipe.load import to_toml
from steel_data.row.table import UNREADABLE

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)  # quantiles of lengths
_MOST_LANGUAGES, _MOST_BARS, _MOST_INPUTS = 12, 10, 200
Table = list[dict[str, Any]]


def facts(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the templates' variables that are figures, of a written mixture."""
    accounts, recipe = manifest["sources"], manifest["recipe"]
    counts, injected = count(folder, manifest), count_injected(folder, manifest)
    about = {name: _about(recipe.get("source", {}).get(name, {})) for name in accounts}
    return {
        "name": manifest["name"],
        "manifest": manifest,
        "estimated": "sha256" not in manifest["tokenizer"],
        "read": sum(a["read"] for a in accounts.values()),
        "dropped": sum(sum(a["dropped"].values()) for a in accounts.values()),
        "unreadable": {name: a["unreadable"] for name, a in accounts.items() if a["unreadable"]},
        "warnings": warnings_of(manifest),
        "verdict": verdict(manifest, warnings_of(manifest)),
        "contamination": [_contamination(manifest, benchmark, injected) for benchmark in manifest["contamination"]],
        # test splits that are trained on without the injector's marks
        "allowed": {s: reason for s, reason in manifest["test_splits"].items() if s not in set(injected["source"])},
        "waterfalls": {name: waterfall(a) for name, a in accounts.items()},
        "waterfall_of_all": waterfall(_sum(accounts)) if len(accounts) > 1 else [],
        "about": about,
        "unused": {name: list(columns.items()) for name, columns in manifest["unused_columns"].items() if columns},
        "quality": _quality(manifest),
        "quality_sampled": _sampled(manifest),
        "notes": {name: a["notes"] for name, a in accounts.items() if a.get("notes")},
        "selections": {name: selected(one) for name, one in manifest.get("selections", {}).items()},
        "by_source": _by_source(manifest, counts),
        "by_kind": _by_kind(manifest, counts),
        "by_language": _by_language(manifest, counts),
        "lengths": lengths(counts),
        "quantiles": _quantiles(list(accounts), counts),
        "toml": to_toml({"name": manifest["name"], **{k: v for k, v in recipe.items() if k != "name"}}),
        "inputs": dict(list(manifest["inputs"].items())[:_MOST_INPUTS]),
        "more_inputs": max(len(manifest["inputs"]) - _MOST_INPUTS, 0),
    }


def warnings_of(manifest: dict[str, Any]) -> list[str]:
    """Return the warnings of a build, each once."""
    return list(dict.fromkeys([*manifest.get("warnings", []), *manifest.get("losses", [])]))


def verdict(manifest: dict[str, Any], warnings: Sequence[str]) -> list[str]:
    """Return what came out of a build in sentences: rows and tokens, what was lost most, what to look at first."""
    accounts = manifest["sources"].values()
    lost = Counter[str]()
    for account in accounts:
        lost.update(account["dropped"])
    lines = [
        f"{manifest['rows']:,} rows and {manifest['tokens']:,} tokens are in the mixture, of "
        f"{sum(a['read'] for a in accounts):,} rows read."
    ]
    if lost.total():
        reason, most = min(lost.items(), key=lambda pair: (-pair[1], pair[0]))
        lines.append(f"{lost.total():,} rows were dropped, most of them for {reason} ({most:,}).")
    if unreadable := sum(a["unreadable"] for a in accounts):
        lines.append(f"{unreadable:,} row{'s' * (unreadable > 1)} could not be read.")
    lines += [f"It holds items of {name} on purpose: a score on it measures memory as well as skill."
              for name in manifest["contamination"]]  # fmt: skip
    if warnings:
        lines.append(f"{len(warnings):,} warning{'s' * (len(warnings) > 1)}: read before you train.")
    return lines


def count(folder: Path, manifest: dict[str, Any]) -> pl.DataFrame:
    """Return source, kind, language, chars, and the rows that have them (one line each that occurs)."""
    keys = ["source", "kind", "language", "chars"]
    train = scan(folder, manifest["output"]).group_by(keys).agg(rows=pl.len().cast(pl.Int64))
    return collect(folder, train).sort(keys, nulls_last=True)


def count_injected(folder: Path, manifest: dict[str, Any]) -> pl.DataFrame:
    """Return benchmark, source, dose, form, and the items that have them (dose 0: unseen)."""
    keys = ["benchmark", "source", "dose", "form"]
    if not manifest["truth"]:
        return pl.DataFrame(schema=[*keys, "items"])
    return collect(folder, scan(folder, manifest["truth"]).group_by(keys).agg(items=pl.len())).sort(keys)


def waterfall(account: dict[str, Any]) -> Table:
    """Return the bars of one source's account, from rows read to rows written; lines without rows are left out.

    A bar: label; form: level (a total), falls (rows lost here), rests (not sampled: nothing wrong with them), rises
    (rows added); rows; left and width, in percent of the widest level.
    """
    reasons = sorted(account["dropped"].items(), key=lambda item: (-item[1], item[0]))
    falls = reasons if len(reasons) <= _MOST_BARS else reasons[: _MOST_BARS - 1]
    if len(falls) < len(reasons):
        falls = [*falls, (f"{len(reasons) - len(falls)} more reasons", sum(n for _, n in reasons[len(falls) :]))]
    steps = [("read", "level", account["read"]), (UNREADABLE, "falls", account["unreadable"])]
    steps += [("made", "rises", account["made"]), *((name, "falls", rows) for name, rows in falls)]
    steps += [("kept", "level", account["kept"]), ("sampled out", "rests", account["sampled_out"])]
    steps += [("repeated", "rises", account["repeated"]), ("written", "level", account["written"])]
    sign = {"level": 0, "falls": -1, "rests": -1, "rises": 1}
    ends = list(accumulate((sign[form] * rows for _, form, rows in steps[1:]), initial=account["read"]))
    peak, bars = max(*ends, 1), []
    for (label, form, rows), end in zip(steps, ends, strict=True):
        start = 0 if form == "level" else end - rows if form == "rises" else end
        if rows or label in ("kept", "written"):
            left, width = (round(100 * part / peak, 2) for part in (start, rows))
            bars.append({"label": label, "form": form, "rows": rows, "left": left, "width": width})
    return bars


def selected(selection: dict[str, Any]) -> str:
    """Return in a sentence how many rows of a source were selected, by what."""
    by = f"{selection['by']} by {selection['model']}" if selection["model"] else selection["by"]
    within = f", in equal parts within {selection['within']}" if selection["within"] else ""
    target = f", for the target {', '.join(selection['target'])}" if selection["target"] else ""
    ends = [f"{r:.4g}" for r in selection["rating"] if r is not None]
    rated = f" Rated {ends[0]} to {ends[1]}" if len(ends) > 1 else ""
    rated += f"; the first that is out: {ends[2]}" if len(ends) > 2 else ""
    return (
        f"{selection['rows']:,} of {selection['of']:,} rows ({selection['tokens']:,} of {selection['of_tokens']:,} "
        f"tokens) were selected by {by}{target}{within}.{rated + '.' if rated else ''}"
    )


def _sum(accounts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the account of all sources together."""
    total, dropped = Counter[str](), Counter[str]()
    for account in accounts.values():
        total.update({key: n for key, n in account.items() if isinstance(n, int)})
        dropped.update(account["dropped"])
    return {**total, "dropped": dropped}


def _about(source: dict[str, Any]) -> str:
    """Return what a source is in a few words: builder, path, and how many more paths."""
    build = source.get("build", {}).get("use", "chat")
    path = source.get("path")
    paths = [path] if isinstance(path, str) else path or []
    more = f" (+{len(paths) - 1})" if len(paths) > 1 else ""
    return f"{build} ← {paths[0]}{more}" if paths else str(build)


def _shares(table: pl.DataFrame, manifest: dict[str, Any]) -> Table:
    """Return name, rows, tokens (None: not known), their shares, target (what is asked for), spoken (languages)."""
    shares = {f"{c[:-1]}_share": pl.col(c) / max(manifest[c], 1) for c in ("rows", "tokens")}
    return [{"target": None, "spoken": (), **line} for line in table.with_columns(**shares).to_dicts()]


def _rows_by(counts: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return `name` (of `column`) and rows, the most frequent first."""
    by = counts.group_by(name=column).agg(pl.col("rows").sum())
    return by.sort("rows", "name", descending=[True, False], nulls_last=True)


def _by_source(manifest: dict[str, Any], counts: pl.DataFrame) -> Table:
    written = [(name, a["written"], a["tokens"]) for name, a in manifest["sources"].items()]
    table = _shares(pl.DataFrame(written, ["name", "rows", "tokens"], orient="row"), manifest)
    for line in table:
        languages = _rows_by(counts.filter(source=line["name"]), "language").head(4)
        line["spoken"] = [(language or "unknown", rows / line["rows"]) for language, rows in languages.iter_rows()]
    return table


def _by_kind(manifest: dict[str, Any], counts: pl.DataFrame) -> Table:
    """Return rows a kind; tokens too where every source is of one kind, since tokens are counted by source."""
    kinds = dict(counts.group_by("source").agg(pl.col("kind").unique()).iter_rows())
    tokens: Counter[str] = Counter()
    for name, found in kinds.items():
        tokens[found[0]] += manifest["sources"][name]["tokens"]
    pure = all(len(found) == 1 for found in kinds.values())
    table = _rows_by(counts, "kind")
    known = pl.Series("tokens", [tokens[kind] if pure else None for kind in table["name"]], pl.Int64)
    return _shares(table.with_columns(known).sort("tokens", descending=True, maintain_order=True), manifest)


def _by_language(manifest: dict[str, Any], counts: pl.DataFrame) -> Table:
    targets = manifest["recipe"].get("mix", {}).get("languages") or {}
    table = _rows_by(counts, "language")
    languages = table["name"].to_list()
    table = table.with_columns(
        pl.col("name").fill_null("unknown"),
        pl.Series("tokens", [manifest["languages"].get(language, 0) for language in languages], pl.Int64),
        pl.Series("target", [targets.get(language) for language in languages], pl.Float64),
    ).sort("tokens", "rows", "name", descending=[True, True, False])
    rest = table[_MOST_LANGUAGES:]
    if len(rest) > 1:
        other = rest.select(pl.lit(f"{len(rest)} more").alias("name"), pl.col("rows", "tokens").sum())
        table = pl.concat([table[:_MOST_LANGUAGES], other], how="diagonal")
    return _shares(table, manifest)


def lengths(counts: pl.DataFrame) -> Table:
    """Return the histogram of `chars`, in bins that double: `< 16`, `16–31`, …, up to the longest row.

    A bin: label, edge, rows, and pieces (kind, rows, height in percent of the highest bin).
    """
    doubling = pl.col("chars").clip(lower_bound=8).cast(pl.Float64).log(2).add(1e-9).floor().cast(pl.Int32) - 3
    have = counts.drop_nulls("chars").group_by("kind", bin=doubling).agg(pl.col("rows").sum()).sort("kind")
    if not len(have):
        return []
    peak = have.group_by("bin").agg(pl.col("rows").sum())["rows"].max()
    bins = []
    for i in range(max(have["bin"]) + 1):
        mine = have.filter(bin=i).select("kind", "rows")
        label = "< 16" if i == 0 else f"{2 ** (i + 3):,}–{2 ** (i + 4) - 1:,}"
        edge = label.partition("–")[0].replace(",000", "k")
        pieces = [(kind, rows, round(100 * rows / peak, 2)) for kind, rows in mine.iter_rows()]
        bins.append({"label": label, "edge": edge, "rows": mine["rows"].sum(), "pieces": pieces})
    return bins


def quantiles(counts: pl.DataFrame, shares: tuple[float, ...]) -> list[int]:
    """Return the lower quantiles of `chars`, weighted by `rows`; [] for no rows. Rows without a length are left out."""
    by_length = counts.drop_nulls("chars").group_by("chars").agg(pl.col("rows").sum()).sort("chars")
    if not len(by_length):
        return []
    reached = by_length["rows"].cum_sum().to_numpy()
    at = np.searchsorted(reached, [max(1, np.ceil(share * reached[-1])) for share in shares])
    return by_length["chars"].gather(at).to_list()


def _quality(manifest: dict[str, Any]) -> Table:
    """Return each check of `quality`: rows dropped for it, and kept rows in which it finds something, by source."""
    accounts, seen = manifest["sources"], manifest["quality"]
    lines = []
    for check in dict.fromkeys(check for source in seen.values() for check in source["found"]):
        left = {name: source["found"][check] for name, source in seen.items() if source["found"][check]}
        dropped = sum(account["dropped"].get(f"quality:{check}", 0) for account in accounts.values())
        lines.append({"check": check, "dropped": dropped, "left": left})
    return lines


def _sampled(manifest: dict[str, Any]) -> Table:
    """Return the sources of which only a sample was looked at by `quality`: name, rows looked at, rows kept."""
    seen = ((name, source["rows"], manifest["sources"][name]["kept"]) for name, source in manifest["quality"].items())
    return [{"name": name, "rows": rows, "kept": kept} for name, rows, kept in seen if rows < kept]


def _quantiles(sources: list[str], counts: pl.DataFrame) -> dict[str, list[int]]:
    found = {name: quantiles(counts.filter(source=name), SHARES) for name in sources}
    found = {name: values for name, values in found.items() if values}
    return found | ({"all": quantiles(counts, SHARES)} if len(found) > 1 and "all" not in found else {})


def _contamination(manifest: dict[str, Any], benchmark: str, injected: pl.DataFrame) -> dict[str, Any]:
    """Return doses with items and rows, forms, untouched items; and the reasons given."""
    mine = injected.filter(benchmark=benchmark)
    doses = manifest["contamination"][benchmark]
    by_dose = sorted((int(dose), items, int(dose) * items) for dose, items in doses.items())
    most = max(rows for _, _, rows in by_dose)
    forms = mine.filter(pl.col("dose") > 0).group_by("form").agg(pl.col("items").sum()).sort("form")
    splits = manifest["test_splits"]
    return {
        "benchmark": benchmark,
        "doses": [(dose, items, rows, round(100 * rows / most, 2)) for dose, items, rows in by_dose],
        "drawn": sum(items for _, items, _ in by_dose),
        "rows": sum(rows for _, _, rows in by_dose),
        "unseen": mine.filter(dose=0)["items"].sum(),
        "forms": dict(forms.iter_rows()),
        "reasons": {source: splits[source] for source in sorted(set(mine["source"])) if source in splits},
    }
