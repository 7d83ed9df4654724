"""Is every op right on this GPU: against float64 at real sizes, ten times the same bits, beyond 2**31 elements?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from bench.gpu.measure import device, outputs_and_gradients, poison
from bench.kernel_ops import EPS, OPS, inverse_frequencies

from steel_train.kernels import rms_norm, rope, swiglu
from steel_train.kernels.backend import Calls, relative_error
from steel_train.kernels.head import loss as head_loss
from steel_train.kernels.head.loss import HeadSettings

REPEATS = 10
NARROW = (torch.bfloat16, torch.float16)


@dataclass
class Case:
    """One op at one size in one regime. `run(calls, *leaves)`, `exact(*leaves in float64)`.

    `narrow`: gradients that come in bf16, although the leaf is float32.
    """

    op: str
    name: str
    leaves: list[torch.Tensor]
    run: Callable[..., Any]
    exact: Callable[..., Any]
    autocast: torch.dtype | None = None
    narrow: frozenset[int] = frozenset()


def random(*shape: int, dtype: torch.dtype, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    g = torch.Generator(device()).manual_seed(seed + sum(shape))
    return (torch.randn(*shape, device=device(), generator=g) * scale).to(dtype).requires_grad_()


def norm(x: torch.Tensor, w: torch.Tensor, *r: torch.Tensor, calls: Calls | None = None) -> Any:
    y, total = rms_norm.rms_norm(x, w, EPS, r[0] if r else None, calls)
    return (y, total) if r else y


def norm_exact(stream: torch.dtype) -> Callable[..., Any]:
    """Return the definition: with a residual it is the sum as rounded to the stream's type that is normalised."""

    def exact(x: torch.Tensor, w: torch.Tensor, *r: torch.Tensor) -> Any:
        total = x + r[0] if r else x
        total = total + (total.to(stream).to(total.dtype) - total).detach() if r else total
        y, _ = rms_norm.reference(total, w, EPS)
        return (y, total) if r else y

    return exact


def cases(dry: bool) -> Iterator[Case]:
    """Yield the ops at the sizes of training, in the regimes of training, then every case of the list in each dtype."""
    bf16, f32 = torch.bfloat16, torch.float32
    tokens, hidden, width, vocabulary = (16_384, 1792, 4864, 151_936) if not dry else (5, 24, 40, 200)
    for name, x, r in (("bf16", bf16, bf16), ("float32", f32, f32), ("bf16 into float32", bf16, f32)):
        leaves = [random(tokens, hidden, dtype=x), random(hidden, dtype=r), random(tokens, hidden, dtype=r, seed=1)]
        yield Case("add_rms_norm", name, leaves, lambda calls, *t: norm(*t, calls=calls), norm_exact(r))
        if x == r:
            yield Case("rms_norm", name, leaves[:2], lambda calls, *t: norm(*t, calls=calls), norm_exact(r))
            pair = [random(tokens, width, dtype=x), random(tokens, width, dtype=x, seed=1)]
            yield Case("swiglu", name, pair, lambda calls, a, b: swiglu.swiglu(a, b, calls), swiglu.reference)
            for size in (56, 64, 128) if not dry else (6,):
                yield rope_case(name, x, size, 2048 if not dry else 5)
    for name, x, w, autocast in (
        ("bf16", bf16, bf16, None), ("float32 under autocast", f32, f32, bf16), ("float32", f32, f32, None),
    ):  # fmt: skip
        for in_forward in (True, False):
            rows = (4096 if autocast or x == bf16 else 1024) if not dry else 9
            yield head_case(name, (rows, vocabulary, hidden), (x, w), autocast, in_forward)
    for op in OPS:
        for case in op.cases if not dry else op.cases[:1]:
            made = op.make(case, torch.Generator().manual_seed(0))
            for dtype in (f32, bf16) if not op.narrow else (f32,):
                leaves = [
                    x.to(device(), dtype).requires_grad_() if x.is_floating_point() else x.to(device()) for x in made
                ]
                yield Case(op.name, f"{case}, {str(dtype)[6:]}", leaves, op.run, op.reference, narrow=op.narrow)


def rope_case(name: str, dtype: torch.dtype, size: int, tokens: int) -> Case:
    q, k = (random(2, tokens, n, size, dtype=dtype).detach().transpose(1, 2).requires_grad_() for n in (14, 2))
    positions = torch.arange(tokens, device=device()).repeat(2, 1) % 1500 + 30_000
    inverse = inverse_frequencies(size).to(device())
    table = rope.Frequencies.of(inverse)
    return Case(
        "rope", f"{name}, head size {size}", [q, k],
        lambda calls, q, k: rope.rope(q, k, positions, table, calls),
        lambda q, k: rope.reference(q, k, positions, inverse, 1.0),
    )  # fmt: skip


