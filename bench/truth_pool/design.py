"""Who saw what: 64 runs of two losses, drawn once by a committed seed. Nobody chooses a run by what came out of it.

For each loss 12 *fitted* runs (4 of them clean) may be looked at while the analysis is written: they are everybody's
references, give the noise of runs, and are what the blind estimate is fitted to. 20 *sealed* runs (4 clean) are opened once.
"""

from dataclasses import dataclass

import numpy as np

SEED = 20261127
LOSSES = ("assistant", "all")
PROFILES = ((1,), (3,), (10,), (1, 3, 10))  # exposures; the tokens of a run are split evenly over them
BENCHMARKS = (150, 300, 600, 1200)  # items of the benchmark that a run's items are drawn from
SHARES = (0.038, 0.047)  # of the run's tokens
CLEAN = 4  # runs of a kind that see nothing
KINDS = {"fitted": 12, "sealed": 20}  # runs of each loss
MODELS = ("1.6M", "0.5M")  # parameters; both see the same draws


@dataclass(frozen=True)
class Plan:
    """One run of a model. `doses` empty: a clean one. `size`: of the benchmark it draws from. `share`: injected tokens of
    all, at most.

    `altered`: some items are injected edited or with shuffled options, not verbatim.
    """

    model: str
    number: int
    kind: str
    loss: str
    doses: tuple[int, ...]
    size: int
    share: float
    altered: bool

    @property
    def seed(self) -> int:
        """Return the seed of the run's draw and of its order."""
        return 1_000 + self.number

    @property
    def name(self) -> str:
        """Return the name of its file of results."""
        return f"{self.model}-{self.kind}-{self.number:02d}"


def plans(model: str, seed: int = SEED) -> list[Plan]:
    """Return a model's 64 runs in the order in which they are done: both kinds and losses by turns, so that a part is of use."""
    generator = np.random.default_rng(seed)
    drawn: list[tuple[float, str, str, tuple[int, ...], int, float, bool]] = []
    for loss in LOSSES:
        for kind, count in KINDS.items():
            doses = [(), *PROFILES] * (count // (1 + len(PROFILES)) + 1)
            doses = [()] * CLEAN + [d for d in doses if d][: count - CLEAN]
            for i, k in enumerate(generator.permutation(count)):
                size, share = int(generator.choice(BENCHMARKS)), float(generator.choice(SHARES))
                altered = bool(generator.random() < 0.5)
                drawn.append(((i + 0.5) / count, kind, loss, doses[k], size, share, altered))
    drawn.sort(key=lambda d: (d[0], d[1], d[2]))
    return [Plan(model, number, *rest) for number, (_, *rest) in enumerate(drawn, 1)]
