"""Find the files a source names, look through each once (checksum, rows, chunks), and remember what was seen."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cache as memo
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from steel_data.benchmarks.items import benchmark_files, look
from steel_data.engine import Executor, Local, progress, start, tell
from steel_data.errors import InputError, nearest, one_line
from steel_data.files import address, kept, present, read_sealed, source_sha256, write_sealed
from steel_data.mixture.own_output import places_of_output
from steel_data.passes.cache import place_of
from steel_data.read.formats import CHUNK_BYTES, scan_file
from steel_data.read.hub import is_hub_uri, locate
from steel_data.read.rows import Chunk, FileScan, shown
from steel_data.recipe.load import BoundSource, Recipe
from steel_data.recipe.steps import Builder
from steel_data.store import listings
from steel_data.store.bucket import Seen
from steel_data.store.copies import bring, brought, is_copy
from steel_data.store.names import is_far, told

# A file changed less than this long ago may change again within one tick of the clock: its checksum is not remembered.
_SETTLED_SECONDS = 2.0
_MANY = 32  # objects
_LARGE = 4 * CHUNK_BYTES  # of all new files: less is looked through before a process has started
_READERS = (
    "read.blocks", "read.csv_rows", "read.formats", "read.json_rows", "read.parquet_rows", "read.rows",
    "benchmarks.items", "benchmarks.item_rows", "row.json_text",
)  # fmt: skip


@dataclass(frozen=True)
class InputFile:
    """One file of a source. `name` is its `origin_file`, unlike any other file's: see `origin_name`."""

    path: Path
    name: str
    scan: FileScan


@dataclass(frozen=True)
class SourceInputs:
    """What a source reads: files sorted by name, the builder (completed by dataset_info.json), a hub's revision.

    `passed_over` says of each glob what it would have found of steel's own output.
    """

    source: BoundSource
    builder: Builder
    files: tuple[InputFile, ...]
    revision: str | None = None
    passed_over: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Raw rows in all files."""
        return sum(file.scan.rows for file in self.files)

    @property
    def chunks(self) -> int:
        """Chunks in all files."""
        return sum(len(file.scan.chunks) for file in self.files)

    @property
    def is_whole(self) -> bool:
        """Whether its chunks are all that its files hold: not those of a forecast's sample."""
        return self.builder.whole or all(sum(c.rows for c in f.scan.chunks) == f.scan.rows for f in self.files)

    @property
    def benchmark(self) -> str:
        """Of an injected source: where its benchmark lies, under the data root."""
        return benchmark_root(self.source)


@dataclass(frozen=True)
class _Found:
    """A source whose files are known by name, and not looked through yet."""

    source: BoundSource
    builder: Builder
    paths: dict[str, Path]  # by name, sorted
    revision: str | None
    passed_over: tuple[str, ...]


@dataclass(frozen=True)
class Looking:
    """How inputs are looked through: where it is remembered, by whom, and whether all the same where it is.

    verify: every file again, though its size and its time of change are those of an earlier look. begin: share of the
    files after which to begin, and go round: builds side by side that share a cache then share the looking. copies:
    where benchmarks lie, which are read whole, where the data root is in a bucket.
    """

    data_root: Path
    cache: Path
    executor: Executor = field(default_factory=Local)
    verify: bool = False
    begin: float = 0.0
    copies: Path | None = None

    @property
    def whole(self) -> Path:
        """Where benchmarks lie."""
        return self.copies or self.data_root


def whole_inputs(data_root: Path, benchmarks: Iterable[str], targets: Iterable[str]) -> Path:
    """Return where what is read whole lies: the data root, or a folder with copies, where that is in a bucket.

    That is benchmarks, and the targets of selections: a benchmark and its split, or files.
    """
    if not is_far(data_root):
        return data_root
    targets = [target for target in targets if not Path(target).is_absolute()]
    wanted: dict[Path, Seen] = {}
    for name in dict.fromkeys([*benchmarks, *(target.rpartition("/")[0] for target in targets)]):
        place = data_root / name
        if name and is_far(place):
            beside = listings.files(place.parent)
            mine = [one for one in beside if one == place.name or one.startswith(f"{place.name}.")]
            wanted |= {place.parent / one: beside[one] for one in mine}
            wanted |= listings.tree(place) if place.name in listings.folders(place.parent) else {}
    for path in (path for target in targets for path in listings.glob(data_root, target)):
        wanted[path] = listings.found(path)
    return brought(data_root, wanted)


