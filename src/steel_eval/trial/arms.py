"""Arms of equal steps and, as near as whole rows allow, equal trainable tokens.

A method that likes long rows would otherwise learn from more tokens, and one that likes short ones take more steps. So
all arms take the same number of steps, and what differs is how many rows a step has: as many of each arm's rows as hold
the same number of trainable tokens on average. Every row is seen once an epoch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from steel_data.errors import InputError

_ROUNDS = 4  # the more rows are selected, the shorter they may be: the mean is looked at again
SHARED = 0.8  # of the rows there are to select from: arms of more have nearly the same rows
APART = 0.1  # of the trainable tokens: arms further apart are refused


@dataclass(frozen=True)
class Sized:
    """One arm's size: rows selected, rows of its mixture, rows of a step, steps of an epoch, trainable tokens."""

    selected: int
    rows: int
    per_step: int
    steps: int
    tokens: int


Count = Callable[[str, int], tuple[int, int]]  # an arm with so many rows selected: rows and trainable tokens in all


def equal_arms(where: str, names: list[str], tokens: int, least_rows: int, most: int, count: Count) -> dict[str, Sized]:
    """Return the size of each arm. `least_rows`: of a step, as the recipe has it; `most`: rows there are to select
    from.

    Raises InputError where the source is too small, and where whole rows cannot make the arms equal.
    """
    selected, other = dict.fromkeys(names, min(most, 64)), 0
    for _ in range(_ROUNDS):
        for name in names:
            rows, learnt = count(name, selected[name])
            other = rows - selected[name]  # of the sources that all arms share
            selected[name] = max(1, round(rows * tokens / max(learnt, 1)) - other)
            if selected[name] > most:
                right = round(0.9 * tokens * (most + other) / (selected[name] + other))
                raise InputError(
                    f"{where}: tokens = {tokens:,}: arm '{name}' would need {selected[name]:,} rows to select, and "
                    f"there are {most:,}. Fix: tokens = {right} or less, or a larger source."
                )
    if other and min(selected.values()) == 1 and (shared := min(count(name, 1)[1] for name in names)) >= tokens:
        raise InputError(
            f"{where}: tokens = {tokens:,}: the {other:,} rows that all arms share have {shared:,} already. "
            f"Fix: tokens = {2 * shared} or more, or fewer rows of the sources that do not select (take)."
        )
    fewest = min(selected.values()) + other
    if fewest // least_rows < 2:
        raise InputError(
            f"{where}: tokens = {tokens:,} are {fewest:,} rows in an arm, less than two steps of {least_rows}. "
            "Fix: more tokens, or a smaller micro_batch and accumulate."
        )
    steps = best_steps([rows + other for rows in selected.values()], fewest // least_rows)
    sized = {}
    for name in names:
        per_step = round((selected[name] + other) / steps)
        while steps * per_step - other > most:
            per_step -= 1
        rows, learnt = count(name, steps * per_step - other)
        sized[name] = Sized(rows - other, rows, per_step, steps, learnt)
    if all(size.selected > SHARED * most for size in sized.values()):
        raise InputError(
            f"{where}: tokens = {tokens:,}: every arm selects more than {SHARED:.0%} of the {most:,} rows there are, "
            f"so the arms are nearly the same rows. Fix: tokens = {tokens // 3} or less, or a larger source."
        )
    low, high = min(s.tokens for s in sized.values()), max(s.tokens for s in sized.values())
    if high > (1 + APART) * low:
        raise InputError(
            f"{where}: arms of {low:,} to {high:,} trainable tokens are too far apart to be compared. Fix: more "
            "tokens, or more rows a step (micro_batch, accumulate)."
        )
    return sized


def best_steps(rows: list[int], most: int) -> int:
    """Return the steps, `most` or up to a fifth fewer, with which whole rows a step bring the arms nearest to `rows`.

    Rows of a step are rounded: of few, the tokens of two arms come far apart. Of steps that bring the arms equally near
    to one another those that bring them nearest to `rows`, then the most.
    """

    def apart(steps: int) -> tuple[float, float]:
        kept = [round(count / steps) * steps / count for count in rows]
        return round(max(kept) / max(min(kept), 1e-9), 3), round(abs(sum(kept) / len(kept) - 1), 3)

    return min(range(most, max(2, -(-4 * most // 5)) - 1, -1), key=apart)


def batches(per_step: int, micro_batch: int) -> dict[str, Any]:
    """Return `micro_batch` and `accumulate` of a step of so many rows: the largest micro batch that divides it."""
    micro = max(d for d in range(1, min(per_step, micro_batch) + 1) if per_step % d == 0)
    return {"micro_batch": micro, "accumulate": per_step // micro}
