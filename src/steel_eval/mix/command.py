"""The command `mix`: arms trained, the surface, what it allows, and what is written of it.

`surface.json`, `mix.html` and, where a mixture is named, `best.toml` are written last.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from steel_data.files import address, atomic_write
from steel_data.page.nav import MIX, publish
from steel_data.recipe.load import Recipe, laid, merge, to_toml
from steel_eval.arms import Job, RunArm, cards_of, carry_steps, portable_tables
from steel_eval.mix.page import write_page
from steel_eval.mix.print import print_surface
from steel_eval.mix.rank import own_tables, rank_arms
from steel_eval.mix.results import Run, confirmation, surface_of
from steel_eval.mix.search import Planned, Search, make_arm, run_design, train_planned

_CONFIRM = 900  # seeds of a confirmation begin here


def mix_command(search: Search, confirm: int = 0, rank: int = 0) -> dict[str, Any]:
    """Run a search to its end, print what it found, write it down and return `surface.json`. Raises InputError.

    `confirm`: train the proposal and the recipe's own mixture with so many fresh seeds each, and compare; `rank`: train
    so many arms as the recipe's own model too, and compare the order; 0: do not.
    """
    from steel_train.say import write_json

    tables = own_tables(search) if rank else {}
    runs = run_design(search)
    surface = surface_of(search.pool, search.space, search.settings, runs)
    if search.settings.sequential:
        runs, surface = _go_on(search, runs, surface)
    surface["name"], surface["tokens"] = search.recipe.name, _tokens(search, surface)
    surface["train"] = search.pool.tables["train"]
    if rank:
        surface["rank"] = rank_arms(search, tables, runs, surface["objective"]["of"], rank)
    if confirm and surface["proposal"] is not None:
        surface["confirmed"] = _confirm(search, surface, confirm)
    _write_best(search, surface)
    write_json(search.folder / "surface.json", surface)
    kept = [
        RunArm(a["name"], search.folder, search.folder / a["name"]) for a in surface["arms"] if a["kind"] != "design"
    ]
    publish(search.folder / "mix.html", write_page(surface), MIX, cards_of(kept))
    print_surface(surface, search.folder, confirm)
    return surface


def _go_on(search: Search, runs: list[Run], surface: dict[str, Any]) -> tuple[list[Run], dict[str, Any]]:
    """Train what the surface thinks best, and fit again; one arm more for each source that varies."""
    for number in range(1, len(search.pool.vary) + 1):
        if surface["lowest"] is None:
            break
        share_K = np.array([surface["lowest"][n] / search.pool.varied for n in search.pool.vary])
        seed = search.in_turn(number)
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
    """Write `best.toml`, which extends the recipe, and modules of its own steps beside it.

    Where no mixture is named, take away one of an earlier search.
    """
    place = search.folder / "best.toml"
    if surface["proposal"] is None:
        place.unlink(missing_ok=True)
        return
    recipe = search.recipe.path.absolute()
    try:
        parent = Path(os.path.relpath(recipe, search.folder.absolute())).as_posix()
    except ValueError:  # on another drive of Windows
        parent = recipe.as_posix()
    shares = search.pool.mix(surface["proposal"], int(surface["tokens"]["proposal"]))
    said = {"extends": parent, **merge(merge(laid(search.changes), _elsewhere(search.recipe)), shares)}
    carry_steps(search.recipe, search.folder)
    atomic_write(place, to_toml(said | {"name": f"{search.recipe.name}-best"}).encode())


def _elsewhere(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe says relative to its own folder, as it must be said in another one."""
    now, before = portable_tables(recipe), recipe.merged
    out = {"tokenizer": now["tokenizer"]} if now.get("tokenizer") != before.get("tokenizer") else {}
    train = {k: v for k, v in now["train"].items() if v != before.get("train", {}).get(k)}
    return out | ({"train": train} if train else {})
