"""One training run in one folder: what it is, how it starts or goes on, and how it ends.

The folder: `run.json` (what the run is; compared on every start), `checkpoints/`, `metrics.jsonl`, `loss.svg`, and
`result.json`, written last: its presence means finished.
"""

import dataclasses
import json
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from steel_data.engine import progress
from steel_data.errors import InputError
from steel_data.recipe.load import portable
from steel_train.examples.folder import Examples
from steel_train.examples.held_out import never_held_out
from steel_train.examples.prepare import Prepared, learnt
from steel_train.examples.tokenizer import stopping, tokenizer_sha256
from steel_train.loop.checkpoints import (
    WRITING,
    best_checkpoint,
    checkpoint_name,
    read_facts,
    resumable,
    verify,
    whole_checkpoints,
)
from steel_train.loop.evaluation import Evaluation, cost, interval
from steel_train.loop.losses import (
    JUDGED_MEASURES,
    MEASURES,
    KtoLoss,
    RowLoss,
    dpo_loss,
    orpo_loss,
    reference_log_likelihoods,
    sft_loss,
    simpo_loss,
)
from steel_train.loop.metrics import Metrics, Window, draw_losses, draw_scores
from steel_train.loop.parent import Parent, identity_changes
from steel_train.loop.trainer import Job, SteelTrainer, arguments, is_scheduled
from steel_train.models.adapter import adapter, show_bias, started_adapter
from steel_train.models.dtypes import held_dtype, saved_dtype, uses_bf16
from steel_train.models.load import (
    Base,
    base_dtype,
    check_vocabulary,
    describe_base,
    freeze,
    grow,
    load_config,
    load_model,
    new_ids,
    packs,
    padded_attention,
    with_adapter,
)
from steel_train.models.weights import check_adapter, load_full
from steel_train.preflight.apart import mixing_fault
from steel_train.preflight.inspect import Question, inspect, stop_at_faults
from steel_train.preflight.print import print_report
from steel_train.say import RESULT, RUN, read_json, say, say_to_user, write_json
from steel_train.schedule.batches import Steps
from steel_train.schedule.exposures import exposures
from steel_train.schedule.order import make_schedule

# Settings that may change between two starts of one run: they do not touch what is computed.
_FREE = ("resume", "keep", "report_to", "save_every")
_BY_DEVICE = {"computes": "the type that it computes in", "held": "the type of the base's weights"}
_SOON = 3.0  # seconds after a signal
_PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "numpy")


