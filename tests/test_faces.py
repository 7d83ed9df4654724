"""The faces of the packages: what is meant to be used is handed on, in any order of imports, and costs nothing before."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import steel_eval

SRC = Path(__file__).parents[1] / "src"

# Every order of these statements, each in a world in which nothing of ours was imported yet. What others have
# brought (polars) stays, so that all worlds together take a second.
ORDERS = """
import itertools, sys, types
import {first}
def world(statements):
    for name in [m for m in sys.modules if m.split(".")[0] in ("steel_data", "steel_train")]:
        del sys.modules[name]
    names = {{}}
    for statement in statements:
        exec(statement, names)
    exec({check!r}, names)
for statements in itertools.permutations({statements!r}):
    world(statements)
"""


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SRC, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_build_is_the_function_in_any_order():
    """Importing steel_data.build sets the package's attribute of that name to the module, unless the face forbids it."""
    check = """
import types, steel_data
assert isinstance(build, types.FunctionType) and build is here is steel_data.build is whole, (build, here)
assert steel_data.build.Result is Result is whole.Result and steel_data.build.build is build
assert isinstance(load, types.FunctionType) and load is there
assert isinstance(open_mixture, types.FunctionType) and open_mixture is opened
"""
    statements = (
        "from steel_data import build, load; from steel_data.recipe import load as there",
        "from steel_data import open_mixture; from steel_data.opened import open_mixture as opened",
        "from steel_data.build import Result, build as here",
        "import steel_data.build as whole",
    )
    python(ORDERS.format(first="steel_data.build", check=check, statements=statements))


def test_run_is_the_function_in_any_order():
    check = """
import types, steel_train
assert isinstance(run, types.FunctionType) and run is here is steel_train.run is whole
"""
    statements = (
        "from steel_train import run",
        "from steel_train.run import run as here",
        "import steel_train.run as whole",
    )
    python(ORDERS.format(first="steel_train.run", check=check, statements=statements))


def test_a_face_imports_nothing_heavy():
    code = "import sys, steel_data, steel_train, steel_eval; print({'polars', 'numpy', 'torch', 'typer'} & set(sys.modules))"
    assert python(code) == "set()\n"


def test_extract_is_handed_on_with_its_signature():
    assert str(inspect.signature(steel_eval.extract)).startswith(
        "(text: str, options: collections.abc.Sequence[str] = (), finished: bool = True, n_options: int = 4)"
    )
    assert steel_eval.extract("故选E", n_options=5).letter == "E"
    assert steel_eval.extract("不知道").letter is None


@pytest.mark.parametrize("package", ["steel_data", "steel_train", "steel_eval"])
def test_what_a_face_promises_is_there_and_typed(package):
    face = __import__(package)
    assert all(callable(getattr(face, name)) for name in face.__all__)
    assert set(face.__all__) <= {*dir(face)}
    assert (SRC / package / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = face.nothing
