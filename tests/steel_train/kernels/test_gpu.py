"""The kernels on a GPU: `pytest -m gpu`. Here they are only collected, also without what a bare CUDA machine lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bench.gpu.__main__ import Run
from bench.gpu.correct import cases, far, judge
from bench.gpu.machine import gemm_into_a_slice

ROOT = Path(__file__).parents[3]
LACKING = ("polars", "datasets", "trl", "orjson", "pydantic", "lm_eval", "dill", "zstandard")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.gpu
@on_a_gpu
def test_every_op_is_float64_rounded_and_ten_times_the_same_bits():
    wrong = [row for row in (judge(case, False) for case in cases(False)) if not row["pass"]]
    assert not wrong, wrong


@pytest.mark.gpu
@on_a_gpu
def test_offsets_beyond_two_to_the_31_elements():
    wrong = [row for row in far(False) if not row["pass"]]
    assert not wrong, wrong


@pytest.mark.gpu
@on_a_gpu
def test_the_librarys_gemm_writes_float32_into_a_slice_and_copies_nothing(tmp_path):
    rows = list(gemm_into_a_slice(Run(tmp_path, False, 0)))
    assert all(row["pass"] and row["extra_gb"] < 0.01 for row in rows), rows


@pytest.mark.gpu
@on_a_gpu
def test_patching_compares_every_op_and_takes_little_memory():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from steel_train.kernels.patch import patch, report

    config = Qwen2Config(
        vocab_size=151_936, hidden_size=1792, num_hidden_layers=2, num_attention_heads=32, num_key_value_heads=32,
        intermediate_size=4864,
    )  # fmt: skip
    with torch.device("cuda"):
        model = Qwen2ForCausalLM(config)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    assert patch(model, "triton", compute=torch.bfloat16) == ["add_rms_norm", "head_loss", "rms_norm", "rope", "swiglu"]
    assert torch.cuda.max_memory_allocated() - before < 1.5e9, "it was some 8 GB on step 1"
    assert report(model) == {}


def test_gpu_tests_are_collected_without_what_a_bare_cuda_machine_lacks():
    code = f"import sys, pytest; sys.modules.update(dict.fromkeys({LACKING!r})); sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--collect-only", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-n0"]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    done = subprocess.run(
        [*command, "tests/steel_train/kernels"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "test_gpu.py: 4" in done.stdout, done.stdout[-3000:]
