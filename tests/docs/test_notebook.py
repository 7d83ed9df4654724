"""The notebook runs from top to bottom in an empty folder, and its cells show what their text promises; no jupyter."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/tutorials/mixture.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last line where that is an expression, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NOTEBOOK.name, "exec"), names)
    return eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names) if last else None  # type: ignore[attr-defined]


@pytest.mark.slow
def test_cells_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    names: dict[str, Any] = {"__name__": "__main__"}
    values = [shown("".join(cell["source"]), names) for cell in cells("code")]
    table, reasons, (all_rows, fewer), (columns, exported) = (
        value for value in values if value is not None and not hasattr(value, "returncode")
    )
    assert "<table" in table._repr_html_() and "infinity" in table._repr_html_()
    assert sum(reasons.values()) > 0
    assert fewer < all_rows == exported
    assert "messages" in columns
    printed = capsys.readouterr().out
    assert "user: " in printed and "assistant: " in printed
    assert re.search(r"^dropped by (dedup|decontaminate)$", printed, re.M)
    assert not re.search(r"^repeats: *$", printed, re.M)  # the witness is there


def test_nothing_of_a_run_is_committed() -> None:
    """Outputs and counters change with every run and hide what changed in the text."""
    for cell in cells("code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None


def test_links_lead_somewhere() -> None:
    text = "".join("".join(cell["source"]) for cell in cells("markdown"))
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links and all((NOTEBOOK.parent / link).is_file() for link in links)
