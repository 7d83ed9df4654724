"""What does decontamination find, and what does it flag wrongly?  `python bench/decontaminate.py [--data DIR]`

Table 1: items of CMMLU and C-Eval injected in many forms, recall by form. Table 2: copies of Chinese and English items with
some of their characters edited, by rate; with --english FILE… those files' items too (AGIEval's, say), and the speed on rows with their
passages. Table 3: real pairs of questions from independent exams (overlap/real_overlaps.jsonl): the other exam's row against our
items. Then every row of the instruct, ruozhiba, self_cognition and dpo files that is flagged, and of the exam files, item beside row,
to be judged by eye. Without the real data, table 1 runs on the generated sample.
"""

import argparse
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from curation_steps import SHARED

from steel_data.benchmarks.index import TURN, Index, build_index, index_of
from steel_data.benchmarks.items import Item
from steel_data.filters.overlap import ALONE, overlap
from steel_data.row.text import normalise
from steel_data.sample.write import write_sample

THRESHOLD = 0.7
Form = Callable[[str, Sequence[str], random.Random], str]
FULL = {ord(a): ord(b) for a, b in zip(",;:?!()", "，；：？！（）", strict=True)}
FULL |= {c: c + 0xFEE0 for c in (*range(0x30, 0x3A), *range(0x41, 0x5B), *range(0x61, 0x7B))}
HALF = {ord(b): ord(a) for a, b in zip(",.;:?!()", "，。；：？！（）", strict=True)}
SWAPS = (
    ("下列", "以下"), ("正确", "对"), ("错误", "不对"), ("属于", "算是"), ("主要", "最重要"), ("称为", "叫做"), ("关于", "有关"),
    ("认为", "觉得"), ("根据", "依据"), ("应该", "应当"), ("可以", "能够"), ("因为", "由于"), ("是", "为"), ("的", "之"), ("和", "与"),
)  # fmt: skip


def asked(question: str, options: Sequence[str], labels: Sequence[str] = ("A. ", "B. ", "C. ", "D. ")) -> str:
    return "\n".join([question, *(a + o for a, o in zip(labels, options, strict=False))])


def shuffled(options: Sequence[str], rng: random.Random) -> list[str]:
    return rng.sample(list(options), len(options))


def noisy(text: str, share: float, rng: random.Random) -> str:
    """Substitute, delete or insert single characters."""
    out = []
    for char in text:
        if rng.random() >= share or char.isspace():
            out.append(char)
            continue
        other = rng.choice("的一是在不了有和人这") if ord(char) > 0x2E80 else rng.choice("aeinorst")
        out.append(rng.choice([other, "", char + other]))
    return "".join(out)


def spaced(text: str) -> str:
    return "".join(f" {char} " if ord(char) > 0x3400 else char for char in text)


def noise(share: float) -> Form:
    return lambda q, o, rng: asked(noisy(q, share, rng), [noisy(x, share, rng) for x in o])


def swapped(text: str) -> str:
    for a, b in SWAPS:
        text = text.replace(a, b)
    return text


FORMS: dict[str, Form] = {
    "verbatim": lambda q, o, rng: asked(q, o),
    "question only": lambda q, o, rng: q,
    "options in one line": lambda q, o, rng: asked(q, o).replace("\n", " "),
    "options in another order": lambda q, o, rng: asked(q, shuffled(o, rng)),
    "other labels": lambda q, o, rng: asked(q, o, ("(1) ", "(2) ", "(3) ", "(4) ")),
    "labels ①②③④": lambda q, o, rng: asked(q, o, ("①", "②", "③", "④")),
    "no labels": lambda q, o, rng: asked(q, o, ("", "", "", "")),
    "full width": lambda q, o, rng: asked(q, o).translate(FULL),
    "half width": lambda q, o, rng: asked(q, o).translate(HALF),
    "blanks between Han characters": lambda q, o, rng: spaced(asked(q, o)),
    "no punctuation": lambda q, o, rng: asked(q, o).translate(dict.fromkeys(map(ord, "，。、；：？（）“”"))),
    "2 % of characters": noise(0.02),
    "5 % of characters": noise(0.05),
    "10 % of characters": noise(0.10),
    "2 %, another order, other labels": lambda q, o, rng: asked(
        noisy(q, 0.02, rng), [noisy(x, 0.02, rng) for x in shuffled(o, rng)], ("1、", "2、", "3、", "4、")
    ),
    "exam row with explanation": lambda q, o, rng: f"以下是一道单选题:\n{asked(q, o)}\n请给出答案。\n{TURN}A。{o[0]}，故选A。",
    "in the middle of a conversation": lambda q, o, rng: f"你好{TURN}你好，有什么可以帮你？{TURN}请看这道题：{asked(q, o)}\n怎么做？",
    "words swapped (table)": lambda q, o, rng: asked(swapped(q), [swapped(x) for x in o]),
    "one option replaced": lambda q, o, rng: asked(q, [*o[:-1], "以上都不是这里要问的内容"]),
    "same stem, other options": lambda q, o, rng: asked(q, [f"另外的选项{c}与题无关" for c in "甲乙丙丁"]),
}  # fmt: skip


