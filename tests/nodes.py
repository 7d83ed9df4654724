"""A Ray cluster on this machine, to which nodes are added and of which they are taken. Skips the test where Ray is absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SRC = Path(__file__).parents[1] / "src"
MEMORY = 80_000_000  # of each node's object store
# a node that is gone is missed within two seconds, not thirty
QUICK = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}


def threads(_: int) -> tuple[int, int]:
    """Return the process, and how many threads torch takes there; here, since a process imports this file quickly."""
    import torch

    return os.getpid(), torch.get_num_threads()


@contextmanager
def a_cluster() -> Iterator[Any]:
    """Yield a cluster of one node, to which `another` adds; `address` is what --engine ray:ADDRESS takes."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    # the nodes' processes import the steel that is tested, wherever another one is installed
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SRC), str(SRC.parent), before.get("PYTHONPATH", "")])
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    head = {"include_dashboard": False, "_system_config": QUICK}
    cluster = Cluster()
    _added(cluster, **head)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def another(cluster: Any, **more: Any) -> Iterator[Any]:
    """Add a node of one processor, which is taken away in the end if it is still there."""
    node = _added(cluster, **more)
    try:
        yield node
    finally:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


def _added(cluster: Any, **more: Any) -> Any:
    """Return a new node; Ray gives up after thirty seconds, which a busy machine may take."""
    for attempt in range(3):
        try:
            return cluster.add_node(num_cpus=1, object_store_memory=MEMORY, **more)
        except Exception:
            if attempt == 2:
                raise
    raise AssertionError
