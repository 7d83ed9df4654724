"""How fast are the kernels on this GPU against their floors and against torch? Without a GPU: the table to be filled.

    python bench/kernels.py

For each op at the sizes of Steel-LLM training (8 sequences of 2048 tokens, bf16): the fewest bytes it can move, forward
and backward together; the time those take at the bandwidth that a plain copy reaches on this GPU; the medians of
Triton and of torch (transformers' own code) in alternating runs; the error of Triton against float64. The head also
against TRL's fused head. A run of this table belongs in docs/results/kernels.md, and lets `patch.SEEN_ON_GPU` name the
architecture.
"""

import functools
import statistics

import torch
from kernel_ops import (
    EPS,
    HEAD_SIZE,
    HEADS,
    HIDDEN,
    VOCABULARY,
    head_floor,
    inverse_frequencies,
    norm_floor,
    rope_floor,
    swiglu_floor,
)

from steel_train.kernels import rms_norm, rope, swiglu
from steel_train.kernels.backend import Calls, relative_error
from steel_train.kernels.head import loss as head_loss
from steel_train.kernels.head.loss import HeadSettings
from steel_train.kernels.head.plan import HeadShape

TOKENS, SEQUENCES, WIDTH, SUPERVISED = 16_384, 8, 4864, 0.4
REPEATS = 20


def random(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device="cuda", dtype=dtype).requires_grad_()


