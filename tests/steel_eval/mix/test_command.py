"""The command over real, tiny trainings: resumed without training anew, an arm that fails, a recipe that builds."""

import json

import numpy as np
import pytest
from tests.steel_eval.mix.sources import RECIPE, SEARCH, world, write
from typer.testing import CliRunner

from steel_data.build import build
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_eval.cli import app
from steel_eval.mix.command import _confirm, _tokens, _write_best
from steel_eval.mix.search import prepare_search


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
    assert "Verdict: " in text and "8 of 8: arm-06, seed 1002: chat " in text
    assert len(s["arms"]) == 8 and s["failed"] == {} and s["tokens"]["arm"] == 3000
    assert [a["seed"] for a in s["arms"]] == [1001, 1002] * 4
    values = np.array([[a["measures"][m] for m in ("chat", "exam")] for a in s["arms"]])
    assert np.isfinite(values).all() and (values < 6).all()
    for name in ("centre/seed-1001", "centre/seed-1002", "arm-03/seed-1001"):
        assert (root / "out" / name / "result.json").is_file()
    assert (root / "out/mix.html").is_file() and (root / "out/best.toml").is_file() == (s["proposal"] is not None)
    assert s["verdict"] in ("better", "nothing-to-choose") and (s["verdict"] == "better") == (s["proposal"] is not None)


@pytest.mark.slow
def test_a_killed_search_goes_on_and_a_failed_arm_leaves_the_others(searched):
    root, _, before = searched
    weights = {p: p.stat().st_mtime_ns for p in (root / "out").rglob("model.safetensors")}
    lost = root / "out/arm-02/seed-1002/result.json"
    lost.unlink()  # as if killed before the end
    run = root / "out/arm-04/seed-1002/run.json"
    said = json.loads(run.read_text(encoding="utf-8"))
    run.write_text(json.dumps({**said, "identity": {**said["identity"], "seed": 5}}), encoding="utf-8")
    text, s = mix(root)
    assert lost.is_file() and {p: p.stat().st_mtime_ns for p in weights} == weights
    assert (
        list(s["failed"]) == ["arm-04, seed 1002"] and "was started with seed = 5" in s["failed"]["arm-04, seed 1002"]
    )
    assert "The surface stands on the other 7 runs" in text
    kept = [i for i, a in enumerate(s["arms"]) if not a["failed"]]
    assert [s["arms"][i]["measures"] for i in kept] == [before["arms"][i]["measures"] for i in kept]
    run.write_text(json.dumps(said), encoding="utf-8")


@pytest.mark.slow
def test_a_proposal_is_confirmed_by_fresh_seeds_and_is_a_recipe_that_builds(searched):
    root, *_ = searched
    search = prepare_search(root / "r.toml", None, root / "out", Local())
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
    search = prepare_search(world(tmp_path), None, tmp_path / "out", Local())
    surface = {"proposal": search.pool.shares([0.2, 0.5, 0.3]), "tokens": {"proposal": 3000}}
    _write_best(search, surface)
    assert load(tmp_path / "out/best.toml").mix.sources == pytest.approx(surface["proposal"], abs=1e-5)
    _write_best(search, {"proposal": None})
    assert not (tmp_path / "out/best.toml").exists()


def test_a_named_recipe_carries_the_changes_it_was_found_with(tmp_path):
    """And what stands relative to the recipe's folder holds from the output folder too."""
    path = world(tmp_path, search=SEARCH)
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8")
    changes = ["train.learning_rate=0.004", "train.chat_template=mine.jinja", "source.noise.take=200", "search.runs=4"]
    search = prepare_search(path, None, tmp_path / "out", Local(), changes)
    assert search.settings.runs == 4 and search.pool.tables["train"]["learning_rate"] == 0.004
    _write_best(search, {"proposal": search.pool.shares([0.2, 0.5, 0.3]), "tokens": {"proposal": 3000}})
    best = load(tmp_path / "out/best.toml")
    assert (best.name, best.train["learning_rate"], best.source("noise").table.take) == ("r-best", 0.004, 200)
    assert best.train["chat_template"] == str(tmp_path / "mine.jinja") and best.mix.sources["exam"] == 0.5


def test_a_named_recipe_finds_the_modules_of_its_own_steps(tmp_path):
    """They are looked for beside a recipe, and it lies in another folder than the one it extends."""
    (tmp_path / "own_steps.py").write_text("def all_of_it(record):\n    return record\n", encoding="utf-8")
    path = world(tmp_path, recipe='filters = [{ use = "own_steps:all_of_it" }]\n' + RECIPE)
    search = prepare_search(path, None, tmp_path / "out", Local())
    _write_best(search, {"proposal": search.pool.shares([0.2, 0.5, 0.3]), "tokens": {"proposal": 3000}})
    assert load(tmp_path / "out/best.toml").filters[0].use == "own_steps:all_of_it"


def test_one_seed_confirms_nothing(tmp_path):
    with pytest.raises(InputError, match=r"--confirm 1: one seed says nothing about seeds\. Fix: --confirm 3"):
        mix(tmp_path, "--confirm", "1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rank", "3"], "--rank 3: the ranks of so few arms agree by chance. Fix: --rank 6."),
        (["--screen", "--confirm", "3"], "--screen trains one run: there is nothing to confirm or to rank."),
    ],
)
def test_options_that_say_nothing_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        mix(tmp_path, *options)


QUESTIONS = SEARCH.replace('measure = { held_out = ["chat", "exam"] }', 'measure = { tasks = ["own.jsonl"] }')


@pytest.mark.slow
def test_questions_decide_arms_go_side_by_side_and_the_best_is_tried_next(tmp_path):
    """`tasks`, `sequential` and `--workers 2` in one search; a change from the command line makes it smaller."""
    world(tmp_path, search=QUESTIONS + "sequential = true\n")
    asked = [{"question": f"第{i}题，{i % 5}加{i % 3}等于几？", "options": [f"答案是{i % 5}{i % 3}。", "甲大。"],
              "answer": "A"} for i in range(30)]  # fmt: skip
    write(tmp_path, "own", asked)
    _, s = mix(tmp_path, "--data", str(tmp_path), "--workers", "2", "--set", "train.max_steps=12")
    kinds = [a["kind"] for a in s["arms"]]
    assert kinds.count("centre") == 2 and kinds.count("design") == 5 and s["failed"] == {}
    assert s["measures"] == {"own.jsonl": {"unit": "gold_bits_per_byte", "lower_is_better": True}}
    assert all(np.isfinite(a["measures"]["own.jsonl"]) for a in s["arms"])
    # it goes on while a lowest point is seen, one arm a source; a refit may see none any more
    tried = kinds.count("next")
    assert (tried == 3 if s["lowest"] else 0 <= tried < 3) and s["train"]["max_steps"] == 12
    again = [a["shares"]["exam"] for a in s["arms"] if a["kind"] == "next"]
    assert all(s["bounds"]["exam"][0] - 1e-6 <= x <= s["bounds"]["exam"][1] + 1e-6 for x in again)
