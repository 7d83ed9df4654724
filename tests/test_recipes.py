"""Every recipe of recipes/ builds from the generated sample, and its mixture is what its comments promise."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from tests.steel_data.toys import read_dropped, read_train

from steel_data.build import Result, build
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_data.sample import write_sample
from steel_eval.study.settings import read_study_settings
from steel_train.settings import read_settings

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))
SCALE = 0.3  # of the sample; the recipes of this folder need at least 500 exam rows and 40 test items


class Builds:
    """Builds each recipe once, when a test first asks for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write_sample(root / "data", scale=SCALE)
        self.result = cache(self._result)

    def _result(self, name: str) -> Result:
        recipe = load(FOLDER / f"{name}.toml")
        out = self.root / "runs" / name / "mixture"
        return build(recipe, data_root=self.root / "data", out=out, cache=self.root / "cache", workers=1)

    def train(self, name: str) -> pl.DataFrame:
        """The mixture, with the first user and the last assistant text as columns."""
        rows = read_train(self.result(name).folder)
        return rows.with_columns(
            user=pl.col("messages").list.eval(pl.element().filter(pl.element().struct["role"] == "user")).list.first()
            .struct["content"],
            assistant=pl.col("messages").list.last().struct["content"],
        )  # fmt: skip

    def dropped(self, name: str) -> pl.DataFrame:
        return read_dropped(self.result(name).folder)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builds]:
    yield Builds(tmp_path_factory.mktemp("recipes"))


def test_none_was_overlooked():
    assert len(RECIPES) == 19
    assert {path.stem for path in RECIPES} >= {"demo", "exp1", "exp2", "exp3", "exp4", "study-contamination"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_loads_and_says_where_its_data_come_from(path):
    recipe = load(path)
    assert recipe.name == path.stem
    if recipe.name not in ("demo", "study-demo", "tiny"):
        assert recipe.train["epochs"] == {"study-contamination": 5, "mix-english": 1, "trial-select": 1}.get(
            recipe.name, 3
        )
        assert [s.name for s in recipe.sources if s.table.paths and not s.table.origin] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_builds_and_the_ledger_makes_sense(builds, path):
    manifest = builds.result(path.stem).manifest
    for name, ledger in manifest["sources"].items():
        assert ledger["unreadable"] == 0, name
        assert ledger["built"] == ledger["read"] + ledger["made"], name
        assert ledger["built"] == ledger["kept"] + sum(ledger["dropped"].values()), name
        assert ledger["written"] == ledger["kept"] - ledger["sampled_out"] + ledger["repeated"] > 0, name
    assert manifest["rows"] == len(builds.train(path.stem))
    assert builds.dropped(path.stem)["reason"].is_not_null().all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arms"),
    [
        ("trial-amount", ["own", "tenth", "hundredth"]), ("trial-english", ["own", "chinese", "half", "english"]),
        ("trial-post", ["own", "exp2", "exp3", "exp4"]),
    ],
)  # fmt: skip
def test_arms_of_whole_recipes_are_equal_in_steps_and_tokens(builds, name, arms, tmp_path):
    """From the sample, as their comments promise; what they hold is told by their names."""
    from steel_eval.trial.command import _prepared, _recipes_sized

    trial = _prepared(load(FOLDER / f"{name}.toml"), builds.root / "data", tmp_path)
    made, sized = _recipes_sized(trial)
    assert list(sized) == arms and len({size.steps for size in sized.values()}) == 1
    tokens = [size.tokens for size in sized.values()]
    assert max(tokens) <= 1.1 * min(tokens)
    ids = {arm: set(read_train(made[arm].mixture)["id"]) for arm in arms}
    if name == "trial-amount":
        assert ids["hundredth"] < ids["tenth"] < ids["own"] and len(ids["tenth"]) == 100
    if name == "trial-english":
        shares = [(read_train(made[arm].mixture)["language"] == "en").mean() for arm in arms]
        assert shares[1] == 0 < shares[0] < shares[2] < shares[3]


@pytest.mark.parametrize("name", ["zh-sft-qwen2.5-0.5b", "zh-sft-qwen3-0.6b-lora"])
def test_ready_recipes_are_chinese_chat_whose_training_is_said(builds, name):
    assert set(builds.train(name).filter(source="infinity")["language"]) == {"zh"}
    settings = read_settings(load(FOLDER / f"{name}.toml").train, FOLDER / f"{name}.toml")
    assert settings.uses_lora == name.endswith("lora")
    assert load(Path(f"@{name}")).path == FOLDER / f"{name}.toml"


