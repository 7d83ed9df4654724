"""Data sets on Hugging Face and ModelScope: `hf://datasets/ORG/NAME[@REVISION]/path`, `modelscope://datasets/…`.

The hubs' own libraries do the talking (mirrors by HF_ENDPOINT, tokens, offline mode, caches are theirs). What is
added here: the revision is pinned to a commit, the files are chosen by one rule, and an error is one line that
names a way out. The path is a file, a glob (`*` within a folder, `**` across folders) or a folder; a `/` in a
revision is written `%2F`. Each library stands behind two functions: list the files of a commit (TREE), download some
(DOWNLOAD).
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from steel_data.errors import InputError, excerpt, nearest
from steel_data.read.formats import SUFFIXES, data_suffix

_URI = re.compile(r"(hf|modelscope)://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?")
_GLOB = re.compile(r"[*?\[]")
STAGING = ".steel-fetch"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NETWORK = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "modelscope", "modelscope_hub"}
_DISK = {errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR}


@dataclass(frozen=True)
class Address:
    """A place on a hub: `hub` is hf or modelscope, `revision` as the user gave it, `path` without outer slashes."""

    uri: str
    hub: str
    repo: str
    revision: str | None
    path: str


@dataclass(frozen=True)
class Remote:
    """What a hub says of one file."""

    size: int
    sha256: str | None  # of files kept as large files
    git_sha1: str | None  # of the others: git's blob id


Tree = dict[str, Remote]


@dataclass(frozen=True)
class HubFiles:
    """Files of a data set in the hub's cache: commit, `hub://repo@commit`, the folder they are in, paths, sorted."""

    revision: str
    name: str
    root: Path
    files: tuple[Path, ...]


@dataclass(frozen=True)
class FetchReport:
    """What `fetch` did: the commit, all files in their places, how many of them are new, and the bytes of those."""

    revision: str
    files: tuple[Path, ...]
    downloaded: int
    bytes: int


def is_hub_uri(text: str) -> bool:
    """Say whether `text` names a place on a hub."""
    return text.startswith(("hf://", "modelscope://"))


def _address(uri: str) -> Address:
    match = _URI.fullmatch(uri)
    if match is None:
        raise InputError(
            f"{excerpt(uri, 200)}: not a data set. Fix: hf://datasets/ORG/NAME/path or "
            "modelscope://datasets/ORG/NAME/path; a revision stands after the name: NAME@REVISION."
        )
    hub, repo, revision, path = match.groups()
    return Address(uri, hub, repo, unquote(revision) if revision else None, (path or "").strip("/"))


def offline(uri: str, why: str) -> InputError:
    """Return the error for a hub out of reach, with the ways around it."""
    return InputError(
        f"{uri}: cannot be reached ({excerpt(why, 120)}). Put the files under the data root and name them by path, or "
        "run `steel fetch RECIPE` on a machine with network; HF_ENDPOINT names a mirror of Hugging Face."
    )


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turn what the hubs' libraries raise for the user's or the network's fault into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as fault:
        kind, text = type(fault).__name__, " ".join(str(fault).split())
        if kind == "GatedRepoError":
            page = f"https://huggingface.co/datasets/{address.repo}"
            raise InputError(f"{address.uri}: gated. Fix: accept its terms at {page}, then `hf auth login`.") from None
        if kind in ("RepositoryNotFoundError", "NotExistError"):
            raise InputError(
                f"{address.uri}: no data set '{address.repo}', or a private one. Fix: its name, or `hf auth login`."
            ) from None
        if kind in ("RevisionNotFoundError", "RevisionResolutionError"):
            raise InputError(
                f"{address.uri}: no revision '{address.revision}'. Fix: a branch, tag or commit."
            ) from None
        if kind == "HFValidationError":
            raise InputError(f"{address.uri}: {excerpt(text, 160)}") from None
        if isinstance(fault, OSError) and fault.errno in _DISK:
            raise InputError(
                f"{fault.filename or address.uri}: cannot be written ({fault.strerror}). Fix: a place with room."
            ) from None
        if isinstance(fault, OSError) or type(fault).__module__.split(".")[0] in _NETWORK or "Hub" in kind:
            raise offline(address.uri, text or kind) from None
        raise


# The libraries of the two hubs


def _hf_endpoint() -> str | None:
    # read at the time of the call; the library reads it when it is imported
    return os.environ.get("HF_ENDPOINT") or None


def _hf_tree(address: Address) -> tuple[str, Tree]:
    """Return the commit and its files; where the hub cannot be reached, those the cache knows of."""
    import huggingface_hub as hub

    api = hub.HfApi(endpoint=_hf_endpoint())
    try:
        info = api.dataset_info(address.repo, revision=address.revision, timeout=30)
        commit = str(info.sha)
        entries: Any = api.list_repo_tree(address.repo, recursive=True, revision=commit, repo_type="dataset")
        files = [entry for entry in entries if isinstance(entry, hub.RepoFile)]
    except hub.errors.HfHubHTTPError:
        raise
    except Exception as fault:
        network = isinstance(fault, OSError) or type(fault).__module__.split(".")[0] in _NETWORK
        held = _hf_cached(address) if network else None
        if held is None:
            raise
        return held
    return commit, {
        file.path: Remote(file.size, file.lfs.sha256 if file.lfs else None, None if file.lfs else file.blob_id)
        for file in files
    }


