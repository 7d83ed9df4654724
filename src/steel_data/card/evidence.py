"""The rows that a data card shows: samples of each source, examples of each drop, clusters of duplicates, overlaps.

A cluster is one kept row and the dropped rows that name it as their witness. The largest clusters are shown and some of
the others; of overlaps some for each benchmark. All is bounded, and chosen by keyed hash or by place, so that the same
mixture gives the same card. Texts are shortened around the place that matters.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import regex

from steel_data.mixture.rows import Place, Row, collect, rows_at, scan
from steel_data.row.alignment import shared
from steel_data.row.display import Turn, shortened, turns
from steel_data.row.table import UNREADABLE
from steel_data.row.text import mix64

ROWS, PAGE = 200, 20  # conversations to look through, and those of them that a page shows at once
ROWS_CHARS = 300_000  # of their texts in all: a card stays a file that opens at once
SAMPLES, MOST_SAMPLES = 3, 90  # those of them in the Markdown card: a source, and in all
EXAMPLES, MOST_REASONS = 2, 40  # dropped rows a reason
LARGEST, SAMPLED = 10, 20  # clusters
MEMBERS = 4  # dropped rows of a cluster
OVERLAPS = 48  # rows, split evenly over the benchmarks
_SIZES = {"2 rows": 1, "3 to 4": 3, "5 to 10": 9, "11 to 100": 99, "more than 100": 2**62}  # most dropped rows of each
_TURNS, _CHARS = 6, 700  # of a conversation
_WITNESS, _KEPT, _MEMBER, _ITEM = 500, 500, 400, 500  # characters of other texts
_BEFORE = 60  # characters shown before the place where a row holds an item


def evidence(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the templates' variables that are rows, of a written mixture."""
    rows = _rows(folder, manifest)
    dropped = _dropped(folder, manifest)
    clusters = _clusters(dropped.filter(step="dedup"))
    sizes, least = [], 1
    for label, most in _SIZES.items():
        mine = clusters.filter(pl.col("rows").is_between(least, most))["rows"]
        sizes += [(label, len(mine), mine.sum())] if len(mine) else []
        least = most + 1
    return {
        "shown_rows": rows,
        "page": PAGE,
        "samples": _samples(rows),
        "reasons": _reasons(folder, manifest, dropped),
        "cluster_sizes": sizes,
        "clusters": _shown_clusters(folder, manifest, dropped, clusters),
        "overlaps": _overlaps(folder, dropped, dropped.filter(step="decontaminate")),
    }


