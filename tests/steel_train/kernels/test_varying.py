"""A kernel is compiled once for all lengths of a pass: what varies with the tokens is nothing that Triton compiles for."""

import pytest
import torch

from steel_train.kernels import rms_norm, rope, swiglu
from steel_train.kernels.head import tiles

pytest.importorskip("triton", reason="Triton has no wheel for this platform")
VARIED = (33, 48, 600)  # odd, a multiple of 16, more than one row a program


class Recorder:
    """Stands for a kernel: keeps the arguments of each launch, by name, and computes nothing."""

    def __init__(self, kernel):
        self.kernel, self.launches = kernel, []

    def __getitem__(self, _):
        return self

    def __call__(self, *values, **constants):
        constants = {name: value for name, value in constants.items() if not name.startswith("num_")}
        self.launches.append(dict(zip(self.kernel.arg_names, values, strict=False)) | constants)


def seen_by_triton(kernel, launch):
    """Return what one compiled form is chosen by: types, constants, and 1 or 16 of all that it asks this of."""
    unasked = {p.name for p in kernel.params if p.do_not_specialize}
    return {
        name: value.dtype if isinstance(value, torch.Tensor) else "any" if name in unasked
        else (value == 1, value % 16 == 0) if isinstance(value, int) and not name.isupper() else value
        for name, value in launch.items()
    }  # fmt: skip


def norm(tokens):
    x, r = (torch.randn(tokens, 32, requires_grad=True) for _ in range(2))
    y, total = rms_norm._RMSNorm.apply(x, torch.ones(32, requires_grad=True), 1e-6, r)
    (y + total).sum().backward()


def gate(tokens):
    a, b = (torch.randn(tokens, 32, requires_grad=True) for _ in range(2))
    swiglu._SwiGLU.apply(a, b).sum().backward()


def rotary(tokens):
    q, k = (torch.randn(1, tokens, n, 16).transpose(1, 2).requires_grad_() for n in (4, 2))
    of = rope.Frequencies.of(torch.rand(8))
    positions = torch.arange(tokens)[None]
    sum(x.sum() for x in rope._Rope.apply(q, k, positions, of)).backward()


def head(tokens):
    logits, labels, stats = torch.randn(tokens, 64), torch.zeros(tokens, dtype=torch.int64), torch.zeros(7, tokens)
    for start in (0, 64, 100):
        tiles.fold_triton(logits, labels, start, stats)
        tiles.gradients_triton(logits, labels, start, stats[:2], stats[0], torch.empty_like(logits))
    tiles.project_fold_triton(torch.randn(tokens, 32), torch.randn(64, 32), labels)


@pytest.mark.parametrize(
    ("module", "run"), [(rms_norm, norm), (swiglu, gate), (rope, rotary), (tiles, head)], ids=lambda x: x.__name__
)
def test_one_compiled_form_serves_every_length(module, run, monkeypatch):
    recorders = [
        Recorder(kernel) for name, kernel in vars(module).items() if name.endswith("_kernel") or name == "rope_kernel"
    ]
    for recorder in recorders:
        monkeypatch.setattr(module, next(n for n, k in vars(module).items() if k is recorder.kernel), recorder)
    forms = []
    for tokens in VARIED:
        run(tokens)
        forms.append([seen_by_triton(r.kernel, launch) for r in recorders for launch in r.launches])
        for recorder in recorders:
            recorder.launches.clear()
    assert forms[0] and all(of_length == forms[0] for of_length in forms[1:]), forms
