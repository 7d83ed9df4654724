"""Tasks on a Ray cluster, by the same seam as in processes here: results in the order of the tasks (extra `ray`).

Core tasks and nothing else of Ray. The machines share the folders of data, cache and output; a node that dies costs its
tasks again. A machine whose steel, or a library that decides bytes, is of another version is refused by name.
"""

import logging
import os
import pickle
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from steel_data.engine import Executor, Local, tell
from steel_data.errors import InputError, excerpt, first_line, nearest

Task = TypeVar("Task")
Result = TypeVar("Result")
LOOK_SECONDS = 2.0  # between two looks at which machines are there
RETRIES = 5  # of a task whose machine or process is gone; an error of its own is raised at once
AHEAD = 4  # tasks of each processor that are handed over and not done: a task is made when one of them is
ANSWER_SECONDS = 5.0  # that an address is given; Ray itself asks twenty times over, for 41 seconds each


def executor(engine: str, workers: int, memory: int | None = None) -> Executor:
    """Return where tasks run: `local`, `ray` (RAY_ADDRESS, else a cluster of this machine alone) or `ray:ADDRESS`.

    memory: bytes that the processes here keep to. Raises InputError for another word, for an address that does not
    answer, where Ray is missing, and for Ray with a bound on memory.
    """
    name, _, address = engine.partition(":")
    if name == "local" and not address:
        return Local(workers, memory)
    if name != "ray":
        raise InputError(f"--engine {engine}: no such engine.{nearest(name, ['local', 'ray'])} Fix: ray:HOST:6379.")
    if memory is not None:
        raise InputError(f"--engine {engine}: --memory bounds processes of this machine. Fix: one of the two.")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"--engine {engine}: Ray is missing ({first_line(error)}). Fix: pip install 'steel-lab[ray]'."
        ) from None
    try:
        if not _connected(ray, address):
            _ask(ray, address or os.environ.get("RAY_ADDRESS", ""))
            ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise InputError(
            f"--engine {engine}: no cluster answers there: {first_line(error)}. Fix: the address that `ray start "
            "--head` printed."
        ) from None
    # else it prints thirty lines to stdout, which holds results, when a machine is lost; `map` says that in one
    ray._private.worker._worker_logs_enabled = False
    processors, gpus = _there_are(ray, "CPU"), _there_are(ray, "GPU")
    tell(f"ray: {_alive(ray)} nodes, {processors} processors" + (f", {gpus} GPUs" if gpus else ""))
    return Ray(max(processors, 1), gpus)


def _connected(ray: Any, address: str) -> bool:
    """Whether this process is connected to that cluster: a notebook asks for it again and again."""
    return ray.is_initialized() and address in ("", ray.get_runtime_context().gcs_address)


