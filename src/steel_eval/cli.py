"""The commands of `python -m steel_eval`. Each imports what it needs when it runs: `--help` takes under 0.3 s."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from steel_data.engine import tell, tell_at_once

app = typer.Typer(
    help="Score checkpoints, and say how far the scores can be trusted. "
    "`python -m steel_eval lm_eval …` is lm-eval's own command line with the model class `steel`.\n\n"
    "`--lang zh` or STEEL_LANG=zh: in Chinese.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[
    Path,
    typer.Option("--data", "--data-root", help="Folder that holds cmmlu/, ceval/ … as published (also .zip, parquet)."),
]

Tokenizer = Annotated[str | None, typer.Option(help="Folder or hub id, where none lies beside the weights.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the code that lies beside the weights; read it first.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many questions of each subject, for a try.")]
MaxLength = Annotated[int | None, typer.Option(help="A shorter context than the model's, in tokens.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Of a written answer; by default the preset's number.")]
Thinking = Annotated[str | None, typer.Option(help="on or off: the chat template's switch for thoughts.")]
TemplateValues = Annotated[
    str, typer.Option(metavar="JSON", help="Variables of the chat template: '{\"enable_thinking\": false}'.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
Engine = Annotated[str, typer.Option(help="local, ray or ray:ADDRESS: where jobs are placed (docs/scale.md).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the same numbers as JSON; the words go to stderr.")]
_OfRecipe = Annotated[str | None, typer.Option(hidden=True)]  # named in order to be refused with a reason
_TABLE = """Fix: '{"enable_thinking": false}'."""


@app.callback()
def _main() -> None:
    pass


def _table(option: str, text: str) -> dict[str, Any]:
    """Read an option's JSON table. Raises InputError."""
    import orjson

    from steel_data.errors import InputError, first_line

    try:
        found = orjson.loads(text)  # strict: no Infinity, no half of an emoji
    except ValueError as error:
        raise InputError(f"{option} {text}: no JSON: {first_line(error)}. {_TABLE}") from None
    if not isinstance(found, dict):
        raise InputError(f"{option} {text}: no table. {_TABLE}")
    return found


def _shown(as_json: bool, command: Callable[[], Any]) -> None:
    from steel_data.row.display import run_shown

    run_shown(as_json, command)


def _names(listing: str) -> list[str]:
    return [name.strip() for name in listing.split(",") if name.strip()]