def _hf_cached(address: Address) -> tuple[str, Tree] | None:
    """Return commit and files as the library's cache recorded them when it last downloaded, or None."""
    import huggingface_hub as hub

    try:
        root = hub.snapshot_download(
            address.repo, repo_type="dataset", revision=address.revision, local_files_only=True, allow_patterns=["\0"]
        )
        commit = Path(root).name
        tree = hub.get_cached_repo_tree(address.repo, repo_type="dataset", revision=commit)
    except (hub.errors.LocalEntryNotFoundError, AttributeError):
        return None
    except Exception as fault:
        if type(fault).__name__ == "CachedRepoTreeNotFoundError":
            return None  # files may be there, but nobody knows whether all are
        raise
    return commit, {entry.path: Remote(entry.size, None, None) for entry in tree}


def _hf_download(address: Address, commit: str, names: list[str], folder: Path | None) -> Path:
    import huggingface_hub as hub

    def download(revision: str | None) -> Path:
        root = hub.snapshot_download(
            address.repo,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[escape(name) for name in names],
            local_dir=folder,
            endpoint=_hf_endpoint(),
        )
        return Path(root)

    if folder is not None:
        return download(commit)
    # By its own name the cache remembers which commit it is, so that it is found offline; unless it moved on meanwhile.
    root = download(address.revision)
    return root if root.name == commit else download(commit)


def _need_modelscope(address: Address) -> None:
    try:
        import modelscope  # noqa: F401
    except ImportError:
        raise InputError(
            f"{address.uri}: needs the package modelscope. Fix: pip install 'steel-lab[modelscope]' "
            "(or `pip install modelscope`)."
        ) from None


