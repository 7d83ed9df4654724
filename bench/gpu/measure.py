"""How a form is timed, what memory it takes and how far it is from float64, on a GPU or, dry, on a CPU."""

import multiprocessing
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch

AHEAD = 20_000_000  # clock cycles, some 10 ms


def device() -> str:
    """Return "cuda" where there is a GPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronise() -> None:
    """Wait until the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(functions: Sequence[Callable[[], Any]], repeats: int = 7) -> list[float]:
    """Return the median time of each function, in turns, after one warm-up call each: a drifting clock hits all alike.

    The GPU is kept busy while the calls are queued: its own time is measured, not that of launching (on a virtual machine
    a launch took some 60 microseconds, longer than most of these kernels run).
    """
    times: list[list[float]] = [[] for _ in functions]
    for repeat in range(repeats + 1):
        for function, seen in zip(functions, times, strict=True):
            synchronise()
            start = time.perf_counter()
            if torch.cuda.is_available():
                first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                torch.cuda._sleep(AHEAD)
                first.record()
                function()
                last.record()
                torch.cuda.synchronize()
                took = first.elapsed_time(last)
            else:
                function()
                took = (time.perf_counter() - start) * 1e3
            if repeat:
                seen.append(took)
    return [statistics.median(seen) for seen in times]


def gemm_rate(n: int) -> float:
    """Return the flop a second of a bf16 product of n x n matrices."""
    a, b = (torch.randn(n, n, device=device(), dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / milliseconds([lambda: a @ b])[0] * 1e3


def copy_rate(cells: int) -> float:
    """Return the bytes a second, read and written, of a copy of so many bf16 numbers."""
    x = torch.empty(cells, device=device(), dtype=torch.bfloat16)
    y = torch.empty_like(x)
    return 4 * cells / milliseconds([lambda: y.copy_(x)])[0] * 1e3


def peak_gb(function: Callable[[], Any]) -> float | None:
    """Return the most gigabytes alive during a call beyond those before it (None on a CPU)."""
    if not torch.cuda.is_available():
        function()
        return None
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 1e9, 3)


def poison(gigabytes: float = 4.0) -> None:
    """Fill memory with NaN and give it back: an output that a kernel leaves unwritten then shows."""
    size = int(gigabytes * 2.5e8) if torch.cuda.is_available() else 100_000
    torch.full((size,), float("nan"), device=device())


def outputs_and_gradients(function: Callable[..., Any], leaves: Sequence[Any], uniform: bool = True) -> list[Any]:
    """Return outputs, then gradients of the floating leaves for an upstream gradient of ones (or one that varies)."""
    outputs = function(*leaves)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    upstream = [
        torch.ones_like(y) if uniform else torch.linspace(-1, 1, y.numel(), device=y.device).view(y.shape).to(y.dtype)
        for y in outputs
    ]
    wanted = [x for x in leaves if x.requires_grad]
    return [*(y.detach() for y in outputs), *torch.autograd.grad(outputs, wanted, upstream)]


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)` of a forked process: memory, classes that Liger patched and a context that an illegal
    access broke end with it. Nobody may have touched CUDA before. Raises RuntimeError with what it raised there.
    """
    here, there = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        here.close()
        try:
            there.send((True, function(*arguments)))
        except Exception as error:
            traceback.print_exc()
            there.send((False, first_line(error)))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    there.close()
    try:
        went, value = here.recv()
    except EOFError:
        went, value = False, "its process died"
    process.join()
    if not went:
        raise RuntimeError(value)
    return value


def first_line(error: BaseException) -> str:
    """Return what a form said when it could not run."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:200]
