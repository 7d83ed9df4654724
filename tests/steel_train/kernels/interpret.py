"""Run in a process of its own with TRITON_INTERPRET=1: measure every op of the list, print one JSON object.

op -> case -> {"float32": [errors], "narrow": errors of gradients that come in bf16, "bf16": [error / error of rounding
the exact result], "second": error of a second backward, "summed": error of
the gradients of a plain sum, "written": whether an input changed, "torch": calls that fell back}, and op -> "bytes": counted / floor.
"""

import json
import sys
import time

import torch
from bench.kernel_ops import OPS
from triton.runtime import interpreter

from steel_train.kernels import rms_norm
from steel_train.kernels.backend import Calls, interpreting, relative_error
from steel_train.kernels.head import tiles as head_tiles

moved = 0


def counted(name):
    original = getattr(interpreter.InterpreterBuilder, name)
    mask_at = {"create_masked_load": 1, "create_masked_store": 2}[name]

    def wrapper(self, *args, **kwargs):
        global moved
        element = args[0].get_element_ty().primitive_bitwidth // 8
        moved += int(args[mask_at].data.sum()) * element
        return original(self, *args, **kwargs)

    setattr(interpreter.InterpreterBuilder, name, wrapper)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def leaves(inputs, dtype=None):
    return [x.detach().to(dtype or x.dtype).requires_grad_() if x.is_floating_point() else x for x in inputs]


def evaluate(function, inputs, times=1, uniform=False):
    """Return outputs and gradients of `times` backward passes from one upstream gradient, random or all ones."""
    outputs = function(*inputs)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    g = generator(1)
    if uniform:  # what the backward of a plain sum hands over: one number, seen from every element
        upstream = [torch.ones((), dtype=y.dtype).expand(y.shape) for y in outputs]
    else:
        upstream = [torch.randn(y.shape, generator=g).to(y.dtype) for y in outputs]
    wanted = [x for x in inputs if x.requires_grad]
    for _ in range(times):
        gradients = torch.autograd.grad(outputs, wanted, upstream, retain_graph=True)
    return [y.detach() for y in outputs], list(gradients)


def ratio(got, exact):
    """Error of `got` rounded to bf16 over that of the exact result rounded to bf16."""
    floor = relative_error(exact.bfloat16(), exact)
    return relative_error(got.bfloat16(), exact) / floor if floor else 1.0


def measure(op, case):
    inputs = leaves(op.make(case, generator()))
    # the comparison of a first batch is slow here; once an op shows that it passes
    calls = Calls("triton", verify=case == op.cases[0])
    before = [x.detach().clone() for x in inputs]
    outputs, gradients = evaluate(lambda *x: op.run(calls, *x), inputs)
    exact_outputs, exact_gradients = evaluate(op.reference, leaves(inputs, torch.float64))
    _, again = evaluate(lambda *x: op.run(calls, *x), inputs, times=2)
    # bf16 values in float32 tensors: the kernels compute in float32 from load to store, and their one rounding is
    # done here, because the interpreter cuts bits off instead of rounding
    rounded = leaves(x.bfloat16().float() if x.is_floating_point() else x for x in inputs)
    bf16, exact = (
        evaluate(lambda *x: op.run(calls, *x), rounded),
        evaluate(op.reference, leaves(rounded, torch.float64)),
    )
    _, summed = evaluate(lambda *x: op.run(calls, *x), inputs, uniform=True)
    _, exact_summed = evaluate(op.reference, leaves(inputs, torch.float64), uniform=True)
    pairs = list(zip(gradients, exact_gradients, strict=True))
    wide = [i for i in range(len(pairs)) if i not in op.narrow]
    kept = [*range(len(outputs)), *(len(outputs) + i for i in wide)]
    rounded_pairs = list(zip(bf16[0] + bf16[1], exact[0] + exact[1], strict=True))
    return {
        "float32": [
            [relative_error(g, w) for g, w in zip(outputs, exact_outputs, strict=True)],
            [relative_error(*pairs[i]) for i in wide],
        ],
        "narrow": [relative_error(*pairs[i]) for i in op.narrow],
        "bf16": [ratio(*rounded_pairs[i]) for i in kept],
        "second": max(relative_error(again[i], exact_gradients[i]) for i in wide),
        "summed": max(relative_error(summed[i], exact_summed[i]) for i in wide),
        "written": not all(torch.equal(x.detach(), was) for x, was in zip(inputs, before, strict=True)),
        "torch": calls.report()[op.name.split(",")[0].replace("add_", "")]["torch"],
        "verified": sorted(calls.verified),
    }


def bytes_over_floor(op):
    global moved
    inputs = leaves(op.make(op.bytes_case, generator()))
    moved = 0
    # one upstream gradient for all tokens, as in SFT: another one costs the head op a recomputation
    evaluate(lambda *x: op.run(Calls("triton", verify=False), *x), inputs, uniform=True)
    return moved / op.floor(tuple(inputs))


def main():
    assert interpreting()
    torch.set_num_threads(1)
    for name in ("create_masked_load", "create_masked_store"):
        counted(name)
    head_tiles.PROJECT_COLUMNS = 1024  # fewer, larger steps: the interpreter pays by the step
    rms_norm.PROGRAMS = 5  # so that 160 rows here fill a program as 16,384 rows fill one of 528 on a GPU
    names = sys.argv[1:]
    table = {}
    for op in OPS:
        if not names or op.name in names:
            start = time.perf_counter()
            table[op.name] = {case: measure(op, case) for case in op.cases} | {"bytes": bytes_over_floor(op)}
            print(op.name, f"{time.perf_counter() - start:.1f} s", file=sys.stderr)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
