"""Tasks that are scored while a run trains (apart: the one thing that steel_train asks of a floor above it).

steel_train knows nothing of questions and answers. A recipe that names tasks is served by `SCORER`, which is looked up
by name when it is asked for, as a builder or filter of one's own is, and need only be what the two protocols say.
"""

import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from steel_data.errors import InputError
from steel_train.settings import Eval

SCORER = "steel_eval.score.in_memory:read_tasks"
# what is summed over the questions of a task: one a question, right ones, the gold answer's share of the probability
SUMS = ("n", "accuracy", "gold_probability")


class Scorer(Protocol):
    """Scores one model in memory. `tokens`: what one look sends through the model."""

    tokens: int

    def __call__(self, model: Any, process: int, processes: int) -> npt.NDArray[np.float64]:
        """Return SUMS (tasks, 3) over this process's share of the questions. The model's weights stay as they are."""


class Tasks(Protocol):
    """Tasks that were read. `names`: in the order of the scores."""

    names: list[str]

    def scorer(self, tokenizer: Any, max_length: int) -> Scorer:
        """Return the tasks as prompts of this tokenizer, for a model of `max_length` positions. Raises InputError."""


def read_tasks(rule: Eval, data: Path, where: str) -> Tasks:
    """Read the tasks that `[train.eval]` names, under `data`.

    Raises InputError, its line beginning with `where`, for what is not there, and for a test split: who looks at a test
    while training chooses by it, and its score is none any more.
    """
    module, _, name = SCORER.partition(":")
    try:
        read = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise InputError(
            f'{where}: tasks are scored by steel_eval, which is not here: {error}. Fix: pip install "steel-lab[eval]".'
        ) from None
    try:
        found: Tasks = read(rule.tasks, data, rule.shots, rule.limit)
    except InputError as error:
        raise InputError(f"{where}: tasks: {error}") from None
    return found
