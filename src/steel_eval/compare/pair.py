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
from steel_eval.compare.runs import METRICS, Arm, Result, Values, check_alike, load_arm, values_of
from steel_eval.compare.unlike import unfinished, unlike
from steel_eval.contamination.items import nearby_mixture
from steel_eval.contamination.label import comparison_warning, mark_of_scores
from steel_eval.stats import paired as stats

MORE_SEEDS = 4  # of an arm: what they would show is said where nothing is shown


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
    cluster_low: float | None  # with whole subjects drawn anew; None for one subject
    cluster_high: float | None
    p: float
    q: float | None  # exploratory: Benjamini-Hochberg over what is shown; several confirmatory: Holm; one: None
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
    checkpoint: str = "last"
    flaws: Sequence[str] = ()  # what else differs between the arms, or is missing
    detectable_later: float | None = None  # `detectable` with MORE_SEEDS more seeds an arm; None for one seed


@dataclass(frozen=True)
class Primary:
    """The one test that was chosen before the results were seen."""

    task: str
    metric: str = "accuracy"
    checkpoint: str = "last"


@dataclass(frozen=True)
class Comparison:
    """What to compare. `tasks`: none means all that every arm has; `groups`: the published groups of subjects too."""

    tasks: Sequence[str] = ()
    metric: str = "accuracy"
    checkpoint: str = "last"
    preset: str | None = None
    groups: bool = False
    primary: Primary | None = None


def compare_arms(names: Sequence[str], asked: Comparison = Comparison()) -> list[Test]:
    """Compare arms pair by pair on every task that all have been scored on.

    `[eval] primary = {task, metric, checkpoint}` in the recipes, if all arms declare the same, or `asked.primary`, is
    the one confirmatory test. Every other test that is returned is exploratory, and their false discovery rate is that
    of them all. Raises InputError for arms that cannot be compared.
    """
    arms = [load_arm(name, asked.preset) for name in names]
    if len(arms) < 2:
        raise InputError("compare: two arms or more are needed. Fix: compare A=runs/exp2 B=runs/exp4.")
    primary = _declared(arms)
    if asked.primary is not None and primary not in (None, asked.primary):
        raise InputError(f"--primary: the recipes declare another, {primary}. Fix: without --primary.")
    primary = asked.primary or primary
    tests = []
    for a, b in combinations(arms, 2):
        chosen = [a.chosen(asked.checkpoint), b.chosen(asked.checkpoint)]
        check_alike([*chosen[0], *chosen[1]])
        tasks = _tasks(chosen, asked.tasks)
        if primary is not None and primary.task not in tasks and asked.primary:
            raise InputError(f"--primary {primary.task}: no task of this comparison.{nearest(primary.task, tasks)}")
        if primary is not None and primary.task in tasks:
            its = [a.chosen(primary.checkpoint), b.chosen(primary.checkpoint)]
            check_alike([*its[0], *its[1]])
            about = _About(a, b, primary.task, "", primary.metric, primary.checkpoint, True)
            tests += _label([_test(about, values_of(its, primary.task, primary.metric))], its, primary.task)
        for task in tasks:
            values = values_of(chosen, task, asked.metric)
            about = _About(a, b, task, "", asked.metric, asked.checkpoint, False)
            same = Primary(task, asked.metric, asked.checkpoint) == primary
            made = [] if same else [_test(about, values)]
            tests += _label(made + (_group_tests(about, values) if asked.groups else []), chosen, task)
    return _judged(tests, arms)


def _judged(tests: Sequence[Test], arms: Sequence[Arm]) -> list[Test]:
    """Write rates of error, flaws and verdicts into the tests of one comparison: together they are one family."""
    confirmatory = [t for t in tests if t.confirmatory]
    exploratory = [t for t in tests if not t.confirmatory]
    for test, q in zip(exploratory, stats.benjamini_hochberg([t.p for t in exploratory]), strict=True):
        test.q = q
    if len(confirmatory) > 1:
        for test, q in zip(confirmatory, stats.holm([t.p for t in confirmatory]), strict=True):
            test.q = q
    by_name = {arm.name: arm for arm in arms}
    for test in tests:
        pair = [by_name[test.a], by_name[test.b]]
        test.flaws = [*unlike(pair, test.checkpoint), *unfinished(arms, test.checkpoint, test.task)]
        test.verdict = verdict(test)
    return list(tests)


