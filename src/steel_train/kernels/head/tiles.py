# mypy: disable-error-code="no-untyped-def"
"""The inner tiles of the head op: what is done to a block of logits once the GEMM has made it.

Shapes: C rows (tokens) of a chunk, S columns (a slice of the vocabulary that begins at `start`), M rows, H hidden,
V vocabulary, B vocabulary ranges of `project_fold`, 7 running statistics.

Two forms with one meaning, torch and Triton. The running statistics of a row over the columns seen so far, z a logit:
    0 max     largest z                      4 sum of z
    1 sum     of exp(z - max)                5 column of the largest z, the first of equal ones
    2 sum     of exp(z - max) (z - max)      6 z of the label, once seen
    3 sum     of exp(z - max)^2
Statistic 2 is kept relative to the maximum, so that the entropy is not a difference of large numbers.
All arithmetic is float32 (float64 for float64 logits in the torch form).
"""

from __future__ import annotations

import torch

from steel_train.kernels.backend import interpreting, jit, tl, triton

MAX, SUM, SUM_SHIFTED, SUM_SQUARES, SUM_LOGITS, BEST, TARGET = range(7)
# finite, because (-inf - max) * 0 would be nan in the first update
NOTHING_SEEN = -1e30
FOLD_BLOCK = 4096
GRADIENT_BLOCK = 2048
# 8 warps: with 4 the epilogue spills on sm_80 and sm_90 (compiled ahead of time with triton 3.7.1 and 3.9.0)
PROJECT_ROWS, PROJECT_COLUMNS, PROJECT_DEPTH, PROJECT_WARPS = 64, 128, 64, 8


def empty_statistics(rows: int, like: torch.Tensor) -> torch.Tensor:
    """Return the [7, rows] statistics before any column was seen, on the device and in the dtype of `like`."""
    stats_7C = torch.zeros(7, rows, device=like.device, dtype=like.dtype)
    stats_7C[MAX] = NOTHING_SEEN
    return stats_7C


def fold_torch(logits_CS: torch.Tensor, labels_C: torch.Tensor, start: int, stats_7C: torch.Tensor) -> None:
    """Update `stats_7C` with the columns [start, start + S). `logits_CS` is only read."""
    best_C, column_C = logits_CS.max(1)
    old_C = stats_7C[MAX].clone()
    new_C = torch.maximum(old_C, best_C)
    shift_C = old_C - new_C
    rescale_C = shift_C.exp()
    shifted_CS = logits_CS - new_C[:, None]
    exp_CS = shifted_CS.exp()
    # row-wise dot products as a batched GEMM: no [C, S] product is kept
    stats_7C[SUM_SHIFTED] = rescale_C * (stats_7C[SUM_SHIFTED] + shift_C * stats_7C[SUM]) + _dot(exp_CS, shifted_CS)
    stats_7C[SUM] = rescale_C * stats_7C[SUM] + exp_CS.sum(1)
    stats_7C[SUM_SQUARES] = rescale_C.square() * stats_7C[SUM_SQUARES] + _dot(exp_CS, exp_CS)
    stats_7C[SUM_LOGITS] += logits_CS.sum(1)
    stats_7C[BEST] = torch.where(best_C > old_C, (column_C + start).to(old_C.dtype), stats_7C[BEST])
    stats_7C[MAX] = new_C
    local_C = labels_C - start
    inside_C = (local_C >= 0) & (local_C < logits_CS.shape[1])
    target_C = logits_CS.gather(1, local_C.clamp(0, logits_CS.shape[1] - 1)[:, None])[:, 0]
    stats_7C[TARGET] = torch.where(inside_C, target_C, stats_7C[TARGET])


def _dot(x_CS: torch.Tensor, y_CS: torch.Tensor) -> torch.Tensor:
    return torch.bmm(x_CS[:, None, :], y_CS[:, :, None])[:, 0, 0]


