"""The documentation is true: its commands run, its recipes load, its links lead somewhere, its output is what one sees.

```bash``` and ```python``` blocks of a page run in order in one folder with a copy of recipes/. A ```text``` block right
after one shows lines of its output ("…" stands for other lines, or for some of a line). ```python``` and ```toml```
blocks whose first line is `# FILE` are put there first. What cannot run in a test is a block marked `not-run` that says
why in its first line; those are counted here. What the prose names, commands with their options, modules and files, is
looked for too.
"""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from tests.docs.tutorial_world import furnish

from steel.cli import app as steel
from steel_data.cli import app
from steel_data.recipe.load import load
from steel_data.recipe.steps import BUILDERS, FILTERS

ROOT = Path(__file__).parents[1]
# page -> (blocks that run, blocks that do not): a block that changes sides is noticed
PAGES = {
    "README.md": (3, 3),
    "README.zh.md": (3, 3),
    "CONTRIBUTING.md": (0, 2),
    "docs/analyze.md": (3, 0),
    "docs/architecture.md": (0, 0),
    "docs/contamination.md": (5, 3),
    "docs/curation.md": (6, 0),
    "docs/datasets.md": (0, 3),
    "docs/kernels.md": (1, 1),
    "docs/mix.md": (1, 3),
    "docs/plugins.md": (1, 0),
    "docs/python.md": (2, 1),
    "docs/recipes.md": (0, 0),
    "docs/scale.md": (2, 8),
    "docs/reliability.md": (0, 1),
    "docs/scoring.md": (8, 1),
    "docs/select.md": (1, 2),
    "docs/training.md": (5, 4),
    "docs/ui.md": (0, 1),
    **{
        f"docs/tutorials/{name}{language}.md": counts
        for language in ("", ".zh")
        for name, counts in {
            "filter-and-train": (4, 1),
            "score-llama-factory": (4, 1),
            "has-it-seen-cmmlu": (2, 1),
            "my-own-filter": (3, 1),
            "gpus-and-cluster": (3, 1),
        }.items()
    },
    "docs/results/contamination.md": (0, 7),
    "docs/results/curation.md": (0, 0),
    "docs/results/gpu.md": (0, 0),
    "docs/results/kernels.md": (0, 0),
    "docs/results/mix.md": (0, 0),
    "docs/results/packing.md": (0, 1),
    "docs/results/peers.md": (0, 1),
    "docs/results/real-builds.md": (0, 4),
    "docs/results/audit.md": (0, 0),
    "docs/results/scoring.md": (0, 1),
    "docs/results/select.md": (0, 0),
    "docs/results/token-estimate.md": (0, 0),
    "docs/results/training.md": (0, 0),
    "docs/results/tutorials.md": (0, 0),
    "docs/results/truth-pool.md": (0, 1),
}
# Pages that import torch for every command: whole in `make check`. In `make test` so many blocks of them as are said
# here: what samples, trains and scores.
TORCH = {
    "docs/contamination.md": 0,
    "docs/kernels.md": 0,
    "docs/mix.md": 0,
    "docs/scoring.md": 1,
    "docs/training.md": 0,
    "docs/tutorials/filter-and-train.md": 2,
    "docs/tutorials/score-llama-factory.md": 0,
    "docs/tutorials/has-it-seen-cmmlu.md": 1,
    "docs/tutorials/gpus-and-cluster.md": 1,
}
TUTORIALS = [page for page in PAGES if page.startswith("docs/tutorials/")]
# a Chinese page has the commands of its English one, so it is enough to run those
TRANSLATED = [page for page in PAGES if page.endswith(".zh.md")]


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence, its text, and the line it begins in."""

    info: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that its first line names (`# mine.toml`)."""
        match = re.match(r"# ([\w.-]+\.(?:toml|py))\n", self.text)
        return match[1] if match else None


def blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, re.M | re.S)
    return [Block(m[1].strip(), m[2], text[: m.start()].count("\n") + 1) for m in found]


def runs(block):
    return block.info == "bash" or (block.info == "python" and not block.file)


def squeezed(text):
    return " ".join(text.split())


def is_printed(shown, printed):
    """Return whether one of the printed lines is the shown one, in which "…" stands for anything."""
    pattern = ".*".join(re.escape(part) for part in squeezed(shown).split("…"))
    return any(re.fullmatch(pattern, line) for line in printed)


