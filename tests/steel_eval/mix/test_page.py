"""The page and what is printed: the verdict first, a picture for any number of sources, and nothing of the data's acts."""

import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from tests.sentences import english
from tests.steel_eval.mix.sources import measured_runs, pool

from steel_data.row import display
from steel_data.row.display import Lines
from steel_eval.mix.design import make_space
from steel_eval.mix.page import bar, write_page
from steel_eval.mix.print import print_surface
from steel_eval.mix.results import surface_of
from steel_eval.mix.settings import read_search

EVIL = "<script>alert(1)</script>\x1b[31m"


def surface(tmp_path, names=("chat", "exam", "code"), flat=False, measure="exam"):
    own = dict(zip(names, np.full(len(names), 1 / len(names)), strict=True))
    of = pool(own=own, vary=tuple(own), there=dict.fromkeys(own, 90_000), copies=dict.fromkeys(own, 4))
    space = make_space("r", own, {}, dict.fromkeys(own, 1.0))
    settings = read_search({"measure": {"held_out": [measure]}}, "r.toml")
    truth = {measure: (lambda w: 0 * w[:, 0]) if flat else lambda w: 3 - np.log(w[:, 1])}
    found = surface_of(of, space, settings, measured_runs(of, space, tmp_path, truth, 0.02, runs=5 * len(names)))
    return found | {"name": "r", "tokens": {"arm": 1000, "recipe": 5000, "proposal": 5000}, "train": {"epochs": 1}}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_verdict_comes_first_and_every_number_of_sources_has_its_picture(tmp_path, count):
    page = english(write_page(surface(tmp_path, ["chat", "exam", "code", "news", "books"][:count])))
    assert page.index("Verdict: another mixture is better") < page.index("<h2>Shares") < page.index("<svg")
    assert page.count('role="img"') == 2 and page.count('class="bar"') == count
    assert all(f'<td class="l">{kind}</td>' in page for kind in ("centre", "design"))
    assert "nan" not in re.sub(r"[\w-]*nan[\w-]+", "", page)


def test_names_of_the_data_do_not_act(tmp_path):
    found = surface(tmp_path, ("chat", EVIL, "code"), measure=EVIL)
    found["failed"] = {EVIL: EVIL}
    for page in (english(write_page(found)), english(write_page(surface(tmp_path, ("chat", EVIL), measure=EVIL))),
                 english(write_page(surface(tmp_path, ("chat", EVIL, "a", "b"), measure=EVIL)))):  # fmt: skip
        assert page.count("<script") == 1 and "\x1b" not in page and "&lt;script&gt;" in page


def test_what_is_printed_begins_with_the_verdict_and_fits_a_terminal(tmp_path, capsys, monkeypatch):
    found, out = surface(tmp_path), io.StringIO()
    terminal = Lines(file=out, width=80, force_terminal=True, color_system=None, highlight=False)
    with monkeypatch.context() as patch:
        patch.setattr(display, "Lines", lambda **_: terminal)
        print_surface(found, tmp_path)
    text = out.getvalue()
    assert text.startswith("Verdict: another mixture is better than the recipe's own: gain +")
    lines = text.replace(str(tmp_path), "runs/mine").splitlines()  # a path stays whole, and this one's length is chance
    assert max(map(len, lines)) <= 80 and "0.333" in text and "not shown worse" in text
    found = surface(tmp_path, flat=True)
    found["failed"] = {"arm-01, seed 7": EVIL}
    print_surface(found, tmp_path, confirm=3)
    text = capsys.readouterr().out
    assert text.startswith("Verdict: nothing to choose here: ") and "proposed" not in text
    assert "Nothing to confirm" in text and "\x1b" not in text and "The surface stands on the other 19 runs" in text


def test_what_cannot_be_measured_has_a_page_too(tmp_path):
    found = surface(tmp_path)
    nothing = found | {
        "verdict": "not-measurable", "why": "at chance", "proposal": None, "gain": None, "lowest": None, "effects": {},
        "loo_error": None, "refused": {"exam": "at chance"}, "tokens": {"arm": 1, "recipe": 1, "proposal": None},
    }  # fmt: skip
    page = english(write_page(nothing))
    assert "Verdict: not measurable: at chance." in page and "<svg" not in page


def test_a_bar_is_coloured_by_what_is_shown():
    better, worse, neither = (
        bar({"low": a, "per_doubling": 0, "high": b}, 1, True) for a, b in ((-1, -0.1), (0.1, 1), (-1, 1))
    )
    assert "#0072b2" in better and "#d55e00" in worse and "#7f7f7f" in neither
    assert "#d55e00" in bar({"low": -1, "per_doubling": 0, "high": -0.1}, 1, False)
    assert "#7f7f7f" in bar({"low": -1, "per_doubling": 0, "high": -0.1}, 1, False, "not shown")  # after Holm


@pytest.mark.slow
def test_a_browser_shows_the_page(tmp_path):
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None:
        pytest.skip("no Chromium here")
    (tmp_path / "mix.html").write_text(english(write_page(surface(tmp_path))), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    command = [browser, *options, (tmp_path / "mix.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True).stdout
    assert dom.count("<svg") == 5 and "proposed" in dom
