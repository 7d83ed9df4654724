"""The rules that hold the house: rooms in order, no circles, sizes that can be surveyed, names, a fast `--help`."""

import ast
import functools
import os
import re
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
MODULES = sorted(SRC.rglob("*.py"))
FOLDER_MODULES, MODULE_LINES, PARAMETERS = 13, 500, 6
SHORT, LONG = 60, 100  # lines: below the one a module says why it stands alone, from the other on it has a test file

# The rooms of each package, floor by floor: a room imports rooms of lower floors only. README prints the same tree.
FLOORS = {
    "steel_data": (
        "errors", "store", "files engine chinese shapes", "row", "recipe", "read", "benchmarks mixture page sample", "builders filters card", "selection", "passes",
        "build analyze explain fetch cluster", "parts print opened", "cli",
    ),
    "steel_train": (
        "settings say kernels", "tasks models", "examples", "schedule", "preflight", "loop", "run", "cli",
    ),
    "steel_eval": (
        "stats trainers tokenizer", "models jobs", "ask contamination", "score", "harness compare leak", "run report arms rate", "study mix audit from_python", "trial", "cli",
    ),
    "steel": ("environment", "init chat export push ui", "cli"),
}  # fmt: skip
# src path:function -> reason
MANY_PARAMETERS = {"steel_data/builders/contaminate.py:contaminate": "each is a key of the recipe's build table"}

# files of others, which our comments name
FOREIGN = {
    "convert_hf_to_gguf.py",
    "my_filters.py",
    "data/converter.py",
    "data/formatter.py",
    "data/parser.py",
    "src/llamafactory/data/parser.py",
}
PACKAGES = ("steel_data", "steel_train", "steel_eval", "steel")  # each may import those before it
HEAVY = {"torch", "transformers", "trl", "datasets", "peft", "accelerate", "lm_eval", "scipy"}
# import name -> distribution, where they differ
DISTRIBUTIONS = {"fasttext": "fasttext-community", "huggingface_hub": "huggingface-hub", "tomli_w": "tomli-w"}


def name_of(path):
    return path.relative_to(SRC).as_posix()


def module_of(path):
    """Return the dotted name of a module; a package's `__init__` bears the package's."""
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def room_of(module):
    """Return package and room of a module, and (package, "") for a package's own face."""
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def lines(path):
    return path.read_text(encoding="utf-8").count("\n")


def run_imports(path):
    """Return the import statements of a module, inside functions too, but for those that only a type checker reads."""
    skipped = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped |= {id(n) for n in ast.walk(node)}
    return [n for n in ast.walk(tree(path)) if isinstance(n, ast.Import | ast.ImportFrom) and id(n) not in skipped]