def gradients_torch(
    logits_CS: torch.Tensor,
    labels_C: torch.Tensor,
    start: int,
    log_z_2C: torch.Tensor,
    scale_C: torch.Tensor | None,
    out_CS: torch.Tensor,
) -> None:
    """Write d(log p of the label)/d(logits), times `scale_C` if given, into `out_CS`.

    `log_z_2C`: the row's maximum and log sum(exp(z - max)), apart, so that neither is rounded to the other's size.
    The label's entry is 1 - p = -expm1(log p), which does not cancel when p is near 1.
    """
    shifted_CS = logits_CS - log_z_2C[0][:, None]
    log_p_CS = shifted_CS.sub_(log_z_2C[1][:, None])
    local_C = labels_C - start
    inside_C = (local_C >= 0) & (local_C < logits_CS.shape[1])
    column_C1 = local_C.clamp(0, logits_CS.shape[1] - 1)[:, None]
    target_C1 = log_p_CS.gather(1, column_C1)
    gradient_CS = log_p_CS.exp_().neg_()
    entry_C1 = torch.where(inside_C[:, None], -torch.expm1(target_C1), gradient_CS.gather(1, column_C1))
    gradient_CS.scatter_(1, column_C1, entry_C1)
    if scale_C is not None:
        gradient_CS.mul_(scale_C[:, None])
    out_CS.copy_(gradient_CS)


@jit("labels_ptr", "stats_ptr", "stats_stride", "start")
def fold_kernel(logits_ptr, logits_stride, labels_ptr, stats_ptr, stats_stride, start, n_columns, BLOCK: tl.constexpr):
    """One program a row: read the row's slice once, update its seven statistics."""
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * logits_stride
    stats_ptr += row
    label = tl.load(labels_ptr + row) - start
    m = tl.load(stats_ptr)
    s = tl.load(stats_ptr + stats_stride)
    e = tl.load(stats_ptr + 2 * stats_stride)
    q = tl.load(stats_ptr + 3 * stats_stride)
    t = tl.load(stats_ptr + 4 * stats_stride)
    best = tl.load(stats_ptr + 5 * stats_stride)
    for begin in range(0, n_columns, BLOCK):
        column = begin + tl.arange(0, BLOCK)
        inside = column < n_columns
        z = tl.load(logits_ptr + column, mask=inside, other=-1e30).to(tl.float32)
        block_max = tl.max(z, 0)
        first = tl.min(tl.where(z == block_max, column, n_columns), 0)
        best = tl.where(block_max > m, (first + start).to(tl.float32), best)
        new = tl.maximum(m, block_max)
        rescale = tl.exp(m - new)
        x = tl.where(inside, z - new, 0.0)
        p = tl.where(inside, tl.exp(x), 0.0)
        e = rescale * (e + (m - new) * s) + tl.sum(p * x, 0)
        s = rescale * s + tl.sum(p, 0)
        q = rescale * rescale * q + tl.sum(p * p, 0)
        t += tl.sum(tl.where(inside, z, 0.0), 0)
        m = new
    tl.store(stats_ptr, m)
    tl.store(stats_ptr + stats_stride, s)
    tl.store(stats_ptr + 2 * stats_stride, e)
    tl.store(stats_ptr + 3 * stats_stride, q)
    tl.store(stats_ptr + 4 * stats_stride, t)
    tl.store(stats_ptr + 5 * stats_stride, best)
    if (label >= 0) & (label < n_columns):
        tl.store(stats_ptr + 6 * stats_stride, tl.load(logits_ptr + label).to(tl.float32))


