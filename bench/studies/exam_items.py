"""Write exam questions with four options and one key as a benchmark file, for the placebo arm of a study.

python bench/studies/exam_items.py ../shared/data/exam DIR/exam-items.jsonl
"""

import json
import sys
from pathlib import Path

LONGEST = 95  # characters of question and options; so cut, they have about as many as CMMLU's items
FILES = ("gaokao_2010_2017.jsonl", "tal_ch_train.jsonl")


def items(folder: Path) -> list[dict[str, object]]:
    """Return question, options and answer of every short row that has just four options and one letter as its key."""
    rows = [json.loads(line) for name in FILES for line in (folder / name).read_text("utf-8").splitlines()]
    found = []
    for row in rows:
        options = [row[f"option_{letter}"].strip() for letter in "abcd"]
        if len(row["q_main"]) + sum(map(len, options)) > LONGEST:
            continue
        if all(options) and not row["option_e"].strip() and row["std_ans"].strip() in list("ABCD"):
            found.append({"question": row["q_main"], "options": options, "answer": row["std_ans"].strip()})
    return found


if __name__ == "__main__":
    found = items(Path(sys.argv[1]))
    target = Path(sys.argv[2])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in found), "utf-8")
    print(f"{target}: {len(found):,} items")
