"""Write the expected files of the golden recipes anew: python tests/golden/renew.py

Only when a change of a mixture's bytes is meant. Read the diff before you commit it: it *is* the change.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.build import build
from steel_data.engine import Executor
from steel_data.recipe.load import load

HERE = Path(__file__).parent
RECIPES = ("golden", "golden-mix", "golden-pairs", "golden-faults", "golden-text")


def outputs(recipe: str, folder: Path, workers: int | Executor = 1) -> dict[str, bytes]:
    """Build a golden recipe into `folder` and return its outcome as text files, name -> bytes.

    Parquet becomes JSON lines, since its bytes depend on the version of pyarrow; of the manifest the versions of
    libraries and the parquet files' checksums are masked for the same reason. Everything else is compared as it is.
    """
    mixture = folder / "mixture"
    build(load(HERE / f"{recipe}.toml"), out=mixture, cache=folder / "cache", workers=workers)
    found = {"train.jsonl": _lines(mixture, "train-*.parquet"), "dropped.jsonl": _lines(mixture, "dropped/*.parquet")}
    if (mixture / "truth.parquet").exists():
        found["truth.jsonl"] = _lines(mixture, "truth.parquet")
    manifest = json.loads((mixture / "manifest.json").read_text(encoding="utf-8"))
    manifest["versions"] = dict.fromkeys(manifest["versions"], "masked")
    for file in manifest["output"].values():
        file["sha256"] = "masked"
    found["manifest.json"] = (json.dumps(manifest, ensure_ascii=False, indent=1) + "\n").encode()
    return found


def _lines(folder: Path, pattern: str) -> bytes:
    files = sorted(folder.glob(pattern))
    rows = [row for file in files for row in pl.read_parquet(file).iter_rows(named=True)]
    return "".join(json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in rows).encode()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    # null columns say nothing in a diff; a float's last digits depend on the processor
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items() if v is not None}


def main() -> None:
    """Replace expected/."""
    shutil.rmtree(HERE / "expected", ignore_errors=True)
    for recipe in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in outputs(recipe, Path(folder)).items():
                file = HERE / "expected" / recipe / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                sys.stdout.write(f"{file.relative_to(HERE)}: {len(content):,} bytes\n")


if __name__ == "__main__":
    main()
