"""Tasks scored on a model that is in memory and goes on being trained: `[train.eval] tasks` of a recipe.

The numbers are those of `score` with the preset lm-eval on a checkpoint of the same step: the same prompts, tokens and
passes. Nothing is stored, and no text is written: likelihoods of the options only. What is asked for is said by
steel_train/tasks.py, which finds this module by its name.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_data.errors import InputError
from steel_data.files import address
from steel_eval.ask.encode import Tokenised, Unit, make_units
from steel_eval.ask.tasks import Task, limited, load_task
from steel_eval.score.likelihood import Sharing, prefix_sharing, score_plan
from steel_eval.score.results import likelihood_answers, plain_numbers
from steel_train.examples.tokenizer import pinned

PRESET = "lm-eval"


class TasksRead:
    """Tasks of which the questions are read. `names`: in the order of the scores."""

    def __init__(self, tasks: Sequence[Task], shots: int) -> None:
        self.names = [task.name for task in tasks]
        self.units = [unit for task in tasks for unit in make_units(task, PRESET, shots)]
        self.sha256 = address([task.data_sha256 for task in tasks])

    def scorer(self, tokenizer: Any, max_length: int) -> "InMemory":
        """Return the tasks as prompts in tokens. Raises InputError where the tokenizer cannot tell letters apart."""
        fixed = copy.deepcopy(tokenizer)
        if fixed.chat_template:
            fixed.chat_template = pinned(fixed.chat_template)
        return InMemory(self.names, self.units, Tokenised(fixed, max_length))


class InMemory:
    """Scores a model on units. `tokens`: what goes through the model for it, where prefixes can be shared."""

    def __init__(self, names: Sequence[str], units: Sequence[Unit], tokenised: Tokenised) -> None:
        self.names, self.units, self.tokenised = names, units, tokenised
        self.tokens = sum(tokenised.get(unit).plan.forwarded_tokens for unit in units)
        self._sharing: Sharing | None = None

    def __call__(self, model: Any, process: int, processes: int) -> NDArray[np.float64]:
        """Return for each task the sums over its questions of 1, right and gold probability, (tasks, 3).

        Of every `processes` units one, beginning with number `process`.
        """
        if self._sharing is None:
            self._sharing = prefix_sharing(model)
        sums = np.zeros((len(self.names), 3))
        for unit in self.units[process::processes]:
            encoding = self.tokenised.get(unit)
            found = score_plan(model, encoding.plan, encoding.encoded.requests, self._sharing)
            logprob = [plain_numbers(found.logprob[a:b]) for a, b in pairwise(encoding.encoded.first)]
            answers = likelihood_answers(unit, {"logprob": logprob})
            right = (answers["prediction"] == answers["label"]).sum()
            sums[self.names.index(unit.task.name)] += len(answers), right, answers["gold_probability"].sum()
        return sums


def read_tasks(names: Sequence[str], data: Path, shots: int, limit: int | None) -> TasksRead:
    """Read tasks from `data`; of each subject `limit` questions at most. Raises InputError, for a test split too."""
    tasks = []
    for name in names:
        task = load_task(name, data)
        if task.split == "test":
            stem = name.partition("/")[0].removesuffix("-test")
            raise InputError(
                f"{name} is a test split, and who looks at it while training chooses by it. "
                f"Fix: {stem}-val or {stem}-dev."
            )
        tasks.append(limited(task, limit))
    return TasksRead(tasks, shots)
