"""The list of ops. Tests, the benchmark and docs/kernels.md are driven by it; an op outside it fails the tests.

For each op: how to run it with chosen kernels, its definition, inputs by case, the fewest bytes its kernels can move
for those inputs, and every kernel with the signature it is compiled for ahead of time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from steel_train.kernels import rms_norm, rope, swiglu
from steel_train.kernels.backend import Calls
from steel_train.kernels.head import loss as head_loss
from steel_train.kernels.head import tiles as head_tiles
from steel_train.kernels.head.loss import HeadSettings
from steel_train.kernels.head.plan import HeadShape, l2_bytes

Tensors = tuple[torch.Tensor, ...]
# the Qwen vocabulary and the Steel-LLM model
VOCABULARY, HIDDEN, HEADS, HEAD_SIZE = 151_936, 1792, 32, 56
EPS = 1e-6


@dataclass(frozen=True)
class Launch:
    """One kernel as the GPU gets it: argument types by name, compile-time constants, warps and pipeline stages.

    `odd`: integer arguments that are no multiple of 16 at real sizes. `tensor_cores`: whether it must use them.
    """

    kernel: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    warps: int
    stages: int = 3
    odd: tuple[str, ...] = ()
    tensor_cores: bool = False


@dataclass(frozen=True)
class Op:
    """One op with all that its checks need. `exact_in_bf16`: its outputs are rounded once, so bf16 costs no more.

    `narrow`: which gradients come in bf16 even from float32 inputs, because `run` rounds that input first.
    `make(case, generator)` returns float32 inputs; integers are not converted. `floor(inputs)`: bytes of forward and
    backward. `bytes_case`: the case at which bytes are counted.
    """

    name: str
    run: Callable[..., Any]
    reference: Callable[..., Any]
    make: Callable[[str, torch.Generator], Tensors]
    cases: tuple[str, ...]
    bytes_case: str
    floor: Callable[[Tensors], int]
    launches: tuple[Launch, ...] = field(repr=False)
    exact_in_bf16: bool = True
    narrow: frozenset[int] = frozenset()


# ---------------------------------------------------------------- head and loss

HEAD_CASES = {
    "ragged": (17, 507, 123, 0.4),
    "one token": (1, 300, 48, 0.0),
    "all masked": (5, 64, 16, 1.0),
    # all rows: their upstream gradient is used as it comes, be it one number seen from all of them
    "none masked": (6, 300, 16, 0.0),
    # four rows or more with a label: MKL sums a product of fewer one by one, 7 times less exact over 8192 columns
    "vocabulary": (8, VOCABULARY, 24, 0.4),
    "hidden": (9, 260, HIDDEN, 0.3),
}


def _head_inputs(case: str, generator: torch.Generator) -> Tensors:
    tokens, vocabulary, hidden, masked = HEAD_CASES[case]
    hidden_NH = torch.randn(tokens, hidden, generator=generator)
    weight_VH = torch.randn(vocabulary, hidden, generator=generator) * (3 / hidden**0.5)
    labels_N = torch.randint(0, vocabulary, (tokens,), generator=generator)
    labels_N[torch.rand(tokens, generator=generator) < masked] = head_loss.IGNORE
    return hidden_NH, weight_VH, labels_N


def _head(in_forward: bool) -> Callable[..., torch.Tensor]:
    def run(calls: Calls, hidden_NH: torch.Tensor, weight_VH: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
        settings = HeadSettings(in_forward, calls=calls)
        return head_loss.token_log_probs(hidden_NH, weight_VH, labels_N, settings).log_probs

    return run


def head_floor(shape: HeadShape) -> int:
    """Return the fewest bytes any method moves: X and W read for the logits and for dX, dW; dX and dW written.

    2 (M H + V H) read + (M H + V H) written in the compute dtype; the logits never touch memory.
    """
    return 3 * (shape.rows + shape.vocabulary) * shape.hidden * shape.compute_dtype.itemsize


def _head_tile_floor(inputs: Tensors) -> int:
    """The tiles read the logits twice and write their gradient once; the GEMMs between them are the library's."""
    rows, vocabulary = int((inputs[2] != head_loss.IGNORE).sum()), inputs[1].shape[0]
    return rows * vocabulary * (4 + 4 + inputs[0].element_size())