@jit("labels_ptr", "log_z_ptr", "log_z_stride", "scale_ptr", "start")
def gradients_kernel(
    logits_ptr, logits_stride, labels_ptr, log_z_ptr, log_z_stride, scale_ptr, out_ptr, out_stride, start, n_columns,
    HAS_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a row and a block of columns: 1[label] - p, scaled, in the dtype of `out`."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < n_columns
    label = tl.load(labels_ptr + row) - start
    z = tl.load(logits_ptr + row * logits_stride + column, mask=inside, other=0.0).to(tl.float32)
    log_p = z - tl.load(log_z_ptr + row) - tl.load(log_z_ptr + log_z_stride + row)
    p = tl.exp(log_p)
    # 1 - p without cancellation: the series of -expm1 where log p is small (error below 1e-7 relative at -0.1)
    series = 1 + log_p / 2 * (1 + log_p / 3 * (1 + log_p / 4 * (1 + log_p / 5 * (1 + log_p / 6))))
    rest = tl.where(log_p > -0.1, -log_p * series, 1 - p)
    gradient = tl.where(column == label, rest, -p)
    if HAS_SCALE:
        gradient *= tl.load(scale_ptr + row)
    tl.store(out_ptr + row * out_stride + column, gradient.to(out_ptr.dtype.element_ty), mask=inside)


@jit("labels_ptr", "n_rows")
def project_fold_kernel(
    x_ptr, x_stride, w_ptr, w_stride, labels_ptr, stats_ptr, n_rows, n_vocabulary, n_hidden, columns_per_range,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One program a block of rows and a range of the vocabulary: GEMM and statistics, no logit leaves the chip."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    part = tl.program_id(1)
    row_in = row < n_rows
    label = tl.load(labels_ptr + row, mask=row_in, other=-1)
    m = tl.full([ROWS], -1e30, tl.float32)
    s = tl.zeros([ROWS], tl.float32)
    e = tl.zeros([ROWS], tl.float32)
    q = tl.zeros([ROWS], tl.float32)
    t = tl.zeros([ROWS], tl.float32)
    best = tl.zeros([ROWS], tl.float32)
    target = tl.zeros([ROWS], tl.float32)
    x_rows = x_ptr + row.to(tl.int64)[:, None] * x_stride
    first_column = part * columns_per_range
    for begin in range(first_column, tl.minimum(first_column + columns_per_range, n_vocabulary), COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        column_in = column < n_vocabulary
        w_rows = w_ptr + column.to(tl.int64)[:, None] * w_stride
        z = tl.zeros([ROWS, COLUMNS], tl.float32)
        for depth in range(0, n_hidden, DEPTH):
            k = depth + tl.arange(0, DEPTH)
            k_in = k < n_hidden
            x = tl.load(x_rows + k[None, :], mask=row_in[:, None] & k_in[None, :], other=0.0)
            w = tl.load(w_rows + k[None, :], mask=column_in[:, None] & k_in[None, :], other=0.0)
            if UPCAST:  # the interpreter's bf16 GEMM is wrong without a word
                z = tl.dot(x.to(tl.float32), tl.trans(w.to(tl.float32)), z, input_precision="ieee")
            else:
                z = tl.dot(x, tl.trans(w.to(x.dtype)), z, input_precision="ieee")
        z = tl.where(column_in[None, :], z, -1e30)
        block_max = tl.max(z, 1)
        first = tl.min(tl.where(z == block_max[:, None], column[None, :], n_vocabulary), 1)
        best = tl.where(block_max > m, first.to(tl.float32), best)
        new = tl.maximum(m, block_max)
        rescale = tl.exp(m - new)
        shifted = tl.where(column_in[None, :], z - new[:, None], 0.0)
        p = tl.where(column_in[None, :], tl.exp(shifted), 0.0)
        e = rescale * (e + (m - new) * s) + tl.sum(p * shifted, 1)
        s = rescale * s + tl.sum(p, 1)
        q = rescale * rescale * q + tl.sum(p * p, 1)
        t += tl.sum(tl.where(column_in[None, :], z, 0.0), 1)
        target += tl.sum(tl.where(column[None, :] == label[:, None], z, 0.0), 1)
        m = new
    out = stats_ptr + part.to(tl.int64) * 7 * n_rows + row
    tl.store(out, m, mask=row_in)
    tl.store(out + n_rows, s, mask=row_in)
    tl.store(out + 2 * n_rows, e, mask=row_in)
    tl.store(out + 3 * n_rows, q, mask=row_in)
    tl.store(out + 4 * n_rows, t, mask=row_in)
    tl.store(out + 5 * n_rows, best, mask=row_in)
    tl.store(out + 6 * n_rows, target, mask=row_in)


def fold_triton(logits_CS: torch.Tensor, labels_C: torch.Tensor, start: int, stats_7C: torch.Tensor) -> None:
    """`fold_torch` as one kernel."""
    rows, columns = logits_CS.shape
    fold_kernel[(rows,)](
        logits_CS, logits_CS.stride(0), labels_C, stats_7C, stats_7C.stride(0), start, columns,
        BLOCK=FOLD_BLOCK, num_warps=8,
    )  # fmt: skip


def gradients_triton(
    logits_CS: torch.Tensor,
    labels_C: torch.Tensor,
    start: int,
    log_z_2C: torch.Tensor,
    scale_C: torch.Tensor | None,
    out_CS: torch.Tensor,
) -> None:
    """`gradients_torch` as one kernel."""
    rows, columns = logits_CS.shape
    gradients_kernel[(rows, triton.cdiv(columns, GRADIENT_BLOCK))](
        logits_CS, logits_CS.stride(0), labels_C, log_z_2C, log_z_2C.stride(0),
        log_z_2C if scale_C is None else scale_C, out_CS, out_CS.stride(0), start, columns,
        HAS_SCALE=scale_C is not None, BLOCK=GRADIENT_BLOCK, num_warps=4,
    )  # fmt: skip


def project_fold_triton(x_MH: torch.Tensor, weight_VH: torch.Tensor, labels_M: torch.Tensor) -> torch.Tensor:
    """Return the [7, M] statistics of `x_MH @ weight_VH.T` without writing a logit to memory.

    The vocabulary is cut into ranges so that few rows still fill the device; their statistics are merged in torch.
    """
    rows, hidden = x_MH.shape
    vocabulary = weight_VH.shape[0]
    row_blocks = triton.cdiv(rows, PROJECT_ROWS)
    # about 512 programs: four for each of an H100's 132 multiprocessors
    ranges = max(1, min(64, 512 // row_blocks, triton.cdiv(vocabulary, PROJECT_COLUMNS)))
    per_range = triton.cdiv(triton.cdiv(vocabulary, ranges), PROJECT_COLUMNS) * PROJECT_COLUMNS
    ranges = triton.cdiv(vocabulary, per_range)
    stats_B7M = torch.empty(ranges, 7, rows, device=x_MH.device, dtype=torch.float32)
    project_fold_kernel[(row_blocks, ranges)](
        x_MH, x_MH.stride(0), weight_VH, weight_VH.stride(0), labels_M, stats_B7M, rows, vocabulary, hidden, per_range,
        ROWS=PROJECT_ROWS, COLUMNS=PROJECT_COLUMNS, DEPTH=PROJECT_DEPTH, UPCAST=interpreting(), num_warps=PROJECT_WARPS,
        num_stages=3,
    )  # fmt: skip
    return merge_statistics(stats_B7M)


def merge_statistics(stats_B7M: torch.Tensor) -> torch.Tensor:
    """Return the [7, M] statistics of all columns from those of B disjoint ranges of columns, in column order."""
    max_BM = stats_B7M[:, MAX]
    max_M, winner_M = max_BM.max(0)  # the first of equal ranges, as `max` documents
    shift_BM = max_BM - max_M
    rescale_BM = shift_BM.exp()
    merged = torch.empty_like(stats_B7M[0])
    merged[MAX] = max_M
    merged[SUM] = (rescale_BM * stats_B7M[:, SUM]).sum(0)
    merged[SUM_SHIFTED] = (rescale_BM * (stats_B7M[:, SUM_SHIFTED] + shift_BM * stats_B7M[:, SUM])).sum(0)
    merged[SUM_SQUARES] = (rescale_BM.square() * stats_B7M[:, SUM_SQUARES]).sum(0)
    merged[SUM_LOGITS] = stats_B7M[:, SUM_LOGITS].sum(0)
    merged[BEST] = stats_B7M[:, BEST].gather(0, winner_M[None])[0]
    merged[TARGET] = stats_B7M[:, TARGET].sum(0)
    return merged
