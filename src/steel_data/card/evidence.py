"""What the card shows of duplicates and benchmark overlaps: clusters with the row that stayed, rows beside their item.

All of it comes from `dropped/`: a cluster is one kept row and the dropped rows that name it as their witness. The
largest clusters are shown and a sample of the others; of overlaps a sample for each benchmark. Both are bounded, and
chosen by keyed hash, so that the same mixture gives the same card.

How the card's templates print duplicates and overlaps: texts shortened around the place that matters.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from steel_data.card.facts import mixed
from steel_data.card.view import shown
from steel_data.mixture.rows import Place, Row, rows_at
from steel_data.row.display import Turn, shortened

LARGEST, SAMPLED = 10, 20  # clusters shown
MEMBERS = 4  # dropped rows of a cluster shown
OVERLAPS = 48  # rows shown, split evenly over the benchmarks
_SIZES = ((1, "2 rows"), (3, "3 to 4"), (9, "5 to 10"), (99, "11 to 100"), (2**62, "more than 100"))


@dataclass(frozen=True)
class Cluster:
    """One row that stayed, and those dropped for it (`members`: some). `place`: None where it was not sampled."""

    kept: str
    place: str | None
    dropped: dict[str, int]  # reason -> rows
    members: tuple[Row, ...]


@dataclass(frozen=True)
class Overlap:
    """What one benchmark dropped: rows, its distinct items among them, and some of the rows."""

    benchmark: str
    rows: int
    items: int
    examples: tuple[Row, ...]


@dataclass(frozen=True)
class Evidence:
    """Clusters by size (label, clusters, rows dropped), and those shown; overlaps by benchmark."""

    sizes: tuple[tuple[str, int, int], ...]
    clusters: tuple[Cluster, ...]
    overlaps: tuple[Overlap, ...]


def read_evidence(folder: Path, manifest: dict[str, Any]) -> Evidence:
    """Read what the card shows of a written mixture's duplicates and overlaps."""
    dropped = _with_witness(folder, manifest)
    clusters = (
        dropped.filter(pl.col("step") == "dedup")
        .group_by("witness_id", maintain_order=True)
        .agg(rows=pl.len(), hash=pl.col("hash").min(), places=pl.struct("file", "at").head(MEMBERS), reasons="reason")
    )
    largest = clusters.sort("rows", "hash", descending=[True, False]).head(LARGEST)
    others = clusters.join(largest, on="witness_id", how="anti").sort("hash").head(SAMPLED)
    shown = pl.concat([largest, others]).sort("rows", "hash", descending=[True, False])
    overlaps = _overlaps(dropped.filter(pl.col("step") == "decontaminate"))
    wanted = [_place(p) for places in shown["places"] for p in places] + [p for _, _, _, some in overlaps for p in some]
    found = rows_at(folder, wanted)
    kept = _places_of(folder, manifest, shown["witness_id"].to_list())
    return Evidence(
        sizes=_by_size(clusters),
        clusters=tuple(
            Cluster(
                kept=row["witness_id"],
                place=kept.get(row["witness_id"]),
                dropped={reason: row["reasons"].count(reason) for reason in sorted(set(row["reasons"]))},
                members=tuple(found[_place(p)] for p in row["places"]),
            )
            for row in shown.iter_rows(named=True)
        ),
        overlaps=tuple(Overlap(name, n, items, tuple(found[p] for p in some)) for name, n, items, some in overlaps),
    )


def _with_witness(folder: Path, manifest: dict[str, Any]) -> pl.DataFrame:
    """Return step, reason, witness_id, file, at (row in it) and a keyed hash of every dropped row with a witness."""
    words = dict.fromkeys(("step", "reason", "file"), pl.Categorical)  # few words, many rows
    frames = [pl.DataFrame(schema=words | {"witness_id": pl.String, "at": pl.UInt32, "hash": pl.UInt64})]
    start = 0
    for name, entry in manifest["dropped_files"].items():
        frame = pl.read_parquet(folder / name, columns=["step", "reason", "witness_id"], glob=False)
        hashes = mixed(np.arange(start, start + len(frame), dtype=np.uint64), manifest["seed"])
        frame = frame.with_row_index("at").with_columns(hash=pl.Series(hashes), file=pl.lit(name))
        frame = frame.filter(pl.col("witness_id").is_not_null()).with_columns(pl.col(*words).cast(pl.Categorical))
        frames.append(frame.select(frames[0].columns))
        start += entry["rows"]
    return pl.concat(frames)