def _head_recompute_floor(inputs: Tensors) -> int:
    """What `project_fold` draws out of the cache (one pass over W a block of rows, over X a block of columns), then the
    gradient tile."""
    rows, (vocabulary, hidden) = int((inputs[2] != head_loss.IGNORE).sum()), inputs[1].shape
    dtype = inputs[0].dtype
    shape = HeadShape(rows, vocabulary, hidden, dtype, dtype, True)
    return l2_bytes(shape) + rows * vocabulary * (4 + dtype.itemsize)


FOLD = Launch(
    head_tiles.fold_kernel,
    {"logits_ptr": "*fp32", "logits_stride": "i32", "labels_ptr": "*i64", "stats_ptr": "*fp32", "stats_stride": "i32",
     "start": "i32", "n_columns": "i32"},
    {"BLOCK": head_tiles.FOLD_BLOCK},
    warps=8,
    odd=("stats_stride",),
)  # fmt: skip


def _gradients_launch(scaled: bool, out: str) -> Launch:
    types = {"logits_ptr": "*fp32", "logits_stride": "i32", "labels_ptr": "*i64", "log_z_ptr": "*fp32",
             "log_z_stride": "i32", "scale_ptr": "*fp32", "out_ptr": out, "out_stride": "i32", "start": "i32",
             "n_columns": "i32"}  # fmt: skip
    constants = {"HAS_SCALE": scaled, "BLOCK": head_tiles.GRADIENT_BLOCK}
    return Launch(head_tiles.gradients_kernel, types, constants, warps=4, odd=("log_z_stride",))


def _project_launch(weight: str) -> Launch:
    types = {"x_ptr": "*bf16", "x_stride": "i32", "w_ptr": weight, "w_stride": "i32", "labels_ptr": "*i64",
             "stats_ptr": "*fp32", "n_rows": "i32", "n_vocabulary": "i32", "n_hidden": "i32",
             "columns_per_range": "i32"}  # fmt: skip
    constants = {"ROWS": head_tiles.PROJECT_ROWS, "COLUMNS": head_tiles.PROJECT_COLUMNS,
                 "DEPTH": head_tiles.PROJECT_DEPTH, "UPCAST": False}  # fmt: skip
    return Launch(
        head_tiles.project_fold_kernel, types, constants, head_tiles.PROJECT_WARPS, odd=("n_rows",), tensor_cores=True
    )


# ---------------------------------------------------------------- RMSNorm

NORM_CASES = {
    "ragged": (7, 123),
    "one token": (1, 33),
    "hidden": (20, HIDDEN),
    "many": (160, 100),
    "wide": (3, 5000),
    "small": (4, 64),
}


