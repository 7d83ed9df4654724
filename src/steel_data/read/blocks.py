"""The decompressed bytes of a file, block by block, and the SHA-256 of the file itself on the way."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from steel_data.errors import InputError
from steel_data.read.rows import RECORD_LIMIT, changed, shown
from steel_data.store.names import is_far
from steel_data.store.reading import opened, pieces

BLOCK_BYTES = 2**20
# What is read, parsed and given away at once: it stays in the processor's cache, and its memory is used again.
SMALL_BYTES = 2**16
# The library returns all that a bite of zstd data unfolds to, and very repetitive text unfolds 10,000 times: the size
# of a bite is held between these bounds by what the last one became.
BITES = 2**6, 2**16
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
# What is not unpacked here -> what it is, and what unpacks it.
FOREIGN = {
    **{
        b"BZh%d" % level + mark: ("bzip2 data", "bunzip2")
        for level in range(1, 10)
        for mark in (b"1AY&SY", b"\x17rE8P\x90")
    },
    b"\xfd7zXZ\0": ("xz data", "unxz"),
    b"PK\x03\x04": ("a zip archive", "unzip"),
    b"PK\x05\x06": ("an empty zip archive", "unzip"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "7z x"),
    b"Rar!\x1a\x07": ("a rar archive", "unrar x"),
    b"\x04\x22\x4d\x18": ("lz4 data", "lz4 -d"),
    b"\x1f\x9d": ("compress data", "uncompress"),
}
TAR_AT, TAR = 257, b"ustar"
SUFFIX = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


def compression_of(path: Path) -> str:
    """Return `none`, `gzip` or `zstd`, by the first bytes of the file; a name that promises one must keep it."""
    try:
        with opened(path) as file:
            head = file.read(TAR_AT + len(TAR))
    except FileNotFoundError:
        raise InputError(f"{shown(path)}: no such file. Fix: a file that is there.") from None
    except OSError as fault:
        raise InputError(f"{shown(path)}: cannot be read ({fault.strerror}). Fix: a file that you may read.") from None
    if found_foreign := next((told for magic, told in FOREIGN.items() if head.startswith(magic)), None):
        what, tool = found_foreign
        if path.suffix.lower() in (".xlsx", ".xlsm", ".ods"):
            raise InputError(f"{shown(path)}: a spreadsheet. Fix: save it as csv (UTF-8), or as JSON lines.")
        raise InputError(
            f"{shown(path)}: {what}, which is not read. Fix: unpack it (`{tool} {path.name}`) and name what it holds; "
            "what is read packed is gzip and zstd."
        )
    if head[TAR_AT:] == TAR:
        raise InputError(
            f"{shown(path)}: a tar archive. Fix: unpack it (`tar xf {path.name}`) and name the files in it."
        )
    found = next((name for magic, name in MAGIC.items() if head.startswith(magic)), "none")
    promised = SUFFIX.get(path.suffix.lower())
    if promised and found == "none":
        state = "is empty" if not head else f"does not hold {promised} data"
        raise InputError(f"{shown(path)}: {state}, though its name says so. Fix: fetch it again, or rename it.")
    return found


def _gzip(blocks: Iterable[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    fresh = False  # between members: further ones and zero padding may follow
    for block in blocks:
        while block:
            if fresh:
                block = block.lstrip(b"\0")
                if not block:
                    break
                member, fresh = zlib.decompressobj(wbits=31), False
            yield member.decompress(block, BLOCK_BYTES)
            block = member.unconsumed_tail
            if member.eof:
                block, fresh = member.unused_data, True
    while not member.eof and (rest := member.decompress(member.unconsumed_tail, BLOCK_BYTES)):
        yield rest
    if not member.eof:
        raise EOFError


def _zstd(blocks: Iterable[bytes]) -> Iterator[bytes]:
    import zstandard

    # the largest window `zstd --long=31` writes; memory is taken only where a file asks for it
    context = zstandard.ZstdDecompressor(max_window_size=2**31)
    frame, fresh = context.decompressobj(), False
    size = BITES[0]
    for block in blocks:
        at = 0
        while at < len(block):
            if fresh:
                frame, fresh = context.decompressobj(), False
            bite = block[at : at + size]
            data = frame.decompress(bite)
            at += len(bite)
            if frame.eof:
                at, fresh = at - len(frame.unused_data), True
            size = max(BITES[0], size // 2) if len(data) > BLOCK_BYTES else min(BITES[1], size * 2)
            yield data
    if not fresh:
        raise EOFError


class ByteBlocks:
    """Iterate over the decompressed bytes of a file. After the last block `sha256` is that of the bytes on disk.

    A truncated or corrupt compressed file is an InputError: nobody knows how many rows lie beyond the fault.
    """

    def __init__(self, path: Path, compression: str) -> None:
        self.path, self.compression = path, compression
        self._digest = hashlib.sha256()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "ByteBlocks":
        self._file = opened(self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        assert self._file is not None
        self._file.close()

    @property
    def sha256(self) -> str:
        """The hash of all that was read from the disk so far."""
        return self._digest.hexdigest()

    def _raw(self) -> Iterator[bytes]:
        assert self._file is not None
        while block := self._file.read(BLOCK_BYTES):
            self._digest.update(block)
            yield block

    def __iter__(self) -> Iterator[bytes]:
        if self.compression == "none":
            yield from self._raw()
            return
        import zstandard

        pieces, size, total = [], 0, 0
        where = f"{shown(self.path)}: {self.compression} data"
        again = "Fix: fetch it again; what lies beyond cannot be known, so it is not skipped."
        try:
            for piece in _gzip(self._raw()) if self.compression == "gzip" else _zstd(self._raw()):
                pieces.append(piece)
                size += len(piece)
                total += len(piece)
                if size >= BLOCK_BYTES:
                    yield b"".join(pieces)
                    pieces, size = [], 0
        except EOFError:
            raise InputError(f"{where} that ends too early (after {total:,} bytes of content). {again}") from None
        except (zlib.error, zstandard.ZstdError) as fault:
            raise InputError(f"{where} that is corrupt after {total:,} bytes of content ({fault}). {again}") from None
        if pieces:
            yield b"".join(pieces)


def without_bom(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, block); a UTF-8 byte order mark at the very beginning is left out (the first offset is then 3)."""
    blocks = iter(blocks)
    first = b""
    while len(first) < 3 and (more := next(blocks, None)) is not None:
        first += more
    offset = 3 if first.startswith(b"\xef\xbb\xbf") else 0
    if first[offset:]:
        yield offset, first[offset:]
    offset = len(first)
    for block in blocks:
        yield offset, block
        offset += len(block)


