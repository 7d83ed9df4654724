"""What becomes of a source's columns that its builder does not read: a fault where they change what its rows mean.

The recipe settles such a column by mapping it (`columns`), by keeping it (`meta`) or by saying that it may go
(`ignore`). Here are the words for that; the counting is done row by row (steel_data/row/columns.py).
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from steel_data.builders import chat
from steel_data.errors import excerpt, nearest
from steel_data.recipe.steps import Builder
from steel_data.row.columns import Unread, meaning_of

Row = dict[str, Any]


def settled(builder: Builder, ignore: Collection[str]) -> set[str]:
    """Return the columns that may go, as the recipe says: by `ignore`, or by `chat`'s `columns = { word = "" }`."""
    columns = builder.options.get("columns") or {} if builder.use == "chat" else {}
    return {*ignore, *(str(chat.COLUMNS[word]) for word, name in columns.items() if name == "")}


def lost_meaning(unread: Mapping[str, Unread], settled: Collection[str], whole: bool) -> list[str]:
    """Return the columns that change what rows mean and were not read.

    whole: whether all rows of the source were looked at. Before that nobody knows that a column holds truths alone.
    """
    found = []
    for name, many in unread.items():
        meaning = meaning_of(name)
        if meaning is None or name in settled or not many.changes(meaning):
            continue
        if whole or meaning.when != "truth":
            found.append(name)
    return found


def fault(builder: Builder, lost: list[str], example: Callable[[str], Row | None]) -> str:
    """Return what is wrong with a source that loses columns, and the lines that mend it.

    `example` gives a row in which the column named holds something.
    """
    name = lost[0]
    meaning = meaning_of(name)
    assert meaning is not None
    others = ", ".join(f"'{excerpt(other, 40)}'" for other in lost[1:])
    mapped = _mapped(builder, lost, example)
    ways = [f"build = {mapped}"] if mapped else []
    if mapped and "kto_tag = " in mapped:
        ways[0] += " for the good answers alone"
        ways.append('the same with layout = "kto" for good and bad ones, each with its label')
    ways += [f"meta = {_toml(lost)} to keep what it says beside the row", f"ignore = {_toml(lost)} to let it go"]
    return (
        f"column '{excerpt(name, 40)}' holds {meaning.means}, and the builder '{builder.use}' does not read it"
        f"{f' (nor {others})' if others else ''}. Fix: {', '.join(ways[:-1])}, or {ways[-1]}."
    )


def idle(source: str, ignore: Collection[str], unread: Mapping[str, Unread]) -> list[str]:
    """Return a warning for each column of `ignore` that no row of the source has, or that its builder reads."""
    return [
        f"source '{source}': ignore names '{excerpt(name, 40)}', which no row holds unread."
        f"{nearest(name, unread, show_known=False)}"
        for name in ignore
        if name not in unread
    ]


def _mapped(builder: Builder, lost: list[str], example: Callable[[str], Row | None]) -> str | None:
    """Return the builder's table with which it reads what it can of the columns, tried on rows; None for nothing."""
    columns: dict[str, str] | None = None
    for name in lost:
        meaning = meaning_of(name)
        word = meaning.word.get(builder.use) if meaning is not None else None
        row = example(name) if word is not None else None
        if word is None or row is None:
            continue
        if builder.use == "exam":
            fields = f"question = …, options = …, answer = …, {word} = {_quoted(name)}"
            return f'{{ use = "exam", columns = {{ {fields} }} }}'
        options = builder.options if columns is None else {**builder.options, "columns": columns}
        columns = chat.mapping(row, options, word, name) or columns
    if columns is None:
        return None
    inside = ", ".join(f"{key} = {_quoted(column)}" for key, column in columns.items())
    return f'{{ use = "{builder.use}", columns = {{ {inside} }} }}'


def _toml(names: list[str]) -> str:
    return f"[{', '.join(map(_quoted, names))}]"


def _quoted(name: str) -> str:
    return '"' + excerpt(name, 60).replace('"', '\\"') + '"'
