"""What the commands print: comparisons, power, and published results with their warning."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from steel_data.benchmarks.items import PUBLISHED
from steel_data.chinese import say
from steel_data.errors import InputError, nearest
from steel_data.row.display import command, console, harmless, one_line, plain_table, print_next, print_table, told_line
from steel_eval.compare.pair import Test
from steel_eval.contamination.label import MARK
from steel_eval.stats import paired as stats

# Questions of the published sets.
SET_SIZES = {
    "ceval-val": PUBLISHED["ceval"]["val"], "ceval-test": PUBLISHED["ceval"]["test"],
    "cmmlu": PUBLISHED["cmmlu"]["test"], "mmlu": PUBLISHED["mmlu"]["test"],
}  # fmt: skip


def print_tests(tests: Sequence[Test], arms: Sequence[str] = ("A", "B")) -> list[dict[str, Any]]:
    """Print what to mind, the comparisons as a table, then each verdict in words; return them. arms: as given."""
    numbers = ("A %", "B %", "B - A", "95 % interval", "by subject", "p", "q", "only A / B", "detectable")
    table = plain_table("comparison", "task", *numbers, left=2)
    for t in tests:
        by_subject = "-"
        if t.cluster_low is not None and t.cluster_high is not None:
            by_subject = f"{100 * t.cluster_low:+.2f} .. {100 * t.cluster_high:+.2f}"
        table.add_row(
            harmless(f"{t.b} - {t.a}"), harmless(_named(t)),
            _points(t.value_a) + MARK * bool(t.seen_a), _points(t.value_b) + MARK * bool(t.seen_b),
            f"{100 * t.difference:+.2f}",
            f"{100 * t.low:+.2f} .. {100 * t.high:+.2f}", by_subject,
            f"{t.p:.2g}", "primary" * t.confirmatory + ("" if t.q is None else f" {t.q:.2g}"),
            "-" if t.only_a is None else f"{t.only_a} / {t.only_b}", f"{100 * t.detectable:.1f}",
        )  # fmt: skip
    out = console()
    for flaw in dict.fromkeys(flaw for t in tests for flaw in t.flaws):
        told_line(f"mind: {flaw}", out=out)
    print_table(table, out)
    if any(t.seen_a or t.seen_b for t in tests):
        told_line(f"{MARK} trained on questions of this benchmark: no score of ability alone", out=out)
    if not any(t.confirmatory for t in tests):
        told_line(
            "No declared primary test ([eval] primary in the recipes, --primary) is among these: all are exploratory.",
            out=out,
        )
    warnings = dict.fromkeys(t.warning for t in tests if t.warning)
    for line in warnings if len(warnings) < len(tests) else ():
        told_line(line, out=out)
    for t in tests:
        # a warning that several share was said once above
        words = t.verdict.removesuffix(t.warning).rstrip() if len(warnings) < len(tests) else t.verdict
        out.print(one_line(f"{_named(t)}: {say(words)}"), markup=False, highlight=False, soft_wrap=True)
    print_next(f"{command('report', *arms)} shows every question")
    return [asdict(test) for test in tests]


def _named(test: Test) -> str:
    """Return what a test is of: the task, a group of it, and metric and checkpoint that are not the usual ones."""
    group = f" / {test.group}" if test.group else ""
    metric = "" if test.metric == "accuracy" else f", {test.metric}"
    return test.task + group + metric + ("" if test.checkpoint == "last" else f", step {test.checkpoint}")


def print_power(
    effect: float, sets: Sequence[str], discordance: float, seeds: int, spread: float
) -> list[dict[str, Any]]:
    """Print, and return, what a paired comparison of two arms finds: power, smallest difference, questions, seeds.

    `effect` and `spread` in percentage points.
    """
    rows = power_rows(effect, sets, discordance, seeds, spread)
    numbers = ("questions", f"power for {effect:g} points", "80 % power from", "questions needed", "seeds needed")
    table = plain_table("set", *numbers)
    for row in rows:
        table.add_row(
            row["set"], f"{row['n']:,}", "-" if row["power"] is None else f"{100 * row['power']:.0f} %",
            "-" if row["detectable"] is None else f"{100 * row['detectable']:.2f} points",
            f"{row['questions']:,}", row["seeds"],
        )  # fmt: skip
    out = console()
    told_line(f"paired, {seeds} seed(s) an arm, {100 * discordance:.0f} % discordant answers", out=out)
    print_table(table, out)
    if spread == 0:
        told_line("Without --seed-spread this speaks of two checkpoints, not of two mixtures.", out=out)
    elif seeds < 2:
        told_line("One seed an arm says nothing about seeds: no test of mixtures. Fix: --seeds 2 or more.", out=out)
    return rows


def power_rows(
    effect: float, sets: Sequence[str], discordance: float, seeds: int, spread: float
) -> list[dict[str, Any]]:
    """Return `set`, `n` (its questions) and `power_row` of each set. `effect` and `spread` in percentage points."""
    if not 0 < discordance <= 1:
        raise InputError(f"--discordance {discordance}: Fix: a share above 0, at most 1.")
    rows = []
    for name in sets:
        if name not in SET_SIZES and not name.isdigit():
            raise InputError(f"--sets {name}: no such set.{nearest(name, SET_SIZES)} Or a number of questions.")
        n = SET_SIZES.get(name) or int(name)
        rows.append({"set": name, "n": n, **power_row(effect / 100, n, discordance, seeds, spread / 100)})
    return rows


def power_row(effect: float, n: int, discordance: float, seeds: int, spread: float) -> dict[str, Any]:
    """Return power, smallest difference found with 80 %, questions and seeds needed. Fractions.

    Variance of a difference of seed means: discordance / n (the same questions for every seed) + 2 spread^2 / seeds,
    judged by Student's t, as `compare` does: few seeds estimate their spread badly. With one seed an arm and a spread
    there is no such test: `power` and `detectable` are None.
    """
    untold = spread > 0 and seeds < 2
    variance, freedom = (math.nan, math.nan) if untold else _of_means(n, discordance, seeds, spread)
    return {
        "power": None if untold else stats.power_of(effect, variance, freedom),
        "detectable": None if untold else stats.detectable_of(variance, freedom),
        "questions": math.ceil(stats.detectable_of(discordance) ** 2 / effect**2) if effect else 0,
        "seeds": _seeds_needed(effect, n, discordance, spread) if spread else "-",
    }


def _of_means(n: int, discordance: float, seeds: int, spread: float) -> tuple[float, float]:
    """Return the variance of a difference of seed means and its degrees of freedom (see paired.with_seeds)."""
    parts = [(discordance / n, float(max(1, n - 1)))]
    if spread:
        parts.append((2 * spread**2 / seeds, 2 * (seeds - 1)))
    return stats.satterthwaite(parts) if spread else (discordance / n, math.inf)


def _seeds_needed(effect: float, n: int, discordance: float, spread: float) -> str:
    """Return how many seeds an arm give 80 % power, or that none do: the questions alone are too few."""
    need = stats.detectable_of(1.0)
    left = (effect / need) ** 2 - discordance / n
    if left <= 0:
        return "none suffices"
    seeds = max(2, math.ceil(2 * spread**2 / left))  # were the spread known
    while stats.power_of(effect, *_of_means(n, discordance, seeds, spread)) < 0.8:
        seeds += max(1, seeds // 1000)
    return str(seeds)


def _points(value: float) -> str:
    return f"{100 * value:.2f}"
