"""TOML -> Recipe: types, `extends`, and errors that name the place and the nearest known word.

All checks that need no data happen here, before a row is read. Every key a recipe may have is a field below; its
docstring is its documentation (docs/recipes.md is generated from it).
"""

import hashlib
import importlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from steel_data.errors import InputError, first_line, nearest
from steel_data.recipe.first_fault import first_fault
from steel_data.recipe.selection import Select
from steel_data.recipe.shipped import found
from steel_data.recipe.steps import WITH_FILES, Builder, Filter, bind_builder, bind_filter
from steel_data.recipe.strict import Table
from steel_data.row.record import check_language

Positive = Annotated[int, Field(gt=0)]
# Tables that say what is done with it, and who checks them: looked up by name, as a step of one's own is, for those who
# train and score know this package and not the other way. A build is no place to go on with `epochs = true`.
NOT_OF_MIXTURE = {
    "train": "steel_train.settings:Settings",
    "eval": "steel_eval.study.settings:StudySettings",
    "search": "steel_eval.mix.settings:SearchSettings",
    "trial": "steel_eval.trial.settings:TrialSettings",
}


class Source(Table):
    """One `[source.NAME]`: where raw rows come from, how they become records, which of them stay."""

    path: str | list[str] | None = Field(
        default=None,
        description="Glob or list of globs under the data root (a set: order means nothing), or `hf://datasets/ORG/NAME"
        "[@REVISION]/GLOB`, `modelscope://…`, or LLaMA-Factory's `dataset_info.json` together with `dataset`.",
    )
    dataset: str | None = Field(default=None, description="Which entry of the `dataset_info.json` that `path` names.")
    origin: str | None = Field(
        default=None, description="Where to get the data (`hf://…`, `modelscope://…`): what `fetch` downloads."
    )
    build: dict[str, Any] = Field(
        default_factory=lambda: {"use": "chat"},
        description='The builder and its options: `{ use = "chat" }`, `exam`, `identity`, `contaminate`, or a function '
        'of your own, `{ use = "module:function" }`.',
    )
    meta: list[str] = Field(
        default_factory=list, description="Raw columns that are kept, as one JSON object, in the column `meta`."
    )
    ignore: list[str] = Field(
        default_factory=list,
        description="Columns that change what a row means (a `label` of true and false, `functions`, "
        "`rejected_response`) and may go all the same. Without it, one that the builder does not read is an error.",
    )
    filters: list[dict[str, Any]] = Field(
        default_factory=list, description="This source's own filters, in order, before the recipe's."
    )
    take: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Rows to take, after filters and dedup, by keyed hash (a smaller take is inside a larger one). "
        "More than there is: an error that states what there is. 0 turns an inherited source off.",
    )
    take_tokens: Positive | None = Field(
        default=None, description="The same in tokens; whole rows, never more than asked."
    )
    repeat: Positive = Field(
        default=1, description="How many copies of each taken row the mixture holds; with `[mix] sources`, at most."
    )
    hold_out: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Rows of those taken that stay out, by keyed hash, so that a loss can be measured on what no "
        "training saw.",
    )
    select: Select | None = Field(
        default=None,
        description="Choose rows instead of drawing them, from those that `take` and `hold_out` leave "
        "(docs/select.md).",
    )
    loss: Literal["assistant", "all"] | None = Field(
        default=None,
        description="What `steel_train` learns of this source's rows: the assistant's turns, or the whole text; by "
        "default what `[train] loss` says. It changes nothing of the mixture.",
    )
    allow_test_split: str | None = Field(
        default=None,
        description="The reason why this source may train on a known test split; it goes to the card and manifest.",
    )

    @property
    def paths(self) -> list[str]:
        """The globs as a list."""
        return [self.path] if isinstance(self.path, str) else list(self.path or [])

    @model_validator(mode="after")
    def _one_target(self) -> "Source":
        if self.take is not None and self.take_tokens is not None:
            raise ValueError("take and take_tokens are both given. Fix: one of them")
        if self.select is not None:
            for word, taken, asked in (
                ("rows", self.take, self.select.rows), ("tokens", self.take_tokens, self.select.tokens),
            ):  # fmt: skip
                if taken and asked and asked > taken:
                    raise ValueError(
                        f"select chooses {word} = {asked:,} of what take leaves, which is {taken:,}. "
                        f"Fix: {word} = {taken} or less"
                    )
            within = self.select.within
            if within not in (None, "language", "source", *self.meta):
                raise ValueError(
                    f"select within = '{within}', which no column of meta is, nor language or source. "
                    f"Fix: meta = [{', '.join(json.dumps(name) for name in [*self.meta, within])}]"
                )
        return self


