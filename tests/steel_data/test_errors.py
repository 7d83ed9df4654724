"""One line a fault, whatever another library says or does not say."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from steel_data.errors import _EXTRAS, InputError, excerpt, first_line, nearest, one_line, run_command, visible
from steel_data.filters import language

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError(""), "ValueError"),
        (ValueError(), "ValueError"),
        (KeyError("\n \n"), "'\\n \\n'"),
        (RuntimeError("  \n"), "RuntimeError"),
        (OSError("a sentence."), "a sentence"),
        (ValueError("\x1b[2Jgone"), "\\x1b[2Jgone"),
    ],
)
def test_the_first_line_of_any_exception(error, line):
    assert first_line(error) == line


def test_it_is_cut():
    assert first_line(ValueError("x" * 500)) == "x" * 159 + "…"
    assert first_line(ValueError("x" * 500), 80) == "x" * 79 + "…"


def test_what_comes_from_data_is_safe_in_a_terminal():
    assert excerpt("a\rb\u202ec") == one_line("a\rb\u202ec") == "a\\rb\\u202ec"


def test_a_full_width_blank_is_text_but_an_escape_in_what_a_mixture_stores() -> None:
    """The evidence in dropped/ is part of a mixture's bytes: its form must not change."""
    assert visible("甲\u3000乙\n") == "甲\u3000乙\n"
    assert one_line("甲\u3000乙\n") == "甲\u3000乙\\n"
    assert excerpt("甲\u3000乙\n") == "甲\\u3000乙\\n"


def test_the_nearest_known_word():
    assert nearest("lenght", ["length", "language"]) == " Did you mean 'length'? Known: language, length."
    assert nearest("x", []) == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(28, "No space left on device", "/m/a\x1b[2J"),
            "/m/a\\x1b[2J: No space left on device. Fix: room on",
        ),
        (OSError(30, "Read-only file system", "/m"), "/m: Read-only file system. Fix: a place that can be written."),
        (OSError(24, "Too many open files"), "Too many open files. Fix: a higher limit of open files (ulimit -n)."),
        (MemoryError(), "out of memory. Fix: more of it, or fewer --workers"),
    ],
)
def test_what_the_machine_lacks_is_one_line(error, line, capsys):
    def fails():
        raise error

    with pytest.raises(SystemExit) as ended:
        run_command(fails)
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {line}")


def test_another_error_of_the_system_is_our_bug():
    def fails():
        raise FileNotFoundError(2, "No such file or directory", "/m")

    with pytest.raises(FileNotFoundError):
        run_command(fails)


def interrupted(what: str = "", patience: float = 600, **environment: str) -> tuple[int, str]:
    """Return status and stderr of a command of typer that gets Ctrl-C in the midst of `what`.

    patience: after so long it is ended by force; a busy machine may take seconds for what ends by itself.
    """
    code = f"""
import os, signal, sys, typer
import steel_data.errors
from steel_data.errors import Interrupted, run_command
steel_data.errors.PATIENCE = {patience}
def press():
    signal.raise_signal(signal.SIGINT)
app = typer.Typer(pretty_exceptions_enable=False)
@app.command()
def main() -> None:
    {what.replace(chr(10), chr(10) + "    ")}
    import time
    time.sleep(600)
run_command(app)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, **environment},
        preexec_fn=listening,
    )  # fmt: skip
    return done.returncode, done.stderr


def listening() -> None:
    """Let Ctrl-C be heard in a process: where pytest runs in the background it inherits that it is not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


LOST = """
class Gone:
    def __del__(self):
        press()
thing = Gone()
del thing"""
AN_IMPORT = """
try:
    press()
except BaseException:
    raise ImportError("polars failed to load") from None"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("what", "patience"), [("press()", 600), (AN_IMPORT, 600), (LOST, 4)])
def test_ctrl_c_is_one_line_whatever_became_of_it(what: str, patience: float) -> None:
    """Typer makes an exit status of it, an import an error of its own; and in `__del__` Python cannot raise it."""
    assert interrupted(what, patience) == (130, "interrupted; run the same command again to go on\n")


IN_A_THREAD = """
from concurrent.futures import ThreadPoolExecutor
import time
with ThreadPoolExecutor(1) as pool:
    pool.submit(time.sleep, 600)
    press()"""
OUTSIDE = """
import hashlib, threading
threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2 * 10**9)"""
AT_EXIT = """
import atexit, time
atexit.register(time.sleep, 600)
press()"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("what", [IN_A_THREAD, OUTSIDE, AT_EXIT])
def test_ctrl_c_does_not_wait_for_what_does_not_end(what: str) -> None:
    """A download of a library's, or an answer that never comes: what waits for it is ended as by a kill."""
    began = time.monotonic()
    assert interrupted(what, patience=0.5) == (130, "interrupted; run the same command again to go on\n")
    assert time.monotonic() - began < 300


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_who_takes_ctrl_c_for_something_else_is_let_alone() -> None:
    own = "signal.signal(signal.SIGINT, lambda *_: None)\npress()\nimport time\ntime.sleep(1)\nraise SystemExit(0)"
    assert interrupted(own, patience=0.2) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_command_that_ends_in_good_order_says_so_itself_and_one_of_several_processes_speaks() -> None:
    stopped = 'raise Interrupted("stopped by SIGTERM and saved", 143)'
    assert interrupted(stopped) == (143, "stopped by SIGTERM and saved; run the same command again to go on\n")
    assert interrupted("press()", RANK="1") == (130, "")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_fault_after_ctrl_c_was_dealt_with_is_our_bug_and_keeps_its_traceback() -> None:
    """`chat` cuts an answer off and goes on: what fails later has nothing to do with it."""
    status, said = interrupted("try:\n    press()\nexcept KeyboardInterrupt:\n    pass\n{}['x']")
    assert status == 1 and said.endswith("KeyError: 'x'\n") and "interrupted" not in said


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_once_more_while_python_ends_is_no_traceback() -> None:
    status, said = interrupted("import atexit; atexit.register(press); press()")
    assert (status, said) == (-signal.SIGINT, "interrupted; run the same command again to go on\n")


