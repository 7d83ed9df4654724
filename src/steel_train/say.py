"""What a run says while it works, and the JSON that it leaves for others (apart: every room says something)."""

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import typer

from steel_data.files import atomic_write


def quiet() -> None:
    """Silence what other libraries say of every file they write: our own lines are the progress."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    if os.environ.get("RANK", "0") != "0":
        logging.disable(logging.WARNING)


def say(text: str) -> None:
    """Print a line from the main process only."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        typer.echo(text)


def write_json(path: Path, data: Any) -> None:
    """Write readable JSON at once."""
    atomic_write(path, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
