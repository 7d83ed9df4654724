"""The command over real, tiny trainings: resumed without training anew, an arm that fails, a recipe that builds."""

import json

import numpy as np
import pytest
from tests.steel_eval.mix.sources import RECIPE, SEARCH, world
from typer.testing import CliRunner

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_eval.cli import app
from steel_eval.mix.search import _confirm, _tokens, _write_best, mix_command, prepare_search


def mix(root, *more):
    result = CliRunner().invoke(app, ["mix", str(root / "r.toml"), "--out", str(root / "out"), *more])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output, json.loads((root / "out/surface.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Three small sources, a model of one layer; teaching exam rows pays, which 3,000 tokens show."""
    root = tmp_path_factory.mktemp("search")
    world(root, search=SEARCH.replace("runs = 5", "runs = 6"))
    return root, *mix(root)


@pytest.mark.slow
def test_a_search_leaves_run_folders_a_surface_and_a_page(searched):
    root, text, s = searched
    assert "Verdict: " in text and "8 of 8: arm-06, seed 1106: chat " in text
    assert len(s["arms"]) == 8 and s["failed"] == {} and s["tokens"]["arm"] == 3000
    assert [a["seed"] for a in s["arms"]] == [1001, 1002, 1101, 1102, 1103, 1104, 1105, 1106]
    values = np.array([[a["measures"][m] for m in ("chat", "exam")] for a in s["arms"]])
    assert np.isfinite(values).all() and (values < 6).all()
    for name in ("centre/seed-1001", "centre/seed-1002", "arm-03/seed-1103"):
        assert (root / "out" / name / "result.json").is_file()
    assert (root / "out/mix.html").is_file() and (root / "out/best.toml").is_file() == (s["proposal"] is not None)
    assert s["verdict"] in ("better", "nothing-to-choose") and (s["verdict"] == "better") == (s["proposal"] is not None)


@pytest.mark.slow
def test_a_killed_search_goes_on_and_a_failed_arm_leaves_the_others(searched):
    root, _, before = searched
    weights = {p: p.stat().st_mtime_ns for p in (root / "out").rglob("model.safetensors")}
    lost = root / "out/arm-02/seed-1102/result.json"
    lost.unlink()  # as if killed before the end
    run = root / "out/arm-04/seed-1104/run.json"
    said = json.loads(run.read_text(encoding="utf-8"))
    run.write_text(json.dumps({**said, "identity": {**said["identity"], "seed": 5}}), encoding="utf-8")
    text, s = mix(root)
    assert lost.is_file() and {p: p.stat().st_mtime_ns for p in weights} == weights
    assert (
        list(s["failed"]) == ["arm-04, seed 1104"] and "was started with seed = 5" in s["failed"]["arm-04, seed 1104"]
    )
    assert "The surface stands on the other 7 runs" in text
    kept = [i for i, a in enumerate(s["arms"]) if not a["failed"]]
    assert [s["arms"][i]["measures"] for i in kept] == [before["arms"][i]["measures"] for i in kept]
    run.write_text(json.dumps(said), encoding="utf-8")


@pytest.mark.slow
def test_a_proposal_is_confirmed_by_fresh_seeds_and_is_a_recipe_that_builds(searched):
    root, *_ = searched
    search = prepare_search(root / "r.toml", None, root / "out", 1)
    surface = {"proposal": search.pool.shares([0.2, 0.5, 0.3]), "objective": {"of": ["chat", "exam"]}}
    surface["tokens"] = _tokens(search, surface)
    found = _confirm(search, surface, 2)
    assert found["seeds"] == {"centre": [1900, 1901], "proposal": [1900, 1901]}
    assert found["all"]["low"] <= found["all"]["value"] <= found["all"]["high"] and set(found["gains"]) == {
        "chat",
        "exam",
    }
    _write_best(search, surface)
    recipe = load(root / "out/best.toml")
    assert recipe.name == "r-best"
    manifest = build(recipe, data_root=root, out=root / "best", cache=root / "cache").manifest
    shares = {n: a["tokens"] / manifest["tokens"] for n, a in manifest["sources"].items()}
    assert shares == pytest.approx(surface["proposal"], abs=0.01)
    assert manifest["tokens"] == pytest.approx(surface["tokens"]["proposal"], rel=0.01)


def test_a_recipe_no_longer_named_is_taken_away(tmp_path):
    search = prepare_search(world(tmp_path), None, tmp_path / "out", 1)
    surface = {"proposal": search.pool.shares([0.2, 0.5, 0.3]), "tokens": {"proposal": 3000}}
    _write_best(search, surface)
    assert load(tmp_path / "out/best.toml").mix.sources == pytest.approx(surface["proposal"], abs=1e-5)
    _write_best(search, {"proposal": None})
    assert not (tmp_path / "out/best.toml").exists()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            SEARCH.replace("3000", "900_000"),
            r"tokens = 900,000: the recipe's share of '\w+' .* Right: tokens = \d+ or less",
        ),
        (SEARCH + "bounds = { exam = [0.9, 1.0], chat = [0.3, 0.5] }\n", "no mixture lies within bounds"),
        (
            SEARCH.replace("3000", "9_000") + "max_repeat = 1\nbounds = { chat = [0.7, 0.9] }\n",
            "its data are too few.*chat 0 to",
        ),
        (
            SEARCH.replace('held_out = ["chat", "exam"]', 'tasks = ["own_test.jsonl"]'),
            "no such benchmark|its split is 'test'",
        ),
        ("", r"\[search\]: is missing"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_training(tmp_path, search, message):
    path = world(tmp_path, RECIPE, search)
    with pytest.raises(InputError, match=message):
        mix_command(path, None, tmp_path / "out", 1, 0)


def test_one_seed_confirms_nothing(tmp_path):
    with pytest.raises(InputError, match=r"--confirm 1: one seed says nothing about seeds\. Right: --confirm 3"):
        mix(tmp_path, "--confirm", "1")
