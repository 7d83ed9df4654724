"""Which rows are held out of training (apart: a run, its plan and the count of exposures must agree on it).

A row is known by its id, a hash of its text; what is held out is decided by a hash of that, with a key that never
changes. So two arms, two seeds and two copies of one row agree, whatever else is in the mixture.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xxhash

from steel_data.errors import InputError
from steel_train.examples.folder import Examples

_KEY = 0x5EE1E7A1
_SHARE = 0.01


def never_held_out(manifest: Mapping[str, Any]) -> list[str]:
    """Return the sources of a mixture that hold rows of a test split: those are trained on, on purpose."""
    sources = manifest.get("recipe", {}).get("source", {})
    return sorted(name for name, table in sources.items() if table.get("allow_test_split"))


def hold_out(
    examples: Examples, rows: int | None, share: float | None, never: Collection[str] = ()
) -> tuple[Examples, Examples]:
    """Return (the examples to train on, those held out): `rows` rows, or a share of all (None: 1 %).

    Injected rows and those of the sources `never` are trained on. Raises InputError where nothing would be left on a
    side.
    """
    table = examples.table
    able = table["benchmark"].is_null() & ~table["kind"].is_in(["injected"]) & ~table["source"].is_in(list(never))
    ids = table.filter(able)["id"].unique().to_list()
    drawn = {row: xxhash.xxh3_64_intdigest(row.encode(), seed=_KEY) for row in ids}
    if rows is not None:
        chosen = sorted(drawn, key=lambda row: (drawn[row], row))[:rows]
    else:
        limit = int((share or _SHARE) * 2**64)
        chosen = [row for row, number in drawn.items() if number < limit]
    held: np.ndarray[Any, np.dtype[np.bool_]] = (able & table["id"].is_in(chosen)).to_numpy()
    if len(table) and (not held.any() or held.all()):
        right = "fewer rows, or a smaller share" if held.any() else "a larger share, or rows = 100"
        raise InputError(f"[train.eval]: {len(chosen):,} of {len(ids):,} rows are held out. Fix: {right}.")
    return examples.part(~held), examples.part(held)
