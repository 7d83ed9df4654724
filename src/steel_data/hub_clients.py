"""The libraries of Hugging Face and ModelScope behind two functions each: list the files of a commit, download some."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from steel_data.errors import InputError, excerpt

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


def offline(uri: str, why: str) -> InputError:
    """Return the error for a hub out of reach, with the ways around it."""
    return InputError(
        f"{uri}: cannot be reached ({excerpt(why, 120)}). Put the files under the data root and name them by path, or "
        "run `python -m steel_data fetch RECIPE` on a machine with network; HF_ENDPOINT names a mirror of Hugging Face."
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
            raise InputError(f"{address.uri}: gated. Accept its terms at {page}, then `hf auth login`.") from None
        if kind in ("RepositoryNotFoundError", "NotExistError"):
            raise InputError(
                f"{address.uri}: no data set '{address.repo}' (or a private one: `hf auth login`)."
            ) from None
        if kind in ("RevisionNotFoundError", "RevisionResolutionError"):
            raise InputError(
                f"{address.uri}: no revision '{address.revision}'. Right would be a branch, tag or commit."
            ) from None
        if kind == "HFValidationError":
            raise InputError(f"{address.uri}: {excerpt(text, 160)}") from None
        if isinstance(fault, OSError) and fault.errno in _DISK:
            raise InputError(f"{fault.filename or address.uri}: cannot be written ({fault.strerror}).") from None
        if isinstance(fault, OSError) or type(fault).__module__.split(".")[0] in _NETWORK or "Hub" in kind:
            raise offline(address.uri, text or kind) from None
        raise


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
            f"{address.uri}: needs the package modelscope. Install it: pip install 'steel-lab[modelscope]' "
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
