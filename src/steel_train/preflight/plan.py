"""`plan`: the pre-flight alone, without a checkpoint or a device (apart: the command; `run` looks at its own examples).

Where there are many rows, a sample of them is read.
"""

from pathlib import Path

from steel_data.build import build
from steel_data.recipe.load import Recipe, load
from steel_data.row.display import console
from steel_train.examples.folder import count_rows, sample_examples
from steel_train.examples.prepare import (
    Prepared,
    check_form,
    checked_mixture,
    divided,
    learnt,
    make_encoder,
    make_tokenizer,
    tasks_of,
)
from steel_train.models.adapter import continued
from steel_train.models.check import check_model
from steel_train.models.dtypes import uses_bf16
from steel_train.models.load import base_dtype, check_vocabulary, load_config, packs
from steel_train.preflight.costs import Devices
from steel_train.preflight.inspect import Question, Report, inspect, stop_at_faults
from steel_train.preflight.print import first_batch, print_report
from steel_train.say import quiet
from steel_train.schedule.order import make_schedule
from steel_train.settings import read_settings

_WHOLE = 50_000  # rows up to which all are read
_SAMPLE = 20_000


def plan_training(
    recipe_path: Path | Recipe,
    mixture: Path | None,
    out: Path | None,
    data_root: Path | None,
    devices: Devices | None,
    processes: int,
) -> Report:
    """Print the pre-flight of a recipe, with time and price on `devices`, and return it. Raises InputError.

    `processes` of the run; 0: one a device.
    """
    quiet()
    recipe = load(recipe_path)
    settings = continued(read_settings(recipe.train, recipe.path), recipe.path)
    check_model(settings, recipe.path)
    # what is wrong with these is said before a row is read
    learnt(recipe, settings)
    tasks_of(recipe, settings, data_root)
    folder = out or Path("runs") / recipe.name
    place = mixture or folder / "mixture"
    if mixture is None:
        build(recipe, data_root=data_root, out=place)
    manifest = checked_mixture(place)
    check_form(settings, place, recipe.path)
    tokenizer = make_tokenizer(recipe, settings, folder, place, manifest)
    rows = count_rows(place)
    encoder = make_encoder(recipe, settings, tokenizer)
    examples = sample_examples(place, encoder, rows if rows <= _WHOLE else _SAMPLE)
    prepared = divided(Prepared(recipe, settings, manifest, tokenizer, examples))
    examples = prepared.examples
    config = load_config(settings, recipe.path, len(tokenizer))
    own = base_dtype(settings, config, recipe.path)
    check_vocabulary(config.vocab_size, tokenizer, recipe.path)
    count = processes or (devices.count if devices else 1)
    seed = settings.seeds[0] if settings.seeds else recipe.seed
    schedule = make_schedule(prepared, packs(settings, config, recipe.path), seed, count)
    bf16 = uses_bf16(settings) or (settings.precision == "auto" and devices is not None)
    question = Question(examples, schedule, settings, tokenizer, config, folder, bf16, devices, prepared.held_out, own)
    report = inspect(question)
    if examples.units:
        console().print(first_batch(examples, schedule, tokenizer), soft_wrap=True)
    print_report(report)
    stop_at_faults(report, recipe.path)
    return report