class Session:
    """One seed of a run."""

    def __init__(self, prepared: Prepared, folder: Path, seed: int, parent: Parent | None = None) -> None:
        from accelerate import PartialState

        self.prepared, self.folder, self.seed, self.parent = prepared, folder, seed, parent
        self.settings, self.recipe = prepared.settings, prepared.recipe
        self.main = PartialState().is_main_process
        self.ends = prepared.examples.ends()
        self.tokenizer = stopping(prepared.tokenizer, self.ends)
        self.config = load_config(self.settings, self.recipe.path, len(prepared.tokenizer))
        self.own = base_dtype(self.settings, self.config, self.recipe.path)
        self.new_ids = new_ids(self.settings, prepared.tokenizer)
        self.packed = packs(self.settings, self.config, self.recipe.path)
        self.schedule = make_schedule(prepared, self.packed, seed, PartialState().num_processes)

    def is_finished(self) -> bool:
        """Return whether the run is done, having verified it. Raises InputError where it is another run or damaged."""
        result = self.folder / "result.json"
        if not result.is_file():
            return False
        self._compare_identity()
        done = read_json(result, RESULT)
        verify(self.folder / "checkpoints" / done["checkpoint"])
        say(f"{self.folder}: finished at step {done['step']:,}, loss {done['loss']:.4f}; its last checkpoint is whole")
        return True

    def identity(self) -> dict[str, Any]:
        """Return what decides the weights of the run."""
        manifest, bf16 = self.prepared.manifest, uses_bf16(self.settings)
        return {
            "recipe": self.recipe.name,
            "seed": self.seed,
            "train": portable(self.settings.model_dump(exclude={"seeds", *_FREE})),
            "loss_of_source": learnt(self.recipe, self.settings).exceptions(),
            "mixture": {"content_sha256": manifest["content_sha256"], "rows": manifest["rows"]},
            "tokenizer": tokenizer_sha256(self.prepared.tokenizer),
            "processes": self.schedule.processes,
            "packed": self.packed,
            **({"parent": self.parent.said()} if self.parent else {}),
            # precision = "auto" is another on another device
            "computes": "bfloat16" if bf16 else "float32",
            "held": str(held_dtype(self.settings, self.own, bf16)).removeprefix("torch."),
        }

    def _compare_identity(self, packed: bool = False) -> None:
        """Refuse to go on with another mixture or other settings, naming the first change.

        `packed`: whether it is known how rows lie in memory (that is proven on the model).
        """
        file = self.folder / "run.json"
        if not file.is_file():
            if self.parent is not None and packed:
                self.parent.compare(self.identity(), self.schedule.steps)
            return
        before, now = read_json(file, RUN)["identity"], self.identity()
        if not packed:
            now["packed"] = before.get("packed")
        for change in identity_changes(before, now):
            what, right = change.key, "the recipe as it was"
            if change.key in _BY_DEVICE:
                what, right = _BY_DEVICE[change.key], "a device like the first"
            longer = f' and parent = "{self.folder}"' if change.key in ("train.epochs", "train.max_steps") else ""
            raise InputError(
                f"{self.folder}: was started with {what} = {json.dumps(change.old)}, now it is "
                f"{json.dumps(change.new)}. Fix: another --out{longer}, or {right}."
            )

    def train(self, stop: list[int]) -> None:
        """Train from the newest checkpoint or from the start; write what a finished run leaves unless `stop` is set."""
        checkpoint = self._start()
        model = self._load()
        self._preflight(fresh=checkpoint is None or self.begins_at_parent)
        grow(model, self.new_ids)
        model = with_adapter(model, self.settings, self.recipe.path)
        freeze(model, self.settings.freeze, self.recipe.path)
        check_vocabulary(model.get_input_embeddings().num_embeddings, self.prepared.tokenizer, self.recipe.path)
        _learn_to_stop(model, self.tokenizer, self.ends)
        base = describe_base(model, self.settings, self.recipe.path)
        self._compare_base(base, checkpoint)
        self._write_run(base)
        trainer = self._trainer(model, base, stop)
        if checkpoint is not None:
            self._check(checkpoint, trainer.model)
        evaluation = trainer.job.evaluation
        if evaluation is None or not evaluation.is_over:  # else it was stopped early, and killed before it said so
            began = time.monotonic()
            trainer.begins_longer = self.begins_at_parent
            at = self.resumed["step"] if self.resumed else 0
            with progress("train", self.schedule.steps, "steps", at) as trainer.job.advance, _stopping_at_signals(stop):
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            if evaluation is not None:
                say(f"looks took {evaluation.seconds / (time.monotonic() - began):.1%} of the time")
        if not stop and self.main:
            self._finish(evaluation)

    def _compare_base(self, base: Base, checkpoint: Path | None) -> None:
        """Refuse to go on from a base whose weights are others than when the run was started."""
        file = self.folder / "run.json"
        before = read_json(file, RUN)["base"] if file.is_file() else None
        if before is None and self.parent is not None:
            before = self.parent.run["base"]
        if before is None or before["fingerprint"] == base.fingerprint or isinstance(self.settings.model, dict):
            return
        if checkpoint is not None:
            raise InputError(
                f"{self.folder}: was started from {before['name']} with weights {before['fingerprint'][:8]}, now they "
                f"are {base.fingerprint[:8]}. Fix: the base as it was, or another --out."
            )
        if self.main:  # nothing was trained yet; what was computed of the old base is worth nothing
            for reference in self.folder.glob("reference*.npy"):
                reference.unlink()

    def _check(self, checkpoint: Path, model: Any) -> None:
        """Refuse to go on from weights that are not those of the model: the trainer would leave out what is missing."""
        if self.settings.uses_lora:
            check_adapter(model, checkpoint)
        else:
            load_full(checkpoint, device_map="meta")

    def _load(self) -> Any:
        """Return the model. Where it does not keep packed rows apart, they are padded, and the reason is said."""
        with progress("load", None):
            model = load_model(self.settings, self.config, self.recipe.path, self.packed, self.seed)
        if self.packed and torch.cuda.is_available() and not getattr(model, "is_quantized", False):
            model.to(f"cuda:{torch.cuda.current_device()}")
        fault = mixing_fault(model, uses_bf16(self.settings)) if self.packed else None
        if fault and self.settings.packing:
            raise InputError(f"{self.recipe.path} [train]: packing = true, but {fault}. Fix: packing = false.")
        if fault:
            say(f"rows are padded, not packed: {fault}")
            model.set_attn_implementation(padded_attention(self.config))
            self.packed = False
            self.schedule = make_schedule(self.prepared, False, self.seed, self.schedule.processes)
        self._compare_identity(packed=True)
        return model

    def _start(self) -> Path | None:
        """Return the checkpoint to go on from, with the log wound back to it."""
        self._compare_identity()
        checkpoint = resumable(self.folder)
        self.begins_at_parent = checkpoint is None and self.parent is not None
        if checkpoint is not None and self.settings.resume == "never":
            raise InputError(f'{self.folder}: holds {checkpoint.name}, and resume = "never". Fix: another --out.')
        if checkpoint is not None and not (self.folder / "run.json").is_file():
            # a process wrote on after its folder was removed, or somebody copied it: nothing says what it is of
            raise InputError(
                f"{self.folder}: holds {checkpoint.name}, and no run.json says of which run. Fix: another --out, or "
                f"{self.folder / 'checkpoints'} removed."
            )
        if checkpoint is None and self.parent is not None:
            checkpoint = self.parent.checkpoint
        facts = read_facts(checkpoint) if checkpoint else None
        step = facts["step"] if facts else 0
        if self.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.begins_at_parent and self.parent is not None:
                Metrics(self.folder).begin(Metrics(self.parent.folder).read())
            Metrics(self.folder).rewind(step)
            if checkpoint is not None:
                of = f" of {self.parent.folder}" if self.begins_at_parent and self.parent else ""
                say(f"{self.folder}: going on from step {step:,}{of} to {self.schedule.steps:,}")
        self.resumed = facts
        return checkpoint

    def _preflight(self, fresh: bool) -> None:
        """Look before the leap: print and keep the report, and stop at a fault."""
        question = Question(
            self.prepared.examples, self.schedule, self.settings, self.prepared.tokenizer, self.config, self.folder,
            bf16=uses_bf16(self.settings), held_out=self.prepared.held_out, own=self.own,
        )  # fmt: skip
        # the memory of a tiny model can be no one's worry, and a resumed run has fitted before
        report = inspect(question, with_memory=self.main and fresh)
        if self.main:
            write_json(self.folder / "preflight.json", dataclasses.asdict(report))
            if fresh:
                print_report(report)
        stop_at_faults(report, self.recipe.path)

    def _write_run(self, base: Base) -> None:
        if not self.main:
            return
        for warning in other_bases(self.folder, base):
            say(f"warning: {warning}")
        about = dataclasses.asdict(base)
        del about["history"]
        write_json(self.folder / "run.json", {"identity": self.identity(), "base": about, "versions": _versions()})

    def _trainer(self, model: Any, base: Base, stop: list[int]) -> SteelTrainer:
        from steel_train.kernels.patch import patch, report

        settings = self.settings
        steps = Steps(self.prepared.examples, self.schedule, self.prepared.tokenizer.pad_token_id)
        measures = {"preference": MEASURES, "kto": JUDGED_MEASURES}.get(settings.form, ())
        window = Window(steps.examples, self._weights(steps.examples), measures)
        evaluation = self._evaluation(measures)
        if self.resumed:
            window.restore(self.resumed["window"])
            if evaluation is not None:
                evaluation.restore(self.resumed.get("eval") or {})
        net: Any = None
        job = Job(
            self.folder, settings, steps, window, row_loss=sft_loss, stop=stop, evaluation=evaluation,
            saved_as=saved_dtype(settings.dtype, self.own),
            facts=lambda step: (
                self._facts(step, base, report(net)) | {"eval": evaluation.state() if evaluation else {}}
            ),
        )  # fmt: skip
        trainer = SteelTrainer(
            job, model=model, args=arguments(settings, self.schedule, self.folder, self.seed),
            processing_class=self.tokenizer,
            peft_config=self._adapter(model),
        )  # fmt: skip
        net = trainer.model
        show_bias(net)
        compute = torch.bfloat16 if uses_bf16(settings) else None
        patch(net, settings.kernels, in_forward=settings.form == "messages", compute=compute)
        job.row_loss = self._row_loss(trainer, steps, "reference.npy")
        if evaluation is not None:
            evaluation.row_loss = self._row_loss(trainer, evaluation.steps, "reference-held-out.npy")
        return trainer

    def _adapter(self, model: Any) -> Any:
        """Return PEFT's configuration of a new adapter, or None. Raises InputError for new tokens beside one there."""
        if started_adapter(self.settings, self.recipe.path) is None:
            return adapter(self.settings, model, self.new_ids)
        if self.new_ids:
            raise InputError(
                f"{self.recipe.path} [train]: new_tokens: the adapter {self.settings.model} is trained on, and has no "
                "rows for them. Fix: merge it first."
            )
        return None

    def _row_loss(self, trainer: SteelTrainer, steps: Steps, reference: str) -> RowLoss:
        """Return the loss of the run's method on the examples of `steps`; `reference`: the reference's file, if any."""
        settings, learnt_N = self.settings, torch.tensor(steps.examples.table["learnt"].to_numpy())
        if settings.method == "dpo":
            return dpo_loss(reference_log_likelihoods(trainer, steps, self.folder / reference), settings.dpo.beta)
        if settings.method == "kto":
            return self._kto_loss(trainer, steps, reference)
        if settings.method == "simpo":
            return simpo_loss(learnt_N, settings.simpo.beta, settings.simpo.gamma)
        return orpo_loss(learnt_N, settings.orpo.beta) if settings.method == "orpo" else sft_loss

    def _kto_loss(self, trainer: SteelTrainer, steps: Steps, reference: str) -> KtoLoss:
        assert steps.examples.mismatched is not None
        others = Steps(steps.examples.mismatched, steps.schedule, steps.pad_id)
        file = self.folder / reference
        return KtoLoss(
            reference_log_likelihoods(trainer, steps, file),
            reference_log_likelihoods(trainer, others, file.with_stem(f"{file.stem}-others")),
            torch.tensor(steps.examples.table["label"].to_numpy()), others, self.settings.kto,
        )  # fmt: skip

    def _weights(self, examples: Examples) -> npt.NDArray[np.int64]:
        """Return what the loss of each example is a mean over: its learnt tokens; of a pair, 1 at the chosen answer.

        Of a judged answer 1.
        """
        weights = examples.table["learnt"].to_numpy()
        if self.settings.form != "messages":
            weights = np.arange(len(weights)) % examples.per_unit == 0
        return weights.astype(np.int64)

    def _evaluation(self, measures: tuple[str, ...]) -> Evaluation | None:
        """Return the looks at the held-out rows, if any are held out."""
        held_out, rule = self.prepared.held_out, self.settings.eval
        if held_out is None or rule is None:
            return None
        schedule = dataclasses.replace(self.schedule, lengths=held_out.unit_lengths(), max_steps=None)
        tasks, scorer = self.prepared.tasks, None
        if tasks is not None:
            positions = getattr(self.config.get_text_config(), "max_position_embeddings", None)
            scorer = tasks.scorer(self.tokenizer, positions or self.settings.max_length)
        tokens = scorer.tokens if scorer is not None else 0
        looks = (self.settings, self.schedule, schedule, tokens)
        every, steps = interval(*looks), cost(*looks)
        asked = f"and {', '.join(tasks.names)} ({tokens:,} tokens) " if tasks is not None else ""
        if self.main:
            say(
                f"a look at {held_out.units:,} rows {asked}every {every:,} steps: about "
                f"{steps / (every + steps):.1%} of the time"
            )
        return Evaluation(
            Steps(held_out, schedule, self.prepared.tokenizer.pad_token_id), sft_loss, self._weights(held_out),
            measures=measures, patience=rule.early_stopping, prompts=tuple(rule.prompts),
            every=every, tasks=tuple(tasks.names) if tasks else (), scorer=scorer,
        )  # fmt: skip

    def _facts(self, step: int, base: Base, kernels: dict[str, Any]) -> dict[str, Any]:
        """Return what a checkpoint says of itself."""
        manifest = self.prepared.manifest
        return {
            "step": step,
            "epoch": round(step / self.schedule.steps_per_epoch, 6),
            "epoch_end": step % self.schedule.steps_per_epoch == 0 or step == self.schedule.steps,
            "scheduled": is_scheduled(step, self.schedule, self.settings.save_every),
            "steps": self.schedule.steps,
            "recipe": self.recipe.name,
            "seed": self.seed,
            "processes": self.schedule.processes,
            "mixture": {"name": manifest["name"], "content_sha256": manifest["content_sha256"]},
            "base": dataclasses.asdict(base),
            "train": portable(self.settings.model_dump()),
            "loss_of_source": learnt(self.recipe, self.settings).exceptions(),
            **({"parent": self.parent.said()} if self.parent else {}),
            "ends": {str(self.tokenizer.convert_ids_to_tokens(i)): count for i, count in self.ends.items()},
            "held_out": self._held_out(),
            "exposures": exposures(self.prepared.examples, self.schedule, step),
            "contamination": manifest.get("contamination", {}),
            "kernels": {"asked": self.settings.kernels, "ops": kernels},
            "versions": _versions(),
        }

    def _held_out(self) -> dict[str, Any]:
        """Return how many rows are held out, and the sources that never are."""
        if self.prepared.held_out is None:
            return {}
        rows = self.prepared.held_out.table["id"].n_unique()
        return {"rows": rows, "never": never_held_out(self.prepared.manifest)}

    def _finish(self, evaluation: Evaluation | None) -> None:
        lines = Metrics(self.folder).read()
        shutil.rmtree(self.folder / "checkpoints" / WRITING, ignore_errors=True)
        draw_losses(lines, f"{self.recipe.name}, seed {self.seed}: training loss", self.folder / "loss.svg")
        draw_scores(lines, f"{self.recipe.name}, seed {self.seed}: scores", self.folder / "tasks.svg")
        last = whole_checkpoints(self.folder)[-1]
        step = evaluation.step if evaluation is not None and evaluation.is_over else self.schedule.steps
        if last.name != checkpoint_name(step):
            raise RuntimeError(f"training ended at {last.name}, not at step {step}")
        loss = [line["loss"] for line in lines if "loss" in line][-1]
        result = {"step": step, "checkpoint": last.name, "loss": loss}
        best, told = best_checkpoint(self.folder), ""
        if best is not None:
            lowest = (read_facts(best) or {})["eval"]["loss"]
            result |= {"best": {"checkpoint": best.name, "eval_loss": lowest}}
            told = f"; the best on held-out rows is {best.name}, loss {lowest:.4f}"
        write_json(self.folder / "result.json", result)
        say(f"{self.folder}: finished; {last.name}, loss {loss:.4f}, loss.svg{told}")


