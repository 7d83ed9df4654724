"""What changed between two mixtures, two recipes, or one of each: keys, rows, tokens, steps, and examples of rows.

A mixture is read from its folder; a recipe goes through the map and plan passes (their work stays in the cache), so it
need not have been built. Nothing else is written.

Rows are compared on narrow columns, by joins. A row is the same as another by its text first (its id), by its place
second: so a line inserted at the top of a file changes one row and not all below it. In this order: same text at the
same origin; same text elsewhere in the source; same text in another source (moved); another text at the same origin
(changed); the rest was removed or added.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from polars import selectors as cs
from rich.console import Console
from rich.text import Text

from steel_data.chinese import say
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.explain.forecast import optimiser_steps
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.rows import collect, rows_at, scan
from steel_data.passes.map import map_sources
from steel_data.passes.plan import decide
from steel_data.passes.prepare import manifest_head, prepare
from steel_data.recipe.changes import Change, changes, recipe_changes, things
from steel_data.recipe.load import load
from steel_data.recipe.places import places
from steel_data.row.display import console, harmless, one_line, plain_table, print_table, told_line
from steel_data.row.record import text_view
from steel_data.row.table import id_texts

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
CHANGES = ("same", "elsewhere", "moved", "changed", "removed", "added")
_ORIGIN = ["source", "file", "row"]
_WINDOW = 160  # characters of an example
_LINES = 40  # changed keys shown
_TITLES = {
    "added": "added, only in B",
    "removed": "removed, only in A",
    "changed": "changed: another text at the same origin",
    "moved": "moved to another source",
    "repeated": "repeated otherwise",
}


@dataclass(frozen=True)
class Where:
    """Where recipes find data and cache, and how many processes map them."""

    data_root: Path | None = None
    cache: Path | None = None
    workers: int = 1


@dataclass(frozen=True)
class Side:
    """One of the two. `head`: what it is made of, as in a manifest; `rows`: see `narrow`; `texts`: by `at`."""

    path: Path
    head: dict[str, Any]
    rows: pl.DataFrame
    tokens_by_source: dict[str, int]
    tokens_by_language: dict[str, int]
    texts: Callable[[list[int]], list[str]]

    @property
    def tokens(self) -> int:
        """Tokens of the whole mixture."""
        return sum(self.tokens_by_source.values())

    @property
    def size(self) -> int:
        """Rows of the whole mixture."""
        return int(self.rows["n"].sum())

    def steps(self) -> tuple[int | None, str]:
        """Return the optimiser steps that the recipe's [train] gives, and how they come about."""
        return optimiser_steps(self.head["recipe"].get("train", {}), self.size, self.tokens)


@dataclass(frozen=True)
class Example:
    """A record that changed: its sources and texts on both sides (None where it is not)."""

    change: str
    source_a: str | None
    source_b: str | None
    n_a: int
    n_b: int
    text_a: str | None
    text_b: str | None


@dataclass
class Books:
    """What became of the rows of one source, language or kind. `after = before - removed + added - out + in + repeats`.

    In rows of the mixture, so a record that is repeated counts as often as it stands there. `changed`: other text at
    the same origin. `out`, `into`: rows that are in another group on the other side. `repeats`: more or fewer copies.
    """

    before: int = 0
    removed: int = 0
    added: int = 0
    changed: int = 0
    out: int = 0
    into: int = 0
    repeats: int = 0
    after: int = 0


