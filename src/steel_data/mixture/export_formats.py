"""One mixture row -> one row of another tool's format, or the reason why that format cannot hold it.

What a format has no place for is either written in a customary way and *noted* (reasoning becomes `<think>…</think>` at
the head of the answer, as Qwen3, DeepSeek-R1 and LLaMA-Factory's templates expect), or the row is *unheld*: it would
say something else there. Sources: LLaMA-Factory 0.9.5 data/README.md, data/converter.py and data/formatter.py;
FastChat's ShareGPT files; Stanford Alpaca with LLaMA-Factory's `system` and `history`; TRL's dataset formats.
"""

from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa

Row = dict[str, Any]
Message = dict[str, Any]
Convert = Callable[[Row, set[str]], Row]

THINK = "reasoning written as <think>…</think> before the answer"
LOSS = "loss flags that say what is trained on anyway left off"
_FROM = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


class UnheldError(Exception):
    """A row that a format cannot hold. The text is the reason, which is counted."""


def messages(row: Row, notes: set[str]) -> Row:
    """Return a row as TRL and OpenAI take it: `messages`, or `prompt`, `chosen`, `rejected`; `tools` as JSON text.

    Everything is held: reasoning_content, tool_calls and loss stay keys of their messages.
    """
    out: Row = {"id": row["id"]}
    for column in ("messages", "prompt", "chosen", "rejected"):
        if row.get(column) is not None:
            out[column] = [_without_nulls(message) for message in row[column]]
    if row.get("tools"):
        out["tools"] = row["tools"]
    return out


def _without_nulls(message: Message) -> Message:
    kept = {key: value for key, value in message.items() if value is not None}
    if kept.get("tool_calls"):
        kept["tool_calls"] = [{k: v for k, v in call.items() if v is not None} for call in kept["tool_calls"]]
    return kept


def sharegpt(row: Row, notes: set[str]) -> Row:
    """Return a row as ShareGPT: `conversations` of from / value (system, human, gpt, function_call, observation).

    A preference row has the prompt in `conversations`, one turn each in `chosen` and `rejected`. Unheld: text or
    reasoning beside a tool call, answers of several turns in a preference row, loss flags that are not the default.
    """
    return _sharegpt(row, notes, False)


def llamafactory(row: Row, notes: set[str]) -> Row:
    """Return a row as LLaMA-Factory's `sharegpt` formatting takes it without skipping it.

    As `sharegpt`, and besides: human (or observation) and gpt (or function_call) must take turns, since LLaMA-Factory
    skips what does not; reasoning beside a tool call is held, as its FunctionFormatter reads it.
    """
    out = _sharegpt(row, notes, True)
    turns = [turn["from"] for turn in out["conversations"]]
    turns = turns[1:] if turns[:1] == ["system"] else turns
    if any(turn not in (("human", "observation"), ("gpt", "function_call"))[i % 2] for i, turn in enumerate(turns)):
        raise UnheldError("turn-order: LLaMA-Factory skips it (two results of tools, or a user after one)")
    return out


def _sharegpt(row: Row, notes: set[str], thinks_before_calls: bool) -> Row:
    out: Row = {"id": row["id"]}
    opening = row["messages"] if row.get("messages") is not None else row["prompt"]
    out["conversations"] = [_turn(message, notes, thinks_before_calls) for message in opening]
    if row.get("messages") is None:
        for column in ("chosen", "rejected"):
            out[column] = _turn(_only(row[column]), notes, thinks_before_calls)
    if "tools" in row:  # of one type in all rows: a loader takes the columns of the first ones
        out["tools"] = row["tools"] or ""
    return out


def _only(answer: list[Message]) -> Message:
    if len(answer) != 1:
        raise UnheldError("answer-of-several-turns: a preference row has one turn each here")
    return answer[0]


