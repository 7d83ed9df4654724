"""Choose the chunk of the head op, and where its gradients are computed, from a memory budget by a traffic law.

The law. With the gradients computed in the forward pass a step costs three GEMMs of the size rows x V x H; computing
them in the backward pass needs the logits again, a fourth. But in the forward pass each chunk of C rows reads and
writes the whole float32 dW once: 8 V H bytes a chunk. Per row and per V, with B flop/byte the balance of the machine
(what it can compute in the time of one byte):
    chunked dW: 8 H / C bytes            fourth GEMM: 2 H flop = 2 H / B bytes, and 8 bytes to write and read logits
so the forward pass wins while 1 / C < 1 / (4 B) + 1 / H. At H = 1792 on an H100 (B about 260): C > 658 rows.
One chunk (all rows fit) always wins: dW is then written once.
"""

from dataclasses import dataclass

import torch

BUDGET_BYTES = 700_000_000
# flop per byte: 989e12 * 0.75 / (3.35e12 * 0.85) on an H100; two CPU cores: about 1e11 / 1e10
BALANCE = {"cuda": 260.0, "cpu": 10.0}
COLUMNS = 8192
ROWS_STEP = 128
MOST_ROWS_RECOMPUTED = 4096


@dataclass(frozen=True)
class HeadShape:
    """What the plan depends on: rows M that bear loss, vocabulary V, hidden H, dtypes, what needs a gradient."""

    rows: int
    vocabulary: int
    hidden: int
    weight_dtype: torch.dtype
    compute_dtype: torch.dtype
    weight_gradient: bool
    device: str = "cuda"
    # the torch tile keeps two float32 blocks [C, columns] of its own, the Triton tile none
    temporaries: int = 0

    @property
    def accumulate_dtype(self) -> torch.dtype:
        """float32, or float64 for float64 inputs (used by tests)."""
        return torch.float64 if self.compute_dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class HeadPlan:
    """`rows` of a chunk, `columns` of a vocabulary slice, and whether gradients are computed in the forward pass."""

    in_forward: bool
    rows: int
    columns: int


def plan_head(shape: HeadShape, in_forward: bool = True, budget_bytes: int = BUDGET_BYTES) -> HeadPlan:
    """Return the plan for one call. `in_forward`: what the caller prefers; the budget and the law may refuse it.

    `budget_bytes`: memory beyond inputs and gradients. Never below one step of rows, whatever the budget.
    """
    columns = min(COLUMNS, shape.vocabulary)
    accumulate, compute = shape.accumulate_dtype.itemsize, shape.compute_dtype.itemsize
    per_tile_row = columns * (compute + shape.temporaries * accumulate) + shape.hidden * (accumulate + compute)
    fixed = columns * shape.hidden * (compute if shape.weight_dtype != shape.compute_dtype else 0)
    if in_forward:
        own_accumulator = shape.weight_gradient and shape.weight_dtype != shape.accumulate_dtype
        room = budget_bytes - fixed
        room -= shape.vocabulary * shape.hidden * accumulate if own_accumulator else 0
        rows = _round(room // (shape.vocabulary * accumulate + per_tile_row), shape.rows)
        chunks = -(-shape.rows // rows) if rows else 0
        if rows and (chunks == 1 or rows > fewest_rows(shape)):
            # equal chunks: a short last one would waste a whole pass over dW
            return HeadPlan(True, _round(-(-shape.rows // chunks) + ROWS_STEP - 1, shape.rows), columns)
    room = budget_bytes - fixed - columns * shape.hidden * accumulate - shape.rows * shape.hidden * accumulate
    rows = _round(room // (columns * accumulate + per_tile_row), min(shape.rows, MOST_ROWS_RECOMPUTED))
    return HeadPlan(False, rows or min(ROWS_STEP, max(1, shape.rows)), columns)


def fewest_rows(shape: HeadShape) -> float:
    """Return the chunk below which a fourth GEMM is cheaper than passing over dW once more (the law above)."""
    if not shape.weight_gradient:
        return 0.0
    return 1 / (1 / (4 * BALANCE.get(shape.device, BALANCE["cuda"])) + 1 / shape.hidden)


def _round(rows: int, most: int) -> int:
    """Return `rows` cut to `most`, else down to a multiple of the step (0: not even one step fits)."""
    return max(1, most) if rows >= most else max(0, rows // ROWS_STEP * ROWS_STEP)


def floor_bytes(shape: HeadShape) -> int:
    """Return the fewest bytes any method moves: X and W read for the logits and for dX, dW; dX and dW written.

    2 (M H + V H) read + (M H + V H) written in the compute dtype; the logits never touch memory.
    """
    return 3 * (shape.rows + shape.vocabulary) * shape.hidden * shape.compute_dtype.itemsize


def floor_flops(shape: HeadShape) -> int:
    """Return the fewest floating-point operations: three GEMMs, 6 M V H."""
    return 6 * shape.rows * shape.vocabulary * shape.hidden


def moved_bytes(shape: HeadShape, plan: HeadPlan) -> int:
    """Return the bytes this op moves under `plan`, counting each GEMM operand once a GEMM (no cache model)."""
    m, v, h = shape.rows, shape.vocabulary, shape.hidden
    accumulate, compute = shape.accumulate_dtype.itemsize, shape.compute_dtype.itemsize
    cast = (shape.weight_dtype.itemsize + compute) if shape.weight_dtype != shape.compute_dtype else 0
    chunks, slices = -(-m // plan.rows), -(-v // plan.columns)
    tile = (
        m * v * (2 * accumulate + 3 * compute)
    )  # logits read twice by the tiles; their gradient: one write, two reads
    if plan.in_forward:
        logits = m * v * accumulate
        weight = chunks * v * h * 2 * (compute + cast)
        rows = slices * m * h * (2 * compute + 2 * accumulate)
        return tile + logits + weight + rows + chunks * v * h * 2 * accumulate
    logits = 2 * m * v * accumulate
    weight = v * h * (chunks * (2 * compute + cast) + chunks * compute + cast)
    rows = slices * m * h * (3 * compute + 2 * accumulate)
    return tile + logits + weight + rows + chunks * v * h * 2 * accumulate
