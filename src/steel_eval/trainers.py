"""What other trainers leave in a run, told as steel tells it: base, step, learning rate, epochs, names of the data.

LLaMA-Factory, ms-swift and the Hugging Face Trainer write checkpoints alike (`checkpoint-500/trainer_state.json`) and
their settings each in its own file: `adapter_config.json` (the base), `args.json` (ms-swift), `training_args.yaml`,
`README.md` (LLaMA-Factory's model card), `training_args.bin` (a pickle: read without running anything of it),
`all_results.json`. What is not said stays unsaid.
"""

import json
import math
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

# our key -> what trainers call it
_SETTINGS = {
    "learning_rate": ("learning_rate",), "epochs": ("num_train_epochs",),
    "micro_batch": ("per_device_train_batch_size",), "accumulate": ("gradient_accumulation_steps",),
    "method": ("finetuning_type", "tuner_type", "train_type"),
}  # fmt: skip
_BASE = ("base_model_name_or_path", "model_name_or_path", "model", "model_dir")
_CARD = re.compile(r"fine-tuned version of \[[^\]]*\]\((?:https://huggingface\.co/)?([^)]+)\) on the (.+?) datasets?\.")
_CARD_SETTING = re.compile(r"^- (learning_rate|num_epochs|seed): (\S+)$", re.MULTILINE)


def trained_as(folder: Path) -> dict[str, Any] | None:
    """Return what is known of a checkpoint of another trainer, under the names of steel.json; None for nothing.

    Keys, each only where it is said: `trainer`, `step`, `epoch`, `seed`, `base` (`name`), `train` (`learning_rate`,
    `epochs`, `micro_batch`, `accumulate`, `method`), `data` (names), `rows`.
    """
    state = state_of(folder)
    said = _said(folder)
    results: dict[str, Any] = {}
    for place in _places(folder):
        results = {**_json(place / "all_results.json"), **results}
    if not state and not said:
        return None
    train = {ours: value for ours, names in _SETTINGS.items() if (value := _first(said, names)) is not None}
    base = _first(said, _BASE)
    data = _first(said, ("dataset", "train_dataset", "datasets"))
    names = [data] if isinstance(data, str) else data if isinstance(data, list) else []
    epoch = _number(state.get("epoch")) if state else _number(results.get("epoch"))
    told = {
        "trainer": _trainer(folder, said), "step": step_of(folder), "epoch": epoch,
        "seed": said.get("seed") if type(said.get("seed")) is int else None,
        "base": {"name": base} if isinstance(base, str) else None, "train": train or None,
        "data": [str(name) for part in names for name in str(part).split(",") if name] or None,
        "rows": results.get("train_samples") if type(results.get("train_samples")) is int else None,
    }  # fmt: skip
    return {key: value for key, value in told.items() if value is not None}


def state_of(folder: Path) -> dict[str, Any]:
    """Return a folder's trainer_state.json, {} where there is none that can be read."""
    return _json(folder / "trainer_state.json")


def step_of(folder: Path) -> int | None:
    """Return the optimiser step of the weights in a folder: as trainer_state.json says, else None."""
    step = state_of(folder).get("global_step")
    return step if type(step) is int and step >= 0 else None


def planned_steps(folder: Path) -> int | None:
    """Return the steps that a checkpoint's run was planned for (`max_steps` of trainer_state.json), else None."""
    steps = state_of(folder).get("max_steps")
    return steps if type(steps) is int and steps > 0 else None


def base_name(folder: Path) -> str | None:
    """Return the name of the model that a checkpoint was trained from, as its files say it."""
    said = _first(_said(folder), _BASE)
    return said if isinstance(said, str) and said else None


def _places(folder: Path) -> list[Path]:
    """Return where a checkpoint's trainer may have written: beside it, and in the run above."""
    is_inside = re.match(r"(checkpoint|step|ckpt|iter)[-_]\d+$", folder.name)
    return [folder, folder.parent] if is_inside else [folder]


def _said(folder: Path) -> dict[str, Any]:
    """Return all settings that are told, the nearest and most exact file first."""
    said: dict[str, Any] = {}
    for place in _places(folder):
        for told in _files(place):
            said = {**{k: v for k, v in told.items() if v is not None}, **said}
    return said


def _files(place: Path) -> Iterator[Mapping[str, Any]]:
    yield _json(place / "adapter_config.json")
    yield _json(place / "args.json")
    for told in (
        _yaml(place / "training_args.yaml"),
        _pickled(place / "training_args.bin"),
        _card(place / "README.md"),
    ):
        yield _writable(told)


def _first(said: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    value = next((said[name] for name in names if said.get(name) not in (None, "")), None)
    return _number(value) if isinstance(value, float) else value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # what is damaged says nothing; the weights are checked elsewhere
    return _writable(told) if isinstance(told, dict) else {}


def _writable(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what scores.json can hold: no number beyond 64 bits, which is no float either, and no half of an emoji."""
    return {name: value for name, value in told.items() if _is_writable({name: value})}


def _is_writable(value: dict[str, Any]) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _yaml(file: Path) -> dict[str, Any]:
    """Return the plain values of a flat YAML file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    told: dict[str, Any] = {}
    for name, value in re.findall(r"^(\w+):[ \t]+(\S.*)$", text, re.MULTILINE):
        try:
            told[name] = json.loads(value)
        except (ValueError, RecursionError):
            told[name] = value.rstrip(" \t").strip("'\"")
    return told


def _card(file: Path) -> dict[str, Any]:
    """Return what LLaMA-Factory's model card says: base, data sets, learning rate, epochs."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    told: dict[str, Any] = {}
    if match := _CARD.search(text):
        # `the identity, the alpaca_zh_demo and the exam`
        names = re.split(r",\s*(?:and\s+)?(?:the\s+)?|\s+and\s+(?:the\s+)?", match[2])
        told = {"model_name_or_path": match[1], "dataset": [name for name in names if name]}
    for name, value in _CARD_SETTING.findall(text):
        try:
            told["num_train_epochs" if name == "num_epochs" else name] = int(value) if name == "seed" else float(value)
        except ValueError:
            continue
    return told


class _Object:
    """What any class of a pickle becomes here: its state, and nothing that acts."""

    def __init__(self, *values: Any, **named: Any) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _Object

    def persistent_load(self, pid: Any) -> Any:
        return None


def _pickled(file: Path) -> dict[str, Any]:
    """Return the plain values of the Trainer's training_args.bin. No code of the pickle, and no class, is run."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            if archive.getinfo(name).file_size > 2**20:
                return {}
            with archive.open(name) as stream:
                told = _Unpickler(stream).load()
    except Exception:  # a damaged pickle may raise anything
        return {}
    values = vars(told) if isinstance(told, _Object) else {}
    return {k: v for k, v in values.items() if type(v) in (int, float, str)}


def _trainer(folder: Path, said: Mapping[str, Any]) -> str:
    if any(name in said for name in ("swift_version", "tuner_type", "train_type")):
        return "ms-swift"
    names = ("trainer_log.jsonl", "llamaboard_config.yaml", "training_args.yaml")
    written = any((place / name).is_file() for place in _places(folder) for name in names)
    return "LLaMA-Factory" if written or "finetuning_type" in said else "Trainer"
