"""Measured scores that are kept on disk: no checkpoint is measured twice on the same items, whatever stops a study.

A file's name is the hash of all that its scores depend on (`key_of`). A checkpoint overwritten in place is new.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steel_data.builders.exam import load_wording
from steel_data.engine import Executor, Local, progress, tell
from steel_data.errors import InputError
from steel_data.files import address, kept, source_sha256
from steel_eval.leak.measure import IN_CONTEXT, MEASURES, Measured, Texts, measure
from steel_eval.leak.texts import WORDING
from steel_eval.models import (
    AS_SAVED,
    Opening,
    checkpoint_fingerprint,
    default_device,
    load,
    open_tokenizer,
)
from steel_eval.tokenizer import tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What turns an item into scores.
_CODE = (
    "steel_eval.leak.measure", "steel_eval.leak.passes", "steel_eval.leak.texts",
    "steel_eval.leak.detectors.permutation", "steel_eval.leak.detectors.frequency",
    "steel_eval.leak.detectors.completion", "steel_eval.leak.detectors.min_k", "steel_eval.leak.detectors.context",
    "steel_eval.score.likelihood", "steel_eval.ask.trie", "steel_train.models.weights",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class How:
    """How checkpoints are measured.

    `form` auto, chat, text or plain (see texts.py); `permute`: items a side whose options are permuted; `in_context`:
    other items that stand before each (CoDeC; 0: it is not measured); `device` None: a GPU where there is one; `dtype`
    and `opening` as in `score`. Of a study: `cache`: folder of kept scores, None: none are kept; `forests`: items, at
    most, on which the published rule of scenario b is tried; `executor`: where checkpoints are measured side by side.
    """

    form: str = "auto"
    permute: int = 300
    in_context: int = 0
    device: str | None = None
    dtype: str = "auto"
    cache: Path | None = None
    forests: int = 100
    executor: Executor = field(default_factory=Local)
    opening: Opening = AS_SAVED

    def __post_init__(self) -> None:
        """Raise InputError for a form that is not known: before a model is loaded."""
        if self.form not in ("auto", "chat", "text", "plain"):
            raise InputError(f"--form {self.form}: unknown. Fix: auto, chat, text or plain.")


def tokenizer_of(checkpoint: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a checkpoint or adapter."""
    return open_tokenizer(checkpoint)


def measured(checkpoint: Path, texts: Texts, how: How) -> Measured:
    """Return the scores of a checkpoint: those that are kept, else newly measured and then kept.

    Raises InputError where the checkpoint cannot be loaded or has another tokenizer than the texts.
    """

    def made() -> Measured:
        tell(f"measuring {checkpoint}: {len(texts.items):,} items, {len(texts.permuted):,} of them permuted")
        loaded = load(checkpoint, how.device or default_device(), how.dtype, how.opening)
        check_tokenizer(checkpoint, loaded.tokenizer, texts)
        with heard(loaded.model, checkpoint.name):
            return measure(loaded, texts)

    if how.cache is None:
        return made()
    return kept(how.cache / f"{key_of(checkpoint, texts, how)}.parquet", made, write=_write, read=_read)


@contextmanager
def heard(model: Any, name: str) -> Iterator[None]:
    """Show how many tokens a model has read; how many there will be, each measure alone knows."""
    with progress(name, None, "tokens") as advance:

        def count(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            ids = named.get("input_ids", given[0] if given else None)
            advance(0 if ids is None else ids.numel())

        hook = model.register_forward_pre_hook(count, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()


def check_tokenizer(checkpoint: Path, tokenizer: "PreTrainedTokenizerBase", texts: Texts) -> None:
    """Raise InputError where a checkpoint's tokenizer splits the questions in another way than the texts'."""
    sample = [item.question for item in texts.items[:20]]
    ours, theirs = (t(sample, add_special_tokens=False)["input_ids"] for t in (texts.tokenizer, tokenizer))
    if ours != theirs:
        raise InputError(
            f"{checkpoint}: another tokenizer than the model it is compared with. Fix: the base it was trained from."
        )


def key_of(checkpoint: Path, texts: Texts, how: How) -> str:
    """Return the hash of everything that a checkpoint's scores depend on."""
    return address({
        "weights": checkpoint_fingerprint(checkpoint), "tokenizer": tokenizer_fingerprint(texts.tokenizer),
        "form": texts.form, "wording": str(load_wording(WORDING)),
        "items": [[i.item, i.question, list(i.options), i.answer] for i in texts.items],
        "permuted": list(texts.permuted), "context": texts.context, "dtype": how.dtype, "opening": how.opening.said(),
        "device": (how.device or default_device()).partition(":")[0],  # on which `auto` and rounding depend
        "code": code_fingerprint(),
    })  # fmt: skip


@cache
def code_fingerprint() -> str:
    """Return a hash of the modules that turn an item into scores. ModuleNotFoundError where one is not there."""
    return source_sha256(*_CODE)


def _write(file: Path, found: Measured) -> None:
    columns = {
        **found.scores, "right": found.right_I, "tokens": found.tokens_I, "trie_tokens": found.trie_I,
        "context_tokens": np.full(len(found.tokens_I), found.context_tokens),
    }  # fmt: skip
    pl.DataFrame(columns).with_columns(pl.Series("orders", found.orders_IK)).write_parquet(file)


def _read(file: Path) -> Measured:
    frame = pl.read_parquet(file)
    return Measured(
        {m.name: frame[m.name].to_numpy() for m in (*MEASURES, *IN_CONTEXT) if m.name in frame.columns},
        frame["right"].to_numpy(), frame["tokens"].to_numpy(), frame["trie_tokens"].to_numpy(),
        np.stack([row.to_numpy() for row in frame["orders"]]), int(frame["context_tokens"].to_numpy().max(initial=0)),
    )  # fmt: skip
