"""`compare`: which of two or more arms is better, how sure that is, and what the data cannot say."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import orjson

from steel_data.errors import InputError, nearest
from steel_data.files import atomic_write
from steel_data.mixture.manifest import read_manifest
from steel_eval.ask.prompts import subject_table
from steel_eval.compare.runs import Arm, Result, Values, check_alike, load_arm, values_of
from steel_eval.contamination.items import nearby_mixture
from steel_eval.contamination.label import comparison_warning, mark_of_scores
from steel_eval.stats import paired as stats


@dataclass
class Test:
    """One comparison of two arms on one task (or group of its subjects). All figures are fractions, not percent."""

    __test__ = False  # pytest: not a test class

    a: str
    b: str
    task: str
    group: str  # "" for the whole task
    metric: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    cluster_low: float
    cluster_high: float
    p: float
    q: float | None  # after Benjamini-Hochberg, exploratory tests only
    only_a: int | None  # questions that A alone gets right (one seed an arm)
    only_b: int | None
    n: int
    seeds_a: int
    seeds_b: int
    detectable: float
    neighbour_spread: float | None
    confirmatory: bool
    verdict: str = ""
    seen_a: str = ""  # the label of an arm whose training data holds questions of the task, "" without one
    seen_b: str = ""
    warning: str = ""  # the verdict's last sentence where an arm is so labelled


def compare_arms(
    names: Sequence[str], tasks: Sequence[str] = (), metric: str = "accuracy", checkpoint: str = "last",
    preset: str | None = None, seed: int = 0,
) -> list[Test]:  # fmt: skip
    """Compare arms pair by pair on every task that all have been scored on, and on the published groups of subjects.

    `[eval] primary = {task, metric, checkpoint}` in the recipes, if all arms declare the same, is the one confirmatory
    test; every other one is exploratory and gets a false discovery rate.
    """
    arms = [load_arm(name, preset) for name in names]
    if len(arms) < 2:
        raise InputError("compare: two arms or more are needed. Right: compare A=runs/exp2 B=runs/exp4.")
    primary = _declared(arms)
    tests = []
    for a, b in combinations(arms, 2):
        chosen = [a.chosen(checkpoint), b.chosen(checkpoint)]
        check_alike([*chosen[0], *chosen[1]])
        for task in _tasks(chosen, tasks):
            confirms = primary is not None and primary == {"task": task, "metric": metric, "checkpoint": checkpoint}
            values = values_of(chosen, task, metric)
            about = _About(a, b, task, "", metric, confirms, seed)
            made = [_test(about, values), *_group_tests(about, values)]
            _label(made, chosen, task)
            tests += made
    exploratory = [t for t in tests if not t.confirmatory]
    for test, q in zip(exploratory, stats.benjamini_hochberg([t.p for t in exploratory]), strict=True):
        test.q = q
    for test in tests:
        test.verdict = verdict(test)
    return tests


def _label(tests: Sequence[Test], chosen: Sequence[Sequence[Result]], task: str) -> None:
    """Write into comparisons what the arms' mixtures declare of the task: of each arm the run with most questions."""
    marks = [max((mark_of_scores(r.scores, task) for r in arm), key=lambda mark: mark.seen) for arm in chosen]
    for test in tests:
        test.seen_a, test.seen_b = (mark.short() if mark.contaminated else "" for mark in marks)
        test.warning = comparison_warning(test.a, test.b, marks[0], marks[1])


def _tasks(chosen: Sequence[Sequence[Result]], asked: Sequence[str]) -> list[str]:
    shared = set.intersection(*(set(r.scores["tasks"]) for arm in chosen for r in arm))
    for task in asked:
        if task not in shared:
            raise InputError(f"--tasks {task}: not scored in every arm.{nearest(task, shared)}")
    usable = [t for t in (asked or sorted(shared)) if chosen[0][0].scores["tasks"][t]["accuracy"] is not None]
    present = set.intersection(*(set(r.answers["task"].unique()) for arm in chosen for r in arm))
    if not [t for t in usable if t in present]:
        raise InputError("compare: the arms share no task with answers. Right: score both on the same tasks.")
    return [t for t in usable if t in present]


def _declared(arms: Sequence[Arm]) -> dict[str, str] | None:
    """Return the primary test that the runs' recipes declare, None where they declare none or different ones."""
    found = [_primary(run[0].folder) for arm in arms for run in arm.runs]
    return found[0] if found and all(f == found[0] for f in found) else None


def _primary(place: Path) -> dict[str, str] | None:
    """Return the primary test of a run's recipe: metric and checkpoint have defaults, task has none."""
    mixture = nearby_mixture(place)
    recipe = (read_manifest(mixture).get("recipe") or {}) if mixture else {}
    declared = (recipe.get("eval") or {}).get("primary")
    if declared is None:
        return None
    defaults = {"metric": "accuracy", "checkpoint": "last"}
    if not isinstance(declared, dict) or "task" not in declared:
        raise InputError(f'{place}: [eval] primary = {declared}. Right: {{ task = "cmmlu", metric = "accuracy" }}.')
    for key in declared:
        if key not in ("task", *defaults):
            raise InputError(f"{place}: [eval] primary: no key '{key}'.{nearest(key, ['task', *defaults])}")
    return defaults | {k: str(v) for k, v in declared.items()}


