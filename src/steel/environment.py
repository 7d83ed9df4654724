"""What is here: the machine and its libraries, the pages of a folder."""

import json
import os
import platform
import sys
import webbrowser
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from steel_data.errors import InputError, first_line
from steel_data.row.display import plain_table, print_table

LIBRARIES = (
    "steel-lab", "polars", "pyarrow", "numpy", "orjson", "pydantic", "tokenizers", "huggingface-hub",
    "fasttext-community", "datasets", "torch", "transformers", "trl", "peft", "accelerate", "triton", "lm-eval",
    "vllm", "ray", "modelscope",
)  # fmt: skip
VARIABLES = (
    "STEEL_DATA_ROOT", "STEEL_CACHE", "STEEL_LANG", "HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "PIP_INDEX_URL", "UV_INDEX_URL",
)  # fmt: skip
# what the commands call the pages that they write
PAGES = ("card.html", "report.html", "study.html", "mix.html", "trial.html", "leak.html", "audit.html")


def environment() -> dict[str, Any]:
    """Return what a bug report needs; nothing in it names a user, a host or a path of theirs."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": _memory(),
        "encoding": sys.stdout.encoding,
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "devices": _devices(),
        "variables": {name: _hidden(name, os.environ[name]) for name in VARIABLES if name in os.environ},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _memory() -> float | None:
    """Return the machine's memory in GB, None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _devices() -> list[str]:
    """Return the accelerators that torch sees; without torch, none."""
    if find_spec("torch") is None:
        return []
    try:
        import torch

        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except Exception as error:  # a driver that does not fit is what the report is for
        return [f"torch cannot say: {first_line(error)}"]


def _hidden(name: str, value: str) -> str:
    """Return a variable's value; of those that hold a folder or an address with a password only that they are set."""
    return value if name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "STEEL_LANG", "HF_HUB_OFFLINE") else "(set)"


def print_environment(as_json: bool) -> None:
    """Print `environment`."""
    found = environment()
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    table = plain_table("what", "found")
    table.columns[1].justify = "left"
    for key, value in found.items():
        if isinstance(value, dict):
            for name, text in value.items():
                table.add_row(escape(name), escape(str(text)))
        else:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            table.add_row(key.replace("_", " "), escape(text or "none"))
    print_table(table)


def open_in_browser(place: Path) -> None:
    """Open a page, or that of a folder, and print where it is. Raises InputError where there is none."""
    names = (*PAGES, "mixture/card.html")
    page = (
        place if place.suffix == ".html" else next((place / name for name in names if (place / name).is_file()), None)
    )
    if page is None or not page.is_file():
        raise InputError(f"{place}: no page there. Fix: a folder that holds one of {', '.join(names)}, or a page.")
    typer.echo(str(page))
    webbrowser.open(page.resolve().as_uri())
