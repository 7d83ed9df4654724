"""One self-contained HTML page over score folders: curves, groups, differences, questions, provenance, flaws.

Nothing is loaded from elsewhere; it works from file://. Texts from data and models are data in the page (JSON, set as
text), never markup. Questions are drawn fifty at a time, so thousands do not freeze the browser.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import typer
from pydantic import TypeAdapter, ValidationError

from steel_data.benchmarks.items import LETTERS
from steel_data.chinese import catalogue, chinese, language, say
from steel_data.errors import InputError
from steel_data.page.chart import Axis, Line, Point, line_chart
from steel_data.page.nav import REPORT, publish
from steel_data.page.templates import environment
from steel_data.row.display import command, one_line, print_next, visible
from steel_data.shapes import misfits
from steel_eval.compare.pair import Comparison, Test, compare_arms
from steel_eval.compare.runs import Arm, Result, load_arm
from steel_eval.contamination.items import card_of
from steel_eval.contamination.label import MARK, Mark, comparison_warning, declared_words
from steel_eval.contamination.verdict import print_block
from steel_eval.report.flaws import find_flaws
from steel_eval.report.marks import Marks, Sources, by_arm, find_marks
from steel_eval.report.verdict import headline, last_score, mark_verdict
from steel_eval.score.folder import PROMPTS, read_json, read_table
from steel_eval.stats import paired as stats


def reference_results() -> dict[str, Any]:
    """Return published results with protocol and source, and the warning that belongs to them."""
    return tomllib.loads(Path(__file__).with_name("reference_results.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Shown:
    """One checkpoint of a run of an arm."""

    arm: Arm
    run: list[Result]
    result: Result

    @property
    def seed(self) -> str:
        """Return the arm's name, with the seed's number where there are several."""
        number = f" #{self.arm.runs.index(self.run) + 1}" if len(self.arm.runs) > 1 else ""
        return visible(f"{self.arm.name}{number}")

    @property
    def name(self) -> str:
        """Return the seed's name with the step."""
        return self.seed + (f" @{self.result.step}" if self.result.step >= 0 else "")


_ANSWERED = {"kind": str, "prompt": str, "answer": str, "finished": bool, "chat": bool}  # a row of showcase.json
MOST_RESULTS = 24  # checkpoints with single questions in the page: the last ones of each run


def write_report(
    places: Sequence[str], out: Path, tests: Path | None = None, preset: str | None = None,
    sources: Sources = Sources(),  # noqa: B008 - frozen
) -> Path:  # fmt: skip
    """Write the page; print its first sentences, and where it lies.

    `places`: score folders, runs or `NAME=pattern`; `tests`: a file that `compare --out` wrote; `sources`: where to
    look for what the models saw in training.
    """
    arms = [load_arm(place, preset) for place in places]
    checkpoints = [Shown(arm, run, result) for arm in arms for run in arm.runs for result in run]
    tasks = sorted({task for c in checkpoints for task in c.result.scores["tasks"]})
    marks = find_marks(arms, sources)
    compared = _written(tests) if tests else _compared(places, preset)
    compared = [_relabelled(test, arms, marks) for test in compared]
    verdicts = [
        mark_verdict(m, Shown(a, run, run[-1]).seed, last_score(run, task))
        for task in tasks for a, of_arm in zip(arms, marks[task], strict=True)
        for run, m in zip(a.runs, of_arm, strict=True)
    ]  # fmt: skip
    said = headline(arms, compared, tasks)
    for line in said:
        typer.echo(one_line(say(line)))
    print_block(verdicts)
    script = Path(__file__).with_name("report.js").read_text(encoding="utf-8")
    questions = _questions(arms, checkpoints, tasks, marks)
    labels = {h["label"]: chinese(h["label"]) or h["label"] for t in questions["tasks"].values() for h in t["held"]}
    page = (
        environment(Path(__file__).parent)
        .get_template("report.html.j2")
        .render(
            arms=arms,
            headline=said or ["Nothing was scored that has an accuracy."],
            first=language(),
            script=script,
            words=_inert(
                {text: catalogue().get(text, text) for text in re.findall(r'say\("([^"]*)"', script)} | labels
            ),
            warnings=list(dict.fromkeys(t["warning"] for t in compared if t["warning"])),
            tasks=[_task(task, arms, marks[task]) for task in tasks],
            tests=compared,
            reach=reach(compared),
            verdicts=verdicts,
            flaws=find_flaws(arms, compared, marks),
            references=reference_results(),
            provenance=[_provenance(c) for c in checkpoints],
            showcase=_showcase(checkpoints),
            data=_inert(questions),
        )
    )
    publish(out, page, REPORT, _pages(arms, sources))
    typer.echo(out)
    print_next(f"{command('open', out)} opens the page")
    return out


