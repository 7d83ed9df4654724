"""The report: one file, data never markup, flaws named first, quick with thousands of questions."""

import asyncio
import json
import re

import numpy as np
import polars as pl
import pytest
from tests.chromium import browser, tab
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_data.page.chart import Line, Point
from steel_eval.cli import app
from steel_eval.report.page import curve, heading, reach, with_band, write_report

EVIL = "<script>alert('x')</script></script><img src=x onerror=alert(1)>\u202e"


def folder(place, step=1, n=40, question="问题", accuracy=0.4, seed=0, **more):
    """A score folder with prompts; `more` goes into scores.json."""
    place.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    right = generator.random(n) < accuracy
    subjects = ["agronomy" if i % 2 else "virology" for i in range(n)]
    items = [f"test/{s}/{i:05d}" for i, s in enumerate(subjects)]
    labels = ["ABCD"[i % 4] for i in range(n)]
    said = [label if r else "ABCD"[(i + 1) % 4] for i, (label, r) in enumerate(zip(labels, right, strict=True))]
    base = {"task": ["cmmlu"] * n, "subject": subjects, "item": items}
    logprob = {f"logprob_{c}": generator.normal(size=n).tolist() for c in "ABCD"}
    pl.DataFrame({**base, "label": labels, "prediction": said, **logprob, "raw": [""] * n}).write_parquet(
        place / "answers.parquet"
    )
    prompts = [f"开头{s}\n{question}{i}\nA. 甲\n答案：" for i, s in enumerate(subjects)]
    pl.DataFrame({**base, "prompt": prompts}).write_parquet(place / "prompts.parquet")
    share = float(right.mean())
    row = {
        "accuracy": share, "stderr": 0.02, "macro": share, "n": n, "invalid": 0, "accuracy_on_valid": share, "expected_if_guessed": share,
        "gold_probability": 0.25, "gold_bits_per_byte": 1.5, "groups": {"STEM": {"accuracy": share}}, "data_sha256": "d",
        "letters": {"predicted": {"A": n}, "label": {"A": n}, "always": 0.25}, "counts": {"truncated": 3},
    }  # fmt: skip
    scores = {
        "tasks": {"cmmlu": row},
        "step": step,
        "preset": "lm-eval",
        "shots": 5,
        "model": f"step-{step}",
        "model_fingerprint": "f",
    } | more
    (place / "scores.json").write_text(json.dumps(scores))
    return place


@pytest.fixture
def two(tmp_path):
    for name, base in (("a", "x" * 32), ("b", "y" * 32)):
        for step in (1, 2, 3):
            training = {"base": {"fingerprint": base}, "seed": 1}
            declared = {"cmmlu": {"1": 30, "3": 10}} if name == "b" else None
            folder(
                tmp_path / name / f"step-{step}",
                step,
                question=EVIL,
                seed=step,
                training=training,
                contamination=declared,
            )
    return [f"A={tmp_path / 'a'}", f"B={tmp_path / 'b'}"]


def test_nothing_from_data_is_markup_and_nothing_is_loaded_from_elsewhere(two, tmp_path):
    page = write_report([two[0], f"{EVIL}{two[1]}"], tmp_path / "r.html").read_text()
    assert "alert('x')</script>" not in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    task = data["tasks"]["cmmlu"]
    whole = task["starts"][task["subjects"][0]] + task["prompts"][0]
    assert whole.count("<script>") == 1  # the text itself is all there
    assert "\\u202e" in whole


