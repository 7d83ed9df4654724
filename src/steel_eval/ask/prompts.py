"""Prompts of the published protocols, byte for byte, from the presets in presets.toml.

The same question asked as `…答案：` + ` A` and as `…答案：` + `A` are two different tests: the letters are different
tokens. That is why a preset is data with a name, and why scores carry that name.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from steel_data.benchmarks.items import LETTERS, Item
from steel_data.errors import InputError, nearest

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Preset:
    """One protocol for one benchmark; presets.toml explains the fields."""

    name: str
    kind: Literal["likelihood", "generation"]
    header: str
    item: str
    option: str
    shot: str
    overflow: Literal["truncate-left", "drop-longest-shot"]
    shot_item: str = ""
    after_shots: str = ""
    continuation: str = ""
    chat: bool = False
    cloze: bool = False
    strip: bool = False
    replace: tuple[tuple[str, str], ...] = ()
    order: str = ""
    max_new_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question, ready to send. `shots` are (question, answer) pairs; `continuations` is empty for generation."""

    item: Item
    header: str
    shots: tuple[tuple[str, str], ...]
    after_shots: str
    question: str
    continuations: tuple[str, ...]
    chat: bool

    def text(self) -> str:
        """Return the prompt of a preset without chat template."""
        examples = "".join(question + answer for question, answer in self.shots)
        return self.header + examples + (self.after_shots if self.shots else "") + self.question

    def messages(self) -> list[Message]:
        """Return the prompt as turns: system (where there is a header), examples, question."""
        turns: list[Message] = [{"role": "system", "content": self.header}] if self.header else []
        for question, answer in self.shots:
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*turns, {"role": "user", "content": self.question}]

    def without_longest_shot(self) -> "Prompt":
        """Return the prompt without its longest example (of equal ones the first)."""
        longest = max(range(len(self.shots)), key=lambda i: len(self.shots[i][0] + self.shots[i][1]))
        return replace(self, shots=self.shots[:longest] + self.shots[longest + 1 :])


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))


@cache
def subject_table() -> dict[str, dict[str, dict[str, Any]]]:
    """Return benchmark -> subject -> {name, groups}, as published."""
    return tomllib.loads(Path(__file__).with_name("subjects.toml").read_text(encoding="utf-8"))


def preset_names() -> list[str]:
    """Return the names of all presets, in the order of presets.toml."""
    return list(_tables())


def known_presets(names: Sequence[str]) -> Sequence[str]:
    """Return the names of presets. Raises InputError for one that does not exist."""
    for name in names:
        if name not in _tables():
            raise InputError(f"--preset {name}: no such preset.{nearest(name, _tables())}")
    return names


def check_switches(names: Sequence[str], template: bool, new_tokens: bool) -> None:
    """Raise InputError for a switch that none of the presets would heed: of the chat template, or of the writing."""
    tables = [_tables()[name] for name in names]
    listed = ", ".join(names)
    if template and not any(table.get("chat") for table in tables):
        raise InputError(
            f"--preset {listed}: sends no turns, so nothing in a chat template can be switched. Fix: steel, "
            "steel-likelihood or another preset of chat."
        )
    if new_tokens and not any(table["kind"] == "generation" for table in tables):
        raise InputError(f"--max-new-tokens: nothing is written under --preset {listed}. Fix: steel or another.")


def load_preset(name: str, benchmark: str) -> Preset:
    """Return a preset as it is for one benchmark (`cmmlu`, `ceval`, `mmlu`; others get the preset's own wording)."""
    known_presets([name])
    table = _tables()[name]
    fields = {k: v for k, v in table.items() if not isinstance(v, dict)} | table.get(benchmark, {})
    fields["replace"] = tuple((old, new) for old, new in fields.get("replace", ()))
    return Preset(name=name, **fields)


def subject_name(benchmark: str, subject: str) -> str:
    """Return the name of a subject as it stands in prompts (`农学` for agronomy), unknown ones without underscores."""
    return str(subject_table().get(benchmark, {}).get(subject, {}).get("name", subject.replace("_", " ")))


def build_prompts(
    preset: Preset, benchmark: str, subject: str, items: Sequence[Item], examples: Sequence[Item]
) -> list[Prompt]:
    """Return one prompt an item; `examples` are the worked questions, in order."""
    name = subject_name(benchmark, subject)
    shots = tuple(
        (
            _render(preset, preset.shot_item or preset.item, example, name),
            _fill(preset.shot, _fields(preset, example, name)),
        )
        for example in examples
    )
    return [
        Prompt(
            item=item,
            header=_fill(preset.header, {"subject": name}),
            shots=shots,
            after_shots=preset.after_shots,
            question=_render(preset, preset.item, item, name),
            continuations=_continuations(preset, item),
            chat=preset.chat,
        )
        for item in items
    ]


def _render(preset: Preset, template: str, item: Item, subject: str) -> str:
    text = _fill(template, _fields(preset, item, subject))
    for old, new in preset.replace:
        text = text.replace(old, new)
    return text


def _fields(preset: Preset, item: Item, subject: str) -> dict[str, str]:
    options = "".join(
        _fill(preset.option, {"letter": letter, "text": text})
        for letter, text in zip(LETTERS, item.options, strict=False)
    )
    known = item.answer in LETTERS[: len(item.options)] and item.answer != ""
    return {
        "subject": subject,
        "question": item.question.strip() if preset.strip else item.question,
        "options": options,
        "answer": item.answer,
        "text": item.options[LETTERS.index(item.answer)] if known else "",
        "explanation": item.explanation,
    }


def _continuations(preset: Preset, item: Item) -> tuple[str, ...]:
    if preset.kind == "generation":
        return ()
    pairs = zip(LETTERS, item.options, strict=False)
    return tuple(_fill(preset.continuation, {"letter": letter, "text": text}) for letter, text in pairs)


def _fill(template: str, fields: Mapping[str, str]) -> str:
    # str.format reads the template only: braces in the data pass through as they are
    return template.format_map(fields)
