"""`steel init`: five questions, or flags, and a recipe that runs. What the data are is found out, never asked."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w
import typer

from steel_data.analyze.analysis import Analysis, analyze
from steel_data.analyze.facts import facts
from steel_data.analyze.recipe import beside, refuse_existing, write_recipe
from steel_data.benchmarks.items import benchmark_path
from steel_data.chinese import say
from steel_data.errors import InputError, nearest, one_line
from steel_data.row.display import command
from steel_data.row.record import check_language
from steel_train.settings import read_settings

MODEL = "Qwen/Qwen2.5-0.5B"
WHERE = "Where are your data (file, folder, glob or hf://datasets/…)?"
METHODS = ("full", "lora")
_LEAST = 0.05  # share of the characters from which a language is proposed
_RATES = {"full": 2e-5, "lora": 1e-4, "dpo": 5e-7, "kto": 5e-7}  # usual for models of this size
_ADAPTER_RATE = 5e-6  # of DPO and KTO, where an adapter learns
_PREFERRED = {"preference": "dpo", "kto": "kto"}  # kinds of rows -> what trains them
_SCORED = ("ceval", "cmmlu", "mmlu")  # benchmarks that `score` knows by their folder


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was said by flags; None is asked for, or with `assume` answered by its default."""

    data: Sequence[str] | None = None
    languages: str | None = None
    model: str | None = None
    method: str | None = None
    benchmarks: Sequence[str] | None = None
    assume: bool = False


def init(recipe: Path, wishes: Wishes, force: bool = False, workers: int = 1) -> str:
    """Ask what `wishes` leave open, look at the data, write the recipe, and return what to do with it.

    Raises InputError for a file that is there (without `force`), data of which nothing can be built, an unknown
    language or method, and where something would have to be asked and nobody is at a terminal.
    """
    refuse_existing(recipe, force)
    _check(wishes)
    paths = list(wishes.data or shlex.split(_asked(wishes, "--data", WHERE)))
    asked = None if wishes.benchmarks is None else _named(wishes.benchmarks)
    found = analyze(paths, benchmarks=asked, workers=workers)
    said = facts(found)
    typer.echo(one_line(say(said["verdict"])))
    if not found.recipe:
        raise InputError(
            f"no recipe can be made of these data: {said['parts'][0]['refused']}. "
            "Fix: steel analyze says what each part is."
        )
    benchmarks = _benchmarks(found, wishes)
    if benchmarks != found.benchmarks:
        places = [str(benchmark_path(name, found.files.root) or name) for name in benchmarks]
        found = analyze(paths, benchmarks=places, workers=workers)
    languages = wishes.languages or _asked(wishes, "--languages", "Which languages stay (zh,en; all)?", _spoken(found))
    keep = _languages(languages)
    model = wishes.model or _asked(wishes, "--model", "Which model is trained (hub id or folder)?", MODEL)
    method = wishes.method or _asked(wishes, "--method", "All of its weights (full), or an adapter (lora)?", "full")
    table = _train(_placed(model, recipe), method, _preferred(found))
    read_settings(table, recipe)
    write_recipe(recipe, _with_languages(found.recipe, keep) + "\n" + tomli_w.dumps({"train": table}), found.files.root)
    return _next(recipe, found)


def _check(wishes: Wishes) -> None:
    """Raise InputError for what can be refused before a row is read."""
    if wishes.method is not None:
        _known_method(wishes.method)
    if wishes.languages is not None:
        _languages(wishes.languages)


def _known_method(method: str) -> str:
    if method not in METHODS:
        raise InputError(f"--method {method}: unknown.{nearest(method, METHODS)}")
    return method


def _languages(text: str) -> list[str]:
    """Return the codes of `zh,en`; none for `all`."""
    codes = [code.strip() for code in text.split(",") if code.strip()]
    if codes in (["all"], []):
        return []
    for code in codes:
        check_language(code)
    return codes


