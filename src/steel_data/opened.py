"""A mixture from Python: its rows, its dropped rows and their reasons, why a row is there, and `datasets` of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from steel_data.errors import InputError, nearest, visible
from steel_data.explain.query import Again, Answer
from steel_data.explain.why import ask
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.rows import Row, rows, rows_where
from steel_data.row.record import KINDS, check_language
from steel_data.row.table import UNREADABLE

_ACCOUNT = ("read", "unreadable", "built", "dropped", "kept", "sampled_out", "repeated", "written", "tokens")


@dataclass(frozen=True)
class Mixture:
    """A finished mixture on disk. Nothing of it is in memory but its manifest; `len` is the number of its rows."""

    folder: Path
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @property
    def sources(self) -> dict[str, dict[str, Any]]:
        """The ledger: what became of the rows of each source."""
        sources: dict[str, dict[str, Any]] = self.manifest["sources"]
        return sources

    @cached_property
    def reasons(self) -> dict[str, int]:
        """How many rows were dropped for which reason, the most frequent first; `unreadable` rows among them."""
        found: dict[str, int] = {}
        for account in self.sources.values():
            for reason, number in (*account["dropped"].items(), (UNREADABLE, account["unreadable"])):
                if number:
                    found[reason] = found.get(reason, 0) + number
        return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))

    def rows(self, *, source: str | None = None, kind: str | None = None, language: str | None = None) -> Iterator[Row]:
        """Yield rows in training order, each a dict of the mixture's columns; None: of any source, kind, language.

        The order is random already, so the first rows are a fair sample. Raises InputError for a source or kind that is
        not here, and for a missing or damaged file.
        """
        self._known("source", source, self.sources)
        self._known("kind", kind, KINDS)
        if language is not None:
            check_language(language)
        return self._of(self.manifest["output"], {"source": source, "kind": kind, "language": language})

    def dropped(self, *, reason: str | None = None, source: str | None = None) -> Iterator[Row]:
        """Yield dropped rows, which have `step`, `reason`, `witness_id`, `witness_text` and `error` besides.

        Raises InputError as `rows` does, and for a reason that no row was dropped for.
        """
        self._known("reason", reason, self.reasons)
        self._known("source", source, self.sources)
        return self._of(self.manifest["dropped_files"], {"reason": reason, "source": source})

    def _of(self, files: dict[str, Any], equal: dict[str, str | None]) -> Iterator[Row]:
        said = {column: value for column, value in equal.items() if value is not None}
        return rows_where(self.folder, files, said) if said else rows(self.folder, files)

    def _known(self, what: str, name: str | None, known: Any) -> None:
        if name is not None and name not in known:
            raise InputError(f"{self.folder}: no {what} '{name}'.{nearest(name, known)}")

    def why(self, query: str, number: int = 5, again: Again | None = None) -> Answer:
        """Return what became of a row: `file:row`, an id or its beginning, a benchmark's item, or text.

        `number`: how many records are told in full. `again`: where recipe and data lie, if a sampled-out row has to be
        recomputed. `answer.found` holds the records, each with `verdict`, `row`, `passed` and `witness`.
        """
        return ask(self.folder, query, again, number)

    def to_datasets(self) -> Any:
        """Return the mixture as a `datasets.Dataset`, in training order; TRL and transformers take it as it is.

        Raises InputError where `datasets` is not installed.
        """
        try:
            found = import_module("datasets")  # no part of the base install
        except ImportError:
            raise InputError("to_datasets needs the package datasets. Fix: pip install datasets.") from None
        files = [str(self.folder / name) for name in self.manifest["output"]]
        return found.load_dataset("parquet", data_files=files, split="train")

    def _repr_html_(self) -> str:
        """Return the ledger as a table, for notebooks."""
        totals = dict.fromkeys(_ACCOUNT, 0)
        lines = []
        for name, account in self.sources.items():
            told = {**account, "dropped": sum(account["dropped"].values())}
            totals = {column: totals[column] + told[column] for column in _ACCOUNT}
            lines.append(_line(name, told))
        head = "".join(f"<th>{column.replace('_', ' ')}</th>" for column in ("source", *_ACCOUNT))
        name = escape(visible(str(self.manifest["name"])))
        return (
            f"<p><b>{name}</b>: {len(self):,} rows, {self.manifest['tokens']:,} tokens</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}{_line('all', totals)}</tbody></table>"
        )


def _line(name: str, told: dict[str, Any]) -> str:
    numbers = "".join(f"<td>{told[column]:,}</td>" for column in _ACCOUNT)
    return f"<tr><td>{escape(visible(name))}</td>{numbers}</tr>"


def open_mixture(folder: str | Path) -> Mixture:
    """Return the mixture that `build` left in a folder. Raises InputError where there is none."""
    return Mixture(Path(folder), read_manifest(Path(folder)))
