"""The fixture with which tests build a recipe over toy data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steel_data.build import Result, build
from steel_data.recipe.load import load


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Result]:
    """Return `make(toml, **options)`: write a recipe beside the data in tmp_path and build it."""

    def run(toml: str, name: str = "r", **options: Any) -> Result:
        recipe = tmp_path / f"{name}.toml"
        recipe.write_text(toml, encoding="utf-8")
        options = {"out": tmp_path / "out" / name / "mixture", "cache": tmp_path / "cache", **options}
        return build(load(recipe), **options)

    return run
