"""A trial in print and as a page (apart: what is shown is decided in results)."""

from pathlib import Path
from typing import Any

from rich.markup import escape

from steel_data.chinese import language, say
from steel_data.page.templates import environment
from steel_data.row.display import command, plain_table, print_line, print_next, print_table
from steel_eval.mix.page import bar
from steel_eval.trial.recipes import inline
from steel_eval.trial.results import sentences


def print_trial(trial: dict[str, Any], folder: Path) -> None:
    """Print what a trial shows (the content of `trial.json`)."""
    for line in sentences(trial):
        print_line(say(line))
    table = plain_table("arm", "against", f"gain, {trial['unit']}", "95 % interval", "p (Holm)", "", left=2)
    for t in trial["tests"]:
        interval = f"{t['low']:+.4f} to {t['high']:+.4f}"
        table.add_row(escape(t["arm"]), t["control"], f"{t['value']:+.4f}", interval, f"{t['holm']:.2g}", t["verdict"])
    print_table(table)
    for name in ("trial.json", "trial.html"):
        print(folder / name)
    print_next(f"{command('open', folder / 'trial.html')} opens the page")


def write_page(trial: dict[str, Any]) -> str:
    """Return the HTML page of `trial.json`'s content."""
    reach = max((abs(t[k]) for t in trial["tests"] for k in ("low", "high")), default=1.0)
    drawn = []
    for t in trial["tests"]:
        interval = {"per_doubling": t["value"], "low": t["low"], "high": t["high"]}
        drawn.append({**t, "bar": bar(interval, reach, False, t["verdict"])})
    selects = {name: _written(arm["select"]) for name, arm in trial["arms"].items()}
    page: str = (
        environment(Path(__file__).parent)
        .get_template("trial.html.j2")
        .render(t_=trial, tests=drawn, selects=selects, sentences=sentences(trial), first=language())
    )
    return page


def _written(select: Any) -> str:
    """Return an arm's `select`, or the tables laid over a recipe, as a recipe has them; a file's name as it is."""
    return inline(select)[2:-2] if isinstance(select, dict) else str(select)