def _inert(data: Any) -> str:
    """Return data as JSON that a script element can hold: `<` would end it."""
    return orjson.dumps(data).decode().replace("<", "\\u003c")


def _pages(arms: Sequence[Arm], sources: Sources) -> dict[str, Path | None]:
    """Return the pages of the same runs: each arm's data card, and those of `leak` that were named."""
    cards = {f"Data card of {arm.name}": card_of(arm.runs[0][0].folder) for arm in arms}
    leaks = {
        f"Has {name} seen the benchmark?": place / "leak.html"
        for name, place in by_arm("--leak", sources.leaks, arms).items()
    }
    return cards | leaks


def _compared(places: Sequence[str], preset: str | None) -> list[dict[str, Any]]:
    if len(places) < 2:
        return []
    try:
        return [asdict(test) for test in compare_arms(places, Comparison(preset=preset, groups=True))]
    except InputError:
        return []  # nothing to compare alike: the page says so among the flaws


def _written(file: Path) -> list[dict[str, Any]]:
    """Return the comparisons of a file. Raises InputError for one that `compare --out` did not write."""
    tests = read_json(file, "Fix: what `compare --out` wrote.")
    try:
        return [asdict(test) for test in TypeAdapter(list[Test]).validate_python(tests)]
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise InputError(
            f"{file}: is not what `compare --out` writes: {'.'.join(map(str, fault['loc']))}: {fault['msg']}. "
            "Fix: compare again."
        ) from None


def _relabelled(test: Mapping[str, Any], arms: Sequence[Arm], marks: Marks) -> dict[str, Any]:
    """Return a comparison with the labels that this report found, which may be more than `compare` knew."""
    found = []
    for name in (test["a"], test["b"]):
        number = next((i for i, arm in enumerate(arms) if arm.name == name), None)
        if number is None or test["task"] not in marks:
            return {**test, "shown": test["verdict"], "warning": ""}  # a file of other arms' comparisons: as it stands
        found.append(max(marks[test["task"]][number], key=lambda mark: mark.seen))
    warning = comparison_warning(test["a"], test["b"], found[0], found[1])
    shown = str(test["verdict"]).removesuffix(str(test.get("warning") or "")).rstrip()
    seen = {f"seen_{x}": m.short() if m.contaminated else "" for x, m in zip("ab", found, strict=True)}
    return {**test, **seen, "warning": warning, "shown": shown, "verdict": f"{shown} {warning}".rstrip()}


def _task(task: str, arms: Sequence[Arm], marks: Sequence[Sequence[Mark]]) -> dict[str, Any]:
    """Return a task's curve and the table of its last checkpoints with every accounting number and group."""
    rows: list[dict[str, Any]] = []
    lines, groups = [], set()
    most = discordance = n = 0.0
    for arm, of_arm in zip(arms, marks, strict=True):
        for run, mark in zip(arm.runs, of_arm, strict=True):
            scored = [r for r in run if r.scores["tasks"].get(task, {}).get("accuracy") is not None]
            if not scored:
                continue
            shown, last = Shown(arm, run, scored[-1]), scored[-1].scores["tasks"][task]
            groups |= set(last.get("groups") or {})
            sign = MARK if mark.contaminated else ""
            more = {"name": shown.name, "mark": mark, "sign": sign, "letters": last.get("letters") or {}}
            rows.append({**last, **more})
            lines.append(
                Line(f"{shown.seed} {sign}".rstrip(), [_point(r.step, r.scores["tasks"][task]) for r in scored])
            )
            most, n = max(most, len(scored)), last["n"] or 0
            discordance = max(discordance, _discordance(scored, task))
    bias = stats.best_of_k_bias(int(most), int(n), discordance) if most > 1 and n and discordance else None
    always = max((r["letters"].get("always") or 0 for r in rows), default=0)
    return {
        "name": task, "title": heading(task, lines), "rows": rows,
        "groups": sorted(groups), "curve": curve(lines, always) if most > 1 else None,
        "bias": bias, "checkpoints": int(most), "always": always, "notes": _notes(rows),
        "marked": _by_label([(r["name"], r["mark"].short()) for r in rows if r["sign"]]),
    }  # fmt: skip