def read_ranges(path: Path, compression: str, ranges: Iterable[tuple[int, int]]) -> Iterator[Iterator[bytes]]:
    """Yield the bytes [start, end) of the decompressed content, in small blocks, for each of some ascending ranges.

    They are disjoint, and the blocks of one are to be taken before the next is asked for. An uncompressed file is read
    by seeking, of an object these bytes alone are asked for; a compressed one is decompressed from its beginning, once.
    """
    if compression == "none" and is_far(path):
        for start, end in ranges:
            yield _small(pieces(path, start, end))
        return
    if compression == "none":
        with path.open("rb", buffering=0) as file:
            for start, end in ranges:
                file.seek(start)
                yield _read_on(path, file, end - start)
        return
    with ByteBlocks(path, compression) as blocks:
        source, offset, block = iter(blocks), 0, b""  # `block` begins at `offset`

        def cut(start: int, end: int) -> Iterator[bytes]:
            nonlocal offset, block
            while start < end:
                if offset + len(block) <= start:
                    offset += len(block)
                    if (more := next(source, None)) is None:
                        raise changed(path)
                    block = more
                    continue
                piece = block[start - offset : min(end - offset, start - offset + SMALL_BYTES)]
                yield piece
                start += len(piece)

        for start, end in ranges:
            yield cut(start, end)


def _small(large: Iterator[memoryview]) -> Iterator[bytes]:
    for piece in large:
        for at in range(0, len(piece), SMALL_BYTES):
            yield bytes(piece[at : at + SMALL_BYTES])


def _read_on(path: Path, file: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        block = file.read(min(size, SMALL_BYTES))
        if not block:
            raise changed(path)
        yield block
        size -= len(block)


def too_long(path: Path, what: str) -> InputError:
    """Return the error for a record beyond `RECORD_LIMIT`."""
    return InputError(
        f"{shown(path)}: {what} is longer than {RECORD_LIMIT // 2**20} MB. A record should be a conversation: "
        "is this file what its name says?"
    )
