"""Known test splits: by path, and by the hashes of their questions (no text is shipped)."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import regex
import xxhash

from steel_data.benchmarks.items import SPLITS, Item
from steel_data.row.text import normalise

FINGERPRINTS = Path(__file__).parents[1] / "resources" / "test_splits.npz"
_SIGNS = regex.compile(r"[\s\p{P}\p{S}]+")
_SHORTEST = 6  # characters of a question that can be told from everyday text

# The splits by which each benchmark is scored, so that training on them spoils the score. `validation` and `val` are
# one word here. Sources: the data sets' own pages; where only the validation split has public answers, that is the one
# that harnesses score (lm-eval: ceval-valid, hellaswag, winogrande, piqa, …).
KNOWN_TEST_SPLITS: dict[str, tuple[str, ...]] = {
    "agieval": ("test",),
    "arc": ("test",),
    "bbh": ("test",),
    "boolq": ("val", "test"),
    "c3": ("test",),
    "ceval": ("val", "test"),
    "cmmlu": ("test",),
    "commonsenseqa": ("val", "test"),
    "drop": ("val", "test"),
    "gaokaobench": ("test",),
    "gsm8k": ("test",),
    "hellaswag": ("val", "test"),
    "humaneval": ("test",),
    "ifeval": ("test", "train"),
    "logiqa": ("test",),
    "math": ("test",),
    "mbpp": ("test",),
    "mmlu": ("test",),
    "mmlupro": ("test",),
    "openbookqa": ("test",),
    "piqa": ("val", "test"),
    "race": ("test",),
    "triviaqa": ("val", "test"),
    "truthfulqa": ("val",),
    "winogrande": ("val", "test"),
}
_ALIASES = {
    "ai2arc": "arc",
    "arcchallenge": "arc",
    "arceasy": "arc",
    "cevalexam": "ceval",
    "csqa": "commonsenseqa",
    "hendryckstest": "mmlu",
    "mmmlu": "mmlu",
    "obqa": "openbookqa",
    "openaihumaneval": "humaneval",
}
# Everyday words: they name the data set only where they stand alone (`math/test.jsonl`, not
# `math_problems/test.jsonl`).
_EVERYDAY = {"arc", "c3", "drop", "math", "race"}


def known_test_split(path: str) -> str | None:
    """Return `cmmlu/test` where a path (or hub address) names a known test split, else None.

    The data set's name and, behind it or in the file's name, the split's must both stand there as words:
    `openbookqa/main/test-00000-of-00001.parquet`, `data/ceval_test.jsonl`; not `exam/my_test.jsonl`.
    """
    parts = [part.lower() for part in re.split(r"[/\\]+", path)]
    for i, part in enumerate(parts):
        name = re.sub(r"\.(jsonl|json|parquet|csv|tsv|txt|gz|zst)\b", "", part)
        words = re.split(r"[_.\-\s]+", name)
        dataset = _dataset_of(words)
        if dataset is None:
            continue
        behind = [w for p in parts[i + 1 :] for w in re.split(r"[_.\-\s]+", p)] + words
        for split in KNOWN_TEST_SPLITS[dataset]:
            if split in behind or (split == "val" and ("validation" in behind or "valid" in behind)):
                return f"{dataset}/{split}"
    return None


def _dataset_of(words: list[str]) -> str | None:
    """Return the data set that consecutive words of a path's part name: `ai2_arc`, `c-eval`, `ceval_test`."""
    for start in range(len(words)):
        for end in range(len(words), start, -1):
            joined = "".join(words[start:end])
            joined = _ALIASES.get(joined, joined)
            rest = {*words[:start], *words[end:]} - {*SPLITS, "validation", "valid"}
            if joined in KNOWN_TEST_SPLITS and not (joined in _EVERYDAY and rest):
                return joined
    return None


def names_test(path: str) -> bool:
    """Return whether the word `test` stands in a file's name (worth a warning, no more)."""
    return "test" in re.split(r"[^a-z]+", Path(path).name.lower())


@cache
def fingerprints() -> dict[str, npt.NDArray[np.uint64]]:
    """Return split name -> sorted question hashes, as shipped."""
    if not FINGERPRINTS.is_file():
        return {}
    with np.load(FINGERPRINTS, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@cache
def holders_of_hashes() -> dict[int | None, tuple[str, ...]]:
    """Return question hash -> the splits that have it."""
    holders: dict[int | None, tuple[str, ...]] = {}
    for name, keys in fingerprints().items():
        for key in keys.tolist():
            holders[key] = (*holders.get(key, ()), name)
    return holders


def question_hash(text: str) -> int | None:
    """Return the hash of a question without width, case, blanks and punctuation; None for one too short to tell."""
    plain = _SIGNS.sub("", normalise(text))
    return xxhash.xxh3_64_intdigest(plain.encode("utf-8", "surrogatepass")) if len(plain) >= _SHORTEST else None


def fingerprint(items: list[Item]) -> npt.NDArray[np.uint64]:
    """Return the sorted distinct question hashes of some items."""
    hashes = {h for item in items if (h := question_hash(item.question)) is not None}
    return np.array(sorted(hashes), np.uint64)
