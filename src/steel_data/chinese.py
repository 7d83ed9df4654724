"""Chinese beside English where people read: pages, verdicts and `--help`. Errors and logs stay English.

Code writes plain English sentences; here they are looked up, finished as they are, in chinese.toml, whose keys are the
English sentences with `{}` for what changes. So nothing that computes knows of a second language, and a sentence out of
an old manifest is translated like a new one. A sentence that is not there stays English.
"""

import os
import re
import sys
import tomllib
from collections.abc import Sequence
from functools import cache
from heapq import merge
from itertools import count
from pathlib import Path
from typing import Any

from steel_data.store.names import refuse_arguments

LANGUAGES = ("en", "zh")
_HAN = re.compile("[一-鿿]")


def language() -> str:
    """Return "zh" or "en": STEEL_LANG (which `--lang` sets), else the locale; C and all others are English."""
    for variable in ("STEEL_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if said := os.environ.get(variable):
            return "zh" if said.lower().startswith("zh") else "en"
    return "en"


def take_lang(arguments: list[str]) -> list[str]:
    """Take `--lang zh` out of a command line, wherever it stands, and set STEEL_LANG by it. Raises InputError."""
    from steel_data.errors import InputError, nearest

    left: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            return [*left, word, *rest]
        if word == "--lang" or word.startswith("--lang="):
            said = word.partition("=")[2] or next(rest, "")
            if said not in LANGUAGES:
                raise InputError(f"--lang {said}: no such language.{nearest(said, LANGUAGES)} Fix: --lang zh.")
            os.environ["STEEL_LANG"] = said
        else:
            left.append(word)
    return left


def run(app: Any, name: str | None = None) -> None:
    """Run a command line (a Typer) in the reader's language; `--lang` may stand anywhere in it."""
    sys.argv[1:] = take_lang(sys.argv[1:])
    refuse_arguments(sys.argv[1:])
    if language() == "en":
        app(prog_name=name)
        return
    from typer.main import get_command

    command = get_command(app)
    _translate(command)
    command(prog_name=name)


def _translate(command: Any) -> None:
    """Put the help of a command, its options and its own commands into the reader's language."""
    paragraphs = [say(" ".join(paragraph.split())) for paragraph in (command.help or "").split("\n\n")]
    command.help, command.short_help = "\n\n".join(paragraphs), paragraphs[0]
    command.epilog = say(command.epilog) if command.epilog else None
    # a Chinese character takes two cells and is counted as one
    command.context_settings = {**command.context_settings, "terminal_width": 60}
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = say(parameter.help)
    for its in getattr(command, "commands", {}).values():
        _translate(its)
    written = command.get_help
    command.get_help = lambda context: _heads(written(context))


def _heads(text: str) -> str:
    for head in ("Usage:", "Options:", "Commands:", "Arguments:"):
        text = re.sub(rf"^{head}", say(head), text, flags=re.M)
    for word in ("[required]", "Show this message and exit."):
        text = text.replace(word, say(word))
    return re.sub(r"\[default:\s+([^]]*)]", say("[default: {}]").replace("{}", r"\1"), text)


def say(text: str) -> str:
    """Return a sentence in the reader's language, English where it has no other form."""
    return (chinese(text) or text) if language() == "zh" else text


@cache
def catalogue() -> dict[str, str]:
    """Return English sentence -> Chinese one; `{}` stands for what changes, `{0}` and `{1}` where the order differs."""
    return {english: said for name, page in _pages().items() if name != "headings" for english, said in page.items()}


@cache
def _pages() -> dict[str, dict[str, str]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def heading(text: str) -> str:
    """Return the heading of a column or a word in a table as `say` does a sentence: no name that data or arms bear."""
    return (_pages()["headings"].get(text) or say(text)) if language() == "zh" else text


@cache
def chinese(text: str) -> str | None:
    """Return the Chinese form of a finished English sentence, None where the catalogue has none.

    What stands for `{}` is looked up in turn, so that sentences are made of sentences; a text of several sentences,
    or of a name and a sentence, is taken apart.
    """
    if not re.search("[A-Za-z]{2}", text):
        return None
    if text in catalogue() and "{}" not in text:
        return catalogue()[text]
    known, by_word = _patterns()
    for _, pattern, said in merge(by_word.get(text.partition(" ")[0], []), known, key=lambda one: -one[0]):
        if found := pattern.fullmatch(text):
            parts = [_part(part) for part in found.groups()]
            return closed(said, parts).format(*parts)
    return _in_parts(text)


def closed(said: str, values: Sequence[object]) -> str:
    """Return a Chinese sentence without the blanks that set a value off where the value is Chinese too: 的步数不同."""
    numbers = count()

    def place(found: re.Match[str]) -> str:
        before, number, after = (part or "" for part in found.groups())
        value = str(values[int(number) if number else next(numbers)])
        return f"{before * (not _HAN.match(value))}{{{number}}}{after * (not _HAN.match(value[-1:]))}"

    return re.sub(r"((?<=[一-鿿]) )?\{(\d*)\}( (?=[一-鿿]))?", place, said)


def _in_parts(text: str) -> str | None:
    """Look sentences up one by one, or without the full stop, or behind a name; None where nothing is known."""
    if text.endswith(".") and (said := chinese(text[:-1])):
        return said.rstrip("。") + "。"
    for border, between in ((r"(?<=[.]) ", ""), (r"; ", "；")):
        parts = re.split(border, text)
        if len(parts) > 1 and (found := [_part(part) for part in parts]) != parts:
            return between.join(found)
    name, colon, rest = text.partition(": ")
    if colon and (chinese(name) or chinese(rest)):
        return f"{_part(name)}：{_part(rest)}"
    first, comma, rest = text.partition(", ")
    if comma and (said := chinese(rest)) and (begun := chinese(first)):
        return f"{begun}，{said}"
    return None


def _part(text: str) -> str:
    """Return a part of a sentence in Chinese; of a run and what it was scored on, without "on"; else as it is."""
    return chinese(text) or re.sub(r"^(\S+(?: - \S+)?) on ([\w/.-]+)(?: (\(.*\)))?$", r"\1（\2）\3", text)


Patterns = list[tuple[int, re.Pattern[str], str]]  # letters that tell, the expression, the Chinese form
FEW = 12  # letters: a sentence of so few may begin with one word only, and none with another sentence or a name


@cache
def _patterns() -> tuple[Patterns, dict[str, Patterns]]:
    """Return the sentences that hold `{}` as expressions, the longest first; those that begin with a word by it."""
    known: Patterns = []
    by_word: dict[str, Patterns] = {}
    told = {english: len(english.replace("{}", "")) for english in catalogue() if "{}" in english}
    for english in sorted(told, key=lambda one: -told[one]):
        pattern = "(.*?)".join(map(re.escape, english.split("{}")))
        if english.startswith("{}"):
            pattern = pattern.replace("(.*?)", r"(\S*)" if told[english] < FEW else r"((?:(?![.:] ).)*?)", 1)
        first, blank, _ = english.partition(" ")
        mine = by_word.setdefault(first, []) if blank and "{}" not in first else known
        mine.append((told[english], re.compile(pattern, re.DOTALL), catalogue()[english]))
    return known, by_word
