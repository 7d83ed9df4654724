"""What stands in a bucket, told by listings: one for each prefix, a request for every thousand objects, none a file.

A process keeps what it was told until it is told to `forget`, which every build begins with. An object is known by its
size and its ETag: another version of it is refused when it is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from steel_data.store.bucket import Bucket, Seen, bucket
from steel_data.store.names import SCHEME, told


@dataclass
class _Known:
    """Objects by path; of prefixes the names of the objects and prefixes directly beneath; all objects under some."""

    objects: dict[Path, Seen] = field(default_factory=dict)
    folders: dict[Path, tuple[dict[str, Seen], frozenset[str]]] = field(default_factory=dict)
    trees: dict[Path, frozenset[Path]] = field(default_factory=dict)


_known = _Known()


def split(path: Path) -> tuple[Bucket, str]:
    """Return the bucket and the key of an object's path."""
    return bucket(path.parts[1]), "/".join(path.parts[2:])


def forget() -> None:
    """Let what listings have told be asked for again."""
    _known.objects.clear()
    _known.folders.clear()
    _known.trees.clear()


def remember(objects: Mapping[Path, Seen]) -> None:
    """Know objects as somebody has seen them."""
    _known.objects.update(objects)


def known(path: Path) -> Seen | None:
    """Return what this process knows of an object; nobody is asked."""
    return _known.objects.get(path)


def seen(path: Path) -> Seen | None:
    """Return what is known of an object, or what the listing of its prefix says; None where it is not there."""
    if path not in _known.objects:
        files(path.parent)
    return _known.objects.get(path)


def found(path: Path) -> Seen:
    """Return the same. Raises FileNotFoundError where it is not there."""
    there = seen(path)
    if there is None:
        raise FileNotFoundError(2, "no such object", told(path))
    return there


def files(folder: Path) -> dict[str, Seen]:
    """Return the objects directly under a prefix by name."""
    return _level(folder)[0]


def folders(folder: Path) -> frozenset[str]:
    """Return the names of the prefixes directly under a prefix."""
    return _level(folder)[1]


def _level(folder: Path) -> tuple[dict[str, Seen], frozenset[str]]:
    if folder not in _known.folders:
        there, prefix = split(folder)
        level = there.list(prefix, deep=False)
        named = {key.rpartition("/")[2]: one for key, one in level.objects.items() if _is_below(key, prefix)}
        _known.objects.update({folder / name: one for name, one in named.items()})
        _known.folders[folder] = named, frozenset(p.rstrip("/").rpartition("/")[2] for p in level.prefixes)
    return _known.folders[folder]


def _is_below(key: str, prefix: str) -> bool:
    """Whether a key names a file under a prefix: not the prefix itself, which some tools leave an empty object for."""
    return key.startswith(f"{prefix}/" if prefix else "") and not {"", ".", ".."} & {*key.split("/")}


def under(folder: Path) -> frozenset[Path]:
    """Return all objects under a prefix, listed once."""
    if folder not in _known.trees:
        _known.trees[folder] = frozenset(tree(folder))
    return _known.trees[folder]


def tree(folder: Path) -> dict[Path, Seen]:
    """Return all objects under a prefix, sorted; they are asked for anew."""
    there, prefix = split(folder)
    top = Path(SCHEME, there.name)
    return {top / key: one for key, one in sorted(there.list(prefix).objects.items()) if _is_below(key, prefix)}


def glob(folder: Path, pattern: str) -> list[Path]:
    """Return the objects that a pattern names as pathlib's `glob` does, sorted.

    What is listed is the prefix before the first wildcard, and of it one level where that stands in the last part.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    plain = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    base = folder.joinpath(*parts[:plain])
    if plain == len(parts):
        return [base] if parts and seen(base) is not None else []
    if plain == len(parts) - 1 and parts[plain] != "**":
        paths = [base / name for name in files(base)]
    else:
        objects = tree(base)
        remember(objects)
        paths = list(objects)
    return sorted(path for path in paths if _matches(path.relative_to(base).parts, tuple(parts[plain:])))


def _matches(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":  # at the end it means folders
        return len(parts) > 1 and any(_matches(names[i:], parts[1:]) for i in range(len(names)))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _matches(names[1:], parts[1:])
