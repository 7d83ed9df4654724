"""Make training mixtures from recipes, and account for every row. Never imports torch.

From Python a mixture takes three functions; everything else has its room below this folder:

    from steel_data import build, load, open_mixture
    result = build(load("recipes/exp3.toml"), data_root=Path("data"))
    mixture = open_mixture(result.folder)

They are imported when first asked for: `import steel_data` and `--help` must not wait for polars.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steel_data.build import build
    from steel_data.opened import open_mixture
    from steel_data.recipe import load

__all__ = ["build", "load", "open_mixture"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "build":
        home = import_module("steel_data.build")
        # `import steel_data.build as b` gives this very function, and b.build and b.Result are to be found on it
        home.build.__dict__.update(build=home.build, Result=home.Result)
        globals()[name] = home.build
    elif name == "load":
        globals()[name] = import_module("steel_data.recipe").load
    elif name == "open_mixture":
        globals()[name] = import_module("steel_data.opened").open_mixture
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]


class _Face(ModuleType):
    """Keeps `build` the function: Python sets a package's attribute to each submodule when it is first imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "build" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
