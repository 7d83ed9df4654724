"""Settings for all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Two-layer models gain nothing from more threads, and tests run side by side: one each saves half of their time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["STEEL_LANG"] = "en"  # whatever the machine speaks

# A busy machine is no fault of a test: no deadlines, and slow input generation is not an error.
settings.register_profile("busy-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that drive a cluster of Ray."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)