def test_all_pages_are_here():
    there = {p.relative_to(ROOT).as_posix() for p in (*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"))}
    assert there - {"CHANGELOG.md"} == {*PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_counted_and_the_unrun_say_why(page):
    found = blocks(page)
    assert {b.info for b in found} <= {
        *("bash", "text", "toml", "python", "yaml", "tree", "console not-run", "python not-run"),
    }
    unrun = [b for b in found if b.info.endswith(" not-run")]
    assert (sum(map(runs, found)), len(unrun)) == PAGES[page]
    for block in unrun:
        assert block.text.startswith("# not run in tests: "), f"{page}:{block.line}"


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_outside_of_a_fence(page):
    assert re.findall(r"^(?: {4}|\t)(?:python|pip|make|git|torchrun|accelerate|hf) .*", prose(page), re.M) == []


def prose(page):
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)


def prepared(folder, page):
    """Put recipes and the files that the page shows into a folder."""
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for block in blocks(page):
        if block.file:
            with (folder / block.file).open("a", encoding="utf-8") as file:
                file.write(block.text.partition("\n")[2] + "\n\n")


def check_commands(page, folder, most=None):
    """Run the blocks of a page (the first `most` of them) and look for what the page says they print."""
    prepared(folder, page)
    if page in TUTORIALS:
        furnish(folder, Path(page).name.partition(".")[0])
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1", "COLUMNS": "160"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    # tiny models: more threads only wait for one another; and nothing here may need the network
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    output, count = "", 0
    for block in blocks(page):
        if runs(block):
            if count == most:
                return
            count += 1
            command = ["bash", "-euo", "pipefail", "-c"] if block.info == "bash" else [sys.executable, "-c"]
            done = subprocess.run(
                [*command, block.text],
                cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{page}:{block.line}\n{done.stdout}{done.stderr}"
            output = done.stdout
        elif block.info == "text":
            printed = [squeezed(line) for line in output.splitlines()]
            shown = [line for line in block.text.splitlines() if line.strip() not in ("", "…")]
            assert [line for line in shown if not is_printed(line, printed)] == [], f"{page}:{block.line}\n{output}"


@pytest.mark.parametrize("page", [p for p, (run, _) in PAGES.items() if run and p not in (*TORCH, *TRANSLATED)])
def test_commands_run_and_print_what_is_shown(page, tmp_path):
    check_commands(page, tmp_path)


@pytest.mark.parametrize("page", [page for page, most in TORCH.items() if most])
def test_the_first_commands_of_pages_that_need_torch(page, tmp_path):
    check_commands(page, tmp_path, TORCH[page])


@pytest.mark.slow
@pytest.mark.parametrize("page", TORCH)
def test_commands_that_need_torch(page, tmp_path):
    check_commands(page, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_recipes_load(page, tmp_path):
    prepared(tmp_path, page)
    (tmp_path / "docs").mkdir()
    for block in blocks(page):
        if block.info != "toml":
            continue
        path = tmp_path / block.file if block.file else tmp_path / "docs" / f"{block.line}.toml"
        if not block.file:
            # a piece such as [train] alone needs a source around it
            whole = "[source" in block.text or "extends" in block.text
            path.write_text(block.text + ("" if whole else '\n[source.any]\npath = "x"\n'), encoding="utf-8")
        assert load(path).sources, f"{page}:{block.line}"


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name if name else ROOT / page).resolve()
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT)), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_named_exist_with_their_options(page):
    """In prose and in blocks that do not run too."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for package, name, rest in re.findall(r"-m (steel_\w+) ([\w-]+)([^\n`|;&]*)", text):
        if name == "lm_eval":
            continue
        commands = typer.main.get_command(importlib.import_module(f"{package}.cli").app).commands
        assert name in commands, f"{page}: {package} {name}"
        known = {option for parameter in commands[name].params for option in parameter.opts}
        said = re.findall(r"(?<!\S)--?[a-z][\w-]*", rest.partition("#")[0])
        assert {*said} <= known | {"--help"}, f"{page}: {package} {name}{rest}"


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_files_that_are_named_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in re.findall(r"(?<![\w/.-])((?:src|tests|bench|docs|recipes)/[\w./-]+\.(?:py|toml|md|json))\b", text):
        assert (ROOT / path).exists(), f"{page}: {path}"
    for name in re.findall(r"(?<![\w./-])(steel_(?:data|train|eval)(?:\.\w+)+)", text):
        assert exists(name), f"{page}: {name}"


def exists(dotted):
    """Return whether a module, or a function, class or constant of one, is there; nothing is imported."""
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        place = ROOT / "src" / Path(*parts[:n])
        file = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
        if file.is_file():
            return n == len(parts) or parts[n] in names_in(file)
    return False


def names_in(file):
    """Return what a module defines at its top, with the methods of its classes as `Class.method`."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {t.id for t in targets if isinstance(t, ast.Name)}
    return names


def walks():
    """Return heading -> the stations of each walk of docs/architecture.md, each as its room and its text."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    found = {}
    for section in text.split("\n## ")[1:]:
        if stations := re.split(r"^\d+\. ", section, flags=re.M)[1:]:
            found[section.partition("\n")[0]] = [
                (re.match(r"\*\*`([\w/]+)", station)[1], station) for station in stations
            ]
    return found


def test_the_three_walks_pass_no_room_twice():
    assert len(walks()) == 3
    for head, stations in walks().items():
        rooms = [room for room, _ in stations]
        assert len({*rooms}) == len(rooms) >= 6, head
        for room, text in stations:
            named = re.findall(r"`([\w/]+)[\w/.]*:\w", text)
            assert named, f"{head}: {room}"
            assert {n for n in named if n != room and not n.startswith(f"{room}/")} == set(), f"{head}: {room}"


def test_what_architecture_names_is_there():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`(steel_[\w/]+\.py):([\w.]+)`", text)
    assert len(named) > 30
    assert [(f, n) for f, n in named if not (ROOT / "src" / f).is_file() or n not in names_in(ROOT / "src" / f)] == []


def test_every_command_and_step_is_mentioned():
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    assert {c for c in commands if not re.search(rf"(python -m steel_data|steel) {c}\b", text)} == set()
    for name in (*BUILDERS, *FILTERS):
        assert f"### `{name}`" in (ROOT / "docs/recipes.md").read_text(encoding="utf-8")


def test_every_data_set_of_the_recipes_has_its_line():
    page = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
    for file in (ROOT / "recipes").glob("*.toml"):
        for source in load(file).sources:
            if file.stem not in ("demo", "study-demo", "tiny"):
                assert f"`{source.name}`" in page or source.name == "cmmlu", f"{file.name}: {source.name}"
            address = (source.table.origin or "").removeprefix("hf://datasets/").split("@")[0]
            words = "/".join(address.split("/")[:2]) if "://" not in address else address
            assert words in page, f"{file.name}: {words}"


def test_readmes_tell_the_same():
    """The Chinese page is no stub: the same recipes."""
    one, two = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
    assert set(re.findall(r"\(recipes/([\w.-]+\.toml)\)", one)) == set(re.findall(r"\(recipes/([\w.-]+\.toml)\)", two))
    assert {f"{r.stem}.toml" for r in (ROOT / "recipes").glob("*.toml")} == set(
        re.findall(r"\(recipes/([\w.-]+\.toml)\)", one)
    )


@pytest.mark.parametrize("page", TRANSLATED)
def test_translations_have_the_same_commands_and_headings(page):
    pair = page.replace(".zh.md", ".md"), page
    one, two = ((ROOT / name).read_text(encoding="utf-8") for name in pair)
    assert len(re.findall(r"^## ", one, re.M)) == len(re.findall(r"^## ", two, re.M))
    shown = {
        info: [[b.text for b in blocks(n) if b.info == info] for n in pair]
        for info in ("bash", "text", "python", "toml")
    }
    assert shown["bash"][0] == shown["bash"][1]
    lines = [{squeezed(line) for text in page for line in text.splitlines()} for page in shown["text"]]
    assert lines[1] <= lines[0]
    if page in TUTORIALS:
        assert shown["python"][0] == shown["python"][1] and shown["toml"][0] == shown["toml"][1]
        assert one.count("**") == two.count("**")  # the numbered steps


def test_looking_for_exam_questions_does_not_refuse_a_file_of_them():
    """A file that is mostly test questions is the one that this tutorial is for."""
    page = "docs/tutorials/has-it-seen-cmmlu.md"
    (recipe,) = (block.text for block in blocks(page) if block.info == "toml")
    assert "allow_test_split" in recipe


def commands_of(page):
    """Return the lines of a page that are commands, those that do not run in tests too."""
    lines = "\n".join(b.text for b in blocks(page) if b.info in ("bash", "console not-run")).replace("\\\n", " ")
    return [line for line in lines.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("page", TUTORIALS)
def test_tutorials_are_short_and_their_commands_exist(page):
    assert len((ROOT / page).read_text(encoding="utf-8").splitlines()) < 60
    commands = commands_of(page)
    assert 3 <= len(commands) <= 6
    known = typer.main.get_command(steel).commands
    named = re.findall(
        r"(?<![\w-])steel ([a-z][\w-]*)((?: [^\s`|;&]+)*)", "\n".join([*commands, *re.findall(r"`[^`]+`", prose(page))])
    )
    assert named
    for name, rest in named:
        assert name in known, f"{page}: steel {name}"
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {*re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)} <= options, f"{page}: steel {name}{rest}"
