"""`fetch RECIPE` brings the data that sources' `origin` names to where `path` expects it; `fetch cmmlu` a benchmark.

The commit that each origin had, and the checksum of each benchmark's archive, are written to `.steel-origins.json` in
the data root; fetching again takes the same, so that two machines and two months give the same files. Delete the entry
to move on to a newer one. A benchmark's archive comes from the first of its addresses that has it, and is unpacked into
the published layout if it holds just the questions that were published.
"""

import json
import os
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import IO
from zipfile import BadZipFile, ZipFile

import typer

from steel_data.benchmarks.items import MEMBER_LIMIT, PUBLISHED, benchmark_path, read_benchmark
from steel_data.engine import progress
from steel_data.errors import InputError, first_line, nearest
from steel_data.files import atomic_write, replaced_folder, sha256_of
from steel_data.read.hub import fetch, is_hub_uri
from steel_data.recipe.load import load
from steel_data.recipe.places import places
from steel_data.row.display import command

PINS = ".steel-origins.json"
HUBS = ("https://huggingface.co", "https://hf-mirror.com")
ARCHIVE_LIMIT = 2**30  # bytes
ATTEMPTS = 2  # an address


@dataclass(frozen=True)
class Archive:
    """Where a benchmark is published: a path on Hugging Face or its mirrors, then other addresses; its licence."""

    hub: str
    others: Sequence[str]
    licence: str


# Addresses and licences as their cards and READMEs state them (November 2026, read without a network): C-Eval's README
# of 27 July 2025 names its zip, public programs fetch CMMLU's (also under its owner's earlier name) and MMLU's tar.
ARCHIVES = {
    "ceval": Archive(
        "datasets/ceval/ceval-exam/resolve/main/ceval-exam.zip",
        ("https://modelscope.oss-cn-beijing.aliyuncs.com/open_data/c-eval/ceval-exam.zip",),
        "CC BY-NC-SA 4.0: no commercial use",
    ),
    "cmmlu": Archive(
        "datasets/haonan-li/cmmlu/resolve/main/cmmlu_v1_0_1.zip",
        ("https://huggingface.co/datasets/lmlmcat/cmmlu/resolve/main/cmmlu_v1_0_1.zip",),
        "CC BY-NC 4.0 (its hub card; its repository says CC BY-NC-SA 4.0): no commercial use",
    ),
    "mmlu": Archive(
        "datasets/cais/mmlu/resolve/main/data.tar", ("https://people.eecs.berkeley.edu/~hendrycks/data.tar",), "MIT"
    ),
}
_SPLIT_FILE = re.compile(r"(?:^|/)(dev|val|test)/([^/.][^/]*\.csv)$")


def fetch_named(names: Sequence[str], data_root: Path | None) -> None:
    """Fetch benchmarks (`ceval`, `cmmlu`, `mmlu`), or the sources of recipes. Raises InputError for any other name."""
    for name in names:
        if name in ARCHIVES:
            fetch_benchmark(name, data_root or Path(os.environ.get("STEEL_DATA_ROOT") or "data"))
        elif name.startswith("@") or name.endswith(".toml") or Path(name).exists():
            fetch_recipe(Path(name), data_root)
        else:
            raise InputError(f"fetch {name}: no recipe file, and no benchmark.{nearest(name, ARCHIVES)}")


def next_steps(names: Sequence[str], data_root: Path | None) -> list[str]:
    """Return what may be done with what was fetched: build a recipe, score by benchmarks."""
    recipes = [command("build", name, data_root=data_root) for name in names if name not in ARCHIVES]
    steps = [f"{recipe} builds the mixture" for recipe in recipes]
    if exams := ",".join(name for name in names if name in ARCHIVES):
        steps.append(f"{command('score', 'MODEL', tasks=exams, data_root=data_root)} scores a model")
    return steps