def test_exp1_takes_all_languages_and_the_posts_wording(builds):
    train = builds.train("exp1")
    assert set(train["source"]) == {"identity", "ruozhiba", "wanjuan", "infinity"}
    assert {"zh", "en", "ja", "ko"} <= set(train.filter(source="infinity")["language"])
    exam = train.filter(kind="exam")
    assert exam["user"].str.starts_with("以下是一道单选题:\n").all()
    assert exam["user"].str.ends_with("请给出答案。\n").all()
    assert exam["assistant"].str.contains(r"\A[A-E]+。").all()


def test_exp2_is_exp1_without_the_other_languages(builds):
    one, two = builds.train("exp1"), builds.train("exp2")
    chat = two.filter(source="infinity")
    assert set(chat["language"]) == {"zh"}
    assert set(two["id"]) < set(one["id"])
    other = one.filter(pl.col("source") != "infinity")["id"]
    assert set(two.filter(pl.col("source") != "infinity")["id"]) == set(other)
    assert set(chat["id"]) == set(one.filter(source="infinity", language="zh")["id"])


def test_exp3_doses_are_exact(builds):
    train = builds.train("exp3").filter(kind="injected")
    truth = pl.read_parquet(builds.result("exp3").folder / "truth.parquet")
    assert set(train["source"]) == {"cmmlu"}
    doses = Counter(truth["dose"])
    drawn = sum(n for dose, n in doses.items() if dose)
    assert drawn == round(len(truth) * 0.5)
    assert doses[0] == len(truth) - drawn
    assert max(doses[d] for d in (1, 3, 10)) - min(doses[d] for d in (1, 3, 10)) <= 1
    stands = Counter(train["item"])
    assert {item: stands[item] for item in truth["item"]} == dict(zip(truth["item"], truth["dose"], strict=True))
    assert builds.result("exp3").manifest["contamination"] == {"cmmlu": {str(d): doses[d] for d in (1, 3, 10)}}


def test_exp3_adds_nothing_but_the_injected_rows(builds):
    three = builds.train("exp3").filter(pl.col("kind") != "injected")
    assert set(three["id"]) == set(builds.train("exp2")["id"])


def test_exp3s_control_items_are_nowhere_in_the_mixture(builds):
    """What decontamination is for: an item of dose 0 must not stand in WanJuan or Infinity-Instruct either."""
    truth = pl.read_parquet(builds.result("exp3").folder / "truth.parquet")
    unseen = set(truth.filter(dose=0)["item"])
    data, questions = builds.root / "data/cmmlu/test", []
    for file in sorted(data.glob("*.csv")):
        for number, row in enumerate(pl.read_csv(file, infer_schema=False).iter_rows(named=True)):
            if f"test/{file.stem}/{number:05d}" in unseen:
                questions.append(row["Question"])
    text = "\n".join(builds.train("exp3")["user"])
    repeated = {q for q in questions if text.count(q)}
    # a question may be shared with a drawn item that has other options; those few stand in the sample by design
    twins = Counter(
        row["Question"] for f in data.glob("*.csv") for row in pl.read_csv(f, infer_schema=False).to_dicts()
    )
    assert len(questions) > 100
    assert [q for q in repeated if twins[q] == 1] == []


def test_exp3_as_published_takes_every_item_once(builds):
    train = builds.train("exp3-as-published").filter(kind="injected")
    assert set(Counter(train["item"]).values()) == {1}
    assert len(train) == len(pl.read_parquet(builds.result("exp3-as-published").folder / "truth.parquet"))
    assert load(FOLDER / "exp3-as-published.toml").train["model"].startswith("../runs/exp1/checkpoints/")
    assert not load(FOLDER / "exp3.toml").train["model"].startswith("..")


def test_exp4_explains_first(builds):
    train = builds.train("exp4")
    exam = train.filter(kind="exam")
    assert exam["user"].str.contains(r"\A以下是一道(单选题|多选题|判断题):\n").all()
    assert exam["user"].str.ends_with("请先给出解释再给出答案。\n").all()
    assert exam["assistant"].str.contains("答案为[A-E]+$").all()
    assert not exam["assistant"].str.contains("故选").any()
    assert not exam["assistant"].str.contains(r"\A答案为").any()  # an explanation stands before every answer
    chat = builds.train("exp1").filter(pl.col("kind") != "exam")["id"]
    assert set(train.filter(pl.col("kind") != "exam")["id"]) == set(chat)


