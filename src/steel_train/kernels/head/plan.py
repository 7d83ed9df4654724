"""Choose the chunk of the head op, and where its gradients are computed, from a memory budget by a traffic law.

With the gradients computed in the forward pass a step costs three GEMMs of the size rows x V x H; computing them in the
backward pass needs the logits again, a fourth. But in the forward pass each chunk of C rows reads and writes the whole
float32 dW once, and reads (or casts) the whole W: 12 V H bytes a chunk and more. So small chunks make the fourth GEMM
the cheaper way. The law: of the plans that fit the budget take the one with the least

    bytes moved + flop / B        B, the balance: what the machine computes in the time of one byte of memory

`moved_bytes` counts each operand once a GEMM or tile. The library's GEMMs run at the rate that B stands for, so their
tiles re-reading operands from the L2 cache cost nothing more. Our own GEMM (`project_fold`, statistics without a logit
in memory) has tiles of 64 x 128 only, and is as slow as the slowest of memory, L2 and matrix units:

    max(bytes of memory, bytes of L2 / L, flop / B)        L: bytes out of L2 in the time of one byte of memory

At 16,384 rows it draws 209 GB (bf16 weight) or 349 GB (float32) out of L2, where a library GEMM and the fold of its
logits are done sooner: it is chosen for few rows only. All of this is counted, so it ranks plans and predicts no time.
"""

from dataclasses import dataclass, replace

import torch

from steel_train.kernels.head import tiles

BUDGET_BYTES = 700_000_000
MOST_BYTES = 2_500_000_000  # on an H200 it took 55 to 92 % of the time of the other (docs/results/gpu.md)
# flop per byte: 989e12 * 0.75 / (3.35e12 * 0.85) on an H100; a CPU core or two: about 1e11 / 1e10
BALANCE = {"cuda": 260.0, "cpu": 10.0}
L2_SPEED = 1.9  # 5.5 TB/s out of an H100's L2 over 3.35 * 0.85 TB/s of its memory
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

    An in-forward plan keeps [rows, V] float32 logits, another one [rows, columns]. `project`: the statistics are folded
    inside our own GEMM (Triton only).
    """

    in_forward: bool
    rows: int
    columns: int
    cast_once: bool = False
    project: bool = False


def budget_of(card: int | None) -> int:
    """Return the memory that the head may use by default: on a GPU of `card` bytes 1/32 of them, from 0.7 to 2.5 GB."""
    return BUDGET_BYTES if card is None else min(max(card // 32, BUDGET_BYTES), MOST_BYTES)


def plan_head(shape: HeadShape, in_forward: bool = True, budget_bytes: int = BUDGET_BYTES) -> HeadPlan:
    """Return the cheapest plan whose memory beyond inputs and gradients fits `budget_bytes`.

    `in_forward`: whether gradients in the forward pass are of use (not for DPO, not without gradients). The smallest
    plan is returned where none fits: one step of rows.
    """
    plans = [_recompute(shape, budget_bytes)]
    if not shape.temporaries:
        plans.append(replace(plans[0], project=True))
    if in_forward and shape.rows:
        plans += [p for cast in {False, shape.casts} if (p := _in_forward(shape, cast, budget_bytes)) is not None]
    return min(plans, key=lambda plan: cost(shape, plan))


def cost(shape: HeadShape, plan: HeadPlan) -> float:
    """Return the law's cost of a plan, in bytes."""
    balance = BALANCE.get(shape.device, BALANCE["cuda"])
    flops = 2 * shape.rows * shape.vocabulary * shape.hidden  # of one GEMM
    gemms = (2 if plan.in_forward else 3) + shape.weight_gradient - plan.project
    total = moved_bytes(shape, plan) + gemms * flops / balance
    if plan.project:
        # its bytes of memory are in the sum already
        total += max(0.0, max(l2_bytes(shape) / L2_SPEED, flops / balance) - _project_bytes(shape))
    return total


def l2_bytes(shape: HeadShape) -> int:
    """Return the bytes that `project_fold` draws out of the L2 cache: W once a block of rows, X once one of columns."""
    row_blocks, column_blocks = -(-shape.rows // tiles.PROJECT_ROWS), -(-shape.vocabulary // tiles.PROJECT_COLUMNS)
    w, x = shape.vocabulary * shape.weight_dtype.itemsize, shape.rows * shape.compute_dtype.itemsize
    return shape.hidden * (row_blocks * w + column_blocks * x)


def _project_bytes(shape: HeadShape) -> int:
    """Return the bytes of memory that `project_fold` cannot do without: each operand once, the weight uncast."""
    w, x = shape.vocabulary * shape.weight_dtype.itemsize, shape.rows * shape.compute_dtype.itemsize
    return shape.hidden * (w + x)


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
    rows = slices * read_x * (1 + shape.weight_gradient)
    if plan.in_forward:
        casts = cast if plan.cast_once else 2 * chunks * cast
        return logits + cells * accumulate + gradient + chunks * (2 * read_w + dw) + rows + dx + casts
    # the logits of the gradients; the slice is the outer loop, so the weight is cast once
    again = logits + gradient + chunks * (2 * read_w + dw) + rows + dx + cast
    return again + (_project_bytes(shape) if plan.project else logits + chunks * read_w + slices * read_x + cast)