def _grid(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    # multiples of 1/8 below 8: exact in bf16, and so are sums of two of them
    return torch.randint(-31, 32, shape, generator=generator) / 8


def _norm_inputs(residual: bool) -> Callable[[str, torch.Generator], Tensors]:
    def make(case: str, generator: torch.Generator) -> Tensors:
        shape = NORM_CASES[case]
        # "small": rows whose mean square is as small as eps, so that eps counts
        scale = 2.0**-12 if case == "small" else 1.0
        x_NH, weight_H = scale * _grid(shape, generator), torch.randn(shape[1], generator=generator)
        return (x_NH, weight_H, scale * _grid(shape, generator)) if residual else (x_NH, weight_H)

    return make


def _norm_run(calls: Calls, x: torch.Tensor, weight_H: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
    y, r = rms_norm.rms_norm(x, weight_H, EPS, residual, calls)
    return y if residual is None else (y, r)


def _norm_reference(x: torch.Tensor, weight_H: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
    y, r = rms_norm.reference(x, weight_H, EPS, residual)
    return y if residual is None else (y, r)


def norm_floor(tokens: int, hidden: int, x: int, residual: int = 0, weight: int | None = None) -> int:
    """Return the fewest bytes, forward and backward: each tensor touched once; s and w are counted too.

    `x`, `residual`, `weight`: bytes an element (residual 0: none is added; weight: by default as x).
    """
    weight = x if weight is None else weight
    stream = max(x, residual)  # r, y and their gradients
    # x, r (without a residual x is r), y; dy, r, dx: then residual, dr, and its gradient where it has another dtype
    cells = 5 * x if not residual else x + 2 * stream + 2 * stream + x + residual + stream + residual * (residual != x)
    return cells * tokens * hidden + 2 * (tokens * 4 + hidden * weight) + hidden * weight


def _norm_floor(inputs: Tensors) -> int:
    x_NH, weight_H, *residual = inputs
    sizes = (x_NH.element_size(), residual[0].element_size() if residual else 0, weight_H.element_size())
    return norm_floor(*x_NH.shape, *sizes)


def _norm_floor_under_autocast(inputs: Tensors) -> int:
    return norm_floor(*inputs[0].shape, 2, 4, 4)


def _norm_run_under_autocast(calls: Calls, x: torch.Tensor, weight_H: torch.Tensor, residual: torch.Tensor) -> Any:
    """As `precision = "bf16"` has it: x out of a bf16 GEMM, residual stream and weight in float32."""
    return _norm_run(calls, x.bfloat16(), weight_H, residual)


def _norm_launches(residual: bool, stream: str = "*bf16") -> tuple[Launch, ...]:
    """`stream`: what the residual and the norm's output are; x is bf16 where there is a residual, else as the stream."""
    x = "*bf16" if residual else stream
    strides = {"n_rows": "i32", "rows_per_program": "i32", "n_hidden": "i32"}
    forward = {"x_ptr": x, "x_stride": "i32", "res_ptr": stream, "res_stride": "i32", "w_ptr": stream,
               "y_ptr": stream, "r_ptr": stream, "s_ptr": "*fp32", "eps": "fp32", **strides}  # fmt: skip
    backward = {"dy_ptr": stream, "dy_stride": "i32", "dr_ptr": stream, "dr_stride": "i32", "r_ptr": stream,
                "r_stride": "i32", "s_ptr": "*fp32", "w_ptr": stream, "dx_ptr": x, "dres_ptr": stream,
                "dw_ptr": "*fp32", **strides}  # fmt: skip
    odd, two = ("n_rows", "rows_per_program"), residual and stream != x
    constants = {"HAS_DR": residual, "TWO_DTYPES": two, "BLOCK": 2048}
    return (
        Launch(rms_norm.forward_kernel, forward, {"HAS_RESIDUAL": residual, "BLOCK": 2048}, warps=8, odd=odd),
        Launch(rms_norm.backward_kernel, backward, constants, warps=8, odd=odd),
    )


# ---------------------------------------------------------------- SwiGLU

WIDTH_CASES = {"ragged": (5, 1301), "one token": (1, 448), "steel expert": (12, HIDDEN)}


def _swiglu_inputs(case: str, generator: torch.Generator) -> Tensors:
    shape = WIDTH_CASES[case]
    return torch.randn(shape, generator=generator) * 3, torch.randn(shape, generator=generator)


def swiglu_floor(tokens: int, width: int, itemsize: int) -> int:
    """Return the fewest bytes: three tensors touched once forward, five backward."""
    return 8 * tokens * width * itemsize


def _swiglu_floor(inputs: Tensors) -> int:
    tokens, width = inputs[0].shape
    return swiglu_floor(tokens, width, inputs[0].element_size())


def _swiglu_types(*pointers: str) -> dict[str, str]:
    return dict.fromkeys(pointers, "*bf16") | {"n_width": "i32"}


SWIGLU_LAUNCHES = (
    Launch(
        swiglu.forward_kernel,
        _swiglu_types("a_ptr", "b_ptr", "y_ptr") | {"a_stride": "i32", "b_stride": "i32"},
        {"BLOCK": swiglu.BLOCK},
        warps=4,
    ),
    Launch(
        swiglu.backward_kernel,
        _swiglu_types("dy_ptr", "a_ptr", "b_ptr", "da_ptr", "db_ptr")
        | {"dy_stride": "i32", "a_stride": "i32", "b_stride": "i32"},
        {"BLOCK": swiglu.BLOCK},
        warps=4,
    ),
)

# ---------------------------------------------------------------- RoPE

# sequences, query heads, key heads, tokens, head size
ROPE_CASES = {"steel": (1, HEADS, HEADS, 5, HEAD_SIZE), "grouped": (2, 7, 1, 3, 128), "one head": (1, 1, 1, 4, 6),
              "tokens side by side": (2, 3, 2, 5, 8)}  # fmt: skip


def _rope_inputs(case: str, generator: torch.Generator) -> Tensors:
    batch, n_q, n_k, tokens, size = ROPE_CASES[case]
    # packed rows restart; the last positions are beyond any context length in use
    positions_BT = torch.randint(0, 1_048_576, (batch, tokens), generator=generator)
    positions_BT[:, :2] = torch.tensor([0, 32_767])
    q, k = (torch.randn(batch, tokens, n, size, generator=generator).transpose(1, 2) for n in (n_q, n_k))
    if case == "tokens side by side":  # as a gradient may come
        q, k = q.contiguous(), k.contiguous()
    return q, k, positions_BT


def inverse_frequencies(size: int) -> torch.Tensor:
    """Return the float32 [size / 2] frequencies of base 1e6, as the models here have them."""
    return 1.0 / (1e6 ** (torch.arange(0, size, 2, dtype=torch.float32) / size))


def _rope_run(calls: Calls, q: torch.Tensor, k: torch.Tensor, positions_BT: torch.Tensor) -> Tensors:
    table = rope.Frequencies.of(inverse_frequencies(q.shape[-1]).to(q.device), 1.0)
    return rope.rope(q, k, positions_BT, table, calls)


def _rope_reference(q: torch.Tensor, k: torch.Tensor, positions_BT: torch.Tensor) -> Tensors:
    return rope.reference(q, k, positions_BT, inverse_frequencies(q.shape[-1]).to(q.device), 1.0)


def rope_floor(tokens: int, heads: int, head_size: int, itemsize: int) -> int:
    """Return the fewest bytes, forward and backward, for q and k together; `heads`: of both."""
    return 2 * (2 * tokens * heads * head_size * itemsize + 8 * tokens)


def _rope_floor(inputs: Tensors) -> int:
    q, k, positions_BT = inputs
    return rope_floor(positions_BT.numel(), q.shape[1] + k.shape[1], q.shape[-1], q.element_size())


ROPE_LAUNCH = Launch(
    rope.rope_kernel,
    {"q_ptr": "*bf16", "q_stride_b": "i32", "q_stride_t": "i32", "q_out_ptr": "*bf16", "k_ptr": "*bf16",
     "k_stride_b": "i32", "k_stride_t": "i32", "k_out_ptr": "*bf16", "positions_ptr": "*i64",
     "positions_stride": "i32", "turns_ptr": "*i64", "scaling": "fp32", "n_q": "i32", "n_k": "i32", "n_tokens": "i32"},
    {"FREQUENCIES": HEAD_SIZE // 2, "SIGN": 1, "HEADS": 32, "HALF": 32},
    warps=4,
    odd=("n_q", "n_k", "n_tokens"),
)  # fmt: skip


OPS = (
    Op("head_loss, gradients in forward", _head(True), head_loss.reference, _head_inputs, tuple(HEAD_CASES),
       "vocabulary", _head_tile_floor, (FOLD, _gradients_launch(False, "*bf16")), exact_in_bf16=False),
    Op("head_loss, gradients recomputed", _head(False), head_loss.reference, _head_inputs, tuple(HEAD_CASES),
       "hidden", _head_recompute_floor,
       (_project_launch("*bf16"), _project_launch("*fp32"), _gradients_launch(True, "*bf16")), exact_in_bf16=False),
    Op("rms_norm", _norm_run, _norm_reference, _norm_inputs(False), tuple(NORM_CASES), "many", _norm_floor,
       (*_norm_launches(False), *_norm_launches(False, "*fp32"))),
    Op("add_rms_norm", _norm_run, _norm_reference, _norm_inputs(True), tuple(NORM_CASES), "many", _norm_floor,
       _norm_launches(True)),
    Op("add_rms_norm, bf16 and float32", _norm_run_under_autocast, _norm_reference, _norm_inputs(True),
       tuple(NORM_CASES), "many", _norm_floor_under_autocast, _norm_launches(True, "*fp32"), narrow=frozenset({0})),
    Op("swiglu", lambda calls, a, b: swiglu.swiglu(a, b, calls), swiglu.reference, _swiglu_inputs, tuple(WIDTH_CASES),
       "steel expert", _swiglu_floor, SWIGLU_LAUNCHES),
    Op("rope", _rope_run, _rope_reference, _rope_inputs, tuple(ROPE_CASES), "steel", _rope_floor, (ROPE_LAUNCH,)),
)  # fmt: skip
# called from other kernels, so never launched
INLINED = (rope.cos_sin_of_turns, rope.rotate_heads)
