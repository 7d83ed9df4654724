"""One mixture row -> its examples: token ids, and which of them are learnt. Nothing is lost without a reason."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from steel_data.row.record import Message
from steel_train.examples.template import Piece, Template, TemplateError, pieces, whole
from steel_train.examples.tokenizer import end_tokens, renderer

NO_LABEL = "no label left within max_length"
TOO_LONG = "longer than max_length"
_ANSWERS_TRIED = 8
Overlong = Literal["cut", "drop", "split"]
Loss = Literal["assistant", "all"]


@dataclass(frozen=True)
class Learnt:
    """What of a row is learnt: what the assistant writes, or all of it. `of_source` says it for single sources.

    `documents`: rows are documents to pre-train on, whole whatever their length, an eos behind each.
    """

    loss: Loss = "assistant"
    of_source: Mapping[str, Loss] = field(default_factory=dict)
    documents: bool = False

    def of(self, source: str | None) -> Loss:
        """Return what is learnt of a row of this source."""
        return self.of_source.get(source or "", self.loss)

    def exceptions(self) -> dict[str, Loss]:
        """Return the sources of which something else is learnt than of the others."""
        return {source: loss for source, loss in sorted(self.of_source.items()) if loss != self.loss}


@dataclass(frozen=True)
class Example:
    """One sequence of T tokens to train on.

    `ids` (T,) int32 and `learnt` (T,) bool: whether a token's loss counts. `cut`: tokens beyond max_length. `turns`:
    learnt turns. `ends`: the tokens that end them, of those that a token ends within max_length. `aside`: turns that do
    not go on from the generation prompt.
    """

    ids: npt.NDArray[np.int32]
    learnt: npt.NDArray[np.bool_]
    cut: int = 0
    turns: int = 0
    ends: tuple[int, ...] = ()
    aside: int = 0


@dataclass(frozen=True)
class Encoded:
    """What became of a row: examples, or the reason why there is none.

    A preference row has two: chosen, rejected. So has a judged answer: the prompt with it, and the prompt with the
    answer of another row (which KTO asks for).
    """

    examples: tuple[Example, ...]
    reason: str | None = None


class Encoder:
    """Turns rows of a mixture into examples, with one tokenizer, one maximal length and one way with longer rows.

    `overlong`: "cut" at the end, "drop" the row, or "split" it into examples of max_length that overlap by the one
    token from which the next is predicted (a preference row is dropped: half an answer cannot be compared).
    """

    def __init__(
        self, tokenizer: Any, max_length: int, overlong: Overlong = "cut", learnt: Learnt | None = None
    ) -> None:
        self.tokenizer, self.max_length, self.overlong = tokenizer, max_length, overlong
        self.learnt = learnt or Learnt()
        self.template = Template(renderer(tokenizer), end_tokens(tokenizer))
        self.eos_id = tokenizer.eos_token_id
        # a tokenizer that begins every text with a token of its own begins a document with it
        first = tokenizer("a")["input_ids"][:1]
        self.begins = first[0] if first and first[0] == tokenizer.bos_token_id else None
        self.fast = tokenizer.backend_tokenizer

    def encode(self, rows: list[dict[str, Any]]) -> list[Encoded]:
        """Encode rows in order. One result a row."""
        made: list[list[Piece] | str] = [self._pieces(row, rows[i + 1 :] + rows[:i]) for i, row in enumerate(rows)]
        flat = [piece for found in made if not isinstance(found, str) for piece in found]
        encodings = iter(self._tokenize(flat))
        results = []
        for row, found in zip(rows, made, strict=True):
            if isinstance(found, str):
                results.append(Encoded((), found))
                continue
            whole = [self._whole(piece, next(encodings), row.get("kind") == "document") for piece in found]
            results.append(self._judged(*whole) if "completion" in row else self._fitted(whole, "chosen" in row))
        return results

    def _pieces(self, row: dict[str, Any], others: list[dict[str, Any]]) -> list[Piece] | str:
        """Return what a row renders to; `others`: the rows of its batch, the next one first."""
        try:
            if row.get("messages") is not None:
                messages, tools = _messages(row["messages"]), _loaded(row.get("tools"))
                all_of_it = self.learnt.documents or self.learnt.of(row.get("source")) == "all"
                if row.get("kind") == "document":
                    return [_plain(messages[0]["content"], all_of_it)]
                if all_of_it:
                    return [whole(messages, tools, self.template)]
                return pieces(messages, tools, self.template)
            if "completion" in row:
                return [self._answer(row, row["completion"]), self._other_answer(row, others)]
            return [self._answer(row, row[side]) for side in ("chosen", "rejected")]
        except TemplateError as fault:
            return str(fault)

    def _answer(self, row: dict[str, Any], answer: list[Message]) -> Piece:
        """Return the row's prompt with an answer. Raises TemplateError."""
        prompt = [{**m, "loss": False} for m in _messages(row["prompt"])]
        found = pieces([*prompt, *_messages(answer)], _loaded(row.get("tools")), self.template)
        if len(found) != 1:
            raise TemplateError("template: an answer of several turns that it renders apart")
        return found[0]

    def _other_answer(self, row: dict[str, Any], others: list[dict[str, Any]]) -> Piece:
        """Return the row's prompt with the next answer that is another one; with its own where there is none."""
        tried = 0
        for other in others:
            if other["completion"] == row["completion"]:
                continue
            try:
                return self._answer(row, other["completion"])
            except TemplateError:  # the other row's fault, or this prompt's, which its own answer has shown before
                tried += 1
                if tried == _ANSWERS_TRIED:
                    break
        return self._answer(row, row["completion"])

    def _tokenize(self, found: list[Piece]) -> list[Any]:
        ended = self.learnt.documents
        texts = [piece.text[: piece.spans[-1][1]] if ended or _is_open(piece) else piece.text for piece in found]
        encodings: list[Any] = self.fast.encode_batch(texts, add_special_tokens=False)
        return encodings

    def _whole(self, piece: Piece, encoding: Any, is_document: bool) -> "_Whole":
        ids = np.array(encoding.ids, np.int32)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        learnt, ends = np.zeros(len(ids), bool), []
        for (start, end), ended in zip(piece.spans, piece.ended, strict=True):
            # a token that only partly lies in a span holds text that the model has to write
            mine = (offsets[:, 0] < end) & (offsets[:, 1] > start)
            learnt |= mine
            places = np.flatnonzero(mine)
            ends.append(int(places[-1]) if ended and len(places) else -1)
        if _is_open(piece) and self.eos_id is not None:
            # the template ends no turn: an eos teaches at least where the conversation ends
            ids, learnt = np.append(ids, np.int32(self.eos_id)), np.append(learnt, True)
            ends[-1] = len(ids) - 1
        if piece.is_whole:
            learnt[:] = True
        if self.learnt.documents and self.eos_id is not None and ids[-1:] != [self.eos_id]:
            ids, learnt = np.append(ids, np.int32(self.eos_id)), np.append(learnt, True)  # the border of documents
        if is_document and self.begins is not None:
            ids, learnt = np.insert(ids, 0, np.int32(self.begins)), np.insert(learnt, 0, False)
            ends = [place + 1 if place >= 0 else place for place in ends]
        if len(learnt):
            learnt[0] = False  # nothing stands before the first token to predict it from
        return _Whole(ids, learnt, [place for place in ends if place >= 0], len(piece.turns), piece.aside)

    def _judged(self, matched: "_Whole", mismatched: "_Whole") -> Encoded:
        """Return a judged answer and its prompt with another's; the latter is cut however longer rows are treated."""
        own = self._fitted([matched, matched], preference=True)
        if own.reason is not None:
            return own
        other = mismatched.cut(self.max_length)
        return Encoded((own.examples[0], other)) if other.learnt.any() else Encoded((), NO_LABEL)

    def _fitted(self, found: list["_Whole"], preference: bool) -> Encoded:
        """Bring examples to max_length; leave out those without a label. A preference row needs both of its answers."""
        drops = self.overlong == "drop" or (self.overlong == "split" and preference)
        if drops and any(len(whole.ids) > self.max_length for whole in found):
            return Encoded((), TOO_LONG)
        if self.learnt.documents:
            made = [whole.cut(len(whole.ids)) for whole in found]
        elif self.overlong == "split":
            made = [part for whole in found for part in whole.split(self.max_length)]
        else:
            made = [whole.cut(self.max_length) for whole in found]
        kept = tuple(e for e in made if e.learnt.any())
        return Encoded((), NO_LABEL) if not kept or (preference and len(kept) < 2) else Encoded(kept)


