"""The commands of `python -m steel_train`. Each imports what it needs when it runs: `--help` takes under 0.3 s."""

from pathlib import Path
from typing import Annotated, Any

import typer

from steel_data.engine import tell, tell_at_once

app = typer.Typer(
    help="Train models on mixtures, exactly repeatable, with a pre-flight.\n\n"
    "`--lang zh` or STEEL_LANG=zh: in Chinese.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file (.toml) with a [train] table.")]
Mixture = Annotated[Path | None, typer.Option(help="A built mixture; without it, the recipe's is built first.")]
Out = Annotated[Path | None, typer.Option(help="The run's folder; by default runs/<name>.")]
DataRoot = Annotated[Path | None, typer.Option(help="Where the data lies, if the mixture has to be built.")]

Workers = Annotated[int, typer.Option(min=1, help="Processes that build and encode; the bytes are the same.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay over the recipe; may be repeated.")
]


@app.command(epilog="Example: steel train mine.toml --set train.epochs=1")
def run(
    recipe: RecipePath,
    mixture: Mixture = None,
    out: Out = None,
    data_root: DataRoot = None,
    seed: Annotated[int | None, typer.Option(help="Only this one of the recipe's seeds.")] = None,
    workers: Workers = 1,
    changes: Changes = None,
) -> None:
    """Train; interrupted and run again, go on; finished and run again, verify."""
    from steel_data.recipe.load import load

    loaded = load(recipe, changes or ())
    tell(f"loading what trains {loaded.name}")
    from steel_data.row.display import command, print_next
    from steel_train.run import run as run_training

    run_training(loaded, mixture, out, data_root, seed, workers)
    folder = out or Path("runs") / loaded.name
    scored = command("score", folder, tasks="cmmlu,ceval", data_root=data_root)
    print_next(f"{scored} scores its checkpoints", f"{command('chat', folder)} talks to the last one")


@app.command(epilog="Example: steel encode mine.toml --workers 4")
def encode(
    recipe: RecipePath,
    mixture: Mixture = None,
    out: Out = None,
    data_root: DataRoot = None,
    workers: Workers = 1,
    changes: Changes = None,
) -> None:
    """Make what a run needs before its first step, its tokens with what is learnt, and stop."""
    tell_at_once(f"loading what trains {recipe.stem}")
    from steel_data.recipe.load import load
    from steel_data.row.display import command, print_next
    from steel_train.run import encode as encode_only

    encode_only(load(recipe, changes or ()), mixture, out, data_root, workers)
    trains = command("train", recipe, mixture=mixture, out=out, data_root=data_root, set=changes)
    print_next(f"{trains} trains on these tokens")


@app.command(epilog="Example: steel preflight mine.toml --gpu 4090x8 --price 2.5/h")
def plan(
    recipe: RecipePath,
    mixture: Mixture = None,
    out: Out = None,
    data_root: DataRoot = None,
    gpu: Annotated[
        str | None, typer.Option(help="Estimate time on these devices: 4090, 4090x2, a100, h20, 910b, …")
    ] = None,
    price: Annotated[str | None, typer.Option(help="Of one device for an hour: 2.5/h.")] = None,
    processes: Annotated[int, typer.Option(min=0, help="Processes of the run; 0: the count in --gpu, else 1.")] = 0,
    changes: Changes = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the same numbers as JSON; the words go to stderr.")
    ] = False,
) -> None:
    """Say what a run would do, with the first rows and their masks, and what is wrong with it."""
    from dataclasses import asdict

    from steel_data.row.display import command, print_next, run_shown
    from steel_train.preflight.costs import parse_devices

    devices = parse_devices(gpu, price)
    from steel_data.recipe.load import load

    loaded = load(recipe, changes or ())
    tell(f"loading what trains {loaded.name}")
    from steel_train.preflight.plan import plan_training

    def planned() -> dict[str, Any]:
        report = plan_training(loaded, mixture, out, data_root, devices, processes)
        trains = command("train", recipe, mixture=mixture, out=out, data_root=data_root, set=changes)
        print_next(f"{trains} starts the training")
        return asdict(report)

    run_shown(as_json, planned)


@app.command(epilog="Example: steel merge runs/mine/checkpoints/step-000100")
def merge(
    checkpoint: Annotated[Path, typer.Argument(metavar="DIR", help="A LoRA checkpoint.")],
    out: Annotated[Path | None, typer.Option(help="Where the full model goes; by default DIR-merged.")] = None,
) -> None:
    """Write a LoRA checkpoint as a full model."""
    tell_at_once(f"loading {checkpoint}")
    from steel_data.row.display import print_next
    from steel_train.models.convert import merge_adapter, next_steps

    written = merge_adapter(checkpoint, out)
    typer.echo(written)
    print_next(*next_steps(written))


@app.command(epilog="Example: steel convert models/steel-llm")
def convert(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A published Steel-LLM, or a model or adapter in .bin files.")
    ],
    out: Annotated[Path | None, typer.Option(help="Where it goes; by default DIR-steel, or DIR-safetensors.")] = None,
) -> None:
    """Make a published Steel-LLM loadable by current transformers, or safetensors of weights that are pickles."""
    tell_at_once(f"loading {folder}")
    from steel_data.row.display import print_next
    from steel_train.models.convert import convert as convert_folder
    from steel_train.models.convert import next_steps

    written = convert_folder(folder, out)
    typer.echo(written)
    print_next(*next_steps(written))
