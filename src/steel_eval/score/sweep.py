"""Score every checkpoint of a run: questions tokenised once, weights swapped into one module, the next read meanwhile.

With `watch`, new checkpoints are scored as training writes them. Everything passes through the store, so a killed sweep
goes on where it was, in the middle of a subject too.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from steel_data.engine import progress, tell
from steel_data.errors import InputError
from steel_data.files import atomic_write
from steel_eval.ask.encode import Tokenised, Unit, make_units
from steel_eval.ask.tasks import Task
from steel_eval.contamination.items import contamination_of, nearby_mixture, open_mixture, seen_items
from steel_eval.models import (
    AS_SAVED,
    Checkpoint,
    Opening,
    find_checkpoints,
    load,
    read_weights,
    scoring_dtype,
    swap,
    training_of,
    weight_files,
    weights_fingerprint,
    with_base,
)
from steel_eval.score.folder import refuse_another
from steel_eval.score.likelihood import prefix_sharing
from steel_eval.score.results import Ready, Scored, code_fingerprint, key_of, score_unit, write_results
from steel_eval.score.rotate import rotation_scores
from steel_eval.score.server import refuse_several
from steel_eval.score.store import Store

SETTLE = 5.0  # seconds without a change after which another trainer's checkpoint is taken to be written


@dataclass(frozen=True)
class Settings:
    """What to score and how; the same for every checkpoint of a sweep."""

    tasks: Sequence[Task]
    presets: Sequence[str]
    shots: int
    out: Path
    store: Path
    device: str = "cpu"
    dtype: str = "auto"
    rotate: bool = False
    generator: str = "hf"
    showcase: bool = False
    with_base: bool = False  # score what the run was trained from too, as step 0
    opening: Opening = AS_SAVED
    max_new_tokens: int | None = None  # of a written answer, in place of the preset's


@dataclass(frozen=True)
class Weights:
    """A checkpoint's tensors, read while another was scored."""

    fingerprint: str
    tensors: dict[str, Any]