def _ms_tree(address: Address) -> tuple[str, Tree]:
    _need_modelscope(address)
    from modelscope.hub.api import HubApi

    api, revision = HubApi(), address.revision or "master"
    entries: list[dict[str, Any]] = []
    while page := api.get_dataset_files(address.repo, revision=revision, page_number=len(entries) // 100 + 1):
        entries += page
        if len(page) < 100:  # the size of a page
            break
    files = [entry for entry in entries if entry.get("Type") != "tree"]
    if not _COMMIT.fullmatch(revision):
        # The listing names for each file the commit that last changed it; the newest of them holds all as they are.
        newest = max(files, key=lambda entry: entry.get("CommittedDate") or 0, default=None)
        revision = (newest and newest.get("Revision")) or revision
    return revision, {entry["Path"]: Remote(int(entry["Size"]), entry.get("Sha256") or None, None) for entry in files}


def _ms_download(address: Address, commit: str, names: list[str], folder: Path | None) -> Path:
    from modelscope.hub.snapshot_download import dataset_snapshot_download

    local = str(folder) if folder else None
    patterns = [escape(name) for name in names]
    return Path(dataset_snapshot_download(address.repo, revision=commit, local_dir=local, allow_patterns=patterns))


TREE = {"hf": _hf_tree, "modelscope": _ms_tree}
DOWNLOAD = {"hf": _hf_download, "modelscope": _ms_download}


# Choosing files


def matches(name: str, pattern: str) -> bool:
    """Say whether a path matches a glob: `*` and `?` stay within a folder, `**` is any number of folders."""

    def fits(parts: list[str], globs: list[str]) -> bool:
        if not globs:
            return not parts
        if globs[0] == "**":
            return fits(parts, globs[1:] or ["*"]) or (len(parts) > 1 and fits(parts[1:], globs))
        return bool(parts) and fnmatchcase(parts[0], globs[0]) and fits(parts[1:], globs[1:])

    return fits(name.split("/"), pattern.split("/"))


def _fixed(pattern: str) -> tuple[str, str]:
    """Split a path at its first part with a glob character: `a/b/*.x` -> `a/b`, `*.x`."""
    parts = pattern.split("/")
    at = next((i for i, part in enumerate(parts) if _GLOB.search(part)), len(parts))
    return "/".join(parts[:at]), "/".join(parts[at:])


def _beneath(tree: Tree, folder: str) -> list[str]:
    return sorted(name for name in tree if not folder or name.startswith(folder + "/"))


def _chosen(tree: Tree, address: Address) -> list[str]:
    """Return the names that the address means.

    Of a folder or a glob only data files are meant; of a folder that has files with `train` in their path, only those:
    what else is there (`test`, `validation`) is not for training, and whoever wants it can name it.
    """
    path = address.path
    if path in tree:
        return [path]
    if _GLOB.search(path):
        names = sorted(name for name in tree if matches(name, path) and data_suffix(name) in SUFFIXES)
    else:
        names = [name for name in _beneath(tree, path) if data_suffix(name) in SUFFIXES]
        names = [name for name in names if "train" in name[len(path) :].lower()] or names
    if not names:
        raise _nothing(tree, address)
    return names


def _nothing(tree: Tree, address: Address) -> InputError:
    has = sorted(tree)
    listing = ", ".join(has[:12]) + (f" … ({len(has)} files)" if len(has) > 12 else "")
    hint = nearest(address.path, has, show_known=False)
    return InputError(f"{address.uri}: no such data file.{hint} The data set has: {excerpt(listing, 400)}.")


def locate(uri: str) -> HubFiles:
    """Return the files that `uri` names, downloaded into the hub's own cache, pinned to a commit.

    Without network what the cache holds is taken, if it is known to be complete. Raises InputError for anything
    that the user or the network is to blame for.
    """
    address = _address(uri)
    with explained(address):
        commit, tree = TREE[address.hub](address)
        names = _chosen(tree, address)
        root = DOWNLOAD[address.hub](address, commit, names, None)
    files = tuple(root / name for name in names)
    for file in files:
        if not file.is_file():
            raise offline(uri, f"{file.name} is not in the cache")
    return HubFiles(commit, f"{address.hub}://{address.repo}@{commit}", root, files)


# Fetching into the data root


def _places(tree: Tree, address: Address, pattern: str) -> dict[str, str]:
    """Return which file goes where: name on the hub -> path under the data root that `pattern` finds."""
    pattern = pattern.replace("\\", "/").rstrip("/")
    if _GLOB.search(address.path):
        base, found = _fixed(address.path)[0], [name for name in sorted(tree) if matches(name, address.path)]
    elif address.path in tree:
        base, found = address.path.rpartition("/")[0], [address.path]
    else:
        base, found = address.path, _beneath(tree, address.path)
    inner = {name: name[len(base) + 1 :] if base else name for name in found}
    folder, rest = _fixed(pattern)
    if rest:
        places = {name: f"{folder}/{rel}" if folder else rel for name, rel in inner.items() if matches(rel, rest)}
    elif data_suffix(pattern) not in SUFFIXES:  # a folder
        places = {name: f"{pattern}/{rel}" for name, rel in inner.items() if not rel.startswith(".")}
    else:
        named = [name for name in found if PurePosixPath(name).name == PurePosixPath(pattern).name]
        like = [name for name in found if data_suffix(name) == data_suffix(pattern)]
        one = named or like
        places = {one[0]: pattern} if len(one) == 1 else {}
    if not places:
        raise InputError(
            f"{address.uri}: has no file for path = '{pattern}'.{nearest(pattern, found, show_known=False)} "
            f"It has: {excerpt(', '.join(found[:12]) or 'nothing', 400)}{' …' if len(found) > 12 else ''}."
        )
    for place in places.values():
        if ".." in place.split("/"):
            raise InputError(
                f"{address.uri}: a file would go to '{excerpt(place)}', outside the data root. Fix: get it by hand."
            )
    return places


def _same(path: Path, remote: Remote) -> bool:
    """Say whether a file on disk is the remote one, by its hash (by its size where the hub states none)."""
    if not path.is_file() or path.stat().st_size != remote.size:
        return False
    with path.open("rb") as file:
        if remote.sha256:
            return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256
        if remote.git_sha1:
            digest = hashlib.sha1(b"blob %d\0" % remote.size, usedforsecurity=False)
            while block := file.read(2**20):
                digest.update(block)
            return digest.hexdigest() == remote.git_sha1
    return True


def fetch(origin: str, pattern: str, data_root: Path) -> FetchReport:
    """Download what `origin` names into the places under `data_root` where the glob or path `pattern` will find it.

    `hf://datasets/O/N/7M` and `n/7M/*.parquet`: the folder's parquet files go to `n/7M/`. A path without glob takes
    the one file of that name (or else of that format), a path without suffix is a folder and takes everything. A
    file that is there already, hash for hash, is not downloaded again; each arrives under another name and is moved
    when it is complete, so an interrupted fetch continues and no reader ever sees half a file. Raises InputError.
    """
    address = _address(origin)
    with explained(address):
        commit, tree = TREE[address.hub](address)
        places = _places(tree, address, pattern)
        missing = {name: place for name, place in places.items() if not _same(data_root / place, tree[name])}
        size = sum(tree[name].size for name in missing)
        if missing:
            staging = data_root / STAGING / f"{address.repo.replace('/', '--')}@{commit}"
            staging.mkdir(parents=True, exist_ok=True)
            root = DOWNLOAD[address.hub](address, commit, sorted(missing), staging)
            _move(address, root, {name: data_root / place for name, place in missing.items()}, tree)
            shutil.rmtree(staging)
            if not any(staging.parent.iterdir()):
                staging.parent.rmdir()
    return FetchReport(commit, tuple(data_root / place for place in sorted(places.values())), len(missing), size)


def _move(address: Address, root: Path, places: dict[str, Path], tree: Tree) -> None:
    for name, place in places.items():
        if not _same(root / name, tree[name]):
            (root / name).unlink(missing_ok=True)
            raise InputError(f"{address.uri}: {name} did not arrive whole. Fix: fetch again.")
        place.parent.mkdir(parents=True, exist_ok=True)
        (root / name).replace(place)
