"""The house rules that a test can hold: sizes, names, the direction of imports, a fast `--help`.

A limit is a guide: what rightly exceeds it stands below with its reason. An exception that is no longer needed fails too.
"""

import ast
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
MODULES = sorted(SRC.rglob("*.py"))
FILE_LINES, FUNCTION_LINES, PARAMETERS = 300, 50, 6

# src path -> reason
LONG_FILES: dict[str, str] = {}
# src path:function -> reason
LONG_FUNCTIONS: dict[str, str] = {
    "steel_train/kernels/head_tiles.py:project_fold_kernel": "one fused loop; the formulas are in its comments",
}
MANY_PARAMETERS = {
    "steel_data/builders/contaminate.py:contaminate": "each is a key of the recipe's build table",
    "steel_eval/generate.py:generate_unit": "the unit, the four things it is answered with, and two choices",
}

PACKAGES = ("steel_data", "steel_train", "steel_eval")  # each may import those before it
HEAVY = {"torch", "transformers", "trl", "datasets", "peft", "accelerate", "lm_eval", "scipy"}
# import name -> distribution, where they differ
DISTRIBUTIONS = {"fasttext": "fasttext-community", "huggingface_hub": "huggingface-hub"}


def name_of(path):
    return path.relative_to(SRC).as_posix()


def functions(path):
    """Yield (key, lines, parameters) of every function of a module; the last is 0 for commands of a CLI and for
    Triton kernels, which take one argument a pointer and a size."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        exempt = any(re.search(r"command|\bjit\b", ast.unparse(decorator)) for decorator in node.decorator_list)
        count = 0 if exempt else len([a for a in arguments if a not in ("self", "cls")])
        yield f"{name_of(path)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1, count


def imports(path):
    """Return the top-level names that a module imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_modules_were_found():
    assert len(MODULES) > 50


def test_files_are_short():
    long = {name_of(p): n for p in MODULES if (n := p.read_text(encoding="utf-8").count("\n")) > FILE_LINES}
    assert {name: n for name, n in long.items() if name not in LONG_FILES} == {}
    assert set(LONG_FILES) - set(long) == set(), "no longer needed"


def test_functions_are_short():
    long = {key: n for p in MODULES for key, n, _ in functions(p) if n > FUNCTION_LINES}
    assert {key: n for key, n in long.items() if key not in LONG_FUNCTIONS} == {}
    assert set(LONG_FUNCTIONS) - set(long) == set(), "no longer needed"


def test_functions_have_few_parameters():
    many = {key: n for p in MODULES for key, _, n in functions(p) if n > PARAMETERS}
    assert {key: n for key, n in many.items() if key not in MANY_PARAMETERS} == {}
    assert set(MANY_PARAMETERS) - set(many) == set(), "no longer needed"


def test_no_drawer_for_odds_and_ends():
    names = {p.stem for p in (*MODULES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/**/*.py"))}
    assert {n for n in names if re.search(r"(^|_)(utils?|common|base|helpers?|misc)($|_)", n)} == set()


def test_imports_point_one_way():
    for i, package in enumerate(PACKAGES):
        for path in (SRC / package).rglob("*.py"):
            assert imports(path) & set(PACKAGES[i + 1 :]) == set(), name_of(path)


def test_steel_data_needs_the_base_install_alone():
    """No torch anywhere in it, and nothing that pyproject.toml does not promise."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = {re.split(r"[<>=~!;\[ ]", line)[0] for line in project["dependencies"]}
    promised |= {"modelscope"}  # an extra, asked for by name where it is missing
    for path in (SRC / "steel_data").rglob("*.py"):
        foreign = imports(path) - set(sys.stdlib_module_names) - {"steel_data"}
        assert {DISTRIBUTIONS.get(name, name) for name in foreign} - promised == set(), name_of(path)
        assert foreign & HEAVY == set(), name_of(path)


def seconds():
    """Return the CPU seconds of finished children; the clock where the system does not say."""
    used = os.times()
    return used.children_user + used.children_system if os.name == "posix" else time.perf_counter()


def commands():
    return [package for package in PACKAGES if (SRC / package / "__main__.py").is_file()]


@pytest.mark.parametrize("package", commands())
def test_help_is_quick_and_imports_nothing_heavy(package):
    """0.3 s is what a person does not notice. CPU seconds, and the best of five: other programs may be busy."""
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('{package}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'torch', 'transformers', 'polars', 'numpy', 'pyarrow', 'trl'} & set(sys.modules)))"
    )
    taken = []
    for _ in range(5):
        before = seconds()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SRC, encoding="utf-8"
        )
        taken.append(seconds() - before)
        if taken[-1] < 0.3:
            break
    assert "Usage" in done.stdout
    assert done.stdout.rstrip().endswith("heavy: []")
    assert min(taken) < 0.3