def resolve(recipe: Recipe, looking: Looking) -> tuple[SourceInputs, ...]:
    """Find the files of all sources, and scan them.

    Raises InputError for a pattern without a file, naming how to get the data.
    """
    found = [_find(recipe, source, looking) for source in recipe.sources]
    paths = list(dict.fromkeys(path for f in found if isinstance(f, _Found) for path in f.paths.values()))
    first = int(looking.begin * len(paths))
    scans = _looked_through([*paths[first:], *paths[:first]], looking)

    def inputs(f: _Found) -> SourceInputs:
        files = tuple(InputFile(path, name, scans[path]) for name, path in f.paths.items())
        return SourceInputs(f.source, f.builder, files, f.revision, f.passed_over)

    return tuple(inputs(f) if isinstance(f, _Found) else f for f in found)


@dataclass(frozen=True)
class _Look:
    """A file to be looked through, and what is known of it where it is an object."""

    path: Path
    seen: Seen | None

    def __str__(self) -> str:
        return f"the look at {told(self.path)}"


def _look_through(looking: Looking, look: _Look) -> FileScan:
    if look.seen is not None:
        listings.remember({look.path: look.seen})
    return scan(look.path, looking.cache, verify=looking.verify)


def _looked_through(paths: list[Path], looking: Looking) -> dict[Path, FileScan]:
    """Return the scans of some files; large ones that no look is remembered of are looked through by the workers."""
    places = {path: scan_place(path, looking.cache) for path in paths}
    if is_far(looking.cache):
        there = listings.under(looking.cache / "scans").intersection(places.values())
        bring(there)
    else:
        there = frozenset(place for place in places.values() if place.exists())
    looks = {path: _Look(path, listings.known(path)) for path in paths}
    new = [look for look in looks.values() if looking.verify or places[look.path] not in there]
    size = sum(look.seen.size if look.seen is not None else look.path.stat().st_size for look in new)
    # of objects also many small ones: to ask for one takes longer than to read it
    if size < _LARGE and sum(look.seen is not None for look in new) < _MANY:
        return {path: _look_through(looking, look) for path, look in looks.items()}
    start(
        looking.executor, "steel_data.passes.map", size // CHUNK_BYTES
    )  # which they need next: it takes as long as a look at 400 MB
    with progress("inputs", len(new), "files") as advance:
        scans = looking.executor.map(
            partial(_look_through, replace(looking, executor=Local())), new, lambda _: advance(1)
        )
    found = {look.path: one for look, one in zip(new, scans, strict=True)}
    return {path: found[path] if path in found else _look_through(looking, look) for path, look in looks.items()}


