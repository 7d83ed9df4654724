"""The command `mix`: a pool, arms around the recipe's own mixture, their trainings, the surface, and what it allows.

Everything that is done is verified and kept, so a killed search goes on where it was; `surface.json`, `mix.html` and,
where a mixture is named, `best.toml` are written last.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from steel_data.engine import tell
from steel_data.errors import InputError, one_line
from steel_data.files import address, atomic_write
from steel_data.recipe.load import Recipe, load, to_toml
from steel_data.recipe.places import places
from steel_eval.arms import Job, RunArm, build_arm, write_arm
from steel_eval.mix.design import Floats, Space, choose_arms, make_space
from steel_eval.mix.measure import ArmResult, Measuring, check_tasks, measure_all
from steel_eval.mix.pool import Pool, make_pool
from steel_eval.mix.results import Run, confirmation, surface_of
from steel_eval.mix.settings import SearchSettings, read_search

_CONFIRM = 900  # seeds of a confirmation begin here


@dataclass(frozen=True)
class Search:
    """One search: its recipe and settings, what it draws from, where it may look, and what it writes to."""

    recipe: Recipe
    settings: SearchSettings
    pool: Pool
    space: Space
    tokens: int
    folder: Path
    how: Measuring
    workers: int

    def seed(self, number: int) -> int:
        """Return the training seed of a run: no two of a search are equal."""
        return 1000 * self.settings.seed + number


def mix_command(recipe_path: Path, data: Path | None, out: Path | None, workers: int, confirm: int) -> None:
    """Run a search to its end, print what it found and write it down. Raises InputError.

    `data`: the data root, of sources and questions; by default that of the recipe. `out`: by default `runs/<name>/mix`.
    `confirm`: train the proposal and the recipe's own mixture with so many fresh seeds each, and compare; 0: do not.
    """
    from steel_eval.mix.page import write_page
    from steel_eval.mix.print import print_surface
    from steel_train.say import write_json

    search = prepare_search(recipe_path, data, out, workers)
    runs = run_design(search)
    surface = surface_of(search.pool, search.space, search.settings, runs)
    if search.settings.sequential:
        runs, surface = _go_on(search, runs, surface)
    surface["name"], surface["tokens"] = search.recipe.name, _tokens(search, surface)
    surface["train"] = search.pool.tables["train"]
    if confirm and surface["proposal"] is not None:
        surface["confirmed"] = _confirm(search, surface, confirm)
    _write_best(search, surface)
    write_json(search.folder / "surface.json", surface)
    atomic_write(search.folder / "mix.html", write_page(surface).encode())
    print_surface(surface, search.folder, confirm)


def prepare_search(recipe_path: Path, data: Path | None, out: Path | None, workers: int) -> Search:
    """Check what can be checked without training, build the pool, and settle where arms may lie. Raises InputError."""
    recipe = load(recipe_path)
    where = f"{recipe.path} [search]"
    settings = read_search(recipe.search, recipe.path)
    root = places(recipe, data, None, None).data_root.absolute()
    folder = out or Path("runs") / recipe.name / "mix"
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
    return Search(recipe, settings, pool, space, tokens, folder, how, workers)


def _check_own(where: str, pool: Pool, tokens: int) -> None:
    """Refuse tokens for which the recipe's own mixture has not enough of a source, stating what there is."""
    largest = pool.largest(pool.own)
    if tokens <= largest:
        return
    short = min((n for n in pool.own if pool.own[n]), key=lambda n: pool.there[n] * pool.copies[n] / pool.own[n])
    raise InputError(
        f"{where}: tokens = {tokens:,}: the recipe's share of '{short}' ({pool.own[short]:.3g}) needs "
        f"{pool.own[short] * tokens:,.0f} tokens; it has {pool.there[short]:,}, {pool.copies[short]} times at most. "
        f"Right: tokens = {largest} or less, or a larger max_repeat."
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
    """Build and train the recipe's own mixture with every seed, and each arm once; return all runs, failed ones too."""
    settings = search.settings
    own_K = search.space.own
    centre = make_arm(search, "centre", own_K, [search.seed(i) for i in range(1, settings.centre + 1)])
    share_NK = choose_arms(search.space, settings.runs or 4 * len(own_K), settings.seed)
    planned = [Planned("centre", Job(centre, search.seed(i)), own_K) for i in range(1, settings.centre + 1)]
    for number, share_K in enumerate(share_NK, start=1):
        seed = search.seed(100 + number)
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
    measured = measure_all([p.job for p in planned], search.how, search.workers, done)
    return [
        Run(p.kind, p.job.arm.name, p.job.seed, search.pool.shares(p.share), p.share, found)
        for p, found in zip(planned, measured, strict=True)
    ]


def _tell_run(found: ArmResult, count: Any, of: int) -> None:
    said = one_line(found.failed) or ", ".join(f"{name} {value:.4f}" for name, value in found.value.items())
    tell(f"{next(count)} of {of}: {found.job.arm.name}, seed {found.job.seed}: {said}")


def _go_on(search: Search, runs: list[Run], surface: dict[str, Any]) -> tuple[list[Run], dict[str, Any]]:
    """Train what the surface thinks best, and fit again; one arm more for each source that varies."""
    for number in range(1, len(search.pool.vary) + 1):
        if surface["lowest"] is None:
            break
        share_K = np.array([surface["lowest"][n] / search.pool.varied for n in search.pool.vary])
        seed = search.seed(500 + number)
        name = f"next-{number}-{address(surface['lowest'])[:8]}"
        arm = make_arm(search, name, share_K, [seed])
        runs = [*runs, *train_planned(search, [Planned("next", Job(arm, seed), share_K)])]
        surface = surface_of(search.pool, search.space, search.settings, runs)
    return runs, surface


def _tokens(search: Search, surface: dict[str, Any]) -> dict[str, int | None]:
    """Return the tokens of an arm, of the recipe's mixture, and of the proposal: no more than its data suffice for."""
    pool, proposal = search.pool, surface["proposal"]
    largest = pool.largest(proposal) if proposal else None
    return {"arm": search.tokens, "recipe": pool.total, "proposal": min(pool.total, largest) if largest else None}


def _confirm(search: Search, surface: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Train proposal and own mixture with fresh seeds, side by side, and compare them by the paired tests."""
    proposal = surface["proposal"]
    fresh = [search.seed(_CONFIRM + i) for i in range(seeds)]
    best_K = np.array([proposal[n] / search.pool.varied for n in search.pool.vary])
    own_K = search.space.own
    known = [search.seed(i) for i in range(1, search.settings.centre + 1)]
    sides = {
        "centre": (make_arm(search, "centre", own_K, [*known, *fresh]), own_K),
        "proposal": (make_arm(search, f"proposal-{address(proposal)[:8]}", best_K, fresh), best_K),
    }
    planned = [Planned(kind, Job(arm, seed), share_K) for seed in fresh for kind, (arm, share_K) in sides.items()]
    return confirmation(train_planned(search, planned), search.settings.measure, surface["objective"]["of"])


def _write_best(search: Search, surface: dict[str, Any]) -> None:
    """Write `best.toml`, which extends the recipe; where no mixture is named, take away one of an earlier search."""
    place = search.folder / "best.toml"
    if surface["proposal"] is None:
        place.unlink(missing_ok=True)
        return
    recipe = search.recipe.path.absolute()
    try:
        parent = Path(os.path.relpath(recipe, search.folder.absolute())).as_posix()
    except ValueError:  # on another drive of Windows
        parent = recipe.as_posix()
    changes = search.pool.mix(surface["proposal"], int(surface["tokens"]["proposal"]))
    atomic_write(place, to_toml({"extends": parent, "name": f"{search.recipe.name}-best", **changes}).encode())
