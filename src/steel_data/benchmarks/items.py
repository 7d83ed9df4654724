"""Benchmarks: one item type, read from the published layouts.

A benchmark is a name under the data root, found by looking: a folder, a zip, or one file (jsonl, a JSON array, parquet,
csv). In a folder or zip stand `<split>/<subject>[_<split>].csv` (CMMLU, C-Eval with a header, hendrycks' MMLU without
one), also below a `data/` folder (in a zip: below any), or the same as jsonl or parquet; or parquet files as the hubs
have them (`<subject>/<split>-00000-of-00001.parquet`, or a column `subject`). What a row means, `item_rows` knows. An
item's name is `{split}/{subject}/{row:05d}`, the same in mixture, truth file and answers, whatever the format.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

from steel_data.benchmarks.item_rows import read_question
from steel_data.benchmarks.layouts import columns_asked
from steel_data.errors import InputError, nearest
from steel_data.files import sha256_of
from steel_data.read.blocks import SUFFIX, ByteBlocks, compression_of
from steel_data.read.csv_rows import DELIMITER, read_table
from steel_data.read.formats import SUFFIXES, FileScan, data_suffix, format_of, read_whole
from steel_data.row.columns import unread
from steel_data.store.names import is_far, told

LETTERS = "ABCDEFGHIJ"
SPLITS = ("dev", "val", "test", "train")
MEMBER_LIMIT = 2**30  # bytes that one file in a zip may unfold to
# Questions of the published sets, by split: C-Eval's paper and hub card (13,948 in all), CMMLU's and MMLU's papers and
# files (67 and 57 subjects, five examples each).
PUBLISHED = {
    "ceval": {"dev": 260, "val": 1_346, "test": 12_342},
    "cmmlu": {"dev": 335, "test": 11_582},
    "mmlu": {"dev": 285, "val": 1_531, "test": 14_042},
}
_MMLU = ["question", "A", "B", "C", "D", "answer"]  # the columns of hendrycks' files, which have no header
_SHARD = re.compile(r"(dev|val|test|train)-\d+(-of-\d+)?")  # `test-00000-of-00001` of the hubs


@dataclass(frozen=True, slots=True)
class Item:
    """One question. `options`: empty for free answers. `answer`: a letter or free text, empty where unpublished.

    `file` is what lies on the disk, be it a zip of many subjects. `unread`: what its row says besides
    (row/columns.py).
    """

    item: str
    subject: str
    split: str
    row: int
    question: str
    options: tuple[str, ...]
    answer: str
    explanation: str
    file: Path
    unread: str | None = field(default=None, compare=False)


def benchmark_name(name_or_path: str) -> str:
    """Return the short name of a benchmark: `cmmlu` for `data/cmmlu`, `own` for `own.jsonl` and `own.jsonl.gz`."""
    path = Path(name_or_path)
    path = path.with_suffix("") if path.suffix in SUFFIX else path
    return path.stem if path.suffix else path.name


def benchmark_path(name: str, data_root: Path) -> Path | None:
    """Return the folder or file that a name stands for (`cmmlu`: also `cmmlu.zip`, `cmmlu.jsonl`, …), or None."""
    paths = (Path(f"{data_root / name}{suffix}") for suffix in ("", ".zip", ".jsonl", ".parquet", ".json", ".csv"))
    return next((path for path in paths if path.exists()), None)


def benchmark_files(name: str, data_root: Path, split: str | None = None) -> list[tuple[str, Path]]:
    """Return (split, file) of a benchmark's published files, in order; a zip stands there once for each split.

    `split`: only the files of that one; a benchmark that is one file is one split, by its name (else `test`), whatever
    is asked for. Raises InputError where the folder, the split or the file is missing.
    """
    if is_far(data_root / name):
        raise InputError(f"{told(data_root / name)}: lies in a bucket. Fix: a copy of it here.")
    root = benchmark_path(name, data_root)
    if root is None:
        known = [p.name for p in data_root.iterdir() if p.is_dir()] if data_root.is_dir() else []
        raise InputError(f"{data_root / name}: no such benchmark folder or file.{nearest(name, known)}")
    is_zip = root.is_file() and root.suffix == ".zip"
    if root.is_file() and not is_zip:
        return [(split_of(root) or "test", root)]
    placed = sorted(_published(root), key=lambda found: SPLITS.index(found[0]))
    if not placed:
        raise InputError(
            f"{root}: no <split>/<subject>.csv files. Fix: {benchmark_name(name)}/test/<subject>.csv, or a jsonl, "
            "parquet or zip file."
        )
    there = list(dict.fromkeys(part for part, _ in placed))
    if split is not None and split not in there:
        raise InputError(f"{root}: no split '{split}' here.{nearest(split, there)}")
    files = [(part, root if is_zip else root / place) for part, place in placed if split in (None, part)]
    return list(dict.fromkeys(files))


def _published(root: Path) -> list[tuple[str, PurePosixPath]]:
    """Return (split, place) of the files of a benchmark in a folder or zip, sorted by place."""
    if root.is_dir():
        files = [f for at in (root, root / "data") for s in SPLITS for f in (at / s).glob("*")]
        names = [file.relative_to(root).as_posix() for file in files or root.rglob("*")]
    else:
        with _zip(root) as archive:
            names = archive.namelist()
    # macOS and tools leave `._law.csv`, `__MACOSX/…`, `.cache/…`
    litter = re.compile(r"(^|/)(\.|__MACOSX)")
    places = sorted(PurePosixPath(n) for n in names if data_suffix(n) in SUFFIXES and not litter.search(n))
    if split := [place for place in places if place.parent.name in SPLITS]:
        csv = [place for place in split if data_suffix(place) == ".csv"]  # what lies beside them is notes on them
        return [(place.parent.name, place) for place in csv or split]
    alone = len(places) == 1
    return [(split_of(p) or "test", p) for p in places if alone or data_suffix(p) == ".parquet" or split_of(p)]


def _stem(file: PurePath) -> str:
    plain = file.with_suffix("") if file.suffix in SUFFIX else file
    return plain.stem.replace("validation", "val") if plain.suffix == ".parquet" else plain.stem


def split_of(file: PurePath) -> str | None:
    """Return the split that a file's name says (`own_test.jsonl`, `test-00000-of-00001.parquet`), or None."""
    match = _SHARD.fullmatch(_stem(file)) or re.search(r"(?:^|[_.-])(dev|val|test|train)$", _stem(file))
    return match.group(1) if match else None