def _find(recipe: Recipe, source: BoundSource, looking: Looking) -> _Found | SourceInputs:
    """Find a source's files; those of a benchmark that is injected, which are small, are looked through too."""
    data_root = looking.data_root
    where = f"{recipe.path} [source.{source.name}]"
    builder, revision = source.builder, None
    found: list[tuple[Path, str | None]] = []
    passed_over: list[str] = []
    if builder.injects:
        root = benchmark_root(source)
        try:
            published = benchmark_files(root, looking.whole, str(builder.options["split"]))
        except InputError as error:
            raise InputError(f"{where}: {error}{_how_to_get(source, recipe)}") from None
        files = benchmark_inputs([path for _, path in published], looking.whole, looking.cache, looking.verify)
        return SourceInputs(source, builder, files)
    patterns = source.table.paths
    if source.table.dataset is not None:
        from steel_data.builders.llamafactory import entry

        if is_far(data_root / patterns[0]):
            raise InputError(f"{where}: dataset: {patterns[0]} lies in a bucket. Fix: path = the data file itself.")
        info = entry(data_root / patterns[0], source.table.dataset)
        if info.num_samples and source.table.take is None and source.table.take_tokens is None:
            raise InputError(
                f"{where}: {info.name}'s num_samples is a draw before all filters, which is not made. "
                f"Fix: take = {info.num_samples} on this source, after them."
            )
        options = {"columns": info.columns or None, "tags": info.tags or None, **_given(builder.options)}
        if info.layout:
            options.setdefault("layout", info.layout)
        builder = replace(builder, options={**builder.options, **options})
        patterns = [file for file in info.files if is_hub_uri(file)]
        found = [(Path(file), None) for file in info.files if not is_hub_uri(file)]
    for pattern in patterns:
        if is_hub_uri(pattern):
            hub = locate(pattern)
            revision = hub.revision
            found += [(path, f"{hub.name}/{path.relative_to(hub.root).as_posix()}") for path in hub.files]
            continue
        matches = _glob(data_root, pattern)
        ours: list[tuple[Path, Path]] = []
        if _is_glob(pattern) and matches:
            matches, ours = _without_own_output(matches, data_root)
        if ours:
            passed_over.append(f"path = '{pattern}' passes over {_listed(ours, data_root)}")
        if not matches and ours:
            raise InputError(
                f"{where}: {passed_over[-1]}, and finds nothing else. Fix: data of yours, or one such file by its "
                "full name."
            )
        if not matches:
            raise InputError(f"{where}: {_no_file(data_root, pattern)}{_how_to_get(source, recipe)}")
        found += [(path, None) for path in matches]
    return _Found(source, builder, _named(where, found, data_root), revision, tuple(passed_over))


def _is_glob(pattern: str) -> bool:
    return any(c in pattern for c in "*?[")


def _without_own_output(matches: list[Path], data_root: Path) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """Return which files are the user's, and (file, place) of those that steel has written."""
    place = places_of_output(matches, data_root)
    return [p for p in matches if place[p] is None], [(p, found) for p, found in place.items() if found is not None]


def _listed(ours: list[tuple[Path, Path]], data_root: Path) -> str:
    places = sorted({origin_name(place, data_root) for _, place in ours})
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"{len(ours):,} file{'s' * (len(ours) > 1)} that steel has written ({', '.join(places[:3])}{more})"


def _given(options: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in options.items() if value is not None}


def benchmark_root(source: BoundSource) -> str:
    """Return where the benchmark of an injected source lies, under the data root."""
    return source.table.paths[0] if source.table.paths else str(source.builder.options["benchmark"])


def _glob(data_root: Path, pattern: str) -> list[Path]:
    """Return the files that a pattern names, absolute patterns included, each once."""
    base, relative = data_root, pattern
    if is_far(data_root) and not Path(pattern).is_absolute():
        found = listings.glob(data_root, pattern)
        if not found and not _is_glob(pattern) and listings.tree(data_root / pattern):
            raise InputError(f"{told(data_root / pattern)}: is a folder. Fix: {PurePosixPath(pattern) / '*.jsonl'}.")
        return found
    if Path(pattern).is_absolute():
        base, relative = Path(Path(pattern).anchor), str(Path(pattern).relative_to(Path(pattern).anchor))
    if not _is_glob(relative):
        path = base / relative
        if path.is_dir():
            raise InputError(f"{path}: is a folder. Fix: {PurePosixPath(pattern) / '*.jsonl'}.")
        return [path] if path.is_file() else []
    return sorted(path for path in base.glob(relative) if path.is_file())


def _no_file(data_root: Path, pattern: str) -> str:
    if is_far(data_root):
        near = [*listings.files(data_root), *listings.folders(data_root)]
        hint = nearest(pattern.partition("/")[0], near, show_known=False)
        return f"path = '{pattern}' matches no object under {told(data_root)}.{hint}"
    if not data_root.is_dir():
        return f"path = '{pattern}': the data root {data_root} is no folder."
    parent = (data_root / pattern).parent
    while not parent.is_dir():
        parent = parent.parent
    if _is_glob(pattern):
        return f"path = '{pattern}' matches no file under {data_root}."
    near = [str((p).relative_to(data_root).as_posix()) for p in parent.iterdir() if p.is_relative_to(data_root)]
    return f"path = '{pattern}': no such file under {data_root}.{nearest(pattern, near, show_known=False)}"


