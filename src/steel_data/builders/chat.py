"""The builder `chat`: rows of the published conversation layouts -> records.

The layouts that are recognised by their columns stand in layouts.toml, each with its source: **preference**, ms-swift's
pairs, **messages** (OpenAI, tulu-3), **sharegpt**, xtuner, MOSS, UltraChat, **alpaca** (BELLE, COIG), TRL's prompt and
completion, query and response, Firefly, R1-like distillations. Anything else is said with `layout`, `columns` and
`tags`, in the words of LLaMA-Factory's dataset_info.json (and `reasoning`). `layout = "kto"` lies over any of them with
one answer: rows of a prompt, a completion and the `label` that says whether it is a good one (docs/datasets.md).

Text is left untouched, but for a thought that opens an answer: `<think>…</think>` becomes `reasoning_content`. As in
LLaMA-Factory, instruction and input are joined by a line break, and a system turn inside the conversation comes before
a `system` column. Of a message, role, content, reasoning_content, tool_calls, tool_call_id, name and loss (or weight)
are kept: what the mixture has a place for.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from steel_data.builders.judged import JUDGED_BAD, best_and_worst, is_good
from steel_data.builders.turns import MEDIA, ROLES, UnusableError, checked, decoded, messages_of, text_of, tools_of
from steel_data.errors import InputError, excerpt, nearest
from steel_data.row.record import Message, Record, conversation_fault

# LLaMA-Factory's words for columns (and `reasoning`, `responses`, `scores`, `ranks`) -> the columns they mean where
# nothing is said
COLUMNS: dict[str, str | None] = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "reasoning": "reasoning_content",
    "messages": None,
    "system": "system",
    "tools": "tools",
    "chosen": None,
    "rejected": None,
    "kto_tag": None,
    "responses": None,
    "scores": None,
    "ranks": None,
    "images": "images",
    "videos": "videos",
    "audios": "audios",
}
# LLaMA-Factory's words for roles -> ours; `role_tag` and `content_tag` name the keys of a turn
TAG_ROLES = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "call",
    "system_tag": "system",
}
TAGS = ("role_tag", "content_tag", *TAG_ROLES)
# The words that say where the conversation itself is.
_CONTENT = {"prompt", "query", "response", "messages", "chosen", "rejected", "responses"}
KTO = "kto"  # the layout of judged answers


@dataclass(frozen=True)
class ChatLayout:
    """A published layout: the columns that tell it, what LLaMA-Factory's words mean in it, and a miniature of ours."""

    source: str
    needs: list[str]
    row: str
    columns: dict[str, str] = field(default_factory=dict)  # "": there is no such column
    said: bool = False  # told by no column: only the recipe can say it


@dataclass(frozen=True)
class _Reading:
    """How the rows of one set of columns are read: the column of each word (None where there is none), and as what."""

    names: Mapping[str, str | None]
    kind: str  # alpaca, messages, preference or ranking
    prompt_named: bool
    is_judged: bool = False  # whether rows of prompt, completion and label are made (KTO)


@cache
def layouts() -> dict[str, ChatLayout]:
    """Return the published layouts by name, in the order in which they are tried."""
    table = tomllib.loads(files("steel_data.builders").joinpath("layouts.toml").read_text(encoding="utf-8"))
    return {name: ChatLayout(**entry) for name, entry in table.items()}


def recognised(columns: Collection[str]) -> str | None:
    """Return the name of the first layout whose columns are all there."""
    known = ((name, layout) for name, layout in layouts().items() if not layout.said)
    return next((name for name, layout in known if set(layout.needs) <= set(columns)), None)


def _listed(value: str | list[str] | None) -> list[str]:
    return value if isinstance(value, list) else [value] if value is not None else []


class _Turns:
    """How the turns of a row are written."""

    def __init__(self, tags: dict[str, str | list[str]] | None) -> None:
        tags = tags or {}
        for word in tags.keys() - set(TAGS):
            raise InputError(f"tags: unknown word '{excerpt(word)}'.{nearest(word, TAGS)}")
        for word in ("role_tag", "content_tag"):
            if isinstance(tags.get(word), list):
                raise InputError(f"tags: {word} is a list, where one key of a turn is named. Fix: one name.")
        self.role_tag, self.content_tag = (str(tags[w]) if w in tags else None for w in ("role_tag", "content_tag"))
        said: dict[str, str] = {}
        for word, role in TAG_ROLES.items():
            for name in _listed(tags.get(word)):
                if said.setdefault(name, role) != role:
                    raise InputError(f"tags: '{excerpt(name, 30)}' is both {said[name]} and {role}. Fix: one of them.")
        self.roles: Mapping[str, str] = {**ROLES, **said} if said else ROLES

    def messages(self, turns: Any) -> list[Message]:
        return messages_of(turns, self.roles, self.role_tag, self.content_tag)


