"""Head and loss, forward and backward: ours against TRL, Liger, CCE, torch.compile and the bare GEMM.

A row a form: milliseconds (median, in turns), GB beyond the inputs, and the error of loss and dX on the first rows
against float64, over that of rounding the exact result where it comes in bf16. Every form computes the loss summed over
all rows, none masked: what a form drops it would drop before.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from bench.gpu.measure import device, first_line, milliseconds, peak_gb

from steel_train.kernels.backend import Calls, relative_error
from steel_train.kernels.head import loss as head_loss
from steel_train.kernels.head import tiles
from steel_train.kernels.head.gradients import HeadJob, statistics
from steel_train.kernels.head.loss import HeadSettings
from steel_train.kernels.head.plan import HeadShape, plan_head

# rows that bear loss, vocabulary, hidden (Qwen2.5-0.5B and 1.5B, Steel-LLM); the first is 40 % of 16,384 tokens
SIZES = ((6554, 151_936, 1792), (2048, 151_936, 896), (16_384, 151_936, 896), (16_384, 151_936, 1792))
BUDGETS = (0.7e9, 1.5e9, 2.5e9, 6e9)
COMPILED_ROWS = 4096  # torch.compile keeps all logits


def forms(labels: torch.Tensor, sizes: tuple[int, int, int]) -> dict[str, Callable[..., torch.Tensor]]:
    """Return name -> function of (x, w) to the summed negative log-likelihood."""
    rows = sizes[0]

    def ours(kernels: str, budget: float, in_forward: bool = True) -> Callable[..., torch.Tensor]:
        settings = HeadSettings(in_forward, int(budget), calls=Calls(kernels, verify=False))
        return lambda x, w: -head_loss.token_log_probs(x, w, labels, settings).log_probs.sum()

    def trl(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        from trl.kernels import ChunkedLogProbFunction

        asked = ("log_probs", "entropy", "is_top1")  # as SFTTrainer asks
        return -ChunkedLogProbFunction.apply(x, w, None, labels, 1.0, 32_768, None, 1.0, asked)[0].sum()

    def liger(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        out = LigerFusedLinearCrossEntropyLoss(reduction="sum")(w, x, labels)
        return out[0] if isinstance(out, tuple) else out

    def cce(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        from cut_cross_entropy import linear_cross_entropy

        # filter off: all gradients, as the others compute them
        return linear_cross_entropy(x.bfloat16(), w.bfloat16(), labels, reduction="sum", filter_eps=None)

    compiled: list[Any] = []

    def by_compiler(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        if not compiled:
            plain = lambda x, w: torch.nn.functional.cross_entropy((x @ w.T).float(), labels, reduction="sum")  # noqa: E731
            compiled.append(torch.compile(plain))
        return compiled[0](x, w)

    def as_transformers(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy((x @ w.T).float(), labels, reduction="sum")

    found = {"ours, torch, 0.7 GB": ours("torch", 0.7e9)}
    found |= {f"ours, triton, {budget / 1e9:g} GB": ours("triton", budget) for budget in BUDGETS}
    found |= {"ours, triton, recomputed": ours("triton", 0.7e9, False), "TRL": trl, "Liger": liger, "CCE, exact": cce}
    if rows <= COMPILED_ROWS:
        found["transformers"] = as_transformers
    if rows <= COMPILED_ROWS and torch.cuda.is_available():  # on a CPU it would compile C++ for a minute
        found["torch.compile"] = by_compiler
    return found


def measure(run: Any) -> Iterator[dict[str, Any]]:
    for sizes in SIZES if not run.dry else ((6, 260, 16),):
        for regime, dtype in (("float32 under autocast", torch.float32), ("bf16", torch.bfloat16)):
            yield from compared(sizes, regime, dtype)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def compared(sizes: tuple[int, int, int], regime: str, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """Yield the rows of one size and regime."""
    rows, vocabulary, hidden = sizes
    g = torch.Generator(device()).manual_seed(0)
    x = torch.randn(rows, hidden, device=device(), generator=g).to(dtype).requires_grad_()
    w = (torch.randn(vocabulary, hidden, device=device(), generator=g) * 3 / hidden**0.5).to(dtype).requires_grad_()
    labels = torch.randint(0, vocabulary, (rows,), device=device(), generator=g)
    about = {"rows": rows, "vocabulary": vocabulary, "hidden": hidden, "regime": regime}
    few = min(256, rows)
    exact_dx = exact_gradient(x, w, labels, few)
    able: dict[str, Callable[[], Any]] = {}
    found: dict[str, dict[str, Any]] = {}

    def step(form: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        with torch.autocast(device(), torch.bfloat16, enabled=dtype == torch.float32):
            loss = form(x, w)
        return [loss.detach(), *torch.autograd.grad(loss, (x, w))]

    for name, form in forms(labels, sizes).items():
        try:
            loss, dx, _ = step(form)
            rounding = relative_error(exact_dx.to(dtype if dtype != torch.float32 else torch.bfloat16), exact_dx)
            found[name] = {"loss": float(loss), "dx_error": relative_error(dx[:few], exact_dx), "rounding": rounding}
            del loss, dx
            found[name]["peak_gb"] = peak_gb(lambda f=form: step(f))
            able[name] = lambda f=form: step(f)
        except Exception as error:  # a form that is not there, or does not fit, is a row too
            yield {**about, "form": name, "skipped": first_line(error)}
    able |= bare(x, w, labels, sizes)
    for name, ms in zip(able, milliseconds(list(able.values()), 5), strict=True):
        yield {**about, "form": name, "ms": ms, **found.get(name, {})}


def exact_gradient(x: torch.Tensor, w: torch.Tensor, labels: torch.Tensor, few: int) -> torch.Tensor:
    """Return dX of the first rows in float64, from the operands as a bf16 GEMM gets them."""
    x64 = x.detach()[:few].bfloat16().double().requires_grad_()
    loss = -head_loss.reference(x64, w.detach().bfloat16().double(), labels[:few]).sum()
    return torch.autograd.grad(loss, x64)[0]


def bare(
    x: torch.Tensor, w: torch.Tensor, labels: torch.Tensor, sizes: tuple[int, int, int]
) -> dict[str, Callable[[], Any]]:
    """Return what the forms are made of: one bf16 GEMM, and the statistics by either way (no gradients)."""
    rows, vocabulary, hidden = sizes
    a, b = x.detach().bfloat16(), w.detach().bfloat16()
    some = torch.empty(min(rows, 4096), vocabulary, device=device(), dtype=torch.bfloat16)

    def gemm() -> None:
        for begin in range(0, rows, len(some)):
            torch.mm(a[begin : begin + len(some)], b.T, out=some[: min(len(some), rows - begin)])

    shape = HeadShape(rows, vocabulary, hidden, w.dtype, torch.bfloat16, False, device())
    job = HeadJob(labels, labels, rows, shape, plan_head(shape, False), True, (False, False), 700_000_000)
    job.plan = type(job.plan)(False, job.plan.rows, job.plan.columns, project=False)
    return {
        "one bare bf16 GEMM": gemm,
        "statistics: library GEMM + fold": lambda: statistics(x.detach(), w.detach(), job),
        "statistics: project_fold": lambda: tiles.project_fold_triton(a, w.detach(), labels),
    }
