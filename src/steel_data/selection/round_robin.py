"""RDS+, the half without a model: queries take turns (apart: `steel_eval rate` has made the vectors).

Each takes its most alike row that is still free (Ivison et al. 2025, arXiv 2503.01807).

Representations are made by `steel_eval rate`: the weighted mean of a model's last hidden states.

Legend of array suffixes: _R rows, _Q queries, _D dimensions.
"""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
_AT_ONCE = 50_000_000  # likenesses held at once


def likeness(rows_RD: F32, queries_QD: F32) -> tuple[npt.NDArray[np.float64], list[I64]]:
    """Return each row's likeness to its nearest query (R), and of each query the rows, the most alike first.

    Likenesses are rounded to 1e-6, so that the order of sums decides nothing; of equal ones the earlier row is first.
    """
    best_R = np.full(len(rows_RD), -np.inf)
    preferred: list[I64] = []
    step = max(1, _AT_ONCE // max(len(rows_RD), 1))
    for start in range(0, len(queries_QD), step):
        alike_RQ = np.rint((rows_RD @ queries_QD[start : start + step].T).astype(np.float64) * 1e6) / 1e6
        best_R = np.maximum(best_R, alike_RQ.max(axis=1, initial=-np.inf))
        preferred += [np.argsort(-alike_Q, kind="stable") for alike_Q in alike_RQ.T]
    return best_R, preferred


def round_robin(preferred: list[I64], rows: int) -> I64:
    """Return all rows in the order in which the queries take them."""
    taken = np.zeros(rows, bool)
    order = np.empty(rows, np.int64)
    place = [0] * len(preferred)
    count = 0
    while count < rows:
        for q, mine in enumerate(preferred):
            while place[q] < rows and taken[mine[place[q]]]:
                place[q] += 1
            if place[q] == rows:
                continue
            row = mine[place[q]]
            taken[row], order[count] = True, row
            count += 1
            if count == rows:
                break
    return order
