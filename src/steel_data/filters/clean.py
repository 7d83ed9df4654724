"""Edits the text of a row where a fault can be put right: entities of HTML, residue of a template, blanks.

| edit | what it does |
| --- | --- |
| `entities` | `&lt;` becomes `<`, `&#39;` `'`, `&nbsp;` a blank, in rows that are not about HTML |
| `residue` | what a chat template left at the end of a turn goes: `<\\|im_end\\|>`, `</s>`, `### Response:` |
| `whitespace` | line breaks become `\\n`, at most two in a row; blanks of other widths become plain ones |
| | blanks at the end of lines and around a turn go (not the indentation of its lines), so do U+200B and U+FEFF |

Code fences, passages in back ticks, tool calls and what a tool said stay as they are. A row in which something changed
has a new id and is counted as a note (`clean:entities`); a row that is left without text is dropped (`clean:empty`).
Steps after it see the new text: `[{ use = "clean" }, { use = "quality" }]` drops what could not be put right.
"""

import html
import re
from collections.abc import Callable
from functools import partial

from steel_data.filters.quality import ABOUT_HTML, ABOUT_TOKENS, CODE, ENTITY, prose, residue, trailing
from steel_data.row.record import FORMS, Message, Record, form_of

# At the end of a text: the line that hands over to the next speaker.
_ENDS = (">", "]")
_HANDOVER = re.compile(r"\n\s{0,4}(?:#{2,3} ?(?:Response|Instruction|Human|Assistant)|Human|Assistant) ?[:：]\s*\Z")
_LINE_BREAK = re.compile("\r\n?|[\u2028\u2029]")
_FIRST_LINES = re.compile(r"\A(?:[ \t\u3000]*\n)+")  # the blanks before the first line with text are its indentation
_NO_WIDTH = re.compile("[\u200b\ufeff]")
_WIDE = re.compile("[\xa0\u2000-\u200a\u202f\u205f]")
_LINE_END = re.compile(r"(?<![ \t\u3000])[ \t\u3000]++(?=\n)")
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(record: Record, *, entities: bool = True, residue: bool = True, whitespace: bool = True) -> Record | str:
    """Return the record with its text cleaned, or the reason why nothing is left of it.

    entities: unescape entities of HTML (`&lt;`, `&nbsp;`, `&#39;`).
    residue: remove what a chat template left at the end of a turn.
    whitespace: one kind of line break and blank, none at the end of a line or around a turn.
    """
    parts = FORMS[form_of(record)]
    text = "\n".join(text for part in parts for message in record[part] for text in _texts(message))
    edits: dict[str, Callable[[str], str]] = {}
    if entities and ENTITY.search(text) and not ABOUT_HTML.search(prose(text)):
        edits["clean:entities"] = _without_entities
    if residue:
        edits["clean:residue"] = partial(_without_residue, whole=text)
    if whitespace:
        edits["clean:whitespace"] = _with_plain_blanks
    changed: set[str] = set()
    edited: Record = {**record, **{part: [_edited(m, edits, changed) for m in record[part]] for part in parts}}
    if not changed:
        return record
    for part in parts:
        for message in edited[part]:
            spoken = message["content"].strip() or message.get("tool_calls")
            if message["role"] in ("user", "assistant") and not spoken:
                return "clean:empty"
    return {**edited, "note": ",".join(name for name in edits if name in changed)}


def _texts(message: Message) -> list[str]:
    """Return what is said in a message, but for what a tool said."""
    texts = (message.get("reasoning_content"), message["content"]) if message["role"] != "tool" else ()
    return [text for text in texts if text]


def _edited(message: Message, edits: dict[str, Callable[[str], str]], changed: set[str]) -> Message:
    """Return a message after all edits; `changed` gains the names of those that changed something."""
    if message["role"] == "tool":
        return message
    edited = dict(message)
    for key in ("reasoning_content", "content"):
        for name, edit in edits.items():
            text = edited.get(key)
            if text and (now := edit(text)) != text:
                edited[key] = now
                changed.add(name)
    return edited


def _outside_code(text: str, edit: Callable[[str], str]) -> str:
    pieces, end = [], 0
    for match in CODE.finditer(text):
        pieces += [edit(text[end : match.start()]), match.group()]
        end = match.end()
    return "".join([*pieces, edit(text[end:])])


def _without_entities(text: str) -> str:
    return _outside_code(text, lambda part: ENTITY.sub(_character, part))


def _character(match: re.Match[str]) -> str:
    return html.unescape(match.group()).replace("\xa0", " ")


def _without_residue(text: str, whole: str) -> str:
    """Return a turn without its residue. Where the row (`whole`) speaks of tokens, only after the end of a sentence."""
    if text.rstrip().endswith(_ENDS):
        at = trailing(text) if ABOUT_TOKENS.search(whole) else min((m.start() for m in residue(text)), default=None)
        text = text[:at]
    return _HANDOVER.sub("", text)


def _with_plain_blanks(text: str) -> str:
    text = _outside_code(text, _plain).rstrip()
    return _FIRST_LINES.sub("", text) if "\n" in text else text.lstrip()


def _plain(text: str) -> str:
    text = _WIDE.sub(" ", _NO_WIDTH.sub("", _LINE_BREAK.sub("\n", text)))
    return _BLANK_LINES.sub("\n\n", _LINE_END.sub("", text))