def _overlaps(dropped: pl.DataFrame) -> list[tuple[str, int, int, list[Place]]]:
    """Return benchmark, rows, items and the places of the rows to show, most rows first."""
    dropped = dropped.cast({"reason": pl.String})
    benchmarks = dropped.group_by("reason").agg(rows=pl.len(), items=pl.col("witness_id").n_unique())
    most = max(OVERLAPS // max(len(benchmarks), 1), 1)
    found = []
    for reason, rows, items in benchmarks.sort("rows", "reason", descending=[True, False]).iter_rows():
        mine = dropped.filter(pl.col("reason") == reason).sort("hash").head(most)
        some = [_place(row) for row in mine.iter_rows(named=True)]
        found.append((reason.partition(":")[2] or reason, rows, items, some))
    return found


def _place(row: dict[str, Any]) -> Place:
    return row["file"], row["at"]


def _places_of(folder: Path, manifest: dict[str, Any], ids: list[str]) -> dict[str, str]:
    """Return id -> `file row n` of rows that stand in the mixture."""
    found: dict[str, str] = {}
    if not ids:
        return found
    for name in manifest["output"]:
        frame = pl.read_parquet(folder / name, columns=["id", "origin_file", "origin_row"], glob=False)
        for key, file, row in frame.filter(pl.col("id").is_in(ids)).iter_rows():
            found.setdefault(key, f"{file} row {row}")
    return found


def _by_size(clusters: pl.DataFrame) -> tuple[tuple[str, int, int], ...]:
    sizes, least = [], 1
    for most, label in _SIZES:
        mine = clusters.filter(pl.col("rows").is_between(least, most))["rows"]
        if len(mine):
            sizes.append((label, len(mine), int(mine.sum())))
        least = most + 1
    return tuple(sizes)


_KEPT, _MEMBER, _ITEM = 500, 400, 500  # characters shown of each text
_PROBE = 10  # characters of an item that are looked for in the row
_BEFORE = 60  # characters shown before the place where they stand


def evidence_view(evidence: Evidence) -> dict[str, Any]:
    """Return the templates' variables."""
    return {
        "cluster_sizes": evidence.sizes,
        "clusters": [_cluster(cluster) for cluster in evidence.clusters],
        "overlaps": [
            {"name": o.benchmark, "rows": o.rows, "found": o.items, "examples": [_overlap(r) for r in o.examples]}
            for o in evidence.overlaps
        ],
    }


def _cluster(cluster: Cluster) -> dict[str, Any]:
    members = [_shown(row, _MEMBER) | {"reason": row["reason"]} for row in cluster.members]
    rows = sum(cluster.dropped.values())
    return {
        "id": cluster.kept, "place": cluster.place, "rows": rows, "dropped": cluster.dropped, "members": members,
        "more": rows - len(members), "tag": members[0]["tag"] if members else "und",
        "kept": _cut(next((row["witness_text"] for row in cluster.members if row["witness_text"]), ""), _KEPT),
    }  # fmt: skip


def _overlap(row: Row) -> dict[str, Any]:
    item = row.get("witness_text") or ""
    return _shown(row, _ITEM, item) | {"witness_id": row["witness_id"], "item": _cut(item, _ITEM)}


def _shown(row: Row, length: int, item: str = "") -> dict[str, Any]:
    """Return a row as `card_view.shown` does, its turns cut to `length` around what they have of an item."""
    seen = shown(row, whole=True)
    turns = [_around(turn, item, length) for turn in seen["turns"]]
    return seen | {"turns": shortened(turns, length, 4)}


def _around(turn: Turn, item: str, length: int) -> Turn:
    """Return a long turn from a little before the first place that holds a piece of `item`."""
    if len(turn.text) <= length:
        return turn
    probes = (item[start : start + _PROBE] for start in range(0, max(len(item) - _PROBE, 0), _PROBE))
    at = next((at for probe in probes if (at := turn.text.find(probe)) >= 0), 0) - _BEFORE
    return Turn(turn.role, turn.label, f"… {turn.text[at:]}", turn.more) if at > 0 else turn


def _cut(text: str, length: int) -> Turn:
    return shortened([Turn("", "", text)], length, 2)[0]
