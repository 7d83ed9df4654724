"""Fixtures: a recipe with a tiny model from scratch over a small mixture, run in this process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

MODEL = (
    'model = { type = "qwen2", hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2, '
    "intermediate_size = 64, vocab_size = 400, max_position_embeddings = 512 }"
)
BASIC = {
    "epochs": "2", "learning_rate": "1e-3", "micro_batch": "4", "accumulate": "2", "max_length": "256",
    "log_every": "2", "save_every": "5",
}  # fmt: skip


@pytest.fixture(scope="session")
def shared_mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a mixture of 40 chat rows and 40 identity rows (10 steps of 8); do not write into it."""
    # here, so that the kernels' tests are collected on a machine without polars and orjson
    from tests.steel_train.toys import write_mixture

    return write_mixture(tmp_path_factory.mktemp("mixture"))


def write_recipe(folder: Path, mixture: Path, name: str = "r", model: str = MODEL, **settings: Any) -> Path:
    """Write a recipe with [train] = BASIC and `settings` (TOML values as text; None takes a key out)."""
    table = {key: value for key, value in {**BASIC, **settings}.items() if value is not None}
    lines = [model, *(f"{key} = {value}" for key, value in table.items())]
    recipe = folder / f"{name}.toml"
    data = (mixture.parent / "data.toml").read_text(encoding="utf-8")
    recipe.write_text(data + "[train]\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return recipe


@pytest.fixture
def train(tmp_path: Path, shared_mixture: Path) -> Callable[..., Path]:
    """Return `train(name, changes, **settings)`: run a recipe over the shared mixture and return the run's folder."""
    from steel_data.recipe.load import load
    from steel_train.run import run

    def start(name: str = "r", changes: Sequence[str] = (), **settings: Any) -> Path:
        out = tmp_path / "runs" / name
        run(load(write_recipe(tmp_path, shared_mixture, name, **settings), changes), shared_mixture, out, None)
        return out

    return start