class Mix(Table):
    """`[mix]`: how large the mixture is, and in which languages."""

    budget_tokens: Positive | None = Field(
        default=None, description="Tokens of the mixture, injected rows included; a shortfall is an error."
    )
    budget_rows: Positive | None = Field(default=None, description="Rows of the mixture; exact.")
    languages: dict[str, Annotated[float, Field(ge=0, le=1, strict=False)]] | None = Field(
        default=None,
        description="Shares of tokens by language, summing to 1. Languages not named stay out. Without a budget "
        "the mixture is the largest with these shares.",
    )

    sources: dict[str, Annotated[float, Field(ge=0, le=1, strict=False)]] | None = Field(
        default=None,
        description="Shares of tokens by source, summing to 1; each source that is not injected has one. First copies "
        "come before second ones, up to `repeat`. Without a budget the mixture is the largest with these shares.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Mix":
        if self.languages is not None and self.sources is not None:
            raise ValueError("languages and sources are both given. Fix: shares of one of them")
        if self.budget_rows and self.budget_tokens:
            raise ValueError("budget_rows and budget_tokens are both given. Fix: one of them")
        try:
            for code in self.languages or ():
                check_language(code)
        except InputError as error:
            raise ValueError(f"languages: {str(error).rstrip('.')}") from None
        if self.languages is not None and abs(sum(self.languages.values()) - 1) > 1e-6:
            raise ValueError(f"languages sum to {sum(self.languages.values()):g}. Fix: shares that sum to 1")
        if self.sources is not None and abs(sum(self.sources.values()) - 1) > 1e-6:
            raise ValueError(f"sources sum to {sum(self.sources.values()):g}. Fix: shares that sum to 1")
        return self


class RecipeTables(Table):
    """The top level of a recipe."""

    name: str | None = Field(
        default=None, description="The experiment's name; by default the file's stem. Never inherited."
    )
    seed: int = Field(default=42, description="Seeds sampling, order, style shares and injection.")
    extends: str | None = Field(
        default=None,
        description="A recipe to lay this one over, relative to this file: tables merge key by key, "
        "anything else is replaced.",
    )
    data_root: str | None = Field(
        default=None,
        description="Where data lies (a folder, `s3://bucket/folder`), unless `--data-root` or STEEL_DATA_ROOT say so; "
        "else the recipe's folder.",
    )
    tokenizer: str | None = Field(
        default=None,
        description="Tokenizer for token counts: a folder, a tokenizer.json or a hub id; else `[train].tokenizer`; "
        "else a fixed estimate, named as such in the manifest.",
    )
    filters: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Recipe-wide filters, after each source's own. Decontamination precedes dedup.",
    )
    source: dict[str, Source] = Field(default_factory=dict, description="The sources, in order of priority for dedup.")
    mix: Mix = Field(default_factory=Mix, description="Size and languages of the mixture.")
    allow_empty: bool = Field(
        default=False, description="Whether a mixture without a row, or a source that loses all of them, is no error."
    )
    train: dict[str, Any] = Field(default_factory=dict, description="Settings of `steel_train` (docs/training.md).")
    eval: dict[str, Any] = Field(default_factory=dict, description="Settings of `steel_eval` (docs/scoring.md).")
    search: dict[str, Any] = Field(
        default_factory=dict, description="Settings of `steel mix`, a search for better shares (docs/mix.md)."
    )
    trial: dict[str, Any] = Field(
        default_factory=dict, description="Settings of `steel trial`, selections in comparison (docs/select.md)."
    )


