"""Choose between the Triton and the torch form of an op, and keep count of what really ran.

Triton is optional (macOS and Windows have none) and is never needed for a right result: an op that Triton cannot take
(dtype, layout, device) runs in torch, and the reason is counted. The first time an op runs in Triton for a model, its
outputs and gradients are compared with the torch definition; a mismatch stops the run.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

from steel_data.errors import InputError

triton: Any
tl: Any
try:
    triton, tl = import_module("triton"), import_module("triton.language")
except ImportError:  # no wheel for this platform
    triton = tl = None

INSTALLED = triton is not None
log = logging.getLogger(__name__)

# Largest relative RMS difference from the float32 definition that rounding alone explains, with a margin of ten, by the
# dtype of what is compared. A float32 result of narrower inputs: matrix units cut bits off while they add up.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
FLOAT32_OF_NARROW = 1e-4
VERIFIED_ROWS = 64


def jit(*varying: str) -> Callable[[Callable[..., Any]], Any]:
    """Return what makes a kernel of a function; where there is no Triton, the function itself (never called then).

    `varying`: arguments that change with the tokens of a pass. Triton compiles a kernel anew where an integer becomes
    1 or a multiple of 16, or a pointer aligned, that was not before; of these it asks neither. On an H200 three of the
    first twelve steps of a run waited for that.
    """
    return lambda function: function if triton is None else triton.jit(do_not_specialize=varying)(function)


def interpreting() -> bool:
    """Return whether Triton kernels run in its interpreter on CPU (TRITON_INTERPRET=1 before the first import)."""
    return triton is not None and bool(triton.knobs.runtime.interpret)


@dataclass
class Calls:
    """What ran for one model: kernels asked for, calls by op, reasons of fallbacks by op, ops already verified.

    `kernels` is "torch" or "triton"; `verify` compares each op's first Triton call with its definition.
    """

    kernels: str = "torch"
    verify: bool = True
    ran: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[tuple[str, str]] = field(default_factory=Counter)
    verified: set[str] = field(default_factory=set)

    def refuse(self, op: str, reason: str, runs: str = "in torch") -> None:
        """Count one call that `kernels` asked for and that went elsewhere; the first of its kind is logged."""
        if not self.fallbacks[op, reason]:
            log.warning("kernels: %s runs %s: %s", op, runs, reason)
        self.fallbacks[op, reason] += 1

    def leave(self, op: str, reason: str) -> None:
        """Count one call that was left to what the model had before (TRL's fused head)."""
        self.refuse(op, reason, "as the model had it")
        self.ran[f"{op}:own"] += 1

    def report(self) -> dict[str, dict[str, Any]]:
        """Return op -> calls in "triton", in "torch" and left to the model's "own" (TRL's), and {reason: calls}."""
        ops = dict.fromkeys([name.rpartition(":")[0] for name in self.ran] + [op for op, _ in self.fallbacks])
        return {
            op: {
                **{way: self.ran[f"{op}:{way}"] for way in ("triton", "torch", "own")},
                "reasons": {reason: count for (of, reason), count in self.fallbacks.items() if of == op},
            }
            for op in ops
        }  # fmt: skip


def require_triton(where: str) -> None:
    """Raise InputError where Triton kernels cannot run in this process: none installed, or no GPU."""
    if triton is None or not (torch.cuda.is_available() or interpreting()):
        lacks = "Triton is not installed" if triton is None else "no GPU here"
        raise InputError(f'{where}: kernels = "triton", but {lacks}. Fix: kernels = "auto", or "torch".')


def why_not_triton(tensors: Sequence[torch.Tensor]) -> str | None:
    """Return why these tensors cannot go to a Triton kernel, or None. The last dimension must be contiguous."""
    if triton is None:
        return "Triton is not installed"
    for x in tensors:
        if not x.is_cuda and not interpreting():
            return f"no Triton on device {x.device.type}"
        if x.is_cuda and x.device.index != torch.cuda.current_device():
            return "a GPU that is not the current one"  # a launch goes to the current one, whatever the pointers say
        if x.is_floating_point() and x.dtype not in TOLERANCE:
            return f"dtype {str(x.dtype).removeprefix('torch.')}"
        if x.dim() and x.shape[-1] > 1 and x.stride(-1) != 1:
            return "last dimension not contiguous"
    return None


def use_triton(calls: Calls, op: str, reason: str | None) -> bool:
    """Decide one call of `op` and count it. `reason`: why Triton cannot take it (None: it can)."""
    chosen = calls.kernels == "triton" and reason is None
    if calls.kernels == "triton" and reason is not None:
        calls.refuse(op, reason)
    calls.ran[f"{op}:{'triton' if chosen else 'torch'}"] += 1
    return chosen


def verify_first(
    calls: Calls,
    op: str,
    fast: Callable[..., Any],
    reference: Callable[..., Any],
    tensors: Sequence[torch.Tensor],
) -> None:
    """Once per op and model: compare outputs and gradients of `fast(*tensors)` with those of `reference(*tensors)`.

    The reference sees float32 copies, so pass a few rows (`VERIFIED_ROWS`) and columns: this may run where memory is
    short. Raises InputError when the relative RMS difference exceeds `TOLERANCE`.
    """
    if not calls.verify or op in calls.verified:
        return
    calls.verified.add(op)
    narrow = any(x.dtype in (torch.bfloat16, torch.float16) for x in tensors)
    got = _outputs_and_gradients(fast, tensors, None)
    want = _outputs_and_gradients(reference, tensors, torch.float32)
    for index, (g, w) in enumerate(zip(got, want, strict=True)):
        error = relative_error(g, w)
        if not error <= (FLOAT32_OF_NARROW if narrow and g.dtype == torch.float32 else TOLERANCE[g.dtype]):
            raise InputError(
                f"kernels: {op} in Triton differs from its definition by {error:.1e} (tensor {index}, {g.dtype}) on the"
                ' first rows. Fix: kernels = "torch" on this machine, and a report of the GPU and versions.'
            )


def relative_error(x: torch.Tensor, exact: torch.Tensor) -> float:
    """Return |x - exact| / |exact| in the root-mean-square norm; the absolute error where `exact` is zero."""
    exact = exact.double()
    scale = exact.norm()
    return float((x.double() - exact).norm() / torch.where(scale > 0, scale, torch.ones_like(scale)))


def _outputs_and_gradients(
    function: Callable[..., Any], tensors: Sequence[torch.Tensor], cast: torch.dtype | None
) -> list[torch.Tensor]:
    with torch.enable_grad():
        leaves = [
            x.detach().to(cast or x.dtype).requires_grad_() if x.is_floating_point() else x.detach() for x in tensors
        ]
        outputs = function(*leaves)
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        # one fixed cotangent that is not uniform, so that a transposed or summed gradient shows
        cotangents = [torch.linspace(-1, 1, y.numel(), device=y.device).view(y.shape).to(y.dtype) for y in outputs]
        floating = [x for x in leaves if x.requires_grad]
        gradients = torch.autograd.grad(outputs, floating, cotangents, allow_unused=True)
    return [y.detach() for y in outputs] + [g for g in gradients if g is not None]
