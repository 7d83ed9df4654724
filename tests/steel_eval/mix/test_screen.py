"""The screen: the sign of what more weight on a source does, where gradients are known, and over one real run."""

import json

import pytest
import torch
from tests.steel_eval.mix.sources import SEARCH, world

from steel_data.engine import Local
from steel_data.errors import InputError
from steel_eval.mix.screen import pulls, screen_command
from steel_eval.mix.search import prepare_search


class Known:
    """Gradients by name, in place of a model's."""

    def __init__(self, **gradient_P):
        self.gradient_P = gradient_P

    def of(self, name):
        return torch.tensor(self.gradient_P[name])


def test_more_of_a_source_that_pulls_the_measures_way_lowers_it():
    known = Known(a=[1.0, 0.0], b=[0.0, 1.0], quiz=[1.0, 0.0], other=[0.0, 1.0])
    pull_KM = pulls(known, {"a": 0.5, "b": 0.5}, {"a": "a", "b": "b"}, {"quiz": "quiz", "other": "other"})
    assert pull_KM[0, 0] < 0 < pull_KM[1, 0] and pull_KM[0, 1] > 0 > pull_KM[1, 1]
    # doubling a: its weight grows by ln 2 of half, b shrinks by as much; a step of (1, 1) / 2 turns by (1, -1) ln 2 / 2
    assert pull_KM[0, 0] == pytest.approx(-0.5 * 0.6931 / 0.5**0.5, rel=1e-3)


def test_equal_sources_pull_nothing():
    known = Known(a=[1.0, 2.0], quiz=[1.0, 0.0])
    assert pulls(known, {"a": 0.7, "b": 0.3}, {"a": "a", "b": "a"}, {"quiz": "quiz"}).tolist() == [[0.0], [0.0]]


def test_questions_have_no_screen(tmp_path):
    search = prepare_search(world(tmp_path), None, tmp_path / "out", Local())
    tasks = search.settings.measure.model_copy(update={"held_out": None, "tasks": ["ceval"]})
    object.__setattr__(search, "settings", search.settings.model_copy(update={"measure": tasks}))
    with pytest.raises(InputError, match="a screen looks at the loss of sources' rows"):
        screen_command(search)


@pytest.mark.slow
def test_one_run_says_where_to_look(tmp_path, capsys):
    screen_command(prepare_search(world(tmp_path, search=SEARCH), None, tmp_path / "out", Local()))
    assert capsys.readouterr().out.startswith("A screen, of one run: which sources to look at")
    found = json.loads((tmp_path / "out/screen.json").read_text(encoding="utf-8"))
    assert found["screen"] is True and found["checkpoints"] >= 3 and set(found["effects"]) == {"chat", "exam", "noise"}
    assert found["effects"]["exam"]["exam"]["pull"] < 0  # exam rows teach exam
    assert list((tmp_path / "out/screen").glob("seed-*/result.json"))
