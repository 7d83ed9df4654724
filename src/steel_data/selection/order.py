"""From scores to an order of which a beginning is taken (apart: what makes every way of choosing nested).

Where that is asked for, groups take turns in it. A choice of 10,000 rows lies inside that of 100,000.

Legend of array suffixes: _R one entry a row; _O the same, in the order of choice.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]


def best_first(score_R: npt.NDArray[np.generic], key_R: U64) -> I64:
    """Return the rows, the largest score first; of equal ones the smaller key. NaN comes last."""
    return np.lexsort((key_R, -score_R.astype(np.float64)))


def balanced(order_O: I64, group: pl.Series, size_R: I64) -> I64:
    """Return the order in which the groups take turns: next comes the group of which the least is taken so far.

    `size_R`: what is balanced (1 a row, or tokens). Of equal groups the one whose row stood first in `order_O` is next;
    a group that has no more rows is left out, so that the others share what it cannot give.
    """
    names = group.unique().sort().to_list()
    code_R = group.replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    code_O, size_O = code_R[order_O], size_R[order_O]
    by_group = np.argsort(code_O, kind="stable")
    reached = np.cumsum(size_O[by_group])
    first = np.searchsorted(code_O[by_group], np.arange(len(names)))
    before = reached - size_O[by_group]
    before_O = np.empty(len(order_O), np.int64)
    before_O[by_group] = before - np.repeat(before[first], np.diff(np.append(first, len(order_O))))
    return order_O[np.argsort(before_O, kind="stable")]


def beginning(size_O: I64, asked: int) -> int:
    """Return how many rows of an order are taken so that their sizes do not go beyond what is asked for."""
    return int(np.searchsorted(np.cumsum(size_O), asked, side="right"))
