"""A contamination study from one recipe: arms and seeds built, trained, scored, compared, and detectors measured.

Everything that is done is verified and kept, so a stopped study goes on where it was; `study.json` and `study.html` are
written last.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from steel_data.engine import Executor, reached
from steel_data.mixture.manifest import read_manifest
from steel_data.page.nav import STUDY, publish
from steel_data.recipe.load import Recipe, load
from steel_data.row.display import command, print_next
from steel_eval.arms import RunArm, cards_of
from steel_eval.study.arms import HEADLINE, injected_share, injected_source, make_arms, train_arms
from steel_eval.study.settings import StudySettings, read_study_settings
from steel_eval.study.verdict import study_verdicts

if TYPE_CHECKING:
    from steel_eval.ask.tasks import Task


def study_command(
    recipe_path: Path | Recipe, data: Path, out: Path | None, executor: Executor, said: dict[str, Any]
) -> dict[str, Any]:
    """Run a study to its end; print its results, write `rates.json`, `study.html` and `study.json`; return the latter.

    `data`: the folder of the questions; `out`: by default `runs/<name>`; `executor`: where runs are placed; `said`:
    what the command line says of keys of the recipe's `[eval]`, None: as the recipe says. Raises InputError.
    """
    from steel_eval.ask.prompts import check_switches, known_presets
    from steel_eval.ask.tasks import limited, load_task
    from steel_eval.study.page import write_page
    from steel_eval.study.print import print_study
    from steel_eval.study.results import UNMEASURED, study_results
    from steel_eval.study.score import score_arms
    from steel_train.say import write_json

    recipe = load(recipe_path)
    source = injected_source(recipe)
    settings = read_study_settings(recipe.eval, recipe.path, said)
    folder = reached(executor, out or Path("runs") / recipe.name)
    switched = settings.thinking is not None or bool(settings.chat_template_kwargs)
    check_switches(known_presets(settings.presets), switched, settings.max_new_tokens is not None)
    tasks = [limited(load_task(name, data), settings.limit) for name in settings.tasks]
    if settings.pool:
        return _pool(recipe, settings, tasks, folder, data.absolute(), executor)
    arms = make_arms(recipe, settings, folder, data.absolute())
    about = _about(arms, source)
    about["notes"] += _tries(tasks)
    for line in about["notes"]:
        typer.echo(line)
    train_arms(arms, data.absolute(), executor)
    scored = score_arms(arms, tasks, settings, folder, executor)
    found, own = study_results(scored, tasks, settings), settings.presets[0]
    results = {
        "name": recipe.name, **about, "preset": own, "shots": settings.shots, "tasks": found[own], "presets": found,
        **UNMEASURED,
    }  # fmt: skip
    if settings.detectors:
        from steel_eval.study.detectors import measure_detectors

        results |= measure_detectors(scored, tasks, settings, folder, executor)
    results = {"verdict": [v.data() for v in study_verdicts(results)], **results}
    print_study(results)
    if results["detectors"]:
        write_json(folder / "rates.json", results["detectors"])
    write_json(folder / "study.json", results)
    publish(folder / "study.html", write_page(results), STUDY, cards_of(arms))
    typer.echo(str(folder / "study.json"))
    typer.echo(str(folder / "study.html"))
    print_next(f"{command('open', folder / 'study.html')} opens the page")
    return results


def _pool(
    recipe: Recipe, settings: StudySettings, tasks: Sequence["Task"], folder: Path, data: Path, executor: Executor
) -> dict[str, Any]:
    """Run a crossed pool to its end; print its results, write and return them."""
    from steel_eval.study.page import write_pool_page
    from steel_eval.study.pool import make_pool, pool_calibration, pool_results
    from steel_eval.study.print import print_pool
    from steel_eval.study.score import score_arms
    from steel_eval.study.verdict import pool_verdicts
    from steel_train.say import write_json

    arms, ordinary = make_pool(recipe, folder, data)
    about = _about(arms, injected_source(recipe))
    about["notes"] += _tries(tasks)
    for line in about["notes"]:
        typer.echo(line)
    train_arms(arms, data, executor)
    scored = score_arms(arms, tasks, settings, folder, executor)
    found = pool_results([scored[arm.name] for arm in arms], ordinary, tasks, settings, folder, executor)
    results: dict[str, Any] = {
        "name": recipe.name, "runs": about["arms"], "notes": about["notes"], "train": about["train"],
        "preset": settings.presets[0], "shots": settings.shots, **found,
    }  # fmt: skip
    results = {"verdict": [v.data() for v in pool_verdicts(results)], **results}
    print_pool(results)
    if results["detectors"]:
        write_json(folder / "rates.json", pool_calibration(results["detectors"], [scored[arm.name] for arm in arms]))
    write_json(folder / "study.json", results)
    publish(folder / "study.html", write_pool_page(results), STUDY, cards_of(arms))
    typer.echo(str(folder / "study.json"))
    typer.echo(str(folder / "study.html"))
    print_next(f"{command('open', folder / 'study.html')} opens the page")
    return results


def _tries(tasks: Sequence["Task"]) -> list[str]:
    """Return a line for each task of which only a part is asked."""
    return [
        f"{task.name}: --limit {task.limit}: a try on {n:,} of {task.whole:,} questions"
        for task in tasks if task.limit and (n := sum(map(len, task.items.values())))
    ]  # fmt: skip


def _about(arms: list[RunArm], source: str) -> dict[str, Any]:
    """Return what the arms are, and in `notes` what makes them less than a headline study."""
    shares = {arm.name: injected_share(arm.mixture, source) for arm in arms}
    heads = {arm.name: read_manifest(arm.mixture) for arm in arms}
    tokens = {name: int(head["tokens"]) for name, head in heads.items()}
    notes = [
        f"{name}: {share['tokens']:.1%} of the tokens are injected: a stress test, not a dilution"
        for name, share in shares.items() if share["tokens"] > HEADLINE
    ]  # fmt: skip
    if max(tokens.values()) > 1.01 * min(tokens.values()):
        sizes = ", ".join(f"{name} {n:,}" for name, n in tokens.items())
        notes.append(f"the arms differ in tokens: {sizes}")
    rows = [
        {
            "name": arm.name, "rows": int(heads[arm.name]["rows"]), "tokens": tokens[arm.name], "seeds": len(arm.seeds),
            "injected": shares[arm.name], "content_sha256": heads[arm.name]["content_sha256"],
        }
        for arm in arms
    ]  # fmt: skip
    train = dict(load(arms[0].recipe).train)
    return {"arms": rows, "injected_share": {n: s["rows"] for n, s in shares.items()}, "notes": notes, "train": train}
