"""The page of `leak` (apart: what stands on it is Python, how it looks a template). Works from file://."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steel_data.chinese import language
from steel_data.page.templates import environment
from steel_eval.contamination.verdict import Verdict
from steel_eval.leak.judge import Finding

Told = tuple[dict[str, Any], list[Finding], Path]  # a task: what is known of it (as in leak.json), findings, its items


def write_page(model: str, verdicts: Sequence[Verdict], tasks: Sequence[Told], error_rates: Sequence[str]) -> str:
    """Return the HTML page of what `leak` found of a model; `error_rates`: what is known of them, in lines."""
    page: str = (
        environment(Path(__file__).parent)
        .get_template("leak.html.j2")
        .render(model=model, verdicts=verdicts, tasks=tasks, error_rates=error_rates, first=language())
    )
    return page
