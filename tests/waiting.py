"""Wait for the state that is meant, not for a time: a busy machine takes minutes where an idle one takes moments."""

import time
from collections.abc import Callable

PATIENCE = 300.0


def until(there: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return once something is so. Raises AssertionError where it is not after `seconds`."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"not so after {seconds:.0f} s"
        time.sleep(0.01)
