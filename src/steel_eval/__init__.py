"""Score checkpoints, compare experiments, detect contamination. Imports steel_data and steel_train.

What is of use beside the commands is handed on here, imported when first asked for: `extract` reads the letter out of a
written answer; `dose_response` and `clean_score` are the statistics of an experiment with randomised doses.
`import steel_eval.harness` registers the model class `steel` with lm-eval.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steel_eval.score.answers import extract
    from steel_eval.stats.clean import clean_score
    from steel_eval.stats.effects import dose_response

__all__ = ["clean_score", "dose_response", "extract"]
_HOMES = {
    "extract": "steel_eval.score.answers", "clean_score": "steel_eval.stats.clean",
    "dose_response": "steel_eval.stats.effects",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_HOMES[name]), name)
    return globals()[name]
