"""The pages: what lies in the folder and what was asked for -> HTML. No page holds a script; a form asks by its URL."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from glob import escape as no_glob
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from steel.ui.folder import Found, look, manifest_of, metrics, results
from steel.ui.questions import MOST, ONLY, QUESTIONS, Asked, Column, accuracy, columns, heat, listed, one, tasks
from steel.ui.search import Wanted, find, names, row_at
from steel_data.errors import InputError, first_line, nearest
from steel_data.page.chart import Axis, Line, Point, line_chart
from steel_data.page.templates import environment
from steel_data.row.display import shortened, turns
from steel_data.row.record import KINDS
from steel_eval.compare.pair import Comparison, compare_arms
from steel_eval.report.page import ACCURACY, heading, with_band

_CHARS, _TURNS = 600, 6  # of a row in a list
_WHOLE = 200_000  # characters of a turn in a row's own page
_POINTS = 600  # of a curve
_LISTED = 300  # runs and mixtures of the first page
_NONE = dict.fromkeys(
    ("id", "copy", "source", "language", "kind", "origin_file", "origin_row", "benchmark", "item", "dose", "chars",
     "meta", "step", "reason", "witness_id", "witness_text", "error")
)  # fmt: skip
METRICS = ("accuracy", "macro", "gold_probability")
_STEP = Axis(label="step", least=1)


@dataclass(frozen=True)
class Site:
    """The folder that is shown, and the beginning of every address: `/TOKEN`.

    `tongue`: the language of a page, en or zh; `other`: the address of the same page in the other one.
    """

    root: Path
    start: str
    tongue: str = "en"
    other: str = ""

    def url(self, view: str, place: str = "", **query: Any) -> str:
        """Return the address of a view of a place, with what is not empty of the query."""
        said = {key: value for key, value in query.items() if value not in ("", None, 0, False)}
        return f"{self.start}/{view}/{quote(place)}" + (f"?{urlencode(said)}" if said else "")


Query = Mapping[str, str]


def page(site: Site, view: str, place: str, query: Query) -> str:
    """Return the HTML of a view. Raises InputError for what is not there or cannot be read."""
    views = {
        "": _index, "rows": _rows, "row": _row, "run": _run, "questions": _questions, "question": _question,
        "compare": _compare,
    }  # fmt: skip
    if view not in views:
        raise InputError(f"no page is called '{view}'.{nearest(view, [name for name in views if name])}")
    return views[view](site, look(site.root), place, query)


def seconds_to_reload(html: str) -> int | None:
    """Return after how many seconds a page is to be asked for again, None where it is not: it says so itself.

    A header does it, not an element: so a link stops it, as whoever reads slowly needs (WCAG 2.2.1).
    """
    found = re.search(r'<body data-reload="(\d+)">', html)
    return int(found[1]) if found else None


def stylesheet() -> str:
    """Return the one stylesheet: that of all pages, and what only these have."""
    folder = Path(__file__).parent
    return "\n".join(environment(folder).get_template(name).render() for name in ("page.css", "ui.css"))


def exported(site: Site, place: str) -> bytes:
    """Return a page that another command wrote (card.html, report.html, …)."""
    found: Path = _known(look(site.root).pages, place, "page")
    return found.read_bytes()


def error(site: Site, message: str) -> str:
    """Return the page that says in one line what is wrong."""
    return _render(site, "error.html.j2", title="Not shown", message=message)


def _render(site: Site, template: str, **seen: Any) -> str:
    made = environment(Path(__file__).parent, only=site.tongue)
    made.filters["n"] = "{:,}".format
    about = {"url": site.url, "start": site.start, "root": site.root.resolve().name}
    return str(made.get_template(template).render(**about, tongue=site.tongue, other=site.other, **seen))


def _known(places: Mapping[str, Any], place: str, what: str) -> Any:
    if place not in places:
        raise InputError(f"'{place}': no {what} of this path is here.{nearest(place, places, show_known=False)}")
    return places[place]


def _number(query: Query, name: str) -> int:
    text = query.get(name) or "0"
    if not text.isdecimal() or len(text) > 12:
        raise InputError(f"{name} = '{text}': no number. Fix: a whole number from 0.")
    return int(text)


# the first page


def _index(site: Site, found: Found, place: str, query: Query) -> str:
    runs = [_run_line(site, found, key) for key in sorted({*found.runs, *found.scored})[:_LISTED]]
    mixtures = [_mixture_line(found, key) for key in sorted(found.mixtures)[:_LISTED]]
    covered = {_card(found, key) for key in found.mixtures}
    pages = [key for key in sorted(found.pages) if key not in covered]
    total = len({*found.runs, *found.scored}) + len(found.mixtures)
    return _render(
        site, "index.html.j2", title="Runs", runs=runs, mixtures=mixtures, pages=pages[:_LISTED],
        arms=sorted(found.scored), hidden=max(0, total - len(runs) - len(mixtures)), more=found.more, metrics=METRICS,
    )  # fmt: skip


def _run_line(site: Site, found: Found, key: str) -> dict[str, Any]:
    """Return what the first page says of a run; what is damaged in it, in one line."""
    line: dict[str, Any] = {"key": key, "step": None, "loss": None, "scores": [], "checkpoints": 0, "fault": ""}
    with _fault_told(line):
        if key in found.runs:
            steps, _ = metrics(found.runs[key])
            last = next((entry for entry in reversed(steps) if _is_number(entry.get("loss"))), None)
            line |= {"step": steps[-1]["step"] if steps else None, "loss": last["loss"] if last else None}
        if key in found.scored:
            shown, _ = columns(results(found.scored[key]), site.root / key)
            line["checkpoints"] = len(shown)
            line["scores"] = [(task, accuracy(shown[-1], task)) for task in tasks(shown[-1:])]
    return line


@contextmanager
def _fault_told(line: dict[str, Any]) -> Iterator[None]:
    """Put into a line of the first page what is damaged in its files: the other lines are shown all the same."""
    try:
        yield
    except (InputError, OSError) as fault:
        line["fault"] = str(fault)
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        line["fault"] = f"its files are of another shape than steel's: {first_line(fault)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # NaN is none


def _mixture_line(found: Found, key: str) -> dict[str, Any]:
    line: dict[str, Any] = {
        "key": key, "rows": None, "tokens": None, "dropped": None, "fault": "", "contaminated": [],
        "card": _card(found, key),
    }  # fmt: skip
    with _fault_told(line):
        manifest = manifest_of(found.mixtures[key])
        line |= {"rows": manifest.get("rows"), "tokens": manifest.get("tokens")}
        line["dropped"] = sum(_reasons(manifest).values())
        line["contaminated"] = sorted(manifest.get("contamination") or ())
    return line


def _card(found: Found, mixture: str) -> str:
    """Return which page is a mixture's data card, "" where it has none that is shown."""
    page = f"{mixture}/card.html".lstrip("/")
    return page if page in found.pages else ""