def _versions() -> dict[str, str]:
    return {package: version(package) for package in _PACKAGES}


def other_bases(folder: Path, base: Base) -> list[str]:
    """Return a warning for each other base that neighbouring runs of the same architecture start from."""
    found: dict[str, list[str]] = {}
    for file in sorted({*folder.parent.glob("*/run.json"), *folder.parent.parent.glob("*/*/run.json")}):
        if file.parent == folder:
            continue
        try:
            other = read_json(file, RUN)["base"]
        except InputError:
            continue
        if other["architecture"] == base.architecture and other["fingerprint"] != base.fingerprint:
            found.setdefault(f"{other['name']} ({other['fingerprint'][:8]})", []).append(str(file.parent))
    return [
        f"{runs[0]}{f' and {len(runs) - 1} more start' if runs[1:] else ' starts'} from {start}, this run from "
        f"{base.name} ({base.fingerprint[:8]}): a difference between the two is not one between mixtures."
        for start, runs in found.items()
    ]


@contextmanager
def _stopping_at_signals(stop: list[int]) -> Iterator[None]:
    """Collect SIGTERM and SIGINT in `stop`: the step ends, the state is saved, then the process does.

    A step may take minutes: soon a line says what is waited for. Ctrl-C again ends it at once, as it does elsewhere.
    """
    waited = "stopping when the step is done and saved; Ctrl-C again: now, unsaved"
    # SIGTERM comes from a program, of which a worker's process has one: its log is enough
    late = threading.Timer(_SOON, lambda: (say_to_user if stop[0] == signal.SIGINT else say)(waited))
    late.daemon = True

    def heard(number: int, _: Any) -> None:
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not stop:
            late.start()
        stop.append(number)

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        late.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _learn_to_stop(model: Any, tokenizer: Any, ends: Iterable[int]) -> None:
    """Let generation stop at every token that ended a learnt turn, and pad with what training pads with."""
    known = model.generation_config.eos_token_id
    known = [] if known is None else known if isinstance(known, list) else [known]
    own = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    learnt = list(dict.fromkeys([*ends, *own]))
    model.generation_config.eos_token_id = list(dict.fromkeys([*learnt, *known]))
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = learnt if len(learnt) > 1 else tokenizer.eos_token_id
