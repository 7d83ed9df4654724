"""The sample of each part, sent through the passes of a build: what its recipe would keep, and what it would lose."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.analyze.look import Sample
from steel_data.analyze.parts import Part
from steel_data.analyze.recipe import recipe_toml
from steel_data.engine import Local
from steel_data.errors import InputError, excerpt
from steel_data.passes.attributes import index_of
from steel_data.passes.ledger import ledger
from steel_data.passes.map import MappedSource, map_sources
from steel_data.passes.plan import Plan, decide
from steel_data.passes.prepare import prepare
from steel_data.recipe.load import load
from steel_data.recipe.places import Places
from steel_data.row.table import compared_of

QUANTILES = (0.05, 0.5, 0.95, 1.0)
EXAMPLES = 2  # a reason
_TEXT = 240  # characters of an example
_WHY = "a look at the rows: nothing is built"


@dataclass
class OddRow:
    """One row that falls or is noted: where it stands, what it says, and what stood against it (place and text)."""

    place: str
    text: str
    against: str = ""
    against_text: str = ""


@dataclass
class Figures:
    """What the passes found in the sampled rows of one part, or why they stopped (`fault`)."""

    rows: int = 0
    built: int = 0
    kept: int = 0
    tokens: int = 0  # of the kept rows
    dropped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    languages: dict[str, float] = field(default_factory=dict)  # share of the characters
    chars: list[int] = field(default_factory=list)  # at QUANTILES, of the rows that became a record
    token_counts: list[int] = field(default_factory=list)
    questions: dict[int, int] = field(default_factory=dict)  # user turns -> rows
    examples: dict[str, list[OddRow]] = field(default_factory=dict)  # of each reason and note
    fault: str = ""


@dataclass(frozen=True)
class Origin:
    """Where the rows of a sample file stand: the file's name, and of each row its number there."""

    name: str
    row_R: npt.NDArray[np.int64]


def measure(parts: list[Part], benchmarks: list[str], folder: Path, workers: int) -> dict[str, Figures]:
    """Return the figures of each part that has a builder and sampled rows; `folder` takes what is made on the way."""
    origins: dict[str, dict[str, Origin]] = {}
    for number, part in enumerate(parts):
        if part.build is not None:
            origins[part.name] = _laid_out(part, folder / "data" / str(number))
    mine = [part for part in parts if origins.get(part.name)]
    if not mine:
        return {}
    paths = {part.name: [f"{parts.index(part)}/*.jsonl"] for part in mine}
    text = recipe_toml(mine, paths, benchmarks, {"allow_empty": True}, _WHY)
    (folder / "look.toml").write_text(text, encoding="utf-8")
    recipe = load(folder / "look.toml")
    where = Places(folder / "data", folder / "out", folder / "cache")
    try:
        prepared = prepare(recipe, where, Local(workers))
        sources = map_sources(prepared, Local(workers))
        plan = decide(recipe, sources)
        accounts = ledger(plan, sources, prepared.raw_rows)
    except InputError as error:
        fault = _named(str(error), folder, origins)
        return {part.name: Figures(fault=fault) for part in mine}
    return {
        source.name: _figures(_Rows(s, source, plan, sources, origins), accounts[source.name])
        for s, source in enumerate(sources)
    }


def _laid_out(part: Part, folder: Path) -> dict[str, Origin]:
    """Put the sampled rows of a part into a folder of their own; return where the rows of each file there come from."""
    folder.mkdir(parents=True)
    origins: dict[str, Origin] = {}
    for given, seen, sets in zip(part.files, part.looks, part.sets, strict=True):
        for sample in seen.samples:
            mine = np.array([names in sets for names in sample.sets_R])
            if not mine.any():
                continue
            name = f"{len(origins):06d}.jsonl"
            _copy(sample, mine, folder / name)
            origins[f"{folder.name}/{name}"] = Origin(given.name, sample.row_R[mine])
    return origins


def _copy(sample: Sample, mine: npt.NDArray[np.bool_], to: Path) -> None:
    if mine.all():
        sample.path.replace(to)  # no other part has a row of it
        return
    with sample.path.open("rb") as rows, to.open("wb") as out:
        out.writelines(line for line, wanted in zip(rows, mine.tolist(), strict=True) if wanted)


def _named(message: str, folder: Path, origins: dict[str, dict[str, Origin]]) -> str:
    """Return a message of the passes in the names of the user's files."""
    for files in origins.values():
        for name, origin in files.items():
            message = message.replace(name, origin.name)
    return message.replace(f"{folder / 'look.toml'} ", "")