def ours(path, names):
    """Return the modules of ours (`names`) that a module imports."""
    found = set()
    for node in run_imports(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= full if full <= names else full | {node.module}
    return found & names - {module_of(path)}


def imports(path):
    """Return the top-level names that a module imports anywhere, for the type checker too."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_modules_were_found():
    assert len(MODULES) > 50


def test_every_module_stands_in_a_room():
    rooms = {(package, room) for package, floors in FLOORS.items() for floor in floors for room in floor.split()}
    found = {room_of(module_of(path)) for path in MODULES}
    assert {place for place in found if place[1] not in ("", "__main__")} == rooms


def test_a_room_imports_lower_rooms_only():
    floor = {(p, room): n for p, floors in FLOORS.items() for n, rooms in enumerate(floors) for room in rooms.split()}
    names = {module_of(path) for path in MODULES}
    upward = []
    for path in MODULES:
        here = room_of(module_of(path))
        for module in ours(path, names):
            there = room_of(module)
            if there == here or there[0] != here[0] or here[1] in ("", "__main__") or there[1] == "":
                continue
            if floor[there] >= floor[here]:
                upward.append(f"{module_of(path)} -> {module}")
    assert upward == []


def test_no_circle_between_files():
    names = {module_of(path) for path in MODULES}
    graph = {module_of(path): ours(path, names) for path in MODULES}
    TopologicalSorter(graph).prepare()  # a CycleError names the modules


def test_folders_and_modules_can_be_surveyed():
    folders = {path.parent for path in MODULES}
    wide = {f.relative_to(SRC).as_posix(): n for f in folders if (n := len({*f.glob("[!_]*.py")})) > FOLDER_MODULES}
    long = {name_of(p): n for p in MODULES if (n := lines(p)) > MODULE_LINES}
    assert (wide, long) == ({}, {})


def functions(path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters(function):
    arguments = function.args
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def test_functions_take_what_can_be_told_apart():
    """At most six parameters. Not counted: commands, whose parameters are options, and Triton's kernels (pointers)."""
    many = {
        f"{name_of(path)}:{function.name}"
        for path in MODULES
        for function in functions(path)
        if len(parameters(function)) > PARAMETERS and path.name != "cli.py"
        if not any(ast.unparse(d).startswith("jit(") for d in function.decorator_list)
    }
    assert many == {*MANY_PARAMETERS}


def test_no_parameter_is_a_tuple_of_unlike_things():
    """`(model, base, {...})` under one name hides what a function takes. Lists of pairs are data, and are let be."""
    unlike = set()
    for path in MODULES:
        for function in functions(path):
            for parameter in parameters(function):
                for part in alternatives(parameter.annotation):
                    if isinstance(part, ast.Subscript) and ast.unparse(part.value) == "tuple":
                        elements = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
                        if len({ast.unparse(e) for e in elements} - {"..."}) > 1:
                            unlike.add(f"{name_of(path)}:{function.name}:{parameter.arg}")
    assert unlike == set()


def alternatives(annotation):
    """Return the types of `A | B | None`, one by one."""
    if isinstance(annotation, ast.BinOp):
        return [*alternatives(annotation.left), *alternatives(annotation.right)]
    return [annotation]


def test_no_two_public_classes_of_a_package_have_one_name():
    where = defaultdict(list)
    for path in MODULES:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[module_of(path).partition(".")[0], node.name].append(name_of(path))
    twice = {f"{package}: {name}": files for (package, name), files in where.items() if len(files) > 1}
    assert twice == {}


def test_a_module_s_name_recurs_in_another_room_only():
    """`compare/print.py` and `leak/print.py` say what they are with their room; two of one room cannot."""
    where = defaultdict(list)
    for path in MODULES:
        if not path.name.startswith("__") and len(path.relative_to(SRC).parts) > 2:
            where[(*room_of(module_of(path)), path.stem)].append(name_of(path))
    twice = {name: files for (*_, name), files in where.items() if len(files) > 1}
    assert twice == {}


def test_a_short_module_says_why_it_stands_apart():
    unsaid = {
        name_of(path)
        for path in MODULES
        if lines(path) < SHORT and not path.name.startswith("__")
        if not re.search(r"\(apart: \S.*\)", (ast.get_docstring(tree(path)) or "").partition("\n")[0])
    }
    assert unsaid == set()


def test_each_long_module_has_a_test_file_of_its_name():
    untested = {
        name_of(path)
        for path in MODULES
        if lines(path) >= LONG and not path.name.startswith("__")
        if not (ROOT / "tests" / path.relative_to(SRC).parent / f"test_{path.name}").is_file()
    }
    assert untested == set()


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_readme_prints_the_tree(page):
    """A line a room, in the order of FLOORS, each with what it is for; nothing there that is not on the disk."""
    printed = re.search(r"```tree\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)[1]
    told = [re.fullmatch(r"( *)(\w+)(/|\.py)  +\S.*", line) for line in printed.splitlines()]
    assert None not in told, printed
    shown, package = [], ""
    for indent, name, kind in (m.groups() for m in told):
        package = name if not indent else package
        shown.append((package, name, kind))
    rooms = []
    for package, floors in FLOORS.items():
        rooms.append((package, package, "/"))
        rooms += [
            (package, room, "/" if (SRC / package / room).is_dir() else ".py") for f in floors for room in f.split()
        ]
    assert shown == rooms


def test_no_drawer_for_odds_and_ends():
    names = {p.stem for p in (*MODULES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/**/*.py"))}
    assert {n for n in names if re.search(r"(^|_)(utils?|common|base|helpers?|misc)($|_)", n)} == set()


def test_files_that_comments_name_exist():
    """A module that moved leaves its old name in docstrings; `loss_gap.py` and `stats/effects.py` are both looked for."""
    there = [
        f"/{p.relative_to(ROOT).as_posix()}"
        for top in ("src", "tests", "bench", "docs")
        for p in ROOT.glob(f"{top}/**/*.py")
    ]
    gone = {
        f"{name_of(path)}: {name}"
        for path in MODULES
        for name in re.findall(r"(?<![\w/.-])((?:\w+/)*\w+\.py)\b", path.read_text(encoding="utf-8"))
        if name not in FOREIGN and not any(file.endswith(f"/{name}") for file in there)
    }
    assert gone == set()


def test_imports_point_one_way():
    for i, package in enumerate(PACKAGES):
        for path in (SRC / package).rglob("*.py"):
            assert imports(path) & set(PACKAGES[i + 1 :]) == set(), name_of(path)


def test_steel_data_needs_the_base_install_alone():
    """No torch anywhere in it, and nothing that pyproject.toml does not promise."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = {re.split(r"[<>=~!;\[ ]", line)[0] for line in project["dependencies"]}
    promised |= {"modelscope", "ray", "obstore"}  # extras, asked for by name where they are missing
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
    assert min(taken) < 0.3 or min(taken) < 4 * bare(), "on a slow machine: more than Python and typer take alone"


def bare():
    """Return the CPU seconds that Python takes with typer and nothing of ours."""
    before = seconds()
    subprocess.run([sys.executable, "-c", "import typer.main"], check=True)
    return seconds() - before
