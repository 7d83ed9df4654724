"""Tasks on a Ray cluster, by the same seam as in processes here: results in the order of the tasks (extra `ray`).

Core tasks and nothing else of Ray. The machines share the folders of data, cache and output; a node that dies costs its
tasks again. A machine whose steel, or a library that decides bytes, is of another version is refused by name.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from steel_data.engine import Executor, Local, tell
from steel_data.errors import InputError, first_line, nearest
from steel_data.passes.cache import versions

Task = TypeVar("Task")
Result = TypeVar("Result")
LOOK_SECONDS = 2.0  # between two looks at which machines are there
RETRIES = 5  # of a task whose machine or process is gone; an error of its own is raised at once


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
            ray.init(address=address or None, log_to_driver=False, logging_level="error")
    except Exception as error:
        raise InputError(
            f"--engine {engine}: no cluster answers there: {first_line(error)}. Fix: the address that `ray start "
            "--head` printed."
        ) from None
    # else it prints thirty lines to stdout, which holds results, when a machine is lost; `map` says that in one
    ray._private.worker._worker_logs_enabled = False
    there = ray.cluster_resources()
    processors, gpus = (int(there.get(kind, 0)) for kind in ("CPU", "GPU"))
    tell(f"ray: {_alive(ray)} nodes, {processors} processors" + (f", {gpus} GPUs" if gpus else ""))
    return Ray(max(processors, 1), gpus)


def _connected(ray: Any, address: str) -> bool:
    """Whether this process is connected to that cluster: a notebook asks for it again and again."""
    return ray.is_initialized() and address in ("", ray.get_runtime_context().gcs_address)


def _alive(ray: Any) -> int:
    return len([node for node in ray.nodes() if node["Alive"]])


@dataclass(frozen=True)
class Ray:
    """A cluster that this process is connected to.

    `gpus`: that it has; `gpu`: whether each task gets one of them; `told`: which versions must be alike everywhere.
    """

    workers: int
    gpus: int = 0
    gpu: bool = False
    told: Callable[[], dict[str, str]] = versions

    def of_models(self, told: Callable[[], dict[str, str]]) -> "Ray":
        """Return the same cluster for tasks that run a model: on its GPUs where it has any."""
        return replace(self, workers=self.gpus or self.workers, gpu=self.gpus > 0, told=told)

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        on_done: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """Return `[function(task) for task in tasks]`; `on_done` sees each result in that order.

        The first error of a task is raised and the rest cancelled. Raises InputError where machines fall again and
        again, or are of another version.
        """
        import ray

        remote = ray.remote(max_retries=RETRIES, num_gpus=int(self.gpu))(_there)
        work = ray.put(_Work(function, self.told, self.told()))  # once, however many tasks there are
        waiting = [remote.remote(work, task) for task in tasks]
        results: list[Result] = []
        nodes, looked = _alive(ray), time.monotonic()
        try:
            for reference in waiting:
                results.append(ray.get(reference))
                on_done(results[-1])
                if time.monotonic() - looked > LOOK_SECONDS or len(results) == len(waiting):
                    before, nodes, looked = nodes, _alive(ray), time.monotonic()
                    if nodes < before:
                        tell(f"ray: {before - nodes} of {before} machines are gone; what they were at is done again")
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise InputError(
                f"{tasks[len(results)]}: its machine was lost {RETRIES} times over: {first_line(error)}. Fix: more "
                "memory a worker; what is done is kept."
            ) from None
        finally:
            for reference in waiting[len(results) :]:
                ray.cancel(reference, force=True)
        return results


@dataclass(frozen=True)
class _Work:
    """What is done with each task, by what is called `driver`'s versions there (`told`)."""

    function: Callable[[Any], Any]
    told: Callable[[], dict[str, str]]
    driver: dict[str, str]


def _there(work: _Work, task: Any) -> Any:
    """Run a task on a machine of the cluster, which must be what the driver is."""
    refuse_other(work.driver, work.told(), _machine())
    return work.function(task)


def refuse_other(driver: dict[str, str], worker: dict[str, str], machine: str) -> None:
    """Raise InputError where a machine's versions would make other bytes, or a cache that the driver does not find."""
    unlike = [
        f"{name} {worker.get(name, 'absent')}, here {own}" for name, own in driver.items() if worker.get(name) != own
    ]
    if unlike:
        raise InputError(f"{machine}: is of another version: {'; '.join(unlike)}. Fix: the same on all machines.")


def _machine() -> str:
    import platform

    return platform.node() or "a machine of the cluster"