_PLAIN = _Turns(None)


@lru_cache(maxsize=1024)  # a whole file may lack the column, and difflib takes long
def _no_column(name: str, row: tuple[str, ...]) -> str:
    return (
        f"columns: no column '{name}'.{nearest(name, row, show_known=False)} Row has: {excerpt(', '.join(row), 200)}."
    )


@lru_cache(maxsize=4096)  # the rows of a file mostly have the same columns
def _reading(columns: tuple[str, ...], layout: str | None, said: tuple[tuple[str, str], ...]) -> _Reading:
    """Return how rows of these columns are read, by what the recipe says or by the layout that they show."""
    if layout is not None and layout not in layouts():
        raise InputError(f"layout: unknown layout '{excerpt(layout)}'.{nearest(layout, layouts())}")
    for word, _ in said:
        if word not in COLUMNS:
            raise InputError(f"columns: unknown word '{excerpt(word)}'.{nearest(word, COLUMNS)}")
    for _, name in said:
        if name and name not in columns:
            raise UnusableError(_no_column(name, columns))
    named = {word for word, name in said if name}
    base: dict[str, str] = {}
    is_judged = layout == KTO
    layout = None if is_judged else layout
    if layout is None and named & _CONTENT:
        pair = {"chosen", "rejected"} <= set(columns) and not named & {"response", "messages"}
        base = {"chosen": "chosen", "rejected": "rejected"} if pair else {}
    else:
        layout = layout or recognised(columns)
        if layout is None and "instruction" in columns:  # nearly: name the column that is missing
            raise UnusableError(_no_column("output", columns))
        if layout is None:
            raise UnusableError(
                "columns: neither messages, nor conversations, nor instruction and output. "
                f"Row has: {excerpt(', '.join(columns), 200)}. Say what is what with columns = "
                "{prompt = …, response = …}."
            )
        base = layouts()[layout].columns
    base = {**base, **layouts()[KTO].columns} if is_judged else base
    names = {**COLUMNS, **{word: name or None for word, name in {**base, **dict(said)}.items()}}
    if names["tools"] not in columns and "functions" in columns and "tools" not in dict(said):
        names["tools"] = "functions"
    kind = "preference" if names["rejected"] or names["chosen"] else "messages" if names["messages"] else "alpaca"
    kind = "ranking" if names["responses"] else kind
    if is_judged and names["kto_tag"] is None:
        raise InputError(
            "columns: kto_tag = \"\" leaves layout 'kto' without the column that judges the answer. Fix: its name."
        )
    if is_judged and kind in ("preference", "ranking"):
        raise UnusableError("columns: several answers, where layout 'kto' has one and its label")
    return _Reading(names, kind, "prompt" in named, is_judged)


def columns_read(columns: tuple[str, ...], options: Mapping[str, Any]) -> set[str]:
    """Return which of a row's columns `chat` reads with these options (all that it would refuse a row for included)."""
    try:
        reading = _reading(columns, options.get("layout"), tuple((options.get("columns") or {}).items()))
    except UnusableError:
        return set(columns)  # the row is dropped, with a reason of its own
    names, words = reading.names, {"system", "tools", "images", "videos", "audios", "kto_tag"}
    words |= {
        "alpaca": {"prompt", "query", "response", "history", "reasoning"},
        "messages": {"messages"},
        "preference": {"chosen", "rejected", "messages"},
        "ranking": {"responses", "scores", "ranks"},
    }[reading.kind]
    read = {names[word] for word in words} | set(MEDIA)
    paired = reading.kind in ("preference", "ranking")
    if paired and (asked := _asked_in(columns, reading)) is None:
        read |= {names[word] for word in ("prompt", "query", "history")}
    elif paired:
        read.add(asked)
    return {name for name in read if name is not None} & set(columns)


def mapping(row: dict[str, Any], options: Mapping[str, Any], word: str, name: str) -> dict[str, str] | None:
    """Return the `columns` with which `chat` reads the column `name` as `word`, and all of the row that it read before.

    None where there are none: `word` is another column's, or means nothing to conversations of this form.
    """
    said = options.get("columns") or {}
    try:
        reading = _reading(tuple(row), options.get("layout"), tuple(said.items()))
    except UnusableError:
        return None
    columns = {**said, word: name}
    if word in _CONTENT:  # where one of these is said, all of them are
        held = {key: column for key in sorted(_CONTENT) if (column := reading.names[key]) is not None and column in row}
        if word in held:
            return None
        if reading.kind == "alpaca":
            if word in ("chosen", "rejected") and "response" in held:
                held["chosen"] = held.pop("response")
            held.setdefault("query", "")
        columns = {**said, **held, word: name}
    tried = {**options, "columns": columns}
    made = chat(row, **tried)
    is_read = not isinstance(made, str) or made.startswith(JUDGED_BAD)  # a drop that the word asks for
    return columns if is_read and name in columns_read(tuple(row), tried) else None