def fetch_benchmark(name: str, root: Path) -> None:
    """Bring a benchmark into `root/<name>/<split>/*.csv`, whole; what is there and whole stays.

    Raises InputError where it cannot be had, has other questions than were published, or other bytes than last time.
    """
    archive = ARCHIVES[name]
    there = benchmark_path(name, root)
    if there is not None:
        if _is_whole(name, root):
            typer.echo(f"{name}: is there, with the questions that were published. Licence: {archive.licence}")
            return
        raise InputError(f"{there}: holds another part of {name}. Fix: move it away, or another --data-root.")
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root, prefix=".steel-fetch-") as temporary:
        file = Path(temporary, "archive")
        address = _download(name, file)
        pins, sha256 = _pins(root), sha256_of(file)
        if pins.get(name, sha256) != sha256:
            raise InputError(
                f"{address}: has SHA-256 {sha256[:16]}…, and {root / PINS} names {pins[name][:16]}…. "
                f"Fix: the archive as it was, or delete that entry."
            )
        _unpack(name, file, Path(temporary, name))
        if not _is_whole(name, Path(temporary)):
            sizes = ", ".join(f"{split} {n:,}" for split, n in PUBLISHED[name].items())
            raise InputError(
                f"{address}: has not the questions of {name} that were published ({sizes}). Fix: another mirror."
            )
        with replaced_folder(root / name) as fresh:
            for split in Path(temporary, name).iterdir():
                split.rename(fresh / split.name)
        pins[name] = sha256
        atomic_write(root / PINS, (json.dumps(pins, indent=2, sort_keys=True) + "\n").encode())
    sizes = ", ".join(f"{split} {n:,}" for split, n in PUBLISHED[name].items())
    typer.echo(f"{name}: {sizes} questions from {address}, SHA-256 {sha256[:16]}…. Licence: {archive.licence}")


def _is_whole(name: str, root: Path) -> bool:
    """Return whether each published split is there with just so many questions."""
    found = dict.fromkeys(PUBLISHED[name], 0)
    for item in read_benchmark(name, root):
        if item.split in found:
            found[item.split] += 1
    return found == PUBLISHED[name]


def _download(name: str, file: Path) -> str:
    """Write a benchmark's archive to `file`; return the address that had it. Raises InputError where none has."""
    hubs = [endpoint.rstrip("/")] if (endpoint := os.environ.get("HF_ENDPOINT")) else HUBS
    addresses = [f"{hub}/{ARCHIVES[name].hub}" for hub in hubs] + list(ARCHIVES[name].others)
    faults = []
    for address in addresses:
        for attempt in range(ATTEMPTS):
            try:
                _fetch(address, file)
                return address
            except urllib.error.HTTPError as error:
                faults.append(f"{address}: status {error.code}")
                if error.code < 500:
                    break
            except (OSError, HTTPException, ValueError) as error:
                if attempt + 1 == ATTEMPTS:
                    faults.append(f"{address}: {first_line(error)}")
    raise InputError(
        f"{name}: cannot be had: {'; '.join(dict.fromkeys(faults))}. Fix: a network, HF_ENDPOINT with a mirror, or "
        f"the files put under the data root by hand."
    )


def _fetch(address: str, file: Path) -> None:
    """Download one file whole: of the length, and where a hub says it the SHA-256, that the server names."""
    seen: dict[str, str] = {}

    class _Redirects(urllib.request.HTTPRedirectHandler):
        def http_error_302(self, req, fp, code, msg, headers):  # type: ignore[no-untyped-def]
            seen.setdefault("sha256", headers.get("X-Linked-Etag") or "")
            return super().http_error_302(req, fp, code, msg, headers)

        http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    request = urllib.request.Request(address, headers={"User-Agent": "steel"})
    with urllib.request.build_opener(_Redirects).open(request, timeout=60) as reply, file.open("wb") as out:
        length = int(reply.headers.get("Content-Length") or -1)
        sha256 = (seen.get("sha256") or reply.headers.get("X-Linked-Etag") or "").strip('"')
        with progress(PurePosixPath(address).name, None if length < 0 else length, "bytes") as advance:
            while block := reply.read1(1 << 20):
                out.write(block)
                advance(len(block))
                if out.tell() > ARCHIVE_LIMIT:
                    raise ValueError(f"more than {ARCHIVE_LIMIT:,} bytes")
        if length >= 0 and out.tell() != length:
            raise ValueError(f"{out.tell():,} of {length:,} bytes came")
    if re.fullmatch(r"[0-9a-f]{64}", sha256) and sha256_of(file) != sha256:
        raise ValueError("its bytes are not those that the hub names")


