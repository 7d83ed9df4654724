"""One of each page that steel writes, from toy rows and results: for the test in a browser."""

import dataclasses
from pathlib import Path

import numpy as np
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl
from tests.steel_eval.audit.test_run import data_at
from tests.steel_eval.mix.test_page import surface
from tests.steel_eval.report.test_page import folder
from tests.steel_eval.study.test_page import RESULTS
from tests.steel_eval.trial.test_results import SETTINGS, found, page

from steel_data.analyze.analysis import analyze
from steel_data.analyze.facts import facts
from steel_data.analyze.page import write_page as write_analysis
from steel_data.build import build
from steel_data.recipe.load import load
from steel_eval.audit.run import audit_command
from steel_eval.contamination.verdict import Inflation, Verdict
from steel_eval.leak.judge import Finding
from steel_eval.leak.page import write_page as write_leak
from steel_eval.mix.page import write_page as write_mix
from steel_eval.report.page import write_report
from steel_eval.study.page import write_page as write_study
from steel_eval.trial.page import write_page as write_trial
from steel_eval.trial.results import compared

RECIPE = """name = "toy"
filters = [{ use = "language", keep = ["zh"] }, { use = "decontaminate", benchmarks = ["bench"] }, { use = "dedup" }]
[source.chat]
path = "rows.jsonl"
[source.again]
path = "rows2.jsonl"
[source.leak]
path = "bench"
build = { use = "contaminate", split = "test", doses = { 1 = 6, 3 = 4 } }
allow_test_split = "a study of it"
"""


def every_page(root: Path) -> dict[str, Path]:
    """Return name -> file of each page, written below `root`."""
    return dict(sorted({**_data(root / "data"), **_eval(root / "eval")}.items()))


def _data(root: Path) -> dict[str, Path]:
    root.mkdir(parents=True)
    write_cmmlu(root)
    rows = [
        {"instruction": f"请说明第{i}件事：{r['instruction']}", "output": r["output"] * 3}
        for i, r in enumerate(chat_rows(40))
    ]
    english = {"instruction": "This is an English sentence about words.", "output": "It is dropped, of course."}
    write_jsonl(root / "rows.jsonl", [*rows, *rows[:9], english])
    (root / "rows2.jsonl").write_text((root / "rows.jsonl").read_text(encoding="utf-8") + "{broken\n", encoding="utf-8")
    (root / "toy.toml").write_text(RECIPE, encoding="utf-8")
    built = build(load(root / "toy.toml"), data_root=root, out=root / "mixture", cache=root / "cache")
    write_analysis(root / "analysis.html", facts(analyze([str(root / "rows2.jsonl")], benchmarks=[], workers=1)))
    return {"card": built.folder / "card.html", "analysis": root / "analysis.html"}


def _eval(root: Path) -> dict[str, Path]:
    for arm, accuracy in (("a", 0.3), ("b", 0.55)):
        for step in (10, 20, 30):
            declared = {"cmmlu": {"1": 30, "3": 10}} if arm == "b" else None
            training = {"base": {"fingerprint": "x" * 32}, "seed": 1}
            folder(root / arm / f"step-{step}", step, n=120, question="下列说法正确的是第几项", accuracy=accuracy, seed=step,
                   training=training, contamination=declared)  # fmt: skip
    report = write_report([f"base={root / 'a'}", f"tuned={root / 'b'}"], root / "report.html")
    finding = Finding(**{f.name: _plausible(f.name) for f in dataclasses.fields(Finding)})
    verdict = Verdict(
        name="cmmlu", mixture="holds 40 of 120 items; the rows are named", seen="yes",
        finding="It was trained on rows that hold them; the model shows it too (set-level p 0.003, one-sided).",
        false_alarm_rate=0.05, inflation=Inflation(4.2, 1.0, 7.4), smallest_detectable=3.0, limits="any leak, with 4 controls",
    )  # fmt: skip
    about = {"task": "cmmlu", "form": "chat", "controls": "left out of the mixture", "of": 120, "in_mixture": 40, "set_test": None, "compared_with": "base",
             "notes": ["fewer than 8 controls"]}  # fmt: skip
    pages = {
        "study": write_study(RESULTS | {"name": "study-toy"}),
        "mix": write_mix(surface(root / "mix")),
        "trial": write_trial(page(compared(found(1.5), SETTINGS))),
        "leak": write_leak("/home/somebody/runs/exp3/checkpoint-500", [verdict], [(about, [finding], Path("items/cmmlu.parquet"))],
                           ["min-k: 12 of 100 seen items at 5 % false alarms"]),
    }  # fmt: skip
    for name, text in pages.items():
        (root / f"{name}.html").write_text(text, encoding="utf-8")
    audit_command([], ["cmmlu"], data_at(root / "questions"), None, root)
    return {"report": report, "audit": root / "audit.html"} | {name: root / f"{name}.html" for name in pages}


def _plausible(name):
    known = {"measure": "min-k", "items": 40, "controls": 60, "flags": 3, "rates": None}
    return known.get(name, float(np.float64(0.5)))
