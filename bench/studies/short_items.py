"""Write short items of real benchmarks as benchmarks of their own, for studies of pretrained models on a CPU.

python bench/studies/short_items.py DIR --cmmlu ../shared/data --agieval AGIEVAL/data/v1

DIR/short-cmmlu/test: of the three CMMLU subjects with most items of at most 40 characters (question and options) the first 20.
DIR/short-agieval/test: of AGIEval's sat-math and aqua-rat, in English, the first 30 of at most 200 characters.
The rule was written down before any run; items near one another (clusters) are taken once.
"""

import argparse
import json
from pathlib import Path

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import Item
from steel_eval.ask.tasks import load_task
from steel_eval.leak.texts import measurable


def short(task: str, data: Path, longest: int, most: int) -> dict[str, list[Item]]:
    """Return the first `most` items of each subject, of at most `longest` characters and one of each cluster."""
    every = [item for group in load_task(task, data).items.values() for item in group if measurable(item)]
    firsts = dict(reversed(list(zip(cluster_names(every), every, strict=True))))
    kept: dict[str, list[Item]] = {}
    for item in sorted(firsts.values(), key=lambda i: (i.subject, i.row)):
        if len(item.question) + sum(map(len, item.options)) <= longest:
            kept.setdefault(item.subject, []).append(item)
    return {s: group[:most] for s, group in sorted(kept.items(), key=lambda g: -len(g[1]))}


def write(folder: Path, found: dict[str, list[Item]]) -> None:
    """Write one jsonl a subject below `folder`/test."""
    (folder / "test").mkdir(parents=True, exist_ok=True)
    for subject, group in found.items():
        rows = [{"question": i.question, "options": list(i.options), "answer": i.answer} for i in group]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "test" / f"{subject}.jsonl").write_text(lines, "utf-8")
        print(f"{folder / 'test' / subject}.jsonl: {len(rows)} items")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--cmmlu", type=Path)
    parser.add_argument("--agieval", type=Path)
    asked = parser.parse_args()
    if asked.cmmlu:
        write(asked.target / "short-cmmlu", dict(list(short("cmmlu", asked.cmmlu, 40, 20).items())[:3]))
    if asked.agieval:
        both = [short(task, asked.agieval, 200, 30) for task in ("sat-math", "aqua-rat")]
        write(asked.target / "short-agieval", {s: group for found in both for s, group in found.items()})
