"""A crossed pool at toy size: every run draws its own items, exposures show, and references are runs that saw nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.steel_eval import toys
from tests.steel_eval.lab import write_benchmark
from tests.steel_eval.study.test_command import RECIPE, study

from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_eval.study.pool import areas, clean_scores, make_pool
from steel_eval.study.results import drawn


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pool")
    toys.benchmarks(root)
    write_benchmark(root)
    toys.tokenizer().save_pretrained(root / "tokenizer")
    lines = [{"instruction": f"请回答第{i}题。", "input": "", "output": f"答案是{i}。"} for i in range(30)]
    (root / "chat.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    scores = "seeds = [1, 2, 3, 4]\n[eval]\ntasks = ['cmmlu']\npresets = ['steel-likelihood']\npool = true\npermute = 4\nin_context = 1\n"
    (root / "pool.toml").write_text(RECIPE + scores, encoding="utf-8")
    return root


def test_every_run_draws_its_own_items(folder, tmp_path):
    arms, ordinary = make_pool(load(folder / "pool.toml"), tmp_path, folder)
    seen = [{item for item, (dose, _) in drawn(arm.mixture)["cmmlu"].items() if dose} for arm in arms]
    assert [len(s) for s in seen] == [24] * 4 and len(set(map(frozenset, seen))) == 4
    assert [[p.name for p in arm.seeds] for arm in arms] == [[f"seed-{k}"] for k in (1, 2, 3, 4)]
    again, _ = make_pool(load(folder / "pool.toml"), tmp_path, folder)
    assert [drawn(a.mixture) for a in again] == [drawn(a.mixture) for a in arms]
    assert not (ordinary / "truth.parquet").exists() or not any(d for d, _ in drawn(ordinary)["cmmlu"].values())


def test_two_seeds_are_refused_before_anything_is_built(folder, tmp_path):
    recipe = load(folder / "pool.toml")
    few = replace(
        recipe,
        merged={**recipe.merged, "train": {**recipe.train, "seeds": [1, 2]}},
        train={**recipe.train, "seeds": [1, 2]},
    )
    with pytest.raises(InputError, match=r"a run a seed\. Fix: 3 at least"):
        make_pool(few, tmp_path, folder)
    assert not list(tmp_path.iterdir())


def test_own_steps_are_found_by_every_run(folder, tmp_path, monkeypatch):
    text = (folder / "pool.toml").read_text(encoding="utf-8")
    (folder / "own.toml").write_text(f'filters = [{{ use = "pool_steps:keep" }}]\n{text}', encoding="utf-8")
    (folder / "pool_steps.py").write_text("def keep(record):\n    return record\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    arms, _ = make_pool(load(folder / "own.toml"), tmp_path / "out", folder)
    assert len(arms) == 4


@pytest.mark.slow
def test_a_pool_finds_what_its_runs_saw(folder):
    text = study(folder, folder / "pool.toml")
    results = json.loads((folder / "out/study.json").read_text(encoding="utf-8"))
    entry = results["presets"]["steel-likelihood"]["cmmlu"]
    assert [(g["dose"], g["pairs"], g["runs"]) for g in entry["gains"]] == [(1, 32, 4), (20, 64, 4)]
    assert entry["gains"][1]["gain"] > 0.2 and entry["gains"][1]["p"] < 0.01
    assert results["verdict"][0]["seen"] == "yes" and len(entry["clean_scores"]) == 4
    answer = {d["dose"]: d for d in results["detectors"] if d["detector"] == "reference difference: answer"}
    assert answer[20]["auc"] > 0.7 and answer[20]["reference"] == "other runs"
    assert {d["dose"] for d in results["detectors"] if d["detector"] == "codec: confidence lost"} == {1, 20}
    assert answer[20]["p"] < 0.01 and "reference runs" in text and "crossed pool" in text
    (rates,) = json.loads((folder / "out/rates.json").read_text(encoding="utf-8"))
    assert rates["regime"]["compared_with"] == "reference runs" and rates["seeds"] == [1, 2, 3, 4]
    assert rates["regime"]["exposures"] >= 20 and 0 < rates["regime"]["injected_share"] < 1
    names = {rate["detector"] for rate in rates["rates"]}
    assert "reference runs: answer" in names and "reference difference: answer" not in names
    page = (folder / "out/study.html").read_text(encoding="utf-8")
    assert "crossed pool" in page and "reference difference: answer" in page
    assert "as built before" in study(folder, folder / "pool.toml")


def test_a_clean_score_knows_nothing_of_what_others_saw():
    """Runs that know what they saw by heart: the clean score is that of a run that saw nothing all the same."""
    generator = np.random.default_rng(0)
    dose_RQ = (generator.random((8, 400)) < 0.3).astype(np.int64)
    right_RQ = np.where(dose_RQ > 0, 1.0, generator.random((8, 400)) < 0.4)
    found = clean_scores(right_RQ, dose_RQ, np.arange(400) // 40, np.arange(400))
    assert len(found) == 8 and all(c.runs == 7 for c in found)
    assert abs(np.mean([c.clean for c in found]) - 0.4) < 0.03 and np.mean([c.reported for c in found]) > 0.5
    assert all(c.low < 0.4 < c.high for c in found)


def test_detectors_are_compared_with_runs_that_did_not_see_the_item():
    generator = np.random.default_rng(1)
    dose_RQ = 3 * (generator.random((5, 200)) < 0.2).astype(np.int64)
    hard_Q = 3 * generator.normal(size=200)
    score_RQ = hard_Q + 0.5 * generator.normal(size=(5, 200)) + 1.0 * (dose_RQ > 0)
    rows = areas(
        {"text": np.vstack([score_RQ, hard_Q[None] + generator.normal(size=(1, 200))])},
        dose_RQ,
        np.arange(200) // 20,
        np.arange(200),
    )
    by = {r["reference"]: r for r in rows}
    assert by["other runs"]["auc"] > by["base"]["auc"] > 0.6  # the mean of four is the better reference
    assert by["other runs"]["pairs"] == (dose_RQ > 0).sum() and by["other runs"]["runs"] == 5
