"""Token counts: a real tokenizer where one is named, else a fixed estimate that says so.

The estimate is a weighted count of character classes. Its weights were fitted by least squares to the Qwen2 vocabulary
(docs/results/curation.md has the command and the error); they are frozen under the name `estimate-1`, so that two mixtures
counted with it can be compared.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from steel_data.errors import InputError
from steel_data.text import DIGIT, HAN, HANGUL, KANA, LATIN, LETTER, OTHER, TextBatch

ESTIMATE = "estimate-1"
# Tokens a character of each class.
WEIGHTS = {HAN: 0.68, KANA: 0.75, HANGUL: 0.85, LATIN: 0.24, LETTER: 0.6, DIGIT: 1.0, OTHER: 0.62}

Counter = Callable[[list[str]], npt.NDArray[np.int32]]


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

    Raises InputError where it cannot be had; it never falls back by itself, since the counts decide what is in a mixture.
    """
    if name is None:
        return Tokenizer(ESTIMATE, "", None)
    for path in (Path(name), folder / name):
        file = path / "tokenizer.json" if path.is_dir() else path
        if file.is_file():
            return Tokenizer(path.name if path.name != "tokenizer.json" else path.parent.name, _sha256(file), file)
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise InputError(f"tokenizer '{name}': no tokenizer.json there (looked in {folder}). Right: a folder, or a hub id.")
    try:
        from huggingface_hub import hf_hub_download

        file = Path(hf_hub_download(name, "tokenizer.json"))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"tokenizer '{name}' cannot be had from the hub ({reason[:120]}). Right: a local folder with tokenizer.json, "
            "or HF_ENDPOINT set to a mirror, or no tokenizer (then lengths are estimates)."
        ) from None
    return Tokenizer(name, _sha256(file), file)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@lru_cache(maxsize=2)
def counter(tokenizer: Tokenizer) -> Counter:
    """Return a function from texts to token counts (no special tokens, no chat template)."""
    if tokenizer.file is None:
        return estimate
    from tokenizers import Tokenizer as FastTokenizer

    fast = FastTokenizer.from_file(str(tokenizer.file))
    fast.no_truncation()
    fast.no_padding()

    def count(texts: list[str]) -> npt.NDArray[np.int32]:
        encodings = fast.encode_batch_fast(texts, add_special_tokens=False)
        return np.array([len(e.ids) for e in encodings], np.int32)

    return count


def estimate(texts: list[str]) -> npt.NDArray[np.int32]:
    """Return the estimated token count of each text (at least 1 for a text that is not empty)."""
    batch = TextBatch(texts)
    total = sum(weight * batch.counts(kind) for kind, weight in WEIGHTS.items())
    filled = np.array([bool(text) for text in texts])
    return np.maximum(np.round(total), filled).astype(np.int32) if texts else np.zeros(0, np.int32)