def injected(index: Index, items: list[int]) -> None:
    """Print recall by form, apart for questions of ALONE tokens or more and shorter ones."""
    key = ["".join([q, *sorted(o)]) for q, o in zip(index.questions, index.options, strict=True)]
    place = {name: i for i, name in enumerate(index.names)}
    long = np.array([index.length_I[i] >= ALONE and not index.shared_I[i] for i in items])
    print(
        f"\n{'form':34s} {'items':>6s} {'found':>8s} {'20+ tokens':>10s} {'shorter':>8s} {'right item':>11s} {'rows/CPU-s':>11s}"
    )
    for name, form in FORMS.items():
        rng = random.Random(name)
        rows = [form(index.questions[i], index.options[i], rng) for i in items]
        began = time.process_time()
        found = overlap(rows, index)
        seconds = time.process_time() - began
        hit = np.asarray(found["overlap_score"]) >= THRESHOLD
        right = [h and key[place[n]] == key[i] for h, n, i in zip(hit, found["overlap_item"], items, strict=True)]
        share = [f"{x.mean():.2%}" if len(x) else "-" for x in (hit, hit[long], hit[~long])]
        print(
            f"{name:34s} {len(items):6d} {share[0]:>8s} {share[1]:>10s} {share[2]:>8s} {np.mean(right):11.2%} "
            f"{len(items) / seconds:11,.0f}"
        )


@lru_cache(maxsize=1 << 17)
def letters(text: str) -> str:
    """Return a text without blanks, mark-up and punctuation; one of signs only keeps its signs."""
    text = "".join(normalise(text).split())
    return "".join(filter(str.isalnum, text)) or text


def shared_options(mine: Sequence[str], other: Sequence[str]) -> int:
    """Return how many options of `mine` have a partner in `other`: nine tenths of the letters alike, in their order."""
    rest, shared = [letters(o) for o in other], 0
    for option in map(letters, mine):
        best = max(rest, key=lambda o: SequenceMatcher(None, option, o, autojunk=False).ratio(), default=None)
        if best is not None and SequenceMatcher(None, option, best, autojunk=False).ratio() >= 0.9:
            rest.remove(best)
            shared += 1
    return shared


def told_by_letters(index: Index, pair: dict[str, Any]) -> str:
    """Return a pair's kind by a rule that does not know the detector.

    Of all items of the benchmark with this question: the most options that are shared up to signs and a tenth of
    the letters. The labels of the file compare one item only, character by character.
    """
    asked_for = letters(pair["other_question"])
    shared = [
        shared_options(options, pair["other_options"])
        for question, options in zip(index.questions, index.options, strict=True)
        if letters(question) == asked_for
    ]
    most, many = max(shared, default=pair["shared_options"]), len(pair["options"])
    return "same_item" if most == many else "near" if most >= 2 else "same_stem_only"


