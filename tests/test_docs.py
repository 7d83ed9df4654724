"""The documentation is true: its commands run, its recipes load, its links lead somewhere, its output is what one sees.

```bash``` blocks of a page run in order in one folder with a copy of recipes/. A ```text``` block right after one shows
lines of its output ("…" stands for others). ```python``` and ```toml``` blocks whose first line is `# FILE` are put
there first. What cannot run in a test is a ```console not-run``` block that says why in its first line; those are
counted here.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from steel_data.cli import app
from steel_data.recipe.load import load
from steel_data.recipe.steps import BUILDERS, FILTERS

ROOT = Path(__file__).parents[1]
# page -> (blocks that run, blocks that do not): a block that changes sides is noticed
PAGES = {
    "README.md": (3, 3),
    "README.zh.md": (3, 3),
    "CONTRIBUTING.md": (0, 2),
    "docs/curation.md": (6, 0),
    "docs/datasets.md": (0, 2),
    "docs/plugins.md": (1, 0),
    "docs/recipes.md": (0, 0),
}
# Pages of the other two packages, which have tests of their own. A link may lead there before they land.
THEIRS = {"docs/training.md", "docs/scoring.md", "docs/kernels.md", "docs/contamination.md"}


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


def squeezed(text):
    return " ".join(text.split())


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_counted_and_the_unrun_say_why(page):
    found = blocks(page)
    assert {b.info for b in found} <= {"bash", "text", "toml", "python", "console not-run"}
    unrun = [b for b in found if b.info == "console not-run"]
    assert (sum(b.info == "bash" for b in found), len(unrun)) == PAGES[page]
    for block in unrun:
        assert block.text.startswith("# not run in tests: "), f"{page}:{block.line}"


def prepared(folder, page):
    """Put recipes and the files that the page shows into a folder."""
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for block in blocks(page):
        if block.file:
            with (folder / block.file).open("a", encoding="utf-8") as file:
                file.write(block.text.partition("\n")[2] + "\n\n")


@pytest.mark.parametrize("page", [page for page, (run, _) in PAGES.items() if run and page != "README.zh.md"])
def test_commands_run_and_print_what_is_shown(page, tmp_path):
    prepared(tmp_path, page)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1", "COLUMNS": "160"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    output = ""
    for block in blocks(page):
        if block.info == "bash":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{page}:{block.line}\n{done.stdout}{done.stderr}"
            output = done.stdout
        elif block.info == "text":
            shown = [squeezed(line) for line in block.text.splitlines() if line.strip() not in ("", "…")]
            printed = [squeezed(line) for line in output.splitlines()]
            assert [line for line in shown if line not in printed] == [], f"{page}:{block.line}\n{output}"


@pytest.mark.parametrize("page", sorted({*PAGES, *(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/*.md"))}))
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
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve()
        if target.relative_to(ROOT).as_posix() in THEIRS:
            continue
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT)), f"{page}: {link}"
    assert links or page in ("docs/recipes.md", "CONTRIBUTING.md")


def test_every_command_and_step_is_mentioned():
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    assert {c for c in commands if f"python -m steel_data {c}" not in text} == set()
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
    """The Chinese page is no stub: the same headings, recipes and blocks."""
    one, two = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
    assert len(re.findall(r"^## ", one, re.M)) == len(re.findall(r"^## ", two, re.M))
    assert set(re.findall(r"\(recipes/([\w-]+\.toml)\)", one)) == set(re.findall(r"\(recipes/([\w-]+\.toml)\)", two))
    assert {f"{r.stem}.toml" for r in (ROOT / "recipes").glob("*.toml")} == set(
        re.findall(r"\(recipes/([\w-]+\.toml)\)", one)
    )
    shown = {
        info: [[b.text for b in blocks(n) if b.info == info] for n in ("README.md", "README.zh.md")]
        for info in ("bash", "text")
    }
    assert shown["bash"][0] == shown["bash"][1]  # so it is enough to run one of them
    lines = [{squeezed(line) for text in page for line in text.splitlines()} for page in shown["text"]]
    assert lines[1] <= lines[0]
