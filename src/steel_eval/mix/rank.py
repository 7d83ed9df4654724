"""Whether a proxy may speak for the model: some of the arms trained as both, and how far their order agrees."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steel_data.engine import tell
from steel_data.errors import InputError
from steel_eval.arms import Job
from steel_eval.mix.design import Floats
from steel_eval.mix.pool import arms_tables
from steel_eval.mix.results import Run
from steel_eval.mix.search import Planned, Search, make_arm, train_planned

_SEEDS = 700  # those of the model's own arms begin here
_FEWEST = 5  # arms: of fewer no order says anything


def own_tables(search: Search) -> dict[str, Any]:
    """Return the arms' recipe with `[train]`'s own model in place of the proxy. Raises InputError without a proxy."""
    where, proxy = f"{search.recipe.path} [search]", search.pool.tables
    if search.settings.proxy is None:
        raise InputError(
            f"{where}: proxy: is missing, and --rank compares it with the model of [train]. Fix: proxy = {{ … }}."
        )
    tables = arms_tables(search.recipe, None, where)
    shared = proxy["train"].get("tokenizer")
    if isinstance(tables["train"]["model"], dict) and not tables["train"].get("tokenizer"):
        tables["train"]["tokenizer"] = shared
    if tables["train"] == proxy["train"]:
        raise InputError(f"{where}: proxy: is the model of [train] itself. Fix: a smaller one.")
    counted = proxy.get("tokenizer") or shared
    return tables | ({"tokenizer": counted} if counted else {})  # the same rows, whatever the model counts in


def rank_arms(
    search: Search, tables: dict[str, Any], runs: Sequence[Run], used: Sequence[str], count: int
) -> dict[str, Any] | None:
    """Train `count` arms by `tables` too, spread over what the proxy made of them; return how far the orders agree.

    Lower is better in `proxy` and `model`, the objective of each arm. None where too few have values.
    """
    if not used:
        return None
    sign = search.settings.measure.sign

    def objective(run: Run) -> float:
        return sign * float(np.mean([run.measured.value[name] for name in used]))

    tried = sorted((r for r in runs if r.kind == "design" and not r.measured.failed), key=objective)
    places = np.unique(np.linspace(0, len(tried) - 1, min(count, len(tried))).round().astype(int))
    chosen = [tried[i] for i in places]
    tell(f"{len(chosen)} arms are trained as the model of [train] too")
    larger = replace(search, pool=replace(search.pool, tables=tables))
    planned = []
    for number, run in enumerate(sorted(chosen, key=lambda r: r.arm), start=1):
        seed = search.seed(_SEEDS + number)
        planned.append(Planned("rank", Job(make_arm(larger, f"own-{run.arm}", run.share, [seed]), seed), run.share))
    found = {run.arm: run for run in train_planned(larger, planned)}
    both = [(run, found[f"own-{run.arm}"]) for run in chosen]
    pairs = [(run.arm, objective(run), objective(own)) for run, own in both if not own.measured.failed]
    if len(pairs) < _FEWEST:
        return None
    names, proxy, model = zip(*pairs, strict=True)
    value, low, high = rank_agreement(np.array(proxy), np.array(model))
    failed = {own.arm: own.measured.failed for _, own in both if own.measured.failed}
    return {
        "arms": list(names), "proxy": list(proxy), "model": list(model), "spearman": value, "low": low, "high": high,
        "failed": failed,
    }  # fmt: skip


def rank_agreement(a_N: Floats, b_N: Floats) -> tuple[float, float, float]:
    """Return Spearman's rank correlation and its 95 % interval (Bonett and Wright 2000).

    Orders that agree wholly are taken as half a step of the statistic short of it: else the interval had no width.
    """
    from scipy.stats import norm, rankdata

    n = len(a_N)
    rank_a, rank_b = rankdata(a_N), rankdata(b_N)
    if not np.ptp(rank_a) or not np.ptp(rank_b):
        return 0.0, -1.0, 1.0
    value = float(np.corrcoef(rank_a, rank_b)[0, 1])
    inner = float(np.clip(value, -1 + 6 / (n**3 - n), 1 - 6 / (n**3 - n)))
    half = float(norm.ppf(0.975)) * np.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = (float(np.tanh(np.arctanh(inner) + sign * half)) for sign in (-1, 1))
    return value, min(value, low), max(value, high)
