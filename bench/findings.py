"""What do near-dedup and decontamination find in real rows, to be judged by eye?  `python bench/findings.py --out DIR [--data DIR]`

Two builds with all four steps: all instruct files of the real data against CMMLU, C-Eval and the real exam files as benchmarks; and the
exam files as rows against CMMLU and C-Eval. Printed are the ledgers and a sample of near-duplicates and overlaps, drawn with a fixed
seed: each dropped row beside what it repeats, with their Jaccard similarity. The mixtures with their cards stay in DIR.
"""

import argparse
import json
import random
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from curation_steps import REAL, SHARED

from steel_data.build import build
from steel_data.filters.alike import SHINGLE
from steel_data.recipe.load import load
from steel_data.row.text import TextBatch

FILTERS = """
filters = [
    {{ use = "language", keep = ["zh", "en"] }},
    {{ use = "decontaminate", benchmarks = {benchmarks} }},
    {{ use = "dedup" }},
]
"""
JAPANESE = """
[source.japanese]
path = "instruct/ja_*.json"
build = { use = "chat", layout = "alpaca", columns = { prompt = "question", response = "choice0" } }
"""
EXAM = """
[source.exam]
path = "exam/*.jsonl"
build = { use = "exam", style = "explain-first" }
"""


def exam_items(data: Path, target: Path) -> None:
    """Write all questions of the real exam files as one benchmark."""
    with target.open("w", encoding="utf-8") as out:
        for file in sorted((data / "exam").glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                options = [row[f"option_{x}"] for x in "abcde" if row.get(f"option_{x}")]
                item = {"question": row["q_main"], "options": options, "answer": row.get("std_ans") or ""}
                out.write(json.dumps(item, ensure_ascii=False) + "\n")


def text_of(row: dict[str, Any]) -> str:
    return "\n".join(turn["content"] for turn in row["messages"])


def findings(name: str, sources: str, benchmarks: list[str], data: Path, out: Path) -> pl.DataFrame:
    """Build, print the ledger, and return the rows that were dropped for another row or an item."""
    recipe = out / f"{name}.toml"
    recipe.write_text(FILTERS.format(benchmarks=json.dumps(benchmarks)) + sources, encoding="utf-8")
    built = build(load(recipe), data_root=data, out=out / name / "mixture", cache=out / "cache")
    for source, account in built.manifest["sources"].items():
        print(source, {k: account[k] for k in ("read", "kept", "dropped")})
    print(built.manifest["language_check"])
    return pl.read_parquet(built.folder / "dropped/*.parquet").filter(pl.col("witness_id").is_not_null())


def show(rows: list[dict[str, Any]]) -> None:
    for number, row in enumerate(rows, 1):
        hash_G, offset_R = TextBatch([text_of(row), row["witness_text"]]).shingles(SHINGLE)
        a, b = (set(some.tolist()) for some in np.split(hash_G, offset_R[1:-1]))
        place = f"{row['origin_file']} {row['origin_row']}"
        print(f"\n#{number} {row['reason']} {row['witness_id']} jaccard {len(a & b) / max(len(a | b), 1):.2f} {place}")
        for name, text in (("row", text_of(row)), ("other", row["witness_text"])):
            print(textwrap.indent(f"{name}: {text}", "   ")[:900])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder of real data")
    parser.add_argument("--out", type=Path, required=True, help="where the mixtures go")
    parser.add_argument("--only", choices=("instruct", "exam"))
    parser.add_argument("--count", type=int, default=100)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    exam = given.out.absolute() / "exam.jsonl"
    exam_items(given.data, exam)
    found = []
    if given.only != "exam":
        benchmarks = ["cmmlu", "ceval", exam.as_posix()]
        found.append(findings("instruct", REAL + JAPANESE, benchmarks, given.data, given.out))
    if given.only != "instruct":
        found.append(findings("exam", EXAM, ["cmmlu", "ceval"], given.data, given.out))
    rng = random.Random(6)
    near = [row for dropped in found for row in dropped.filter(pl.col("reason") == "dedup:near").to_dicts()]
    overlaps = [row for dropped in found for row in dropped.filter(pl.col("step") == "decontaminate").to_dicts()]
    near = rng.sample(near, min(len(near), max(given.count - len(overlaps), given.count // 2)))
    show([*rng.sample(overlaps, min(len(overlaps), given.count - len(near))), *near])


if __name__ == "__main__":
    main()
