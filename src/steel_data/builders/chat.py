"""The builder `chat`: rows of the published conversation layouts -> records.

What is recognised by columns: **preference** (`chosen` and `rejected`), **messages** (role / content), **sharegpt**
(`conversations` of from / value), **alpaca** (`instruction`, `input`, `output`; also `system`, `history`). Anything
else is said with `layout`, `columns` and `tags`, in the words of LLaMA-Factory's dataset_info.json.

Text is left untouched. As in LLaMA-Factory, instruction and input are joined by a line break, and a system turn
inside the conversation comes before a `system` column. Of a message, role, content, reasoning_content, tool_calls
and loss (or weight) are kept: what the mixture has a place for.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from steel_data.builders.turns import ROLES, UnusableError, decoded, messages_of, text_of, tools_of
from steel_data.errors import InputError, excerpt, nearest
from steel_data.row.record import Message, Record, conversation_fault

Layout = Literal["alpaca", "sharegpt", "messages", "preference"]

# LLaMA-Factory's words for columns -> the columns they mean where nothing is said
COLUMNS: dict[str, str | None] = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "messages": None,
    "system": "system",
    "tools": "tools",
    "chosen": "chosen",
    "rejected": "rejected",
    "images": "images",
    "videos": "videos",
    "audios": "audios",
}
MEDIA = ("images", "videos", "audios")
# LLaMA-Factory's words for roles -> ours; `role_tag` and `content_tag` name the keys of a turn
TAG_ROLES = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "call",
    "system_tag": "system",
}
TAGS = ("role_tag", "content_tag", *TAG_ROLES)

Names = Mapping[str, str | None]


class _Turns:
    """How the turns of a row are written."""

    def __init__(self, tags: dict[str, str] | None) -> None:
        tags = tags or {}
        for word in tags.keys() - set(TAGS):
            raise InputError(f"tags: unknown word '{excerpt(word)}'.{nearest(word, TAGS)}")
        self.role_tag, self.content_tag = tags.get("role_tag"), tags.get("content_tag")
        self.roles: Mapping[str, str] = ROLES
        if said := {tags[word]: role for word, role in TAG_ROLES.items() if word in tags}:
            self.roles = {**ROLES, **said}

    def messages(self, turns: Any) -> list[Message]:
        return messages_of(turns, self.roles, self.role_tag, self.content_tag)


_PLAIN = _Turns(None)


@lru_cache(maxsize=1024)  # a whole file may lack the column, and difflib takes long
def _no_column(name: str, row: tuple[str, ...]) -> str:
    return (
        f"columns: no column '{name}'.{nearest(name, row, show_known=False)} Row has: {excerpt(', '.join(row), 200)}."
    )


def _names(row: dict[str, Any], columns: dict[str, str]) -> Names:
    """Return what each word means in this row. `""` says that there is no such column, whatever the row has."""
    for word in columns.keys() - COLUMNS.keys():
        raise InputError(f"columns: unknown word '{excerpt(word)}'.{nearest(word, COLUMNS)}")
    for name in columns.values():
        if name and name not in row:
            raise UnusableError(_no_column(name, tuple(row)))
    return {**COLUMNS, **{word: name or None for word, name in columns.items()}}


def _layout(row: dict[str, Any], names: Names, columns: dict[str, str] | None) -> str:
    said = {word for word, name in (columns or {}).items() if name}
    pair = "chosen" in row and "rejected" in row and not said & {"response", "messages"}
    if pair or said & {"chosen", "rejected"}:
        return "preference"
    if said & {"prompt", "query", "response"} and "messages" not in said:
        return "alpaca"
    if "messages" in said or "messages" in row:
        return "messages"
    if "conversations" in row:
        return "sharegpt"
    if names["prompt"] in row and names["response"] in row:
        return "alpaca"
    if names["prompt"] in row:  # nearly: name the column that is missing
        raise UnusableError(_no_column(str(names["response"]), tuple(row)))
    raise UnusableError(
        "columns: neither messages, nor conversations, nor instruction and output. "
        f"Row has: {excerpt(', '.join(row), 200)}. Say what is what with columns = {{prompt = …, response = …}}."
    )


def _cell(row: dict[str, Any], name: str | None) -> Any:
    """Return a cell that the layout must have."""
    if name not in row:
        raise UnusableError(_no_column(str(name), tuple(row)))
    return row[name]


def _question(row: dict[str, Any], names: Names) -> list[Message]:
    """Return history and question of an alpaca row."""
    messages: list[Message] = []
    history = decoded(row.get(names["history"])) if names["history"] else None
    for pair in history if isinstance(history, list) else [history] if history else []:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UnusableError(f"columns: '{names['history']}' is not a list of [question, answer]")
        messages.append({"role": "user", "content": text_of(pair[0])})
        messages.append({"role": "assistant", "content": text_of(pair[1])})
    parts = text_of(_cell(row, names["prompt"])) if names["prompt"] else "", text_of(row.get(names["query"] or ""))
    content = "\n".join(part for part in parts if part) if names["query"] else parts[0]
    messages.append({"role": "user", "content": content})
    return messages


def _answer(value: Any, turns: _Turns) -> list[Message]:
    """Return a chosen or rejected answer: text, one turn, or a list of turns."""
    if isinstance(value, dict):
        return turns.messages([value])
    if isinstance(value, list):
        return turns.messages(value)
    return [{"role": "assistant", "content": text_of(value)}]


def _preference(row: dict[str, Any], names: Names, turns: _Turns, columns: dict[str, str] | None) -> Record:
    chosen = _answer(_cell(row, names["chosen"]), turns)
    rejected = _answer(_cell(row, names["rejected"]), turns)
    if chosen and chosen[0]["role"] in ("user", "system"):
        # both are whole conversations (UltraFeedback, TRL's implicit prompt): the prompt is what they begin with
        same = 0
        while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
            same += 1
        while same and (same >= min(len(chosen), len(rejected)) or chosen[same]["role"] != "assistant"):
            same -= 1
        if not same:
            raise UnusableError("roles: chosen and rejected begin differently")
        prompt, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    else:
        prompt = _asked(row, names, turns, bool(columns and columns.get("prompt")))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "kind": "preference"}


def _asked(row: dict[str, Any], names: Names, turns: _Turns, prompt_named: bool) -> list[Message]:
    """Return the prompt of a preference row: a list of turns, an alpaca question, or the column `prompt` (TRL)."""
    if prompt_named:
        value = row.get(names["prompt"] or "")
        return turns.messages(value) if isinstance(value, list) else _question(row, names)
    column = names["messages"] or next((name for name in ("messages", "conversations") if name in row), None)
    if column:
        return turns.messages(_cell(row, column))
    if "prompt" in row and names["prompt"] not in row:
        value = row["prompt"]
        return turns.messages(value) if isinstance(value, list) else [{"role": "user", "content": text_of(value)}]
    return _question(row, names)


def _conversation(row: dict[str, Any], layout: str, names: Names, turns: _Turns) -> list[Message]:
    if layout == "alpaca":
        answer = text_of(_cell(row, names["response"]))
        return [*_question(row, names), {"role": "assistant", "content": answer}]
    default = "messages" if layout == "messages" else "conversations"
    return turns.messages(_cell(row, names["messages"] or default))


def _record(
    row: dict[str, Any], layout: str | None, columns: dict[str, str] | None, tags: dict[str, str] | None
) -> Record:
    names = _names(row, columns) if columns else COLUMNS
    for word in MEDIA:
        if (name := names[word]) in row and row[name]:
            raise UnusableError(f"media: column '{name}'")
    turns = _Turns(tags) if tags else _PLAIN
    layout = layout or _layout(row, names, columns)
    if layout == "preference":
        record = _preference(row, names, turns, columns)
        opening = record["prompt"]
    else:
        opening = _conversation(row, layout, names, turns)
        record = {"messages": opening, "kind": "chat"}
    if (
        (name := names["system"]) in row
        and (system := text_of(row[name]))
        and opening
        and opening[0]["role"] != "system"
    ):
        opening.insert(0, {"role": "system", "content": system})
    if "messages" in record:
        fault = conversation_fault(opening)
    else:
        fault = conversation_fault([*opening, *record["chosen"]])
        fault = fault or conversation_fault([*opening, *record["rejected"]])
    if fault:
        raise UnusableError(fault)
    if (name := names["tools"]) in row and (tools := tools_of(row[name])):
        record["tools"] = tools
    return record


def chat(
    row: dict[str, Any],
    *,
    layout: Layout | None = None,
    columns: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> list[Record] | str:
    """Return one record made of `row`, or the reason why there is none (what stands before `: ` is counted).

    The record has `messages` and kind `chat`, or `prompt`, `chosen`, `rejected` and kind `preference`; and `tools`
    where the row offers some.

    layout: which layout the rows have, where their columns do not say it.
    columns: LLaMA-Factory's words (`prompt`, `query`, `response`, `history`, `messages`, `system`, `tools`, `chosen`,
      `rejected`) -> columns of the rows; `""`: the column of that default name is not to be used.
    tags: LLaMA-Factory's words for the keys and roles of a turn (`role_tag`, `content_tag`, `user_tag`,
      `assistant_tag`, `observation_tag`, `function_tag`, `system_tag`) -> what the rows hold.

    Reasons: `columns` (not the layout's, or a named column is missing), `empty` (no turns, or a user or assistant
    turn without text), `roles` (an unknown role; a conversation that does not begin with the user, after a system
    turn at most, or does not end with the assistant: a greeting or an unanswered question cannot be trained on as
    they are), `media` (images and the like), `content` (an object instead of text), `tools` (calls or tools that
    are no JSON), `loss`. Raises InputError for an unknown word in `columns` or `tags`.
    """
    try:
        return [_record(row, layout, columns, tags)]
    except UnusableError as reason:
        return str(reason)
