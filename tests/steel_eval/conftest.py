"""Fixtures shared by the tests of steel_eval; data sets of the session are made once."""

from pathlib import Path

import pytest
from tests.steel_eval import toys
from tests.steel_eval.lab import lab  # noqa: F401  (the fixture)

_REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = next(
    (p for p in (_REPOSITORY.parent / "shared/data", _REPOSITORY.parents[1] / "shared/data") if p.is_dir()), None
)


@pytest.fixture(scope="session")
def toy_tokenizer():
    return toys.tokenizer()


@pytest.fixture(scope="session")
def toy_model(toy_tokenizer):
    return toys.model(len(toy_tokenizer))


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory):
    return toys.benchmarks(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def toy_checkpoint(tmp_path_factory):
    return toys.save(tmp_path_factory.mktemp("model") / "checkpoint")


@pytest.fixture(scope="session")
def shared_data():
    if SHARED is None:
        pytest.skip("real data (../shared/data) is not here")
    return SHARED