def _turn(message: Message, notes: set[str], thinks_before_calls: bool) -> Row:
    _check_loss(message, notes)
    if not message.get("tool_calls"):
        return {"from": _FROM[message["role"]], "value": _text(message, notes)}
    if message["content"]:
        raise UnheldError("text-beside-call: a function_call turn holds calls only")
    if message.get("reasoning_content") and not thinks_before_calls:
        raise UnheldError("reasoning-beside-call: a function_call turn holds calls only")
    calls = [_call(call) for call in message["tool_calls"]]
    value = orjson.dumps(calls[0] if len(calls) == 1 else calls).decode()
    return {"from": "function_call", "value": _text({**message, "content": value}, notes)}


def _call(call: Row) -> Row:
    function = call["function"]
    try:
        made: Row = {"name": function["name"], "arguments": orjson.loads(function["arguments"])}
    except (orjson.JSONDecodeError, TypeError):
        raise UnheldError("call-arguments: not JSON") from None
    if call.get("id") is not None:
        made["id"] = call["id"]
    return made


def _text(message: Message, notes: set[str]) -> str:
    if not message.get("reasoning_content"):
        return str(message["content"])
    notes.add(THINK)
    return f"<think>\n{message['reasoning_content']}\n</think>\n\n{message['content']}"


def _check_loss(message: Message, notes: set[str]) -> None:
    """Refuse a turn whose loss flag is not what trainers do anyway: here it would be trained on, or would not be."""
    if message.get("loss") is None:
        return
    if message["loss"] != (message["role"] == "assistant"):
        raise UnheldError("loss: no place to say which turns are trained on")
    notes.add(LOSS)


def alpaca(row: Row, notes: set[str]) -> Row:
    """Return a row as Alpaca: `instruction`, `input` (empty), `output`; `system`, `history` and `tools` where it has
    them.

    A preference row has `chosen` and `rejected` (text) instead of `output`. Unheld: tool calls and results, an empty
    system turn, what `sharegpt` does not hold.
    """
    turns = row["messages"] if row.get("messages") is not None else row["prompt"]
    answers = [] if row.get("messages") is not None else [_only(row["chosen"]), _only(row["rejected"])]
    for message in [*turns, *answers]:
        _check_loss(message, notes)
        if message["role"] == "tool" or message.get("tool_calls"):
            raise UnheldError("tool-calls: Alpaca has no turns for them")
    system = ""
    if turns[0]["role"] == "system":
        system, turns = turns[0]["content"], turns[1:]
        if not system:
            raise UnheldError("empty-system: an empty `system` means none here")
    texts = [_text(message, notes) for message in turns]
    asked = texts if answers else texts[:-1]
    history = [list(pair) for pair in zip(asked[:-1:2], asked[1:-1:2], strict=True)]
    out: Row = {"id": row["id"], "instruction": asked[-1], "input": ""}
    if answers:
        out |= {"chosen": _text(answers[0], notes), "rejected": _text(answers[1], notes)}
    else:
        out["output"] = texts[-1]
    out |= {"system": system, "history": history}
    if "tools" in row:
        out["tools"] = row["tools"] or ""
    return out


FORMATS: dict[str, Convert] = {
    "llamafactory": llamafactory, "sharegpt": sharegpt, "alpaca": alpaca, "messages": messages,
}  # fmt: skip


def shows(row: Row) -> set[str]:
    """Return the keys of a written row and its messages that hold anything: a loader learns its columns from them."""
    keys = {key for key, value in row.items() if value}
    turns = [turn for value in row.values() if isinstance(value, list) for turn in value if isinstance(turn, dict)]
    return keys.union(*turns)


def may_show(to: str, schema: pa.Schema) -> set[str]:
    """Return the keys that only some rows of this format have, or hold anything in, for a mixture of this schema."""
    if to == "alpaca":
        return {"history"}
    if to != "messages":
        return set()
    turn = schema.field("messages" if "messages" in schema.names else "chosen").type.value_type
    extras = {turn.field(i).name for i in range(turn.num_fields)} - {"role", "content"}
    return extras | ({"tools"} & set(schema.names))