def _how_to_get(source: BoundSource, recipe: Recipe) -> str:
    if source.table.origin is None:
        return " Fix: a path under the data root (--data-root, STEEL_DATA_ROOT)."
    return f" It comes from {source.table.origin}: `steel fetch {recipe.path}` gets it."


def _named(where: str, found: list[tuple[Path, str | None]], data_root: Path) -> dict[str, Path]:
    """Return name -> path, sorted. Raises InputError for two files of one name."""
    paths: dict[str, Path] = {}
    for path, given in found:
        name = given or origin_name(path, data_root)
        first = paths.setdefault(name, path)
        if not (first == path if is_far(path) else first.samefile(path)):
            raise InputError(
                f"{where}: two files are named '{name}': {shown(paths[name])} and {shown(path)}. "
                "Fix: another name for one."
            )
    return dict(sorted(paths.items()))


def benchmark_inputs(
    files: Iterable[Path], data_root: Path, cache: Path, verify: bool = False
) -> tuple[InputFile, ...]:
    """Return the files of a benchmark as inputs, sorted by name: with hash and rows, and no chunks to be mapped."""
    found = [InputFile(path, origin_name(path, data_root), scan(path, cache, look, verify)) for path in files]
    return tuple(sorted(found, key=lambda f: f.name))


def origin_name(path: Path, data_root: Path) -> str:
    """Return a file's name in mixture and manifest: relative to the data root where it lies under it, else absolute.

    So two files of one bare name stay two, and a mixture is the same on another machine as long as its data lie under
    the data root. No link is followed. (A file of a hub is `hub://repo@commit/path`.)
    """
    absolute, root = (p if is_far(p) else Path(os.path.normpath(p.absolute())) for p in (path, data_root))
    return (absolute.relative_to(root) if absolute.is_relative_to(root) else absolute).as_posix()


def scan(path: Path, cache: Path, look: Callable[[Path], FileScan] = scan_file, verify: bool = False) -> FileScan:
    """Return what `look` finds, from the cache where path, size and time of change are those of an earlier look.

    Of an object its size and its ETag tell whether it is the same. verify: look again all the same, and say so where
    the bytes are others.
    """
    if is_copy(path) or (not is_far(path) and time.time() - path.stat().st_mtime <= _SETTLED_SECONDS):
        return look(path)
    place = scan_place(path, cache, look)
    before = _remembered(place) if verify else None
    found = kept(place, lambda: look(path), _write_scan, _read_scan, not verify)
    if before is not None and before != found:
        tell(f"{one_line(str(path))}: its bytes are others, though its size and its time of change are the same")
    return found


def _remembered(place: Path) -> FileScan | None:
    """Return an earlier look; None where there is none that can be read."""
    try:
        there = present(place)
        return _read_scan(there) if there is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def scan_place(path: Path, cache: Path, look: Callable[[Path], FileScan] = scan_file) -> Path:
    """Return where the scan of a file, as it is now, is remembered: as long as the readers are the same."""
    if is_far(path):
        version = listings.found(path)
        file: list[Any] = [told(path), version.size, version.tag]
    else:
        stat = path.stat()
        file = [str(path.absolute()), stat.st_size, stat.st_mtime_ns]
    return place_of(cache, address("scan", look.__name__, file, CHUNK_BYTES, _readers()), "scans")


@memo
def _readers() -> str:
    return source_sha256(*(f"steel_data.{name}" for name in _READERS))


def _write_scan(place: Path, scan: FileScan) -> None:
    write_sealed(place, asdict(scan))


def _read_scan(place: Path) -> FileScan:
    data = read_sealed(place)
    return FileScan(**{**data, "chunks": tuple(Chunk(**chunk) for chunk in data["chunks"])})
