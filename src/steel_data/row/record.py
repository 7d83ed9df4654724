"""The one row schema: what a builder makes, what every filter sees, what the mixture holds.

A *record* is a plain dict. Builders fill some of its keys (the conversation in one of FORMS, `kind`, …), the
map pass fills the rest (`id`, `source`, `origin_file`, …). The keys are the columns of the mixture (docs/recipes.md).
"""

from typing import Any

import orjson
import xxhash

from steel_data.errors import InputError, excerpt, nearest
from steel_data.row.json_text import json_bytes, to_json

Message = dict[str, Any]
Record = dict[str, Any]

# The codes of fastText's lid.176, and `und`: a text without letters.
_LANGUAGES = """
    af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de
    diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie
    ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr
    mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah
    sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu
    xal xmf yi yo yue zh und
"""
LANGUAGES = frozenset(_LANGUAGES.split())
# What people write for them.
_MEANT = {
    "cn": "zh", "zh-cn": "zh", "zh-hans": "zh", "chinese": "zh", "cmn": "zh", "jp": "ja", "kr": "ko", "eng": "en",
    "english": "en",
}  # fmt: skip
ROLES = ("system", "user", "assistant", "tool")
KINDS = ("chat", "exam", "identity", "injected", "preference", "kto", "document")
# The forms of a row and the columns that hold its turns: a conversation, a pair, an answer with a `label` (true: good).
# The last two are the kinds of their rows, too.
FORMS = {
    "messages": ("messages",), "preference": ("prompt", "chosen", "rejected"), "kto": ("prompt", "completion"),
}  # fmt: skip
TURNS = tuple(dict.fromkeys(column for columns in FORMS.values() for column in columns))
# What a message may carry besides role and content. Where present they are part of the id.
EXTRA_KEYS = ("loss", "name", "reasoning_content", "tool_call_id", "tool_calls")


def check_language(code: str) -> None:
    """Raise InputError for a language code that no row can have."""
    if code in LANGUAGES:
        return
    plain = code.lower().replace("_", "-")
    meant = plain if plain in LANGUAGES else _MEANT.get(plain)
    hint = f" Did you mean '{meant}'?" if meant else nearest(code, LANGUAGES, show_known=False)
    raise InputError(f"no language '{excerpt(code, 20)}'.{hint} Fix: an ISO code such as zh, en, ja, ko, yue.")


def _sorted(value: Any) -> Any:
    """Return the same with the keys of every table in order, so that their order in the source does not matter."""
    try:
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    except TypeError:  # an integer of more than 64 bits
        pass
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


def _parts(messages: list[Message]) -> list[list[Any]]:
    parts: list[list[Any]] = []
    for message in messages:
        part: list[Any] = [message["role"], message["content"]]
        extras = {key: message[key] for key in EXTRA_KEYS if message.get(key) is not None}
        parts.append([*part, _sorted(extras)] if extras else part)
    return parts


def conversation_id(messages: list[Message], tools: Any = None) -> str:
    """Return the id of a conversation: 32 hex digits, xxh3-128 of the compact UTF-8 JSON `[[role, content], …]`.

    A message with extras (`EXTRA_KEYS`) is `[role, content, {extras}]`, keys sorted at every depth; the `tools` a
    conversation was given stand at the end as `{"tools": …}`. The text is hashed untouched: no normalisation. Raises
    UnicodeEncodeError or TypeError for text that is not valid Unicode (a lone surrogate).
    """
    parts: list[Any] = _parts(messages)
    if tools:
        parts.append({"tools": _sorted(tools)})
    return xxhash.xxh3_128_hexdigest(json_bytes(parts))


def preference_id(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> str:
    """Return the id of a preference row: xxh3-128 of the JSON `{"prompt": […], "chosen": […], "rejected": […]}`."""
    parts = {"prompt": _parts(prompt), "chosen": _parts(chosen), "rejected": _parts(rejected)}
    return xxhash.xxh3_128_hexdigest(json_bytes(parts))


def form_of(record: Record) -> str:
    """Return the form of a record, a name of FORMS: its conversation's, or a pair's where it has none."""
    if record.get("messages") is not None:
        return "messages"
    return "preference" if record.get("completion") is None else "kto"


def record_id(record: Record) -> str:
    """Return the id of a record of any form; a judged answer's is of prompt, completion and label."""
    form = form_of(record)
    if form == "messages":
        return conversation_id(record["messages"], record.get("tools"))
    if form == "preference":
        return preference_id(record["prompt"], record["chosen"], record["rejected"])
    parts = {"prompt": _parts(record["prompt"]), "completion": _parts(record["completion"]), "label": record["label"]}
    return xxhash.xxh3_128_hexdigest(json_bytes(parts))


def turns_of(body: list[Message] | Record, rejected: bool = False) -> list[Message]:
    """Return the turns of a row as one conversation: its messages, or the prompt and the answer.

    body: the messages, or a record of another form. Of a pair the chosen answer; with `rejected` that one behind it.
    """
    if isinstance(body, list):
        return body
    answers = [*(body.get("completion") or ()), *(body.get("chosen") or ())]
    return [*(body.get("prompt") or ()), *answers, *((body.get("rejected") or ()) if rejected else ())]


def segments(messages: list[Message], tools: Any = None) -> list[tuple[str, str]]:
    """Return the one view of a conversation's text: (role, text) in order, what is empty left out.

    The tools that are offered come first (role `tools`, as compact JSON); then, of each message, its reasoning, its
    content, and its calls (role `call`, name and arguments). Everything that measures a row goes by it: length, tokens,
    language, duplicates, benchmarks.
    """
    found = [("tools", tools if isinstance(tools, str) else to_json(tools))] if tools else []
    for message in messages:
        role = message["role"]
        found += [(role, text) for text in (message.get("reasoning_content"), message["content"]) if text]
        for call in message.get("tool_calls") or ():
            found.append(("call", f"{call['function']['name']} {call['function']['arguments']}"))
    return found


def text_view(record: Record) -> str:
    """Return the text that filters and statistics see: that of all segments, one per line.

    Roles and schemas' names are left out: they are form, not language. A preference row shows prompt and chosen.
    """
    messages = record.get("messages")
    messages = turns_of(record) if messages is None else messages
    return "\n".join(text for _, text in segments(messages, record.get("tools")))


def conversation_fault(messages: list[Message]) -> str | None:
    """Return why `messages` cannot be trained on (`empty`, or `roles: ` and where), or None.

    A conversation has at most one system message, first; then user; user is answered by assistant; assistant is
    followed by user or tool; tool by tool, assistant or user; the last turn is the assistant's. A turn without text is
    `empty`, unless it is an assistant's with tool calls, a tool's, or a system message's.
    """
    if not messages:
        return "empty"
    after = {
        None: ("system", "user"),
        "system": ("user",),
        "user": ("assistant",),
        "assistant": ("user", "tool"),
        "tool": ("tool", "assistant", "user"),
    }
    previous = None
    for number, message in enumerate(messages):
        role = message["role"]
        if role not in after[previous]:
            behind = f"behind {previous}" if previous else "first"
            return f"roles: turn {number} is {role}, {behind}"
        if role in ("user", "assistant") and not message["content"].strip() and not message.get("tool_calls"):
            return "empty"
        previous = role
    return None if previous == "assistant" else f"roles: the last turn is {previous}"
