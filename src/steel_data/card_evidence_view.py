"""How the card's templates print duplicates and overlaps: texts shortened around the place that matters."""

from typing import Any

from steel_data.card_evidence import Cluster, Evidence
from steel_data.card_facts import Row
from steel_data.card_view import shown
from steel_data.display import Turn, shortened

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
