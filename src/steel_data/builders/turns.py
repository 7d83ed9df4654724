"""Turns of any published form as messages: roles, text, reasoning, tool calls.

Nothing is guessed: what a turn holds and a message has no place for is a reason, never left out.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

from steel_data.errors import excerpt
from steel_data.row.json_text import TwiceError, from_json, to_json
from steel_data.row.record import Message


class UnusableError(Exception):
    """A row that cannot become a record. The text is the reason; what stands before `: ` is counted."""


# The words of published data sets -> ours, whatever the case. A `call` turn is an assistant's whose text is the call.
_WORDS = {
    "system": "system developer system_prompt meta_instruction",
    "user": "user human prompter customer question",
    "assistant": "assistant gpt chatgpt gpt3 gpt4 gpt-3.5 gpt-4 bing bard gemini claude model bot ai moss answer",
    "call": "function_call function-call tool_call tool_calls",
    "tool": "tool observation function function_response tool_response tool-response ipython",
}
ROLES: dict[str, str] = {word: role for role, words in _WORDS.items() for word in words.split()}
# A turn that holds both sides: the keys of question and answer (ms-swift, Firefly, MOSS, xtuner, BELLE).
PAIRS = (
    ("human", "assistant"),
    ("user", "assistant"),
    ("query", "response"),
    ("question", "answer"),
    ("input", "output"),
)
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
REASONING = ("reasoning_content", "reasoning", "thinking", "thought")
# LLaMA-Factory, ms-swift and LLaVA write this where a picture or a sound belongs; in back ticks it is spoken of.
_MEDIUM = re.compile(r"(?<!`)<(?:image|video|audio)>(?!`)")
_MOSS = re.compile(r"^<\|[\w ]+\|>: ?|<eo[a-z]>\n?$")  # what frames a text of MOSS-003
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*(.*)", re.DOTALL)


def decoded(value: Any) -> Any:
    """Return `value`, parsed where it is a JSON list in a string, as tables without nested types hold it."""
    if type(value) is str and value.lstrip()[:1] == "[":
        try:
            return from_json(value)
        except TwiceError as fault:
            raise UnusableError(f"twice: {fault.msg}") from None
        except orjson.JSONDecodeError:
            return value
    return value


def text_of(value: Any) -> str:
    """Return the text of a cell or a message's content, untouched.

    None and NaN are empty, a number is its digits; true and false are no text. The parts of one text
    (`{"type": "text", "text": …}`) are joined; several texts in a list are several answers or turns, which one text
    cannot hold. A part that is no text is `media`.
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            raise UnusableError(f"content: {'true' if value else 'false'} where text belongs")
        case int():
            return str(value)
        case float():
            return str(value) if math.isfinite(value) else ""
        case list():
            if len(value) > 1 and any(not isinstance(part, dict) for part in value):
                raise UnusableError(f"content: a list of {len(value)} where one text belongs")
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


def _arguments(function: dict[str, Any]) -> str:
    """Return the arguments of a call as compact JSON text. What is no object cannot be called, nor be trained on."""
    given = [key for key in ("arguments", "parameters") if function.get(key) not in (None, "")]
    if odd := function.keys() - {"name", "arguments", "parameters", "id", "type", "index", "description"}:
        raise UnusableError(f"tools: a call with '{excerpt(min(odd), 30)}' where arguments belong")
    if len(given) > 1:
        raise UnusableError("tools: a call with both arguments and parameters")
    if not given:
        return "{}"
    arguments = function[given[0]]
    try:
        found = from_json(arguments) if isinstance(arguments, str) else arguments
        text = to_json(found)
    except TwiceError as fault:
        raise UnusableError(f"twice: {fault.msg} of a call's arguments") from None
    except (orjson.JSONDecodeError, TypeError):
        raise UnusableError(f"tools: arguments that are not JSON; {excerpt(str(arguments), 40)}") from None
    if not isinstance(found, dict):
        raise UnusableError(f"tools: arguments that are no object; {excerpt(text, 40)}")
    return text


