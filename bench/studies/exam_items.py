"""Write exam questions with four options and one key as benchmark files for studies: all of them, and in two disjoint parts.

python bench/studies/exam_items.py ../shared/data/exam DIR
"""

import json
import sys
from pathlib import Path

LONGEST = 114  # characters of question and options; so cut, they have about as many as CMMLU's items
FILES = ("gaokao_2010_2017.jsonl", "tal_ch_train.jsonl")


def items(folder: Path) -> list[dict[str, object]]:
    """Return question, options, answer and explanation of every short row with four options and one letter as its key."""
    rows = [json.loads(line) for name in FILES for line in (folder / name).read_text("utf-8").splitlines()]
    found = []
    for row in rows:
        options = [row[f"option_{letter}"].strip() for letter in "abcd"]
        if len(row["q_main"]) + sum(map(len, options)) > LONGEST:
            continue
        if all(options) and not row["option_e"].strip() and row["std_ans"].strip() in list("ABCD"):
            found.append(
                {"question": row["q_main"], "options": options, "answer": row["std_ans"].strip(),
                 "explanation": row["answer_detail"].strip()}
            )  # fmt: skip
    return found


if __name__ == "__main__":
    found = items(Path(sys.argv[1]))
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    parts = {"exam-items": found, "base-items": found[::4], "placebo-items": [x for i, x in enumerate(found) if i % 4]}
    for name, some in parts.items():
        lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in some)
        (target / f"{name}.jsonl").write_text("".join(lines), "utf-8")
        print(f"{target / name}.jsonl: {len(some):,} items")
