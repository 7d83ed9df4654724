"""Is the language filter as good as plain fastText, and how much faster?  `python bench/language.py [--data DIR]`

Table 1: keep-decisions on lid/lid_eval.tsv, for zh and en, at equal thresholds (mixed zh-en lines are shown apart: either answer is
defensible). Table 2: labels by kind of text. Table 3: agreement with plain fastText on real instruct rows of 30 characters or more.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

from curation_steps import SHARED, real_rows

from steel_data.benchmarks.index import TURN
from steel_data.filters.language import detect, fasttext_language

Found = list[tuple[str, float]]


def found_by_us(texts: list[str]) -> Found:
    labels, scores = detect(texts)
    return list(zip(labels, map(float, scores), strict=True))


def decisions(gold: list[str], ours: Found, plain: Found) -> None:
    print(
        f"{'keep':5s} {'threshold':>9s} {'':>6s} {'missed':>7s} {'wrongly kept':>13s} {'errors':>7s}   of {len(gold):,} lines"
    )
    for keep in ("zh", "en"):
        for threshold in (0.0, 0.2, 0.3, 0.5, 0.65):
            for name, found in (("steel", ours), ("plain", plain)):
                kept = [label == keep and score >= threshold for label, score in found]
                missed = sum(not k and g == keep for k, g in zip(kept, gold, strict=True))
                wrong = sum(k and g != keep for k, g in zip(kept, gold, strict=True))
                print(f"{keep:5s} {threshold:9.2f} {name:>6s} {missed:7,d} {wrong:13,d} {missed + wrong:7,d}")


def kinds(rows: list[list[str]], ours: Found, plain: Found) -> None:
    print(f"\n{'kind of text':32s} {'lines':>6s}  {'steel':44s} plain fastText")
    groups: dict[str, list[int]] = {}
    for i, (label, source, _) in enumerate(rows):
        if label in ("zh", "en", "ja", "ko", "yue", "mixed-zh-en"):
            groups.setdefault(label if label == "mixed-zh-en" else f"{label} {source.partition('/')[2]}", []).append(i)
    for name, group in sorted(groups.items()):
        shown = []
        for found in (ours, plain):
            top = Counter(found[i][0] for i in group).most_common(4)
            shown.append(", ".join(f"{label} {n / len(group):.1%}" for label, n in top))
        print(f"{name:32s} {len(group):6,d}  {shown[0]:44s} {shown[1]}")


def agreement(data: Path, show_all: bool) -> None:
    texts = [t for t in (row.replace(TURN, "\n") for row in real_rows(data)) if len(t) >= 30]
    detect(texts[:10])
    seconds = []
    results = []
    for tell in (found_by_us, lambda some: [fasttext_language(t) for t in some]):
        began = time.process_time()
        results.append(tell(texts))
        seconds.append(time.process_time() - began)
    pairs = list(zip(*results, strict=True))
    other = [
        (t, a, b) for t, (a, b) in zip(texts, pairs, strict=True) if (a[0] in ("zh", "en")) != (b[0] in ("zh", "en"))
    ]
    named = [(t, a, b) for t, (a, b) in zip(texts, pairs, strict=True) if a[0] != b[0]]
    print(f"\n{len(texts):,} instruct rows of 30 characters or more: {len(named) / len(texts):.3%} have another label,")
    print(
        f"of {len(other) / len(texts):.3%} the decision to keep zh and en differs. CPU-seconds {seconds[0]:.2f} against {seconds[1]:.2f}"
    )
    print(f"by pair: {Counter((a[0], b[0]) for _, a, b in other).most_common()}")
    for text, ours, plain in (
        sorted(other, key=lambda o: (o[1], o[2])) if show_all else named[:: max(1, len(named) // 8)]
    ):
        print(f"  steel {ours[0]} {ours[1]:.2f}, plain {plain[0]} {plain[1]:.2f}: {text[:90]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder of real data (lid/, instruct/)")
    parser.add_argument("--all", action="store_true", help="print every real row of which the decision differs")
    given = parser.parse_args()
    data = given.data
    file = data / "lid" / "lid_eval.tsv"
    if not file.is_file():
        print(f"skipped: needs {file}")
        return
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    texts = [row[2] for row in rows]
    ours, plain = found_by_us(texts), [fasttext_language(t) for t in texts]
    sure = [i for i, row in enumerate(rows) if row[0] != "mixed-zh-en"]
    decisions([rows[i][0] for i in sure], [ours[i] for i in sure], [plain[i] for i in sure])
    kinds(rows, ours, plain)
    agreement(data, given.all)


if __name__ == "__main__":
    main()
