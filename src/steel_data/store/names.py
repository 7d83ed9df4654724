"""What an object is called (apart: asked by all that name a place; none of them needs a client for it).

`s3://bucket/key` is the path `s3:/bucket/key`, as pathlib reads it: tasks carry it as they carry any path, and each
process makes its own client from it.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path, PurePath

from steel_data.errors import InputError, nearest

SCHEME = "s3:"
COMMANDS = ("build", "plan", "check", "show", "why", "diff")  # that take places in a bucket


def is_far(path: PurePath) -> bool:
    """Say whether a path names an object, or a prefix of objects, of a bucket."""
    return path.parts[:1] == (SCHEME,)


def told(path: PurePath) -> str:
    """Return a path as people write it: `s3://bucket/key`, or as it is."""
    return f"{SCHEME}//{'/'.join(path.parts[1:])}" if is_far(path) else str(path)


def below(folder: Path, place: str) -> Path:
    """Return the place that a text means, seen from a folder: beneath it, absolute, or in a bucket."""
    path = Path(place)
    return path if is_far(path) else folder / path


def refuse_unknown(path: Path) -> Path:
    """Return a path. Raises InputError for a store of another kind, a bucket without a name, and `..` in a key."""
    first = path.parts[0] if path.parts else ""
    if len(first) > 2 and first.endswith(":") and not is_far(path):
        raise InputError(f"{path}: no such store.{nearest(first, [SCHEME])} Fix: a folder, or s3://bucket/folder.")
    if is_far(path) and (len(path.parts) == 1 or ".." in path.parts):
        raise InputError(f"{told(path)}: names no place in a bucket. Fix: s3://bucket/folder.")
    return path


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Raise InputError for a place in a bucket on the command line of a command that takes none.

    It would make a folder named `s3:`. Any command that builds takes `--data-root s3://…`.
    """
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    for before, argument in pairwise(["", *arguments]):
        option, _, value = argument.partition("=") if argument.startswith("--") else (before, "", argument)
        if value.startswith(f"{SCHEME}/") and command not in COMMANDS and option != "--data-root":
            raise InputError(f"{value}: {command} takes no place in a bucket. Fix: a copy of it here.")