@dataclass(frozen=True)
class _About:
    """What a test is of."""

    a: Arm
    b: Arm
    task: str
    group: str
    metric: str
    confirms: bool
    seed: int


def _group_tests(about: _About, values: Values) -> list[Test]:
    table = subject_table().get(about.task.split("/")[0].split("-")[0], {})
    groups: dict[str, list[int]] = {}
    for number, subject in enumerate(values.subjects):
        for group in table.get(subject, {}).get("groups", ()):
            groups.setdefault(group, []).append(number)
    if len(values.subjects) < 2:
        return []
    tests = []
    for group, members in sorted(groups.items()):
        mask = np.isin(values.subject_Q, members)
        part = Values([x[:, mask] for x in values.arms], values.subject_Q[mask], values.subjects, [])
        tests.append(_test(replace(about, group=group, confirms=False), part))
    return tests


def _test(about: _About, values: Values) -> Test:
    a, b, task, metric, seed = about.a, about.b, about.task, about.metric, about.seed
    a_SQ, b_SQ = values.arms
    macro = metric == "macro"
    weight_Q = stats.question_weights(values.subject_Q, macro)
    change_Q = b_SQ.mean(0) - a_SQ.mean(0)
    binary = metric != "gold_probability" and len(a_SQ) == len(b_SQ) == 1
    only_a, only_b = (int((change_Q < 0).sum()), int((change_Q > 0).sum())) if binary else (None, None)
    cluster = stats.cluster_bootstrap(change_Q, values.subject_Q, macro, seed)
    if min(len(a_SQ), len(b_SQ)) > 1:
        found = stats.seeds_and_questions(a_SQ, b_SQ, values.subject_Q, macro, seed)
    else:
        low, high = stats.paired_bootstrap(change_Q, values.subject_Q, macro, seed)
        value = float(change_Q @ weight_Q)
        if binary and not macro:
            p = stats.mcnemar(only_a or 0, only_b or 0)
        else:
            p = _normal_p(value, (high - low) / (2 * 1.959964)) if high > low else float(value == 0)
        found = stats.Difference(value, low, high, p)
    discordance = float(np.mean(change_Q**2))
    neighbours = [s for arm in (a, b) if (s := neighbour_spread(arm, task, metric)) is not None]
    return Test(
        a=a.name, b=b.name, task=task, group=about.group, metric=metric, value_a=float(a_SQ.mean(0) @ weight_Q),
        value_b=float(b_SQ.mean(0) @ weight_Q), difference=found.value, low=found.low, high=found.high,
        cluster_low=cluster[0], cluster_high=cluster[1], p=found.p, q=None, only_a=only_a, only_b=only_b,
        n=len(change_Q), seeds_a=len(a_SQ), seeds_b=len(b_SQ),
        detectable=stats.minimum_detectable(len(change_Q), max(discordance, 1e-9)),
        neighbour_spread=max(neighbours) if neighbours and not about.group else None, confirmatory=about.confirms,
    )  # fmt: skip


def _normal_p(value: float, deviation: float) -> float:
    from scipy.stats import norm

    return 2 * float(norm.sf(abs(value) / deviation))


def neighbour_spread(arm: Arm, task: str, metric: str) -> float | None:
    """Return the standard deviation of a score between neighbouring late checkpoints, over sqrt(2); None with under 3.

    A rough proxy for the spread of seeds: it holds what training wobbles by, not what another start would change.
    """
    changes = []
    for run in arm.runs:
        late = [r.scores["tasks"].get(task, {}).get(metric) for r in run[len(run) // 2 :]]
        known = [v for v in late if v is not None]
        changes += list(np.diff(known))
    return float(np.sqrt(np.mean(np.square(changes)) / 2)) if len(changes) >= 2 else None


def verdict(test: Test) -> str:
    """Say in words what a test shows and what it cannot, with the warning where an arm saw the questions."""
    return f"{_shown(test)} {test.warning}".rstrip()


def _shown(test: Test) -> str:
    value = f"{100 * test.difference:+.2f} points (95 % interval {100 * test.low:+.2f} to {100 * test.high:+.2f})"
    level = test.p if test.q is None else test.q
    kind = "confirmatory" if test.confirmatory else "exploratory, false discovery rate"
    shown = level < 0.05
    limit = f"a true difference under {100 * test.detectable:.1f} points would mostly go unnoticed"
    if min(test.seeds_a, test.seeds_b) > 1:
        if shown:
            return f"The mixtures differ: {test.b} - {test.a} = {value}, {kind} {level:.2g}, seeds included."
        return f"No difference of the mixtures is shown: {value}, {kind} {level:.2g}."
    if test.difference == 0 and test.low == test.high:
        return "These checkpoints answer every question alike."
    what = "These checkpoints differ" if shown else "These checkpoints are not shown to differ"
    proxy = ""
    if test.neighbour_spread is not None:
        spread = f"{100 * test.neighbour_spread:.1f} points"
        proxy = f" Rough proxy for the spread of seeds, from neighbouring checkpoints: {spread}."
    tail = "" if shown else f"; {limit}"
    return (
        f"{what}: {value}, {kind} {level:.2g}{tail}. Whether the mixtures do is not shown: one seed in an arm.{proxy}"
    )


def write_tests(file: Path, tests: Sequence[Test]) -> None:
    """Write comparisons as JSON for `report`."""
    atomic_write(file, orjson.dumps([asdict(t) for t in tests], option=orjson.OPT_INDENT_2))