def _ask(ray: Any, address: str) -> None:
    """Raise OSError where nothing answers at HOST:PORT that speaks HTTP/2, as Ray does. Ray judges other forms."""
    match = re.fullmatch(r"([^:/\s]+):([0-9]{1,5})", address)
    if match is None:
        return
    hosts, port = [match[1]], int(match[2])
    if hosts[0] in ("localhost", "127.0.0.1"):
        hosts.append(ray.util.get_node_ip_address())  # where Ray looks for it
    said = f"nothing answers at {address}"
    for host in hosts:
        with suppress(OSError), socket.create_connection((host, port), ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "1":
                return
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            if connection.recv(9)[3:4] == b"\x04":  # both sides begin with a frame of settings
                return
            said = f"what answers at {address} is no Ray"
    raise ConnectionError(said)


def _there_are(ray: Any, kind: str) -> int:
    """Return how many processors (CPU) or GPUs the cluster has."""
    return int(ray.cluster_resources().get(kind, 0))


def _alive(ray: Any) -> int:
    return len([node for node in ray.nodes() if node["Alive"]])


def _versions() -> dict[str, str]:
    from steel_data.passes.cache import versions  # which imports polars: see `_there`

    return versions()


@dataclass(frozen=True)
class Ray:
    """A cluster that this process is connected to.

    `gpus`: that it has; `gpu`: whether each task gets one of them; `told`: which versions must be alike everywhere.
    """

    workers: int
    gpus: int = 0
    gpu: bool = False
    told: Callable[[], dict[str, str]] = _versions

    def of_models(self, told: Callable[[], dict[str, str]]) -> "Ray":
        """Return the same cluster for tasks that run a model: on its GPUs where it has any."""
        return replace(self, workers=self.gpus or self.workers, gpu=self.gpus > 0, told=told)

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        on_done: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """Return `[function(task) for task in tasks]`; `on_done` sees each result in that order.

        A task is taken of `tasks` when one of those before it, AHEAD a processor, is done. The first error of a task is
        raised and the rest cancelled. Raises InputError where machines fall again and again, or are of another version.
        """
        import ray

        remote = ray.remote(max_retries=RETRIES, num_gpus=int(self.gpu))(_there)
        told = _Work(ray.cloudpickle.dumps(function), self.told, self.told())
        work = ray.put(ray.cloudpickle.dumps(told))  # once, however many tasks there are
        handed: deque[tuple[str, Any]] = deque()  # in their order: the names of tasks and where their results will be
        results: list[Result] = []
        try:
            for done in self._finished(ray, remote, work, iter(tasks), handed):
                while handed and handed[0][1] in done:
                    results.append(ray.get(handed[0][1]))
                    done.discard(handed.popleft()[1])
                    on_done(results[-1])
        except ray.exceptions.RayTaskError as error:
            raise _without_steel(error) or error.cause from None
        except ray.exceptions.RayError as error:
            raise InputError(
                f"{handed[0][0]}: its machine was lost {RETRIES} times over: {first_line(error)}. Fix: more "
                "memory a worker; what is done is kept."
            ) from None
        finally:
            for _, reference in handed:
                ray.cancel(reference, force=True)
        return results

    def _finished(
        self, ray: Any, remote: Any, work: Any, tasks: Iterator[Any], handed: deque[tuple[str, Any]]
    ) -> Iterator[set[Any]]:
        """Hand tasks over, as many at once as there is room for; yield, again and again, all that are done."""
        going: list[Any] = []
        done: set[Any] = set()
        room, nodes, looked = AHEAD * self.workers, _alive(ray), time.monotonic()
        while True:
            for task in islice(tasks, max(room - len(going), 0)):
                going.append(remote.remote(work, ray.cloudpickle.dumps(task)))
                handed.append((str(task), going[-1]))
            if not going:
                return
            first, going = ray.wait(going, timeout=LOOK_SECONDS, fetch_local=False)
            more, going = ray.wait(going, num_returns=len(going), timeout=0, fetch_local=False) if going else ([], [])
            done.update(first, more)
            yield done
            if time.monotonic() - looked > LOOK_SECONDS or not going:
                before, nodes, looked = nodes, _alive(ray), time.monotonic()
                room = AHEAD * max(self.workers, _there_are(ray, "GPU" if self.gpu else "CPU"))  # some clusters grow
                if nodes < before:
                    tell(f"ray: {before - nodes} of {before} machines are gone; what they were at is done again")


@dataclass(frozen=True)
class _Work:
    """What is done with each task (pickled: it is read where the versions are right), and what `told` tells here."""

    function: bytes
    told: Callable[[], dict[str, str]]
    driver: dict[str, str]


def _there(work: bytes, task: bytes) -> Any:
    """Run a task on a machine of the cluster, which must be what the driver is.

    Both are bytes, since what is in them imports polars, which looks at the variable when it is imported. Each task has
    one processor: polars must not start a thread for each of the machine's in every one of them.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    mine: _Work = pickle.loads(work)
    refuse_other(mine.driver, mine.told(), _machine())
    return pickle.loads(mine.function)(pickle.loads(task))


def refuse_other(driver: dict[str, str], worker: dict[str, str], machine: str) -> None:
    """Raise InputError where a machine's versions would make other bytes, or a cache that the driver does not find."""
    unlike = [
        f"{name} {worker.get(name, 'absent')}, here {own}" for name, own in driver.items() if worker.get(name) != own
    ]
    if unlike:
        raise InputError(f"{machine}: is of another version: {'; '.join(unlike)}. Fix: the same on all machines.")


def _without_steel(error: Any) -> InputError | None:
    """Return the error to raise where a machine could not even import this module; None where a task has failed."""
    said = str(error.cause)
    if "failed to import on the worker" not in said:  # Ray's words, before the traceback there
        return None
    place, why = re.search(r"ip=([^,)\s]+)", str(error)), said.strip().splitlines()[-1]
    machine = place[1] if place else "a machine of the cluster"
    return InputError(f"{machine}: steel cannot be imported there: {excerpt(why, 120)}. Fix: the same on all machines.")


def _machine() -> str:
    import platform

    return platform.node() or "a machine of the cluster"