@dataclass(frozen=True)
class BoundSource:
    """A source whose steps are found and checked."""

    name: str
    table: Source
    builder: Builder
    filters: tuple[Filter, ...]


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. `merged` is the TOML after `extends`, as plain data; `train`, `eval`, `search`, `trial` its
    tables.
    """

    path: Path
    name: str
    seed: int
    tokenizer: str | None
    data_root: str | None
    sources: tuple[BoundSource, ...]
    filters: tuple[Filter, ...]
    mix: Mix
    train: dict[str, Any]
    eval: dict[str, Any]
    merged: dict[str, Any]
    allow_empty: bool = False
    search: dict[str, Any] = field(default_factory=dict)
    trial: dict[str, Any] = field(default_factory=dict)

    def source(self, name: str) -> BoundSource:
        """Return a source by name (InputError with the nearest name)."""
        for source in self.sources:
            if source.name == name:
                return source
        raise InputError(f"{self.path}: no source '{name}'.{nearest(name, [s.name for s in self.sources])}")


def load(path: "str | Path | Recipe", changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe file with all that it extends, check it, and find its builders and filters.

    `path`: a file, `@name` of a recipe that comes with steel, or a recipe already loaded, which is handed back.
    `changes` are laid over it: `train.epochs=1`, values as TOML writes them, a plain word without its quotes.
    Raises InputError, naming file and key, for anything the recipe's author can put right; and the changes, where the
    file alone is right.
    """
    if isinstance(path, Recipe):
        return path
    try:
        return _load(Path(path), changes)
    except InputError as error:
        if not changes:
            raise
        _load(Path(path), ())
        said = str(error)
        raise InputError(said if said.startswith("--set ") else f"--set {' --set '.join(changes)}: {said}") from None


def _load(named: Path, changes: Sequence[str]) -> Recipe:
    path = found(named)
    merged = _merge_chain(path, ())
    for change in changes:
        merged = merge(merged, _change(change))
    try:
        tables = RecipeTables.model_validate(merged)
    except ValidationError as error:
        raise InputError(first_fault(path, (), error, RecipeTables)) from None
    _check_others(path, tables)
    # a recipe of the package lies where no data does
    data_root = tables.data_root or (None if named == path else str(Path.cwd()))
    name = tables.name or path.stem
    if "/" in name or "\\" in name or name in ("", ".", ".."):
        raise InputError(f"{path}: name = '{name}' cannot be a folder. Fix: a plain word such as 'exp3'.")
    merged["name"] = name
    folder = path.parent
    sources = []
    for source_name, table in tables.source.items():
        if table.take == 0:
            continue
        where = f"{path} [source.{source_name}]"
        if str(table.build.get("use")) in WITH_FILES and "path" in table.build:
            table = _with_path_of_build(where, table)
        builder = bind_builder(where, table.build, folder, tables.seed, has_path=bool(table.paths))
        _check_source(where, table, builder)
        filters = tuple(
            bind_filter(f"{where} filters[{i}]", f, folder, tables.seed) for i, f in enumerate(table.filters)
        )
        sources.append(BoundSource(source_name, table, builder, filters))
    if not sources:
        raise InputError(f"{path}: no [source.…] left. Fix: at least one source with take other than 0.")
    _check_shares(path, tables.mix, sources)
    filters = tuple(bind_filter(f"{path} filters[{i}]", f, folder, tables.seed) for i, f in enumerate(tables.filters))
    tokenizer = tables.tokenizer or tables.train.get("tokenizer")
    return Recipe(
        path=path, name=name, seed=tables.seed, tokenizer=tokenizer, data_root=data_root, sources=tuple(sources),
        filters=filters, mix=tables.mix, allow_empty=tables.allow_empty, train=tables.train, eval=tables.eval,
        merged=merged, search=tables.search, trial=tables.trial,
    )  # fmt: skip


