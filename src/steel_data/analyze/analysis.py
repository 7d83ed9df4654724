"""The command `analyze`: find, look, tell the parts, measure a sample of them, and make the recipe that builds them."""

import math
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from steel_data.analyze.find import UP, Files, benchmarks_beside, check_benchmark, find, rooted_above
from steel_data.analyze.look import Look, look, tasks
from steel_data.analyze.measure import Figures, measure
from steel_data.analyze.parts import Part, merged, parts_of
from steel_data.analyze.recipe import paths_of, recipe_toml
from steel_data.benchmarks.items import benchmark_path
from steel_data.engine import progress, run
from steel_data.errors import InputError, excerpt, nearest
from steel_data.passes.inputs import InputFile, SourceInputs
from steel_data.passes.known_tests import known_split
from steel_data.recipe.load import load
from steel_data.recipe.places import from_environment
from steel_data.row.record import FORMS

SAMPLED_ROWS, SAMPLED_BYTES = 100_000, 200 * 2**20  # of all files together; more of them are sampled down to this
_SMALL = 8 * 2**20  # bytes; below it further processes take longer to start than to help
_UNPACKED = 4  # times its size that a compressed or parquet file may unfold to


@dataclass(frozen=True)
class Analysis:
    """What was found. `step`: of so many rows one was sampled. `refused`: of a part no recipe may be made, and why."""

    given: tuple[str, ...]
    files: Files
    parts: list[Part]
    figures: dict[str, Figures]
    step: int
    equal_rows: int  # rows that say what an earlier row says, numbering columns aside; of all rows
    benchmarks: list[str]
    refused: dict[str, str]
    recipe: str  # "" where no part can be built

    @property
    def whole(self) -> Look:
        """Return what all files are together."""
        seen: dict[Path, Look] = {}
        for part in self.parts:
            seen |= {given.path: one for given, one in zip(part.files, part.looks, strict=True)}
        return merged(list(seen.values()))


def analyze(
    paths: list[str],
    *,
    benchmarks: list[str] | None = None,
    data_root: Path | None = None,
    workers: int = 1,
    sampled_rows: int = SAMPLED_ROWS,
) -> Analysis:
    """Return what files, folders and hub names hold, and what a build of them would do.

    benchmarks: paths, or names under `data_root`, to compare with; None: those that lie beside the inputs. Raises
    InputError for a path that is not there, a file that is named and cannot be read, and for an input without a row.
    """
    with tempfile.TemporaryDirectory(prefix="steel-analyze-") as temporary:
        folder, data_root = Path(temporary), data_root or from_environment("STEEL_DATA_ROOT")
        files = find(paths, folder / "cache", data_root)
        compared = _benchmarks(benchmarks, files, data_root, folder / "cache")
        if data_root is None:
            files = rooted_above(files, compared)
        step = _step(files, sampled_rows)
        size = sum(file.path.stat().st_size for file in files.files)
        workers = workers if size > _SMALL else 1
        looks = _looks(files, step, folder, workers)
        hashes = np.concatenate([one.hashes for one in looks])
        equal = len(hashes) - len(np.unique(hashes))
        parts = parts_of(files.files, looks, _test_splits(files, folder))
        figures = measure(parts, [path.as_posix() for path in compared], folder, workers)
        refused = {part.name: why for part in parts if (why := _refused(part, figures))}
        refused |= _other_kind(parts, figures, refused)
        names = [_seen_from(files.root, path) for path in compared]
        built = [part for part in parts if part.name not in refused]
        text = recipe_toml(built, {part.name: paths_of(part) for part in built}, names, {}) if built else ""
    return Analysis(tuple(paths), files, parts, figures, step, equal, names, refused, text)


def _benchmarks(asked: list[str] | None, files: Files, data_root: Path | None, cache: Path) -> list[Path]:
    if asked is None:
        return benchmarks_beside(files, cache)
    found = []
    for name in asked:
        roots = [*([data_root] if data_root else []), Path.cwd()]
        path = next((path for root in roots if (path := benchmark_path(name, root.absolute()))), None)
        if path is None:
            near = [p.name for root in roots if root.is_dir() for p in root.iterdir()]
            raise InputError(f"--benchmark {name}: no such benchmark folder or file.{nearest(name, near, False)}")
        check_benchmark(path, cache)
        found.append(Path(os.path.normpath(path)))
    return found


