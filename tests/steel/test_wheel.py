"""The wheel alone, installed away from the checkout, does what the README shows: recipes and models are in it."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NO_BUILDER = ("Could not find a version", "No matching distribution", "ConnectionError", "connection broken")


def done(command: list[str], **how: object) -> str:
    found = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, **how)  # type: ignore[call-overload]
    assert found.returncode == 0, f"{command}\n{found.stdout}{found.stderr}"
    return str(found.stdout)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and put it into a folder of its own, without what it needs: that is here."""
    root = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    made = subprocess.run([*pip, "wheel", "--no-deps", "-w", str(root), str(ROOT)], capture_output=True, text=True)
    if made.returncode and any(words in made.stderr for words in _NO_BUILDER):
        pytest.skip("pip cannot have hatchling here")
    assert made.returncode == 0, made.stderr
    (wheel,) = root.glob("*.whl")
    done([*pip, "install", "--no-deps", "--no-index", "--target", str(root / "site"), str(wheel)])
    return root / "site"


@pytest.mark.slow
def test_the_readmes_commands_run_from_a_wheel_in_another_folder(site: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONUTF8": "1", "COLUMNS": "160"}

    def run(*command: str) -> str:
        return done([sys.executable, *command], cwd=tmp_path, env=environment)

    assert Path(run("-c", "import steel_data; print(steel_data.__file__)")).is_relative_to(site)
    listed = json.loads(run(str(site / "bin/steel-data"), "recipes", "--json"))
    assert set(listed) == {f"@{path.stem}" for path in (ROOT / "recipes").glob("*.toml")}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (mine,) = re.findall(r"```toml\n# mine.toml\n(.*?)```", readme, re.S)
    (tmp_path / "mine.toml").write_text(mine, encoding="utf-8")
    commands = [line for block in re.findall(r"```bash\n(.*?)```", readme, re.S) for line in block.splitlines()]
    assert len(commands) > 5
    for line in commands:
        words = [f"@{Path(w).stem}" if w.startswith("recipes/") else w for w in shlex.split(line)]
        assert words[:3] == ["python", "-m", "steel_data"], line
        small = ["--scale", "0.5"] if words[3] == "sample" else []
        run(str(site / "bin/steel-data"), *words[3:], *small)
    assert (tmp_path / "runs/exp3/mixture/card.html").is_file()
    assert (tmp_path / "runs/mine/mixture/manifest.json").is_file()
    for program in ("steel", "steel-train", "steel-eval"):
        assert "Usage" in run(str(site / "bin" / program), "--help")
    assert "is not installed" not in run(str(site / "bin/steel"), "env")
