"""The commands of `steel`: those of the three packages under one name each, and those a newcomer needs first.

A command of a package is the same function under both names, so that `steel build` and `python -m steel_data build`
cannot differ. A few bear another name here (RENAMED).
"""

from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer
from typer.models import CommandInfo

from steel_data.cli import app as data
from steel_data.engine import tell, tell_at_once
from steel_eval.cli import app as eval_
from steel_train.cli import app as train

# (package, its own name) -> the name here, where the own one alone would not say of what
RENAMED = {("train", "run"): "train", ("train", "plan"): "preflight", ("eval", "check"): "check-scores"}

app = typer.Typer(
    help="Make, train and judge language models: `build` a mixture, `train` on it, `score` it, `compare`, `report`.\n\n"
    "Start with `steel init`, or with `steel analyze FILE`.\n\n"
    "`--lang zh` or STEEL_LANG=zh: in Chinese.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _name(command: CommandInfo) -> str:
    return command.name or command.callback.__name__.replace("_", "-")  # type: ignore[union-attr]


PACKAGES = {"data": data, "train": train, "eval": eval_}
for _package, _commands in PACKAGES.items():
    for _command in _commands.registered_commands:
        _own = _name(_command)
        app.command(RENAMED.get((_package, _own), _own), epilog=_command.epilog)(_command.callback)  # type: ignore[type-var]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"steel {version_of('steel-lab')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: steel init mine.toml --data rows.jsonl --languages zh --yes")
def init(
    recipe: Annotated[Path, typer.Argument(metavar="[RECIPE]", help="The file to write.")] = Path("mine.toml"),
    data: Annotated[
        list[str] | None, typer.Option("--data", help="File, folder, glob or hf://datasets/…; again for more.")
    ] = None,
    languages: Annotated[str | None, typer.Option(help="Which stay: zh,en, or all.")] = None,
    model: Annotated[str | None, typer.Option(help="What is trained: a hub id or a folder.")] = None,
    method: Annotated[str | None, typer.Option(help="full (all weights) or lora (an adapter).")] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="An exam that stays out of the data, by path or name; again for more.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing: take the proposals.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Ask five questions (or take flags) and write a recipe that runs."""
    import os

    if data:
        tell_at_once(f"looking at {', '.join(data)}")
    from steel.init import Wishes
    from steel.init import init as run_init

    wishes = Wishes(
        data=data, languages=languages, model=model, method=method, benchmarks=benchmark, assume=yes
    )  # fmt: skip
    typer.echo(run_init(recipe, wishes, force, os.cpu_count() or 1))


@app.command(epilog="Example: steel env --json")
def env(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Print what a bug report needs: versions, machine, devices, and the settings that change what steel does."""
    tell_at_once("looking at this machine")
    from steel.environment import print_environment

    print_environment(as_json)


@app.command("open", epilog="Example: steel open runs/mine/mixture")
def open_page(
    place: Annotated[Path, typer.Argument(metavar="DIR", help="A mixture, run, study or report, or a page.")],
) -> None:
    """Open the page of a folder in the browser: its card, report, study or the like."""
    from steel.environment import open_in_browser

    open_in_browser(place)


@app.command(epilog="Example: steel ui runs")
def ui(
    runs: Annotated[Path, typer.Argument(metavar="[RUNS]", help="The folder of mixtures, runs and scores.")] = Path(
        "runs"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any free one.")] = 8765,
) -> None:
    """Serve a local, read-only page over a folder of runs: search rows, curves, compare, every question."""
    from steel.ui.server import serve

    serve(runs, port)


@app.command(epilog='Example: steel chat runs/mine --system "You answer in Chinese."')
def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL_OR_RUN", help="Checkpoint or adapter folder, hub id, or run.")],
    system: Annotated[str, typer.Option(help="A system prompt.")] = "",
    temperature: Annotated[float, typer.Option(help="0: always the likeliest word.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Of the likeliest words, so much probability.")] = 0.9,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of one answer.")] = 1024,
    seed: Annotated[int | None, typer.Option(help="The same answers again.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda:0.")] = None,
    dtype: Annotated[
        str, typer.Option(help="auto (float32 on a CPU, else the checkpoint's), float32, bfloat16.")
    ] = "auto",
    base: Annotated[str | None, typer.Option(help="The adapter's base, in place of the one that it names.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Folder or hub id, where none lies beside the weights.")] = None,
    thinking: Annotated[str | None, typer.Option(help="on or off: the chat template's switch for thoughts.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that lies beside the weights; read it first.")
    ] = False,
) -> None:
    """Talk to a checkpoint in the terminal; of a run, to its last one."""
    tell(f"loading {model}")
    from steel.chat import Manner
    from steel.chat import chat as run_chat
    from steel_eval.models import Opening

    manner = Manner(
        system=system, temperature=temperature, top_p=top_p, new_tokens=max_new_tokens, seed=seed
    )  # fmt: skip
    how = Opening(base=base, tokenizer=tokenizer, thinking=thinking, trust_remote_code=trust_remote_code)
    run_chat(model, manner, device, dtype, how)


@app.command("export-model", epilog="Example: steel export-model runs/mine --to gguf --precision q8_0")
def export_model(
    model: Annotated[str, typer.Argument(metavar="MODEL_OR_RUN", help="Checkpoint or adapter folder, hub id, or run.")],
    to: Annotated[str, typer.Option(help="merged (base and adapter as one), gguf (llama.cpp) or ollama.")],
    out: Annotated[Path | None, typer.Option(help="The folder or file to write.")] = None,
    precision: Annotated[str, typer.Option(help="Of a GGUF file: auto, f32, f16, bf16, q8_0.")] = "auto",
) -> None:
    """Write a checkpoint as one whole model, as a GGUF file, or into ollama."""
    tell_at_once(f"loading {model}")
    from steel.export import export_model as run_export

    typer.echo(run_export(model, to, out, precision))


@app.command(epilog="Example: steel push runs/mine/mixture --repo me/my-mixture")
def push(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A mixture, a checkpoint, or a run.")],
    repo: Annotated[str, typer.Option(help="OWNER/NAME there.")],
    hub: Annotated[str, typer.Option(help="huggingface or modelscope.")] = "huggingface",
    public: Annotated[bool, typer.Option("--public", help="Make a new repository that everybody can see.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
) -> None:
    """Send a mixture or a model with its card to a hub; it says what would go, and asks."""
    tell_at_once(f"reading {folder}")
    from steel.push import push as run_push

    typer.echo(run_push(folder, repo, hub, public, yes))
