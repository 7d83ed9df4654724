"""Which rows make which optimiser step, and how a step's rows lie in memory.

The first depends on the seed, the epoch and the rows alone; the second on packing and processes. Since the loss is a
mean over the whole step, the second changes the speed and nothing else: packed and padded runs have the same steps, the
same learning rates and, up to rounding, the same weights.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from steel_train.examples.prepare import Prepared

Group = list[int]  # the units of one forward pass


@dataclass(frozen=True)
class Schedule:
    """The steps of a run over N units (rows, or pairs of answers).

    `lengths` (N,): tokens of each unit. `micro_batch` x `accumulate` x `processes` units make a step; the last step of
    an epoch may have fewer. Every unit stands once in each epoch. `room`: tokens of one packed forward pass, None to
    pad.
    """

    lengths: npt.NDArray[np.int64]
    seed: int
    epochs: int
    micro_batch: int
    accumulate: int
    processes: int = 1
    room: int | None = None
    max_steps: int | None = None

    @property
    def rows_per_step(self) -> int:
        """Return the units of a full step."""
        return self.micro_batch * self.accumulate * self.processes

    @property
    def steps_per_epoch(self) -> int:
        """Return the steps of one epoch."""
        return -(-len(self.lengths) // self.rows_per_step)

    @property
    def steps(self) -> int:
        """Return the steps of the run."""
        whole = self.steps_per_epoch * self.epochs
        return min(whole, self.max_steps) if self.max_steps else whole

    def units(self, step: int) -> npt.NDArray[np.int64]:
        """Return the units of step `step` (from 0)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self.rows_per_step
        return _order(self.seed, epoch, len(self.lengths))[first : first + self.rows_per_step]

    def groups(self, step: int, process: int = 0) -> list[Group]:
        """Return the forward passes of one process in one step. All processes have equally many; one may be empty."""
        return self.layout(self.units(step))[process :: self.processes]

    def laid(self, group: Group) -> int:
        """Return the tokens of a forward pass as it lies in memory, padding included."""
        lengths = self.lengths[group]
        return int(lengths.max(initial=0)) * len(group) if self.room is None else int(lengths.sum())

    def layout(self, units: npt.NDArray[np.int64]) -> list[Group]:
        """Divide a step's units over the forward passes of all processes: pass p belongs to process p % processes."""
        longest_first = units[np.argsort(-self.lengths[units], kind="stable")]
        if self.room is None:
            passes = -(-len(units) // (self.micro_batch * self.processes)) * self.processes
            # neighbours in length share a pass, so little is padded
            return [part.tolist() for part in np.array_split(longest_first, passes)]
        passes = max(-(-int(self.lengths[units].sum()) // (self.room * self.processes)), 1) * self.processes
        while True:
            groups, loads = _balanced(longest_first, self.lengths, passes)
            if max(loads) <= self.room or passes >= len(units):
                return groups
            passes += self.processes


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """Return the order of an epoch: units sorted by a keyed random number, whose raw stream numpy keeps stable."""
    keys = np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)).random_raw(count)
    return np.argsort(keys, kind="stable")


def _balanced(
    longest_first: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], passes: int
) -> tuple[list[Group], list[int]]:
    """Give each unit to the pass with the fewest tokens so far (Graham's LPT rule)."""
    groups: list[Group] = [[] for _ in range(passes)]
    loads = [0] * passes
    for unit in longest_first.tolist():
        least = loads.index(min(loads))
        groups[least].append(unit)
        loads[least] += int(lengths[unit])
    return groups, loads


def padded_tokens(schedule: Schedule, steps: int) -> tuple[int, int]:
    """Return (tokens, tokens and padding) of the first `steps` steps as they would lie in memory."""
    real = laid = 0
    for step in range(min(steps, schedule.steps)):
        for group in schedule.layout(schedule.units(step)):
            real += int(schedule.lengths[group].sum())
            laid += schedule.laid(group)
    return real, laid


def make_schedule(prepared: Prepared, packed: bool, seed: int, processes: int) -> Schedule:
    """Return the schedule of a run."""
    settings = prepared.settings
    per_unit = prepared.examples.per_unit
    return Schedule(
        lengths=prepared.examples.unit_lengths(), seed=seed, epochs=settings.epochs, micro_batch=settings.micro_batch,
        accumulate=settings.accumulate, processes=processes, max_steps=settings.max_steps,
        room=settings.micro_batch * settings.max_length * per_unit if packed else None,
    )  # fmt: skip
