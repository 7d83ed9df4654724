"""Rows for the comparison, with a truth: what was planted, and in which row.

A corpus folder holds `data/rows.jsonl` (instruction, input, output: what steel reads), `data/<benchmark>/…` in its published layout,
`texts.jsonl` (id, text: the same rows as the peers want them), `items.jsonl` (question, options of the items to be found), `truth.jsonl` (a
row's kind and of what it is a copy). An id is the row's number.
"""

import json
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steel_data.benchmarks.index import Index, build_index

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # bench/, whose scale.py writes the generated rows
import scale

EXACT, NEAR, VERBATIM, EDITED = 0.01, 0.10, 0.0025, 0.0025  # shares of the rows that are planted
EDITS = 0.005, 0.02  # of the characters of a near copy
SHORTEST = 100  # characters of a row that is copied, so that one edit is no more than 1 %
HAN = "的一是在不了有和人这中大为上个国我以要他"
LATIN = "etaoinshrdlu"


@dataclass(frozen=True)
class Row:
    """One row: what it says, and what is known of it (`base`, `exact`, `near`, `verbatim`, `edited`)."""

    instruction: str
    input: str
    output: str
    kind: str = "base"
    of: int | str | None = None  # place of the original among the rows, or the item's name

    @property
    def text(self) -> str:
        """The text the peers see; steel's own text view of the row is the same."""
        asked = "\n".join(part for part in (self.instruction, self.input) if part)
        return f"{asked}\n{self.output}"


def edited(text: str, share: float, rng: random.Random) -> str:
    """Return `text` with `share` of its characters (at least one) replaced, dropped or doubled by another of their script."""
    chars = list(text)
    for at in rng.sample(range(len(chars)), max(1, round(share * len(chars)))):
        other = rng.choice(HAN if ord(chars[at]) > 0x2E80 else LATIN)
        chars[at] = rng.choice([other, "", chars[at] + other])
    return "".join(chars)


def exam_row(question: str, options: list[str]) -> str:
    return "\n".join([question, *(f"{letter}. {text}" for letter, text in zip("ABCDEFGH", options, strict=False))])


def plant(base: list[Row], index: Index, rows: int, rng: random.Random) -> list[Row]:
    """Return `rows` rows in random order: base rows, and copies and items planted among them in the shares above."""
    exact, near, verbatim, changed = (round(share * rows) for share in (EXACT, NEAR, VERBATIM, EDITED))
    base = base[: rows - exact - near - verbatim - changed]
    order = list(range(rows))
    rng.shuffle(order)  # order[i] = place of row i
    long = [i for i, row in enumerate(base) if len(row.text) >= SHORTEST and row.output]
    originals = rng.sample(long, exact + near)
    made = list(base)
    for i, k in enumerate(originals):
        row = base[k]
        if i < exact:
            made.append(Row(row.instruction, row.input, row.output, "exact", order[k]))
            continue
        share = rng.uniform(*EDITS)
        asked = edited(row.instruction, share, rng) if len(row.instruction) * share > 0.5 else row.instruction
        made.append(Row(asked, row.input, edited(row.output, share, rng), "near", order[k]))
    usable = [i for i in range(len(index.names)) if index.length_I[i] >= 8]
    for n, i in enumerate(rng.sample(usable, verbatim + changed)):
        question, options = index.questions[i], list(index.options[i])
        kind = "verbatim" if n < verbatim else "edited"
        if kind == "edited":
            question, options = edited(question, 0.02, rng), rng.sample(options, len(options))
        made.append(
            Row(
                f"请回答下面的题目。\n{exam_row(question, options)}",
                "",
                f"答案是{'ABCD'[n % 4]}。",
                kind,
                index.names[i],
            )
        )
    placed: list[Row | None] = [None] * rows
    for row, place in zip(made, order, strict=True):
        placed[place] = row
    return [row for row in placed if row is not None]


def flat(row: dict[str, Any]) -> tuple[str, str, str] | None:
    """Return (instruction, input, output) of a row of the real files, whatever its layout; None where it has no such thing."""
    if "conversations" in row:
        turns = [turn["value"] for turn in row["conversations"]]
        return (turns[0], "", turns[1]) if len(turns) > 1 else None
    if "q_main" in row:
        options = [row[f"option_{x}"] for x in "abcde" if row.get(f"option_{x}")]
        return exam_row(row["q_main"], options), "", f"{row['std_ans']}。{row['answer_detail'] or ''}"
    if "choice0" in row:
        options = [row[f"choice{i}"] for i in range(5)]
        return exam_row(row["question"], options), "", options[row["label"]]
    asked = row.get("instruction") or row.get("question") or ""
    answer = row.get("output") or row.get("response") or row.get("answer") or ""
    return (asked, row.get("input") or "", answer) if asked.strip() and answer.strip() else None


def real_base(data: Path) -> list[Row]:
    """Return the rows of all instruct and exam files of the real data, in order."""
    rows = []
    for file in sorted([*(data / "instruct").iterdir(), *(data / "exam").iterdir()]):
        text = file.read_text(encoding="utf-8")
        try:
            values = json.loads(text)
        except json.JSONDecodeError:
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
        rows += [Row(*parts) for value in values if (parts := flat(value)) is not None]
    return rows


def write(folder: Path, rows: list[Row], index: Index) -> None:
    """Write a corpus into a folder that holds the benchmarks already."""
    names = ("data/rows.jsonl", "texts.jsonl", "truth.jsonl")
    lines: tuple[list[dict[str, Any]], ...] = ([], [], [])
    for i, row in enumerate(rows):
        lines[0].append({"instruction": row.instruction, "input": row.input, "output": row.output})
        lines[1].append({"id": str(i), "text": row.text})
        lines[2].append({"id": i, "kind": row.kind, "of": row.of})
    items = [{"question": q, "options": list(o)} for q, o in zip(index.questions, index.options, strict=True)]
    for name, values in zip((*names, "items.jsonl"), (*lines, items), strict=True):
        text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
        (folder / name).write_text(text, encoding="utf-8")


def real(folder: Path, rows: int, data: Path) -> tuple[str, ...]:
    """Write a corpus of real instruct and exam rows against CMMLU and C-Eval; return the benchmarks' names."""
    rng = random.Random(0)
    base = real_base(data)
    rng.shuffle(base)
    for name in ("cmmlu", "ceval"):
        shutil.copytree(data / name, folder / "data" / name, copy_function=shutil.copyfile)
    index = build_index(("cmmlu", "ceval"), folder / "data")
    write(folder, plant(base, index, rows, rng), index)
    return ("cmmlu", "ceval")


def generated(folder: Path, rows: int) -> tuple[str, ...]:
    """Write a corpus of generated rows (bench/scale.py's) against its benchmark; return the benchmark's name."""
    scale.write(folder, rows)
    base, seen = [], set()
    for file in sorted((folder / "data").glob("part-*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            value = json.loads(line)
            if value["output"][:40] not in seen:  # scale's own copies: here the truth is to hold all of them
                seen.add(value["output"][:40])
                base.append(Row(value["instruction"], value["input"], value["output"]))
        file.unlink()
    index = build_index(("bench",), folder / "data")
    write(folder, plant(base, index, rows, random.Random(0)), index)
    return ("bench",)
