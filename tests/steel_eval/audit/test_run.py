"""`audit` from folder to page: verdict first, data escaped, texts alone where nothing was scored."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.audit.run import audit_command
from steel_eval.cli import app

ROWS = """,Question,A,B,C,D,Answer
0,下列金属中最硬的是<script>alert(1)</script>,铁,铁,金,银,A
1,水的化学式是,H2O,CO2,O2,N2,A
"""


def data_at(folder: Path) -> Path:
    (folder / "cmmlu/test").mkdir(parents=True)
    (folder / "cmmlu/test/agronomy.csv").write_text(ROWS)
    return folder


def test_texts_alone_are_audited_and_markup_in_them_is_inert(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["audit", "--tasks", "cmmlu", "--data", str(data_at(tmp_path)), "--out", str(tmp_path / "o")]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Verdict: 1 of 2 questions")
    results = json.loads((tmp_path / "o/audit.json").read_text())
    assert results["counts"] == {"equal-options": 1} and results["findings"][0]["key"] == "A"
    page = (tmp_path / "o/audit.html").read_text()
    assert "&lt;script&gt;" in page and page.count("<script>") == 1


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing there"):
        audit_command([str(tmp_path / "no")], ["cmmlu"], data_at(tmp_path / "d"), None, tmp_path / "o")
