"""How many rows per CPU-second do the curation steps do?  `python bench/curation_steps.py [--rows N] [--profile]`"""

import tempfile
from pathlib import Path

import polars as pl

from steel_data.filters.overlap import TURN
from steel_data.making import texts_of
from steel_data.map_sources import map_sources
from steel_data.places import places
from steel_data.prepare import prepare
from steel_data.recipe import load

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL = """
[source.plain]
path = ["instruct/alpaca_*.json", "instruct/zh_*.json*", "instruct/infinity*.jsonl"]
build = { use = "chat" }
[source.gpteacher]
path = "instruct/en_gpteacher_*.json"
build = { use = "chat", layout = "alpaca", columns = { prompt = "instruction", query = "input", response = "response" } }
[source.gsm8k]
path = "instruct/en_gsm8k_train.jsonl"
build = { use = "chat", layout = "alpaca", columns = { prompt = "question", response = "answer" } }
"""


def real_rows(data: Path) -> list[str]:
    """Return the text views of all instruct files of the real data, turns separated by TURN."""
    return [text for texts in rows_by_file(data).values() for text in texts]


def rows_by_file(data: Path) -> dict[str, list[str]]:
    """Return the text views of the real instruct files by file, turns separated by TURN."""
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "real.toml"
        file.write_text(REAL, encoding="utf-8")
        recipe = load(file)
        where = places(recipe, data, Path(folder) / "out", Path(folder) / "cache")
        for source in map_sources(prepare(recipe, where), 1):
            for chunk in source.chunks:
                texts = texts_of(pl.read_parquet(chunk.stages[-1].records), TURN)
                rows.setdefault(source.files[chunk.file].rpartition("/")[2], []).extend(texts)
    return rows