def _check_others(path: Path, tables: RecipeTables) -> None:
    """Refuse what is wrong in tables of others. What is missing there is asked for by the command that needs it."""
    for name, target in NOT_OF_MIXTURE.items():
        module, _, model = target.partition(":")
        if table := getattr(tables, name):
            with suppress(ImportError):  # steel_data alone
                settings: type[Table] = getattr(importlib.import_module(module), model)
                try:
                    settings.model_validate(table)
                except ValidationError as error:
                    if any(fault["type"] != "missing" for fault in error.errors()):
                        raise InputError(first_fault(path, (name,), error, settings)) from None


def _check_shares(path: Path, mix: Mix, sources: Sequence[BoundSource]) -> None:
    """Refuse `[mix] sources` that does not give a share to each source but the injected ones."""
    if mix.sources is None:
        return
    names = [source.name for source in sources if not source.builder.injects]
    for name, share in mix.sources.items():
        if share and name not in names:
            raise InputError(f"{path} [mix]: sources: no source '{name}' that can have a share.{nearest(name, names)}")
    for name in names:
        if name not in mix.sources:
            raise InputError(f"{path} [mix]: sources: no share of '{name}'. Fix: {name} = 0 leaves it out.")


def _check_source(where: str, table: Source, builder: Builder) -> None:
    for name in table.ignore:
        if name in table.meta:
            raise InputError(f"{where}: '{name}' stands in ignore and in meta, which keeps it. Fix: one of them.")
    if builder.injects:
        for key, value in (
            ("take", table.take),
            ("take_tokens", table.take_tokens),
            ("hold_out", table.hold_out or None),
            ("select", table.select),
            ("filters", table.filters or None),
        ):
            if value is not None:
                raise InputError(
                    f"{where}: {key} cannot stand on an injected source, whose rows bypass it. Fix: share or doses."
                )
        if table.repeat != 1:
            raise InputError(f"{where}: repeat cannot stand on an injected source. Fix: doses = [{table.repeat}].")
        return
    if not table.paths and not builder.whole:
        raise InputError(f'{where}: path is missing. Fix: path = "folder/*.jsonl".')
    if table.dataset is not None and len(table.paths) != 1:
        raise InputError(f'{where}: dataset without one path. Fix: path = "…/dataset_info.json".')


def _with_path_of_build(where: str, table: Source) -> Source:
    """Let `build = { use = "identity", path = "own.json" }` mean what `path` beside `build` means."""
    build = dict(table.build)
    path = build.pop("path")
    if table.paths:
        raise InputError(f"{where}: path stands twice, here and in build. Fix: one of them.")
    if not isinstance(path, str):
        raise InputError(f'{where} build: path = {path!r} is not a string. Fix: path = "own.json".')
    return table.model_copy(update={"build": build, "path": path})


_WORD = re.compile(r"[\w./:@+-]+")


def laid(changes: Sequence[str]) -> dict[str, Any]:
    """Return changes of the form `a.b=value` as nested tables, the later over the earlier. Raises InputError."""
    tables: dict[str, Any] = {}
    for change in changes:
        tables = merge(tables, _change(change))
    return tables


def _change(text: str) -> dict[str, Any]:
    """Return `a.b=value` as nested tables. Raises InputError for what is not of this form."""
    key, equals, value = text.partition("=")
    try:
        return tomllib.loads(f"{key} = {value}")
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more than 4,300 digits
        if equals and _WORD.fullmatch(value.strip()):
            with suppress(tomllib.TOMLDecodeError):
                return tomllib.loads(f"{key} = '{value.strip()}'")
        raise InputError(
            f"--set {text}: {error}. Fix: --set train.epochs=1, the value as the recipe would write it."
        ) from None