@dataclass(frozen=True)
class _Whole:
    """An example of any length. `ends`: places of the tokens that end its learnt turns."""

    ids: npt.NDArray[np.int32]
    learnt: npt.NDArray[np.bool_]
    ends: list[int]
    turns: int
    aside: int

    def cut(self, length: int) -> Example:
        ends = tuple(int(self.ids[place]) for place in self.ends if place < length)
        cut = max(len(self.ids) - length, 0)
        return Example(self.ids[:length], self.learnt[:length], cut, self.turns, ends, self.aside)

    def split(self, length: int) -> Iterator[Example]:
        """Yield parts of at most `length` tokens; every learnt token is learnt in one of them."""
        if len(self.ids) <= length:
            yield self.cut(length)
            return
        for first in range(0, len(self.ids) - 1, length - 1):
            learnt = self.learnt[first : first + length].copy()
            learnt[0] = False  # learnt at the end of the part before
            inside = [place for place in self.ends if first < place < first + length]
            # a turn counts where it ends; what no token ends counts in the last part
            is_last = first + length >= len(self.ids)
            turns = len(inside) + (self.turns - len(self.ends) if is_last else 0)
            ends = tuple(int(self.ids[place]) for place in inside)
            yield Example(self.ids[first : first + length], learnt, 0, turns, ends, self.aside if is_last else 0)


def _is_open(piece: Piece) -> bool:
    return not piece.ended[-1] and not piece.text[piece.spans[-1][1] :].strip()


def _plain(text: str, is_learnt: bool) -> Piece:
    """Return a document as one piece. Raises TemplateError where only answers are learnt."""
    if not is_learnt:
        raise TemplateError('a document, of which loss = "all" or method = "pretrain" learns the text')
    return Piece(text, ((0, len(text)),), (0,), (False,), is_whole=True)


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