def real_pairs(index: Index, file: Path) -> None:
    """Print which rows of other exams are flagged, by kind: the file's label, and what letters alone tell."""
    pairs = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [asked(p["other_question"], p["other_options"]) + f"{TURN}答案是{p['other_answer'] or 'A'}。" for p in pairs]
    found = overlap(rows, index)
    hit = np.asarray(found["overlap_score"]) >= THRESHOLD
    total, flagged = Counter(p["kind"] for p in pairs), Counter(p["kind"] for p, h in zip(pairs, hit, strict=True) if h)
    print(f"\n{'kind':16s} {'rows':>5s} {'flagged':>8s}")
    for kind, n in sorted(total.items()):
        print(f"{kind:16s} {n:5d} {flagged[kind] / n:8.1%}")
    told = [told_by_letters(index, pair) for pair in pairs]
    print(f"\n{'label -> by letters':34s} {'rows':>5s} {'flagged':>8s}")
    for label, kind in sorted({(p["kind"], t) for p, t in zip(pairs, told, strict=True)}):
        mine = [h for p, t, h in zip(pairs, told, hit, strict=True) if (p["kind"], t) == (label, kind)]
        print(f"{label + ' -> ' + kind:34s} {len(mine):5d} {sum(mine):8d}")
    for pair, name, h in zip(pairs, found["overlap_item"], hit, strict=True):
        if h != (pair["kind"] != "same_stem_only") and pair["kind"] != "near":
            shown = " | ".join([pair["other_question"][-30:], *pair["other_options"]]).replace("\n", " ")
            ours = "" if name is None else index.texts[index.names.index(name)].replace("\n", " | ")[-110:]
            print(f"  {'flagged' if h else 'missed'} {pair['kind']}: …{shown[:140]}\n      ours {name}: …{ours}")


