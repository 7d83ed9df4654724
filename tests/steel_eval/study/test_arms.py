"""The arms of a study: equal in tokens, alike but for what is injected, with paths that hold from anywhere."""

import json

import pytest
from tests.steel_eval import toys
from tests.steel_eval.lab import write_benchmark

from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.mixture.manifest import read_manifest
from steel_data.recipe.load import load
from steel_eval.study.arms import injected_share, injected_source, make_arms, train_arms
from steel_eval.study.settings import StudySettings

RECIPE = """
seed = 3
tokenizer = "tokenizer"
[source.chat]
path = "chat.jsonl"
[source.leak]
path = "cmmlu"
build = { use = "contaminate", split = "test", share = 0.5, doses = [1, 3] }
allow_test_split = "a test of the study"
[train]
model = { type = "qwen2", hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 2, intermediate_size = 32, vocab_size = 420 }
tokenizer = "tokenizer"
seeds = [1, 2]
[eval]
tasks = ["cmmlu"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("arms")
    toys.benchmarks(root)
    write_benchmark(root)
    toys.tokenizer().save_pretrained(root / "tokenizer")
    lines = [{"instruction": f"请回答第{i}题。", "input": "", "output": f"答案是{i}。" * 4} for i in range(400)]
    (root / "chat.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    (root / "r.toml").write_text(RECIPE, encoding="utf-8")
    return root


def arms_of(folder, out, recipe="r.toml", **settings):
    return {arm.name: arm for arm in make_arms(load(folder / recipe), StudySettings(**settings), folder / out, folder)}


@pytest.fixture(scope="module")
def arms(folder):
    return arms_of(folder, "out", placebo="ceval", diluted={"3": 4})


def test_all_arms_have_the_clean_arms_tokens(arms):
    heads = {name: read_manifest(arm.mixture) for name, arm in arms.items()}
    assert list(heads) == ["clean", "placebo", "injected", "diluted"]
    tokens = {name: head["tokens"] for name, head in heads.items()}
    assert max(tokens.values()) == tokens["clean"] and min(tokens.values()) > 0.99 * tokens["clean"]
    assert heads["clean"]["contamination"] == {}
    assert heads["injected"]["contamination"] == {"cmmlu": {"1": 12, "3": 12}}
    assert heads["diluted"]["contamination"] == {"cmmlu": {"3": 4}}
    # as many items of each dose as the injected arm, though `share` of the placebo's benchmark would be another number
    assert heads["placebo"]["contamination"] == {"ceval": {"1": 12, "3": 12}}
    shares = {name: injected_share(arm.mixture, "leak") for name, arm in arms.items()}
    assert shares["clean"] == {"rows": 0, "tokens": 0}
    assert 0 < shares["diluted"]["tokens"] < shares["injected"]["tokens"] < 1


def test_a_placebo_may_be_one_split_of_a_benchmark(folder):
    (folder / "ceval/val").mkdir(exist_ok=True)
    for file in (folder / "ceval/test").glob("*.csv"):
        (folder / "ceval/val" / file.name.replace("_test", "_val")).write_bytes(file.read_bytes())
    source = load(arms_of(folder, "val", placebo="ceval-val")["placebo"].recipe).source("leak").table
    assert (source.path, source.build["benchmark"], source.build["split"]) == ("ceval", "ceval", "val")


def test_an_arms_recipe_holds_from_anywhere(arms, folder):
    recipe = load(arms["injected"].recipe)
    assert recipe.train["tokenizer"] == str((folder / "tokenizer").absolute()) == recipe.merged["tokenizer"]
    assert [seed.name for seed in arms["injected"].seeds] == ["seed-1", "seed-2"]


def test_made_again_nothing_is_built(arms, folder, capsys):
    before = {arm.name: (arm.mixture / "manifest.json").stat().st_mtime_ns for arm in arms.values()}
    again = arms_of(folder, "out", placebo="ceval", diluted={"3": 4})
    assert {arm.name: (arm.mixture / "manifest.json").stat().st_mtime_ns for arm in again.values()} == before
    assert capsys.readouterr().out.count("(as built before)") == 4


def test_more_test_items_than_ordinary_rows_cannot_be_equal(folder):
    text = RECIPE.replace("doses = [1, 3]", "doses = [90]")
    (folder / "much.toml").write_text(text, encoding="utf-8")
    found = arms_of(folder, "much", "much.toml")
    tokens = {name: read_manifest(arm.mixture)["tokens"] for name, arm in found.items()}
    assert tokens["injected"] > tokens["clean"]


def test_arms_from_scratch_share_one_tokenizer(folder):
    text = RECIPE.replace('tokenizer = "tokenizer"\n', "").replace("vocab_size = 420", "vocab_size = 300")
    (folder / "own.toml").write_text(text, encoding="utf-8")
    found = arms_of(folder, "own", "own.toml")
    named = {load(arm.recipe).train["tokenizer"] for arm in found.values()}
    assert len(named) == 1 and (folder / "own/tokenizer/tokenizer/tokenizer.json").is_file()
    assert named == {str((folder / "own/tokenizer/tokenizer").absolute())}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [1, 2]\n", "", "no seeds"),
        ('use = "contaminate", split = "test", share = 0.5, doses = [1, 3]', 'use = "exam"', "0 sources inject"),
    ],
)
def test_a_recipe_that_is_no_study_is_refused(folder, old, new, message):
    text = RECIPE.replace(old, new)
    (folder / "wrong.toml").write_text(
        text.replace('"cmmlu"', '"cmmlu/test/*.csv"', 1) if "exam" in new else text, "utf-8"
    )
    with pytest.raises(InputError, match=message):
        injected_source(load(folder / "wrong.toml"))


@pytest.mark.slow
def test_runs_side_by_side_are_the_runs_one_after_another(folder):
    sides = {}
    for workers in (1, 2):
        found = arms_of(folder, f"by-{workers}")["injected"]
        train_arms([found], folder, Local(workers))
        weights = [sorted(seed.glob("checkpoints/step-*/model.safetensors"))[-1] for seed in found.seeds]
        sides[workers] = [file.read_bytes() for file in weights]
    assert sides[1] == sides[2] and sides[1][0] != sides[1][1]


@pytest.mark.slow
def test_a_run_that_fails_is_named_with_its_reason(folder):
    text = RECIPE.replace("seeds = [1, 2]", "seeds = [1, 2]\nlearning_rate = 1e30")
    (folder / "bad.toml").write_text(text, encoding="utf-8")
    found = arms_of(folder, "bad", "bad.toml")["injected"]
    with pytest.raises(InputError, match=r"arm injected, seed 1: .* is not a number .*seed-1.log"):
        train_arms([found], folder, Local(2))
