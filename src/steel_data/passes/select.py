"""Which of the kept records go into the mixture, how many copies of each, and in which order.

First each source's `take` or `take_tokens`: by keyed hash of the record's id, so that the 10 % sample lies inside the
20 % sample, and neither the order of files nor the number of workers matters; `hold_out` keeps some of them out. Of
what is left, `select` chooses (steel_data/selection). Then the repeats. Then budgets and shares of languages or
sources: of all *units* (one copy of one record each), ordered by keyed hash, a prefix of each language or source is
taken, so that a smaller budget's mixture lies inside a larger one's. Tokens are reached from below, by less than one
row; row budgets are exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from steel_data.errors import InputError, nearest
from steel_data.filters.dedup import Rows
from steel_data.passes.map import MappedSource
from steel_data.passes.rows import PlannedRows, small, true_rows
from steel_data.recipe.load import Mix, Recipe
from steel_data.row.table import id_digits, id_texts
from steel_data.row.text import distinct, sorting, xxh3
from steel_data.selection.candidates import Candidates
from steel_data.selection.choose import Chosen, choose_rows

I64 = npt.NDArray[np.int64]
Copies = npt.NDArray[np.integer[Any]]  # from 0, in the smallest type that holds them
Bool = npt.NDArray[np.bool_]
_BLOCK = 2**17  # units whose hashes are made at once


@dataclass(frozen=True)
class Selection:
    """What a source's `select` chose from: rows of the plan (R), and the order of choice among them."""

    rows_R: I64
    chosen: Chosen

    @property
    def taken(self) -> I64:
        """The chosen rows of the plan, ascending."""
        return np.sort(self.rows_R[self.chosen.order_R[: self.chosen.count]])


def select(
    recipe: Recipe, sources: Sequence[MappedSource], rows: PlannedRows
) -> tuple[Rows, Copies, dict[str, Selection]]:
    """Return records (numbers of rows) and copies (from 0) of the mixture in output order, and what sources selected.

    Raises InputError where more is asked for than there is.
    """
    selections: dict[str, Selection] = {}
    injected_R, ids = rows.injected(), rows.column("id")
    tokens = rows.column("tokens").fill_null(0).to_numpy()
    records: list[Rows] = []
    copies: list[Copies] = []
    for s, source in enumerate(sources):
        first, last = rows.span(s)
        mine = true_rows(rows.verdicts.kept(first, last) & ~injected_R[first:last], first, rows.kind)
        mine = take_rows(recipe, source, mine, ids, tokens)
        mine = without_held(recipe, source, mine, ids)
        if source.choice is not None:
            candidates = _candidates(recipe, source, mine, rows)
            selections[source.name] = Selection(mine, choose_rows(source.choice, candidates, source.job.meta))
            mine = selections[source.name].taken.astype(rows.kind)
        records.append(np.repeat(mine, source.repeat) if source.repeat > 1 else mine)
        copies.append(np.tile(small(range(source.repeat)), len(mine)))
        del mine
    injected = true_rows(rows.verdicts.kept() & injected_R, 0, rows.kind)
    doses = rows.at(injected, "dose")["dose"].fill_null(1).to_numpy().astype(np.int64)
    if recipe.mix != Mix():
        fixed = _Fixed(injected, doses)
        chosen = _chosen(recipe, sources, rows, np.concatenate(records), np.concatenate(copies), fixed)
        records, copies = [chosen], [_counted(chosen)]  # a budget may have left out copy 0 and kept copy 1
    record = np.concatenate([*records, np.repeat(injected, doses)])
    copy = np.concatenate([*copies, *[small(range(dose)) for dose in doses.tolist()]])
    records.clear()
    copies.clear()
    return *_ordered(recipe.seed, sources, rows, record, copy), selections


@dataclass(frozen=True)
class _Fixed:
    """Rows that are in the mixture anyway, and how often each."""

    rows: Rows
    doses: I64


