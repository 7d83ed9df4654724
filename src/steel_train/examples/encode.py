"""One mixture row -> its examples: token ids, and which of them are learnt. Nothing is lost without a reason."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from steel_data.row.record import Message
from steel_train.examples.template import Piece, TemplateError, pieces
from steel_train.examples.tokenizer import end_tokens, renderer

NO_LABEL = "no label left within max_length"


@dataclass(frozen=True)
class Example:
    """One sequence of T tokens to train on.

    `ids` (T,) int32 and `learnt` (T,) bool: whether a token's loss counts. `cut`: tokens beyond max_length. `unended`:
    learnt turns that no end token follows.
    """

    ids: npt.NDArray[np.int32]
    learnt: npt.NDArray[np.bool_]
    cut: int = 0
    unended: int = 0


@dataclass(frozen=True)
class Encoded:
    """What became of a row: examples (two for a preference row: chosen, rejected), or the reason why there is none."""

    examples: tuple[Example, ...]
    reason: str | None = None


class Encoder:
    """Turns rows of a mixture into examples, with one tokenizer and one maximal length."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.max_length = max_length
        self.render = renderer(tokenizer)
        self.ends = end_tokens(tokenizer)
        self.eos_id = tokenizer.eos_token_id
        self.fast = tokenizer.backend_tokenizer

    def encode(self, rows: list[dict[str, Any]]) -> list[Encoded]:
        """Encode rows in order. One result a row."""
        made: list[list[Piece] | str] = [self._pieces(row) for row in rows]
        flat = [piece for found in made if not isinstance(found, str) for piece in found]
        examples = iter(self._tokenize(flat))
        results = []
        for row, found in zip(rows, made, strict=True):
            if isinstance(found, str):
                results.append(Encoded((), found))
                continue
            mine = tuple(next(examples) for _ in found)
            results.append(_checked(mine, preference=row.get("messages") is None))
        return results

    def _pieces(self, row: dict[str, Any]) -> list[Piece] | str:
        try:
            tools = _loaded(row.get("tools"))
            if row.get("messages") is not None:
                return pieces(_messages(row["messages"]), tools, self.render, self.ends)
            prompt = [{**m, "loss": False} for m in _messages(row["prompt"])]
            both = []
            for side in ("chosen", "rejected"):
                found = pieces([*prompt, *_messages(row[side])], tools, self.render, self.ends)
                if len(found) != 1:
                    return "template: an answer of several thinking turns"
                both += found
            return both
        except TemplateError as fault:
            return str(fault)

    def _tokenize(self, found: list[Piece]) -> list[Example]:
        open_ended = [piece.unended > 0 and not piece.text[piece.spans[-1][1] :].strip() for piece in found]
        texts = [
            piece.text[: piece.spans[-1][1]] if is_open else piece.text
            for piece, is_open in zip(found, open_ended, strict=True)
        ]
        encodings = self.fast.encode_batch(texts, add_special_tokens=False)
        return [self._example(*one) for one in zip(found, encodings, open_ended, strict=True)]

    def _example(self, piece: Piece, encoding: Any, is_open: bool) -> Example:
        ids = np.array(encoding.ids, np.int32)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        learnt = np.zeros(len(ids), bool)
        for start, end in piece.spans:
            # a token that only partly lies in a span holds text that the model has to write
            learnt |= (offsets[:, 0] < end) & (offsets[:, 1] > start)
        if is_open and self.eos_id is not None:
            # the template ends no turn: an eos teaches at least where the conversation ends
            ids, learnt = np.append(ids, np.int32(self.eos_id)), np.append(learnt, True)
        if len(learnt):
            learnt[0] = False  # nothing stands before the first token to predict it from
        cut = max(len(ids) - self.max_length, 0)
        return Example(ids[: self.max_length], learnt[: self.max_length], cut, piece.unended)


def _checked(examples: tuple[Example, ...], preference: bool) -> Encoded:
    """Leave out examples without a label; a preference row needs both of its answers."""
    kept = tuple(e for e in examples if e.learnt.any())
    if not kept or (preference and len(kept) < 2):
        return Encoded((), NO_LABEL)
    return Encoded(kept)


def _messages(messages: list[Message]) -> list[Message]:
    """Return messages as templates expect them: absent keys absent, tool calls as objects."""
    cleaned = []
    for message in messages:
        kept = {key: value for key, value in message.items() if value is not None}
        if "tool_calls" in kept:
            kept["tool_calls"] = _without_nulls(_loaded(kept["tool_calls"]))
        kept.setdefault("content", "")
        cleaned.append(kept)
    return cleaned


def _loaded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value else value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(_loaded_object(v)) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def _loaded_object(value: Any) -> Any:
    """Decode the arguments of a call that were stored as JSON text."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
