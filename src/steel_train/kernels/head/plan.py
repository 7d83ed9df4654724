"""Choose the chunk of the head op, and where its gradients are computed, from a memory budget by a traffic law.

With the gradients computed in the forward pass a step costs three GEMMs of the size rows x V x H; computing them in the
backward pass needs the logits again, a fourth. But in the forward pass each chunk of C rows reads and writes the whole
float32 dW once, and reads (or casts) the whole W: 12 V H bytes a chunk and more. So small chunks make the fourth GEMM
the cheaper way. The law: of the plans that fit the budget take the one with the least

    bytes moved + flop / B        B, the balance: what the machine computes in the time of one byte

`moved_bytes` counts each operand once a GEMM or tile; it knows no cache, so it ranks plans and predicts no time.
"""

from dataclasses import dataclass

import torch

BUDGET_BYTES = 700_000_000
# flop per byte: 989e12 * 0.75 / (3.35e12 * 0.85) on an H100; a CPU core or two: about 1e11 / 1e10
BALANCE = {"cuda": 260.0, "cpu": 10.0}
COLUMNS = 8192
ROWS_STEP = 128
MOST_ROWS_RECOMPUTED = 4096


@dataclass(frozen=True)
class HeadShape:
    """What the plan depends on: rows M that bear loss, vocabulary V, hidden H, dtypes, what needs a gradient.

    `temporaries`: float32 blocks [C, columns] that the tile keeps of its own: two in torch, none in Triton.
    """

    rows: int
    vocabulary: int
    hidden: int
    weight_dtype: torch.dtype
    compute_dtype: torch.dtype
    weight_gradient: bool
    device: str = "cuda"
    temporaries: int = 0

    @property
    def accumulate_dtype(self) -> torch.dtype:
        """float32, or float64 for float64 inputs (used by tests)."""
        return torch.float64 if self.compute_dtype == torch.float64 else torch.float32

    @property
    def casts(self) -> bool:
        """Whether the weight must be cast for the GEMMs, as under autocast."""
        return self.weight_dtype != self.compute_dtype


@dataclass(frozen=True)
class HeadPlan:
    """`rows` of a chunk, `columns` of a vocabulary slice; where gradients are computed; W cast once or often.

    An in-forward plan keeps [rows, V] float32 logits, another one [rows, columns].
    """

    in_forward: bool
    rows: int
    columns: int
    cast_once: bool = False


def plan_head(shape: HeadShape, in_forward: bool = True, budget_bytes: int = BUDGET_BYTES) -> HeadPlan:
    """Return the cheapest plan whose memory beyond inputs and gradients fits `budget_bytes`.

    `in_forward`: whether gradients in the forward pass are of use (not for DPO, not without gradients). The smallest
    plan is returned where none fits: one step of rows.
    """
    plans = [_recompute(shape, budget_bytes)]
    if in_forward and shape.rows:
        plans += [p for cast in {False, shape.casts} if (p := _in_forward(shape, cast, budget_bytes)) is not None]
    return min(plans, key=lambda plan: cost(shape, plan))


def cost(shape: HeadShape, plan: HeadPlan) -> float:
    """Return the law's cost of a plan, in bytes."""
    gemms = (2 if plan.in_forward else 3) + shape.weight_gradient
    flops = 2 * gemms * shape.rows * shape.vocabulary * shape.hidden
    return moved_bytes(shape, plan) + flops / BALANCE.get(shape.device, BALANCE["cuda"])


def _row_bytes(shape: HeadShape, columns: int) -> int:
    """Bytes a row of a chunk needs besides its logits: gradient block, temporaries, cast X, float32 dX."""
    accumulate, compute = shape.accumulate_dtype.itemsize, shape.compute_dtype.itemsize
    return columns * (compute + shape.temporaries * accumulate) + shape.hidden * (accumulate + compute)


def _in_forward(shape: HeadShape, cast_once: bool, budget_bytes: int) -> HeadPlan | None:
    columns = min(COLUMNS, shape.vocabulary)
    accumulate, compute = shape.accumulate_dtype.itemsize, shape.compute_dtype.itemsize
    room = budget_bytes
    if shape.casts:
        room -= (shape.vocabulary if cast_once else columns) * shape.hidden * compute
    if shape.weight_gradient and shape.weight_dtype != shape.accumulate_dtype:
        room -= shape.vocabulary * shape.hidden * accumulate  # the float32 dW is not the gradient itself
    rows = _round(room // (shape.vocabulary * accumulate + _row_bytes(shape, columns)), shape.rows)
    if not rows:
        return None
    # equal chunks: a short last one would waste a whole pass over dW
    chunks = -(-shape.rows // rows)
    return HeadPlan(True, _round(-(-shape.rows // chunks) + ROWS_STEP - 1, shape.rows), columns, cast_once)


def _recompute(shape: HeadShape, budget_bytes: int) -> HeadPlan:
    columns = min(COLUMNS, shape.vocabulary)
    accumulate, compute = shape.accumulate_dtype.itemsize, shape.compute_dtype.itemsize
    room = budget_bytes - (columns + shape.rows) * shape.hidden * accumulate
    room -= columns * shape.hidden * compute if shape.casts else 0
    most = min(shape.rows, MOST_ROWS_RECOMPUTED)
    rows = _round(room // (columns * accumulate + _row_bytes(shape, columns)), most)
    return HeadPlan(False, rows or min(ROWS_STEP, max(1, shape.rows)), columns)


def _round(rows: int, most: int) -> int:
    """Return `rows` cut to `most`, else down to a multiple of the step (0: not even one step fits)."""
    return max(1, most) if rows >= most else max(0, rows // ROWS_STEP * ROWS_STEP)


def moved_bytes(shape: HeadShape, plan: HeadPlan) -> int:
    """Return the bytes that GEMMs, casts and tiles move under `plan`, each operand once a GEMM (no cache model)."""
    m, cells, weights = shape.rows, shape.rows * shape.vocabulary, shape.vocabulary * shape.hidden
    accumulate, compute = shape.accumulate_dtype.itemsize, shape.compute_dtype.itemsize
    cast = weights * (shape.weight_dtype.itemsize + compute) if shape.casts else 0
    chunks, slices = -(-m // plan.rows), -(-shape.vocabulary // plan.columns)
    read_w, read_x = weights * compute, m * shape.hidden * compute
    logits = cells * 2 * accumulate  # written by the GEMM, read by a tile
    # the tile writes the gradient block; the GEMMs of dX and dW read it
    gradient = cells * (2 + shape.weight_gradient) * compute
    dx = slices * m * shape.hidden * 2 * accumulate
    dw = 2 * weights * accumulate * shape.weight_gradient  # read and written by each chunk
    rows = slices * read_x * (2 + shape.weight_gradient)
    if plan.in_forward:
        casts = cast if plan.cast_once else 2 * chunks * cast
        return logits + cells * accumulate + gradient + chunks * (2 * read_w + dw) + rows + dx + casts
    # Triton folds the statistics inside its GEMM: no logits are written for them
    statistics = logits if shape.temporaries else 0
    return statistics + logits + gradient + chunks * (3 * read_w + dw) + rows + dx + (chunks + 1) * cast
