"""Budgets and language targets: which units (one copy of one record each) the mixture holds.

Units of a language are ordered by keyed hash and a prefix is taken, so that a smaller budget's mixture lies inside a
larger one's. Tokens are reached from below, by less than one row; row budgets are exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from steel_data.errors import InputError, nearest
from steel_data.recipe import Mix

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """All units that may be chosen (arrays over units), and what is in the mixture anyway (injected rows)."""

    key: npt.NDArray[np.uint64]
    record: I64
    tokens: I64
    languages: list[str]
    language: I64  # place in `languages`, -1 for none
    fixed_rows: int
    fixed_tokens: dict[str, int]


def choose(mix: Mix, pool: Pool, where: str) -> I64:
    """Return the chosen units (ascending). Raises InputError on a shortfall, stating the largest feasible budget."""
    everything = np.arange(len(pool.record))
    if mix.languages is None and mix.budget_rows is None and mix.budget_tokens is None:
        return everything
    order = np.lexsort((everything, pool.record, pool.key))
    if mix.languages is None:
        return np.sort(_without_languages(mix, pool, order, where))
    return np.sort(_with_languages(mix, pool, order, where))


def _without_languages(mix: Mix, pool: Pool, order: I64, where: str) -> I64:
    if mix.budget_rows is not None:
        _check(where, "budget_rows", mix.budget_rows, pool.fixed_rows, len(order) + pool.fixed_rows)
        return order[: mix.budget_rows - pool.fixed_rows]
    assert mix.budget_tokens is not None
    fixed = sum(pool.fixed_tokens.values())
    reached = np.cumsum(pool.tokens[order])
    there = int(reached[-1]) if len(reached) else 0
    _check(where, "budget_tokens", mix.budget_tokens, fixed, there + fixed)
    return order[: int(np.searchsorted(reached, mix.budget_tokens - fixed, side="right"))]


def _check(where: str, key: str, asked: int, fixed: int, there: int) -> None:
    if asked > there:
        raise InputError(f"{where} [mix]: {key} = {asked:,}, but there are {there:,}. Right: {key} = {there} or less.")
    if asked < fixed:
        raise InputError(f"{where} [mix]: {key} = {asked:,}, but the injected rows alone are {fixed:,}.")


def _with_languages(mix: Mix, pool: Pool, order: I64, where: str) -> I64:
    """Take a prefix of each language's units so that tokens are in the wanted shares."""
    assert mix.languages is not None
    shares = {language: share for language, share in mix.languages.items() if share > 0}
    code = {language: i for i, language in enumerate(pool.languages)}
    units = {language: order[pool.language[order] == code.get(language, -2)] for language in shares}
    fixed = {language: pool.fixed_tokens.get(language, 0) for language in shares}
    reached = {language: np.cumsum(pool.tokens[u]) for language, u in units.items()}
    total = {language: (int(r[-1]) if len(r) else 0) + fixed[language] for language, r in reached.items()}
    for language in shares:
        if not total[language]:
            raise InputError(f"{where} [mix]: languages: no row is '{language}'.{nearest(language, pool.languages)}")
    largest = min(int(total[language] / share) for language, share in shares.items())
    budget: float = largest
    if mix.budget_tokens is not None:
        if mix.budget_tokens > largest:
            short = min(shares, key=lambda lang: total[lang] / shares[lang])
            raise InputError(
                f"{where} [mix]: budget_tokens = {mix.budget_tokens:,} needs {shares[short] * mix.budget_tokens:,.0f} "
                f"tokens of '{short}', but there are {total[short]:,}. Right: budget_tokens = {largest} or less."
            )
        budget = mix.budget_tokens

    def prefixes(tokens: float) -> dict[str, int]:
        return {
            language: int(
                np.searchsorted(reached[language], max(share * tokens - fixed[language], 0) + 1e-6, side="right")
            )
            for language, share in shares.items()
        }

    counts = prefixes(budget)
    if mix.budget_rows is not None:
        wanted = mix.budget_rows - pool.fixed_rows
        _check(where, "budget_rows", mix.budget_rows, pool.fixed_rows, sum(counts.values()) + pool.fixed_rows)
        counts = _exact_rows(prefixes, reached, shares, wanted, budget)
    for language, share in shares.items():
        if fixed[language] > share * budget + 1e-6:
            raise InputError(
                f"{where} [mix]: injected rows hold {fixed[language]:,} tokens of '{language}', more than its share of "
                f"{share * budget:,.0f}. Right: a larger budget, a larger share, or a smaller dose."
            )
    return np.concatenate([units[language][:count] for language, count in counts.items()])


def _exact_rows(
    prefixes: Any, reached: dict[str, I64], shares: dict[str, float], wanted: int, largest: float
) -> dict[str, int]:
    """Return prefix lengths of `wanted` rows in all: the largest token total that fits, then the rest one by one."""
    low, high = 0.0, largest
    for _ in range(60):
        middle = (low + high) / 2
        if sum(prefixes(middle).values()) <= wanted:
            low = middle
        else:
            high = middle
    counts: dict[str, int] = prefixes(low)

    def behind(language: str) -> float:
        count = counts[language]
        have = int(reached[language][count - 1]) if count else 0
        return have / shares[language]

    while sum(counts.values()) < wanted:
        open_languages = [lang for lang in shares if counts[lang] < len(reached[lang])]
        counts[min(open_languages, key=behind)] += 1
    return counts