def _chosen(
    recipe: Recipe, sources: Sequence[MappedSource], rows: PlannedRows, record: Rows, copy: Copies, fixed: _Fixed
) -> Rows:
    """Return the records, ascending, of the units (record and copy) that budgets and targets leave."""
    tokens = rows.column("tokens").fill_null(0).to_numpy()
    languages, code = _codes(rows.column("language"))
    pool = Pool(
        key=keyed_hashes("mix", recipe.seed, rows.column("id"), record, copy),
        record=record,
        tokens=tokens[record],
        languages=languages,
        language=code[record],
        sources=[source.name for source in sources],
        source=rows.column("source").to_numpy()[record],
        copy=copy,
        fixed_rows=int(fixed.doses.sum()),
        fixed_tokens=_tokens_by_language(languages, code[fixed.rows], tokens[fixed.rows] * fixed.doses),
    )
    return record[choose(recipe.mix, pool, str(recipe.path))]


def _counted(record: Rows) -> Copies:
    """Return the place of each unit among those of its record, whose units stand side by side."""
    new = np.ones(len(record), bool)
    new[1:] = record[1:] != record[:-1]
    starts = np.flatnonzero(new)
    counted = np.arange(len(record)) - np.repeat(starts, np.diff(np.append(starts, len(record))))
    return counted.astype(np.min_scalar_type(counted.max(initial=0)))


def _candidates(recipe: Recipe, source: MappedSource, mine: Rows, rows: PlannedRows) -> Candidates:
    told = rows.at(mine, "id", "tokens", "language", "file")
    return Candidates(
        where=f"{recipe.path} [source.{source.name}]", ids=pl.Series("id", id_texts(told["id"]), dtype=pl.String),
        key_R=keyed_hashes("select", recipe.seed, rows.column("id"), mine, np.zeros(len(mine), np.int64)),
        tokens_R=told["tokens"].fill_null(0).to_numpy().astype(np.int64), language=told["language"],
        file=told["file"].replace_strict(range(len(source.files)), source.files, return_dtype=pl.String),
        read=partial(rows.read, mine),
    )  # fmt: skip


def _codes(column: pl.Series) -> tuple[list[str], npt.NDArray[np.integer[Any]]]:
    """Return the distinct values of a column of strings, and the place of each row's value among them (-1: null)."""
    names = column.drop_nulls().unique().sort().to_list()
    codes = column.replace_strict(names, range(len(names)), default=-1, return_dtype=pl.Int16)
    return names, codes.fill_null(-1).to_numpy()


def _tokens_by_language(languages: list[str], code: npt.NDArray[Any], tokens: npt.NDArray[Any]) -> dict[str, int]:
    totals = np.bincount(code + 1, weights=tokens, minlength=len(languages) + 1)[1:]
    return {name: int(n) for name, n in zip(languages, totals.tolist(), strict=True) if n}


def take_rows(recipe: Recipe, source: MappedSource, rows: I64, ids: pl.Series, tokens: I64) -> I64:
    """Return the rows of a source that `take` or `take_tokens` leaves, the smallest keyed hashes."""
    if source.take is None and source.take_tokens is None:
        return rows
    where = f"{recipe.path} [source.{source.name}]"
    order = rows[np.lexsort((rows, keyed_hashes("take", recipe.seed, ids, rows, np.zeros(len(rows), np.int64))))]
    if source.take is not None:
        if source.take > len(rows):
            raise InputError(
                f"{where}: take = {source.take:,} rows, but {len(rows):,} are left after filters and dedup. "
                f"Fix: take = {len(rows)} or less."
            )
        return np.sort(order[: source.take])
    assert source.take_tokens is not None
    reached = np.cumsum(tokens[order])
    if source.take_tokens > (reached[-1] if len(reached) else 0):
        there = int(reached[-1]) if len(reached) else 0
        raise InputError(
            f"{where}: take_tokens = {source.take_tokens:,}, but {there:,} are left after filters and dedup. "
            f"Fix: take_tokens = {there} or less."
        )
    return np.sort(order[: int(np.searchsorted(reached, source.take_tokens, side="right"))])


def held_first(seed: int, ids: pl.Series, rows: I64) -> I64:
    """Return rows in the order in which `hold_out` keeps them out: a smaller number is inside a larger one."""
    return rows[np.lexsort((rows, keyed_hashes("hold", seed, ids, rows, np.zeros(len(rows), np.int64))))]