def tool_calls_of(value: Any) -> list[dict[str, Any]]:
    """Return tool calls in one form: `{"type": "function", "function": {"name": …, "arguments": "<compact JSON>"}}`.

    Takes that form, the bare `{"name": …, "arguments": …}` of ShareGPT or `{"name": …, "parameters": …}` of Llama 3,
    one or several, also as JSON text. An `id` is kept.
    """
    if isinstance(value, str):
        try:
            value = from_json(value)
        except TwiceError as fault:
            raise UnusableError(f"twice: {fault.msg} of a call") from None
        except orjson.JSONDecodeError:
            raise UnusableError(f"tools: a call that is not JSON; {excerpt(value, 40)}") from None
    calls = []
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise UnusableError(f"tools: a call without a name; {excerpt(str(call), 40)}")
        if call.get("type", "function") not in ("function", None):
            raise UnusableError(f"tools: a call of type {excerpt(str(call['type']), 30)}")
        made: dict[str, Any] = {
            "type": "function",
            "function": {"name": function["name"], "arguments": _arguments(function)},
        }
        if call.get("id") is not None:
            made["id"] = str(call["id"])
        calls.append(made)
    if not calls:
        raise UnusableError("tools: a call turn without a call")
    return calls


def tools_of(value: Any) -> list[dict[str, Any]] | None:
    """Return the tools a row offers as a list of `{"type": "function", "function": {…}}`, None where there are none.

    Takes a list or its JSON text; LLaMA-Factory's bare functions are wrapped.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = from_json(value)
        except TwiceError as fault:
            raise UnusableError(f"twice: {fault.msg} of the tools") from None
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
    given = [turn[key] for key in ("tool_calls", "function_call") if turn.get(key)]
    if message["role"] == "call":
        message["role"], given, message["content"] = "assistant", [message["content"]], ""
    if len(given) > 1:
        raise UnusableError("tools: both tool_calls and function_call in one turn")
    if given:
        if message["role"] != "assistant":
            raise UnusableError(f"roles: a tool call in a turn of {message['role']}")
        message["tool_calls"] = tool_calls_of(given[0])
    thoughts = [text for key in REASONING if (text := text_of(turn.get(key))).strip()]
    if len(set(thoughts)) > 1:
        raise UnusableError(f"think: {len(thoughts)} unlike thoughts in one turn")
    if thoughts:
        if message["role"] != "assistant":
            raise UnusableError(f"think: a thought in a turn of {message['role']}")
        message["reasoning_content"] = thoughts[0]
    for key in ("name", "tool_call_id"):
        if turn.get(key):
            message[key] = text_of(turn[key])
    if (loss := _loss(turn)) is not None:
        message["loss"] = loss


def checked(message: Message) -> Message:
    """Return a message with its opening thought in `reasoning_content`; UnusableError where it shows a picture."""
    text = message["content"]
    if message["role"] == "assistant" and "think>" in text:
        _split_thought(message)
    elif message["role"] == "user" and "<" in text and (medium := _MEDIUM.search(text)):
        raise UnusableError(f"media: {medium[0]} in the text")
    return message


def _split_thought(message: Message) -> None:
    """Move the thought that opens an assistant's text to `reasoning_content`; R1-like templates write the `<think>`.

    Raises UnusableError for one that is empty, that is not closed, or beside another one.
    """
    text = message["content"]
    if "</think>" in text and "<think>" not in text.partition("</think>")[0]:
        text = f"<think>{text}"  # the template had opened it
    if not text.lstrip().startswith("<think>"):
        return
    found = _THOUGHT.fullmatch(text)
    if found is None:
        raise UnusableError("think: not closed")
    if not found[1].strip():
        raise UnusableError("think: empty")
    if str(message.get("reasoning_content", found[1])).strip() != found[1].strip():
        raise UnusableError("think: one in the text and another beside it")
    message["reasoning_content"], message["content"] = found[1].strip("\n"), found[2]


def _sides(turn: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a turn that holds both sides as two; as it is where it holds one."""
    keys = {key.lower(): key for key in turn}
    for question, answer in PAIRS:
        if question in keys and answer in keys and "from" not in keys and "role" not in keys:
            rest = {key: value for key, value in turn.items() if key.lower() not in (question, answer, "system")}
            system = turn.get(keys.get("system", ""))
            asked = {"role": "user", "content": turn[keys[question]]}
            return [
                *([{"role": "system", "content": system}] if system else []),
                *([asked] if text_of(asked["content"]) or not system else []),
                {"role": "assistant", "content": turn[keys[answer]], **rest},
            ]
    return [turn]