def primary_of(text: str) -> Primary:
    """Read `task:metric:checkpoint`; metric and checkpoint have defaults. Raises InputError for anything else."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts) or (parts[1:] and parts[1] not in METRICS):
        known = ", ".join(METRICS)
        raise InputError(f"--primary {text}: Fix: task:metric:checkpoint, cmmlu:accuracy:last. Metrics: {known}.")
    return Primary(*parts)


def _label(tests: list[Test], chosen: Sequence[Sequence[Result]], task: str) -> list[Test]:
    """Return tests with what the arms' mixtures declare of the task: of each arm the run with most questions."""
    marks = [max((mark_of_scores(r.scores, task) for r in arm), key=lambda mark: mark.seen) for arm in chosen]
    for test in tests:
        test.seen_a, test.seen_b = (mark.short() if mark.contaminated else "" for mark in marks)
        test.warning = comparison_warning(test.a, test.b, marks[0], marks[1])
    return tests


def _tasks(chosen: Sequence[Sequence[Result]], asked: Sequence[str]) -> list[str]:
    shared = set.intersection(*(set(r.scores["tasks"]) for arm in chosen for r in arm))
    for task in asked:
        if task not in shared:
            raise InputError(f"--tasks {task}: not scored in every arm.{nearest(task, shared)}")
    usable = [t for t in (asked or sorted(shared)) if chosen[0][0].scores["tasks"][t].get("accuracy") is not None]
    present = set.intersection(*(set(r.answers["task"].unique()) for arm in chosen for r in arm))
    if not [t for t in usable if t in present]:
        raise InputError("compare: the arms share no task with answers. Fix: score both on the same tasks.")
    return [t for t in usable if t in present]


def _declared(arms: Sequence[Arm]) -> Primary | None:
    """Return the primary test that the runs' recipes declare, None where they declare none or different ones."""
    found = [_in_recipe(run[0].folder) for arm in arms for run in arm.runs]
    return found[0] if found and all(f == found[0] for f in found) else None


def _in_recipe(place: Path) -> Primary | None:
    """Return the primary test of a run's recipe: metric and checkpoint have defaults, task has none."""
    mixture = nearby_mixture(place)
    recipe = (read_manifest(mixture).get("recipe") or {}) if mixture else {}
    declared = (recipe.get("eval") or {}).get("primary")
    if declared is None:
        return None
    if not isinstance(declared, dict) or "task" not in declared:
        raise InputError(f'{place}: [eval] primary = {declared}. Fix: {{ task = "cmmlu", metric = "accuracy" }}.')
    known = ("task", "metric", "checkpoint")
    for key in declared:
        if key not in known:
            raise InputError(f"{place}: [eval] primary: no key '{key}'.{nearest(key, known)}")
    return Primary(**{k: str(v) for k, v in declared.items()})


@dataclass(frozen=True)
class _About:
    """What a test is of."""

    a: Arm
    b: Arm
    task: str
    group: str
    metric: str
    checkpoint: str
    confirms: bool


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
    a, b, task, metric = about.a, about.b, about.task, about.metric
    a_SQ, b_SQ = values.arms
    macro = metric == "macro"
    weight_Q = stats.question_weights(values.subject_Q, macro)
    change_Q = b_SQ.mean(0) - a_SQ.mean(0)
    binary = metric != "gold_probability" and len(a_SQ) == len(b_SQ) == 1
    only_a, only_b = (int((change_Q < 0).sum()), int((change_Q > 0).sum())) if binary else (None, None)
    found = _difference(values, macro, binary)
    cluster_low, cluster_high = _by_subject(values, macro)
    neighbours = [s for arm in (a, b) if (s := neighbour_spread(arm, task, metric)) is not None]
    return Test(
        a=a.name, b=b.name, task=task, group=about.group, metric=metric, value_a=float(a_SQ.mean(0) @ weight_Q),
        value_b=float(b_SQ.mean(0) @ weight_Q), difference=found.value, low=found.low, high=found.high,
        cluster_low=cluster_low, cluster_high=cluster_high, p=found.p, q=None, only_a=only_a, only_b=only_b,
        n=len(change_Q), seeds_a=len(a_SQ), seeds_b=len(b_SQ), detectable=found.detectable,
        neighbour_spread=max(neighbours) if neighbours and not about.group else None, confirmatory=about.confirms,
        checkpoint=about.checkpoint, detectable_later=_detectable_later(values, macro),
    )  # fmt: skip


