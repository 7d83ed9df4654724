"""The one validator of records: what makes a dict no record, or a conversation one that cannot be trained on.

Builders, the user's own steps, filters that edit and `check` go by it, so that no row can come into a mixture by one
way that would be refused on another.
"""

from typing import Any

import orjson

from steel_data.errors import InputError, excerpt, nearest
from steel_data.row.record import (
    EXTRA_KEYS,
    FORMS,
    KINDS,
    ROLES,
    Message,
    Record,
    check_language,
    conversation_fault,
    form_of,
)

_OTHERS = ("prompt", "chosen", "rejected", "completion", "label")  # what a record of messages does not have
# What is neither a conversation nor computed anew from it, and what filters see besides.
_TEXTS = ("kind", "language", "benchmark", "item", "meta", "note", "id", "source", "origin_file")
_NUMBERS = ("dose", "chars", "origin_row", "language_score", "rating")
_KNOWN = frozenset(("messages", *_OTHERS, "tools", *_TEXTS, *_NUMBERS))
_MESSAGE_KEYS = frozenset(("role", "content", *EXTRA_KEYS))
_MESSAGE_TEXTS = ("name", "reasoning_content", "tool_call_id")
_SAID_BY_ASSISTANT = ("tool_calls", "reasoning_content")


def record_fault(record: Record) -> str | None:
    """Return why `record` cannot stand in a mixture, or None.

    `record: ` and what is wrong with a key or its type; or what `conversation_fault` says (`empty`, `roles: …`), of a
    preference for the prompt with either answer. A document is one assistant turn alone. Keys may be absent or None,
    but for those of the conversation.
    """
    shape = _shape_fault(record)
    if shape is not None:
        return f"record: {shape}"
    if record.get("kind") == "document":
        return _document_fault(record["messages"])
    if record.get("messages") is not None:
        return conversation_fault(record["messages"])
    prompt, answers = record["prompt"], [record[column] for column in FORMS[form_of(record)][1:]]
    if not all(answers):
        return "empty"
    return next((fault for answer in answers if (fault := conversation_fault([*prompt, *answer]))), None)


def _document_fault(messages: list[Message]) -> str | None:
    """Return why this is no document (one assistant turn of text alone), or None."""
    if len(messages) != 1 or messages[0]["role"] != "assistant" or any(messages[0].get(key) for key in EXTRA_KEYS):
        return "record: a document that is not one assistant turn of text alone."
    return None if messages[0]["content"].strip() else "empty"


def _shape_fault(record: Record) -> str | None:
    form = form_of(record)
    for turns in map(record.get, FORMS[form]):
        if fault := _turns_fault(turns):
            return fault
    for key, value in record.items():
        if key not in _KNOWN:
            return f"a record with '{excerpt(str(key), 40)}'.{nearest(str(key), _KNOWN)}"
        if value is not None and key not in FORMS[form] and (fault := _value_fault(key, value, form)):
            return fault
    if form == "kto" and record.get("label") is None:
        return "a record with completion, without label. Fix: label, true for a good answer, false for a bad one."
    return None


def _value_fault(key: str, value: Any, form: str) -> str | None:
    """Return the fault of one of a record's keys, but for those of its form's turns."""
    if key == "label" and form == "kto":
        return None if isinstance(value, bool) else f"a record whose label is {_shown(value)}. Fix: true or false."
    if key in _OTHERS:
        return f"a record with both {', '.join(FORMS[form])} and {key}. Fix: one form of row."
    if key == "tools":
        return _tools_fault(value)
    if key in _NUMBERS:
        right = int | float if key in ("language_score", "rating") else int
        if not isinstance(value, right) or isinstance(value, bool):
            return f"a record whose {key} is {_shown(value)}. Fix: a number."
        return None
    if not _is_text(value):
        return f"a record whose {key} is {_shown(value)}. Fix: a text of valid Unicode."
    if key == "kind":
        if value not in KINDS:
            return f"a record of kind '{excerpt(value, 40)}'. Known: {', '.join(KINDS)}."
        if (value if value in FORMS else "messages") != form:
            holds = ", ".join(FORMS[form])
            return f"a record of kind '{value}' with {holds}. Fix: kind 'preference' for pairs alone, 'kto' with label."
    if key == "language":
        try:
            check_language(value)
        except InputError as error:
            return f"a record of a language that there is not: {error}"
    return None


def _tools_fault(value: Any) -> str | None:
    tools = value
    if isinstance(value, str) and value:
        try:
            tools = orjson.loads(value)
        except orjson.JSONDecodeError:
            tools = value
    if tools and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        return f"a record whose tools are {_shown(value)}. Fix: a list of objects, or its JSON."
    return None


def _turns_fault(turns: Any) -> str | None:
    known = isinstance(turns, list)
    for message in turns if known else ():
        if not (
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
        ):
            known = False
            break
        if (len(message) > 2 or message["role"] not in ROLES) and (fault := _message_fault(message)):
            return fault
    if not known:
        return "a record without messages. Fix: messages = [{'role': …, 'content': …}, …], both strings."
    return None


def _message_fault(message: Message) -> str | None:
    if message["role"] not in ROLES:
        known = ", ".join(sorted(ROLES))
        return f"a message of role '{excerpt(message['role'], 40)}'. Known: {known}."
    if odd := sorted(str(key) for key in message if key not in _MESSAGE_KEYS):
        return f"a message with '{excerpt(odd[0], 40)}'. Known: {', '.join(sorted(_MESSAGE_KEYS))}."
    for key in _MESSAGE_TEXTS:
        if message.get(key) is not None and not isinstance(message[key], str):
            return f"a message whose {key} is {_shown(message[key])}. Fix: a text."
    if message.get("loss") is not None and not isinstance(message["loss"], bool):
        return f"a message whose loss is {_shown(message['loss'])}. Fix: true or false."
    for key in _SAID_BY_ASSISTANT:
        if message.get(key) and message["role"] != "assistant":
            return f"a message of role '{message['role']}' with {key}. Fix: in the assistant's alone."
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(map(_is_call, calls))):
        return (
            f"a message whose tool_calls are {_shown(calls)}. "
            "Fix: [{'function': {'name': …, 'arguments': …}}, …], both strings, arguments as JSON."
        )
    return None


def _is_call(call: Any) -> bool:
    """Return whether this is a call as the mixture's columns hold it: `function` with two texts, `id` and `type`."""
    if not isinstance(call, dict) or not call.keys() <= {"id", "type", "function"}:
        return False
    function = call.get("function")
    if not isinstance(function, dict) or function.keys() != {"name", "arguments"}:
        return False
    texts = [*function.values(), *(call[key] for key in ("id", "type") if call.get(key) is not None)]
    return all(isinstance(text, str) for text in texts)


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    return excerpt(repr(value), 40)
