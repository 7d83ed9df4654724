"""A search: what is checked before any training, the pool, and arms around the recipe's own mixture.

Everything that is done is verified and kept, so a killed search goes on where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from steel_data.engine import Executor, reached, tell
from steel_data.errors import InputError, one_line
from steel_data.recipe.load import Recipe, load
from steel_data.recipe.places import places
from steel_eval.arms import Job, RunArm, build_arm, write_arm
from steel_eval.mix.design import Floats, Space, choose_arms, make_space
from steel_eval.mix.measure import ArmResult, Measuring, check_tasks, measure_all
from steel_eval.mix.pool import Pool, make_pool
from steel_eval.mix.results import Run
from steel_eval.mix.settings import SearchSettings, read_search


@dataclass(frozen=True)
class Search:
    """One search: its recipe (`changes` laid over), what it draws from, where it may look, and what it writes to."""

    recipe: Recipe
    settings: SearchSettings
    pool: Pool
    space: Space
    tokens: int
    folder: Path
    how: Measuring
    executor: Executor
    changes: tuple[str, ...] = ()

    def seed(self, number: int) -> int:
        """Return a training seed: those of different numbers, or of two searches, are not equal."""
        return 1000 * self.settings.seed + number

    def in_turn(self, number: int) -> int:
        """Return the training seed of an arm with other shares: those of the recipe's own runs take turns."""
        return self.seed(1 + (number - 1) % self.settings.centre)


def prepare_search(
    recipe_path: Path, data: Path | None, out: Path | None, executor: Executor, changes: Sequence[str] = ()
) -> Search:
    """Check what can be checked without training, build the pool, and settle where arms may lie. Raises InputError.

    `data`: the data root, of sources and questions; by default that of the recipe. `out`: by default `runs/<name>/mix`.
    `executor`: where arms are trained; `changes`: of the form `search.runs=6`, laid over the recipe.
    """
    recipe = load(recipe_path, changes)
    where = f"{recipe.path} [search]"
    settings = read_search(recipe.search, recipe.path)
    root = places(recipe, data, None, None).data_root.absolute()
    folder = reached(executor, out or Path("runs") / recipe.name / "mix")
    if settings.measure.tasks is not None:
        from steel_eval.ask.prompts import known_presets

        known_presets([settings.measure.preset])
        check_tasks(where, settings.measure, root)
    pool = make_pool(recipe, settings, folder, root)
    for note in pool.notes:
        tell(one_line(note))
    tokens = settings.tokens or min(pool.total, pool.largest(pool.own))
    _check_own(where, pool, tokens)
    space = space_of(where, pool, settings, tokens)
    how = Measuring(settings.measure, root, pool.held_folder, folder / "store.jsonl")
    return Search(recipe, settings, pool, space, tokens, folder, how, executor, tuple(changes))


def _check_own(where: str, pool: Pool, tokens: int) -> None:
    """Refuse tokens for which the recipe's own mixture has not enough of a source, stating what there is."""
    largest = pool.largest(pool.own)
    if tokens <= largest:
        return
    short = min((n for n in pool.own if pool.own[n]), key=lambda n: pool.there[n] * pool.copies[n] / pool.own[n])
    raise InputError(
        f"{where}: tokens = {tokens:,}: the recipe's share of '{short}' ({pool.own[short]:.3g}) needs "
        f"{pool.own[short] * tokens:,.0f} tokens; it has {pool.there[short]:,}, {pool.copies[short]} times at most. "
        f"Fix: tokens = {largest} or less, or a larger max_repeat."
    )


def space_of(where: str, pool: Pool, settings: SearchSettings, tokens: int) -> Space:
    """Return the space of the shares that vary, as parts of what they have together. Raises InputError."""
    free = pool.varied * (tokens - pool.injected) * 1.005
    own = {n: pool.own.get(n, 0.0) / pool.varied for n in pool.vary}
    bounds = {n: [b / pool.varied for b in settings.bounds[n]] for n in settings.bounds}
    most = {n: pool.there[n] * pool.copies[n] / free for n in pool.vary}
    return make_space(where, own, bounds, most)


@dataclass(frozen=True)
class Planned:
    """A training to come: what it is for (centre, design, next, proposal), and its shares of what varies, (K,)."""

    kind: str
    job: Job
    share: Floats


def run_design(search: Search) -> list[Run]:
    """Build and train the recipe's own mixture with every seed, and each arm once; return all runs, failed ones too.

    The arms take the seeds of the recipe's own runs in turn: much of what two runs differ by is their seed, and what
    runs of one seed share is no noise between their mixtures.
    """
    settings = search.settings
    own_K = search.space.own
    centre = make_arm(search, "centre", own_K, [search.seed(i) for i in range(1, settings.centre + 1)])
    share_NK = choose_arms(search.space, settings.runs or 4 * len(own_K), settings.seed)
    planned = [Planned("centre", Job(centre, search.seed(i)), own_K) for i in range(1, settings.centre + 1)]
    for number, share_K in enumerate(share_NK, start=1):
        seed = search.in_turn(number)
        planned.append(Planned("design", Job(make_arm(search, f"arm-{number:02d}", share_K, [seed]), seed), share_K))
    tell(f"{len(planned)} arms of {search.tokens:,} tokens are built: {settings.centre} of the recipe's own shares")
    return train_planned(search, planned)


def make_arm(search: Search, name: str, share_K: Floats, seeds: Sequence[int]) -> RunArm:
    """Write and build an arm: its mixture holds, of each source, the first rows of one order."""
    shares = search.pool.shares(share_K)
    arm = write_arm(name, search.pool.arm(shares, search.tokens, seeds), search.folder)
    build_arm(arm, search.folder, search.how.data)
    return arm


def train_planned(search: Search, planned: Sequence[Planned]) -> list[Run]:
    """Train and measure what is planned, side by side, a line of progress each; failed trainings are runs too."""
    count = iter(range(1, len(planned) + 1))
    done = partial(_tell_run, count=count, of=len(planned))
    measured = measure_all([p.job for p in planned], search.how, search.executor, done)
    return [
        Run(p.kind, p.job.arm.name, p.job.seed, search.pool.shares(p.share), p.share, found)
        for p, found in zip(planned, measured, strict=True)
    ]


def _tell_run(found: ArmResult, count: Any, of: int) -> None:
    tell(f"{next(count)} of {of}: {found.words()}")
