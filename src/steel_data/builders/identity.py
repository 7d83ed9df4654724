"""Who the model says it is: our own zh and en templates, or a template file of the user's.

A template says `{{name}}`, `{{team}}` (or `{{author}}`) and `{{date}}`, the date of this version of the model. Ours
(identity_zh.json, identity_en.json) are objects of `turns` (user and assistant by turns), an optional `system`, and
`denies`: words of other models. A template that denies being X is left out where the name or team contains X, so that
no model named after X denies itself; one that needs a date is left out where none is given.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import orjson

from steel_data.errors import InputError, excerpt
from steel_data.row.record import Record

LANGUAGES = ("zh", "en")
Named = str | dict[str, str]  # one text, or one a language: { zh = "…", en = "…" }

_FIELDS = {"name": "name", "model": "name", "team": "team", "author": "team", "date": "date"}
# The ways in which template files say "put the name here". `{{…}}` always is one; the others by their words, since
# `<b>` and `[1]` are ordinary text. Capitals in angle brackets are taken for a placeholder whatever they say.
_WORDS = (
    r"(?:your |my |the |model[ _-]?|bot[ _-]?|ai[ _-]?)?"
    r"(?:name|author|team|date|developer|company|organi[sz]ation|creator|owner|model|bot)"
)
_HAN_WORDS = "(?:你的|您的|模型)?(?:名字|名称|姓名|作者|团队|公司|机构|开发者|开发团队|日期|模型|机器人)"
_PLACEHOLDER = re.compile(
    r"\{\{(?P<field>[^{}]*)\}\}"
    rf"|<(?i:{_WORDS})>|<[A-Z][A-Z _-]+>|<{_HAN_WORDS}>"
    rf"|\[(?i:{_WORDS})\]|[\[【]{_HAN_WORDS}[\]】]"
    rf"|\$?\{{(?i:{_WORDS})\}}|%(?i:{_WORDS})%"
)
_HAN = re.compile(r"[\u4e00-\u9fff]")


def builtin(*, name: Named, team: Named, date: str | None = None, languages: Sequence[str] = LANGUAGES) -> list[Record]:
    """Return the built-in records of the given languages, filled; kind `identity`, `language` set.

    name: what the model is called; one text, or a table with one a language.
    team: who made it; the same.
    date: the date of this version; templates that speak of a date are left out without one.
    languages: which of the built-in templates.

    Raises InputError for an empty or missing name or team and for an unknown language.
    """
    records: list[Record] = []
    for language in languages:
        if language not in LANGUAGES:
            raise InputError(f"build.languages: no identity templates in '{language}'. Fix: of {', '.join(LANGUAGES)}.")
        values = _values(name, team, date, language)
        itself = f"{values['name']}\n{values['team']}".casefold()
        for template in _templates(language):
            if any(word.casefold() in itself for word in template.get("denies", ())):
                continue
            texts = [template.get("system", ""), *template["turns"]]
            if date is None and any("{{date}}" in text for text in texts):
                continue
            system, *turns = [_fill(text, values, frozenset()) for text in texts]
            messages = [{"role": "system", "content": system}] if system else []
            for position, text in enumerate(turns):
                messages.append({"role": "assistant" if position % 2 else "user", "content": text})
            records.append({"messages": messages, "kind": "identity", "language": language})
    return records


def identity(
    row: dict[str, Any],
    *,
    name: Named,
    team: Named,
    date: str | None = None,
    replace: dict[str, str] | None = None,
) -> list[Record] | str:
    """Return the records of one row of a user's template file (any layout of `chat`), or `chat`'s reason.

    First every key of `replace` is replaced by its value, literally, the longest first and in one pass; then the fields
    are filled.

    name: what the model is called; one text, or a table with one a language.
    team: who made it; the same.
    date: the date of this version, for `{{date}}`.
    replace: literal texts of the file -> what stands there instead, such as `{ "<NAME>" = "小钢" }`.

    Raises InputError for a placeholder that is neither a field nor a key of `replace` (to keep `<HTML>` as
    it stands, replace it by itself), and for `{{date}}` without a date.
    """
    from steel_data.builders.chat import chat  # here: the built-in templates need no chat layouts

    literal = _replacer(tuple(replace.items()) if replace else ())
    records = chat(row)
    if isinstance(records, str):
        return records
    for record in records:
        messages = record.get("messages") or []
        shown = "\n".join([str(message.get("content") or "") for message in messages])
        values = _values(name, team, date, "zh" if _HAN.search(shown) else "en")
        covered = frozenset(replace or ())
        for message in messages:
            for key in ("content", "reasoning_content"):
                if isinstance(message.get(key), str):
                    message[key] = _fill_row(message[key], values, literal, replace or {}, covered)
        record["kind"] = "identity"
    return records


def columns_read(columns: tuple[str, ...], options: Mapping[str, Any]) -> set[str]:
    """Return which of a row's columns `identity` reads: those that `chat` does."""
    from steel_data.builders import chat

    return chat.columns_read(columns, {})


def _fill_row(
    text: str,
    values: dict[str, str],
    literal: re.Pattern[str] | None,
    replace: dict[str, str],
    covered: frozenset[str],
) -> str:
    try:
        if literal is not None:
            return _fill(literal.sub(lambda found: replace[found.group()], text), values, covered)
        return _fill(text, values, covered)
    except _PlaceholderError as error:
        left, needed = error.args
        right = f'Fix: `{needed} = "…"`.' if needed else f'Fix: `replace = {{ "{left}" = "…" }}`.'
        raise InputError(f"identity template «{excerpt(text, 60)}»: placeholder {left} is left over. {right}") from None


class _PlaceholderError(Exception):
    """args: the placeholder, and the option that would fill it or ""."""


def _fill(text: str, values: Mapping[str, str], covered: frozenset[str]) -> str:
    """Fill the fields of `text` in one pass (a value that looks like a placeholder stays); complain of any other."""

    def value(found: re.Match[str]) -> str:
        whole = found.group()
        if whole in covered:
            return whole
        field = _FIELDS.get((found.group("field") or "").strip().casefold(), "")
        if field not in values:
            raise _PlaceholderError(whole, field)
        return values[field]

    return _PLACEHOLDER.sub(value, text)


def _values(name: Named, team: Named, date: str | None, language: str) -> dict[str, str]:
    values = {} if date is None else {"date": date}
    for field, given in (("name", name), ("team", team)):
        text = given if isinstance(given, str) else given.get(language, "")
        if not text.strip():
            where = f"build.{field}" if isinstance(given, str) else f"build.{field}.{language}"
            raise InputError(f'{where}: there is none. Fix: {where} = "…".')
        values[field] = text
    return values


@lru_cache(maxsize=8)
def _replacer(pairs: tuple[tuple[str, str], ...]) -> re.Pattern[str] | None:
    keys = sorted([key for key, _ in pairs], key=len, reverse=True)
    if "" in keys:
        raise InputError("build.replace: an empty text cannot be replaced. Fix: the text to look for.")
    return re.compile("|".join([re.escape(key) for key in keys])) if keys else None


@lru_cache(maxsize=2)
def _templates(language: str) -> list[dict[str, Any]]:
    text = files("steel_data.builders").joinpath(f"identity_{language}.json").read_bytes()
    templates: list[dict[str, Any]] = orjson.loads(text)
    return templates
