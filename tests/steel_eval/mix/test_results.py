"""`surface.json`: what its readers rely on, for worlds that are known: a gain, none, an arm that failed, chance."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.steel_eval.mix.sources import measured_runs, pool

from steel_eval.mix.design import make_space
from steel_eval.mix.measure import ArmResult
from steel_eval.mix.results import confirmation, surface_of
from steel_eval.mix.settings import read_search

POOL = pool()
SPACE = make_space("r", POOL.own, {}, dict.fromkeys(POOL.own, 1.0))
SETTINGS = read_search({"measure": {"held_out": ["chat", "exam"]}}, "r.toml")
# exam rows teach exam, chat rows chat, code nothing: the best mixture has none of it
TRUTH = {"chat": lambda w: 2 - 0.3 * np.log(w[:, 0]), "exam": lambda w: 3 - 0.6 * np.log(w[:, 1])}


def surface(tmp_path, truth=TRUTH, noise=0.02, settings=SETTINGS, change=lambda runs: runs, **more):
    found = surface_of(POOL, SPACE, settings, change(measured_runs(POOL, SPACE, tmp_path, truth, noise, **more)))
    return json.loads(json.dumps(found, allow_nan=False))  # what a reader gets


def test_a_gain_is_named_with_its_shares_effects_and_noise(tmp_path):
    s = surface(tmp_path)
    assert (s["verdict"], s["why"]) == ("better", "")
    assert sum(s["proposal"].values()) == pytest.approx(1, abs=1e-5)
    assert s["proposal"]["exam"] > 0.45 and s["proposal"]["code"] < 0.12
    assert 0 < s["gain"]["low"] < s["gain"]["value"] < s["gain"]["high"]
    assert s["effects"]["exam"]["exam"]["high"] < 0 < s["effects"]["code"]["exam"]["low"]
    assert s["effects"]["exam"]["exam"]["per_doubling"] == pytest.approx(-0.6 * np.log(2), rel=0.25)
    assert set(s["noise_floor"]) == {"chat", "exam"} and all(0.005 < v < 0.06 for v in s["noise_floor"].values())
    assert s["loo_error"] < s["spread"] and set(s["loo"]) == {
        "second-order",
        "log-linear",
        "quadratic",
        "gaussian-process",
    }
    assert len(s["arms"]) == 16 and [a["kind"] for a in s["arms"]].count("centre") == 4
    assert all(sum(a["shares"].values()) == pytest.approx(1) and len(a["measures"]) == 2 for a in s["arms"])
    inside = [a["low"] <= a["observed"] <= a["high"] for a in s["arms"]]
    assert np.mean(inside) > 0.7
    assert s["region"]["exam"][0] - 1e-5 <= s["proposal"]["exam"] <= s["region"]["exam"][1] + 1e-5


def test_where_nothing_matters_nothing_is_named(tmp_path):
    s = surface(tmp_path, {m: lambda w: np.full(len(w), 2.0) for m in TRUTH})
    assert (s["verdict"], s["proposal"]) == ("nothing-to-choose", None) and s["why"] and s["gain"]["low"] <= 0


def test_more_is_better_where_the_metric_says_so(tmp_path):
    settings = read_search({"measure": {"tasks": ["ceval"], "metric": "accuracy"}}, "r.toml")
    s = surface(tmp_path, {"ceval": lambda w: 0.5 + 0.1 * np.log(w[:, 1])}, 0.005, settings)
    assert s["verdict"] == "better" and s["gain"]["low"] > 0 and s["proposal"]["exam"] > 0.6
    assert s["effects"]["exam"]["ceval"]["per_doubling"] > 0
    best = max(s["candidates"], key=lambda c: c["value"])
    assert best["shares"][1] > 0.6 and s["measures"]["ceval"] == {"unit": "accuracy", "lower_is_better": False}


def test_an_arm_that_failed_is_named_and_the_others_stand(tmp_path):
    def break_two(runs):
        runs[5] = replace(runs[5], measured=ArmResult(runs[5].measured.job, {}, {}, {}, "loss is not a number."))
        runs[1] = replace(runs[1], measured=ArmResult(runs[1].measured.job, {}, {}, {}, "out of memory."))
        return runs

    s = surface(tmp_path, change=break_two)
    assert s["failed"] == {"arm-02, seed 1005": "loss is not a number.", "centre, seed 1001": "out of memory."}
    assert s["verdict"] == "better" and s["arms"][5]["measures"] == {"chat": None, "exam": None}
    assert s["arms"][5]["failed"] == "loss is not a number." and s["arms"][5]["observed"] is None


def test_a_measure_at_chance_is_refused_and_counts_for_nothing(tmp_path):
    def guess(names):
        def change(runs):
            for i, run in enumerate(runs):
                above = run.measured.above_chance | {n: np.resize([0.1, -0.1], 40) for n in names}
                runs[i] = replace(run, measured=replace(run.measured, above_chance=above))
            return runs

        return change

    s = surface(tmp_path, change=guess(["chat"]))
    assert s["refused"] == {"chat": "at chance: the proxy has not learnt what this measures"}
    assert s["verdict"] == "better" and s["objective"]["of"] == ["exam"] and "chat" not in s["effects"]["exam"]
    s = surface(tmp_path, change=guess(["chat", "exam"]))
    assert (s["verdict"], s["proposal"], s["gain"]) == ("not-measurable", None, None)
    assert "has not learnt" in s["why"]


def test_too_few_arms_are_not_measurable(tmp_path):
    s = surface(tmp_path, runs=2, centre=2)
    assert s["verdict"] == "not-measurable" and "4 arms with values are too few" in s["why"]
    every = surface(tmp_path, change=lambda runs: [
        replace(r, measured=ArmResult(r.measured.job, {}, {}, {}, "no.")) for r in runs
    ])  # fmt: skip
    assert every["verdict"] == "not-measurable" and len(every["failed"]) == 16


def test_fresh_seeds_confirm_by_seeds_and_rows_together(tmp_path):
    runs = measured_runs(POOL, SPACE, tmp_path, TRUTH, 0.02, runs=3, centre=3)
    better = [replace(r, kind="proposal", measured=replace(r.measured, items={m: v - 0.2 for m, v in r.measured.items.items()}))
              for r in runs[:3]]  # fmt: skip
    found = confirmation([*runs[:3], *better], SETTINGS.measure, ["chat", "exam"])
    assert found["all"]["value"] == pytest.approx(0.2) and found["all"]["low"] > 0 and found["all"]["p"] < 0.05
    assert set(found["gains"]) == {"chat", "exam"} and found["seeds"]["proposal"] == [1000, 1001, 1002]
    same = confirmation([*runs[:3], *[replace(r, kind="proposal") for r in runs[:3]]], SETTINGS.measure, ["chat"])
    assert same["all"]["low"] <= 0 <= same["all"]["high"]
    lone = confirmation([*runs[:3], better[0]], SETTINGS.measure, ["chat"])
    assert lone["all"] is None