def _unpack(name: str, file: Path, folder: Path) -> None:
    """Write the archive's `<split>/<subject>.csv` into a folder, under names of ours. Raises InputError."""
    places: dict[PurePosixPath, str] = {}
    try:
        with _opened(file) as members:
            for path, size, stream in members:
                match = _SPLIT_FILE.search(path)
                if match is None or "__MACOSX" in path:
                    continue
                place = PurePosixPath(match[1], match[2])
                if size > MEMBER_LIMIT or place in places:
                    raise InputError(
                        f"{name}: its archive holds {path} {'twice' if place in places else 'too large'}. "
                        "Fix: the published one."
                    )
                places[place] = path
                (folder / match[1]).mkdir(parents=True, exist_ok=True)
                with (folder / place).open("wb") as out:
                    copyfileobj(stream, out)
    except (BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{name}: its archive cannot be unpacked: {first_line(error)}. Fix: fetch it again.") from None
    if not places:
        raise InputError(f"{name}: its archive holds no <split>/<subject>.csv. Fix: the published one.")


@contextmanager
def _opened(file: Path) -> Iterator[Iterator[tuple[str, int, IO[bytes]]]]:
    """Give (path, bytes, stream) of the files in a zip or tar, one after the other."""
    with file.open("rb") as start:
        is_zip = start.read(4) == b"PK\x03\x04"
    if is_zip:
        with ZipFile(file) as packed:
            yield ((info.filename, info.file_size, packed.open(info)) for info in packed.infolist())
        return
    with tarfile.open(file) as tape:
        yield ((m.name, m.size, stream) for m in tape if m.isfile() and (stream := tape.extractfile(m)))


def fetch_recipe(recipe_path: Path, data_root: Path | None) -> None:
    """Fetch every source of a recipe that has an `origin`, and say for each of the others why it was left alone."""
    recipe = load(recipe_path)
    root = places(recipe, data_root, None, None).data_root
    pins: dict[str, str] = _pins(root)
    for source in recipe.sources:
        table = source.table
        if table.origin is None:
            typer.echo(f"{source.name}: no origin; nothing to fetch")
            continue
        if not is_hub_uri(table.origin):
            typer.echo(f"{source.name}: not on a hub, get it by hand from {table.origin}")
            continue
        if len(table.paths) != 1 or is_hub_uri(table.paths[0]):
            raise InputError(
                f"{recipe.path} [source.{source.name}]: origin with several paths. "
                "Fix: path = one place under the data root."
            )
        report = fetch(pinned(table.origin, pins), table.paths[0], root)
        pins[table.origin] = report.revision
        atomic_write(root / PINS, (json.dumps(pins, indent=2, sort_keys=True) + "\n").encode())
        typer.echo(
            f"{source.name}: {len(report.files)} files at {report.revision[:12]}, {report.downloaded} new "
            f"({report.bytes / 1e6:,.1f} MB)"
        )


def _pins(root: Path) -> dict[str, str]:
    try:
        pins = json.loads((root / PINS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{root / PINS}: cannot be read: {error}. Fix: delete it, or mend it.") from None
    if not isinstance(pins, dict):
        raise InputError(f"{root / PINS}: cannot be read: it is no table. Fix: delete it, or mend it.")
    return {str(k): str(v) for k, v in pins.items()}


def pinned(origin: str, pins: dict[str, str]) -> str:
    """Return the origin with the commit that was fetched before, unless it names a revision itself."""
    scheme, _, rest = origin.partition("://")
    parts = rest.split("/")
    if origin not in pins or len(parts) < 3 or "@" in parts[2]:
        return origin
    parts[2] += f"@{pins[origin]}"
    return f"{scheme}://{'/'.join(parts)}"
