"""Run with TRITON_INTERPRET=1: each op on tensors whose rows lie more than 2**31 elements apart (virtual memory only).

A 32-bit offset wraps there and reads or writes outside the tensor, so this process may die: it runs in one of its own.
"""

import sys

import torch
from bench.kernel_ops import OPS

from steel_train.kernels.backend import Calls, relative_error
from steel_train.kernels.head import tiles as head_tiles

SPAN = 3 * 2**31 // 2  # elements between the first and the last row


def far(x, dimension=0):
    """Return a copy of `x` with this dimension stretched over SPAN elements (never the last; size 1: as it is)."""
    if not x.is_floating_point() or x.dim() <= dimension + 1 or x.shape[dimension] == 1:
        return x
    strides = list(x.stride())
    strides[dimension] = -(-SPAN // (x.shape[dimension] - 1) // 16) * 16
    y = torch.empty_strided(x.shape, strides, dtype=x.dtype)
    y.copy_(x)
    return y


def tiles():
    """The head's tiles on far logits: inside the op the logits are its own and lie close."""
    g = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 700, generator=g), torch.tensor([0, 699, 5, 17])
    results = []
    for place in (lambda x: x, far):
        stats, z, out = head_tiles.empty_statistics(4, logits), place(logits), place(torch.zeros(4, 700))
        head_tiles.fold_triton(z, labels, 0, stats)
        log_z = torch.stack((stats[0], stats[1].log()))
        head_tiles.gradients_triton(z, labels, 0, log_z, None, out)
        results.append(torch.cat((stats.flatten(), out.flatten())))
    assert torch.equal(*results)


def main():
    tiles()
    for op in OPS:
        if sys.argv[1:] and op.name not in sys.argv[1:]:
            continue
        inputs = op.make(op.cases[0], torch.Generator().manual_seed(0))
        near = evaluate(op, inputs, lambda x: x)
        for dimension in range(max(x.dim() for x in inputs) - 1):
            distant = evaluate(op, inputs, lambda x, d=dimension: far(x, d))
            for a, b in zip(near, distant, strict=True):
                assert relative_error(b.detach(), a.detach()) < 1e-6, (op.name, dimension)
    print("offsets hold")


def evaluate(op, inputs, place):
    """Return outputs and gradients with inputs and upstream gradients put where `place` says."""
    leaves = [place(x).requires_grad_() if x.is_floating_point() else x for x in inputs]
    outputs = op.run(Calls("triton", verify=False), *leaves)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    upstream = [place(torch.linspace(-1, 1, y.numel()).view(y.shape)) for y in outputs]
    return [*outputs, *torch.autograd.grad(outputs, [x for x in leaves if x.requires_grad], upstream)]


if __name__ == "__main__":
    main()
