"""Reference runs: the mean of clean runs stands in the base's place; another recipe is refused by name."""

import shutil

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.cli import app


def trained(folder, out, **train):
    shutil.copytree(folder, out)
    (out / "steel.json").write_bytes(orjson.dumps({"train": {"method": "full", "epochs": 1, **train}}))
    return str(out)


def call(*arguments):
    result = CliRunner().invoke(app, ["leak", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_clean_runs_of_the_recipe_are_the_base(lab, tmp_path):
    model = trained(lab.model, tmp_path / "model", seed=1)
    clean = [trained(lab.base, tmp_path / f"clean-{s}", seed=s) for s in (2, 3)]
    common = ("--tasks", "cmmlu", "--data", lab.data, "--permute", 0, "--device", "cpu", "--mixture", lab.mixture)
    call(model, "--reference-runs", clean[0], "--reference-runs", clean[1], *common, "--out", tmp_path / "a")
    call(model, "--base", lab.base, *common, "--out", tmp_path / "b")
    a, b = (orjson.loads((tmp_path / x / "cmmlu/leak.json").read_bytes()) for x in "ab")
    assert a["verdict"]["seen"] == "yes"
    assert np.allclose([f["excess"] for f in a["findings"]], [f["excess"] for f in b["findings"]])


def test_a_run_of_another_recipe_is_refused_by_name(lab, tmp_path):
    model = trained(lab.model, tmp_path / "model")
    other = trained(lab.base, tmp_path / "other", epochs=3)
    with pytest.raises(InputError, match=r"other: a run of another recipe: \[train\] epochs is 3"):
        call(model, "--reference-runs", other, "--tasks", "cmmlu", "--data", lab.data)
    with pytest.raises(InputError, match="says nothing of how it was trained"):
        call(model, "--reference-runs", lab.base, "--tasks", "cmmlu", "--data", lab.data)
    with pytest.raises(InputError, match="one of --base and --reference-runs"):
        call(model, "--reference-runs", other, "--base", lab.base, "--tasks", "cmmlu", "--data", lab.data)
