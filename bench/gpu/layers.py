"""The ops of a layer, forward and backward, in both regimes: ours against Liger, torch.compile and transformers' own."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from bench.gpu.correct import random
from bench.gpu.measure import copy_rate, device, first_line, milliseconds, outputs_and_gradients
from bench.kernel_ops import EPS, inverse_frequencies, norm_floor, rope_floor, swiglu_floor

from steel_train.kernels import rms_norm, rope, swiglu
from steel_train.kernels.backend import Calls

BF16, F32 = torch.bfloat16, torch.float32


def ours(kernels: str, function: Callable[..., Any]) -> Callable[..., Any]:
    calls = Calls(kernels, verify=False)
    return lambda *leaves: function(calls, *leaves)


def norms(tokens: int, hidden: int) -> Iterator[tuple[str, str, tuple[Any, ...], int, dict[str, Callable[..., Any]]]]:
    """Yield (op, regime, leaves, floor bytes, forms) of RMSNorm, alone and with the residual."""

    def eager(x: torch.Tensor, w: torch.Tensor, r: torch.Tensor | None = None) -> Any:
        # transformers' Qwen2RMSNorm, after the addition
        total = x if r is None else r + x
        wide = total.float()
        y = w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)).to(total.dtype)
        return y if r is None else (y, total)

    def liger(x: torch.Tensor, w: torch.Tensor, r: torch.Tensor | None = None) -> Any:
        if r is None:
            from liger_kernel.transformers.functional import liger_rms_norm

            return liger_rms_norm(x, w, EPS)
        from liger_kernel.transformers.functional import liger_fused_add_rms_norm

        return liger_fused_add_rms_norm(x, r, w, EPS)

    def run(calls: Calls, x: torch.Tensor, w: torch.Tensor, r: torch.Tensor | None = None) -> Any:
        y, total = rms_norm.rms_norm(x, w, EPS, r, calls)
        return y if r is None else (y, total)

    forms = {
        "ours, triton": ours("triton", run),
        "ours, torch": ours("torch", run),
        "transformers": eager,
        "Liger": liger,
    }
    for regime, x, stream in (("bf16", BF16, BF16), ("float32 under autocast", BF16, F32)):
        leaves = (random(tokens, hidden, dtype=x), random(hidden, dtype=stream), random(tokens, hidden, dtype=stream))
        sizes = x.itemsize, stream.itemsize, stream.itemsize
        yield "add_rms_norm", regime, leaves, norm_floor(tokens, hidden, *sizes), forms
        yield "rms_norm", regime, (leaves[2], leaves[1]), norm_floor(tokens, hidden, stream.itemsize), forms


def others(tokens: int, width: int) -> Iterator[tuple[str, str, tuple[Any, ...], int, dict[str, Callable[..., Any]]]]:
    """Yield the same of SwiGLU and RoPE: under autocast both get bf16 from the GEMM before them, so one regime."""

    def liger_swiglu(a: torch.Tensor, b: torch.Tensor) -> Any:
        from liger_kernel.ops import LigerSiLUMulFunction

        # it works in place: copies, so that every repeat sees the same
        return LigerSiLUMulFunction.apply(a.clone(), b.clone())

    pair = random(tokens, width, dtype=BF16), random(tokens, width, dtype=BF16, seed=1)
    forms: dict[str, Callable[..., Any]] = {
        "ours, triton": ours("triton", lambda calls, a, b: swiglu.swiglu(a, b, calls)),
        "ours, torch": ours("torch", lambda calls, a, b: swiglu.swiglu(a, b, calls)),
        "transformers": lambda a, b: torch.nn.functional.silu(a) * b,
        "Liger": liger_swiglu,
    }
    yield "swiglu", "both", pair, swiglu_floor(tokens, width, 2), forms
    for heads, keys, size in ((14, 2, 64), (32, 32, 56)):
        q, k = (random(1, tokens, n, size, dtype=BF16).detach().transpose(1, 2).requires_grad_() for n in (heads, keys))
        positions = torch.arange(tokens, device=device())[None] % 2048
        inverse = inverse_frequencies(size).to(device())
        table = rope.Frequencies.of(inverse)
        angle = torch.cat([positions[..., None] * inverse] * 2, -1)
        cos, sin = angle.cos().to(BF16), angle.sin().to(BF16)

        def eager(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor = cos, sin: torch.Tensor = sin) -> Any:
            from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

            return apply_rotary_pos_emb(q, k, cos, sin)

        def liger(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor = cos, sin: torch.Tensor = sin) -> Any:
            from liger_kernel.transformers.rope import liger_rotary_pos_emb

            return liger_rotary_pos_emb(q, k, cos, sin)

        def run(calls: Calls, q: Any, k: Any, positions: Any = positions, table: Any = table) -> Any:
            return rope.rope(q, k, positions, table, calls)

        forms = {"ours, triton": ours("triton", run), "transformers": eager, "Liger": liger}
        yield (
            f"rope, {heads} + {keys} heads of {size}",
            "both",
            (q, k),
            rope_floor(tokens, heads + keys, size, 2),
            forms,
        )


def measure(run: Any) -> Iterator[dict[str, Any]]:
    tokens, hidden, width = (16_384, 1792, 4864) if not run.dry else (6, 24, 40)
    copied = copy_rate(2**29 if not run.dry else 2**12) / 1e3  # bytes a millisecond
    for make in (lambda: norms(tokens, hidden), lambda: others(tokens, width)):
        for op, regime, leaves, floor, forms in make():
            able: dict[str, Callable[[], Any]] = {}
            # dry, torch.compile would compile C++ for minutes
            compiled = {} if run.dry else {"torch.compile": torch.compile(forms["transformers"])}
            for name, form in {**forms, **compiled}.items():
                try:
                    outputs_and_gradients(form, leaves)
                    able[name] = lambda f=form, x=leaves: outputs_and_gradients(f, x)
                except Exception as error:
                    yield {"op": op, "regime": regime, "form": name, "skipped": first_line(error)}
            for name, ms in zip(able, milliseconds(list(able.values())), strict=True):
                share = floor / ms / copied
                yield {"op": op, "regime": regime, "form": name, "ms": ms, "floor_gb": floor / 1e9,
                       "of_copy_bandwidth": share}  # fmt: skip