def without_held(recipe: Recipe, source: MappedSource, rows: I64, ids: pl.Series) -> I64:
    """Return the rows of a source that `hold_out` leaves. Raises InputError where none would be left."""
    if not source.hold_out:
        return rows
    if source.hold_out >= len(rows):
        raise InputError(
            f"{recipe.path} [source.{source.name}]: hold_out = {source.hold_out:,} rows, but {len(rows):,} are taken. "
            f"Fix: hold_out = {max(len(rows) - 1, 0)} or less."
        )
    return np.sort(held_first(recipe.seed, ids, rows)[source.hold_out :])


def keyed_hashes(purpose: str, seed: int, ids: pl.Series, record: Rows | I64, copy: Copies) -> npt.NDArray[np.uint64]:
    """Return xxh3-64, keyed by the seed, of purpose, id and copy of each unit.

    The purposes must differ: were the sampling's hash also the order's, a sampled source would lie at the beginning of
    the mixture. Ids become Python strings a block at a time: five million at once would be half a gigabyte.
    """
    key = seed & (2**64 - 1)
    out = np.empty(len(record), np.uint64)
    for start in range(0, len(record), _BLOCK):
        block = slice(start, start + _BLOCK)
        mine, numbers = ids.gather(record[block]), copy[block]
        if ids.dtype == pl.String:
            pairs = zip(mine, numbers.tolist(), strict=True)
            out[block] = [xxhash.xxh3_64_intdigest(f"{purpose}/{i}/{c}".encode(), key) for i, c in pairs]
            continue
        digits = id_digits(mine)
        for number in distinct(numbers).tolist():
            same = np.flatnonzero(numbers == number)
            text = np.frombuffer(f"{purpose}/{'':32}/{number}".encode(), np.uint8)
            texts = np.tile(text, (len(same), 1))
            texts[:, len(purpose) + 1 : len(purpose) + 33] = digits[same]
            out[start + same] = xxh3(texts, key)
    return out


def _ordered(
    seed: int, sources: Sequence[MappedSource], rows: PlannedRows, record: Rows, copy: Copies
) -> tuple[Rows, Copies]:
    """Sort by (xxh3(seed, id, copy), source, origin_file, origin_row, copy)."""
    names = [source.name for source in sources]
    rank = np.argsort(np.argsort(names))  # the source's name decides, not its place in the recipe
    key = keyed_hashes("order", seed, rows.column("id"), record, copy)
    order = sorting(key)
    tied = _tied(key, order)  # units of one id: few, and only they need the rest
    units = order[tied]
    told = rows.at(record[units], "part", "origin_row", "file", "source")
    rest = (
        units, copy[units], told["part"].to_numpy(), told["origin_row"].to_numpy(), told["file"].to_numpy(),
        rank[told["source"].to_numpy()],
    )  # fmt: skip
    order[tied] = units[np.lexsort((*rest, key[units]))]
    del key
    return record[order], copy[order]


