"""Ctrl-C in real commands: the law of bench/interrupt.py, for three of them that have workers, a bar and a training."""

import importlib
import os
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a terminal of POSIX")
@pytest.mark.parametrize("command", ["build-2", "analyze", "train"])
def test_ctrl_c_ends_a_command_well_and_given_again_it_comes_through(command, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(BENCH)
    wait = ["--wait", "30"]  # on a busy machine
    monkeypatch.setattr(
        sys, "argv", ["interrupt.py", "--of", command, "--times", "2", "--folder", str(tmp_path), *wait]
    )
    importlib.import_module("interrupt").main()
    assert capsys.readouterr().out.splitlines()[-1].startswith(command)