@dataclass(frozen=True)
class Diff:
    """All that differs. `things`: what a reader would call separate decisions (an ablation has one)."""

    a: Side
    b: Side
    recipe: tuple[Change, ...]
    things: tuple[str, ...]
    totals: dict[str, int]
    by: dict[str, dict[str, Books]]  # source, language, kind
    examples: tuple[Example, ...]

    def data(self) -> dict[str, Any]:
        """Return it as plain data: `rows` and `tokens` of both sides, and all that is printed."""
        sides = {
            name: {"path": str(side.path), "rows": side.size, "tokens": side.tokens,
                   "tokens_by_source": side.tokens_by_source, "tokens_by_language": side.tokens_by_language}
            for name, side in (("a", self.a), ("b", self.b))
        }  # fmt: skip
        by = {column: {name: asdict(books) for name, books in found.items()} for column, found in self.by.items()}
        return {
            **sides, "recipe": [asdict(change) for change in self.recipe], "things": list(self.things),
            "totals": self.totals, "by": by, "examples": [asdict(example) for example in self.examples],
        }  # fmt: skip


def diff(a: Path, b: Path, where: Where | None = None, examples: int = 2) -> Diff:
    """Return what changed from `a` to `b`, each a mixture folder or a recipe.

    examples: how many rows of each change are shown. Raises InputError for what is neither, and as `build` does.
    """
    one, two = (_side(path, where or Where()) for path in (a, b))
    asked = recipe_changes(one.head["recipe"], two.head["recipe"])
    compared = compare(one.rows, two.rows)
    return Diff(
        one, two, tuple(asked), (*things(asked), *_data_things(one.head, two.head, asked)), totals(compared),
        {column: books(compared, column) for column in ("source", "language", "kind")},
        tuple(example for change in _TITLES for example in _examples(one, two, compared, change, examples)),
    )  # fmt: skip


def _side(path: Path, where: Where) -> Side:
    if path.is_dir():
        return _of_mixture(path)
    if path.suffix != ".toml":
        raise InputError(f"{path}: is neither a mixture folder nor a recipe. Fix: what `build` wrote, or a .toml file.")
    return _of_recipe(path, where)


def _of_mixture(folder: Path) -> Side:
    manifest = read_manifest(folder)
    names = list(manifest["output"])
    start = np.cumsum([0, *(entry["rows"] for entry in manifest["output"].values())])
    columns = pl.col("id", "source", "kind", "language")
    train = scan(folder, names).select(columns, file="origin_file", row="origin_row", n=1).with_row_index("at")

    def texts(numbers: list[int]) -> list[str]:
        of = np.searchsorted(start, numbers, side="right") - 1
        places = [(names[f], n - int(start[f])) for f, n in zip(of.tolist(), numbers, strict=True)]
        found = dict(rows_at(folder, places))
        return [text_view(found[place]) for place in places]

    by_source = {name: account["tokens"] for name, account in manifest["sources"].items()}
    rows = merged(collect(folder, narrow(train)))
    return Side(folder, manifest, rows, by_source, manifest["languages"], texts)


def _of_recipe(path: Path, where: Where) -> Side:
    recipe = load(path)
    prepared = prepare(recipe, places(recipe, where.data_root, None, where.cache), Local(where.workers))
    sources = map_sources(prepared, Local(where.workers))
    plan = decide(recipe, sources)
    names = pl.DataFrame(
        [(s, f, source.name, file) for s, source in enumerate(sources) for f, file in enumerate(source.files)],
        schema={"source": pl.UInt16, "file": pl.UInt32, "name": pl.String, "path": pl.String}, orient="row",
    )  # fmt: skip
    tokens = pl.col("tokens").fill_null(0).cast(pl.Int64) * pl.col("written")
    kept = plan.frame.with_row_index("at").filter(pl.col("written") > 0).with_columns(tokens=tokens)
    kept = kept.cast({"source": pl.UInt16, "file": pl.UInt32}).join(names, on=["source", "file"], how="left")
    kept = kept.with_columns(id=pl.Series(id_texts(kept["id"]), dtype=pl.String))
    rows = kept.select(
        "id", pl.col("kind", "language").cast(pl.Categorical), "at", pl.col("name").alias("source"),
        pl.col("path").alias("file"), pl.col("origin_row").alias("row"), pl.col("written").alias("n"),
    )  # fmt: skip
    by = {
        column: dict(kept.group_by(pl.col(column).cast(pl.String)).agg(pl.col("tokens").sum()).iter_rows())
        for column in ("name", "language")
    }
    texts = lambda places: plan.texts(np.array(places, np.int64))  # noqa: E731
    return Side(path, manifest_head(prepared), merged(narrow(rows)), by["name"], by["language"], texts)