def _tied(key: npt.NDArray[np.uint64], order: Rows) -> I64:
    """Return the places in `order`, which sorts `key`, at which an entry equals one beside it."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(order) - 1, _BLOCK):
        block = key[order[start : start + _BLOCK + 1]]
        same = start + np.flatnonzero(block[1:] == block[:-1])
        found += [same, same + 1]
    return distinct(np.concatenate(found))


# Budgets and targets of languages or sources


@dataclass(frozen=True)
class Pool:
    """All units that may be chosen (arrays over units), and what is in the mixture anyway (injected rows)."""

    key: npt.NDArray[np.uint64]
    record: I64
    tokens: npt.NDArray[np.integer[Any]]
    languages: list[str]
    language: npt.NDArray[np.integer[Any]]  # place in `languages`, -1 for none
    sources: list[str]
    source: npt.NDArray[np.integer[Any]]  # place in `sources`
    copy: Copies
    fixed_rows: int
    fixed_tokens: dict[str, int]


def choose(mix: Mix, pool: Pool, where: str) -> I64:
    """Return the chosen units (ascending). Raises InputError on a shortfall, stating the largest feasible budget."""
    everything = np.arange(len(pool.record))
    if mix == Mix():
        return everything
    if mix.sources is not None:  # of a source that must repeat, every row once more before any row twice more
        order = np.lexsort((everything, pool.record, pool.key, pool.copy))
        fixed = sum(pool.fixed_tokens.values())
        groups = Groups("source", mix.sources, pool.sources, pool.source, {}, fixed)
        return np.sort(_with_shares(mix, pool, order, groups, where))
    order = np.lexsort((everything, pool.record, pool.key))
    if mix.languages is None:
        return np.sort(_without_languages(mix, pool, order, where))
    groups = Groups("language", mix.languages, pool.languages, pool.language, pool.fixed_tokens)
    return np.sort(_with_shares(mix, pool, order, groups, where))


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
        raise InputError(f"{where} [mix]: {key} = {asked:,}, but there are {there:,}. Fix: {key} = {there} or less.")
    if asked < fixed:
        raise InputError(
            f"{where} [mix]: {key} = {asked:,}, but the injected rows alone are {fixed:,}. "
            f"Fix: {key} = {fixed} or more."
        )


@dataclass(frozen=True)
class Groups:
    """What has shares of tokens: languages or sources. `group` (units): place in `names`, -1 for none.

    `fixed`: tokens of injected rows that count towards a name's share; `beside`: those that count towards the budget
    alone.
    """

    what: str
    shares: Mapping[str, float]
    names: list[str]
    group: npt.NDArray[np.integer[Any]]
    fixed: Mapping[str, int]
    beside: int = 0


def _with_shares(mix: Mix, pool: Pool, order: I64, groups: Groups, where: str) -> I64:
    """Take a prefix of each group's units so that tokens are in the wanted shares."""
    shares = {name: share for name, share in groups.shares.items() if share > 0}
    code = {name: i for i, name in enumerate(groups.names)}
    units = {name: order[groups.group[order] == code.get(name, -2)] for name in shares}
    fixed = {name: groups.fixed.get(name, 0) for name in shares}
    reached = {name: np.cumsum(pool.tokens[u]) for name, u in units.items()}
    total = {name: (int(r[-1]) if len(r) else 0) + fixed[name] for name, r in reached.items()}
    for name in shares:
        if not total[name]:
            raise InputError(f"{where} [mix]: {groups.what}s: no row is '{name}'.{nearest(name, groups.names)}")
    largest = min(int(total[name] / share) for name, share in shares.items())
    budget: float = largest
    if mix.budget_tokens is not None:
        budget = mix.budget_tokens - groups.beside
        if budget > largest:
            short = min(shares, key=lambda name: total[name] / shares[name])
            raise InputError(
                f"{where} [mix]: budget_tokens = {mix.budget_tokens:,} needs {shares[short] * budget:,.0f} "
                f"tokens of '{short}', but there are {total[short]:,}. "
                f"Fix: budget_tokens = {largest + groups.beside} or less."
            )
        if budget < 0:
            raise InputError(
                f"{where} [mix]: budget_tokens = {mix.budget_tokens:,}, but the injected rows alone are "
                f"{groups.beside:,}. Fix: a larger budget, or a smaller share or dose."
            )

    def prefixes(tokens: float) -> dict[str, int]:
        return {
            name: int(np.searchsorted(reached[name], max(share * tokens - fixed[name], 0) + 1e-6, side="right"))
            for name, share in shares.items()
        }

    counts = prefixes(budget)
    if mix.budget_rows is not None:
        wanted = mix.budget_rows - pool.fixed_rows
        _check(where, "budget_rows", mix.budget_rows, pool.fixed_rows, sum(counts.values()) + pool.fixed_rows)
        counts = _exact_rows(prefixes, reached, shares, wanted, budget)
    for name, share in shares.items():
        if fixed[name] > share * budget + 1e-6:
            raise InputError(
                f"{where} [mix]: injected rows hold {fixed[name]:,} tokens of '{name}', more than its share of "
                f"{share * budget:,.0f}. Fix: a larger budget, a larger share, or a smaller dose."
            )
    return np.concatenate([units[name][:count] for name, count in counts.items()])


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

    def behind(name: str) -> float:
        count = counts[name]
        have = int(reached[name][count - 1]) if count else 0
        return have / shares[name]

    while sum(counts.values()) < wanted:
        unfinished = [name for name in shares if counts[name] < len(reached[name])]
        counts[min(unfinished, key=behind)] += 1
    return counts