# rows of a mixture


def _reasons(manifest: Mapping[str, Any]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for account in (manifest.get("sources") or {}).values():
        for reason, rows in (*(account.get("dropped") or {}).items(), ("unreadable", account.get("unreadable") or 0)):
            if rows:
                reasons[reason] = reasons.get(reason, 0) + rows
    return dict(sorted(reasons.items(), key=lambda one: -one[1]))


def _rows(site: Site, found: Found, place: str, query: Query) -> str:
    folder = _known(found.mixtures, place, "mixture")
    manifest = manifest_of(folder)
    fields = ("source", "kind", "language", "reason", "id", "text")
    dropped = query.get("part") == "dropped"
    said = {key: query.get(key, "") for key in fields if dropped or key != "reason"}
    wanted = Wanted(dropped=dropped, start=_number(query, "start"), **said)  # type: ignore[arg-type]
    hits = find(folder, names(folder, manifest, dropped), wanted)
    asked = {"part": "dropped" if dropped else "", **said}
    return _render(
        site, "rows.html.j2", title=place or site.root.name, place=place, wanted=wanted, hits=hits,
        rows=[(where, _NONE | row, shortened(turns(row), _CHARS, _TURNS)) for where, row in hits.rows],
        sources=list(manifest.get("sources") or ()), languages=list(manifest.get("languages") or ()), kinds=KINDS,
        reasons=_reasons(manifest), asked=asked, card=_card(found, place),
    )  # fmt: skip


def _row(site: Site, found: Found, place: str, query: Query) -> str:
    folder = _known(found.mixtures, place, "mixture")
    dropped = query.get("part") == "dropped"
    file, at = query.get("file", ""), _number(query, "at")
    row = _NONE | row_at(folder, names(folder, manifest_of(folder), dropped), file, at)
    return _render(
        site, "row.html.j2", title=f"{row['source']} {row['origin_row']}", place=place, row=row, file=file, at=at,
        parts=shortened(turns(row), _WHOLE, 10_000), dropped=dropped,
    )  # fmt: skip


# a run: its losses and its scores


def _run(site: Site, found: Found, place: str, query: Query) -> str:
    _known({**found.runs, **found.scored}, place, "run")
    steps, damaged = metrics(found.runs[place]) if place in found.runs else ([], 0)
    running = bool(steps) and place in found.runs and not (found.runs[place] / "result.json").is_file()
    shown: list[Column] = []
    presets: list[str] = []
    fault = ""
    if place in found.scored:
        try:
            shown, presets = columns(results(found.scored[place]), site.root / place, query.get("preset", ""))
        except (InputError, OSError) as error:
            fault = str(error)
    shown = shown[-MOST:]
    scored = [
        {"name": task, "title": heading(task, lines), "curve": _score_curve(lines), "heat": heat(shown, task),
         "all": [accuracy(column, task) for column in shown]}
        for task in tasks(shown) for lines in [_score_lines(shown, task)]
    ]  # fmt: skip
    return _render(
        site, "run.html.j2", title=place or site.root.name, place=place, losses=_loss_curves(steps), steps=steps,
        looks=_task_curves(steps),
        damaged=damaged, running=running, still=query.get("still"),
        columns=[column.name for column in shown], presets=presets, scored=scored,
        preset=query.get("preset", ""), fault=fault,
    )  # fmt: skip


def _loss_curves(steps: list[dict[str, Any]]) -> str:
    """Return the SVG of the loss, by source and held out where that is known; "" where no step has a loss."""
    series: dict[str, list[Point]] = {}
    for entry in steps:
        by_source = entry.get("loss_by_source")
        for name, value in {"all": entry.get("loss"), **(by_source if isinstance(by_source, dict) else {})}.items():
            if _is_number(value) and abs(value) < 1e9:
                series.setdefault(str(name), []).append(Point(entry["step"], float(value)))
    if len(series) == 2:
        series = {"all": series["all"]} if "all" in series else series  # one source: the same line twice
    held_out = [e for e in steps if _is_number(e.get("eval_loss")) and abs(e["eval_loss"]) < 1e9]
    if held_out:
        series = {"held out": [Point(e["step"], float(e["eval_loss"])) for e in held_out], **series}
    lines = [Line(name, _thinned(points), total=name == "all") for name, points in list(series.items())[:9]]
    return line_chart(lines, _STEP, Axis(label="training loss")) if lines else ""


def _task_curves(steps: list[dict[str, Any]]) -> str:
    """Return the SVG of what tasks scored while the run trained; "" where none was asked for."""
    series: dict[str, list[Point]] = {}
    for entry in steps:
        by_task = entry.get("eval_task_accuracy")
        for task, value in (by_task if isinstance(by_task, dict) else {}).items():
            if _is_number(value):
                series.setdefault(str(task), []).append(
                    Point(entry["step"], float(value), words=f"{100 * value:.1f} %")
                )
    lines = [Line(name, _thinned(points)) for name, points in list(series.items())[:9]]
    return line_chart(lines, _STEP, ACCURACY) if lines else ""


def _thinned(points: list[Point]) -> list[Point]:
    """Return at most _POINTS of a line's points, the last among them."""
    step = max(1, -(-len(points) // _POINTS))
    return [*points[:-1:step], points[-1]]


def _score_lines(shown: list[Column], task: str) -> list[Line]:
    """Return an accuracy over steps, a line a seed."""
    lines: dict[str, list[Point]] = {}
    for column in shown:
        value, step = accuracy(column, task), column.result.step
        if value is not None and step >= 0:
            name = column.name.rpartition("/")[0] or "accuracy"
            error = column.result.scores["tasks"][task].get("stderr")
            words = f"{column.name}: {100 * value:.1f} %"
            lines.setdefault(name, []).append(with_band(step, value, error if _is_number(error) else 0.0, words))
    return [Line(name, points) for name, points in lines.items()]


def _score_curve(lines: list[Line]) -> str:
    """Return the SVG of an accuracy over steps; "" where no line has two points."""
    return line_chart(lines, _STEP, ACCURACY) if max((len(line.points) for line in lines), default=0) > 1 else ""


# questions


def _columns(site: Site, found: Found, place: str, query: Query) -> list[Column]:
    folders = _known(found.scored, place, "score")
    return columns(results(folders), site.root / place, query.get("preset", ""))[0]


def _questions(site: Site, found: Found, place: str, query: Query) -> str:
    shown = _columns(site, found, place, query)
    of = tasks(shown)
    task = query.get("task") or (of[0] if of else "")
    _known(dict.fromkeys(of), task, "task")
    asked = Asked(
        task=task, subject=query.get("subject", ""), only=query.get("only") or "all", text=query.get("text", ""),
        start=_number(query, "start"),
    )  # fmt: skip
    rows, total = listed(shown, asked)
    end = asked.start + QUESTIONS
    return _render(
        site, "questions.html.j2", title=f"Questions of {task}", place=place, rows=rows, total=total, asked=asked,
        only=ONLY, tasks=of, subjects=sorted(subject for subject, _ in heat(shown, task)),
        preset=query.get("preset", ""), next=replace(asked, start=end) if end < total else None,
    )  # fmt: skip


def _question(site: Site, found: Found, place: str, query: Query) -> str:
    shown = _columns(site, found, place, query)
    task, item = query.get("task", ""), query.get("item", "")
    _known(dict.fromkeys(tasks(shown)), task, "task")
    return _render(
        site, "question.html.j2", title=item, place=place, task=task, item=item, preset=query.get("preset", ""),
        **one(shown, task, item),
    )  # fmt: skip


# two arms


def _compare(site: Site, found: Found, place: str, query: Query) -> str:
    arms = {name: query.get(name, "") for name in "ab"}
    for key in arms.values():
        _known(found.scored, key, "score")
    if arms["a"] == arms["b"]:
        raise InputError("A and B are the same. Fix: two different arms.")
    metric = query.get("metric") or "accuracy"
    if metric not in METRICS:
        raise InputError(f"metric '{metric}': unknown.{nearest(metric, METRICS)}")
    folders = {name: (site.root / key).resolve() for name, key in arms.items()}
    if any("=" in folder.as_posix() for folder in folders.values()):
        raise InputError("a path with '=' in it cannot be compared here. Fix: rename the folder.")
    patterns = [f"{name.upper()}={no_glob(folder.as_posix())}" for name, folder in folders.items()]
    made = compare_arms(patterns, Comparison(metric=metric, preset=query.get("preset") or None))
    return _render(
        site, "compare.html.j2", title=f"{arms['b']} against {arms['a']}", arms=arms, metric=metric, metrics=METRICS,
        tests=[asdict(test) for test in made], preset=query.get("preset", ""), every=sorted(found.scored),
    )  # fmt: skip