def heading(task: str, lines: Sequence[Line]) -> str:
    """Return what the curves of a task show: where they end, or for a single one also where it began."""
    if not lines:
        return task
    said = {line.name: f"{100 * line.points[-1].y:.1f} %" for line in lines}
    ranked = sorted(lines, key=lambda line: -line.points[-1].y)
    highest, lowest = ranked[0], ranked[-1]
    if highest is not lowest:
        return f"{task}: {highest.name} ends highest, {said[highest.name]}; {lowest.name} lowest, {said[lowest.name]}"
    (name, end), first, last = *said.items(), highest.points[0], highest.points[-1]
    if first is last:
        return f"{task}: {name} scores {end}"
    return f"{task}: {name} goes from {100 * first.y:.1f} % at step {first.x:g} to {end} at step {last.x:g}"


def reach(tests: Sequence[Mapping[str, Any]]) -> int:
    """Return the points, a round number, between which the bars of all differences have room."""
    far = max((100 * abs(t[end]) for t in tests for end in ("low", "high")), default=0.0)
    return next((points for points in (5, 10, 20, 30, 40, 60, 80) if far <= points), 100)


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the footnotes of the scores; one for all that say the same."""
    alike: dict[str, list[str]] = {}
    for row in rows:
        alike.setdefault(row["mark"].note("\0"), []).append(row["name"])
    return [text.replace("\0", ", ".join(names)) for text, names in alike.items()]


ACCURACY = Axis(label="accuracy, %", words=lambda v: f"{100 * v:g}")


def curve(lines: Sequence[Line], always: float) -> str:
    """Return the SVG of accuracies over steps; `always`: the accuracy of always saying the most frequent letter."""
    return line_chart(lines, Axis(label="step", least=1), replace(ACCURACY, rules={always: "always one letter"}))


def _point(step: int, row: Mapping[str, Any]) -> Point:
    accuracy = row["accuracy"]
    return with_band(step, accuracy, row.get("stderr") or 0, f"step {step}: {100 * accuracy:.2f} %")


def with_band(step: int, accuracy: float, error: float, words: str) -> Point:
    """Return a point with a band of 1.96 standard errors each way, as far as accuracies go."""
    return Point(step, accuracy, max(accuracy - 1.96 * error, 0.0), min(accuracy + 1.96 * error, 1.0), words)


def _by_label(marked: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return label -> the names that carry it."""
    names: dict[str, list[str]] = {}
    for name, label in marked:
        names.setdefault(label, []).append(name)
    return {label: ", ".join(of) for label, of in names.items()}


def _discordance(run: Sequence[Result], task: str) -> float:
    """Return the share of questions that exactly one of the run's last two checkpoints gets right."""
    frames = [r.answers.filter(pl.col("task") == task).sort("item") for r in run[-2:]]
    if len(frames) < 2 or frames[0]["item"].to_list() != frames[1]["item"].to_list() or not len(frames[0]):
        return 0.0
    right = [f["prediction"] == f["label"] for f in frames]
    return float((right[0] != right[1]).mean() or 0)  # type: ignore[arg-type]


def _provenance(shown: Shown) -> dict[str, Any]:
    s = shown.result.scores
    training = s.get("training") or {}
    return {
        "name": f"{shown.arm.name}: {s.get('model')}", "preset": shown.result.protocol,
        "weights": s.get("model_fingerprint"),
        "tokenizer": s.get("tokenizer_fingerprint"), "data": str(s.get("data_sha256"))[:16], "dtype": s.get("dtype"),
        "code": str(s.get("code"))[:16], "versions": s.get("versions"), "sharing": s.get("sharing"),
        "mixture": (training.get("mixture") or {}).get("content_sha256"), "seed": training.get("seed"),
        "contamination": declared_words(s.get("contamination")),
    }  # fmt: skip


def _showcase(checkpoints: Sequence[Shown]) -> list[dict[str, Any]]:
    """Return fixed prompts with the answer of each run's last checkpoint that has one."""
    prompts: dict[str, dict[str, Any]] = {}
    for shown in checkpoints:
        # under several presets the showcase stands once, above their folders
        places = [folder / "showcase.json" for folder in (shown.result.folder, shown.result.folder.parent)]
        file = next((place for place in places if place.is_file()), None)
        if shown.result is not shown.run[-1] or file is None:
            continue
        for row in _answered(file):
            entry = prompts.setdefault(row["prompt"], {"kind": row["kind"], "prompt": row["prompt"], "answers": []})
            entry["answers"].append({"name": shown.name, **row})
    return list(prompts.values())


def _answered(file: Path) -> list[dict[str, Any]]:
    """Return the rows of showcase.json. Raises InputError for a damaged one."""
    rows: list[dict[str, Any]] = read_json(file)
    fault = next(misfits("it", rows, [_ANSWERED], _ANSWERED), None)
    if fault is not None:
        raise InputError(f"{file}: is not what `score --showcase` writes: {fault}. Fix: score again.")
    return rows


