"""The bench for the first GPU met: every code path runs on a CPU at tiny sizes, and its page invents nothing."""

import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import psutil
import pytest
from bench.gpu.__main__ import BESIDE, PARTS, Run, limited
from bench.gpu.memory import FORMS
from bench.gpu.table import page, wrong

from bench.gpu import pack

ROOT = Path(__file__).parents[3]


def rows(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_dry_run_takes_every_path(tmp_path):
    path = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
    command = [sys.executable, "-W", "ignore", "-m", "bench.gpu", "--dry", "--out", str(tmp_path)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    found = rows(tmp_path)
    assert not [row for row in found if "failed" in row], [row for row in found if "failed" in row]
    assert {row["part"] for row in found if row.get("finished")} == set(PARTS), done.stderr[-2000:]
    # Liger and CCE need a GPU, or are not installed here; torch.compile is left out; all that is ours must run
    skipped = {row.get("form") or row.get("way") for row in found if "skipped" in row}
    assert not [name for name in skipped if "ours" in name and "triton, pa" not in name], skipped
    assert skipped & set(FORMS) <= {"QLoRA, NF4", "all weights, bf16, 8-bit AdamW"}, "these need CUDA"
    assert all(row["ten_runs_equal"] and not row["fell_back"] for row in found if "ten_runs_equal" in row)
    assert all(row["pass"] for row in found if row["part"] in ("machine", "resume") and "pass" in row)
    text = (tmp_path / "gpu.md").read_text()
    assert "no number here means anything" in text and "Did not finish" not in text


def test_a_part_that_hangs_or_dies_costs_its_own_rows_only(tmp_path, monkeypatch):
    import bench.gpu as package

    run = Run(tmp_path, True, 1e12)
    for name, text in {
        "hangs": "import subprocess\ndef measure(run):\n    child = subprocess.Popen(['sleep', '600'])\n"
        "    yield {'n': 1, 'pid': child.pid}\n    child.wait()\n",
        "dies": "import os\ndef measure(run):\n    yield {'n': 2}\n    os._exit(3)\n",
        "raises": "def measure(run):\n    yield {'n': 3}\n    raise ValueError('no such card')\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [str(tmp_path), *package.__path__])
    began = time.monotonic()
    limited(run, {"raises": 300, "dies": 300})
    limited(run, {"hangs": 5})
    found = sorted(rows(tmp_path), key=lambda row: row.get("n", 0))
    assert [row["n"] for row in found if "n" in row] == [1, 2, 3]
    said = {row["part"]: row["failed"] for row in found if "failed" in row}
    assert said == {"hangs": "ended after its 5 s", "dies": "died with status 3", "raises": "ValueError: no such card"}
    assert wrong(tmp_path / "results.jsonl")
    assert time.monotonic() - began < 300
    pids = [row["pid"] for row in found if "pid" in row]
    assert (len(pids) == 1 and not psutil.pid_exists(pids[0])) or psutil.Process(
        pids[0]
    ).status() == psutil.STATUS_ZOMBIE


def test_the_page_says_what_did_not_run_and_holds_only_what_was_measured(tmp_path):
    lines = [
        {"part": "machine", "card": "A card", "python": "3.12", "versions": {"torch": "2.11.0", "trl": None}},
        {"part": "correct", "op": "rope", "case": "bf16", "errors": [1e-6], "bounds": [1e-5], "ten_runs_equal": True, "pass": True},
        {"part": "head", "rows": 2048, "hidden": 896, "regime": "bf16", "form": "TRL", "ms": 1.25, "peak_gb": 0.5},
        {"part": "head", "rows": 2048, "hidden": 896, "regime": "bf16", "form": "CCE, exact", "skipped": "ImportError: no"},
        {"part": "train", "failed": "ended after its 180 s"},
    ]  # fmt: skip
    file = tmp_path / "results.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + '\n{"part": "sco', encoding="utf-8")
    text = page(file, dry=False)
    assert "`make gpu` on A card" in text and "torch 2.11.0" in text and "trl" not in text.split("##")[0]
    assert "| rope | bf16 | 0.10 | yes | yes |" in text
    assert "| 2,048 | 896 | bf16 | TRL | 1.25 | 0.50 |  |" in text
    assert "| 2,048 | 896 | bf16 | CCE, exact |  |  | ImportError: no |" in text
    assert "**Did not finish**: train: ended after its 180 s" in text and "score: not run" in text
    assert "## Scoring" not in text, "no table of what was not measured"


def test_the_parts_fit_ten_minutes():
    alone = sum(seconds for name, seconds in PARTS.items() if name not in BESIDE)
    assert alone + max(PARTS[name] for name in BESIDE) <= 590
    assert [PARTS[name] for name in BESIDE] == sorted(PARTS[name] for name in BESIDE), (
        "the shortest is waited for first"
    )
    assert [name for name in PARTS if name in BESIDE] == list(BESIDE)


def test_a_pinned_companion_is_the_one_that_the_wheel_asks_for(tmp_path):
    with zipfile.ZipFile(tmp_path / "pydantic-2.14.4-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pydantic-2.14.4.dist-info/METADATA", "Name: pydantic\nRequires-Dist: pydantic-core==2.50.5\n")
    assert pack.asked(tmp_path, "pydantic-core", "pydantic-") == "pydantic-core==2.50.5"


def test_a_pack_leaves_out_what_is_never_imported(tmp_path):
    with zipfile.ZipFile(tmp_path / "lm_eval-0-py3-none-any.whl", "w") as wheel:
        for name in ("lm_eval/utils.py", "lm_eval/tasks/cmmlu/a.yaml", "lm_eval-0.dist-info/METADATA"):
            wheel.writestr(name, "x")
    place = tmp_path / "place"
    pack.unfold([tmp_path / "lm_eval-0-py3-none-any.whl"], place)
    assert sorted(p.relative_to(place).as_posix() for p in pack.files(place)) == [
        "lm_eval-0.dist-info/METADATA", "lm_eval/utils.py",
    ]  # fmt: skip
    assert (place / "lm_eval/tasks").is_dir(), "lm-eval lists it"
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        archive.add(place, ".")
