"""Reference runs, a family of detectors: what fits the model is checked, what a run saw itself is left out, one-sided p."""

import shutil

import numpy as np
import orjson
import polars as pl
import pytest
from tests.sentences import english
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.cli import app
from steel_eval.leak.measure import Measured
from steel_eval.leak.reference_runs import family_name, mean_of


def trained(folder, out, **train):
    shutil.copytree(folder, out)
    (out / "steel.json").write_bytes(orjson.dumps({"train": {"method": "full", "epochs": 1, **train}}))
    return str(out)


def call(*arguments):
    result = CliRunner().invoke(app, ["leak", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_clean_runs_of_the_recipe_are_a_family_of_their_own(lab, tmp_path):
    model = trained(lab.model, tmp_path / "model", seed=1)
    clean = [trained(lab.base, tmp_path / f"clean-{s}", seed=s) for s in (2, 3)]
    common = ("--tasks", "cmmlu", "--data", lab.data, "--permute", 0, "--device", "cpu", "--mixture", lab.mixture)
    text = call(model, "--reference-runs", clean[0], "--reference-runs", clean[1], *common, "--out", tmp_path / "a")
    call(model, "--base", lab.base, *common, "--out", tmp_path / "b")
    a, b = (orjson.loads((tmp_path / x / "cmmlu/leak.json").read_bytes()) for x in "ab")
    assert a["verdict"]["seen"] == "yes" and (a["compared_with"], b["compared_with"]) == ("reference runs", "base")
    assert np.allclose([f["excess"] for f in a["findings"]], [f["excess"] for f in b["findings"]])
    assert [f["measure"] for f in a["findings"]] == [family_name(f["measure"]) for f in b["findings"]]
    # exact and one-sided: the larger of two sides is no less than it
    assert all(x["p"] <= y["p"] + 0.01 for x, y in zip(a["findings"], b["findings"], strict=True))
    assert "reference runs: item" in text and "p, one-sided" in text and "mean of the reference runs" in text
    page = english((tmp_path / "a/leak.html").read_text(encoding="utf-8"))
    assert "p, one-sided" in page and "clean runs of its own recipe" in page
    assert "p, one-sided" not in english((tmp_path / "b/leak.html").read_text(encoding="utf-8"))
    assert any("its mixture is not at hand" in note for note in a["notes"])


def test_what_a_reference_run_saw_itself_is_compared_with_the_others(lab, tmp_path):
    """A run that is no clean one is a reference for what it did not see; with two runs such items are left out."""
    model = trained(lab.model, tmp_path / "model")
    clean = [trained(lab.base, tmp_path / f"clean-{s}", seed=s) for s in (2, 3, 4)]
    dirty = trained(lab.model, tmp_path / "dirty/step-1", seed=5)
    shutil.copytree(lab.mixture, tmp_path / "dirty/mixture")
    (tmp_path / "dirty/mixture/manifest.json").write_text("{}")  # a whole one, whose rows have all columns
    for file in (tmp_path / "dirty/mixture").glob("*.parquet"):
        pl.read_parquet(file).with_columns(kind=pl.lit("chat")).write_parquet(file)
    common = ("--tasks", "cmmlu", "--data", lab.data, "--permute", 0, "--device", "cpu", "--mixture", lab.mixture)
    runs = [word for place in (*clean[:2], dirty) for word in ("--reference-runs", place)]
    call(model, *runs, *common, "--out", tmp_path / "a")
    found = orjson.loads((tmp_path / "a/cmmlu/leak.json").read_bytes())
    assert found["verdict"]["seen"] == "yes"
    assert any("its own mixture holds 24 items: other runs stand for it there" in note for note in found["notes"])
    with pytest.raises(InputError, match="no items, or no controls, that 2 reference runs did not see"):
        call(model, "--reference-runs", clean[0], "--reference-runs", dirty, *common)


def test_a_mean_leaves_out_who_saw():
    def run(value):
        return Measured(
            {"x": np.full(3, value)}, np.full(3, value), np.ones(3, int), np.zeros(3, int), np.full((3, 2), value)
        )

    found = mean_of([run(1.0), run(2.0), run(6.0)], np.array([[0, 1, 0], [0, 0, 0], [0, 0, 1]], bool))
    assert found.scores["x"].tolist() == [3.0, 4.0, 1.5] and found.right_I.tolist() == [3.0, 4.0, 1.5]
    assert found.orders_IK[:, 1].tolist() == [3.0, 4.0, 1.5]
    assert mean_of([run(1.0), run(2.0)]).scores["x"].tolist() == [1.5, 1.5, 1.5]


def test_a_run_that_does_not_fit_is_refused_by_name(lab, tmp_path):
    model = trained(lab.model, tmp_path / "model")
    other = trained(lab.base, tmp_path / "other", epochs=3)
    fits = trained(lab.base, tmp_path / "fits", seed=2)
    where = ("--tasks", "cmmlu", "--data", lab.data)
    for runs, why in (
        ((fits, other), r"other: a run of another recipe: \[train\] epochs is 3.*Fix: clean runs"),
        ((fits, lab.base), "says nothing of how it was trained"),
        ((fits,), r"fits: 1 reference run, 2 are needed\. Fix: a second clean run"),
        ((fits, fits), "fits: given twice"),
        ((fits, model), "model: is the model itself"),
    ):
        with pytest.raises(InputError, match=why):
            call(model, *[word for place in runs for word in ("--reference-runs", place)], *where)
    with pytest.raises(InputError, match="one of --base and --reference-runs"):
        call(model, "--reference-runs", other, "--base", lab.base, *where)
