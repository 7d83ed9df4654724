"""A mixture in another tool's format: JSON lines beside the mixture, written whole or not at all.

`train.jsonl` has the mixture's rows in its order, copies included (only the first row of each form goes to the top,
since loaders take the columns' types from a file's beginning); `left_out.jsonl` the rows that the format cannot
hold, each with its reason; `export.json` says what was written, what was changed on the way, and which contamination
the rows carry (their marks are left behind). For LLaMA-Factory there is `dataset_info.json`.

What a format has no place for is either written in a customary way and *noted* (reasoning becomes `<think>…</think>` at
the head of the answer, as Qwen3, DeepSeek-R1 and LLaMA-Factory's templates expect), or the row is *unheld*: it would
say something else there. Sources: LLaMA-Factory 0.9.5 data/README.md, data/converter.py and data/formatter.py;
FastChat's ShareGPT files; Stanford Alpaca with LLaMA-Factory's `system` and `history`; TRL's dataset formats.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from steel_data.engine import progress
from steel_data.errors import InputError, excerpt, nearest
from steel_data.files import locked, replaced_folder
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.rows import Row, rows, schema, turn_fields
from steel_data.row.json_text import from_json, json_bytes, to_json
from steel_data.row.record import FORMS, ROLES, TURNS, form_of, turns_of

Message = dict[str, Any]
Convert = Callable[[Row, set[str]], Row]

THINK = "reasoning written as <think>…</think> before the answer"
LOSS = "loss flags that say what is trained on anyway left off"
_FROM = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
_TRAIN, _LEFT_OUT, _INFO, _SUMMARY = "train.jsonl", "left_out.jsonl", "dataset_info.json", "export.json"
_TOLD = ("rows", "left_out", "notes", "contamination")  # fields of Exported that stand in export.json


@dataclass(frozen=True)
class Exported:
    """What an export wrote. `left_out`: reason -> rows; `notes`: what was written otherwise -> rows."""

    folder: Path
    to: str
    rows: int
    left_out: dict[str, int]
    notes: dict[str, int]
    contamination: dict[str, dict[str, int]]


def export(folder: Path, to: str, out: Path | None = None) -> Exported:
    """Write a mixture in the format `to` (llamafactory, sharegpt, alpaca, messages) into `out`.

    By default `out` is `<folder>-<to>` beside the mixture. An earlier export there is replaced. Raises InputError for
    an unknown format, a folder without a mixture or with a damaged one, and an `out` that is inside the mixture or
    holds anything else.
    """
    if to not in FORMATS:
        raise InputError(f"--to '{to}': no such format.{nearest(to, FORMATS)}")
    manifest = read_manifest(folder)
    beside = folder if folder.name not in ("", "..") else folder.resolve()
    target = out or beside.with_name(f"{beside.name}-{to}")
    _refuse(folder, target)
    with locked(target), replaced_folder(target) as fresh:
        return _write(folder, manifest, to, fresh, target)


def _refuse(folder: Path, target: Path) -> None:
    """Raise InputError where the export would get into a mixture's way, or anything else's."""
    if target.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{target}: is inside the mixture, whose files are sealed. Fix: a folder beside it.")
    if target.is_file():
        raise InputError(f"{target}: is a file. Fix: a folder for --out.")
    names = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if names and _SUMMARY not in names:
        raise InputError(f"{target}: holds files that are no export ({min(names)}). Fix: an empty or new folder.")


def _write(folder: Path, manifest: dict[str, Any], to: str, fresh: Path, target: Path) -> Exported:
    convert, written = FORMATS[to], 0
    left_out: Counter[str] = Counter()
    noted: Counter[str] = Counter()
    with ExitStack() as stack, progress("export", manifest["rows"]) as advance:
        train = stack.enter_context((fresh / _TRAIN).open("wb"))
        rest = stack.enter_context((fresh / _LEFT_OUT).open("wb"))
        for row in _forms_first(folder, manifest, to):
            notes: set[str] = set()
            _refuse_damaged(folder, row)
            try:
                train.write(json_bytes(convert(row, notes)) + b"\n")
                written += 1
                noted.update(notes)
            except UnheldError as reason:
                left_out[str(reason).partition(": ")[0]] += 1
                rest.write(orjson.dumps({**row, "reason": str(reason)}, option=orjson.OPT_APPEND_NEWLINE))
            advance(1)
    found = written + left_out.total()
    if found != manifest["rows"]:
        raise InputError(
            f"{folder}: holds {found:,} rows, its manifest says {manifest['rows']:,}. "
            "Fix: build again; `check` says more."
        )
    if not left_out:
        (fresh / _LEFT_OUT).unlink()
    done = Exported(
        target, to, written, dict(sorted(left_out.items())), dict(sorted(noted.items())), manifest["contamination"]
    )
    if to == "llamafactory":
        _write_json(fresh / _INFO, {manifest["name"]: _entry(folder, manifest)})
    about = {"format": to, "mixture": manifest["name"], "content_sha256": manifest["content_sha256"]}
    _write_json(fresh / _SUMMARY, {**about, **{key: getattr(done, key) for key in _TOLD}})
    return done


def _forms_first(folder: Path, manifest: dict[str, Any], to: str) -> Iterator[Row]:
    """Yield the mixture's rows, those first that show a form (tool calls, reasoning, a history, …) before all others.

    `datasets` fixes the types of a JSON file's columns on its first 10 MB and fails on what comes up later.
    """
    wanted = _may_show(to, schema(folder, *manifest["output"]))
    early: list[int] = []
    for at, row in enumerate(rows(folder, manifest["output"])) if wanted else ():
        _refuse_damaged(folder, row)
        with suppress(UnheldError):
            shown = wanted & _shows(FORMATS[to](row, set()))
            if shown:
                early.append(at)
                wanted -= shown
                yield row
        if not wanted:
            break
    for at, row in enumerate(rows(folder, manifest["output"])):
        if at not in early:
            yield row


def _refuse_damaged(folder: Path, row: Row) -> None:
    """Raise InputError for a row that `build` does not write: of no turns, or of a turn that nobody has."""
    columns = FORMS[form_of(row)]
    turns = [turn for column in columns for turn in row.get(column) or ()]
    whole = row.get("id") is not None and all(row.get(column) for column in columns)
    if not whole or any(turn["role"] not in ROLES for turn in turns):
        raise InputError(
            f"{folder}: row {excerpt(str(row.get('id')))} is no conversation. "
            "Fix: build again; `check` says what is whole."
        )


def _entry(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the data set's entry in LLaMA-Factory's dataset_info.json."""
    columns = {"messages": "conversations"}
    names = schema(folder, *manifest["output"]).names()
    entry: dict[str, Any] = {"file_name": _TRAIN, "formatting": "sharegpt", "columns": columns}
    if "tools" in names:
        columns["tools"] = "tools"
    if "label" in names:
        columns["kto_tag"] = "label"
    elif "messages" not in names:
        entry["ranking"] = True
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    return entry


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


