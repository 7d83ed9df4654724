"""Files of any known format as chunks of raw rows.

`scan_file` reads a file once: its hash, its format, how many records it has and where the chunks lie. `read_chunks`
reads some of the chunks again; of an uncompressed JSON or parquet file by seeking, so that several processes can
share a file. The borders depend on nothing but the bytes and `chunk_bytes`. Memory: one chunk and one record.

What is wrong with one record is that record's `error` and reading goes on. What makes the number of records
unknowable (a compressed file cut short, a bracket that is never closed) is an `InputError`.
"""

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath

import orjson

from steel_data.errors import InputError, excerpt
from steel_data.read.blocks import BLOCK_BYTES, SUFFIX, TAR, TAR_AT, ByteBlocks, compression_of
from steel_data.read.csv_rows import DELIMITER, read_csv, scan_csv
from steel_data.read.json_rows import read_array, read_lines, scan_array, scan_lines
from steel_data.read.parquet_rows import read_parquet, scan_parquet
from steel_data.read.rows import Chunk as Chunk
from steel_data.read.rows import FileScan as FileScan
from steel_data.read.rows import RawRow as RawRow
from steel_data.read.rows import changed, shown
from steel_data.store.bucket import Seen
from steel_data.store.listings import known, remember
from steel_data.store.names import is_far
from steel_data.store.reading import opened

CHUNK_BYTES = 16 * 2**20
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
_KNOWN = f"Fix: one of {', '.join(SUFFIXES)}, each also as .gz or .zst."


def data_suffix(name: str | PurePath) -> str:
    """Return the suffix that names the format (`.jsonl` of `a.jsonl.gz`), in lower case; '' where there is none."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    if suffixes and suffixes[-1] in SUFFIX:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _head(path: Path, compression: str) -> bytes:
    """Return the beginning of the content without byte order mark and leading blanks, at most about `BLOCK_BYTES`."""
    head = b""
    with ByteBlocks(path, compression) as blocks:
        for block in blocks:
            head = (head + block).removeprefix(b"\xef\xbb\xbf").lstrip()
            if len(head) >= BLOCK_BYTES // 2:
                break
    return head


def _is_object(line: bytes) -> bool:
    """Return whether a line is an object, or one followed by a comma."""
    try:
        return isinstance(orjson.loads(line.rstrip().removesuffix(b",")), dict)
    except orjson.JSONDecodeError:
        return False


def _json_format(path: Path, head: bytes) -> str:
    """Tell JSON lines from an array by content: `.json` is used for both, and both are found under the other's name."""
    lines = [line for line in head.split(b"\n") if line.strip()]
    if head.startswith(b"["):
        # an array that ends on the first line and is followed by more can only be a line of JSON lines
        try:
            return "jsonl" if isinstance(orjson.loads(lines[0]), list) and len(lines) > 1 else "json"
        except orjson.JSONDecodeError:
            return "json"
    named_lines = data_suffix(path) in (".jsonl", ".ndjson")
    if head.startswith(b"{"):
        # A line that ends where a value must follow is printed for people. One object at the start of any line is
        # proof of JSON lines (its first line may just be broken).
        spread = lines[0].rstrip()[-1:] in (b"{", b"[", b",")
        if spread and not any(line.startswith(b"{") and _is_object(line) for line in lines):
            raise InputError(
                f"{shown(path)}: holds one JSON object over several lines. Fix: an array of objects "
                "([{…}, {…}]) or JSON lines, one object a line."
            )
        return "jsonl"
    if head and not named_lines:
        start = excerpt(head[:60].decode("utf-8", "replace"), 40)
        raise InputError(f"{shown(path)}: neither a JSON array nor JSON lines; it begins with {start!r}. {_KNOWN}")
    return "jsonl"


def format_of(path: Path, compression: str) -> str:
    """Return `jsonl`, `json` (an array), `parquet`, `csv` or `tsv`; InputError for what cannot be any of them."""
    suffix, head = data_suffix(path), _head(path, compression)
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{shown(path)}: a git-lfs pointer, not the data. Fix: `git lfs pull` where it was cloned.")
    if head[TAR_AT : TAR_AT + len(TAR)] == TAR:
        state = f"a tar archive inside {compression}. Fix: unpack it (`tar xf {path.name}`)"
        raise InputError(f"{shown(path)}: {state} and name the files in it.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{shown(path)}: UTF-16 text. Fix: save it as UTF-8.")
    if head[:9].lower() in (b"<!doctype", b"<html><he"):
        raise InputError(
            f"{shown(path)}: a web page, not data. Fix: the file itself (the page may have asked for a login)."
        )
    if head.startswith(b"PAR1"):
        if compression != "none":
            raise InputError(
                f"{shown(path)}: parquet inside {compression}. Fix: unpack it; parquet is compressed by itself."
            )
        return "parquet"
    if suffix == ".parquet":
        state = "does not begin like parquet" if head else "is empty"
        raise InputError(f"{shown(path)}: {state}, though its name says so. Fix: fetch it again.")
    if suffix in (".csv", ".tsv"):
        return suffix[1:]
    return _json_format(path, head)


def scan_file(path: Path, chunk_bytes: int = CHUNK_BYTES) -> FileScan:
    """Read a file once and return its hash, format, number of records and chunks of about `chunk_bytes` bytes.

    Raises InputError for a missing file, an unknown format, a truncated or corrupt one.
    """
    compression = compression_of(path)
    kind = format_of(path, compression)
    if kind == "parquet":
        chunks = scan_parquet(path, chunk_bytes)
        with opened(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    else:
        with ByteBlocks(path, compression) as blocks:
            if kind in DELIMITER:
                chunks = scan_csv(path, blocks, chunk_bytes, DELIMITER[kind])
            else:
                chunks = (scan_array if kind == "json" else scan_lines)(path, blocks, chunk_bytes)
        sha256 = blocks.sha256
    version = known(path) if is_far(path) else None
    seen = (version.size, version.tag) if version is not None else ()
    return FileScan(kind, compression, sha256, sum(chunk.rows for chunk in chunks), chunks, *seen)


def read_chunks(path: Path, scan: FileScan, wanted: Collection[int]) -> Iterator[tuple[Chunk, Iterator[RawRow]]]:
    """Yield (chunk, its rows) for the chunks whose index is in `wanted`, in the order of the file.

    The rows of one chunk are to be taken before the next chunk is asked for: few of them are in memory at a time.
    Raises InputError where the file is no longer the one that was scanned, as far as that shows (the hash is not
    checked).
    """
    chunks = [scan.chunks[index] for index in sorted(set(wanted))]
    if not chunks:
        return
    if is_far(path):
        remember({path: Seen(scan.size, scan.tag)})  # as it was scanned, maybe by another process
    elif not path.is_file():
        raise changed(path)
    if scan.format == "parquet":
        yield from read_parquet(path, chunks)
    elif scan.format in DELIMITER:
        yield from read_csv(path, scan, chunks)
    else:
        yield from (read_array if scan.format == "json" else read_lines)(path, scan, chunks)


def read_whole(path: Path) -> Iterator[RawRow]:
    """Yield all rows of a file, for one that is small. Raises InputError as `scan_file` does."""
    scan = scan_file(path)
    for _, rows in read_chunks(path, scan, range(len(scan.chunks))):
        yield from rows