@app.command(epilog="Example: steel score runs/mine --tasks cmmlu,ceval --data-root data")
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
        str, typer.Option(help="auto (on a CPU float32, or bfloat16 where that is cheaper), float32, bfloat16.")
    ] = "auto",
    rotate: Annotated[bool, typer.Option("--rotate", help="Also score all rotations of the options.")] = False,
    generator: Annotated[str, typer.Option(help="Who writes, generation presets: hf, vllm or openai:URL.")] = "hf",
    with_base: Annotated[
        bool, typer.Option("--with-base", help="Also score what it was trained from, as step 0 of the curve.")
    ] = False,
    showcase: Annotated[
        bool, typer.Option("--showcase", help="Also let it answer fixed prompts, for the report.")
    ] = False,
    watch: Annotated[
        float | None, typer.Option(help="Wait for new checkpoints; end after so many idle seconds.")
    ] = None,
    limit: Limit = None,
    base: Annotated[str | None, typer.Option(help="The adapter's base, in place of the one that it names.")] = None,
    tokenizer: Tokenizer = None,
    trust_remote_code: TrustRemoteCode = False,
    revision: Revision = None,
    max_length: MaxLength = None,
    max_new_tokens: MaxNewTokens = None,
    thinking: Thinking = None,
    chat_template_kwargs: TemplateValues = "{}",
    include_path: Annotated[
        Path | None, typer.Option(help="A folder of lm-eval's YAML with tasks of your own.")
    ] = None,
    engine: Engine = "local",
    as_json: AsJson = False,
) -> None:
    """Score a checkpoint, or every checkpoint of a run."""
    from steel_data.cluster import executor
    from steel_data.errors import InputError
    from steel_eval.ask.prompts import check_switches, known_presets
    from steel_eval.models import Opening, check, default_device, find_checkpoints

    if engine != "local" and (watch is not None or (device or "").count(",")):
        raise InputError(f"--engine {engine}: the cluster says where. Fix: without --watch, and one --device at most.")
    there = executor(engine, 1)
    presets = known_presets(_names(preset))
    opening = Opening(
        base=base, tokenizer=tokenizer, trust_remote_code=trust_remote_code, revision=revision, max_length=max_length,
        thinking=thinking, chat_template_kwargs=_table("--chat-template-kwargs", chat_template_kwargs),
    )  # fmt: skip
    check_switches(presets, thinking is not None or bool(opening.chat_template_kwargs), max_new_tokens is not None)
    if watch is None:
        for checkpoint in find_checkpoints(model, revision)[0]:
            check(checkpoint.folder, opening)
    tell(f"loading {model} for {tasks}")

    from steel_eval.ask.tasks import Foreign
    from steel_eval.run import output_folder, refuse_other_parts, score_command, score_on_cluster, split_tasks
    from steel_eval.score.sweep import Settings

    local, foreign = split_tasks(_names(tasks), data, limit)
    limits = [task.limit for task in local if task.limit] + [limit for _ in foreign if limit]
    out = out or output_folder(model, watch, limit, revision)
    refuse_other_parts(out, max(limits, default=None))
    here = default_device() if engine == "local" else ""  # each machine its own
    settings = Settings(
        tasks=local, presets=presets, shots=5 if shots is None else shots, out=out,
        store=store or out / "store.jsonl", device=device or here, dtype=dtype, rotate=rotate,
        generator=generator, with_base=with_base, showcase=showcase, opening=opening, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    others = Foreign(foreign, shots, include_path, limit)
    if engine != "local":
        return _shown(as_json, lambda: score_on_cluster(model, settings, others, there))
    _shown(as_json, lambda: score_command(model, settings, others, watch))


@app.command(epilog="Example: steel compare 'a=runs/a/seed-*' 'b=runs/b/seed-*'")
def compare(
    arms: Annotated[list[str], typer.Argument(metavar="A B [C...]", help="Runs or groups: exp2=runs/exp2/seed-*.")],
    tasks: Annotated[str, typer.Option(help="Only these tasks; by default all that every arm was scored on.")] = "",
    metric: Annotated[str, typer.Option(help="accuracy, macro or gold_probability.")] = "accuracy",
    checkpoint: Annotated[str, typer.Option(help="last, first, or a step.")] = "last",
    preset: Annotated[str | None, typer.Option(help="Which preset, where several were scored.")] = None,
    groups: Annotated[bool, typer.Option("--groups", help="Also show the published groups of subjects.")] = False,
    primary: Annotated[
        str | None, typer.Option(help="task:metric:checkpoint, the one test chosen beforehand; else the recipes' own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the comparisons as JSON, for `report`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same numbers as JSON.")] = False,
) -> None:
    """Say which arm is better, how sure that is, and what the data cannot say."""
    tell_at_once(f"reading the scores of {', '.join(arms)}")
    from steel_eval.compare.pair import Comparison, compare_arms, primary_of, write_tests
    from steel_eval.compare.print import print_tests

    chosen = primary_of(primary) if primary else None
    tests = compare_arms(arms, Comparison(_names(tasks), metric, checkpoint, preset, groups, chosen))
    if out is not None:
        write_tests(out, tests)
    _shown(as_json, lambda: print_tests(tests, [*arms, *(["--tests", str(out)] if out else [])]))


@app.command(epilog="Example: steel check-scores runs/mine")
def check(
    places: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Score folders or runs.")],
    preset: Annotated[str | None, typer.Option(help="Which preset, where several were scored.")] = None,
) -> None:
    """Verify scores: files against checksums, prompts and accuracies against the answers."""
    tell_at_once(f"reading {', '.join(map(str, places))}")
    from steel_eval.compare.check import check_scores

    typer.echo(check_scores(places, preset))


@app.command(epilog="Example: steel power --effect 2 --sets ceval-val,cmmlu --seeds 3")
def power(
    effect: Annotated[float, typer.Option(help="The true difference to find, in percentage points.")] = 2.0,
    sets: Annotated[str, typer.Option(help="Of ceval-val, ceval-test, cmmlu, mmlu, or a number.")] = "ceval-val,cmmlu",
    discordance: Annotated[float, typer.Option(help="Share of questions that one alone answers right.")] = 0.3,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds an arm.")] = 1,
    seed_spread: Annotated[float, typer.Option(help="Standard deviation between seeds, points; 0: not known.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same numbers as JSON.")] = False,
) -> None:
    """Say what a comparison can find, before training for it."""
    tell_at_once(f"working out what a comparison on {sets} can find")
    from steel_eval.compare.print import print_power

    _shown(as_json, lambda: print_power(effect, _names(sets), discordance, seeds, seed_spread))


@app.command(epilog="Example: steel report runs/a runs/b --out report.html")
def report(
    places: Annotated[
        list[str], typer.Argument(metavar="DIR...", help="Score folders, runs or NAME=runs/exp2/seed-*.")
    ],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    preset: Annotated[str | None, typer.Option(help="Which preset, where several were scored.")] = None,
    tests: Annotated[Path | None, typer.Option(help="Comparisons that `compare --out` wrote; else made here.")] = None,
    mixture: Annotated[
        list[str] | None, typer.Option(help="DIR or NAME=DIR: what was trained on; else looked for beside each run.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The questions (cmmlu/, ceval/ …), to find undeclared ones in the mixtures.")
    ] = None,
    leak: Annotated[
        list[str] | None, typer.Option(help="DIR or NAME=DIR: what `leak` wrote for an arm, in place of looking again.")
    ] = None,
    no_overlap: Annotated[
        bool, typer.Option("--no-overlap", help="Do not read the mixtures for undeclared ones.")
    ] = False,
) -> None:
    """Write one self-contained HTML page: curves, groups, differences, every question, provenance, flaws.

    Every score of a model whose mixture declares or shows questions of the benchmark is marked.
    """
    tell_at_once(f"reading {', '.join(places)}")
    from steel_eval.report.marks import Sources
    from steel_eval.report.page import write_report

    sources = Sources(mixtures=mixture or (), leaks=leak or (), data=data, search=not no_overlap)
    write_report(places, out, tests, preset, sources)


@app.command(epilog="Example: steel leak runs/mine --base Qwen/Qwen2.5-0.5B --tasks cmmlu")
def leak(
    model: Annotated[str, typer.Argument(metavar="MODEL_OR_RUN", help="Checkpoint, adapter, hub id; run: its last.")],
    base: Annotated[
        str | None, typer.Option(help="The model it was trained from, which saw none of the items.")
    ] = None,
    tasks: Annotated[str, typer.Option(help="cmmlu,ceval, cmmlu/agronomy …")] = "",
    data: Data = Path("data"),
    reference_runs: Annotated[
        list[str] | None, typer.Option(help="A clean run of the model's own recipe, in place of --base; repeat it.")
    ] = None,
    twins: Annotated[
        Path | None, typer.Option(help="A folder of `twins`: test its draw, without base and tasks.")
    ] = None,
    mixture: Annotated[Path | None, typer.Option(help="What it was trained on: adds the train-side overlap.")] = None,
    control: Annotated[str | None, typer.Option(help="A task that it never saw; by default see the documents.")] = None,
    form: Annotated[
        str, typer.Option(help="The items' text: chat, text, plain, or auto (as injected, else chat with a template).")
    ] = "auto",
    permute: Annotated[
        int | None, typer.Option(min=0, help="Items, and controls, whose options are permuted; by default 300.")
    ] = None,
    in_context: Annotated[
        int, typer.Option(min=0, help="Items of the subject that stand before each, for CoDeC; 0: it is not measured.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Output folder; by default leak/<name>.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16.")] = "auto",
    calibration: Annotated[
        list[Path] | None, typer.Option(help="Error rates: a study's folder or its rates.json; may be repeated.")
    ] = None,
    limit: Limit = None,
    tokenizer: Tokenizer = None,
    trust_remote_code: TrustRemoteCode = False,
    revision: Revision = None,
    max_length: MaxLength = None,
    as_json: AsJson = False,
) -> None:
    """Ask whether a checkpoint saw a benchmark: each detector as excess over its base and over control items."""
    from steel_eval.models import Opening

    tell(f"loading {model}{f' and {base}' if base else ''} for {twins or tasks}")
    from steel_data.errors import InputError
    from steel_eval.leak.kept import How
    from steel_eval.leak.run import Suspicion, leak_command
    from steel_eval.leak.twinned import twins_command

    if twins is None and (bool(base) == bool(reference_runs) or not tasks):
        raise InputError(
            "leak: no --base or no --tasks. Fix: --tasks and one of --base and --reference-runs, or --twins alone."
        )
    others = {base, mixture, control, limit, permute} != {None}
    if twins is not None and (reference_runs or tasks or calibration or others):
        raise InputError(
            "leak --twins: tests the draw alone. Fix: without --base, --reference-runs, --tasks, --mixture, --control, "
            "--calibration, --limit, --permute."
        )
    opening = Opening(
        tokenizer=tokenizer, trust_remote_code=trust_remote_code, revision=revision, max_length=max_length
    )
    folder = out or Path("leak") / Path(model).name
    if twins is not None:
        how = How(form=form, device=device, dtype=dtype, opening=opening)
        return _shown(as_json, lambda: twins_command(model, twins, how, folder))
    asked = Suspicion(
        model=model, base=base or "", tasks=_names(tasks), data=data, mixture=mixture, control=control,
        references=reference_runs or (), limit=limit,
    )  # fmt: skip
    many = 300 if permute is None else permute
    how = How(form=form, permute=many, in_context=in_context, device=device, dtype=dtype, opening=opening)
    _shown(as_json, lambda: leak_command(asked, how, calibration or [], folder))


@app.command(epilog="Example: steel twins cmmlu --data-root data --out twins")
def twins(
    benchmark: Annotated[str, typer.Argument(help="A task under --data (cmmlu, ceval-val) or a jsonl file.")],
    out: Annotated[Path, typer.Option(help="Output folder; twins.json in it stays private.")],
    data: Data = Path("data"),
    variants: Annotated[int, typer.Option(min=2, help="Variants of an item, of which one is published.")] = 5,
    canaries: Annotated[int, typer.Option(min=0, help="Invented items beside them.")] = 0,
    rephrasings: Annotated[
        Path | None, typer.Option(help="Own variants: jsonl of item, question, options, answer.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw; by default one that nobody knows.")] = None,
) -> None:
    """Before publishing a benchmark: publish one of several variants of each item, and keep the twins private."""
    tell_at_once(f"reading {benchmark}")
    from steel_eval.leak.twinned import Lot, make_twins_command

    make_twins_command(benchmark, data, Lot(variants, canaries, rephrasings, seed), out)


@app.command(epilog="Example: steel study @study-demo --data-root data")
def study(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe with one injected source and seeds.")],
    data: Data = Path("data"),
    tasks: Annotated[str | None, typer.Option(help="What to score; by default the recipe's [eval] tasks.")] = None,
    placebo: Annotated[str | None, typer.Option(help="Items for the placebo arm; by default [eval] placebo.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Worked examples; by default [eval] shots.")] = None,
    preset: Annotated[str | None, typer.Option(help="Prompt presets; by default [eval] presets.")] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; by default runs/<name>.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs side by side, on a machine without a GPU.")] = 1,
    engine: Engine = "local",
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay over the recipe; may be repeated.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="As of score and leak; by default [eval] dtype.")] = None,
    limit: Limit = None,
    max_length: MaxLength = None,
    max_new_tokens: MaxNewTokens = None,
    thinking: Thinking = None,
    chat_template_kwargs: TemplateValues = "{}",
    base: _OfRecipe = None,
    tokenizer: _OfRecipe = None,
    revision: _OfRecipe = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """Train clean, placebo and injected arms from one recipe; say what an exposure is worth and what detectors miss."""
    tell_at_once(f"loading what {recipe.name} studies")
    from steel_data.cluster import executor
    from steel_data.recipe.load import load
    from steel_eval.study.command import study_command
    from steel_eval.study.settings import refuse_of_recipe

    refuse_of_recipe(
        {"base": base, "tokenizer": tokenizer, "revision": revision, "trust-remote-code": trust_remote_code}
    )
    lists = {"tasks": tasks, "presets": preset}
    said: dict[str, Any] = {key: _names(text) for key, text in lists.items() if text is not None}
    said |= {
        "shots": shots, "placebo": placebo, "dtype": dtype, "limit": limit, "max_length": max_length,
        "max_new_tokens": max_new_tokens, "thinking": thinking,
        "chat_template_kwargs": _table("--chat-template-kwargs", chat_template_kwargs) or None,
    }  # fmt: skip
    _shown(as_json, lambda: study_command(load(recipe, changes or ()), data, out, executor(engine, workers), said))


