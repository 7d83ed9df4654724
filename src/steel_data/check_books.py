"""What a manifest says must hold by itself: the keys of the contract, the laws of the ledger, the totals."""

from typing import Any

_KEYS: dict[str, type] = {
    "name": str, "seed": int, "recipe": dict, "recipe_sha256": str, "versions": dict, "tokenizer": dict, "inputs": dict,
    "sources": dict, "contamination": dict, "languages": dict, "tokens": int, "output": dict, "dropped_files": dict,
    "truth": dict, "rows": int, "content_sha256": str,
}  # fmt: skip
_COUNTS = ("read", "unreadable", "made", "built", "kept", "sampled_out", "repeated", "written", "tokens")


def check_manifest(manifest: dict[str, Any]) -> list[str]:
    """Return what is missing or of the wrong type in a manifest."""
    faults = []
    for key, kind in _KEYS.items():
        if not isinstance(manifest.get(key), kind):
            faults.append(f"manifest.json: '{key}' is {'missing' if key not in manifest else 'no ' + kind.__name__}")
    if faults:
        return faults
    for part in ("output", "dropped_files", "truth", "inputs"):
        for name, entry in manifest[part].items():
            if not isinstance(entry, dict) or not isinstance(entry.get("rows"), int) or "sha256" not in entry:
                faults.append(f"manifest.json: {part}: '{name}' has no rows or no sha256")
    for name, account in manifest["sources"].items():
        wrong = [key for key in _COUNTS if not isinstance(account.get(key), int) or account[key] < 0]
        if wrong or not isinstance(account.get("dropped"), dict):
            faults.append(f"manifest.json: source {name}: no count of {', '.join(wrong) or 'dropped'}")
    return faults


def check_totals(manifest: dict[str, Any]) -> list[str]:
    """Return which laws of the ledger do not hold, and which totals are not the sums of their parts."""
    faults = []
    for name, a in manifest["sources"].items():
        laws = {
            "built = read - unreadable + made": a["built"] == a["read"] - a["unreadable"] + a["made"],
            "built = kept + dropped": a["built"] == a["kept"] + sum(a["dropped"].values()),
            "written = kept - sampled_out + repeated": a["written"] == a["kept"] - a["sampled_out"] + a["repeated"],
        }
        faults += [f"manifest.json: source {name}: {law} does not hold" for law, holds in laws.items() if not holds]
    accounts = manifest["sources"].values()
    sums = {
        "rows, by source": (manifest["rows"], sum(a["written"] for a in accounts)),
        "rows, by file": (manifest["rows"], sum(entry["rows"] for entry in manifest["output"].values())),
        "tokens, by source": (manifest["tokens"], sum(a["tokens"] for a in accounts)),
        "tokens, by language": (manifest["tokens"], sum(manifest["languages"].values())),
        "dropped and unreadable rows, by file": (
            sum(a["unreadable"] + sum(a["dropped"].values()) for a in accounts),
            sum(entry["rows"] for entry in manifest["dropped_files"].values()),
        ),
    }
    for what, (said, found) in sums.items():
        if said != found:
            faults.append(f"manifest.json: {what}: {said:,} is said, the sum is {found:,}")
    return faults