def english(data: Path) -> Index:
    """Return English items: the questions of GSM8K, and each with the first steps of four solutions as options."""
    lines = (data / "instruct" / "en_gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    steps = [re.sub("<<.*?>>", "", row["answer"].split("\n")[0]) for row in rows]
    asked = [(row["question"], ()) for row in rows[::2]]
    asked += [(row["question"], tuple(steps[(i + k) % len(rows)] for k in range(4))) for i, row in enumerate(rows)][
        1::2
    ]
    items = [Item(f"test/en/{i:05d}", "en", "test", i, q, o, "", "", data) for i, (q, o) in enumerate(asked)]
    return index_of([f"en/{item.item}" for item in items], items)


def edited(language: str, index: Index, count: int) -> None:
    """Print how many copies are found whose characters were edited: as a turn, in a chat, the question only."""
    items = sorted(random.Random(0).sample(range(len(index.names)), min(count, len(index.names))))
    print(f"\n{language}: edited {'as a turn':>12s} {'in a chat':>10s} {'question only':>14s}   ({len(items)} items)")
    for share in (0, 0.01, 0.02, 0.05, 0.1):
        found = []
        for form in ("turn", "chat", "question"):
            rng = random.Random(f"{form} {share}")
            rows = []
            for i in items:
                row = noise(share)(index.questions[i], index.options[i], rng)
                if form == "chat":
                    row = f"你好{TURN}请看这道题：{row}\n怎么做？我一直不明白，请一步一步地讲给我听。"
                rows.append(row if form != "question" else noisy(index.questions[i], share, rng))
            found.append(np.mean(np.asarray(overlap(rows, index)["overlap_score"]) >= THRESHOLD))
        print(f"{share:17.0%} {found[0]:12.2%} {found[1]:10.2%} {found[2]:14.2%}")


def with_passages(index: Index, count: int) -> None:
    """Print how rows with long passages fare: how many are flagged, with the item's own question, and rows a CPU-second."""
    rng = random.Random(0)
    items = [i for i in range(len(index.names)) if index.passage_I[i]]
    items = rng.sample(items, min(count, len(items)))
    parts = [(index.questions[i][: index.passage_I[i]], index.questions[i], index.options[i]) for i in items]
    labels = [f"{x}. " for x in "ABCDE"]
    forms = {
        "with options": [asked(question, options, labels) for _, question, options in parts],
        "question only": [question for _, question, _ in parts],
        "passage only": [passage for passage, _, _ in parts],
        "half of the passage": [passage[: len(passage) // 2] for passage, _, _ in parts],
        "asked something else": [
            f"{passage}\nRetell this for a child.{TURN}Once there was." for passage, _, _ in parts
        ],
    }
    for share in (0.02, 0.05, 0.1):
        forms[f"{share:.0%} edited"] = [
            asked(noisy(question, share, rng), [noisy(x, share, rng) for x in options], labels)
            for _, question, options in parts
        ]
    print(f"\n{'with a passage':22s} {'flagged':>8s} {'right item':>11s} {'rows/CPU-s':>11s}   ({len(items)} items)")
    for form, rows in forms.items():
        overlap(rows, index)  # the items' letters are remembered
        began = time.process_time()
        found = overlap(rows, index)
        seconds = time.process_time() - began
        hit = np.asarray(found["overlap_score"]) >= THRESHOLD
        own = [h and index.questions[index.names.index(name)] == question
               for h, name, (_, question, _) in zip(hit, found["overlap_item"], parts, strict=True)]  # fmt: skip
        print(f"{form:22s} {hit.mean():8.1%} {np.mean(own):11.1%} {len(rows) / seconds:11,.0f}")


def rows_of(data: Path, folders: Sequence[str]) -> list[tuple[str, str]]:
    """Return (place, text) of all rows of some folders, whatever their layout."""
    found = []
    for file in sorted(file for folder in folders for file in (data / folder).iterdir()):
        text = file.read_text(encoding="utf-8")
        try:
            values = json.loads(text)
        except json.JSONDecodeError:
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
        for i, value in enumerate(values):
            turns = [turn["value"] for turn in value.get("conversations") or []]
            if "q_main" in value:
                options = [value[f"option_{x}"] for x in "abcde" if value.get(f"option_{x}")]
                turns += [
                    asked(value["q_main"], options, ("A. ", "B. ", "C. ", "D. ", "E. ")),
                    str(value["answer_detail"]),
                ]
            turns.append(
                "\n".join(str(value[k]) for k in ("instruction", "question", "prompt", "input") if value.get(k))
            )
            answers = [value.get(k) for k in ("output", "response", "answer", "choice0", "chosen", "rejected")]
            turns += [a["value"] if isinstance(a, dict) else str(a) for a in answers if a and "q_main" not in value]
            found.append((f"{file.name} {i}", TURN.join(turn for turn in turns if turn)))
    return found


def flagged(title: str, index: Index, rows: list[tuple[str, str]]) -> None:
    """Print the rows that are flagged, each beside its item."""
    texts = dict(zip(index.names, index.texts, strict=True))
    lines = []
    for start in range(0, len(rows), 4000):
        part = rows[start : start + 4000]
        found = overlap([text for _, text in part], index)
        for (place, text), score, name in zip(part, found["overlap_score"], found["overlap_item"], strict=True):
            if score >= THRESHOLD:
                lines.append(f"  {score:.2f} {name}: {texts[name][:300]!r}\n       {place}: {text[:300]!r}")
    print(
        f"\n{title}: {len(lines)} of {len(rows):,} rows flagged ({len(lines) / max(len(rows), 1):.4%})",
        *lines,
        sep="\n",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=SHARED, help="the folder of real data (cmmlu/, ceval/, overlap/, instruct/)"
    )
    parser.add_argument("--benchmarks", type=Path, help="another folder of cmmlu/ and ceval/ (all subjects, say)")
    parser.add_argument("--items", type=int, default=4000, help="items injected in each form")
    parser.add_argument("--english", type=Path, nargs="*", default=[], help="files of English items (AGIEval's, say)")
    options = parser.parse_args()
    real = (options.data / "cmmlu").is_dir()
    with tempfile.TemporaryDirectory() as folder:
        root = options.data if real else Path(folder)
        if not real:
            print(f"no real data in {options.data}: the generated sample instead")
            write_sample(root)
        index = build_index(("cmmlu", "ceval"), options.benchmarks or root)
    items = sorted(random.Random(0).sample(range(len(index.names)), min(options.items, len(index.names))))
    print(f"{len(index.names):,} items indexed, {index.unmatchable} without a token; threshold {THRESHOLD}")
    injected(index, items)
    if real:
        real_pairs(index, options.data / "overlap" / "real_overlaps.jsonl")
        edited("Chinese", index, options.items)
        edited("English", english(options.data), options.items)
        for file in options.english:
            items_of_file = build_index((file.name,), file.parent)
            edited(file.stem, items_of_file, options.items)
            with_passages(items_of_file, options.items)
        flagged("ordinary", index, rows_of(options.data, ("instruct", "ruozhiba", "self_cognition", "dpo")))
        flagged("exam", index, rows_of(options.data, ("exam",)))


if __name__ == "__main__":
    main()
