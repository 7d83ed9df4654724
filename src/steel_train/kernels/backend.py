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

# Largest relative RMS difference from the float32 definition that rounding alone explains, with a margin of ten.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def jit(function: Callable[..., Any]) -> Any:
    """Return `triton.jit(function)`, or the function itself where there is no Triton (it is never called then)."""
    return triton.jit(function) if triton is not None else function


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

    def refuse(self, op: str, reason: str) -> None:
        """Count one call that Triton could not take; the first of its kind is logged."""
        if not self.fallbacks[op, reason]:
            log.warning("kernels: %s runs in torch: %s", op, reason)
        self.fallbacks[op, reason] += 1

    def report(self) -> dict[str, dict[str, Any]]:
        """Return op -> {"triton": calls, "torch": calls, "reasons": {reason: calls}} for the log and `steel.json`."""
        ops = dict.fromkeys([name.rpartition(":")[0] for name in self.ran] + [op for op, _ in self.fallbacks])
        return {
            op: {
                "triton": self.ran[f"{op}:triton"], "torch": self.ran[f"{op}:torch"],
                "reasons": {reason: count for (of, reason), count in self.fallbacks.items() if of == op},
            }
            for op in ops
        }  # fmt: skip


def why_not_triton(tensors: Sequence[torch.Tensor]) -> str | None:
    """Return why these tensors cannot go to a Triton kernel, or None. The last dimension must be contiguous."""
    if triton is None:
        return "Triton is not installed"
    for x in tensors:
        if not x.is_cuda and not interpreting():
            return f"no Triton on device {x.device.type}"
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

    The reference sees float32 copies. Raises InputError when the relative RMS difference exceeds `TOLERANCE`.
    """
    if not calls.verify or op in calls.verified:
        return
    calls.verified.add(op)
    dtype = next(x.dtype for x in tensors if x.is_floating_point())
    got = _outputs_and_gradients(fast, tensors, None)
    want = _outputs_and_gradients(reference, tensors, torch.float32)
    for index, (g, w) in enumerate(zip(got, want, strict=True)):
        error = relative_error(g, w)
        if not error <= TOLERANCE[dtype]:
            raise InputError(
                f"kernels: {op} in Triton differs from its definition by {error:.1e} (tensor {index}, {dtype}) on the"
                ' first batch. Right: kernels = "torch" on this machine, and a report of the GPU and versions.'
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
