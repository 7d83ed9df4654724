"""`trial`: selections of one source as arms, compared with random draws, or whole recipes, compared with the own one.

The control is trained first: how much its seeds differ says, before the others are trained, what the trial can see.
Arms are ordinary run folders; a killed trial goes on where it was.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from steel_data.engine import Executor, tell
from steel_data.errors import InputError, one_line
from steel_data.files import atomic_write
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.rows import files, rows
from steel_data.page.nav import TRIAL, publish
from steel_data.recipe.load import Recipe, load
from steel_data.recipe.places import places
from steel_data.recipe.selection import RATED
from steel_eval.arms import Job, RunArm, build_arm, cards_of, carry_steps, trained_on, with_source, write_arm
from steel_eval.mix.measure import ArmResult, Measuring, check_tasks, measure_all
from steel_eval.mix.pool import arms_tables, built_pool, held_order, row_keys, rows_to_hold, write_held
from steel_eval.trial.arms import Sized, batches, equal_arms
from steel_eval.trial.recipes import arms_recipes, arms_tables_of, recipe_arms
from steel_eval.trial.results import compared, gains, smallest_seen
from steel_eval.trial.settings import TrialSettings, read_trial


@dataclass(frozen=True)
class Trial:
    """All that a trial needs while it runs. `tables`: the arms' recipe without the selection."""

    recipe: Recipe
    settings: TrialSettings
    source: str
    selects: dict[str, dict[str, Any]]
    tables: dict[str, Any]
    rows: int  # there are to select from
    folder: Path
    how: Measuring
    notes: tuple[str, ...]
    held: dict[str, int]  # source -> rows held out of all arms


def trial_command(
    recipe_path: Path, data: Path | None, out: Path | None, executor: Executor, changes: Sequence[str]
) -> dict[str, Any]:
    """Run a trial to its end, print what it shows, write `trial.html` and `trial.json`, and return the latter.

    Raises InputError.
    """
    from steel_eval.trial.page import print_trial, write_page

    recipe = load(recipe_path, changes)
    trial = _prepared(recipe, data, out)
    arms, sized = _recipes_sized(trial) if trial.settings.recipes else _sized(trial)
    control = trial.settings.controls[0]
    found = {control: _trained(trial, arms[control], executor)}
    power = _power(trial, found[control], len(trial.settings.pairs))
    tell(power["words"])
    for name in arms:
        if name != control:
            found[name] = _trained(trial, arms[name], executor)
    result = {
        "name": recipe.name, "source": trial.source, "measure": trial.settings.measure.names,
        "unit": trial.settings.measure.unit, "power": power,
        "arms": {name: _arm(trial, name, sized[name], runs) for name, runs in found.items()},
        "tests": compared(found, trial.settings),
        "failed": [[n, r.job.seed, r.failed] for n, runs in found.items() for r in runs if r.failed],
        "notes": list(trial.notes),
    }  # fmt: skip
    atomic_write(trial.folder / "trial.json", (json.dumps(result, ensure_ascii=False, indent=2) + "\n").encode())
    publish(trial.folder / "trial.html", write_page(result), TRIAL, cards_of(run[0].job.arm for run in found.values()))
    print_trial(result, trial.folder)
    return result


def _prepared(recipe: Recipe, data: Path | None, out: Path | None) -> Trial:
    """Check what can be checked without training, build the pool and hold rows out of it. Raises InputError."""
    where = f"{recipe.path} [trial]"
    settings, source, selects = read_trial(recipe)
    place = places(recipe, data, None, None)
    root, folder = place.data_root.absolute(), (out or Path("runs") / recipe.name / "trial").absolute()
    measure = settings.measure
    if measure.tasks is not None:
        check_tasks(where, measure, root)
    carry_steps(recipe, folder / "recipes")
    tables = arms_tables(recipe, settings.proxy, where)
    if source:
        tables = with_source(tables, source, {})
        tables["source"][source].pop("select", None)
    free = {s.name for s in recipe.sources if not s.builder.injects and s.table.allow_test_split is None}
    for name in measure.held_out or ():
        if name not in free or (name != source and "select" in tables["source"][name]):
            raise InputError(f"{where}: measure: rows of '{name}' cannot be held out. Fix: a source of plain rows.")
    if isinstance(tables["train"]["model"], dict) and not tables["train"].get("tokenizer"):
        tables["train"]["tokenizer"] = trained_on(built_pool("tokenizer", tables, folder, root), tables)
    # without shares and budgets, which would leave out rows that other arms have
    pool = built_pool("pool", {k: v for k, v in tables.items() if k != "mix"}, folder, root)
    manifest, keys = read_manifest(pool.mixture), row_keys(pool.mixture)
    held = {name: rows_to_hold(where, name, manifest) for name in measure.held_out or ()}
    notes = write_held(where, held_order(recipe.seed, held, keys), keys, pool, folder / "held-out")
    if not settings.recipes:
        for name, rows in held.items():
            tables["source"][name]["hold_out"] = rows
    there = int(manifest["sources"][source]["written"]) - held.get(source, 0) if source else 0
    how = Measuring(measure, root, folder / "held-out", folder / "store.jsonl")
    return Trial(recipe, settings, source, selects, tables, there, folder, how, notes, held)