def _asked(wishes: Wishes, flag: str, question: str, default: str | None = None) -> str:
    """Return the answer to a question, or its default where nothing is to be asked. Raises InputError without one."""
    if wishes.assume and default is not None:
        return default
    if wishes.assume or not sys.stdin.isatty():
        or_else = ", or --yes for the proposals" if default is not None else ""
        raise InputError(f"steel init: {flag} is not said, and nobody can be asked here. Fix: {flag} …{or_else}.")
    try:
        return str(typer.prompt(say(question), default=default, prompt_suffix=" "))
    except typer.Abort:  # Ctrl-C or Ctrl-D, of which typer would say "Aborted!"
        raise KeyboardInterrupt from None


def _benchmarks(found: Analysis, wishes: Wishes) -> list[str]:
    """Return the benchmarks that stay out of the data, as the recipe names them."""
    if wishes.benchmarks is not None:
        return found.benchmarks
    beside = ",".join(found.benchmarks) or "none"
    text = _asked(wishes, "--benchmark", "Which exams will score it, so that they stay out of the data?", beside)
    return _named(text.split(","))


def _named(names: Sequence[str]) -> list[str]:
    """Return the benchmarks that a list names; `none` names none."""
    named = [name.strip() for name in names if name.strip()]
    return [] if named == ["none"] else named


def _spoken(found: Analysis) -> str:
    """Return the languages that the sampled rows are in, but for traces."""
    shares: dict[str, float] = {}
    for figures in found.figures.values():
        for language, share in figures.languages.items():
            shares[language] = max(share, shares.get(language, 0))
    spoken = [code for code, share in sorted(shares.items(), key=lambda one: -one[1]) if share >= _LEAST]
    return ",".join(code for code in spoken if code != "und") or "all"


def _preferred(found: Analysis) -> str | None:
    """Return the method that trains rows of preferences or judged answers, None for conversations."""
    kinds = {kind for part in found.parts if part.name not in found.refused for kind in found.figures[part.name].kinds}
    return next((method for kind, method in _PREFERRED.items() if kind in kinds), None)


def _train(model: str, method: str, preferred: str | None) -> dict[str, object]:
    """Return the [train] table, with an adapter where one is wished for."""
    lora = _known_method(method) == "lora"
    kind = preferred or method
    table: dict[str, object] = {
        "model": model, "epochs": 1 if preferred else 3, "method": kind,
        "learning_rate": _ADAPTER_RATE if lora and preferred else _RATES[kind],
        "micro_batch": 4, "accumulate": 16, "max_length": 2048,
    }  # fmt: skip
    return table | ({"lora": {"rank": 16, "alpha": 32}} if lora else {})


def _placed(model: str, recipe: Path) -> str:
    """Return a model's folder as the recipe names it, a hub id as it is. Raises InputError for what is neither."""
    folder = Path(model)
    if not folder.is_dir():
        if model.count("/") != 1 or model.startswith(("/", ".", "~")):
            raise InputError(f"--model {model}: no such folder. Fix: a folder with config.json, or a hub id.")
        return model
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise InputError(f"--model {model}: holds no config.json. Fix: a checkpoint's folder, or a hub id.")
    said = beside(recipe, folder)
    # ./ keeps a folder that is gone from being taken for a hub id of the same name
    return said if Path(said).is_absolute() or said.startswith("..") else f"./{said}"


def _with_languages(text: str, keep: Sequence[str]) -> str:
    """Return the recipe of `analyze` with a filter of languages before the others."""
    if not keep:
        return text
    step = f'    {{ use = "language", keep = {json.dumps(list(keep))} }},\n'
    head = "filters = [\n"
    return text.replace(head, head + step, 1)


def _next(recipe: Path, found: Analysis) -> str:
    """Return what to type next, in order."""
    name = recipe.stem
    lines = [
        say(f"{recipe}: written. Next:"),
        *(f"  {command(step, recipe)}" for step in ("build", "preflight", "train")),
    ]
    scored = [Path(path) for path in found.benchmarks if Path(path).name in _SCORED]
    if scored:
        tasks, root = ",".join(path.name for path in scored), (found.files.root / scored[0]).parent
        root = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root
        lines.append(f"  {command('score', f'runs/{name}', tasks=tasks, data_root=root)}")
    return "\n".join(lines)