def _cell(row: dict[str, Any], name: str | None) -> Any:
    """Return a cell that the layout must have."""
    if name not in row:
        raise UnusableError(_no_column(str(name), tuple(row)))
    return row[name]


def _said_by(role: str, value: Any, turns: _Turns) -> list[Message]:
    """Return the turns of a cell: a text that `role` says, one turn, or a list of turns."""
    told = value if isinstance(value, list) else [value]
    if told and all(isinstance(t, dict) and ((turns.role_tag or "role") in t or "from" in t) for t in told):
        return turns.messages(told)
    return [checked({"role": role, "content": text_of(value)})]


def _question(row: dict[str, Any], names: Mapping[str, str | None], turns: _Turns) -> list[Message]:
    """Return history and question of an alpaca row."""
    messages: list[Message] = []
    history = decoded(row.get(names["history"])) if names["history"] else None
    if isinstance(history, list) and history and all(isinstance(turn, dict) for turn in history):
        messages = turns.messages(history)
        history = None
    for pair in history if isinstance(history, list) else [history] if history else []:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UnusableError(f"columns: '{names['history']}' is not a list of [question, answer]")
        messages += [*_said_by("user", pair[0], turns), *_said_by("assistant", pair[1], turns)]
    asked = _cell(row, names["prompt"]) if names["prompt"] else ""
    if isinstance(asked, list) and not names["query"]:
        return [*messages, *_said_by("user", asked, turns)]
    parts = text_of(asked), text_of(row.get(names["query"] or ""))
    content = "\n".join(part for part in parts if part) if names["query"] else parts[0]
    return [*messages, checked({"role": "user", "content": content})]


def _answered(row: dict[str, Any], names: Mapping[str, str | None], turns: _Turns) -> list[Message]:
    """Return the answer of an alpaca row, with its thoughts where a column of its own holds them."""
    answer = _said_by("assistant", _cell(row, names["response"]), turns)
    thought: str = text_of(row.get(names["reasoning"] or ""))
    if thought.strip():
        if answer[-1].get("reasoning_content", thought) != thought:
            raise UnusableError("think: one in the text and another beside it")
        answer[-1]["reasoning_content"] = thought
    return answer


def _preference(row: dict[str, Any], reading: _Reading, turns: _Turns) -> Record:
    names = reading.names
    if reading.kind == "ranking":
        judged = (_cell(row, names[word]) if names[word] else None for word in ("responses", "scores", "ranks"))
        chosen, rejected = (_said_by("assistant", answer, turns) for answer in best_and_worst(*judged))
    elif names["chosen"] is None:  # ms-swift: the conversation ends with the better answer
        chosen = turns.messages(_cell(row, names["messages"]))
    else:
        chosen = _said_by("assistant", _cell(row, names["chosen"]), turns)
    if reading.kind != "ranking":
        rejected = _said_by("assistant", _cell(row, names["rejected"]), turns)
    if reading.kind != "ranking" and names["chosen"] is None and rejected and rejected[0]["role"] == "assistant":
        last = next((i for i in reversed(range(len(chosen))) if chosen[i]["role"] == "user"), -1)
        prompt, chosen = chosen[: last + 1], chosen[last + 1 :]
    elif chosen and chosen[0]["role"] in ("user", "system"):
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
        column = _asked_in(tuple(row), reading)
        if column is None:
            prompt = _question(row, names, turns)
        elif column in ("messages", "conversations") or column == names["messages"]:
            prompt = turns.messages(_cell(row, column))
        else:
            prompt = _said_by("user", row[column], turns)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "kind": "preference"}


def _asked_in(columns: tuple[str, ...], reading: _Reading) -> str | None:
    """Return the column that holds the prompt of a preference row, turns or a text; None: an alpaca question."""
    names = reading.names
    if reading.prompt_named:
        return None if names["query"] in columns else names["prompt"]
    if names["messages"] or (held := [name for name in ("messages", "conversations") if name in columns]):
        return names["messages"] or held[0]
    return "prompt" if "prompt" in columns and names["prompt"] not in columns else None


def _trimmed(messages: list[Message]) -> list[Message]:
    """Return a conversation without the greeting before its first question and what follows its last answer."""
    first = 1 if messages and messages[0]["role"] == "system" else 0
    start = next((i for i, m in enumerate(messages) if m["role"] == "user"), len(messages))
    end = next((i + 1 for i in reversed(range(len(messages))) if messages[i]["role"] == "assistant"), 0)
    while end and messages[end - 1].get("tool_calls") and end > start:  # a call without its result is no answer
        end = next((i + 1 for i in reversed(range(end - 1)) if messages[i]["role"] == "assistant"), 0)
    return [*messages[:first], *messages[max(start, first) : end]]


