"""Train on a mixture: TRL, with our kernels and a pre-flight. Imports steel_data, never steel_eval.

From Python, `from steel_train import run` trains a recipe as `python -m steel_train run` does. It is imported when
first asked for: `--help` must not wait for torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steel_train.run import run

__all__ = ["run"]


def __getattr__(name: str) -> object:
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = import_module("steel_train.run").run
    function.__dict__.update(run=function)  # `import steel_train.run as r` gives the function, and r.run is to be found
    globals()[name] = function
    return function


class _Face(ModuleType):
    """Keeps `run` the function: Python sets a package's attribute to each submodule when it is first imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "run" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