@app.command(epilog="Example: steel rate mine.toml --by ifd --model Qwen/Qwen2.5-0.5B")
def rate(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, of which sources select by the rating.")],
    by: Annotated[str, typer.Option(help="perplexity, ifd or rds: as in `select` of the recipe.")],
    model: Annotated[str, typer.Option(help="Checkpoint folder, run or hub id: the base that is to be trained.")],
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Where the data lies, as for the build.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The build's --out, where it has one.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="The build's --cache, where it has one: ratings lie there.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read the data; the model uses all cores.")] = 1,
    dtype: Annotated[
        str, typer.Option(help="auto (on a CPU float32), float32, bfloat16: less time where the processor has it.")
    ] = "auto",
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay over the recipe; may be repeated.")
    ] = None,
) -> None:
    """Let a model rate the rows that a recipe selects from. Goes on where it was; the build finds the ratings."""
    tell_at_once(f"loading {model}, to rate rows of {recipe.name}")
    from steel_data.recipe.load import load
    from steel_data.recipe.places import places
    from steel_eval.rate.command import print_rated, rate_command

    loaded = load(recipe, changes or ())
    rated = rate_command(loaded, by, model, places(loaded, data_root, out, cache), workers, dtype)
    print_rated(rated, recipe, data_root=data_root, out=out, cache=cache, set=changes)


