"""Measured scores that are kept on disk: no checkpoint is measured twice on the same items, whatever stops a study.

A file's name is the hash of all that its scores depend on: weights, tokenizer, items, which of them are permuted, form,
number type and the code that measures. A checkpoint overwritten in place is therefore new.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
from numpy.typing import NDArray

from steel_data.benchmarks.items import Item
from steel_data.engine import tell
from steel_data.errors import InputError
from steel_data.files import atomic, source_sha256
from steel_eval.leak.detectors.permutation import has_free_order
from steel_eval.leak.measure import MEASURES, Measured, measure
from steel_eval.leak.texts import Form
from steel_eval.models import checkpoint_fingerprint, full_weights, load, load_tokenizer, tokenizer_fingerprint
from steel_eval.score.store import unit_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class How:
    """How checkpoints are measured.

    `form` auto, chat or plain (see texts.py); `permute`: items a dose whose options are permuted, and as many unseen
    ones; `device` None: a GPU where there is one; `dtype` as in `score`; `cache`: folder of kept scores, None: none
    are kept; `forests`: unseen items, and seen ones, on which the published rule of scenario b is tried; `cluster`
    (Q,): numbers of items that were drawn as one, by default those of equal question and options; `workers`:
    checkpoints measured side by side.
    """

    form: str = "auto"
    permute: int = 300
    device: str | None = None
    dtype: str = "auto"
    cache: Path | None = None
    forests: int = 100
    cluster: Ints | None = None
    workers: int = 1


@dataclass(frozen=True)
class Texts:
    """The items that all checkpoints are measured on, which are permuted, and the tokenizer that writes them."""

    items: Sequence[Item]
    permuted: Sequence[int]
    form: Form
    tokenizer: "PreTrainedTokenizerBase"


def choose_form(form: str, tokenizer: "PreTrainedTokenizerBase") -> Form:
    """Return the form that `auto` stands for: chat where there is a template. Raises InputError for another word."""
    if form not in ("auto", "chat", "plain"):
        raise InputError(f"--form {form}: unknown. Right: auto, chat or plain.")
    return "plain" if form == "plain" or (form == "auto" and not tokenizer.chat_template) else "chat"


def choose_permuted(items: Sequence[Item], dose_I: Ints, most: int) -> list[int]:
    """Return at most `most` items of each dose whose order is free, by a fixed draw. Every checkpoint gets the same."""
    free_I = np.array([has_free_order(item) for item in items], bool)
    generator = np.random.default_rng(0)
    sides = [np.flatnonzero(free_I & (dose_I == dose)) for dose in np.unique(dose_I)]
    return sorted(i for side in sides for i in generator.permutation(side)[:most].tolist())


def tokenizer_of(checkpoint: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a checkpoint or adapter."""
    return load_tokenizer(checkpoint, full_weights(checkpoint))


def measured(checkpoint: Path, texts: Texts, how: How) -> Measured:
    """Return the scores of a checkpoint: those that are kept, else newly measured and then kept.

    Raises InputError where the checkpoint cannot be loaded or has another tokenizer than the texts.
    """
    file = None
    if how.cache is not None:
        file = how.cache / f"{_key(checkpoint, texts, how)}.parquet"
        if file.is_file():
            return _read(file)
    from steel_eval.models import default_device

    tell(f"measuring {checkpoint}: {len(texts.items):,} items, {len(texts.permuted):,} of them permuted")
    loaded = load(checkpoint, how.device or default_device(), how.dtype)
    check_tokenizer(checkpoint, loaded.tokenizer, texts)
    found = measure(loaded, texts.items, texts.permuted, texts.form, texts.tokenizer)
    if file is not None:
        _write(file, texts, found)
    return found


def check_tokenizer(checkpoint: Path, tokenizer: "PreTrainedTokenizerBase", texts: Texts) -> None:
    """Raise InputError where a checkpoint's tokenizer splits the questions in another way than the texts'."""
    sample = [item.question for item in texts.items[:20]]
    ours, theirs = (t(sample, add_special_tokens=False)["input_ids"] for t in (texts.tokenizer, tokenizer))
    if ours != theirs:
        raise InputError(
            f"{checkpoint}: another tokenizer than the model it is compared with. Right: the base it was trained from."
        )


def _key(checkpoint: Path, texts: Texts, how: How) -> str:
    rows = [[i.item, i.question, list(i.options), i.answer] for i in texts.items]
    return unit_key(
        weights=checkpoint_fingerprint(checkpoint), tokenizer=tokenizer_fingerprint(texts.tokenizer), form=texts.form,
        items=hashlib.sha256(orjson.dumps(rows)).hexdigest(), permuted=orjson.dumps(list(texts.permuted)).decode(),
        dtype=how.dtype, code=_code(),
    )  # fmt: skip


@cache
def _code() -> str:
    """Return a hash of what turns an item into scores."""
    here = ("measure", "passes", "texts", "detectors.permutation", "detectors.completion", "detectors.min_k")
    names = [f"steel_eval.leak.{name}" for name in here]
    return source_sha256(*names, "steel_eval.score.likelihood", "steel_eval.ask.trie")


def _write(file: Path, texts: Texts, found: Measured) -> None:
    import polars as pl

    columns = {"item": [i.item for i in texts.items], **found.scores}
    columns |= {"tokens": found.tokens_I, "trie_tokens": found.trie_I}
    frame = pl.DataFrame(columns).with_columns(pl.Series("orders", found.orders_IK))
    with atomic(file) as path:
        frame.write_parquet(path)


def _read(file: Path) -> Measured:
    import polars as pl

    frame = pl.read_parquet(file)
    return Measured(
        {m.name: frame[m.name].to_numpy() for m in MEASURES}, frame["tokens"].to_numpy(),
        frame["trie_tokens"].to_numpy(), np.stack([row.to_numpy() for row in frame["orders"]]),
    )  # fmt: skip