def rotary_case():
    shape = (SEQUENCES, TOKENS // SEQUENCES, HEADS, HEAD_SIZE)
    q, k = (random(*shape).transpose(1, 2).detach().requires_grad_() for _ in range(2))
    positions = torch.arange(shape[1], device="cuda").expand(SEQUENCES, -1)
    table = rope.Frequencies.of(inverse_frequencies(HEAD_SIZE).cuda())
    return (
        (q, k),
        lambda calls, q, k: rope.rope(q, k, positions, table, calls),
        lambda q, k: rope.reference(q, k, positions, table.inv_freq, 1.0),
    )


def layer_cases():
    """Yield (name, inputs, run, reference, floor bytes) for the ops of a layer; inputs are made when asked for."""
    size = 2
    yield (
        "add_rms_norm",
        lambda: (
            (random(TOKENS, HIDDEN), random(HIDDEN), random(TOKENS, HIDDEN)),
            lambda calls, x, w, r: rms_norm.rms_norm(x, w, EPS, r, calls),
            lambda x, w, r: rms_norm.reference(x, w, EPS, r),
        ),
        norm_floor(TOKENS, HIDDEN, size, size),
    )
    yield (
        "rms_norm",
        lambda: (
            (random(TOKENS, HIDDEN), random(HIDDEN)),
            lambda calls, x, w: rms_norm.rms_norm(x, w, EPS, calls=calls)[0],
            lambda x, w: rms_norm.reference(x, w, EPS)[0],
        ),
        norm_floor(TOKENS, HIDDEN, size),
    )
    yield (
        "swiglu",
        lambda: (
            (random(TOKENS, WIDTH), random(TOKENS, WIDTH)),
            lambda calls, a, b: swiglu.swiglu(a, b, calls),
            swiglu.reference,
        ),
        swiglu_floor(TOKENS, WIDTH, size),
    )
    yield "rope", rotary_case, rope_floor(TOKENS, 2 * HEADS, HEAD_SIZE, size)


def backward(function, leaves):
    outputs = function(*leaves)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    upstream = [torch.ones_like(y) for y in outputs]
    return [*outputs, *torch.autograd.grad(outputs, leaves, upstream)]


def milliseconds(functions):
    """Return the median time of each function, measured in turns after two warm-up calls."""
    times = [[] for _ in functions]
    for repeat in range(REPEATS + 2):
        for function, seen in zip(functions, times, strict=True):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            if repeat >= 2:
                seen.append(start.elapsed_time(end))
    return [statistics.median(seen) for seen in times]


def copy_bandwidth():
    """Return the bytes a second (read and written) of a copy of 1 GB."""
    x = torch.empty(2**29, device="cuda", dtype=torch.bfloat16)
    y = torch.empty_like(x)
    return 2 * x.numel() * 2 / (milliseconds([lambda: y.copy_(x)])[0] / 1e3)


def row(name, floor, bandwidth=None, ours=None, torch_ms=None, error=None):
    cells = [
        f"{floor / 1e9:.3f}",
        "" if bandwidth is None else f"{floor / bandwidth * 1e3:.3f}",
        "" if ours is None else f"{ours:.3f}",
        "" if torch_ms is None else f"{torch_ms:.3f}",
        "" if error is None else f"{error:.1e}",
    ]
    print(f"| {name} | " + " | ".join(cells) + " |")


def head(bandwidth):
    rows = int(TOKENS * SUPERVISED)
    shape = HeadShape(rows, VOCABULARY, HIDDEN, torch.float32, torch.bfloat16, True)
    floor = head_floor(shape)
    if bandwidth is None:
        row("head_loss, forward", floor)
        row("head_loss, recomputed", floor)
        return
    from trl.kernels import ChunkedLogProbFunction

    hidden, weight = random(TOKENS, HIDDEN), random(VOCABULARY, HIDDEN, dtype=torch.float32)
    labels = torch.randint(0, VOCABULARY, (TOKENS,), device="cuda")
    labels[torch.rand(TOKENS, device="cuda") >= SUPERVISED] = head_loss.IGNORE
    kept = labels != head_loss.IGNORE

    def trl(hidden, weight):
        asked = ("log_probs", "entropy", "is_top1")
        return ChunkedLogProbFunction.apply(
            hidden[kept], weight, None, labels[kept], 1.0, 32_768, None, 1.0, asked
        )[0]  # fmt: skip

    for name, in_forward in (("head_loss, forward", True), ("head_loss, recomputed", False)):
        settings = HeadSettings(in_forward, calls=Calls("triton"))

        def ours(hidden, weight, settings=settings):
            return head_loss.token_log_probs(hidden, weight, labels, settings).log_probs

        with torch.autocast("cuda", torch.bfloat16):
            few = 256
            exact = head_loss.reference(hidden[:few].double(), weight.bfloat16().double(), labels[:few])
            error = relative_error(ours(hidden, weight)[:few].detach(), exact.detach())
            times = milliseconds([lambda f=f: backward(f, (hidden, weight)) for f in (ours, trl)])
        row(f"{name} (torch column: TRL)", floor, bandwidth, *times, error)


def main():
    bandwidth = copy_bandwidth() if torch.cuda.is_available() else None
    if bandwidth is None:
        print("no GPU here: floors only, times to be filled on one\n")
    else:
        import triton

        name = torch.cuda.get_device_name()
        print(f"{name}, torch {torch.__version__}, triton {triton.__version__}, copy {bandwidth / 1e12:.2f} TB/s\n")
    print(f"{TOKENS} tokens, bf16; head: float32 weight, {SUPERVISED:.0%} supervised\n")
    print("| op | floor GB | floor ms | Triton ms | torch ms | error |")
    print("|---|---|---|---|---|---|")
    for name, make, floor in layer_cases():
        if bandwidth is None:
            row(name, floor)
            continue
        leaves, run, reference = make()
        calls = Calls("triton")
        got = backward(functools.partial(run, calls), leaves)
        exact = backward(reference, [x.detach().double().requires_grad_() for x in leaves])
        error = max(relative_error(g.detach(), w.detach()) for g, w in zip(got, exact, strict=True))
        forms = [functools.partial(backward, functools.partial(run, c), leaves) for c in (calls, Calls("torch"))]
        fast, slow = milliseconds(forms)
        row(name, floor, bandwidth, fast, slow, error)
    head(bandwidth)


if __name__ == "__main__":
    main()