@app.command(epilog="Example: steel trial @trial-amount --data-root data")
def trial(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe with [trial] and [train].")],
    data: Annotated[
        Path | None, typer.Option("--data", "--data-root", help="Where sources and questions lie, as for the build.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; by default runs/<name>/trial.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs side by side, on a machine without a GPU.")] = 1,
    engine: Engine = "local",
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay over the recipe; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare ways of selecting rows with random draws, at equal trainable tokens and steps, with seeds."""
    tell_at_once(f"loading what {recipe.name} compares")
    from steel_data.cluster import executor
    from steel_eval.trial.command import trial_command

    _shown(as_json, lambda: trial_command(recipe, data, out, executor(engine, workers), changes or ()))


@app.command(epilog="Example: steel audit runs/mine --tasks cmmlu --data-root data")
def audit(
    places: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Scored runs; without any, only texts are looked at.")
    ] = None,
    tasks: Annotated[str, typer.Option(help="cmmlu,ceval, cmmlu/agronomy …")] = "cmmlu,ceval",
    data: Data = Path("data"),
    preset: Annotated[str | None, typer.Option(help="Which preset, where several were scored.")] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("audit"),
    as_json: AsJson = False,
) -> None:
    """Look for faults of the questions themselves: wrong keys, broken options, questions that stand twice."""
    tell_at_once(f"loading the questions of {tasks}")
    from steel_eval.audit.run import audit_command

    _shown(as_json, lambda: audit_command(places or [], _names(tasks), data, preset, out))


@app.command(epilog="Example: steel mix mine.toml --data-root data --workers 2")
def mix(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe with [train] and [search].")],
    data: Annotated[
        Path | None,
        typer.Option("--data", "--data-root", help="Where sources and questions lie; by default the recipe's."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; by default runs/<name>/mix.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Arms side by side, on a machine without a GPU.")] = 1,
    engine: Engine = "local",
    confirm: Annotated[
        int, typer.Option(min=0, help="Train proposal and recipe with so many fresh seeds each, and compare: 3.")
    ] = 0,
    rank: Annotated[
        int,
        typer.Option(min=0, help="Train so many arms as [train]'s own model too: does the proxy rank alike?"),
    ] = 0,
    screen: Annotated[
        bool, typer.Option("--screen", help="Only a first look: one run, and what its gradients say of each source.")
    ] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay over the recipe; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train arms with other shares of the sources; say which mixture is better, by how much, or that none is."""
    from steel_data.cluster import executor
    from steel_data.errors import InputError

    if confirm == 1:
        raise InputError("--confirm 1: one seed says nothing about seeds. Fix: --confirm 3.")
    if 0 < rank < 5:
        raise InputError(f"--rank {rank}: the ranks of so few arms agree by chance. Fix: --rank 6.")
    if screen and (confirm or rank):
        raise InputError("--screen trains one run: there is nothing to confirm or to rank. Fix: one of them.")
    tell_at_once(f"loading what {recipe.name} mixes")
    from steel_eval.mix.search import prepare_search

    search = prepare_search(recipe, data, out, executor(engine, workers), changes or ())
    if screen:
        from steel_eval.mix.screen import screen_command

        return _shown(as_json, lambda: screen_command(search))
    from steel_eval.mix.command import mix_command

    _shown(as_json, lambda: mix_command(search, confirm, rank))