class _Rows:
    """The rows of one source in a plan."""

    def __init__(
        self, s: int, source: MappedSource, plan: Plan, sources: tuple[MappedSource, ...],
        origins: dict[str, dict[str, Origin]],
    ) -> None:  # fmt: skip
        self.plan, self.source, self.sources = plan, source, sources
        self.origins = {name: origin for files in origins.values() for name, origin in files.items()}
        self.frame = plan.frame.with_row_index("row").filter(pl.col("source") == s)

    def place(self, row: int) -> str:
        """Return where a row of the plan's frame stands in the user's files."""
        s, file, number = self.plan.frame.select("source", "file", "origin_row").row(row)
        origin = self.origins[self.sources[s].files[file]]
        return f"{origin.name}:{origin.row_R[number]}"

    def said(self, rows: list[int]) -> list[str]:
        """Return what each row says, its error where it became no record, as the start of one line."""
        if not rows:
            return []
        texts = self.plan.rows.texts(np.array(rows), lambda records: compared_of(records, "all", "\n"))
        errors = self._column("error", rows)
        return [excerpt(text or error or "", _TEXT) for text, error in zip(texts, errors, strict=True)]

    def _column(self, name: str, rows: list[int]) -> list[Any]:
        found = []
        for chunk, pos in self.plan.frame[rows].select("chunk", "pos").iter_rows():
            records = self.plan.chunks[chunk][1].stages[-1].records
            found.append(pl.scan_parquet(records, glob=False).select(name).slice(pos, 1).collect().item())
        return found

    def questions(self) -> dict[int, int]:
        """Return how many rows have how many turns of the user."""
        counts: Counter[int] = Counter()
        turn = pl.col("messages").str.count_matches('{"role":"user"', literal=True)
        for place in self.frame["chunk"].unique().sort().to_list():
            records = pl.scan_parquet(self.plan.chunks[place][1].stages[-1].records, glob=False)
            found = records.filter(pl.col("messages").is_not_null()).select(turn).collect()
            counts.update(dict(found["messages"].value_counts().iter_rows()))
        return dict(sorted(counts.items()))

    def examples(self, of: pl.Expr) -> list[OddRow]:
        """Return the first row of which something holds, and one from the middle."""
        rows = self.frame.filter(of)["row"]
        chosen = list(dict.fromkeys([rows[i * len(rows) // EXAMPLES] for i in range(min(EXAMPLES, len(rows)))]))
        found = [OddRow(self.place(row), text) for row, text in zip(chosen, self.said(chosen), strict=True)]
        for row, one in zip(chosen, found, strict=True):
            witness, item = self.plan.frame.select("witness", "overlap_item").row(row)
            if witness >= 0:
                one.against, one.against_text = self.place(witness), self.said([witness])[0]
            elif item:
                one.against, one.against_text = item, excerpt(self._item(item), _TEXT)
        return found

    def _item(self, name: str) -> str:
        job = self.source.job
        texts = (dict(zip(i.names, i.texts, strict=True)) for b in job.benchmarks if (i := index_of(job, b)))
        return next((found[name] for found in texts if name in found), "")


def _figures(rows: _Rows, account: dict[str, Any]) -> Figures:
    frame = rows.frame
    made = frame.filter(pl.col("id").is_not_null())
    chars = made.group_by("language").agg(pl.col("chars").cast(pl.Int64).sum())
    whole = max(int(chars["chars"].sum()), 1)
    shares = {language or "und": n / whole for language, n in chars.sort("chars", descending=True).iter_rows()}
    reasons = dict(sorted(account["dropped"].items(), key=lambda entry: (-entry[1], entry[0])))
    notes = dict(sorted(account.get("notes", {}).items(), key=lambda entry: (-entry[1], entry[0])))
    examples = {reason: rows.examples(pl.col("reason") == reason) for reason in reasons}
    has: Callable[[str], pl.Expr] = lambda note: (  # noqa: E731
        pl.col("note").cast(pl.String).str.split(",").list.contains(note)
    )
    examples |= {note: rows.examples(has(note))[:1] for note in notes}
    return Figures(
        rows=account["read"],
        built=account["built"],
        kept=account["kept"],
        tokens=account["tokens"],
        dropped=reasons,
        notes=notes,
        kinds=dict(made["kind"].cast(pl.String).value_counts(sort=True).iter_rows()),
        languages=shares,
        chars=_quantiles(made["chars"]),
        token_counts=_quantiles(made["tokens"]),
        questions=rows.questions(),
        examples=examples,
    )


def _quantiles(lengths: pl.Series) -> list[int]:
    if not len(lengths):
        return []
    return [int(lengths.quantile(share, "lower") or 0) for share in QUANTILES]
