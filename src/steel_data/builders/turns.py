"""Turns of any published form as messages: roles, text, reasoning, tool calls."""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from steel_data.errors import excerpt
from steel_data.row.record import Message


class UnusableError(Exception):
    """A row that cannot become a record. The text is the reason; what stands before `: ` is counted."""


# ShareGPT, OpenAI and LLaMA-Factory words -> ours. A `call` turn is an assistant's whose text is the tool call.
ROLES: dict[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "call",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}


def decoded(value: Any) -> Any:
    """Return `value`, parsed where it is a JSON list in a string, as tables without nested types hold it."""
    if type(value) is str and value.lstrip()[:1] == "[":
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def text_of(value: Any) -> str:
    """Return the text of a cell or a message's content, untouched.

    None and NaN are empty, a number is its digits, a list of text parts is joined; a part that is no text is `media`.
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value) if math.isfinite(value) else ""
        case list():
            return "".join(_part(part) for part in value)
        case _:
            raise UnusableError(f"content: an object where text belongs; {excerpt(str(value), 40)}")


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise UnusableError(f"media: a part of type {excerpt(str(kind), 30)}")


def _compact(arguments: Any) -> str:
    """Return the arguments of a call as compact JSON text. Text that is no JSON cannot be called, nor be trained on."""
    if arguments is None or arguments == "":
        return "{}"
    try:
        return orjson.dumps(orjson.loads(arguments) if isinstance(arguments, str) else arguments).decode()
    except (orjson.JSONDecodeError, TypeError):
        raise UnusableError(f"tools: arguments that are not JSON; {excerpt(str(arguments), 40)}") from None


def tool_calls_of(value: Any) -> list[dict[str, Any]]:
    """Return tool calls in one form: `{"type": "function", "function": {"name": …, "arguments": "<compact JSON>"}}`.

    Takes that form, the bare `{"name": …, "arguments": …}` of ShareGPT, one or several, also as JSON text. An `id`
    is kept.
    """
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise UnusableError(f"tools: a call that is not JSON; {excerpt(value, 40)}") from None
    calls = []
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UnusableError(f"tools: a call without a name; {excerpt(str(call), 40)}")
        made: dict[str, Any] = {
            "type": "function",
            "function": {"name": function["name"], "arguments": _compact(function.get("arguments"))},
        }
        if call.get("id") is not None:
            made["id"] = call["id"]
        calls.append(made)
    return calls


def tools_of(value: Any) -> list[dict[str, Any]] | None:
    """Return the tools a row offers as a list of `{"type": "function", "function": {…}}`, None where there are none.

    Takes a list or its JSON text; LLaMA-Factory's bare functions are wrapped.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise UnusableError(f"tools: not JSON; {excerpt(value, 40)}") from None
    if not value:
        return None
    tools = value if isinstance(value, list) else [value]
    if not all(isinstance(tool, dict) for tool in tools):
        raise UnusableError(f"tools: not a list of objects; {excerpt(str(value), 40)}")
    return [
        tool if "function" in tool or "name" not in tool else {"type": "function", "function": tool} for tool in tools
    ]


def _loss(turn: dict[str, Any]) -> bool | None:
    """Return whether a turn is learnt (`loss`, or OpenAI's `weight` of 0 or 1), None where the row does not say."""
    said = turn.get("loss")
    if said is None:
        said = turn.get("weight")
    if said is None:
        return None
    if said not in (0, 1):
        raise UnusableError(f"loss: {excerpt(str(said), 20)} where 0 or 1 belongs")
    return bool(said)


def _add_extras(message: Message, turn: dict[str, Any]) -> None:
    calls = turn.get("tool_calls") or turn.get("function_call")
    if message["role"] == "call":
        message["role"], calls, message["content"] = "assistant", message["content"], ""
    if calls:
        if message["role"] != "assistant":
            raise UnusableError(f"roles: a tool call in a turn of {message['role']}")
        message["tool_calls"] = tool_calls_of(calls)
    if reasoning := turn.get("reasoning_content"):
        message["reasoning_content"] = text_of(reasoning)
    if (loss := _loss(turn)) is not None:
        message["loss"] = loss


def messages_of(
    turns: Any, roles: Mapping[str, str] = ROLES, role_tag: str | None = None, content_tag: str | None = None
) -> list[Message]:
    """Return messages made of `turns`: a list of {from, value} or {role, content} objects, or of the tags' keys.

    None is no turns. Raises UnusableError.
    """
    turns = decoded(turns)
    if type(turns) is not list:
        if turns is None or turns == "":
            return []
        raise UnusableError(f"columns: not a list of turns; {excerpt(str(turns), 40)}")
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        if type(turn) is not dict:
            raise UnusableError(f"roles: turn {number} is not an object; {excerpt(str(turn), 40)}")
        if role_tag is None and "from" in turn:
            said, content = turn["from"], turn.get(content_tag or "value")
        else:
            said, content = turn.get(role_tag or "role"), turn.get(content_tag or "content")
        role = roles.get(said) if type(said) is str else None
        if role is None:
            what = f"'{excerpt(str(said), 30)}'" if said is not None else f"no '{role_tag or 'role'}'"
            raise UnusableError(f"roles: turn {number} has {what}")
        plain = type(content) is str
        message = {"role": role, "content": content if plain else text_of(content)}
        if not plain or len(turn) > 2 or role == "call":
            _add_extras(message, turn)
        messages.append(message)
    return messages
