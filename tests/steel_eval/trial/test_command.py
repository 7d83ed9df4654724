"""A trial really trained: both random draws, power before the others, and the books of its arms."""

import json
from pathlib import Path

import pytest
from tests.steel_eval.mix.sources import RECIPE, world

from steel_data.engine import Local
from steel_data.errors import InputError
from steel_eval.trial.command import trial_command

TRIAL = '[trial]\nsource = "chat"\ntokens = {}\narms = {{ {} }}\nmeasure = {{ held_out = ["exam"] }}\n'


def recipe(folder: Path, tokens: int, arms: str) -> Path:
    small = RECIPE.replace('[source.noise]\npath = "noise.jsonl"\n', "").replace("hidden_size = 32", "hidden_size = 16")
    return world(folder, small, TRIAL.format(tokens, arms), n=200)


@pytest.mark.slow
def test_a_trial_is_trained_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, 1200, 'longest = { by = "longest" }')
    trial_command(path, tmp_path, tmp_path / "out", Local(), ())
    said = capsys.readouterr()
    assert said.err.index("will mostly not be seen") < said.err.index("longest, seed 1")
    found = json.loads((tmp_path / "out/trial.json").read_text(encoding="utf-8"))
    assert list(found["arms"]) == ["random", "balanced-random", "longest"]
    assert len({arm["steps"] for arm in found["arms"].values()}) == 1
    tokens = [arm["tokens"] for arm in found["arms"].values()]
    assert max(tokens) < 1.1 * min(tokens)
    assert len(found["tests"]) == 3
    assert "will mostly not be seen" in (tmp_path / "out/trial.html").read_text(encoding="utf-8")


def test_lacking_ratings_and_test_splits_are_refused_before_training(tmp_path: Path) -> None:
    path = recipe(tmp_path, 1200, 'hard = { by = "ifd" }')
    with pytest.raises(InputError, match=r"arm 'hard': .*--by ifd --model DIR.*\.cache"):
        trial_command(path, tmp_path, tmp_path / "out", Local(), ())
    path = recipe(tmp_path, 1200, 'like = { by = "dsir", target = "cmmlu/test" }')
    (tmp_path / "cmmlu/test").mkdir(parents=True)
    (tmp_path / "cmmlu/test/law.csv").write_text(
        ",Question,A,B,C,D,Answer\n0,甲乙丙丁哪一个,a,b,c,d,A\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match="cmmlu/test: what has chosen the data cannot judge it"):
        trial_command(path, tmp_path, tmp_path / "out2", Local(), ())
