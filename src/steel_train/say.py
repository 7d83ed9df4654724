"""What a run says while it works, and the JSON that it leaves for others (apart: every room says something)."""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import typer

from steel_data.errors import InputError, first_line, is_spokesman
from steel_data.files import atomic_write
from steel_data.shapes import misfits, without_nulls

# run.json and result.json of a run, as far as they are read again
RUN: dict[str, Any] = {
    "identity": {
        "train": {"lora": {}, "dpo": {}, "orpo": {}, "simpo": {}, "kto": {}, "eval": {}},
        "parent": {"run": str, "checkpoint": str, "weights_sha256": {}},
    },
    "base": {"name": str, "fingerprint": str, "architecture": str},
}  # fmt: skip
RESULT: dict[str, Any] = {"checkpoint": str, "step": int, "loss": float}
_NEEDED = ("train", "run", "checkpoint", "weights_sha256", "name", "fingerprint", "architecture")


def quiet() -> None:
    """Silence what other libraries say of every file they write: our own lines are the progress."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    if not is_spokesman():
        logging.disable(logging.WARNING)


def say(text: str) -> None:
    """Print a line from the main process only."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        typer.echo(text)


def say_to_user(text: str) -> None:
    """Print a line, and where a log takes what is printed (an arm's of `mix`, `trial` and `study`), on stderr too."""
    say(text)
    if sys.stdout is not sys.__stdout__ and sys.__stderr__ is not None:
        sys.__stderr__.write(f"{text}\n")
        sys.__stderr__.flush()


def write_json(path: Path, data: Any) -> None:
    """Write readable JSON at once."""
    atomic_write(path, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, shape: dict[str, Any]) -> dict[str, Any]:
    """Return a table that `write_json` left, with all keys of `shape`. Raises InputError for a damaged one."""
    said: Any = None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        fault = None if isinstance(said, dict) else "it is no table"
    except (OSError, ValueError, RecursionError) as error:
        fault = first_line(error)
    if fault is None:
        missing = sorted(shape.keys() - without_nulls(said).keys())
        fault = f"it has no '{missing[0]}'" if missing else next(misfits("", without_nulls(said), shape, _NEEDED), None)
    if fault is not None:
        raise InputError(f"{path}: is not what a run wrote: {fault}. Fix: the file as it was, or another --out.")
    found: dict[str, Any] = said
    return found
