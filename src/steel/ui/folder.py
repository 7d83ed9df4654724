"""What lies in a folder of runs: mixtures, runs, scores and pages, each under its path below the folder.

A request names one of these paths and nothing else: what `look` has not found cannot be asked for, and links that lead
out of the folder are not followed. So no path of a request ever reaches the disk.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from steel.environment import PAGES
from steel_data.errors import InputError, first_line
from steel_data.mixture.manifest import Manifest, read_manifest
from steel_eval.compare.runs import Result
from steel_eval.score.folder import completed, read_scores

DEPTH, FOLDERS = 8, 20_000  # how deep, and among how many folders, is looked
LARGEST_JSON = 64 * 2**20  # bytes of a scores.json, manifest.json or metrics.jsonl that is read
_TOLD = {"manifest.json", "metrics.jsonl", "run.json", "scores.json", "answers.parquet", *PAGES}
_STEP = re.compile(r"(?:step|checkpoint|ckpt|iter)[-_]\d+")


@dataclass
class Found:
    """What is there, by its path below the folder ("" is the folder itself). `more`: not all of it was looked at."""

    mixtures: dict[str, Path] = field(default_factory=dict)
    runs: dict[str, Path] = field(default_factory=dict)
    scored: dict[str, list[Path]] = field(default_factory=dict)  # a run, or what was scored -> folders of scores
    pages: dict[str, Path] = field(default_factory=dict)
    more: bool = False


def look(root: Path) -> Found:
    """Return what lies below `root`; hidden folders, checkpoints and links are passed over."""
    found, top = Found(), root.resolve()
    for seen, (here, folders, names) in enumerate(os.walk(root, followlinks=False)):
        place = Path(here)
        relative = place.relative_to(root)
        if seen >= FOLDERS:
            found.more = True
            break
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "checkpoints")
        if len(relative.parts) >= DEPTH:
            found.more = found.more or bool(folders)
            folders.clear()
        key, here_is = _key(relative), {name for name in names if name in _TOLD and inside(top, place / name)}
        if "manifest.json" in here_is:
            found.mixtures[key] = place
            folders.clear()
        if here_is & {"metrics.jsonl", "run.json"}:
            found.runs[key] = place
        if {"scores.json", "answers.parquet"} <= here_is:
            found.scored.setdefault(_run_of(relative), []).append(place)
        for name in sorted(here_is & {*PAGES}):
            found.pages[f"{key}/{name}".lstrip("/")] = place / name
    return found


def inside(top: Path, path: Path) -> bool:
    """Whether a path, links followed, lies in the resolved folder `top` and is a file."""
    try:
        return path.resolve().is_relative_to(top) and path.is_file()
    except (OSError, RuntimeError):  # a folder that went away, a link to itself
        return False


def _key(relative: Path) -> str:
    return "" if relative == Path() else relative.as_posix()


def _run_of(relative: Path) -> str:
    """Return of which run a folder of scores is: `a/scores/seed-1/step-10` is of `a`, `scores/name` of itself."""
    parts = relative.parts
    steps = [i for i, part in enumerate(parts) if _STEP.fullmatch(part) or part.startswith("seed-")]
    if not steps:
        return _key(relative.parent if relative.name == "scores" else relative)
    above = parts[: steps[0]]
    if above and above[-1] == "scores":
        above = above[:-1]
    elif "scores" in parts:  # seed-1/scores/step-10: the run of one seed
        above = parts[: parts.index("scores")]
    return "/".join(above)


def read_json(path: Path) -> Mapping[str, Any]:
    """Return a table of JSON. Raises InputError for a file that is missing, damaged, too large or no table."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise InputError(f"{path.name}: is larger than {LARGEST_JSON >> 20} MB, and is not read here.")
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name}: cannot be read: {first_line(error)}.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path.name}: is no table.")
    return found


def manifest_of(folder: Path) -> Manifest:
    """Return a mixture's manifest, looked through as it is used. Raises InputError as `read_json` does."""
    read_json(folder / "manifest.json")
    manifest = read_manifest(folder)
    manifest.folder = Path(folder.name)  # what is told of it stands in a page, which names no path of this machine
    return manifest


def results(folders: list[Path]) -> list[Result]:
    """Return the scored checkpoints of a run, seed by seed in order of steps. Raises InputError for a damaged one."""
    found = []
    for folder in folders:
        tasks = read_json(folder / "scores.json").get("tasks")
        if not isinstance(tasks, dict) or not all(isinstance(task, dict) for task in tasks.values()):
            raise InputError(f"{folder.name}/scores.json: holds no tasks.")
        try:
            found.append(Result(folder, completed(read_scores(folder))))
        except InputError as error:  # a page names no path of this machine
            raise InputError(str(error).replace(str(folder), folder.name)) from None
    return sorted(found, key=lambda result: (_seed(result.folder), result.step, result.folder.as_posix()))


def _seed(folder: Path) -> tuple[int, str]:
    seeds = [part for part in folder.parts if part.startswith("seed-")]
    number = seeds[-1].removeprefix("seed-") if seeds else ""
    return (int(number), "") if number.isdigit() else (-1, number)


def metrics(run: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of metrics.jsonl that have a step, in order, and how many lines could not be read.

    The last line of a run that is being written may be half a line: it is not counted as damaged.
    """
    path, lines, damaged = run / "metrics.jsonl", [], 0
    if not path.is_file():
        return [], 0
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - LARGEST_JSON))
        parts = stream.read(LARGEST_JSON).split(b"\n")
    for part in parts[:-1]:
        try:
            line = orjson.loads(part)
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
        except ValueError:
            damaged += 1
    return lines, damaged