def _sized(trial: Trial) -> tuple[dict[str, RunArm], dict[str, Sized]]:
    """Build all arms, equal in steps and trainable tokens. Raises InputError, for lacking ratings too."""
    from steel_train.examples.encode import Encoder, Learnt

    train = trial.tables["train"]
    of_source = {name: table["loss"] for name, table in trial.tables["source"].items() if table.get("loss")}
    learnt = Learnt(train.get("loss", "assistant"), of_source)
    encoder = Encoder(_tokenizer(train), int(train.get("max_length", 2048)), learnt=learnt)
    known: dict[tuple[str, int], tuple[int, int]] = {}

    def made(name: str, rows: int, settings: dict[str, Any]) -> RunArm:
        tables = with_source(trial.tables, trial.source, {"select": {**trial.selects[name], "rows": rows}})
        return write_arm(name, {**tables, "train": {**train, **settings, "seeds": trial.settings.seeds}}, trial.folder)

    def count(name: str, rows: int) -> tuple[int, int]:
        if (name, rows) not in known:
            arm = made(name, rows, {})
            try:
                build_arm(arm, trial.folder, trial.how.data)
            except InputError as error:
                raise InputError(_of_trial(trial, name, str(error))) from None
            known[name, rows] = _learnt(arm.mixture, encoder)
        return known[name, rows]

    least = int(train.get("micro_batch", 8)) * int(train.get("accumulate", 8))
    where = f"{trial.recipe.path} [trial]"
    sized = equal_arms(where, list(trial.selects), trial.settings.tokens, least, trial.rows, count)
    arms = {}
    for name, size in sized.items():
        arms[name] = made(name, size.selected, batches(size.per_step, int(train.get("micro_batch", 8))))
        build_arm(arms[name], trial.folder, trial.how.data)
        tell(
            f"arm {name}: {size.selected:,} rows of {trial.source}, {size.steps:,} steps of {size.per_step}, "
            f"{size.tokens:,} trainable tokens"
        )
    return arms, sized


def _recipes_sized(trial: Trial) -> tuple[dict[str, RunArm], dict[str, Sized]]:
    """Build the recipes of a trial, equal in steps and trainable tokens. Raises InputError."""
    from steel_train.examples.encode import Encoder

    train = {**trial.tables["train"], "seeds": trial.settings.seeds}
    encoder = Encoder(_tokenizer(train), int(train.get("max_length", 2048)))
    recipes = arms_recipes(trial.recipe, trial.settings.recipes)
    tables = arms_tables_of(recipes, {"train": train}, trial.held)
    arms, sized = recipe_arms(
        recipes, tables, trial.settings.tokens, trial.folder, trial.how.data, lambda mixture: _learnt(mixture, encoder)
    )
    for name, size in sized.items():
        build_arm(arms[name], trial.folder, trial.how.data)
        tell(
            f"arm {name}: {size.selected:,} rows, {size.steps:,} steps of {size.per_step}, {size.tokens:,} trainable "
            f"tokens: {size.steps * size.per_step / size.rows:.1f} epochs"
        )
    return arms, sized


def _of_trial(trial: Trial, name: str, words: str) -> str:
    """Return an arm's error in words that hold for the trial: its ratings lie beside its arms."""
    if trial.selects[name]["by"] in RATED and "steel rate" in words:
        return f"arm '{name}': {words} With --cache {trial.folder / '.cache'}."
    return f"arm '{name}': {words}"


def _tokenizer(train: dict[str, Any]) -> Any:
    from steel_eval.tokenizer import load_tokenizer

    return load_tokenizer(Path(train.get("tokenizer") or train["model"]))


def _learnt(mixture: Path, encoder: Any) -> tuple[int, int]:
    """Return rows of a mixture, and the tokens in them that training learns."""
    learnt = count = 0
    for name in files(mixture):
        stream = rows(mixture, [name])
        while part := list(islice(stream, 1000)):
            count += len(part)
            learnt += sum(int(e.learnt.sum()) for found in encoder.encode(part) for e in found.examples)
    return count, learnt


def _trained(trial: Trial, arm: RunArm, executor: Executor) -> list[ArmResult]:
    jobs = [Job(arm, seed) for seed in trial.settings.seeds]
    return measure_all(jobs, trial.how, executor, lambda found: tell(found.words()))


def _power(trial: Trial, runs: Sequence[ArmResult], tests: int) -> dict[str, Any]:
    """Say what the trial can see, from the random arm's seeds. Raises InputError where too few of them have values."""
    whole = [run for run in runs if not run.failed]
    if len(whole) < 2:
        why = "; ".join(run.failed for run in runs if run.failed)
        control = trial.settings.controls[0]
        raise InputError(f"{trial.recipe.path} [trial]: the {control} arm has too few values: {one_line(why)}")
    value_SQ, which_Q = gains(whole, trial.settings.measure)
    smallest = smallest_seen(value_SQ, which_Q, tests)
    return {
        "smallest": smallest, "tests": tests, "seeds": len(whole),
        "words": f"With {len(whole)} seeds an arm and {tests} tests, differences under {smallest:.4f} "
        f"({trial.settings.measure.unit}) will mostly not be seen: so much the seeds of the "
        f"{trial.settings.controls[0]} arm differ.",
    }  # fmt: skip


def _arm(trial: Trial, name: str, size: Sized, runs: Sequence[ArmResult]) -> dict[str, Any]:
    return {
        "select": trial.selects.get(name) or trial.settings.recipes.get(name, {}), **asdict(size),
        "values": {measure: [run.value.get(measure) for run in runs] for measure in trial.settings.measure.names},
        "seeds": [run.job.seed for run in runs],
    }  # fmt: skip
