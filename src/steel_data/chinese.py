"""Chinese beside English where people read: pages, verdicts and `--help`. Errors and logs stay English.

Code writes plain English sentences; here they are looked up, finished as they are, in chinese.toml, whose keys are the
English sentences with `{}` for what changes. So nothing that computes knows of a second language, and a sentence out of
an old manifest is translated like a new one. A sentence that is not there stays English.
"""

import os
import re
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "zh")


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


def say(text: str) -> str:
    """Return a sentence in the reader's language, English where it has no other form."""
    return (chinese(text) or text) if language() == "zh" else text


@cache
def catalogue() -> dict[str, str]:
    """Return English sentence -> Chinese one; `{}` stands for what changes, `{0}` and `{1}` where the order differs."""
    pages = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {english: said for page in pages.values() for english, said in page.items()}


@cache
def chinese(text: str) -> str | None:
    """Return the Chinese form of a finished English sentence, None where the catalogue has none.

    What stands for `{}` is looked up in turn, so that sentences are made of sentences.
    """
    if not re.search("[A-Za-z]{2}", text):
        return None
    if text in catalogue() and "{}" not in text:
        return catalogue()[text]
    known, by_word = _patterns()
    for pattern, said in (*by_word.get(text.partition(" ")[0], ()), *known):
        if found := pattern.fullmatch(text):
            return said.format(*(chinese(part) or part for part in found.groups()))
    return None


Patterns = list[tuple[re.Pattern[str], str]]


@cache
def _patterns() -> tuple[Patterns, dict[str, Patterns]]:
    """Return the sentences that hold `{}` as expressions, the longest first; those that begin with a word by it."""
    known: Patterns = []
    by_word: dict[str, Patterns] = {}
    for english, said in sorted(catalogue().items(), key=lambda pair: -len(pair[0].replace("{}", ""))):
        if "{}" not in english:
            continue
        pattern = re.compile("(.+?)".join(map(re.escape, english.split("{}"))), re.DOTALL)
        first, blank, _ = english.partition(" ")
        if blank and "{}" not in first:
            by_word.setdefault(first, []).append((pattern, said))
        else:
            known.append((pattern, said))
    return known, by_word


def missing(sentences: Iterable[str]) -> list[str]:
    """Return those of some English sentences (`{}` for what changes) that have no Chinese form."""
    return sorted({text for text in sentences if text not in catalogue()})
