"""The commands of `python -m steel_data`. Each imports what it needs when it runs: `--help` takes under 0.3 s."""

import os
from pathlib import Path
from typing import Annotated

import typer

from steel_data.engine import tell_at_once
from steel_data.store.names import told

app = typer.Typer(
    help="Make training mixtures from recipes, and account for every row.\n\n`--lang zh` or STEEL_LANG=zh: in Chinese.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe file (.toml), or @name of one that comes with steel.")
]
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A mixture folder that `build` wrote; s3://… is copied here to be read.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Where the data lies, may be s3://…; else STEEL_DATA_ROOT, the recipe's data_root, its folder."),
]
Out = Annotated[Path | None, typer.Option(help="Output folder, may be s3://…; by default runs/<name>/mixture.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        help="Reusable intermediate files, may be s3://…; else STEEL_CACHE, else .cache beside the output folder."
    ),
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay over the recipe; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the same numbers as JSON.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")]


@app.command(epilog="Example: steel build mine.toml --data-root data --set source.chat.take=1000")
def build(
    recipe: RecipePath,
    data_root: DataRoot = None,
    out: Out = None,
    cache: Cache = None,
    workers: Workers = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Build nothing: fail, naming what differs, unless this mixture is there.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every input again, byte by byte; else size and time tell a change.")
    ] = False,
    engine: Annotated[str, typer.Option(help="local, ray or ray:ADDRESS (docs/scale.md).")] = "local",
    part: Annotated[
        str | None, typer.Option(metavar="K/N", help="Do one of N shares of the work, for --finish (docs/scale.md).")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Build what all parts have prepared.")] = False,
    memory: Annotated[
        str | None, typer.Option(metavar="4GB", help="Keep all processes together to so much; the bytes are the same.")
    ] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Build the mixture of a recipe; run again, it verifies what is there."""
    tell_at_once(f"reading {recipe} and what it names")
    from steel_data import parts
    from steel_data.build import Result, reached_by
    from steel_data.build import build as run_build
    from steel_data.cluster import executor
    from steel_data.engine import bytes_of
    from steel_data.errors import InputError, visible
    from steel_data.print import print_build, print_json
    from steel_data.recipe.load import load
    from steel_data.recipe.places import places
    from steel_data.row.display import print_data

    show = print_json if as_json else print_build
    if locked + finish + (part is not None) > 1:
        raise InputError("--locked, --part and --finish are each a build of its own. Fix: one of them.")
    share = None if part is None else parts.Share.read(part)
    # other machines start in other folders
    loaded = load(recipe.absolute() if engine != "local" and recipe.exists() else recipe, changes or ())
    there = executor(engine, workers or os.cpu_count() or 1, None if memory is None else bytes_of(memory))
    if locked:
        from steel_data.explain.lock import verify_lock

        where = reached_by(there, places(loaded, data_root, out, cache))
        folder, manifest, warnings = verify_lock(loaded, where, there, verify)
        show(Result(folder, manifest, fresh=False, warnings=warnings))
        return
    if share is not None:
        where = places(loaded, data_root, out, cache)
        tasks = parts.build_part(loaded, where, share, there, verify)
        if as_json:
            print_data({"part": part, "recipe": loaded.name, "tasks": tasks})
            return
        typer.echo(visible(f"part {part} of {loaded.name}: {tasks:,} tasks; after all parts: steel build --finish"))
        return
    if finish:
        show(parts.finish(loaded, places(loaded, data_root, out, cache), there, verify))
        return
    show(run_build(loaded, data_root=data_root, out=out, cache=cache, workers=there, verify=verify))


@app.command(epilog="Example: steel plan mine.toml --data-root data")
def plan(
    recipe: RecipePath,
    data_root: DataRoot = None,
    cache: Cache = None,
    workers: Workers = None,
    exact: Annotated[
        bool, typer.Option(help="Run the passes (their work is kept for build) instead of a sample.")
    ] = False,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Forecast a recipe without building it: rows, tokens, languages, repeats, steps; ≤ marks upper bounds."""
    tell_at_once(f"reading {recipe} and what it names")
    from steel_data.explain.forecast import forecast
    from steel_data.print import print_forecast, print_json
    from steel_data.recipe.load import load
    from steel_data.row.display import command

    loaded = load(recipe, changes or ())
    found = forecast(loaded, data_root=data_root, cache=cache, workers=workers or os.cpu_count() or 1, exact=exact)
    if as_json:
        print_json(found)
        return
    print_forecast(found, command("build", recipe, data_root=data_root, cache=cache, set=changes))


@app.command(epilog="Example: steel analyze rows.jsonl --recipe mine.toml")
def analyze(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH…", help="Files, folders, globs, hf://datasets/…; no recipe is needed.")
    ],
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="A benchmark to compare with, by path or name; again for more. Else those beside the data."),
    ] = None,
    data_root: DataRoot = None,
    workers: Workers = None,
    recipe: Annotated[Path | None, typer.Option(help="Write the recipe that builds it, such as mine.toml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the recipe over a file that is there.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write all that was found as a page, in the card's look.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that was found as JSON.")] = False,
) -> None:
    """Say what data without a recipe hold, what a build would keep and lose, and write the recipe for it."""
    tell_at_once(f"looking at {', '.join(paths)}")
    import json

    from steel_data.analyze.analysis import analyze as run_analyze
    from steel_data.analyze.facts import facts
    from steel_data.analyze.print import print_analysis
    from steel_data.analyze.recipe import refuse_existing, write_recipe
    from steel_data.errors import InputError

    if recipe is not None:
        refuse_existing(recipe, force)
    found = run_analyze(paths, benchmarks=benchmark, data_root=data_root, workers=workers or os.cpu_count() or 1)
    said = facts(found)
    if html is not None:
        from steel_data.analyze.page import write_page

        write_page(html, said)
    written = recipe if found.recipe else None
    if written is not None:
        write_recipe(written, found.recipe, found.files.root)
    if as_json:
        typer.echo(json.dumps(said, ensure_ascii=True, indent=2))
    else:
        print_analysis(said, written, paths)
    if recipe is not None and written is None:
        raise InputError(
            f"{recipe}: not written, since no part of the input can be built as it is. Fix: what is said of each part."
        )