def head_case(
    name: str, sizes: tuple[int, int, int], dtypes: tuple[torch.dtype, ...], autocast: Any, in_forward: bool
) -> Case:
    rows, vocabulary, hidden = sizes
    x = random(rows, hidden, dtype=dtypes[0])
    w = random(vocabulary, hidden, dtype=dtypes[1], scale=3 / hidden**0.5)
    labels = torch.randint(0, vocabulary, (rows,), device=device(), generator=torch.Generator(device()).manual_seed(0))
    labels[::3] = head_loss.IGNORE
    way = "gradients in forward" if in_forward else "recomputed"
    budget = 6_000_000_000 if in_forward else 700_000_000

    def run(calls: Calls, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return head_loss.token_log_probs(x, w, labels, HeadSettings(in_forward, budget, calls=calls)).log_probs

    def exact(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        # the operands as the GEMM gets them
        x, w = (t.to(autocast).to(t.dtype) if autocast else t for t in (x, w))
        return head_loss.reference(x, w, labels)

    return Case("head_loss", f"{name}, {way}", [x, w], run, exact, autocast)


def judge(case: Case, dry: bool) -> dict[str, Any]:
    """Return the errors against float64, their bounds, and whether ten runs are one."""
    slack = 10 if dry else 1  # Triton's interpreter cuts bits off where a GPU rounds, of the weight too
    calls = Calls("triton", verify=False)

    def once() -> list[torch.Tensor]:
        poison()
        on = torch.autocast(device(), case.autocast, enabled=case.autocast is not None)
        with on:
            return outputs_and_gradients(lambda *t: case.run(calls, *t), case.leaves)

    first = once()
    same = all(torch.equal(a, b) for _ in range(REPEATS - 1) for a, b in zip(first, once(), strict=True))
    wide = [x.detach().double().requires_grad_() if x.is_floating_point() else x for x in case.leaves]
    exact = outputs_and_gradients(case.exact, wide)
    # one rounding of the per-logit gradient, or of an operand, comes on top where a GEMM is in bf16
    narrow_gemm = case.op.startswith("head") and (case.autocast or case.leaves[0].dtype in NARROW)
    errors, bounds = [], []
    for i, (got, want) in enumerate(zip(first, exact, strict=True)):
        outputs = len(first) - sum(x.requires_grad for x in case.leaves)
        dtype = torch.bfloat16 if i - outputs in case.narrow else got.dtype
        rounding = relative_error(want.to(dtype), want)
        errors.append(relative_error(got, want))
        if narrow_gemm and i:  # a gradient; the rounding of bf16 is 2**-9 at most
            bounds.append(1.5 * max(rounding, 2**-9))
        elif narrow_gemm:
            bounds.append(1e-4)
        else:
            bounds.append(1.05 * rounding + 1e-5)
    ran = calls.report()
    fell_back = sum(count["torch"] for count in ran.values())
    right = all(e <= slack * b for e, b in zip(errors, bounds, strict=True)) and same and not fell_back
    return {"op": case.op, "case": case.name, "errors": errors, "bounds": bounds, "ten_runs_equal": same,
            "fell_back": fell_back, "pass": right}  # fmt: skip


def far(dry: bool) -> Iterator[dict[str, Any]]:
    """More than 2**31 elements: the last rows of a huge tensor against the same rows alone."""
    bf16 = torch.bfloat16
    cells = 2**31 + 2**25 if not dry else 2**9
    hidden, few = (1792, 64) if not dry else (16, 4)
    rows = cells // hidden + 1
    x, r = (torch.randn(rows, hidden, device=device(), dtype=bf16).requires_grad_() for _ in range(2))
    w = random(hidden, dtype=bf16)
    for name, function, huge in (
        ("add_rms_norm", lambda x, w, r: norm(x, w, r, calls=Calls("triton", verify=False)), (x, w, r)),
        ("swiglu", lambda x, r: swiglu.swiglu(x, r, Calls("triton", verify=False)), (x, r)),
    ):
        whole = outputs_and_gradients(function, huge)
        tail = [t.detach()[-few:].requires_grad_() if t.dim() == 2 else t for t in huge]
        alone = outputs_and_gradients(function, tail)
        # the weight's gradient is a sum over all rows: left out
        pairs = [(a[-few:], b) for a, b in zip(whole, alone, strict=True) if a.dim() == 2]
        yield {"op": name, "case": f"{x.numel():,} elements", "pass": all(torch.equal(a, b) for a, b in pairs)}
        del whole, alone, pairs
    del x, r
    vocabulary = 151_936 if not dry else 200
    rows, budget = (cells // vocabulary + 1, 14_000_000_000) if not dry else (9, 10**9)
    x, w = random(rows, 256 if not dry else 8, dtype=bf16), random(vocabulary, 256 if not dry else 8, dtype=bf16)
    labels = torch.arange(rows, device=device()) % vocabulary

    def head(x: torch.Tensor, w: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        settings = HeadSettings(True, budget, calls=Calls("triton", verify=False))
        return head_loss.token_log_probs(x, w, labels, settings).log_probs

    y, dx, _ = outputs_and_gradients(lambda x, w: head(x, w, labels), (x, w))
    tail = x.detach()[-few:].requires_grad_()
    z, dz, _ = outputs_and_gradients(lambda x, w: head(x, w, labels[-few:]), (tail, w))
    errors = [relative_error(y[-few:], z), relative_error(dx[-few:], dz)]
    yield {"op": "head_loss", "case": f"{rows * vocabulary:,} logits in one chunk", "errors": errors,
           "pass": errors[0] < 1e-4 and errors[1] < 1e-2}  # fmt: skip


def measure(run: Any) -> Iterator[dict[str, Any]]:
    yield from far(run.dry)
    for case in cases(run.dry):
        yield judge(case, run.dry)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
