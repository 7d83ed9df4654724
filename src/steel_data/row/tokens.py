"""Token counts: a real tokenizer where one is named, else a fixed estimate that says so.

The estimate adds up a weight for each character, by its class and the class of the character before it: a blank behind
a Latin letter closes a word, a Latin letter behind another continues it. The weights were fitted to the Qwen vocabulary
(docs/results/token-estimate.md has the command and the errors). They are frozen under the name `estimate-1`, so that
two mixtures counted with it can be compared; other weights need another name.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from steel_data.errors import InputError, first_line
from steel_data.row.text import TextBatch

ESTIMATE = "estimate-1"
# Hundredths of a token for a character of class (column) behind one of class (row), in the order of text.py: OTHER,
# SPACE, HAN, KANA, LETTER, LATIN, HANGUL, DIGIT, JOINER, BORDER (none), line break. Whole numbers add up alike on any
# machine.
WEIGHTS = (
    (19, 25, 163, 84, 104, 0, 98, 142, 65, 0, 0),
    (75, 16, 214, 92, 111, 0, 88, 176, 62, 0, 84),
    (64, 103, 50, 70, 63, 32, 87, 141, 111, 0, 51),
    (92, 20, 98, 54, 64, 16, 87, 130, 77, 0, 15),
    (195, 5, 66, 88, 45, 90, 87, 135, 77, 0, 26),
    (92, 79, 136, 87, 149, 9, 95, 157, 88, 0, 5),
    (103, 35, 61, 92, 64, 18, 81, 131, 77, 0, 26),
    (59, 12, 104, 93, 58, 71, 104, 100, 81, 0, 22),
    (76, 37, 86, 92, 64, 49, 86, 95, 66, 0, 19),
    (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    (138, 23, 183, 162, 69, 184, 87, 143, 78, 0, 0),
)  # fmt: skip
LINE_BREAK = 10

Counter = Callable[[list[str], TextBatch | None], npt.NDArray[np.int32]]  # the arrays where the caller has them


@dataclass(frozen=True)
class Tokenizer:
    """Which tokenizer counts: its name for people, its fingerprint for the cache, its file (None: the estimate)."""

    name: str
    sha256: str
    file: Path | None

    def describe(self) -> dict[str, str]:
        """Return what the manifest says."""
        return {"name": self.name, "sha256": self.sha256} if self.file else {"name": self.name}


def find_tokenizer(name: str | None, folder: Path) -> Tokenizer:
    """Return the tokenizer that a recipe names: a folder or tokenizer.json (relative to `folder`), or a hub id.

    Raises InputError where it cannot be had; it never falls back by itself, since the counts decide what a mixture is.
    """
    if name is None:
        return Tokenizer(ESTIMATE, "", None)
    for path in (Path(name), folder / name):
        file = path / "tokenizer.json" if path.is_dir() else path
        if file.is_file():
            return Tokenizer(path.name if path.name != "tokenizer.json" else path.parent.name, _sha256(file), file)
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise InputError(
            f"tokenizer '{name}': no tokenizer.json there (looked in {folder}). Fix: a folder, or a hub id."
        )
    try:
        from huggingface_hub import hf_hub_download

        file = Path(hf_hub_download(name, "tokenizer.json"))
    except Exception as error:
        reason = first_line(error)
        raise InputError(
            f"tokenizer '{name}' cannot be had from the hub ({reason[:120]}). Fix: a local folder with "
            "tokenizer.json, or HF_ENDPOINT set to a mirror, or no tokenizer (then lengths are estimates)."
        ) from None
    return Tokenizer(name, _sha256(file), file)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@lru_cache(maxsize=2)
def counter(tokenizer: Tokenizer) -> Counter:
    """Return a function from texts (and their TextBatch, or None) to token counts: no special tokens, no template."""
    if tokenizer.file is None:
        return estimate
    from tokenizers import Tokenizer as FastTokenizer

    fast = FastTokenizer.from_file(str(tokenizer.file))
    fast.no_truncation()
    fast.no_padding()

    def count(texts: list[str], batch: TextBatch | None = None) -> npt.NDArray[np.int32]:
        encodings = fast.encode_batch_fast(texts, add_special_tokens=False)
        return np.array([len(e.ids) for e in encodings], np.int32)

    return count


def estimate(texts: list[str], batch: TextBatch | None = None) -> npt.NDArray[np.int32]:
    """Return the estimated token count of each text (at least 1 for a text that is not empty).

    `batch` is the texts' where the caller has it.
    """
    batch = batch or TextBatch(texts)
    if not texts:
        return np.zeros(0, np.int32)
    weight_C = np.array(WEIGHTS, np.int64).ravel()[class_pairs(batch)]
    hundredths = np.add.reduceat(weight_C, batch.start_R)
    filled = np.array([bool(text) for text in texts])
    total: npt.NDArray[np.int32] = np.maximum((hundredths + 50) // 100, filled).astype(np.int32)
    return total


def class_pairs(batch: TextBatch) -> npt.NDArray[np.int64]:
    """Return for each character (C) the place in the flattened `WEIGHTS`; a text begins as if behind a line break.

    The mark between turns (benchmarks.index.TURN) is a line break, as in the text view.
    """
    class_C = batch.class_C.astype(np.int64)
    class_C[(batch.code_C == ord("\n")) | (batch.code_C == 0x1E)] = LINE_BREAK
    before_C = np.empty_like(class_C)
    before_C[1:] = class_C[:-1]
    before_C[batch.start_R] = LINE_BREAK
    return before_C * len(WEIGHTS) + class_C