def _record(
    row: dict[str, Any], layout: str | None, columns: dict[str, str] | None, turns: _Turns, trim: bool
) -> Record:
    reading = _reading(tuple(row), layout, tuple(columns.items()) if columns else ())
    names = reading.names
    for name in (*MEDIA, names["images"], names["videos"], names["audios"]):
        if name and row.get(name):
            raise UnusableError(f"media: column '{name}'")
    if reading.kind in ("preference", "ranking"):
        record = _preference(row, reading, turns)
        opening = record["prompt"]
    else:
        if reading.kind == "alpaca":
            opening = [*_question(row, names, turns), *_answered(row, names, turns)]
        else:
            opening = turns.messages(_cell(row, names["messages"]))
        opening = _trimmed(opening) if trim else opening
        record = {"messages": opening, "kind": "chat"}
    system = text_of(row.get(names["system"] or ""))
    if system and opening and opening[0]["role"] != "system":
        opening.insert(0, {"role": "system", "content": system})
    if "messages" in record:
        fault = conversation_fault(opening)
    else:
        fault = conversation_fault([*opening, *record["chosen"]])
        fault = fault or conversation_fault([*opening, *record["rejected"]])
    if fault:
        raise UnusableError(fault)
    if tools := tools_of(row.get(names["tools"] or "")):
        record["tools"] = tools
    if names["kto_tag"]:
        good = is_good(_cell(row, names["kto_tag"]))
        if reading.is_judged:
            return _judged(record, good)
        if not good:
            raise UnusableError(
                f'{JUDGED_BAD}, and a conversation would teach it; layout = "kto" keeps it with its label'
            )
        record["note"] = "judged-good"
    if reading.kind == "ranking":
        record["note"] = "best-and-worst"
    return record


def _judged(record: Record, good: bool) -> Record:
    """Return a conversation as what was asked (to the user's last turn), the answer behind it, and its label."""
    turns = record.pop("messages")
    asked = 1 + max(i for i, turn in enumerate(turns) if turn["role"] == "user")
    return {"prompt": turns[:asked], "completion": turns[asked:], "label": good, **record, "kind": "kto"}


def chat(
    row: dict[str, Any],
    *,
    layout: str | None = None,
    columns: dict[str, str] | None = None,
    tags: dict[str, str | list[str]] | None = None,
    trim: bool = False,
) -> list[Record] | str:
    """Return one record made of `row`, or the reason why there is none (what stands before `: ` is counted).

    The record has `messages` and kind `chat`, or `prompt`, `chosen`, `rejected` and kind `preference`, or `prompt`,
    `completion`, `label` and kind `kto`; and `tools` where the row offers some.

    layout: which layout the rows have, where their columns do not say it: a name of layouts.toml. `kto`: the one that
      they show, judged by the column `label` (or `kto_tag`): good and bad answers are kept with their label.
    columns: LLaMA-Factory's words (`prompt`, `query`, `response`, `history`, `messages`, `system`, `tools`, `chosen`,
      `rejected`, `kto_tag`) and `reasoning`, `responses`, `scores`, `ranks` -> columns of the rows; `""`: the column of
      that default name is not to be used. `kto_tag` without `layout = "kto"`: answers judged good are conversations,
      bad ones dropped. `responses` with `scores` or `ranks`: the best and the worst answer are a preference row.
    tags: LLaMA-Factory's words for the keys and roles of a turn (`role_tag`, `content_tag`, `user_tag`,
      `assistant_tag`, `observation_tag`, `function_tag`, `system_tag`) -> what the rows hold; of a role also a list.
    trim: cut what stands before the first question and after the last answer, instead of dropping the row.

    Reasons: `columns` (not the layout's, or a named column is missing), `empty` (no turns, or a user or assistant
    turn without text), `roles` (an unknown role; a conversation that does not begin with the user, after a system
    turn at most, or does not end with the assistant: a greeting or an unanswered question cannot be trained on as
    they are), `media` (images and the like), `content` (an object or several texts instead of one), `tools` (calls or
    tools that are no JSON), `twice` (a key that one object of a JSON text holds twice), `think` (a thought that is
    empty or not closed), `loss`, `kto` (judged bad where conversations are made, or not judged at all), `ranking`
    (answers that cannot be told apart).
    Raises InputError for an unknown word in `columns` or `tags`, and for an unknown layout.
    """
    try:
        return [_record(row, layout, columns, _Turns(tags) if tags else _PLAIN, trim)]
    except UnusableError as reason:
        return str(reason)
