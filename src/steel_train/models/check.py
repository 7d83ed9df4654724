"""What is wrong with a run that can be told before a row is read: its base, devices, adapter, positions and loggers."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from steel_data.errors import InputError, nearest
from steel_train.models.adapter import check_bitsandbytes, four_bits
from steel_train.models.load import load_config, resolve_base, strictly
from steel_train.say import say
from steel_train.settings import Settings

# logger -> the packages of which one must be there, where they are not named like it
_PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"), "azure_ml": ("azureml",), "dagshub": ("dagshub",),
    "flyte": ("flytekit",),
}  # fmt: skip


def check_run(settings: Settings, recipe: Path) -> None:
    """Check what needs this machine, then what `plan` checks too, then every tensor of the base by name and shape.

    No weight is read. Raises InputError. A hub id is looked at when it is loaded.
    """
    four_bits(settings, recipe)
    if settings.optimizer == "adamw_8bit":
        check_bitsandbytes(f'{recipe} [train]: optimizer = "adamw_8bit"', 'optimizer = "adafactor"')
    check_loggers(settings.report_to, recipe)
    if isinstance(settings.model, dict):
        check_model(settings, recipe)
        return
    name = resolve_base(settings, recipe)
    if Path(name).is_dir():
        check_model(settings, recipe)
        strictly(settings, recipe, name, device_map="meta")


def check_model(settings: Settings, recipe: Path) -> None:
    """Check adapter and lengths against the model's configuration. Raises InputError, or says a warning."""
    config = load_config(settings, recipe, vocabulary=1)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and settings.max_length > positions:
        what = f"max_length = {settings.max_length:,}, but the model has {positions:,} positions"
        if not any(hasattr(config.get_text_config(), name) for name in ("rope_parameters", "rope_theta")):
            raise InputError(f"{recipe} [train]: {what}. Fix: max_length = {positions}.")
        say(f"warning: {what}: what stands beyond them was never learnt")
    if settings.uses_lora and settings.lora is not None:
        check_targets(settings.lora.targets, settings.lora.modules_to_save, config, recipe)


def check_targets(targets: list[str] | None, whole: list[str] | None, config: Any, recipe: Path) -> None:
    """Raise InputError for an adapter's target or whole module that the model does not have, with the nearest."""
    import torch
    from transformers import AutoModelForCausalLM

    if not targets and not whole:
        return
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    modules = dict(model.named_modules())
    linear = [name for name, m in modules.items() if getattr(getattr(m, "weight", None), "ndim", 0) == 2]
    for key, names, wanted in (("targets", linear, targets), ("modules_to_save", list(modules), whole)):
        for name in wanted or ():
            if key == "targets" and modules.get(name) is model.get_output_embeddings():
                raise InputError(
                    f"{recipe} [train.lora]: targets: {name} is the head, whose weight the loss is computed with. "
                    f'Fix: modules_to_save = ["{name}"].'
                )
            if not any(found == name or found.endswith(f".{name}") for found in names):
                near = nearest(name, _last_parts(names))
                raise InputError(f"{recipe} [train.lora]: {key}: the model has no '{name}'.{near}")


def _last_parts(names: Iterable[str]) -> list[str]:
    return sorted({part for name in names if name for part in [name.rpartition(".")[2]] if not part.isdigit()})


def check_loggers(report_to: str | list[str], recipe: Path) -> None:
    """Raise InputError for a logger that nobody knows, or whose package is not installed."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    names = [report_to] if isinstance(report_to, str) else report_to
    for name in names:
        if name in ("none", "all"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            near = nearest(name, [*INTEGRATION_TO_CALLBACK, "none"])
            raise InputError(f"{recipe} [train]: report_to: unknown logger '{name}'.{near}")
        packages = _PACKAGES.get(name, (name,))
        if not any(importlib.util.find_spec(package) for package in packages):
            raise InputError(
                f"{recipe} [train]: report_to: {name} is not installed. Fix: pip install {packages[0]}, or "
                'report_to = "none".'
            )