def subject_of(file: PurePath) -> str:
    """Return a file's stem without its `_dev`, `_val`, `_test` ending; of a hub's shard its folder's name."""
    if _SHARD.fullmatch(_stem(file)):
        return file.parent.name.removesuffix(".zip")
    return re.sub(r"_(dev|val|test)$", "", _stem(file))


def read_benchmark(name: str, data_root: Path, split: str | None = None) -> list[Item]:
    """Read a benchmark's items in file order.

    Raises InputError as `benchmark_files`, `read_items` and `published_part` do.
    """
    items = read_items(benchmark_files(name, data_root, split))
    published_part(name, items)
    return items


def published_part(name: str, items: Iterable[Item]) -> dict[str, tuple[int, int]]:
    """Return split -> (questions here, questions published) where they differ, of a benchmark whose size is known.

    Raises InputError where there are more than were published: another edition, or questions counted twice.
    """
    return part_of(name, Counter(item.split for item in items))


def part_of(name: str, found: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return what `published_part` does, of the questions `found` in each split."""
    sizes = PUBLISHED.get(benchmark_name(name), {})
    for split, here in found.items():
        if split in sizes and here > sizes[split]:
            raise InputError(
                f"{benchmark_name(name)}: {here:,} questions of split {split}, and {sizes[split]:,} were published. "
                "Fix: the published files alone, each once; another set under another name."
            )
    return {split: (n, sizes[split]) for split, n in found.items() if n != sizes.get(split, n)}


def part_line(name: str, split: str, here: int, published: int) -> str:
    """Return what is said of a split of which fewer questions are here than were published."""
    return f"{benchmark_name(name)}-{split}: {here:,} of the {published:,} published questions are in the data"


def read_items(files: Iterable[tuple[str, Path]]) -> list[Item]:
    """Read the items of some (split, file) of one benchmark, in that order.

    Raises InputError for a file or row that cannot be read, and for a subject that two files of a split hold.
    """
    items: list[Item] = []
    count: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], Path] = {}
    for split, file in files:
        for place, path in _tables(file, split):
            named, kind = subject_of(place), data_suffix(place)
            if (split, named) in places and not _SHARD.fullmatch(_stem(place)):
                first = places[split, named]
                raise InputError(
                    f"{first}: holds the subject {named} of split {split}, and so does {place}. Fix: one file of it."
                )
            places[split, named] = place
            for raw in _rows(place, path):
                subject = named
                if kind == ".parquet":
                    subject = str(next((v for k, v in raw.items() if k.lower() == "subject" and v), named))
                asked = read_question(raw, free=kind not in (".csv", ".tsv", ".parquet"))
                row = count[split, subject]
                count[split, subject] += 1
                if isinstance(asked, str):
                    raise InputError(f"{place}: data row {row}: {asked}. Fix: that row.")
                rest = unread(raw, columns_asked(tuple(raw)))
                items.append(Item(f"{split}/{subject}/{row:05d}", subject, split, row, *asked, file, rest))
    return items


def look(file: Path) -> FileScan:
    """Return what a build notes of a benchmark's file: its hash and rows (of a zip: of all splits), and no chunks."""
    splits = dict.fromkeys(split for split, _ in _published(file)) if file.suffix == ".zip" else ["test"]
    rows = len(read_items((split, file) for split in splits))
    return FileScan("benchmark", "none", sha256_of(file), rows, ())


def _zip(file: Path) -> ZipFile:
    try:
        return ZipFile(file)
    except BadZipFile as error:
        raise InputError(f"{file}: not a readable zip file: {error}. Fix: fetch it again.") from None


def _tables(file: Path, split: str) -> Iterator[tuple[Path, Path]]:
    """Yield (place, path) of the tables that a file holds: what to call it, and where to read it.

    The members of a zip are unpacked one at a time, under a name of ours: nothing is written where a member says.
    """
    if file.suffix != ".zip":
        yield file, file
        return
    with _zip(file) as archive, TemporaryDirectory() as temporary:
        for _, member in (found for found in _published(file) if found[0] == split):
            place = Path(f"{file}/{member}")
            path = Path(temporary, "table" + "".join(member.suffixes[-2:]))
            # more than a member says it holds is never read from it
            if archive.getinfo(member.as_posix()).file_size > MEMBER_LIMIT:
                raise InputError(f"{place}: unfolds to more than {MEMBER_LIMIT:,} bytes. Fix: unpack it yourself.")
            try:
                with archive.open(member.as_posix()) as packed, path.open("wb") as out:
                    copyfileobj(packed, out)
            except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise InputError(f"{place}: cannot be unpacked: {error}. Fix: fetch it again.") from None
            yield place, path


def _rows(place: Path, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the raw rows of a table. Raises InputError, in the name of `place`, for the first that cannot be read."""
    try:
        compression = compression_of(path)
        kind = format_of(path, compression)
        with ByteBlocks(path, compression) as blocks:
            rows = read_table(path, blocks, DELIMITER[kind], _MMLU) if kind in DELIMITER else read_whole(path)
            for row in rows:
                if row.value is None:
                    raise InputError(f"{path.as_posix()}: {row.error}.")
                yield row.value
    except InputError as error:
        raise InputError(str(error).replace(path.as_posix(), place.as_posix())) from None


def subjects(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Group items by subject, subjects sorted, items in file order."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.subject, []).append(item)
    return dict(sorted(groups.items()))
