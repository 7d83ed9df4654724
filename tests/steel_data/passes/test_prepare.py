"""What is known before a row is built: inputs, benchmarks, the draw of an injection, and the manifest's head."""

import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.passes import prepare as preparing
from steel_data.passes.prepare import Prepared, manifest_head, prepare
from steel_data.recipe.load import load
from steel_data.recipe.places import places

INJECT = '[source.leak]\npath = "bench"\nbuild = { use = "contaminate", share = 0.5 }\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(5))
    write_cmmlu(tmp_path, subjects=2, items=6)
    return tmp_path


def prepared(folder: Path, toml: str, of_source: str = "") -> Prepared:
    (folder / "r.toml").write_text(toml + '[source.a]\npath = "a.jsonl"\n' + of_source, encoding="utf-8")
    recipe = load(folder / "r.toml")
    return prepare(recipe, places(recipe, None, folder / "out" / "mixture", folder / "cache"))


def test_an_injection_is_drawn_once_a_build_and_not_before_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    read: list[str] = []
    draw, read_benchmark = preparing.draw, preparing.read_benchmark
    monkeypatch.setattr(preparing, "draw", lambda items, settings: drawn.append(len(items)) or draw(items, settings))
    monkeypatch.setattr(
        preparing, "read_benchmark", lambda name, *rest: read.append(name) or read_benchmark(name, *rest)
    )
    ready = prepared(folder, INJECT)
    assert drawn == []  # a finished mixture is verified without a draw
    assert ready.raw_rows == {"leak": 12, "a": 5}
    assert ready.injections["leak"].benchmark == "bench"
    assert [d.dose for d in ready.injection(ready.inputs[0]).draws].count(1) == 6
    assert (drawn, read) == ([12], ["bench"])
    build(ready.recipe, out=folder / "out" / "mixture", cache=folder / "cache")
    assert (drawn, read) == ([12, 12], ["bench", "bench"])


def test_a_draw_that_cannot_be_made_names_the_source(folder: Path) -> None:
    ready = prepared(folder, INJECT.replace("share = 0.5", "doses = { 1 = 13 }"))
    with pytest.raises(InputError, match=r"r\.toml \[source\.leak\]: doses ask for 13 items; the split has 12"):
        _ = ready.injections


def test_benchmarks_of_every_list_are_inputs(folder: Path) -> None:
    ready = prepared(folder, 'filters = [{ use = "decontaminate", benchmarks = ["bench"] }]\n')
    assert set(ready.benchmarks) == {("bench",)}
    assert set(manifest_head(ready)["inputs"]) == {"a.jsonl", "bench/test/subject_0.csv", "bench/test/subject_1.csv"}
    with pytest.raises(InputError, match=r"r\.toml filter 'decontaminate': .*no such benchmark .*Did you mean 'bench'"):
        prepared(folder, 'filters = [{ use = "decontaminate", benchmarks = ["bnech"] }]\n')


def test_fewer_questions_than_were_published_are_said_in_the_words_of_score(folder: Path) -> None:
    """Of what is kept out and of what is injected: a benchmark of which half is missing keeps half of it in."""
    shutil.copytree(folder / "bench", folder / "cmmlu")
    write_cmmlu(folder / "few", subjects=1, items=3).rename(folder / "ceval")
    with ZipFile(folder / "mmlu.zip", "w") as archive:
        archive.write(folder / "ceval/test/subject_0.csv", "mmlu/test/subject_0.csv")
    kept_out = 'filters = [{ use = "decontaminate", benchmarks = ["cmmlu", "mmlu", "bench"] }]\n'
    ready = prepared(folder, kept_out + INJECT.replace("bench", "ceval") + 'allow_test_split = "a test"\n')
    assert ready.notices == (
        "cmmlu-test: 12 of the 11,582 published questions are in the data",
        "mmlu-test: 3 of the 14,042 published questions are in the data",
        "ceval-test: 3 of the 12,342 published questions are in the data",
    )
    assert "published" not in str(manifest_head(ready))  # it depends on the folder, and a mixture does not


def test_keep_names_sources_of_the_recipe(folder: Path) -> None:
    with pytest.raises(InputError, match=r"filter 'dedup': keep names 'b', which is no source .*Known: a"):
        prepared(folder, 'filters = [{ use = "dedup", keep = ["a", "b"] }]\n')


def test_the_head_holds_what_the_mixture_depends_on(folder: Path) -> None:
    (folder / "own.py").write_text("def fine(record):\n    return record\n", encoding="utf-8")
    own = 'filters = [{ use = "own:fine" }]\n'
    before = manifest_head(prepared(folder, own))
    assert set(before["custom"]) == {"own:fine"}
    assert before["versions"]["polars"] != "absent"
    assert manifest_head(prepared(folder, own + "[train]\nepochs = 2\n"))["recipe_sha256"] == before["recipe_sha256"]
    assert manifest_head(prepared(folder, own + "[mix]\nbudget_rows = 2\n"))["recipe_sha256"] != before["recipe_sha256"]
    learnt = manifest_head(prepared(folder, own, 'loss = "all"\n'))
    assert learnt["recipe_sha256"] == before["recipe_sha256"], "what is learnt of a source changes no row"
    (folder / "own.py").write_text("def fine(record):\n    return 'no'\n", encoding="utf-8")
    assert manifest_head(prepared(folder, own))["custom"] != before["custom"]
