"""The files that `analyze` is given: paths, globs, folders and hub names, each looked through once."""

import os
from dataclasses import dataclass, replace
from glob import escape, glob
from pathlib import Path

from steel_data.benchmarks.index import overlap_files
from steel_data.benchmarks.items import benchmark_files, benchmark_path
from steel_data.benchmarks.known_tests import KNOWN_TEST_SPLITS
from steel_data.errors import InputError, excerpt, nearest
from steel_data.passes.inputs import benchmark_inputs, scan
from steel_data.read.formats import SUFFIXES, data_suffix
from steel_data.read.hub import is_hub_uri, locate
from steel_data.read.rows import FileScan

UP = 3  # folders, from an input's own, in which benchmarks are looked for


@dataclass(frozen=True)
class Given:
    """One file to be analysed. `name` is how it is told; `pattern` how a recipe names it, under the data root."""

    path: Path
    name: str
    pattern: str
    scan: FileScan


@dataclass(frozen=True)
class Files:
    """All files with rows, in order of name; the folder that holds the local ones; what was left out, and why."""

    files: tuple[Given, ...]
    root: Path
    left_out: tuple[tuple[str, str], ...]


def find(paths: list[str], cache: Path, data_root: Path | None = None) -> Files:
    """Return the files that the paths name, scanned; told and named under `data_root` where all lie there.

    Where it is said and some lie elsewhere, a recipe names them by absolute paths: it would be looked for under it.

    Of a folder, files that are no data are left out and named; a file that is named itself and cannot be read raises
    InputError, as does an input without any row.
    """
    local: dict[Path, bool] = {}  # whether it was named itself
    hub: dict[Path, tuple[str, str]] = {}
    left_out: list[tuple[str, str]] = []
    for text in paths:
        if is_hub_uri(text):
            files = locate(text)
            base = "/".join(text.split("/")[:5])  # hf://datasets/ORG/NAME@REVISION
            for path in files.files:
                name = path.relative_to(files.root).as_posix()
                hub[path] = name, text if len(files.files) == 1 else f"{base}/{escape(name)}"
            continue
        for path, named in _named_by(text, left_out):
            local[path] = local.get(path, False) or named
    root = Path(os.path.commonpath([path.parent for path in local])) if local else Path.cwd()
    said = _absolute(str(data_root)) if data_root is not None else root
    outside = not root.is_relative_to(said)
    root = root if outside else said
    given: list[Given] = []
    for path, named in sorted(local.items(), key=lambda entry: entry[0].relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        try:
            _check_name(name)
            found = scan(path, cache)
        except InputError as error:
            if named:
                raise
            left_out.append((excerpt(name, 200), str(error).removeprefix(f"{path.as_posix()}: ")))
            continue
        given.append(Given(path, name, escape(path.as_posix() if outside else name), found))
    given += [Given(path, name, uri, scan(path, cache)) for path, (name, uri) in sorted(hub.items())]
    empty = [file for file in given if not file.scan.rows]
    left_out += [(file.name, "holds no rows.") for file in empty]
    given = [file for file in given if file.scan.rows]
    if not given:
        name, why = left_out[0] if left_out else (paths[0], f"no data file here. Known: {', '.join(SUFFIXES)}.")
        more = f" So with {len(left_out) - 1} more." if len(left_out) > 1 else ""
        raise InputError(f"{name}: {why}{more} Fix: files with rows.")
    return Files(tuple(given), root, tuple(left_out))


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{excerpt(name, 200)}: a name that is not UTF-8, which no recipe can hold. Fix: another name."
        ) from None


def _named_by(text: str, left_out: list[tuple[str, str]]) -> list[tuple[Path, bool]]:
    """Return the files of a path, a folder or a glob, and whether each was named itself."""
    path = _absolute(text)
    if path.is_dir():
        return [(file, False) for file in _beneath(path, left_out)]
    if path.name == "dataset_info.json":
        raise InputError(
            f"{excerpt(text, 200)}: lists data sets. Fix: the files that it names, or a recipe with path and dataset."
        )
    if path.exists():
        return [(path, True)]
    if any(c in text for c in "*?["):
        found = map(_absolute, sorted(glob(text, recursive=True)))  # noqa: PTH207 (absolute ones too)
        if files := [(file, True) for file in found if file.is_file()]:
            return files
        raise InputError(f"{excerpt(text, 200)}: no file fits. Fix: a file, a folder, a glob or hf://datasets/….")
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise InputError(f"{excerpt(text, 200)}: no such file or folder.{nearest(path.name, near, show_known=False)}")


def _absolute(text: str) -> Path:
    """Return the path without `..`; links stay."""
    return Path(os.path.abspath(text))  # noqa: PTH100


def _beneath(folder: Path, left_out: list[tuple[str, str]]) -> list[Path]:
    """Return the data files of a folder and those beneath it; of a mixture of ours none."""
    files: list[Path] = []
    for top, folders, names in os.walk(folder):
        here = Path(top)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "manifest.json" in names and any(name.startswith("train-") for name in names):
            left_out.append((here.name, "is a mixture: its card.html says what is in it."))
            folders.clear()
            continue
        known = (here / name for name in sorted(names) if not name.startswith(".") and data_suffix(name) in SUFFIXES)
        files += known
    return files


def benchmarks_beside(found: Files, cache: Path) -> list[Path]:
    """Return the benchmarks in the folders that hold the inputs, up to two above, and in ./data: of known names.

    A benchmark that holds an input is none to compare it with, nor is one without a val or test split, which is there
    to be trained on, or what only bears the name of one.
    """
    folders: dict[Path, None] = {}
    for file in found.files:
        folders |= dict.fromkeys(list(file.path.parents)[:UP])
    folders[Path("data").absolute()] = None  # where `fetch` puts them and `score` looks for them
    beside = []
    for folder in folders:
        for name in KNOWN_TEST_SPLITS:
            path = benchmark_path(name, folder)
            if path is None or any(file.path.is_relative_to(path) for file in found.files):
                continue
            try:
                splits = {split for split, _ in benchmark_files(str(path), folder)}
                check_benchmark(path, cache)
            except InputError:
                continue
            if splits & {"val", "test"}:
                beside.append(path)
    return list({path.resolve(): path for path in beside}.values())


def rooted_above(found: Files, benchmarks: list[Path]) -> Files:
    """Return the files under a folder that holds the benchmarks too, where one is near: a recipe then names no place.

    Near: below the working directory; of inputs from elsewhere, so far above them as benchmarks are looked for.
    """
    root, here = Path(os.path.commonpath([found.root, *(path.parent for path in benchmarks)])), Path.cwd()
    beside = not found.root.is_relative_to(here) and root in list(found.root.parents)[: UP - 1] and root.name
    if root == found.root or not (beside or root.is_relative_to(here)):
        return found
    way = escape(found.root.relative_to(root).as_posix())
    files = (f if "://" in f.pattern else replace(f, pattern=f"{way}/{f.pattern}") for f in found.files)
    return replace(found, files=tuple(files), root=root)


def check_benchmark(path: Path, cache: Path) -> None:
    """Read the items that rows will be compared with; what is seen is remembered. Raises InputError for a fault."""
    benchmark_inputs(overlap_files([str(path)], path.parent), path.parent, cache)
