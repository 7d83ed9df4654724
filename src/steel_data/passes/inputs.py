"""Find the files a source names, look through each once (checksum, rows, chunks), and remember what was seen."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache as memo
from pathlib import Path, PurePosixPath

from steel_data.benchmarks.items import benchmark_files, look
from steel_data.errors import InputError, nearest
from steel_data.files import address, kept, source_sha256
from steel_data.passes.cache import place_of
from steel_data.read.formats import CHUNK_BYTES, scan_file
from steel_data.read.hub import is_hub_uri, locate
from steel_data.read.rows import Chunk, FileScan
from steel_data.recipe.load import BoundSource, Recipe
from steel_data.recipe.steps import Builder

# A file changed less than this long ago may change again within one tick of the clock: its checksum is not remembered.
_SETTLED_SECONDS = 2.0
_READERS = (
    "read.blocks", "read.csv_rows", "read.formats", "read.json_rows", "read.parquet_rows", "read.rows",
    "benchmarks.items", "benchmarks.item_rows",
)  # fmt: skip


@dataclass(frozen=True)
class InputFile:
    """One file of a source. `name` is its `origin_file`: relative to the data root, with `/`."""

    path: Path
    name: str
    scan: FileScan


@dataclass(frozen=True)
class SourceInputs:
    """What a source reads: files sorted by name, the builder (completed by dataset_info.json), a hub's revision."""

    source: BoundSource
    builder: Builder
    files: tuple[InputFile, ...]
    revision: str | None = None

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
        return _benchmark_root(self.source)


def resolve(recipe: Recipe, source: BoundSource, data_root: Path, cache: Path) -> SourceInputs:
    """Find and scan a source's files. Raises InputError for a pattern without a file, naming how to get the data."""
    where = f"{recipe.path} [source.{source.name}]"
    builder, revision = source.builder, None
    found: list[tuple[Path, str | None]] = []
    if builder.injects:
        root = _benchmark_root(source)
        try:
            published = benchmark_files(root, data_root, str(builder.options["split"]))
        except InputError as error:
            raise InputError(f"{where}: {error}{_how_to_get(source, recipe)}") from None
        return SourceInputs(source, builder, benchmark_inputs([path for _, path in published], data_root, cache))
    patterns = source.table.paths
    if source.table.dataset is not None:
        from steel_data.builders.llamafactory import entry

        info = entry(data_root / patterns[0], source.table.dataset)
        options = {"columns": info.columns or None, "tags": info.tags or None, **_given(builder.options)}
        if info.layout:
            options.setdefault("layout", info.layout)
        builder = replace(builder, options={**builder.options, **options})
        patterns = list(info.files)
    for pattern in patterns:
        if is_hub_uri(pattern):
            files = locate(pattern)
            revision = files.revision
            found += [(path, path.relative_to(files.root).as_posix()) for path in files.files]
            continue
        matches = _glob(data_root, pattern)
        if not matches:
            raise InputError(f"{where}: {_no_file(data_root, pattern)}{_how_to_get(source, recipe)}")
        found += [(path, None) for path in matches]
    return SourceInputs(source, builder, _scan_all(found, data_root, cache), revision)


def _given(options: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in options.items() if value is not None}


def _benchmark_root(source: BoundSource) -> str:
    return source.table.paths[0] if source.table.paths else str(source.builder.options["benchmark"])


def _glob(data_root: Path, pattern: str) -> list[Path]:
    """Return the files that a pattern names, absolute patterns included, each once."""
    base, relative = data_root, pattern
    if Path(pattern).is_absolute():
        base, relative = Path(Path(pattern).anchor), str(Path(pattern).relative_to(Path(pattern).anchor))
    if not any(c in relative for c in "*?["):
        path = base / relative
        if path.is_dir():
            raise InputError(f"{path}: is a folder. Right: {PurePosixPath(pattern) / '*.jsonl'}.")
        return [path] if path.is_file() else []
    return sorted(path for path in base.glob(relative) if path.is_file())


def _no_file(data_root: Path, pattern: str) -> str:
    if not data_root.is_dir():
        return f"path = '{pattern}': the data root {data_root} is no folder."
    parent = (data_root / pattern).parent
    while not parent.is_dir():
        parent = parent.parent
    if any(c in pattern for c in "*?["):
        return f"path = '{pattern}' matches no file under {data_root}."
    near = [str((p).relative_to(data_root).as_posix()) for p in parent.iterdir() if p.is_relative_to(data_root)]
    return f"path = '{pattern}': no such file under {data_root}.{nearest(pattern, near, show_known=False)}"


def _how_to_get(source: BoundSource, recipe: Recipe) -> str:
    if source.table.origin is None:
        return " Right: a path under the data root (--data-root, STEEL_DATA_ROOT)."
    return f" It comes from {source.table.origin}: `python -m steel_data fetch {recipe.path}` gets it."


def _scan_all(found: list[tuple[Path, str | None]], data_root: Path, cache: Path) -> tuple[InputFile, ...]:
    files = {path: InputFile(path, name or origin_name(path, data_root), scan(path, cache)) for path, name in found}
    return tuple(sorted(files.values(), key=lambda f: f.name))


def benchmark_inputs(files: Iterable[Path], data_root: Path, cache: Path) -> tuple[InputFile, ...]:
    """Return the files of a benchmark as inputs, sorted by name: with hash and rows, and no chunks to be mapped."""
    found = [InputFile(path, origin_name(path, data_root), scan(path, cache, look)) for path in files]
    return tuple(sorted(found, key=lambda f: f.name))


def origin_name(path: Path, data_root: Path) -> str:
    """Return a file's name in mixture and manifest: relative to the data root; else its bare name."""
    absolute, root = path.absolute(), data_root.absolute()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else path.name


def scan(path: Path, cache: Path, look: Callable[[Path], FileScan] = scan_file) -> FileScan:
    """Return what `look` finds, from the cache where path, size and time of change are those of an earlier look."""
    stat = path.stat()
    if time.time() - stat.st_mtime <= _SETTLED_SECONDS:
        return look(path)
    return kept(scan_place(path, cache, look), lambda: look(path), _write_scan, _read_scan)


def scan_place(path: Path, cache: Path, look: Callable[[Path], FileScan] = scan_file) -> Path:
    """Return where the scan of a file, as it is now, is remembered: as long as the readers are the same."""
    stat = path.stat()
    file = [str(path.absolute()), stat.st_size, stat.st_mtime_ns]
    return place_of(cache, address("scan", look.__name__, file, CHUNK_BYTES, _readers()), "scans")


@memo
def _readers() -> str:
    return source_sha256(*(f"steel_data.{name}" for name in _READERS))


def _write_scan(place: Path, scan: FileScan) -> None:
    place.write_text(json.dumps(asdict(scan)), encoding="utf-8")


def _read_scan(place: Path) -> FileScan:
    data = json.loads(place.read_text(encoding="utf-8"))
    return FileScan(**{**data, "chunks": tuple(Chunk(**chunk) for chunk in data["chunks"])})