def test_the_drill_down_holds_every_question_and_the_shared_beginning_once(two, tmp_path):
    page = write_report(two, tmp_path / "r.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    task = data["tasks"]["cmmlu"]
    assert len(task["items"]) == len(task["prompts"]) == 40
    assert task["starts"]["agronomy"].startswith("开头agronomy\n<script>")
    assert len(task["answers"]) == len(data["models"]) == 6
    assert data["models"][0] == "A @1"


def test_unlike_protocols_are_a_flaw_and_not_a_comparison(tmp_path):
    places = [str(folder(tmp_path / "a")), str(folder(tmp_path / "b", preset="cmmlu"))]
    page = write_report(places, tmp_path / "r.html").read_text()
    assert "Scores of different protocols stand side by side" in page
    assert "<h2>Differences</h2>" not in page


def test_curves_have_bands_and_name_the_bias_of_the_best(two, tmp_path):
    page = write_report(two, tmp_path / "r.html").read_text()
    assert page.count("<polygon") == 2
    assert "Picking the best of 3 equally good checkpoints would seem to gain" in page
    assert "&lt;b&gt;" in curve([Line("<b>", [Point(0, 0.3), Point(5, 0.4)])], 0.25)


def test_bands_end_where_accuracy_does():
    """Of two questions, both right, the band reached beyond 100 %; of one in fifty below nought."""
    few, many = with_band(5, 0.9, 0.2, "step 5"), with_band(5, 0.5, 0.02, "step 5")
    assert (few.low, few.high) == (pytest.approx(0.508), 1.0) and with_band(0, 0.02, 0.02, "").low == 0.0
    assert (many.low, many.high) == pytest.approx((0.4608, 0.5392))


def test_fixed_prompts_are_shown(two, tmp_path):
    row = {"kind": "identity", "prompt": "你是谁？", "answer": f"我是{EVIL}", "finished": False, "chat": True}
    (tmp_path / "a/step-3/showcase.json").write_text(json.dumps([row]))
    page = write_report(two, tmp_path / "r.html").read_text()
    assert "你是谁？" in page
    assert "cut off by length" in page
    assert "我是&lt;script&gt;" in page
    (tmp_path / "a/step-3/showcase.json").write_text(json.dumps([row | {"prompt": ["你是谁？"]}]))
    with pytest.raises(InputError, match=r"showcase\.json: is not what `score --showcase` writes: it\.prompt is "):
        write_report(two, tmp_path / "r.html")


def test_the_command(two, tmp_path):
    run = CliRunner().invoke(app, ["report", *two, "--out", str(tmp_path / "r.html")])
    assert run.exit_code == 0
    assert (tmp_path / "r.html").is_file()


@pytest.mark.slow
def test_a_browser_shows_thousands_of_questions_at_once(tmp_path):
    """Chromium opens a page of 12,000 questions in two seconds of its processor time, however busy the machine is."""
    if browser() is None:
        pytest.skip("no Chromium here")
    page = write_report([str(folder(tmp_path / "a", n=12_000, question=EVIL))], tmp_path / "r.html")

    async def looked():
        async with tab() as opened:
            await opened.ask("Performance.enable", timeDomain="threadTicks")
            await opened.open(page.as_uri())
            told = await opened.ask("Performance.getMetrics")
            return told, await opened.run("document.documentElement.outerHTML"), opened.said

    told, dom, said = asyncio.run(looked())
    assert {m["name"]: m["value"] for m in told["metrics"]}["TaskDuration"] < 2 and said == []
    assert "1–50 of 12,000" in dom
    assert dom.count('<details class="q">') == 50
    assert "<img src=x" not in dom.replace("&lt;img src=x", "")


def test_a_task_s_heading_says_what_its_curves_show():
    one, two = (
        Line(name, [Point(10, first), Point(30, last)]) for name, first, last in (("a", 0.3, 0.4), ("b", 0.5, 0.2))
    )
    assert heading("cmmlu", [one, two]) == "cmmlu: a ends highest, 40.0 %; b lowest, 20.0 %"
    assert heading("cmmlu", [one]) == "cmmlu: a goes from 30.0 % at step 10 to 40.0 % at step 30"
    assert heading("cmmlu", [Line("a", [Point(10, 0.3)])]) == "cmmlu: a scores 30.0 %"
    assert heading("cmmlu", []) == "cmmlu"


def test_bars_of_differences_have_room_for_the_widest_interval(two, tmp_path):
    page = write_report(two, tmp_path / "r.html").read_text()
    bars = re.findall(r'<i style="left:([\d.]+)%;width:([\d.]+)%"', page)
    assert bars and all(float(left) >= 0 and float(left) + float(width) <= 100.1 for left, width in bars)
    assert [reach([{"low": low, "high": 0.01}]) for low in (-0.04, -0.11, -0.9)] == [5, 20, 100]
