"""Units of work: one subject under one preset, as prompts, tokens and plan;

made once per tokenizer, used for every checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from steel_data.benchmarks import LETTERS
from steel_eval.encode import Encoded, encode_prompts
from steel_eval.fingerprint import prompt_fingerprint, tokenizer_fingerprint
from steel_eval.plan import Plan, make_plan
from steel_eval.prompts import Preset, Prompt, build_prompts, load_preset
from steel_eval.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Unit:
    """One subject of a task. `rotation` r shows the options shifted by r places (0: as published)."""

    task: Task
    subject: str
    preset: Preset
    prompts: list[Prompt]
    rotation: int = 0


@dataclass(frozen=True)
class Encoding:
    """A unit in tokens, with the plan of its passes."""

    encoded: Encoded
    plan: Plan


def make_units(task: Task, preset_name: str, shots: int) -> list[Unit]:
    """Return the units of a task. `shots` worked examples at most: the first of the development split, as published."""
    preset = load_preset(preset_name, task.benchmark)
    return [
        Unit(task, s, preset, build_prompts(preset, task.benchmark, s, items, task.examples.get(s, [])[:shots]))
        for s, items in task.items.items()
    ]


@dataclass
class Tokenised:
    """Units in tokens for one tokenizer and context length, made on first use and kept for further checkpoints."""

    tokenizer: "PreTrainedTokenizerBase"
    max_length: int
    fingerprint: str = ""
    _made: dict[tuple[str, str, str, int, int], Encoding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fingerprint = tokenizer_fingerprint(self.tokenizer)

    def get(self, unit: Unit) -> Encoding:
        """Return a unit's tokens and plan."""
        shots = max((len(p.shots) for p in unit.prompts), default=0)
        key = (unit.task.name, unit.subject, prompt_fingerprint(unit.preset, shots), unit.rotation, id(unit.task))
        if key not in self._made:
            encoded = encode_prompts(self.tokenizer, unit.preset, unit.prompts, self.max_length)
            self._made[key] = Encoding(encoded, make_plan(encoded.requests))
        return self._made[key]


def labels(unit: Unit) -> list[str]:
    """Return the gold letters, empty where the answers are not published (even if the file holds some key)."""
    return [p.item.answer if unit.task.published else "" for p in unit.prompts]


def gold_index(letters: Sequence[str]) -> list[int]:
    """Return the option's number of each letter, -1 for an empty one."""
    return [LETTERS.index(letter) if letter else -1 for letter in letters]
