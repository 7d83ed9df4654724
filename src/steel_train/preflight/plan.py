"""`plan`: the pre-flight alone, on a sample of the rows where there are many, without a checkpoint or a device."""

from pathlib import Path

from rich.console import Console

from steel_data.build import build
from steel_data.recipe.load import load
from steel_train.examples.folder import count_rows, sample_examples
from steel_train.examples.prepare import Prepared, checked_mixture, make_tokenizer
from steel_train.models.load import check_vocabulary, load_config, packs, uses_bf16
from steel_train.preflight.costs import parse_device
from steel_train.preflight.inspect import Question, inspect, stop_at_faults
from steel_train.preflight.print import first_batch, print_report
from steel_train.say import quiet
from steel_train.schedule.order import make_schedule
from steel_train.settings import read_settings

_WHOLE = 50_000  # rows up to which all are read
_SAMPLE = 20_000


def plan_training(
    recipe_path: Path,
    places: tuple[Path | None, Path | None, Path | None],
    device: tuple[str | None, str | None],
    processes: int,
) -> None:
    """Print the pre-flight of a recipe. `places`: mixture, out, data root; `device`: gpu, price. Raises InputError."""
    quiet()
    mixture, out, data_root = places
    gpu, price = device
    recipe = load(recipe_path)
    settings = read_settings(recipe.train, recipe.path)
    folder = out or Path("runs") / recipe.name
    place = mixture or folder / "mixture"
    if mixture is None:
        build(recipe, data_root=data_root, out=place)
    manifest = checked_mixture(place)
    tokenizer = make_tokenizer(recipe, settings, folder, place, manifest)
    rows = count_rows(place)
    examples = sample_examples(place, tokenizer, settings.max_length, rows if rows <= _WHOLE else _SAMPLE)
    prepared = Prepared(recipe, settings, folder, place, manifest, tokenizer, examples)
    config = load_config(settings, recipe.path, len(tokenizer))
    check_vocabulary(config.vocab_size, tokenizer, recipe.path)
    count = processes or (parse_device(gpu)[1] if gpu else 1)
    seed = settings.seeds[0] if settings.seeds else recipe.seed
    schedule = make_schedule(prepared, packs(settings, config, recipe.path), seed, count)
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and gpu is not None) or uses_bf16(settings)
    question = Question(examples, schedule, settings, tokenizer, config, folder, bf16, gpu, price)
    report = inspect(question)
    if examples.units:
        Console(highlight=False, soft_wrap=True).print(first_batch(examples, schedule, tokenizer))
    print_report(report)
    stop_at_faults(report, recipe.path)
