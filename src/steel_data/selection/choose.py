"""Which rows of a source are chosen: by what the recipe says each row has a place in one order, and the first are
taken.

Legend of array suffixes: _R one entry a candidate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from steel_data.benchmarks.index import TURN
from steel_data.errors import InputError
from steel_data.filters import dedup
from steel_data.recipe.selection import AIMED, RATED, Select
from steel_data.row.record import text_view
from steel_data.row.table import compared_of
from steel_data.row.text import TextBatch
from steel_data.selection.candidates import F64, I64, Candidates, groups
from steel_data.selection.dsir import gumbel, importance
from steel_data.selection.order import balanced, beginning, best_first
from steel_data.selection.ratings import RatingStore, find_store, rate_command, read_part
from steel_data.selection.round_robin import likeness, round_robin
from steel_data.selection.target import Conversation, Target, find_target, target_key

_ALIKE = 0.5  # Jaccard similarity from which rows are of one cluster: the least that the bands serve


@dataclass(frozen=True)
class BoundSelect:
    """A source's `select` with what it needs at hand: the target's conversations, the model's ratings."""

    select: Select
    recipe: Path
    target: tuple[Conversation, ...] = ()
    files: tuple[Path, ...] = ()  # of the target
    left_out: int = 0  # rows of the target whose question a test split has too
    store: RatingStore | None = None

    @property
    def key(self) -> str:
        """What the target is known by."""
        return target_key(self.target)


@dataclass(frozen=True)
class Chosen:
    """All candidates in the order of choice (R), the rating of each (R; NaN: none), and how many of them are taken."""

    order_R: I64
    rating_R: F64
    count: int

    def place(self, candidate: int) -> int:
        """Return a candidate's place in the order, from 1."""
        return int(np.flatnonzero(self.order_R == candidate)[0]) + 1


def prepare_choice(where: str, select: Select, recipe: Path, data_root: Path, cache: Path) -> BoundSelect:
    """Find what a `select` needs before a row is read. Raises InputError: a test split as target, no ratings."""
    target: Target | None = find_target(where, select.targets, data_root) if select.by in AIMED else None
    store = find_store(where, select, cache, recipe) if select.by in RATED else None
    if target is None:
        return BoundSelect(select, recipe, store=store)
    conversations, left_out = target.conversations()
    files = tuple(dict.fromkeys(file for _, file, _ in target.files))
    return BoundSelect(select, recipe, tuple(conversations), files, left_out, store)


def choose_rows(choice: BoundSelect, candidates: Candidates, meta: tuple[str, ...]) -> Chosen:
    """Return the choice. Raises InputError where more is asked for than there is, and where ratings are missing."""
    select, where = choice.select, candidates.where
    order_R, rating_R = _ORDERS[select.by](choice, candidates)
    size_R = np.ones(len(order_R), np.int64) if select.rows is not None else candidates.tokens_R
    group = groups(candidates, select.within, meta)
    if group is not None and len(group):
        order_R = balanced(order_R, group.fill_null(""), size_R)
    asked, there = select.rows or select.tokens or 0, int(size_R.sum())
    if asked > there:
        unit = "rows" if select.rows is not None else "tokens"
        raise InputError(
            f"{where}: select {unit} = {asked:,}, but {there:,} are left to choose from. Fix: {unit} = {there} or less."
        )
    return Chosen(order_R, rating_R, beginning(size_R[order_R], asked))


Ordered = tuple[I64, F64]


def _random(choice: BoundSelect, candidates: Candidates) -> Ordered:
    return _by_rating(np.full(len(candidates.ids), np.nan), candidates)


def _by_rating(rating_R: F64, candidates: Candidates, score_R: F64 | None = None) -> Ordered:
    return best_first(rating_R if score_R is None else score_R, candidates.key_R), rating_R


def _longest(choice: BoundSelect, candidates: Candidates) -> Ordered:
    return _by_rating(np.array(candidates.all(_answer_chars), np.float64), candidates)


def _answer_chars(records: pl.DataFrame) -> list[int]:
    lengths = []
    for body in records["messages"]:
        turns = orjson.loads(body) if body is not None else []
        turns = turns.get("completion") or turns["chosen"] if isinstance(turns, dict) else turns
        lengths.append(sum(len(t["content"] or "") for t in turns if t["role"] == "assistant"))
    return lengths


def _length(choice: BoundSelect, candidates: Candidates) -> Ordered:
    return _by_rating(candidates.tokens_R.astype(np.float64), candidates)


def _dsir(choice: BoundSelect, candidates: Candidates) -> Ordered:
    texts = [text_view({"messages": turns}) for turns in choice.target]
    weight_R = importance(candidates, texts)
    return _by_rating(weight_R, candidates, weight_R + gumbel(candidates.key_R))