def _merge_chain(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Return the tables of `path` laid over those of the recipe that it extends."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a zero byte
        raise InputError(
            f"{path}: no such recipe: {first_line(error)}. Fix: a file, or @NAME of `steel recipes`."
        ) from None
    if real in seen:
        chain = " -> ".join(p.name for p in (*seen, real))
        raise InputError(f"{path}: extends itself: {chain}. Fix: a chain without a cycle.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such recipe.{nearest(path.name, near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}. Fix: a text file in UTF-8 that you may read.") from None
    try:
        own = tomllib.loads(text)
    except ValueError as error:  # also a number of more than 4,300 digits
        raise InputError(f"{path}: not valid TOML: {error}. Fix: that place.") from None
    except RecursionError:
        raise InputError(
            f"{path}: not valid TOML: lists or tables in one another beyond all measure. Fix: fewer."
        ) from None
    if zero := next(_with_zero(own), None):
        raise InputError(f"{path}: {zero!r} holds a zero byte, which no name and no path can. Fix: without it.")
    parent = own.pop("extends", None)
    if parent is None:
        return own
    if not isinstance(parent, str):
        raise InputError(f'{path}: extends = {parent!r} is not a string. Fix: extends = "base.toml".')
    below = path.parent / parent
    base = _merge_chain(
        below if below.exists() else found(Path(parent)) if parent.startswith("@") else below, (*seen, real)
    )
    base.pop("name", None)
    return merge(base, own)


def _with_zero(value: Any) -> Iterator[str]:
    """Yield the strings in a table that hold a zero byte."""
    if isinstance(value, str):
        yield from [value] if "\0" in value else []
    elif isinstance(value, dict):
        for item in (*value, *value.values()):
            yield from _with_zero(item)
    elif isinstance(value, list):
        for item in value:
            yield from _with_zero(item)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another: tables merge key by key, anything else is replaced. Neither is changed."""
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            # The options of one builder (`use`) or selection (`by`) mean nothing to another, which replaces it whole.
            other_step = any(word in value and word in below and value[word] != below[word] for word in ("use", "by"))
            value = value if other_step else merge(below, value)
        out[key] = value
    return out


def recipe_sha256(recipe: Recipe) -> str:
    """Return the SHA-256 of what in the merged recipe decides the mixture, without where the data lies."""
    tables = {k: v for k, v in of_mixture(recipe.merged).items() if k != "data_root"}
    return hashlib.sha256(json.dumps(tables, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def of_mixture(merged: dict[str, Any]) -> dict[str, Any]:
    """Return a merged recipe without what is not about the mixture: [train], [eval], …, and the `loss` of sources."""
    tables = {k: v for k, v in merged.items() if k not in NOT_OF_MIXTURE}
    sources = merged.get("source")
    if isinstance(sources, dict):
        tables["source"] = {name: {k: v for k, v in table.items() if k != "loss"} for name, table in sources.items()}
    return tables


def to_toml(table: dict[str, Any]) -> str:
    """Return recipe data as TOML. Invisible characters are escaped: it is for people, and for terminals, to read."""
    text = tomli_w.dumps(table)
    return "".join(c if c == "\n" or c.isprintable() else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def portable(value: Any) -> Any:
    """Return recipe data without absolute paths: only the last part of each stays (the manifest names no machine)."""
    if isinstance(value, dict):
        return {k: portable(v) for k, v in value.items() if k != "data_root"}
    if isinstance(value, list):
        return [portable(v) for v in value]
    if isinstance(value, str) and PurePath(value).is_absolute() and len(PurePath(value).parts) > 1:
        return PurePath(value).name
    return value