@dataclass
class Sweep:
    """State shared by the checkpoints of a run: prompts, tokens, one module."""

    settings: Settings
    store: Store = field(init=False)
    units: dict[str, list[Unit]] = field(init=False)
    ready: Ready | None = None
    config: Any = None
    swapped: int = 0
    declared: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)  # by mixture and task

    def __post_init__(self) -> None:
        self.store = Store(self.settings.store)
        s = self.settings
        self.units = {
            p: [u for task in s.tasks for u in make_units(task, p, s.shots, s.max_new_tokens)] for p in s.presets
        }

    def open(self, checkpoint: Checkpoint, ahead: Weights | None = None) -> Ready:
        """Load a checkpoint; what was read `ahead` goes into the module that is there, where it fits."""
        how = self.settings
        dtype = scoring_dtype(checkpoint.folder, how.device, how.dtype, how.opening.base)
        config, ready = [dtype.encode(), *_config(checkpoint.folder)], self.ready
        if ready is not None and ahead is not None and config == self.config and swap(ready.loaded, ahead.tensors):
            ready.loaded.fingerprint, ready.loaded.folder = ahead.fingerprint, checkpoint.folder
            # other weights may betray what those before them did not
            ready.sharing = prefix_sharing(ready.loaded.model)
            self.swapped += 1
            return ready
        tokenised = ready.tokenised if ready is not None else None
        self.ready = ready = None  # frees the old module before the new one is made
        loaded = load(checkpoint.folder, how.device, dtype, how.opening)
        self.config = config
        fresh = Tokenised(loaded.tokenizer, loaded.max_length)
        if tokenised and (tokenised.fingerprint, tokenised.max_length) == (fresh.fingerprint, fresh.max_length):
            fresh = tokenised
        self.ready = Ready(loaded, fresh, prefix_sharing(loaded.model), self.store, self.settings.shots)
        return self.ready

    def score(self, checkpoint: Checkpoint, folder: Path) -> dict[str, dict[str, Any]]:
        """Score the open checkpoint under every preset; write and return scores by preset."""
        assert self.ready is not None
        ready, how = self.ready, self.settings
        results = {}
        folders = {preset: folder / preset if len(self.units) > 1 else folder for preset in self.units}
        for target in folders.values():  # before hours of scoring
            refuse_another(target, self._model(ready, checkpoint))
        every = [unit for units in self.units.values() for unit in units]
        before = sum(len(u.prompts) for u in every if ready.store.get(self._key(u, ready)) is not None)
        with progress(checkpoint.name, sum(len(u.prompts) for u in every), "questions", before) as ready.advance:
            scored_by = {preset: [self._scored(u, ready) for u in units] for preset, units in self.units.items()}
        for preset, units in self.units.items():
            scored = scored_by[preset]
            about = self._about(ready, checkpoint, preset)
            if how.rotate and units and units[0].preset.kind == "likelihood":
                about["rotation"] = rotation_scores(units, ready)
            results[preset] = write_results(folders[preset], units, scored, about)
        if how.showcase:
            from steel_eval.score.showcase import write_showcase

            write_showcase(folder, ready.loaded, how.generator, ready.sharing.ok)
        return results

    def _model(self, ready: Ready, checkpoint: Checkpoint) -> dict[str, Any]:
        folder = checkpoint.folder.absolute().as_posix()
        return {"model": checkpoint.name, "folder": folder, "model_fingerprint": ready.loaded.fingerprint}

    def _key(self, unit: Unit, ready: Ready) -> str:
        """Return under which key of the store a unit's answers lie."""
        from steel_eval.score.generate import how_written

        if unit.preset.kind == "likelihood":
            return key_of(unit, ready)
        return key_of(unit, ready, how_written(self.settings.generator, unit.preset.max_new_tokens, ready.loaded))

    def _scored(self, unit: Unit, ready: Ready) -> Scored:
        from steel_eval.score.generate import generate_unit

        if unit.preset.kind == "likelihood":
            return score_unit(unit, ready)
        return generate_unit(unit, ready, self.settings.generator)

    def _about(self, ready: Ready, checkpoint: Checkpoint, preset: str) -> dict[str, Any]:
        import torch
        import transformers

        return {
            **self._model(ready, checkpoint), "step": checkpoint.step,
            "tokenizer_fingerprint": ready.tokenised.fingerprint, "preset": preset, "shots": self.settings.shots,
            "dtype": str(ready.loaded.model.dtype).removeprefix("torch."), "device": ready.loaded.model.device.type,
            "context": ready.loaded.max_length, "generator": self.settings.generator,
            "opened": self.settings.opening.said(), "max_new_tokens": self.settings.max_new_tokens,
            "sharing": ready.sharing.reason or "prefixes shared", "code": code_fingerprint(),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "training": training_of(checkpoint.folder), "contamination": contamination_of(checkpoint.folder),
            "declared_items": self._declared(checkpoint.folder),
        }  # fmt: skip

    def _declared(self, folder: Path) -> dict[str, dict[str, int]]:
        """Return task -> dose -> its questions in the run's mixture, by their text; nothing where that is not known."""
        said, place = contamination_of(folder), nearby_mixture(folder)
        if said is None or place is None or (mixture := open_mixture(place)).declared != said:
            return {}
        for task in self.settings.tasks:
            if (mixture.content, task.name) not in self.declared:
                items = [item for group in task.items.values() for item in group]
                try:
                    held = seen_items(mixture, items)
                except InputError as error:
                    tell(f"{task.name}: which of its questions were trained on is not known: {error}")
                    return {}
                counts = Counter(entry.dose for entry in held.values())
                self.declared[mixture.content, task.name] = {str(dose): counts[dose] for dose in sorted(counts)}
        found = [(task, self.declared[mixture.content, task.name]) for task in self.settings.tasks]
        return {task.name: counts for task, counts in found if counts or task.benchmark in said}


