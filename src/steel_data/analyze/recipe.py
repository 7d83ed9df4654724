"""The recipe that builds what was analysed: one source a part, the filters whose losses are told, all written out."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from glob import escape
from pathlib import Path
from typing import Any

import orjson
import regex

from steel_data.analyze.parts import Part
from steel_data.errors import InputError, excerpt
from steel_data.files import atomic_write
from steel_data.recipe.load import load, to_toml
from steel_data.row.columns import meaning_of

_LISTED = 8  # files of a source that are named one by one


def recipe_toml(
    parts: Iterable[Part], paths: Mapping[str, list[str]], benchmarks: list[str], head: Mapping[str, Any], why: str = ""
) -> str:
    """Return a recipe: `head` at its top, a source for each part that a builder can read.

    paths: of each part by name. why: the reason of `allow_test_split`, where the rows are only to be looked at.
    """
    lines = [f"{_key(key)} = {_inline(value)}" for key, value in head.items()]
    steps = [{"use": "quality"}, *([{"use": "decontaminate", "benchmarks": benchmarks}] if benchmarks else [])]
    lines += ["filters = [", *(f"    {_inline(step)}," for step in [*steps, {"use": "dedup"}]), "]"]
    for part in parts:
        mine = paths[part.name]
        lines += ["", f"[source.{_key(part.name)}]"]
        if part.proposed:
            lines += ["# No published layout has these columns. This is a proposal: look before you build."]
        if len(mine) == 1:
            lines.append(f"path = {_inline(mine[0])}")
        else:
            lines += ["path = [", *(f"    {_inline(path)}," for path in mine), "]"]
        lines.append(f"build = {_inline(part.build)}")
        lines += unread_columns(part)
        if why:
            lines.append(f"allow_test_split = {_inline(why)}")
    return "\n".join(lines) + "\n"


def unread_columns(part: Part) -> list[str]:
    """Return the lines of a source about the columns that its builder does not read: the one place that decides it.

    Those that stand in every row of every file, under a plain name, are kept in the record's `meta`. Of
    the others those that would change what a row means are
    ignored by name, for whoever reads the recipe to decide.
    """
    read = part.read
    if read is None:
        return []
    unread = [name for name, column in part.columns.items() if name not in read and column.filled]
    whole = [name for name in unread if all(name in names for sets in part.sets for names in sets)]
    kept = [name for name in whole if orjson.dumps(name).decode() == f'"{name}"' and name.isprintable()]
    left = [name for name in unread if name not in kept and meaning_of(name) is not None]
    lines = [f"meta = {_inline(kept)}"] if kept else []
    return lines + ([f"ignore = {_inline(left)}  # these may change what a row means"] if left else [])


def paths_of(part: Part) -> list[str]:
    """Return how a recipe names a part's files: a glob a folder where they are many and the glob finds no other."""
    if len(part.files) <= _LISTED:
        return [file.pattern for file in part.files]
    mine = {file.path for file in part.files}
    groups: dict[str, list[Any]] = defaultdict(list)
    for file in part.files:
        folder, slash, _ = file.pattern.rpartition("/")
        groups[f"{folder}{slash}*{escape(file.path.suffix)}"].append(file)
    paths = []
    for pattern, files in groups.items():
        beside = files[0].path.parent.glob(pattern.rpartition("/")[2])
        found = {path for path in beside if path.is_file()}
        exact = "://" not in pattern and found <= mine
        paths += [pattern] if exact else [file.pattern for file in files]
    return paths


def write_recipe(path: Path, text: str, root: Path) -> None:
    """Write a recipe whose paths are under `root`, once it has been read back."""
    whole = f"{_key('data_root')} = {_inline(beside(path, root))}\n{text}"
    with tempfile.TemporaryDirectory() as temporary:
        trial = Path(temporary, path.name)
        trial.write_text(whole, encoding="utf-8")
        load(trial)
    atomic_write(path, whole.encode())


def beside(recipe: Path, folder: Path) -> str:
    """Return how a recipe names a folder: relative to itself where both lie near, so that they can move together.

    Near is below the recipe's own folder, or both below the working directory; all others are named whole.
    """
    home, real = recipe.absolute().parent, folder.resolve()
    folder = Path(os.path.normpath(folder.absolute()))  # textually: a link stays one
    together = folder.is_relative_to(home) or (folder.is_relative_to(Path.cwd()) and home.is_relative_to(Path.cwd()))
    relative = Path(os.path.relpath(folder, home))
    # where a link lies on the way, `..` may lead elsewhere
    if together and (home / relative).resolve() == real:
        return relative.as_posix()
    return (folder if folder.resolve() == real else real).as_posix()


def refuse_existing(path: Path, force: bool) -> None:
    """Raise InputError where a recipe would be written over another file, or cannot be one."""
    if path.suffix != ".toml":
        raise InputError(f"--recipe {excerpt(str(path), 200)}: not a recipe's name. Fix: --recipe mine.toml.")
    if path.exists() and not force:
        raise InputError(f"{path}: is there already. Fix: another name, or --force to write over it.")


def _key(name: str) -> str:
    return name if regex.fullmatch(r"[A-Za-z0-9_-]+", name) else _inline(name)


def _inline(value: Any) -> str:
    """Return a value as TOML on one line."""
    match value:
        case dict():
            return "{ " + ", ".join(f"{_key(key)} = {_inline(one)}" for key, one in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_inline, value)) + "]"
        case _:
            return to_toml({"x": value}).removeprefix("x = ").rstrip("\n")
