"""Refuse to train on the exam: a source that is a known test split needs a reason in the recipe.

Known by path (benchmarks.known_test_split), or by content: half or more of a file's rows match one split's fingerprint.
A fingerprint is the set of 64-bit hashes of the normalised questions; it holds no text. The shipped ones are made by
bench/make_test_split_fingerprints.py and cover about half of the subjects of CMMLU and C-Eval (resources/NOTICE.md): a
renamed file of one of the other subjects is not known by content. Up to 400 rows of a file's first chunk are looked at,
once (0.01 to 0.1 CPU-seconds a file; the answer is remembered).
"""

import json
from collections import Counter
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import xxhash

from steel_data.benchmarks.items import benchmark_name, read_items, subjects
from steel_data.benchmarks.known_tests import (
    fingerprints,
    holders_of_hashes,
    known_test_split,
    names_test,
    question_hash,
)
from steel_data.engine import in_threads
from steel_data.errors import InputError
from steel_data.files import kept
from steel_data.passes.cache import is_absent, key_of, place_of
from steel_data.passes.inputs import InputFile, SourceInputs
from steel_data.read.formats import CHUNK_BYTES, read_chunks
from steel_data.recipe.load import Recipe
from steel_data.store.listings import under
from steel_data.store.names import is_far

SAMPLE = 400  # rows looked at in each file
MATCHED = 0.5
_THREADS = 8  # that ask a bucket side by side


def check_test_splits(recipe: Recipe, inputs: tuple[SourceInputs, ...], cache_folder: Path) -> list[str]:
    """Return warnings; raise InputError for a source on a known test split without `allow_test_split`."""
    warnings = []
    for source in inputs:
        table = source.source.table
        if table.allow_test_split is not None and not table.allow_test_split.strip():
            raise InputError(
                f"{recipe.path} [source.{source.source.name}]: allow_test_split is empty. Fix: the reason."
            )
        if table.allow_test_split is not None:
            continue
        split = known_split(source, cache_folder)
        if split is not None:
            raise InputError(
                f"{recipe.path} [source.{source.source.name}]: {split[0]} is the known test split {split[1]}: training "
                f"on it spoils every score on {split[1].partition('/')[0]}. Fix: another file, or "
                'allow_test_split = "the reason".'
            )
        warnings += [
            f"{file.name}: the name says test; if it is an exam that you score by, leave it out"
            for file in source.files
            if names_test(file.name)
        ]
    return warnings


def known_split(source: SourceInputs, cache_folder: Path) -> tuple[str, str] | None:
    """Return (file, or what else tells it, known test split) where a source reads one, else None."""
    return _declared_split(source) or _split_by_path(source) or _split_by_content(source, cache_folder)


def _declared_split(source: SourceInputs) -> tuple[str, str] | None:
    if not source.builder.injects:
        return None
    options = source.builder.options
    for name in (benchmark_name(source.benchmark), options.get("benchmark")):
        split = known_test_split(f"{name}/{options['split']}/x.csv") if name else None
        if split:
            return f"split '{options['split']}'", split
    return None


def _split_by_path(source: SourceInputs) -> tuple[str, str] | None:
    table = source.source.table
    for name in [*(f.name for f in source.files), *(p for p in table.paths if "://" in p), table.origin or ""]:
        split = known_test_split(name)
        if split:
            return name, split
    return None


def _split_by_content(source: SourceInputs, cache_folder: Path) -> tuple[str, str] | None:
    far = is_far(cache_folder) or any(is_far(file.path) for file in source.files)
    if is_far(cache_folder):
        under(cache_folder / "test_splits")  # listed once, not by each thread
    answers = in_threads(partial(_content_split, cache=cache_folder), source.files, _THREADS if far else 1)
    for file in source.files:
        if source.builder.injects:
            items = subjects(read_items([(str(source.builder.options["split"]), file.path)]))
            split = next((s for some in items.values() if (s := _matched([i.question] for i in some))), None)
        else:
            split = next(answers)
        if split:
            return file.name, split
    return None


def _content_split(file: InputFile, cache: Path) -> str | None:
    """Return the split that half or more of a file's first chunk matches (a remembered answer where there is one)."""
    if not fingerprints() or not file.scan.chunks:
        return None
    place = answer_place(file, cache)
    answer: str | None = kept(
        place, lambda: _matched_split(file),
        lambda place, split: place.write_text(json.dumps(split), encoding="utf-8"),
        lambda place: json.loads(place.read_text(encoding="utf-8")),
        not is_absent(cache, place),
    )  # fmt: skip
    return answer


def answer_place(file: InputFile, cache: Path) -> Path:
    """Return where the answer for a file is remembered: for these bytes, read so, and these fingerprints."""
    known, scan = fingerprints(), file.scan
    version = xxhash.xxh3_64_hexdigest(b"".join(name.encode() + known[name].tobytes() for name in sorted(known)))
    key = key_of("test split", scan.sha256, scan.format, scan.compression, CHUNK_BYTES, SAMPLE, MATCHED, version)
    return place_of(cache, key, "test_splits")


def _matched_split(file: InputFile) -> str | None:
    chunks = read_chunks(file.path, file.scan, {0})
    chunk, rows = next(chunks)
    sample = islice(rows, 0, None, max(1, chunk.rows // SAMPLE))
    return _matched(_candidates(row.value) for row in sample if row.value is not None)


def _matched(rows: Iterable[list[str]]) -> str | None:
    """Return the split that half or more of some rows match, each given by the texts that may be its question."""
    holders = holders_of_hashes()
    counts: Counter[str] = Counter()
    looked = 0
    for texts in rows:
        looked += 1
        counts.update({split for text in texts for split in holders.get(question_hash(text), ())})
    best = max(counts, key=lambda name: counts[name], default=None)
    return best if best is not None and counts[best] >= MATCHED * looked else None


def _candidates(value: Any, depth: int = 0) -> list[str]:
    """Return the texts of a row that may be a question: strings, their lines, strings one or two levels down."""
    if isinstance(value, str):
        lines = [line for line in value[:4000].split("\n") if line.strip()]
        return [value[:4000], *lines] if len(lines) > 1 else [value[:4000]]
    if depth >= 3:
        return []
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _candidates(inner, depth + 1)]
    if isinstance(value, list):
        return [text for inner in value[:6] for text in _candidates(inner, depth + 1)]
    return []