def _perplexity(choice: BoundSelect, candidates: Candidates) -> Ordered:
    rating_R = _rated(choice, candidates)
    return _by_rating(rating_R, candidates, -rating_R)


def _ifd(choice: BoundSelect, candidates: Candidates) -> Ordered:
    """Highest first, but what the question makes no easier (1 or more) last, as the authors leave it out."""
    rating_R = _rated(choice, candidates)
    return _by_rating(rating_R, candidates, np.where(rating_R < 1, rating_R, -rating_R))


def _rated(choice: BoundSelect, candidates: Candidates) -> F64:
    """Return the ratings of all candidates; NaN of a row of which the model's template learns nothing."""
    return _stored(choice, candidates)["rating"].fill_null(float("nan")).to_numpy()


def _stored(choice: BoundSelect, candidates: Candidates) -> pl.DataFrame:
    assert choice.store is not None
    known = choice.store.read().with_columns(known=pl.lit(True))
    mine = candidates.ids.alias("id").to_frame().join(known, on="id", how="left", maintain_order="left")
    lacking = mine["known"].null_count()
    if lacking:
        raise InputError(
            f"{candidates.where}: {lacking:,} of {len(mine):,} rows have no {choice.select.by} rating by "
            f"'{choice.store.model}'. Fix: `{rate_command(choice.select, choice.recipe)}` (it goes on where it was)."
        )
    return mine


def _rds(choice: BoundSelect, candidates: Candidates) -> Ordered:
    assert choice.store is not None
    place = choice.store.target(choice.key)
    if not place.is_file():
        raise InputError(
            f"{candidates.where}: '{choice.store.model}' has not read this target. Fix: "
            f"`{rate_command(choice.select, choice.recipe)}`."
        )
    vectors = _stored(choice, candidates)["vector"]
    queries_QD = _matrix(read_part(place, {"vector": pl.Binary})["vector"].drop_nulls())
    rated = vectors.is_not_null().to_numpy()
    rows_RD = _matrix(vectors.drop_nulls())
    if len(rows_RD) and rows_RD.shape[1] != queries_QD.shape[1]:
        raise InputError(
            f"{place}: holds vectors of another length than the rows have. Fix: remove the file and run `rate` again."
        )
    by_key = np.argsort(candidates.key_R[rated], kind="stable")  # of equally alike rows the smaller hash
    rating_R = np.full(len(rated), np.nan)
    if not len(rows_RD):
        return np.arange(len(rated)), rating_R
    best, preferred = likeness(rows_RD[by_key], queries_QD)
    mine = np.flatnonzero(rated)[by_key]
    rating_R[mine] = best
    return np.concatenate([mine[round_robin(preferred, len(mine))], np.flatnonzero(~rated)]), rating_R


def _matrix(vectors: pl.Series) -> npt.NDArray[np.float32]:
    joined = np.frombuffer(b"".join(vectors.to_list()), np.float16)
    return joined.reshape(len(vectors), -1).astype(np.float32) if len(vectors) else np.zeros((0, 1), np.float32)


def _duplicates_last(choice: BoundSelect, candidates: Candidates) -> Ordered:
    """One row of each cluster of alike rows first, then the second of each: the rating is a row's place in its own."""

    def turns(records: pl.DataFrame) -> list[str]:
        return compared_of(records, "all", TURN)

    order_R = np.argsort(candidates.key_R, kind="stable")
    back_R = np.argsort(order_R)
    keys: dict[str, npt.NDArray[Any]] = {}
    texts = [""] * len(order_R)
    for rows, found in candidates.read(turns):
        for row, text in zip(rows.tolist(), found, strict=True):
            texts[row] = text
        for name, values in dedup.near_keys(TextBatch(found)).items():
            keys.setdefault(name, np.zeros(len(order_R), values.dtype))[back_R[rows]] = values
    if not keys:
        return order_R, np.zeros(0)
    root = dedup.near_winners(keys.__getitem__, lambda some: [texts[r] for r in order_R[some]], len(order_R), _ALIKE)
    by_root = np.argsort(root, kind="stable")
    start = np.searchsorted(root[by_root], root[by_root])
    rating_R = np.empty(len(order_R))
    rating_R[order_R[by_root]] = np.arange(len(root)) - start + 1
    return order_R[np.argsort(rating_R[order_R], kind="stable")], rating_R


_ORDERS: dict[str, Callable[[BoundSelect, Candidates], Ordered]] = {
    "random": _random,
    "longest": _longest,
    "length": _length,
    "dsir": _dsir,
    "perplexity": _perplexity,
    "ifd": _ifd,
    "rds": _rds,
    "duplicates-last": _duplicates_last,
}