def _data_things(a: dict[str, Any], b: dict[str, Any], asked: list[Change]) -> list[str]:
    """Return what differs besides the recipe: data of the same name, the user's own code, the versions of libraries."""
    found = []
    one, two = ({name: entry["sha256"] for name, entry in side["inputs"].items()} for side in (a, b))
    other = changes(one, two)
    # where the recipes ask for other files, one that is on one side only is their doing
    if any(change.path[:1] in (("source",), ("filters",)) for change in asked):
        other = [change for change in other if None not in (change.old, change.new)]
    if other:
        more = f" and {len(other) - 1:,} more files" if len(other) > 1 else ""
        found.append(f"contents of the input {other[0].key}{more}")
    for key, what in (("custom", "code of '{}'"), ("versions", "version of {}")):
        both = [c.key for c in changes(a.get(key, {}), b.get(key, {})) if None not in (c.old, c.new)]
        if both:
            found.append(what.format(", ".join(both)))
    return found


def _examples(a: Side, b: Side, compared: pl.DataFrame, change: str, number: int) -> list[Example]:
    chosen = sample(compared, change, number)
    texts = []
    for side, column in ((a, "at_a"), (b, "at_b")):
        wanted = chosen[column].drop_nulls().to_list()
        texts.append(dict(zip(wanted, side.texts(wanted), strict=True)) if wanted else {})
    return [
        Example(
            change, row["source_a"], row["source_b"], row["n_a"], row["n_b"],
            texts[0].get(row["at_a"]), texts[1].get(row["at_b"]),
        )
        for row in chosen.iter_rows(named=True)
    ]  # fmt: skip


def narrow(frame: Frame) -> Frame:
    """Return one row a record: source, file, row, text (u64 of the id), kind, language, n (copies), at (a place).

    `frame` has source, file, row, id, kind, language, n, at. 64 bits of the id tell 10 million texts apart but for a
    chance of 3e-6.
    """
    text = pl.col("id").str.slice(0, 16).str.decode("hex").bin.reinterpret(dtype=pl.UInt64, endianness="big")
    words = pl.col("source", "file", "kind", "language").cast(pl.Categorical)
    return frame.select(words, pl.col("row").cast(pl.Int64), pl.col("n", "at").cast(pl.UInt32), text=text)