def _moss(chat: dict[str, Any]) -> list[dict[str, Any]]:
    """Return MOSS-003's `turn_1`, `turn_2`, … as turns of both sides, without its markers."""
    turns = []
    for number in range(1, len(chat) + 1):
        turn = chat.get(f"turn_{number}")
        if not isinstance(turn, dict):
            raise UnusableError(f"roles: no turn_{number}")
        for key in ("Commands", "Tool Responses"):
            if _MOSS.sub("", text_of(turn.get(key))).strip() not in ("", "None"):
                raise UnusableError(f"tools: MOSS's {key} in turn_{number}")
        thought = _MOSS.sub("", text_of(turn.get("Inner Thoughts"))).strip()
        sides = {
            "human": _MOSS.sub("", text_of(turn.get("Human"))),
            "assistant": _MOSS.sub("", text_of(turn.get("MOSS"))),
        }
        turns.append(sides | ({"thought": thought} if thought not in ("", "None") else {}))
    return turns


def messages_of(
    turns: Any, roles: Mapping[str, str] = ROLES, role_tag: str | None = None, content_tag: str | None = None
) -> list[Message]:
    """Return messages made of `turns`: a list of {from, value} or {role, content} objects, or of the tags' keys.

    Also a list of objects that hold both sides (`PAIRS`), of [question, answer] lists, and of texts that take turns
    (UltraChat). None is no turns. Raises UnusableError.
    """
    turns = decoded(turns)
    if type(turns) is dict and "turn_1" in turns:
        turns = _moss(turns)
    if type(turns) is not list:
        if turns is None or turns == "":
            return []
        raise UnusableError(f"columns: not a list of turns; {excerpt(str(turns), 40)}")
    if len(turns) > 1 and all(type(turn) is str for turn in turns):
        turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    elif turns and all(type(turn) is list and len(turn) == 2 for turn in turns):
        turns = [{"role": r, "content": t} for pair in turns for r, t in zip(("user", "assistant"), pair, strict=True)]
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        if type(turn) is not dict:
            raise UnusableError(f"roles: turn {number} is not an object; {excerpt(str(turn), 40)}")
        if role_tag is None and "role" not in turn and "from" not in turn and (sides := _sides(turn)) != [turn]:
            messages += messages_of(sides, roles)
            continue
        if role_tag is None and "from" in turn:
            said, content = turn["from"], turn.get(content_tag or "value")
        else:
            said, content = turn.get(role_tag or "role"), turn.get(content_tag or "content")
        role = None
        if type(said) is str:
            role = roles.get(said) or roles.get(said.strip().lower())
        if role is None:
            what = f"'{excerpt(str(said), 30)}'" if said is not None else f"no '{role_tag or 'role'}'"
            raise UnusableError(f"roles: turn {number} has {what}")
        plain = type(content) is str
        message = {"role": role, "content": content if plain else text_of(content)}
        if not plain or len(turn) > 2 or role == "call":
            if any(turn.get(key) for key in MEDIA):
                raise UnusableError(f"media: turn {number}")
            _add_extras(message, turn)
        messages.append(checked(message))
    return messages
