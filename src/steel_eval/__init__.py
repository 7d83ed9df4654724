"""Score checkpoints, compare experiments, detect contamination. Imports steel_data and steel_train.

What is of use beside the commands is handed on here, imported when first asked for: `score` and `compare` do what the
commands do and return rows; `extract` reads the letter out of a written answer; `dose_response` and `clean_score` are
the statistics of an experiment with randomised doses. `import steel_eval.harness` registers the model class `steel`
with lm-eval.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steel_eval.from_python import compare, score
    from steel_eval.score.answers import extract
    from steel_eval.stats.clean import clean_score
    from steel_eval.stats.effects import dose_response

__all__ = ["clean_score", "compare", "dose_response", "extract", "score"]
_HOMES = {
    "extract": "steel_eval.score.answers", "clean_score": "steel_eval.stats.clean",
    "dose_response": "steel_eval.stats.effects", "score": "steel_eval.from_python", "compare": "steel_eval.from_python",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_HOMES[name]), name)
    return globals()[name]


class _Face(ModuleType):
    """Keeps `score` and `compare` the functions: Python sets a package's attribute to each room when it is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in ("score", "compare") or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
