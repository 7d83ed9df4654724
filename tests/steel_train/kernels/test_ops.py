"""Every check that needs no GPU, for every op of bench/kernel_ops.py: an op cannot be added without them."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bench.kernel_ops import INLINED, OPS

from bench import kernel_ops as ops
from steel_train import kernels
from steel_train.kernels.backend import relative_error
from steel_train.kernels.head import loss as head_loss

triton = pytest.importorskip("triton", reason="Triton has no wheel for this platform")
from tests.steel_train.kernels.ahead_of_time import compiled  # noqa: E402

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
NAMES = [op.name for op in OPS]
LAUNCHES = {
    f"{op.name}: {launch.kernel.__name__} {index}": launch for op in OPS for index, launch in enumerate(op.launches)
}
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}  # bytes a block may have, CUDA programming guide, table of capabilities


def alone(script, *arguments):
    """Run a script in a process of its own with the interpreter; return the finished process."""
    path = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(HERE / script), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def interpreted():
    done = alone("interpret.py")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NAMES)
def test_float32_against_float64(interpreted, name):
    table = {case: row for case, row in interpreted[name].items() if case != "bytes"}
    assert set(table) == set(next(op.cases for op in OPS if op.name == name))
    for case, row in table.items():
        outputs, gradients = row["float32"]
        assert max(outputs) <= 1e-6 and max(gradients) <= 1e-5, (case, row)
        assert max(row["narrow"], default=0) <= 2**-7, f"cut to bf16 once, as the interpreter cuts: {case}, {row}"
        assert row["second"] <= 1e-5, f"a second backward is wrong: {case}"
        assert row["summed"] <= 1e-5, f"the gradients of a plain sum are wrong: {case}"
        assert not row["written"], f"an input was written: {case}"
        assert row["torch"] == 0, f"fell back: {case}"


@pytest.mark.parametrize("name", NAMES)
def test_the_first_batch_was_compared_with_the_definition(interpreted, name):
    op = next(op for op in OPS if op.name == name)
    assert interpreted[name][op.cases[0]]["verified"]


@pytest.mark.parametrize("name", NAMES)
def test_bf16_costs_no_more_than_rounding_the_exact_result(interpreted, name):
    for case, row in interpreted[name].items():
        if case != "bytes":
            assert max(row["bf16"]) <= 1.05, (case, row["bf16"])


@pytest.mark.parametrize("name", NAMES)
def test_bytes_moved_against_the_floor(interpreted, name):
    assert 0.99 <= interpreted[name]["bytes"] <= 1.10


@pytest.mark.parametrize("in_forward", [True, False])
def test_the_head_in_bf16_loses_little_beyond_rounding_and_less_than_trl(in_forward):
    """The per-logit gradient is rounded once, to be a GEMM's operand; the logits never (TRL rounds them: docs)."""
    from trl.kernels import ChunkedLogProbFunction

    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(128, 256, generator=g).bfloat16().requires_grad_()
    weight = (torch.randn(8000, 256, generator=g) * 0.2).bfloat16().requires_grad_()  # logits of deviation 3.2
    labels = torch.randint(0, 8000, (128,), generator=g)

    def ours(h, w):
        return head_loss.token_log_probs(h, w, labels, head_loss.HeadSettings(in_forward)).log_probs

    def theirs(h, w):
        return ChunkedLogProbFunction.apply(h, w, None, labels, 1.0, 32_768, None, 1.0, ("log_probs",))[0]

    def evaluate(function, *leaves):
        y = function(*leaves)
        return [x.detach() for x in (y, *torch.autograd.grad(y.sum(), leaves))]

    exact = evaluate(
        lambda h, w: head_loss.reference(h, w, labels),
        *(x.detach().double().requires_grad_() for x in (hidden, weight)),
    )
    got, trl = evaluate(ours, hidden, weight), evaluate(theirs, hidden, weight)
    assert relative_error(got[0], exact[0]) < 1e-6
    for mine, other, want in zip(got[1:], trl[1:], exact[1:], strict=True):
        rounding = relative_error(want.bfloat16(), want)
        assert relative_error(mine, want) <= 1.10 * rounding
        assert relative_error(mine, want) < relative_error(other, want)


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("launch", LAUNCHES.values(), ids=LAUNCHES)
def test_compiled_ahead_of_time(launch, architecture):
    found = compiled(launch, architecture)
    assert found.stack == 0 and found.spills == 0, f"spills: {found}"
    assert found.registers <= 255 and found.registers * launch.warps * 32 <= 65_536
    assert found.shared <= SHARED_LIMIT[architecture]
    widest = max(size for (kind, size) in found.accesses if kind == "ld")
    assert widest >= 16 if "rope" not in launch.kernel.__name__ else widest >= 8, f"narrow loads: {found.accesses}"
    assert (found.matrix > 0) == launch.tensor_cores


@pytest.mark.parametrize("launch", LAUNCHES.values(), ids=LAUNCHES)
def test_integer_arguments_of_one_compile(launch):
    """At run time an integer argument of 1 becomes a constant: a batch of one row must not fail to compile."""
    ones = [name for name, kind in launch.types.items() if kind == "i32"]
    compiled(launch, 90, ones)


def test_offsets_are_64_bit():
    done = alone("far.py")
    assert done.returncode == 0 and "offsets hold" in done.stdout, (done.returncode, done.stderr[-2000:])


def test_every_kernel_is_in_the_list():
    listed = {launch.kernel for op in OPS for launch in op.launches} | set(INLINED)
    found = pkgutil.walk_packages(kernels.__path__, "steel_train.kernels.")
    modules = [importlib.import_module(m.name) for m in found]
    assert len(modules) >= 8
    kernels_found = {
        value for module in modules for value in vars(module).values() if isinstance(value, triton.runtime.JITFunction)
    }
    assert kernels_found == listed
    assert {launch.kernel.__module__ for launch in LAUNCHES.values()} >= {
        f"steel_train.kernels.{name}" for name in ("head.tiles", "rms_norm", "swiglu", "rope")
    }


@pytest.mark.parametrize("op", OPS, ids=NAMES)
def test_torch_form_is_the_definition_too(op):
    """The form that CPU and macOS users run, on the same cases."""
    from steel_train.kernels.backend import Calls

    for case in op.cases:
        inputs = op.make(case, torch.Generator().manual_seed(0))
        wide = [x.double() if x.is_floating_point() else x for x in inputs]
        got, want = op.run(Calls("torch"), *inputs), op.reference(*wide)
        for g, w in zip(*([x] if isinstance(x, torch.Tensor) else x for x in (got, want)), strict=True):
            assert relative_error(g.detach(), w.detach()) <= 1e-6


def test_sizes_of_the_models_in_use_are_covered():
    assert ops.HEAD_CASES["vocabulary"][1] == 151_936 and ops.HEAD_CASES["hidden"][2] == 1792
    assert ops.ROPE_CASES["steel"][-1] == 56
