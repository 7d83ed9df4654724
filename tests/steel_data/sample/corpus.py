"""Readers of a generated corpus that its tests share."""

import csv
from collections import Counter

import numpy as np


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def benchmark(folder, name):
    """(split, subject, row) -> the row of cmmlu or ceval."""
    return {
        (path.parent.name, path.stem.removesuffix(f"_{path.parent.name}"), number): row
        for path in sorted((folder / name).glob("*/*.csv"))
        for number, row in enumerate(table(path))
    }


def text(row):
    return "\n".join(turn["value"] for turn in row["conversations"])


def grams(said):
    return {said[i : i + 5] for i in range(max(1, len(said) - 4))}


def jaccard(a, b):
    return len(a & b) / len(a | b)


def alike_pairs(texts, limit=0.6):
    """Brute force: the number of pairs of texts whose character 5-grams are alike."""
    found = [grams(one) for one in texts]
    held = Counter(gram for one in found for gram in one)
    place = {gram: i for i, gram in enumerate(gram for gram, count in held.items() if count > 1)}
    has = np.zeros((len(found), len(place)), np.float32)
    for row, one in enumerate(found):
        has[row, [place[gram] for gram in one if gram in place]] = 1
    size, common = np.array([len(one) for one in found]), has @ has.T
    return int(np.triu(common >= limit * (size[:, None] + size - common), 1).sum())