def _rows(folder: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows that are no repeats: the first of each source, then the second of each, and so on.

    The mixture's order is a keyed hash of the ids already: the first rows of a source are a random sample of it.
    """
    sources = list(manifest["sources"])[:ROWS]
    chosen: dict[str, list[Place]] = {source: [] for source in sources}
    for name in manifest["output"]:
        first = scan(folder, [name]).filter(pl.col("copy") == 0, pl.col("source").is_in(sources))
        for source, places in collect(folder, first.group_by("source").agg(pl.col("at").sort().head(ROWS))).iter_rows():
            chosen[source] += [(name, at) for at in places[: ROWS - len(chosen[source])]]
    in_turn = [places[i] for i in range(ROWS) for places in chosen.values() if i < len(places)][:ROWS]
    rows, shown, left = dict(rows_at(folder, in_turn)), [], ROWS_CHARS
    for place in in_turn:
        row = _shown(rows[place])
        left -= sum(len(turn.text) for turn in row["turns"])
        if left < 0:
            break
        shown.append(row)
    return shown


def _samples(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the first rows of each source."""
    samples: dict[str, list[dict[str, Any]]] = {}
    for row in rows[:MOST_SAMPLES]:
        if len(mine := samples.setdefault(row["source"], [])) < SAMPLES:
            mine.append(row)
    return samples


def _dropped(folder: Path, manifest: dict[str, Any]) -> pl.DataFrame:
    """Return step, reason, witness_id and place (file, at) of every dropped row, and a keyed hash of its number."""
    words = pl.col("step", "reason", "file").cast(pl.Categorical)  # few words, many rows
    dropped = collect(folder, scan(folder, manifest["dropped_files"]).select(words, "witness_id", "at"))
    seed = np.uint64((manifest["seed"] + 0x9E3779B97F4A7C15) & (2**64 - 1))
    hashes = mix64(np.arange(len(dropped), dtype=np.uint64) + seed)
    return dropped.with_columns(hash=pl.Series(hashes)).with_row_index("number")


def _rows_of(folder: Path, dropped: pl.DataFrame, numbers: list[int]) -> dict[int, Row]:
    places = dict(zip(dropped[numbers].select("file", "at").rows(), numbers, strict=True))
    return {places[place]: row for place, row in rows_at(folder, places)}


def _reasons(folder: Path, manifest: dict[str, Any], dropped: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the ledger's reasons, the largest first, with examples: the row, what stood against it, what was said."""
    by_source: dict[str, dict[str, int]] = {}
    for source, account in manifest["sources"].items():
        for reason, rows in (*account["dropped"].items(), (UNREADABLE, account["unreadable"])):
            if rows:
                by_source.setdefault(reason, {})[source] = rows
    ordered = sorted(by_source, key=lambda reason: (-sum(by_source[reason].values()), reason))
    mine = dropped.filter(pl.col("reason").is_in(ordered[:MOST_REASONS])).sort("hash")
    numbers = dict(mine.group_by("reason").agg(pl.col("number").head(EXAMPLES)).iter_rows())
    found = _rows_of(folder, dropped, [number for some in numbers.values() for number in some])
    reasons = []
    for name in ordered:
        rows = [found[number] for number in numbers.get(name, ())]
        reasons.append(
            {
                "name": name,
                "step": rows[0]["step"] if rows else "",
                "rows": sum(by_source[name].values()),
                "by_source": sorted(by_source[name].items(), key=lambda item: (-item[1], item[0])),
                "examples": [
                    _example(row) for row in rows if row["witness_text"] is not None or row["error"] or turns(row)
                ],
            }
        )
    return reasons


def _says_more(row: Row) -> bool:
    """Whether there is more to a dropped row than its place, as there is not to an item that was not drawn."""
    return row["witness_text"] is not None or bool(row["error"] or turns(row))


def _example(row: Row) -> dict[str, Any]:
    witness = _cut(row["witness_text"], _WITNESS) if row["witness_text"] is not None else None
    return _shown(row) | {"witness_id": row["witness_id"], "witness": witness, "error": row["error"]}


def _clusters(dropped: pl.DataFrame) -> pl.DataFrame:
    """Return witness_id, rows (dropped for it), members (numbers of some), reasons (of all) and a hash to choose by."""
    return (
        dropped.drop_nulls("witness_id")
        .group_by("witness_id", maintain_order=True)
        .agg(rows=pl.len(), hash=pl.col("hash").min(), members=pl.col("number").head(MEMBERS), reasons="reason")
        .sort("rows", "hash", descending=[True, False])
    )


def _shown_clusters(
    folder: Path, manifest: dict[str, Any], dropped: pl.DataFrame, clusters: pl.DataFrame
) -> list[dict[str, Any]]:
    """Return the largest clusters and some of the others: the row that stayed, and some of those dropped for it."""
    others = clusters[LARGEST:].sort("hash").head(SAMPLED).sort("rows", "hash", descending=[True, False])
    chosen = pl.concat([clusters[:LARGEST], others])
    found = _rows_of(folder, dropped, chosen["members"].explode().to_list() if len(chosen) else [])
    train = scan(folder, manifest["output"]).filter(pl.col("id").is_in(chosen["witness_id"].to_list()))
    stayed = collect(folder, train.select("id", pl.format("{} row {}", "origin_file", "origin_row")))
    places = dict(stayed.unique("id", keep="first").iter_rows())  # None: the row that stayed was not sampled
    shown = []
    for row in chosen.iter_rows(named=True):
        members = [found[number] for number in row["members"]]
        texts = [member["witness_text"] for member in members if member["witness_text"]]
        shown.append(
            {
                "id": row["witness_id"],
                "place": places.get(row["witness_id"]),
                "rows": row["rows"],
                "dropped": {reason: row["reasons"].count(reason) for reason in sorted(set(row["reasons"]))},
                "members": [_shown(member, _MEMBER) | {"reason": member["reason"]} for member in members],
                "more": row["rows"] - len(members),
                "tag": _tag(members[0]),
                "kept": _cut(texts[0] if texts else "", _KEPT),
            }
        )
    return shown


def _overlaps(folder: Path, dropped: pl.DataFrame, hits: pl.DataFrame) -> list[dict[str, Any]]:
    """Return benchmark, rows, distinct items among them and some of the rows, most rows first."""
    by = hits.drop_nulls("witness_id").cast({"reason": pl.String}).sort("hash").group_by("reason")
    most = max(OVERLAPS // max(hits["reason"].n_unique(), 1), 1)
    table = by.agg(rows=pl.len(), items=pl.col("witness_id").n_unique(), some=pl.col("number").head(most))
    found = _rows_of(folder, dropped, table["some"].explode().to_list() if len(table) else [])
    overlaps = []
    for row in table.sort("rows", "reason", descending=[True, False]).iter_rows(named=True):
        examples = [_overlap(found[number]) for number in row["some"]]
        name = row["reason"].partition(":")[2] or row["reason"]
        overlaps.append({"name": name, "rows": row["rows"], "found": row["items"], "examples": examples})
    return overlaps


def _overlap(row: Row) -> dict[str, Any]:
    """Return a row that holds an item, and the item, each with what they share marked and cut to where that stands."""
    parts, item = turns(row), Turn("", "", row["witness_text"] or "")
    both = [(shared(item.text, turn.text), i) for i, turn in enumerate(parts)]
    found = [(mine.stop - mine.start, -i, mine, its) for (mine, its), i in ((b, i) for b, i in both if b)]
    if found:
        _, i, mine, its = max(found, key=lambda one: one[:2])
        item, parts[-i] = replace(item, shared=mine), _around(replace(parts[-i], shared=its), _ITEM)
    return _shown(row, _ITEM, parts) | {"witness_id": row["witness_id"], "item": shortened([item], _ITEM, 2)[0]}


def _shown(row: Row, length: int | None = None, chosen: list[Turn] | None = None) -> dict[str, Any]:
    """Return where a row comes from, and its turns (or those that were chosen) shortened to `length`."""
    parts = shortened(turns(row), _CHARS, _TURNS)
    if length is not None:
        parts = shortened(turns(row) if chosen is None else chosen, length, 4)
    return {
        "id": row["id"], "source": row["source"], "kind": row["kind"], "language": row["language"], "tag": _tag(row),
        "chars": row["chars"], "place": f"{row['origin_file']} row {row['origin_row']}", "turns": parts,
        "mark": f"{row['benchmark']} {row['item']}, dose {row['dose']}" if row["dose"] else None,
    }  # fmt: skip


def _tag(row: Row) -> str:
    """Return the language as HTML knows it."""
    return row["language"] if row["language"] and regex.fullmatch("[a-z]{2,3}", row["language"]) else "und"


def _around(turn: Turn, length: int) -> Turn:
    """Return a long turn from a little before what it shares with an item."""
    if turn.shared is None or len(turn.text) <= length or turn.shared.start <= _BEFORE:
        return turn
    at = turn.shared.start - _BEFORE
    return replace(turn, text=f"… {turn.text[at:]}", shared=slice(_BEFORE + 2, turn.shared.stop - at + 2))


def _cut(text: str, length: int) -> Turn:
    return shortened([Turn("", "", text)], length, 2)[0]
