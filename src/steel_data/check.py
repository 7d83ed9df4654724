"""Verify a mixture folder: what is checked, and one line for each fault that is found.

First the books (manifest, ledger laws), then the files (names, checksums, row counts, columns), then, row by row, the
ids recomputed from the conversations, the order, `content_sha256`, the counts of the ledger and the marks of declared
contamination against truth.parquet. Memory is bounded by one batch of rows and the injected items.
"""

import sys
from pathlib import Path
from typing import Any

from steel_data.check_books import check_manifest, check_totals
from steel_data.check_files import check_files
from steel_data.check_rows import check_rows
from steel_data.errors import InputError
from steel_data.manifest import read_manifest


def check_mixture(folder: Path) -> str:
    """Return the verdict on a whole mixture, or write one line for each fault to stderr and raise InputError."""
    manifest = read_manifest(folder)
    faults = find_faults(folder, manifest)
    if not faults:
        return _verdict(folder, manifest)
    for fault in faults:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in fault)
        sys.stderr.write(f"fault: {line}\n")
    many = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
    raise InputError(f"{folder}: {many}. Right: build the recipe again.")


def find_faults(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return what is wrong with a mixture: one line each, nothing for a whole one."""
    faults = check_manifest(manifest)
    if faults:
        return faults  # nothing can be measured by a manifest that is itself broken
    faults = check_totals(manifest)
    files = check_files(folder, manifest)
    faults += files.faults
    if files.readable:
        faults += check_rows(folder, manifest)
    return faults


def _count(things: dict[str, Any], what: str) -> str:
    return f"{len(things):,} {what}{'' if len(things) == 1 else 's'}"


def _verdict(folder: Path, manifest: dict[str, Any]) -> str:
    dropped = sum(entry["rows"] for entry in manifest["dropped_files"].values())
    lines = [
        f"{folder}: whole",
        f"  {manifest['rows']:,} rows ({_count(manifest['output'], 'file')}), {dropped:,} dropped rows, "
        f"{_count(manifest['sources'], 'source')}; content {manifest['content_sha256'][:16]}",
        "  checksums and row counts of all files; nothing else in the folder",
        "  columns and types; every id from its conversation; order; content_sha256",
        "  the ledger's laws, and its counts against the rows, source by source and reason by reason",
    ]
    for benchmark, doses in manifest["contamination"].items():
        items, rows = sum(doses.values()), sum(int(dose) * n for dose, n in doses.items())
        lines.append(
            f"  declared contamination with {benchmark}: {items:,} items in {rows:,} rows, as in truth.parquet"
        )
    return "\n".join(lines)