class UnheldError(Exception):
    """A row that a format cannot hold. The text is the reason, which is counted."""


def messages(row: Row, notes: set[str]) -> Row:
    """Return a row as TRL and OpenAI take it: `messages`, or `prompt`, `chosen`, `rejected`, or `prompt`, `completion`,
    `label`; `tools` as JSON text.

    Everything is held: reasoning_content, tool_calls and loss stay keys of their messages.
    """
    out: Row = {"id": row["id"]}
    for column in TURNS:
        if row.get(column) is not None:
            out[column] = [_without_nulls(message) for message in row[column]]
    if "label" in row:
        out["label"] = row["label"]
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

    A preference row has the prompt in `conversations`, one turn each in `chosen` and `rejected`; a judged answer stands
    in `conversations` with its `label` beside it. Unheld: text or reasoning beside a tool call, answers of several
    turns in a preference row, loss flags that are not the default.
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
    columns = FORMS[form_of(row)]
    pair = columns[1:] if "chosen" in columns else ()
    opening = row[columns[0]] if pair else _whole(row)
    out["conversations"] = [_turn(message, notes, thinks_before_calls) for message in opening]
    for column in pair:
        out[column] = _turn(_only(row[column]), notes, thinks_before_calls)
    if "label" in row:
        out["label"] = row["label"]
    if "tools" in row:  # of one type in all rows: a loader takes the columns of the first ones
        out["tools"] = row["tools"] or ""
    return out


def _whole(row: Row) -> list[Message]:
    """Return a row of one answer as one conversation."""
    return turns_of(row if row.get("messages") is None else row["messages"])


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
    value = to_json(calls[0] if len(calls) == 1 else calls)
    return {"from": "function_call", "value": _text({**message, "content": value}, notes)}


def _call(call: Row) -> Row:
    function = call["function"]
    try:
        made: Row = {"name": function["name"], "arguments": from_json(function["arguments"])}
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

    A preference row has `chosen` and `rejected` (text) instead of `output`, a judged answer its `label` beside it.
    Unheld: tool calls and results, an empty system turn, what `sharegpt` does not hold.
    """
    is_pair = form_of(row) == "preference"
    turns = row["prompt"] if is_pair else _whole(row)
    answers = [_only(row["chosen"]), _only(row["rejected"])] if is_pair else []
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
    out |= {"system": system, "history": history} | ({"label": row["label"]} if "label" in row else {})
    if "tools" in row:
        out["tools"] = row["tools"] or ""
    return out


FORMATS: dict[str, Convert] = {
    "llamafactory": llamafactory, "sharegpt": sharegpt, "alpaca": alpaca, "messages": messages,
}  # fmt: skip


def _shows(row: Row) -> set[str]:
    """Return the keys of a written row and its messages that hold anything: a loader learns its columns from them."""
    keys = {key for key, value in row.items() if value}
    turns = [turn for value in row.values() if isinstance(value, list) for turn in value if isinstance(turn, dict)]
    return keys.union(*turns)


def _may_show(to: str, schema: pl.Schema) -> set[str]:
    """Return the keys that only some rows of this format have, or hold anything in, for a mixture of this schema."""
    if to == "alpaca":
        return {"history"}
    if to != "messages":
        return set()
    extras = set[str]().union(*(turn_fields(schema, column) for column in TURNS))
    return extras - {"role", "content"} | ({"tools"} & set(schema))