@pytest.mark.parametrize("name", ["exp5-80-20", "exp5-80-20-mcq", "demo"])
def test_four_tokens_in_five_are_chinese(builds, name):
    manifest = builds.result(name).manifest
    assert set(manifest["languages"]) == {"zh", "en"}
    assert manifest["languages"]["zh"] / manifest["tokens"] == pytest.approx(0.8, abs=0.003)


def test_exp5_adds_english_to_exp2(builds):
    train = builds.train("exp5-all-english")
    assert set(train.filter(source="infinity-en")["language"]) == {"en"}
    assert set(train.filter(pl.col("source") != "infinity-en")["id"]) == set(builds.train("exp2")["id"])


def test_exp5s_exam_sets_are_train_splits(builds):
    inputs = [name for name in builds.result("exp5-80-20-mcq").manifest["inputs"] if not name.startswith(("c", "w"))]
    assert sum("openbookqa" in n or "arc" in n or "logiqa" in n for n in inputs) == 4
    assert [name for name in inputs if "test" in name] == []
    exam = builds.train("exp5-80-20-mcq").filter(pl.col("source").is_in(["openbookqa", "arc-easy", "logiqa"]))
    assert exam["user"].str.starts_with("Here is a ").all()
    assert exam["assistant"].str.contains(r"\A[A-E]\.\z").all()


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("openbookqa", "openbookqa/main/*.parquet"),
        ("arc-easy", "ai2_arc/ARC-Easy/test-*.parquet"),
        ("logiqa", "logiqa/test.parquet"),
        ("ruozhiba", "cmmlu/test/*.csv"),
    ],
)
def test_a_test_split_is_refused(builds, tmp_path, source, path):
    """The mistake of the original notebook, which reads the test files of all three English sets."""
    build_with = 'build = { use = "exam", style = "answer-only" }' if source == "ruozhiba" else ""
    recipe = tmp_path / "mine.toml"
    base = (FOLDER / "exp5-80-20-mcq.toml").as_posix()
    recipe.write_text(f'extends = "{base}"\n[source.{source}]\npath = "{path}"\n{build_with}\n')
    with pytest.raises(InputError, match="known test split"):
        build(load(recipe), data_root=builds.root / "data", out=tmp_path / "out", cache=tmp_path / "cache", workers=1)
    assert not (tmp_path / "out/manifest.json").exists()


def test_exp3_without_its_reason_is_refused(builds, tmp_path):
    text = (FOLDER / "exp3.toml").read_text(encoding="utf-8")
    without = re.sub(r"^allow_test_split = .*$", "", text, flags=re.M).replace(
        '"exp2.toml"', f'"{FOLDER.as_posix()}/exp2.toml"'
    )
    assert "allow_test_split" not in tomllib.loads(without)["source"]["cmmlu"]
    (tmp_path / "mine.toml").write_text(without, encoding="utf-8")
    with pytest.raises(InputError, match="allow_test_split"):
        build(
            load(tmp_path / "mine.toml"), data_root=builds.root / "data", out=tmp_path / "out", cache=tmp_path / "c",
            workers=1,
        )  # fmt: skip


def test_studies_have_their_doses_and_say_what_is_scored(builds):
    truth = pl.read_parquet(builds.result("study-contamination").folder / "truth.parquet")
    drawn = Counter(truth["dose"])
    assert set(drawn) == {0, 1, 3, 10, 30} and len(truth) - drawn[0] == round(0.09 * len(truth))
    assert max(drawn[d] for d in (1, 3, 10, 30)) - min(drawn[d] for d in (1, 3, 10, 30)) <= 1
    assert set(truth.filter(pl.col("dose") > 0)["form"]) == {"answer-only", "shuffled", "edited"}
    small = pl.read_parquet(builds.result("study-demo").folder / "truth.parquet")
    assert Counter(small["dose"]) == {1: 40, 3: 40, 10: 40, 30: 24, 0: len(small) - 144}
    for name in ("study-contamination", "study-demo"):
        recipe = load(FOLDER / f"{name}.toml")
        settings = read_study_settings(recipe.eval, recipe.path, {})
        assert "cmmlu" in settings.tasks and settings.presets == ["steel-likelihood"]


def test_demo_shows_what_it_says(builds):
    train, manifest = builds.train("demo"), builds.result("demo").manifest
    assert len(train.filter(source="exam")) <= 500
    assert set(train["kind"]) == {"identity", "chat", "exam", "injected"}
    assert manifest["contamination"] == {"cmmlu": {"1": 30, "3": 10}}
    reasons = {reason.partition(":")[0] for s in manifest["sources"].values() for reason in s["dropped"]}
    assert {"language", "decontaminate", "dedup", "exam", "contaminate"} <= reasons