def test_a_terminal_without_chinese_shows_marks():
    code = "from steel_data.errors import run_command; run_command(lambda: print('一a'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "cp1252"}
    )
    assert (done.returncode, done.stdout.strip()) == (0, b"?a")


def test_a_command_in_chinese_runs_on_a_terminal_without_chinese(tmp_path):
    for asked, status in ((["--help"], 0), (["recipes"], 0), (["build", "没有.toml"], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "steel_data", "--lang", "zh", *asked],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "LC_ALL": "C"},
            cwd=tmp_path,
        )
        assert done.returncode == status and b"Traceback" not in done.stderr and done.stdout + done.stderr


def fails_to_import(name):
    def command():
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    return command


def test_a_missing_extra_is_told_in_one_line_and_any_other_module_keeps_its_traceback(capsys):
    with pytest.raises(SystemExit, match="2"):
        run_command(fails_to_import("torch.nn"))
    assert capsys.readouterr().err == 'error: torch is not installed. Fix: pip install "steel-lab[train,eval]".\n'
    for name in ("steel_data.gone", "my_filters", "polars"):
        with pytest.raises(ModuleNotFoundError):
            run_command(fails_to_import(name))


def test_each_extra_is_named_by_what_brings_it():
    """And whatever an extra brings is known, so that none of it ends in a traceback."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    imported = {"lm-eval": "lm_eval", "scikit-learn": "sklearn"}
    brought = {}
    for extra in ("train", "eval", "vllm", "ray", "ui", "modelscope", "s3"):
        for line in extras[extra]:
            name = re.match(r"[\w-]+", line)[0]
            brought.setdefault(imported.get(name, name), []).append(extra)
    del brought["triton"]  # asked for nowhere: its absence is told by what runs in its place
    assert {name: ",".join(names) for name, names in brought.items()} == _EXTRAS


def test_fasttext_that_cannot_be_imported_is_told_with_what_helps(monkeypatch):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    language._model.cache_clear()
    with pytest.raises(InputError, match=r"^languages need fastText, .*Fix: pip install fasttext-community, or, on"):
        language.fasttext_language("Bonjour")


def test_tested_versions_are_named_for_all_that_is_asked_for_and_are_within_its_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = project["optional-dependencies"]
    asked = [
        Requirement(line)
        for line in [
            *project["dependencies"],
            *(line for name in ("train", "eval", "ui", "ray", "s3") for line in extras[name]),
        ]
    ]
    for requirement in asked:
        assert tested[requirement.name] in requirement.specifier, requirement
    bare = [r.name for r in asked if not any("<" in s.operator for s in r.specifier)]
    assert set(bare) == {"pyarrow", "regex"}  # their first number rises every few months


# what holds a fix that was made elsewhere, or the words of another error
HANDED_ON = {"_AGAIN", "right", "region", "near", "hint", "_TABLE", "_KNOWN", "again", "_refusal", "first_fault", "option_fault", "state", "error",
             "fault", "missing_columns", "said", "one_line", "stop_at_faults"}  # fmt: skip


def test_each_error_says_what_would_be_right() -> None:
    """ "Fix: …", or the nearest known word; but the pages of `steel ui`, which only look at what is there."""
    silent, asked = [], 0
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call) or "/steel/ui/" in path.as_posix():
                continue
            if ast.unparse(node.exc.func) not in ("InputError", "BusyError") or not node.exc.args:
                continue
            parts = list(ast.walk(node.exc.args[0]))
            text = "".join(
                part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
            # a variable that stands alone in the message, or a function that words all of it
            names = {
                part.value.id
                for part in parts
                if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name)
            }
            names |= {part.func.id for part in parts if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)}
            asked += 1
            if "Fix: " not in text and "nearest" not in names and not names & HANDED_ON and len(text) > 8:
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text}")
    assert asked > 600
    assert [one for one in silent if "its questions are not at hand" not in one and "that were scored" not in one] == []