def _step(files: Files, sampled_rows: int) -> int:
    """Return of how many rows one is sampled: all where they are few enough, in number and in bytes."""
    rows = sum(file.scan.rows for file in files.files)
    packed = {True: 1, False: _UNPACKED}
    size = sum(
        file.path.stat().st_size * packed[file.scan.compression == "none" and file.scan.format != "parquet"]
        for file in files.files
    )
    return max(1, math.ceil(rows / sampled_rows), math.ceil(size / SAMPLED_BYTES))


def _looks(files: Files, step: int, folder: Path, workers: int) -> list[Look]:
    """Return what each file is."""
    samples = folder / "samples"
    samples.mkdir()
    looks = [Look(i) for i in range(len(files.files))]
    with progress("look", sum(file.scan.rows for file in files.files)) as advance:
        for seen in run(look, tasks(files.files, step, samples), workers, lambda seen: advance(seen.rows)):
            looks[seen.file].add(seen)
    return looks


def _test_splits(files: Files, folder: Path) -> dict[Path, str]:
    """Return the files that are known test splits, and which."""
    table = recipe_toml([Part("any", {"use": "chat"})], {"any": [file.pattern for file in files.files]}, [], {})
    (folder / "tests.toml").write_text(table, encoding="utf-8")
    recipe = load(folder / "tests.toml")
    source, found = recipe.sources[0], {}
    for file in files.files:
        one = InputFile(file.path, file.name, file.scan)
        local = replace(source, table=source.table.model_copy(update={"path": file.pattern}))
        if split := known_split(SourceInputs(local, source.builder, (one,)), folder / "cache"):
            found[file.path] = split[1]
    return found


def _refused(part: Part, figures: dict[str, Figures]) -> str:
    """Return why no recipe is made for a part, "" where one is."""
    if part.build is None:
        return "no published layout has these columns" if part.others else "none of its rows can be read"
    if part.test_split:
        return f"it is the known test split {part.test_split}: a benchmark to compare with, not to train on"
    if part.gap:
        return part.gap
    found = figures.get(part.name)
    if found is None:
        return "none of its rows was drawn into the sample"
    if found.fault:
        return found.fault.rstrip(".")
    if len(forms := _forms(found)) > 1:
        several = " and ".join("conversations" if form == "messages" else f"{form} rows" for form in sorted(forms))
        return f"it holds {several}, which no trainer takes together: split the file"
    if found.kept:
        return ""
    reason, rows = max(found.dropped.items(), key=lambda entry: entry[1], default=("", 0))
    return f"none of its rows would be kept; {rows:,} of {found.built:,} fall to {excerpt(reason, 60)}"


def _other_kind(parts: list[Part], figures: dict[str, Figures], refused: dict[str, str]) -> dict[str, str]:
    """Return the parts whose rows have another form than most: one recipe holds one form."""
    kept = {form: Counter[str]() for form in FORMS}
    for part in parts:
        if part.name not in refused:
            for form in _forms(figures[part.name]):
                kept[form][part.name] = figures[part.name].kept
    most = max(kept, key=lambda form: kept[form].total())  # on equal terms conversations
    why = "one recipe holds one form of rows, and here those of another are more: analyze these files by themselves"
    return {name: why for form, parts_of_it in kept.items() if form != most for name in parts_of_it}


def _forms(found: Figures) -> set[str]:
    """Return the forms of a part's rows, names of FORMS."""
    return {kind if kind in FORMS else "messages" for kind in found.kinds}


def _seen_from(root: Path, path: Path) -> str:
    """Return how a recipe names a path: from the data root, as far as it lies below it or near; else whole."""
    relative = Path(os.path.relpath(path, root))
    # where a link lies on the way, `..` may lead elsewhere
    near = relative.parts[:UP] != (os.pardir,) * UP and (root / relative).resolve() == path.resolve()
    return (relative if near else path).as_posix()
