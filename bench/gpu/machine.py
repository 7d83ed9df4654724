"""What this machine is, how fast a copy and a matrix product are here, and whether the library's GEMM does what we ask."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from bench.gpu.measure import copy_rate, device, gemm_rate, peak_gb

from steel_train.kernels.backend import relative_error
from steel_train.kernels.head.gradients import _add_product, multiply

PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "trl",
    "accelerate",
    "liger-kernel",
    "cut-cross-entropy",
    "lm-eval",
    "numpy",
)


def measure(run: Any) -> Iterator[dict[str, Any]]:
    yield {"card": torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU", "python": sys.version.split()[0],
           "versions": {name: installed(name) for name in PACKAGES}}  # fmt: skip
    n, cells = (8192, 2**29) if not run.dry else (64, 2**12)
    yield {"copy_tb_s": copy_rate(cells) / 1e12, "gemm_tflop_s": gemm_rate(n) / 1e12, "gemm_size": n}
    yield from gemm_into_a_slice(run)


def gemm_into_a_slice(run: Any) -> Iterator[dict[str, Any]]:
    """A bf16 product with a float32 result, written into (and added to) some columns of a wider matrix: right, no copy."""
    rows, columns, hidden, wide = (1024, 8192, 1792, 20_000) if not run.dry else (5, 16, 8, 40)
    a, b = (torch.randn(n, hidden, device=device(), dtype=torch.bfloat16) for n in (rows, columns))
    exact = a.double() @ b.double().T
    for name, function, times in (("mm", multiply, 1), ("addmm", _add_product, 2)):
        out = torch.zeros(rows, wide, device=device())
        place = out[:, 1000 : 1000 + columns] if not run.dry else out[:, 8 : 8 + columns]
        extra = peak_gb(lambda f=function, p=place: f(a, b.T, p))
        if times == 2:
            function(a, b.T, place)
        error = relative_error(place, times * exact)
        around = float(out.abs().sum() - place.abs().sum())
        yield {"check": f"{name} into a strided slice", "error": error, "extra_gb": extra,
               "pass": error < 1e-5 and abs(around) <= 1e-6 * float(place.abs().sum())}  # fmt: skip


def installed(package: str) -> str | None:
    """Return a version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