def run_sweep(
    place: str, settings: Settings, watch: float | None = None
) -> Iterator[tuple[Checkpoint, dict[str, dict[str, Any]]]]:
    """Score a checkpoint or every checkpoint of a run, in order; yields each with its scores by preset.

    `watch`: look for further checkpoints, end after so many seconds without a new one. A run's checkpoints get one
    folder each in `settings.out`, a single checkpoint writes into it directly. Next to them: curve.json.
    """
    sweep = Sweep(settings)
    done: set[str] = set()
    curve: list[tuple[Checkpoint, dict[str, dict[str, Any]]]] = []
    last_news = time.monotonic()
    with ThreadPoolExecutor(1) as reader:
        while True:
            checkpoints, is_run = _checkpoints(place, watch is not None, settings.opening.revision)
            checkpoints = with_base(checkpoints) if settings.with_base and checkpoints else checkpoints
            is_run = is_run or settings.with_base
            if any(unit.preset.kind == "generation" for units in sweep.units.values() for unit in units):
                refuse_several(settings.generator, checkpoints, watch is not None)
            todo = [c for c in checkpoints if c.name not in done and (watch is None or _settled(c.folder))]
            ahead: Future[Weights | None] | None = None
            for i, checkpoint in enumerate(todo):
                sweep.open(checkpoint, ahead.result() if ahead is not None else None)
                ahead = _ahead(reader, todo[i + 1 :], settings)
                folder = settings.out / checkpoint.name if is_run else settings.out
                results = sweep.score(checkpoint, folder)
                done.add(checkpoint.name)
                curve.append((checkpoint, results))
                if is_run:
                    write_curve(settings.out, curve)
                sweep.store.compact()
                yield checkpoint, results
                last_news = time.monotonic()  # not before: what the caller does meanwhile is no idle time
            if watch is None or time.monotonic() - last_news > watch:
                return
            time.sleep(min(2.0, watch))


def _settled(folder: Path) -> bool:
    """Return whether a checkpoint seen while watching is whole: steel's are renamed then, others rest."""
    if (folder / "steel.json").is_file():
        return True
    return time.time() - max(file.stat().st_mtime for file in weight_files(folder)) > SETTLE


def _checkpoints(place: str, watching: bool, revision: str | None) -> tuple[list[Checkpoint], bool]:
    try:
        found, is_run = find_checkpoints(place, revision)
        return found, is_run or watching
    except InputError:
        if watching and not Path(place).is_file():
            return [], True  # training has not written its first checkpoint yet
        raise


def _ahead(
    reader: ThreadPoolExecutor, rest: Sequence[Checkpoint], settings: Settings
) -> "Future[Weights | None] | None":
    """Begin to read the next checkpoint. Not where code beside the weights is part of what identifies them."""
    if not rest or settings.opening.trust_remote_code:
        return None
    return reader.submit(_read_ahead, rest[0].folder)


def _read_ahead(folder: Path) -> Weights | None:
    """Return a checkpoint's weights; None for what cannot be swapped, or fails: that is told when it is opened."""
    try:
        tensors = read_weights(folder)
        return None if tensors is None else Weights(weights_fingerprint(folder), tensors)
    except (InputError, OSError):
        return None


def _config(folder: Path) -> list[bytes]:
    """Return everything beside the weights that decides what is computed: equal for checkpoints that may be swapped."""
    names = ("config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    return [(folder / name).read_bytes() if (folder / name).is_file() else b"" for name in names]


def _short(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    keys = ("accuracy", "stderr", "macro", "n", "limit", "invalid", "gold_probability", "gold_bits_per_byte")
    return {p: {t: {k: s.get(k) for k in keys} for t, s in r["tasks"].items()} for p, r in results.items()}


def write_curve(out: Path, curve: Sequence[tuple[Checkpoint, dict[str, dict[str, Any]]]]) -> None:
    """Write what checkpoints scored, in order of steps, to curve.json."""
    short = [{"name": c.name, "step": c.step, "scores": _short(results)} for c, results in curve]
    atomic_write(out / "curve.json", orjson.dumps(short, option=orjson.OPT_INDENT_2))