@app.command(epilog="Example: steel recipes")
def recipes(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the recipes that come with steel; `steel build @exp3` uses one by its name."""
    from steel_data.print import print_recipes

    print_recipes(as_json)


@app.command(epilog="Example: steel check runs/mine/mixture")
def check(folder: Folder) -> None:
    """Verify a mixture: files against checksums, ids, order and ledger against the manifest."""
    tell_at_once(f"reading {told(folder)}")
    from steel_data.mixture.check import check_mixture
    from steel_data.row.display import print_line
    from steel_data.store.copies import brought, told_as

    here = brought(folder)
    with told_as(here, folder):
        for line in check_mixture(here).replace(str(here), told(folder)).splitlines():
            print_line(line)


@app.command(epilog="Example: steel show runs/mine/mixture --source chat -n 3")
def show(
    folder: Folder,
    source: Annotated[str | None, typer.Option(help="Only rows of this source.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only rows of this kind: chat, exam, identity, injected, …")] = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="Show dropped rows with reason and witness.")] = False,
    grep: Annotated[str | None, typer.Option(help="Only rows in which this regular expression is found.")] = None,
    number: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same rows as JSON, one a line.")] = False,
) -> None:
    """Print conversations of a mixture readably."""
    import signal

    from steel_data.mixture.show import print_rows, show_rows
    from steel_data.store.copies import brought, told_as

    if hasattr(signal, "SIGPIPE"):  # `show … | head` closes the pipe: end as other commands do, without a word
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    show = print_rows if as_json else show_rows
    here = brought(folder)
    with told_as(here, folder):
        show(here, source=source, kind=kind, dropped=dropped, grep=grep, number=number)


@app.command(epilog="Example: steel why runs/mine/mixture rows.jsonl:12")
def why(
    folder: Folder,
    row: Annotated[str, typer.Argument(metavar="ROW_OR_TEXT", help="file:row, an id, a benchmark's item, or text.")],
    recipe: Annotated[
        Path | None, typer.Option(help="The recipe, where a sampled-out row's needs its own code.")
    ] = None,
    data_root: DataRoot = None,
    cache: Cache = None,
    number: Annotated[int, typer.Option("-n", min=1, help="How many records are shown.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same answer as JSON.")] = False,
) -> None:
    """Say what became of a row: kept where, dropped by which step because of which other row, or sampled out."""
    tell_at_once(f"reading {told(folder)}")
    from steel_data.explain.query import Again
    from steel_data.explain.why import ask, next_steps, print_answer
    from steel_data.row.display import print_next
    from steel_data.store.copies import brought, told_as

    again = Again(recipe, data_root, cache, os.cpu_count() or 1)
    here = brought(folder)
    with told_as(here, folder):
        answer = ask(here, row, again, number)
    if as_json:
        from dataclasses import asdict

        from steel_data.row.display import print_data

        print_data(asdict(answer))
        return
    print_answer(answer)
    if steps := next_steps(answer, told(folder)):
        print_next(*steps)


@app.command(epilog="Example: steel diff runs/mine/mixture runs/other/mixture")
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A mixture folder or a recipe.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    data_root: DataRoot = None,
    cache: Cache = None,
    workers: Workers = None,
    number: Annotated[int, typer.Option("-n", min=0, help="Examples of each change.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Say what changed from A to B: recipe keys, rows by source, language and kind, tokens, optimiser steps."""
    tell_at_once(f"reading {told(a)} and {told(b)}")
    from steel_data.explain.diff import Where, print_diff
    from steel_data.explain.diff import diff as run_diff
    from steel_data.row.display import command, print_data, print_next
    from steel_data.store.copies import brought

    found = run_diff(brought(a), brought(b), Where(data_root, cache, workers or os.cpu_count() or 1), number)
    if as_json:
        print_data(found.data())
        return
    print_diff(found)
    if b.suffix == ".toml":
        print_next(f"{command('build', b, data_root=data_root, cache=cache)} builds mixture B")
    else:
        print_next(f"{command('show', b)} prints rows of B")


@app.command(epilog="Example: steel export runs/mine/mixture --to llamafactory")
def export(
    folder: Folder,
    to: Annotated[str, typer.Option(help="llamafactory, sharegpt, alpaca or messages (TRL and others).")],
    out: Annotated[Path | None, typer.Option(help="Output folder; by default DIR-<to> beside the mixture.")] = None,
) -> None:
    """Write a mixture in another tool's format; rows it cannot hold are put aside with the reason."""
    tell_at_once(f"reading {told(folder)}")
    from steel_data.mixture.export import export as run_export
    from steel_data.print import print_export

    print_export(run_export(folder, to, out))


@app.command(epilog="Example: steel fetch cmmlu ceval --data-root data")
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="RECIPE|NAME...", help="Recipes, or ceval, cmmlu, mmlu.")],
    data_root: DataRoot = None,
) -> None:
    """Download what the sources' `origin` names, or a benchmark, into the data root, pinned; what is there stays."""
    tell_at_once(f"fetching {', '.join(names)}")
    from steel_data.fetch import fetch_named, next_steps
    from steel_data.row.display import print_next

    fetch_named(names, data_root)
    print_next(*next_steps(names, data_root))


@app.command(epilog="Example: steel sample data --scale 0.1")
def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write (a new folder, or an earlier sample).")],
    seed: Annotated[int, typer.Option(help="Random seed: the same seed writes the same rows.")] = 42,
    scale: Annotated[float, typer.Option(min=0.01, help="Size; 1 is some 20,000 rows.")] = 1.0,
) -> None:
    """Write a generated miniature of every data set that recipes/ name, in its real layout."""
    tell_at_once(f"writing {folder}")
    from steel_data.row.display import command, print_next, told_line
    from steel_data.sample import write_sample

    written = write_sample(folder, seed=seed, scale=scale)
    told_line(f"{folder}: {sum(rows for _, rows in written):,} rows in {len(written)} files, all invented")
    print_next(f"{command('build', '@exp3', data_root=folder)} builds a mixture of it")
