"""The commands of `python -m steel_eval`. Each imports what it needs when it runs: `--help` takes under 0.3 s."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Score checkpoints, and say how far the scores can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[Path, typer.Option(help="Folder that holds cmmlu/, ceval/ … as published (also .zip, parquet).")]


@app.callback()
def _main() -> None:
    pass


@app.command()
def score(
    model: Annotated[str, typer.Argument(metavar="MODEL_OR_RUN", help="Checkpoint or adapter folder, hub id, or run.")],
    tasks: Annotated[str, typer.Option(help="cmmlu,ceval, ceval-test, cmmlu/agronomy, or any lm-eval task.")],
    data: Data = Path("data"),
    shots: Annotated[
        int | None, typer.Option(min=0, help="Worked examples: by default 5 (lm-eval tasks: their own).")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Prompt preset; several with commas show how much is protocol.")
    ] = "lm-eval",
    out: Annotated[Path | None, typer.Option(help="Output folder; by default RUN/scores, or scores/<name>.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="File of finished results; by default store.jsonl in the output.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, or several with commas: one process each.")] = None,
    dtype: Annotated[
        str, typer.Option(help="auto (float32 on a CPU, else the checkpoint's), float32, bfloat16.")
    ] = "auto",
    rotate: Annotated[bool, typer.Option("--rotate", help="Also score all rotations of the options.")] = False,
    generator: Annotated[str, typer.Option(help="Who writes, generation presets: hf, vllm or openai:URL.")] = "hf",
    watch: Annotated[
        float | None, typer.Option(help="Wait for new checkpoints; end after so many idle seconds.")
    ] = None,
) -> None:
    """Score a checkpoint, or every checkpoint of a run."""
    from steel_eval.run import score_command

    score_command(
        model, tasks=tasks, data=data, shots=shots, presets=preset, out=out, store=store, devices=device, dtype=dtype,
        rotate=rotate, generator=generator, watch=watch,
    )  # fmt: skip