def merged(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with copies of a record as one row."""
    rest = [pl.col("n").sum(), pl.col("at").min(), pl.col("kind").first(), pl.col("language").first()]
    return rows.group_by([*_ORIGIN, "text"]).agg(rest).sort("at")


def compare(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """Return one row a record of either side, `change` (one of CHANGES) and the columns of both sides (`_a`, `_b`).

    Columns: change, text, and source, language, kind, n, at of each side; null (n: 0) on the side that lacks it.
    """
    a, b = (side.rename({c: f"{c}_{s}" for c in side.columns}) for side, s in ((a, "a"), (b, "b")))
    found = []
    for change, keys in (
        ("same", [*_ORIGIN, "text"]),
        ("elsewhere", ["source", "text"]),
        ("moved", ["text"]),
        ("changed", _ORIGIN),
    ):
        # of several with one key the first goes with the first: each row is in at most one pair
        on_a, on_b = ([f"{key}_{s}" for key in (*keys, "turn")] for s in "ab")
        turn = pl.int_range(pl.len(), dtype=pl.UInt32)
        a, b = a.with_columns(turn_a=turn.over(on_a[:-1])), b.with_columns(turn_b=turn.over(on_b[:-1]))
        found.append(_labelled(a.join(b, left_on=on_a, right_on=on_b, coalesce=False), change))
        a, b = (
            a.join(b, left_on=on_a, right_on=on_b, how="anti", maintain_order="left"),
            b.join(a, left_on=on_b, right_on=on_a, how="anti", maintain_order="left"),
        )
    rest = [_labelled(a, "removed"), _labelled(b, "added")]
    return pl.concat([*found, *rest], how="diagonal").with_columns(pl.col("n_a", "n_b").fill_null(0))


def _labelled(frame: pl.DataFrame, change: str) -> pl.DataFrame:
    text = pl.col("text_b" if "text_b" in frame.columns else "text_a")
    columns = cs.matches("^(source|language|kind|n|at)_[ab]$")
    return frame.select(columns, text=text, change=pl.lit(change, pl.Enum(CHANGES)))


def books(compared: pl.DataFrame, column: str) -> dict[str, Books]:
    """Return the books by `source`, `language` or `kind`."""
    one, two = f"{column}_a", f"{column}_b"
    sums = compared.group_by(one, two, "change").agg(
        pl.col("n_a", "n_b").cast(pl.Int64).sum(), least=pl.min_horizontal("n_a", "n_b").cast(pl.Int64).sum()
    )
    groups: dict[str, Books] = {}
    for a, b, change, n_a, n_b, least in sums.sort(pl.all().cast(pl.String)).iter_rows():
        old = groups.setdefault(a if a is not None else "-", Books()) if change != "added" else Books()
        new = groups.setdefault(b if b is not None else "-", Books()) if change != "removed" else Books()
        old.before += n_a
        new.after += n_b
        if change == "removed":
            old.removed += n_a
        elif change == "added":
            new.added += n_b
        elif a == b:
            old.changed += least if change == "changed" else 0
            old.repeats += n_b - n_a
        else:
            old.out += n_a
            new.into += n_b
    return dict(sorted(groups.items(), key=lambda kv: (-max(kv[1].before, kv[1].after), kv[0])))


def totals(compared: pl.DataFrame) -> dict[str, int]:
    """Return how many records each change concerns, and `repeated`: in both, but with another number of copies."""
    return {change: int(compared.select(_is(change).sum()).item()) for change in (*CHANGES, "repeated")}


def sample(compared: pl.DataFrame, change: str, number: int) -> pl.DataFrame:
    """Return a few records of one change (or `repeated`): those of the smallest ids, so the same ones each time."""
    keys = ["text", "at_a", "at_b"]
    return compared.filter(_is(change)).bottom_k(number, by=keys).sort(keys)


def _is(change: str) -> pl.Expr:
    if change == "repeated":
        return (pl.col("n_a") != pl.col("n_b")) & (pl.col("n_a") > 0) & (pl.col("n_b") > 0)
    return pl.col("change") == change


def print_diff(found: Diff, out: Console | None = None) -> None:
    """Print a diff at 80 columns or more; texts of rows are made harmless and cut to where they differ."""
    out = out or console()
    out.print(Text(f"A: {one_line(str(found.a.path))}\nB: {one_line(str(found.b.path))}"), soft_wrap=True)
    _print_recipe(found, out)
    tokens = {
        "source": (found.a.tokens_by_source, found.b.tokens_by_source),
        "language": (found.a.tokens_by_language, found.b.tokens_by_language),
        "kind": None,
    }
    for column, by in found.by.items():
        _print_books(out, column, by, tokens[column])
    _print_totals(found, out)
    for change, title in _TITLES.items():
        mine = [example for example in found.examples if example.change == change]
        if mine:
            out.print()
            told_line(f"{say(title)} (records: {found.totals[change]:,}), for example", style="bold", out=out)
            for example in mine:
                _print_example(out, example)


def _print_recipe(found: Diff, out: Console) -> None:
    if not found.recipe:
        told_line("the recipes ask for the same", out=out)
    for change in found.recipe[:_LINES]:
        out.print(Text(f"  {one_line(change.line())}"), soft_wrap=True)
    if len(found.recipe) > _LINES:
        told_line(f"… and {len(found.recipe) - _LINES:,} more keys", 2, out=out)
    if len(found.things) > 1:
        text = f"warning: {len(found.things)} things differ, so no difference in scores can be laid to one of them: "
        told_line(text + "; ".join(found.things), style="bold yellow", out=out)
    elif found.things and not found.recipe:
        told_line(f"but this differs: {found.things[0]}", out=out)


def _print_books(
    out: Console, column: str, by: dict[str, Books], tokens: tuple[dict[str, int], dict[str, int]] | None
) -> None:
    fields = ["before", "removed", "added", "changed", "out", "into", "repeats", "after"]
    shown = [f for f in fields if f in ("before", "after") or any(getattr(b, f) for b in by.values())]
    table = plain_table(
        column,
        *(f"{f} rows" if f in ("before", "after") else f for f in shown),
        *(["tokens A", "tokens B"] if tokens else []),
    )
    for name, book in by.items():
        counts = [_signed(f, getattr(book, f)) for f in shown]
        more = [f"{side.get(name, 0):,}" for side in tokens] if tokens else []
        table.add_row(harmless(name), *counts, *more)
    print_table(table, out)


def _signed(name: str, count: int) -> str:
    sign = {"removed": "-", "out": "-", "added": "+", "into": "+"}.get(name, "")
    if name == "repeats" and count > 0:
        sign = "+"
    return f"{sign}{count:,}" if count else "·" if name not in ("before", "after") else "0"


def _print_totals(found: Diff, out: Console) -> None:
    a, b, n = found.a, found.b, found.totals
    told_line(
        f"records: {n['same']:,} the same, {n['elsewhere']:,} the same from another place, {n['changed']:,} changed, "
        f"{n['moved']:,} moved to another source, {n['removed']:,} removed, {n['added']:,} added; "
        f"{n['repeated']:,} repeated otherwise",
        out=out,
    )
    told_line(f"rows: {_delta(a.size, b.size)}", out=out)
    names = [_tokenizer(side) for side in (a, b)]
    told_line(f"tokens: {_delta(a.tokens, b.tokens)} ({names[1]})", out=out)
    if names[0] != names[1]:
        told_line(f"warning: A counts tokens by {names[0]}: the two totals cannot be compared", out=out)
    (one, how_one), (two, how_two) = a.steps(), b.steps()
    if one is not None and two is not None:
        told_line(f"optimiser steps: {_delta(one, two)}: {how_one}; {how_two}", out=out)
    else:
        told_line(f"optimiser steps: not known ({how_one if one is None else how_two})", out=out)


def _tokenizer(side: Side) -> str:
    return str(side.head["tokenizer"].get("name"))


def _delta(before: int, after: int) -> str:
    share = f", {(after - before) / before:+.1%}" if before and before != after else ""
    return f"{before:,} -> {after:,} ({after - before:+,}{share})"


def _print_example(out: Console, example: Example) -> None:
    sources = [example.source_a, example.source_b]
    names = " -> ".join(dict.fromkeys(source for source in sources if source))
    if example.change == "repeated":
        names += f", {example.n_a:,} -> {example.n_b:,} copies"
    texts = [text for text in (example.text_a, example.text_b) if text is not None]
    start = _first_difference(*texts) if example.change == "changed" and len(texts) == 2 else 0
    if example.change != "changed":
        texts = texts[-1:]
    for i, text in enumerate(texts):
        sign = "~" if example.change in ("moved", "repeated") else "-" if example.change == "removed" or (
            example.change == "changed" and i == 0
        ) else "+"  # fmt: skip
        out.print(Text(f"  {sign} [{one_line(names)}] {_window(text, start)}"), soft_wrap=True)


def _first_difference(a: str, b: str) -> int:
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return max(0, same - _WINDOW // 4)


def _window(text: str, start: int) -> str:
    cut = one_line(text[start : start + _WINDOW])
    return f"{'…' if start else ''}{cut}{'…' if len(text) > start + _WINDOW else ''}"