def _questions(arms: Sequence[Arm], checkpoints: Sequence[Shown], tasks: Sequence[str], marks: Marks) -> dict[str, Any]:
    """Return what the drill-down shows of each task.

    Items, labels, prompts (shared beginning once a subject), answers, training rows that hold an item.
    """
    chosen = checkpoints[-MOST_RESULTS:]
    out: dict[str, Any] = {"models": [c.name for c in chosen], "tasks": {}}
    for task in tasks:
        frames = [c.result.answers.filter(pl.col("task") == task).sort("item") for c in chosen]
        base = next((f for f in frames if len(f)), None)
        if base is None:
            continue
        answers = [_answers(f) if f["item"].to_list() == base["item"].to_list() else None for f in frames]
        starts, prompts = _prompts(chosen, task, base)
        out["tasks"][task] = {
            "items": base["item"].to_list(), "subjects": base["subject"].to_list(), "labels": base["label"].to_list(),
            "starts": starts, "prompts": prompts, "answers": answers,
            "held": _held(arms, marks[task], base["item"].to_list(), chosen),
        }  # fmt: skip
    return out


def _held(
    arms: Sequence[Arm], marks: Sequence[Sequence[Mark]], items: Sequence[str], shown: Sequence[Shown]
) -> list[dict[str, Any]]:
    """Return what the training data of each run holds of the questions; seeds of one mixture together.

    `name`, `label`, `models` (the checkpoints' places in `shown`), `items`: null where not known one by one, else the
    question's place -> [dose, rows, places, texts].
    """
    place = {item: i for i, item in enumerate(items)}
    out: list[dict[str, Any]] = []
    for arm, of_arm in zip(arms, marks, strict=True):
        mine: list[dict[str, Any]] = []
        for number, (run, mark) in enumerate(zip(arm.runs, of_arm, strict=True), 1):
            held = None if mark.held is None else {
                str(place[name]): [h.dose, h.rows, [visible(p) for p in h.places], [visible(t) for t in h.texts]]
                for name, h in mark.held.items() if name in place
            }  # fmt: skip
            models = [i for i, c in enumerate(shown) if c.run is run]
            same = next((view for view in mine if view["items"] == held), None)
            if same is None:
                mine.append({"seeds": [number], "label": mark.short(), "models": models, "items": held})
            else:
                same["seeds"].append(number)
                same["models"] += models
        for view in mine:
            seeds = ", ".join(f"#{n}" for n in view.pop("seeds"))
            out.append({"name": visible(arm.name) + (f" {seeds}" if len(mine) > 1 else ""), **view})
    return out


def _answers(frame: pl.DataFrame) -> dict[str, Any]:
    columns = [f"logprob_{c}" for c in LETTERS if f"logprob_{c}" in frame.columns]
    rounded = frame.select(pl.col(c).round(3).fill_nan(None) for c in columns)
    raw = frame["raw"].to_list()
    return {
        "p": frame["prediction"].to_list(),
        "l": [list(row) for row in rounded.iter_rows()],
        "r": [visible(t) for t in raw] if any(raw) else None,
    }


def _prompts(chosen: Sequence[Shown], task: str, base: pl.DataFrame) -> tuple[Any, Any]:
    """Return the beginning that a subject's prompts share, by subject, and the rest of each prompt, in order."""
    for shown in chosen:
        file = shown.result.folder / "prompts.parquet"
        if file.is_file():
            found = read_table(file.parent, file.name, PROMPTS, shown.result.scores).filter(pl.col("task") == task)
            joined = base.select("item", "subject").join(found.select("item", "prompt"), on="item", how="left")
            joined = joined.with_columns(pl.col("prompt").map_elements(_as_turns, return_dtype=pl.String))
            starts: dict[str, str] = {}
            for key, frame in joined.group_by("subject"):
                starts[str(key[0])] = _shared_start([str(p or "") for p in frame["prompt"]])
            rest = [visible((p or "")[len(starts[s]) :]) for s, p in joined.select("subject", "prompt").iter_rows()]
            return {s: visible(t) for s, t in starts.items()}, rest
    return {}, []


def _as_turns(prompt: str) -> str:
    """Return a chat prompt, stored as JSON, with a line for each role; another prompt as it is."""
    if not prompt.startswith('[{"role":'):
        return prompt
    try:
        return "\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in orjson.loads(prompt))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return prompt


def _shared_start(texts: Sequence[str]) -> str:
    """Return the longest common beginning: that of the first and the last in order is that of all."""
    low, high = min(texts), max(texts)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:same]