def _difference(values: Values, macro: bool, binary: bool) -> stats.Difference:
    """Return the difference of two arms: of mixtures with seeds in both, else of these checkpoints."""
    a_SQ, b_SQ = values.arms
    if min(len(a_SQ), len(b_SQ)) > 1:
        return stats.seeds_and_questions(a_SQ, b_SQ, values.subject_Q, macro)
    change_Q = b_SQ.mean(0) - a_SQ.mean(0)
    value = float(change_Q @ stats.question_weights(values.subject_Q, macro))
    variance, _ = stats.question_variance(change_Q, values.subject_Q, macro)
    found = stats.difference(value, variance)
    if binary and not macro:
        low, high = stats.paired_interval(change_Q, values.subject_Q)
        p = stats.mcnemar(int((change_Q < 0).sum()), int((change_Q > 0).sum()))
        # where no answer differs, as if one did: that the next questions are answered alike too is not shown
        discordance = max(float(np.mean(change_Q**2)), 1 / len(change_Q))
        least = stats.minimum_detectable(len(change_Q), discordance)
        return stats.Difference(value, low, high, p, least)
    low, high = stats.paired_bootstrap(change_Q, values.subject_Q, macro)
    return stats.Difference(value, low, high, found.p, found.detectable)


def _detectable_later(values: Values, macro: bool) -> float | None:
    """Return the difference that 80 % of tests would find with MORE_SEEDS more seeds like these; None for one seed."""
    a_SQ, b_SQ = values.arms
    seeds = min(len(a_SQ), len(b_SQ))
    if seeds < 2:
        return None
    found = stats.question_variance(b_SQ.mean(0) - a_SQ.mean(0), values.subject_Q, macro)
    total, freedom = stats.with_seeds(found, (a_SQ, b_SQ), stats.question_weights(values.subject_Q, macro))
    later, more = found[0] + (total - found[0]) * seeds / (seeds + MORE_SEEDS), (seeds + MORE_SEEDS - 1) / (seeds - 1)
    return stats.difference(0.0, later, freedom * more).detectable


def _by_subject(values: Values, macro: bool) -> tuple[float | None, float | None]:
    """Return the interval with whole subjects drawn anew, by Student's t: wide where they are few; none for one."""
    a_SQ, b_SQ = values.arms
    if len(np.unique(values.subject_Q)) < 2:
        return None, None
    if min(len(a_SQ), len(b_SQ)) > 1:
        found = stats.seeds_and_questions(a_SQ, b_SQ, values.subject_Q, macro, by_subject=True)
    else:
        change_Q = b_SQ.mean(0) - a_SQ.mean(0)
        value = float(change_Q @ stats.question_weights(values.subject_Q, macro))
        found = stats.difference(value, *stats.subject_variance(change_Q, values.subject_Q, macro))
    return found.low, found.high


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
    a, b, level = test.a, test.b, test.p if test.q is None else test.q
    if test.confirmatory:
        kind = f"confirmatory, p {test.p:.2g}" + ("" if test.q is None else f", Holm {test.q:.2g}")
    else:
        kind = f"exploratory, p {test.p:.2g}, false discovery rate {test.q:.2g}"
    if level < 0.05:
        ends = sorted((abs(test.low), abs(test.high))) if test.low * test.high > 0 else (test.low, test.high)
        better, worse = (b, a) if test.difference > 0 else (a, b)
        points = f"{100 * abs(test.difference):.1f} points (95 % interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
    else:
        points = f"{100 * test.difference:+.1f} points (95 % interval {100 * test.low:+.1f} to {100 * test.high:+.1f})"
    if min(test.seeds_a, test.seeds_b) > 1:
        if level < 0.05:
            return f"{better} is better than {worse} by {points}, seeds included; {kind}."
        would = "" if test.detectable_later is None else (
            f"; {MORE_SEEDS} more seeds an arm would show {100 * test.detectable_later:.1f} points"
        )  # fmt: skip
        return (
            f"{a} and {b} cannot be told apart: {b} - {a} is {points}; a true difference under "
            f"{100 * test.detectable:.1f} points would mostly go unnoticed{would}; {kind}."
        )
    if test.difference == 0 and test.low == test.high:
        return "These checkpoints answer every question alike."
    proxy = ""
    if test.neighbour_spread is not None:
        spread = f"{100 * test.neighbour_spread:.1f} points"
        proxy = f" Rough proxy for the spread of seeds, from neighbouring checkpoints: {spread}."
    alone = f" Whether the mixtures do is not shown: one seed in an arm; three seeds of each would say.{proxy}"
    if level < 0.05:
        return f"These checkpoints differ: that of {better} is better than that of {worse} by {points}; {kind}.{alone}"
    return (
        f"These checkpoints cannot be told apart: {b} - {a} is {points}; a true difference under "
        f"{100 * test.detectable:.1f} points would mostly go unnoticed; {kind}.{alone}"
    )


def write_tests(file: Path, tests: Sequence[Test]) -> None:
    """Write comparisons as JSON for `report`."""
    atomic_write(file, orjson.dumps([asdict(t) for t in tests], option=orjson.OPT_INDENT_2))
