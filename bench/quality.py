"""How many rows fall by each check of `quality`, and which?  `python bench/quality.py --out DIR [--read CHECK] [--data DIR]`

All instruct, exam and preference files of the real data are built without a filter (the exam files with the answer first, and again with
the explanation first); then every check looks at every row, timed. `--read` prints up to 40 rows of a check to be judged by eye.
"""

import argparse
import random
import textwrap
import time
from pathlib import Path

import orjson
import polars as pl
from curation_steps import REAL, SHARED

from steel_data.build import build
from steel_data.filters.quality import faults
from steel_data.recipe.load import load

EXAM = """
[source.exam-{style}]
path = "exam/*.jsonl"
build = {{ use = "exam", style = "{style}" }}
"""
RECIPES = {
    "rows": REAL + EXAM.format(style="answer-first") + EXAM.format(style="explain-first"),
    "pairs": '[source.dpo]\npath = "dpo/*.json"\n',
}


def rows(name: str, data: Path, out: Path) -> pl.DataFrame:
    """Return source, place, kind and messages (as JSON) of every row that the builders make."""
    recipe = out / f"{name}.toml"
    recipe.write_text(RECIPES[name], encoding="utf-8")
    built = build(load(recipe), data_root=data, out=out / name / "mixture", cache=out / "cache")
    noted = {source: account["notes"] for source, account in built.manifest["sources"].items() if "notes" in account}
    print("notes of the builders:", noted)
    made = []
    for row in pl.read_parquet(built.folder / "train-*.parquet").to_dicts():
        body = row.get("messages") or {part: row[part] for part in ("prompt", "chosen", "rejected")}
        place = f"{row['origin_file']} {row['origin_row']}"
        made.append((row["source"], place, row["kind"], None, orjson.dumps(body).decode()))
    columns = dict.fromkeys(["source", "place", "kind", "note", "messages"], pl.String)
    return pl.DataFrame(made, schema=columns, orient="row").sort("source", "place")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder of real data")
    parser.add_argument("--out", type=Path, required=True, help="where the mixtures go")
    parser.add_argument("--read", help="a check whose rows are printed")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    frame = pl.concat([rows(name, given.data, given.out) for name in RECIPES])
    for (source,), mine in frame.group_by("source", maintain_order=True):
        began = time.process_time()
        found = faults(mine).sum().to_dicts()[0]
        speed = len(mine) / (time.process_time() - began)
        print(source, f"{len(mine):,} rows, {speed:,.0f} a CPU-second:", {check: n for check, n in found.items() if n})
    began = time.process_time()
    found = faults(frame)
    print(f"all: {len(frame):,} rows, {len(frame) / (time.process_time() - began):,.0f} a CPU-second")
    if given.read:
        hits = frame.filter(found[given.read]).to_dicts()
        for row in random.Random(14).sample(hits, min(len(hits), 40)):
            print("\n" + row["place"], textwrap.shorten(row["messages"], 2000), sep="\n")


if __name__ == "__main__":
    main()
