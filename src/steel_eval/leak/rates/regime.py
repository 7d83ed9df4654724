"""What kind of model a checkpoint is, as far as a detector's error rates depend on it, and which measured kind fits.

Read from the checkpoint's own files: config.json, the headers of its weights, and steel.json, which steel_train writes.
A checkpoint that others trained says nothing of how, and what is not known fits nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steel_data.errors import InputError
from steel_data.mixture.manifest import read_manifest
from steel_eval.contamination.items import nearby_mixture
from steel_eval.models import full_weights, read_steel_json, weight_files
from steel_eval.score.folder import read_json

FACTOR = 2.0  # of parameters, up to which two models are of one size
_LEARNT = {"assistant": "answers only", "all": "all text"}
EPOCHS, RATE = 1.5, 3.0  # factors of epochs and of the learning rate, up to which two trainings are of one kind
SHARE, EXPOSURES = 3.0, 2.0  # factors of the injected tokens' share, and of the most exposures that were measured


@dataclass(frozen=True)
class Regime:
    """`parameters`: None where the weights are no safetensors; `start`: "from scratch" or "tuned"; `method`: that
    of the recipe (full, lora, dpo, orpo, simpo, kto, …), with an adapter where that is no part of its name "… with
    lora"; `loss`: the tokens that were learnt, "answers only", "all text", or in words which of what source.
    `injected_share`: of the tokens, those of rows that hold benchmark items; `exposures`: the most of one item. None:
    not known.
    """

    parameters: int | None
    architecture: str | None
    start: str | None
    method: str | None
    loss: str | None
    epochs: int | None
    learning_rate: float | None
    injected_share: float | None = None
    exposures: int | None = None

    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def regime_of(checkpoint: Path, base: str | None = None, mixture: Path | None = None) -> Regime:
    """Return the regime of a checkpoint or adapter folder (`base`: in place of the one that the adapter names).

    `mixture`: what it was trained on, in place of the one beside it. Raises InputError where an adapter's base is
    missing.
    """
    full = full_weights(checkpoint, base)
    config = _json(full / "config.json")
    file = checkpoint / "steel.json"
    said = read_steel_json(file) if file.is_file() else {}
    train = said.get("train") or {}
    method = train.get("method") or ("lora" if full != checkpoint else None)
    if method not in (None, "lora") and train.get("lora"):
        method = "lora" if method == "full" else f"{method} with lora"
    start = loss = None
    if train:
        start = "from scratch" if isinstance(train.get("model"), dict) else "tuned"
        loss = _LEARNT["all" if method == "pretrain" else train.get("loss", "assistant")]
        for source, other in (said.get("loss_of_source") or {}).items():
            loss += f", of {source} {_LEARNT[other]}"
    architecture = config.get("model_type")
    share, copies = _injected(mixture or nearby_mixture(checkpoint))
    epochs = train.get("epochs")
    return Regime(
        parameters=count_parameters(full), architecture=None if architecture is None else str(architecture),
        start=start, method=method, loss=loss,
        epochs=epochs, learning_rate=train.get("learning_rate"), injected_share=share,
        exposures=None if copies is None or epochs is None else math.ceil(copies * epochs),
    )  # fmt: skip


def _injected(mixture: Path | None) -> tuple[float | None, int | None]:
    """Return the share of tokens that a mixture's injecting sources have, and the most copies of an item.

    None and None where there is no mixture, or none that declares anything: then nobody knows what it holds.
    """
    if mixture is None:
        return None, None
    try:
        manifest = read_manifest(mixture)
        doses = [int(dose) for of in (manifest.get("contamination") or {}).values() for dose in of if int(dose)]
        if not doses:
            return None, None
        uses = {name: s.get("build", {}).get("use") for name, s in manifest["recipe"]["source"].items()}
        injecting = [name for name, use in uses.items() if use == "contaminate"]
        tokens = sum(int(manifest["sources"][name]["tokens"]) for name in injecting)
        return tokens / max(1, int(manifest["tokens"])), max(doses)
    except (InputError, KeyError, AttributeError, TypeError, ValueError):
        return None, None


def count_parameters(folder: Path) -> int | None:
    """Return the number of weights from the headers of the safetensors files; None for other formats."""
    from safetensors import safe_open

    files = [f for f in weight_files(folder) if f.suffix == ".safetensors"]
    total = 0
    for file in files:
        with safe_open(file, "np") as weights:
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total if files else None


def _json(file: Path) -> dict[str, Any]:
    found = read_json(file, "Fix: copy the checkpoint again.") if file.is_file() else {}
    return found if isinstance(found, dict) else {}


def differences(model: Regime, measured: Regime) -> list[str]:
    """Return in words in what a model differs from a measured regime: then its rates do not carry over."""
    out = []
    a, b = model.parameters, measured.parameters
    if a is None or b is None:
        out.append("its size is not known")
    elif not _near(a, b, FACTOR):
        out.append(f"{size_words(a)} parameters, not {size_words(b)}")
    for name in ("architecture", "start", "method", "loss"):
        words = "loss on" if name == "loss" else name
        mine, theirs = getattr(model, name), getattr(measured, name)
        if mine is None:
            out.append(f"{words}: not known, there {theirs}")
        elif mine != theirs:
            out.append(f"{words}: {mine}, not {theirs}")
    for name, factor in (("epochs", EPOCHS), ("learning_rate", RATE)):
        mine, theirs, said = getattr(model, name), getattr(measured, name), name.replace("_", " ")
        if mine is None or theirs is None:
            out.append(f"{said}: not known, there {theirs}" if mine is None else f"{said}: {mine:g}, there not known")
        elif not _near(mine, theirs, factor):
            out.append(f"{said}: {mine:g}, not {theirs:g}")
    # what the mixture holds is the question, so it differs only where both are known
    share, known = model.injected_share, measured.injected_share
    if share is not None and known is not None and not _near(share, known, SHARE):
        out.append(f"injected: {100 * share:.2g} % of the tokens, not {100 * known:.2g} %")
    most, shown = model.exposures, measured.exposures
    if most is not None and shown is not None and most > EXPOSURES * shown:
        out.append(f"exposures: up to {most:g}, not {shown:g}")
    return out


def _near(a: float, b: float, factor: float) -> bool:
    """Return whether two numbers are at most a factor apart; a nought is near a nought alone."""
    return a <= factor * b and b <= factor * a


def nearest(model: Regime, measured: Sequence[Regime]) -> tuple[int, list[str]] | None:
    """Return the number of the regime with the fewest differences (the nearest in size among equals) and those."""
    if not measured:
        return None

    def distance(k: int) -> tuple[int, float]:
        a, b = model.parameters, measured[k].parameters
        return len(differences(model, measured[k])), abs(math.log(a / b)) if a and b and a * b > 0 else math.inf

    best = min(range(len(measured)), key=distance)
    return best, differences(model, measured[best])


def size_words(parameters: int) -> str:
    """Return a count of parameters for reading: 1.7 M, 135 M, 1.1 B."""
    for value, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= value:
            return f"{parameters / value:.3g} {unit}"
    return str(parameters)


def in_words(regime: Regime) -> str:
    """Return a regime in a few words."""
    size = "unknown size" if regime.parameters is None else f"{size_words(regime.parameters)} parameters"
    parts = [regime.architecture or "unknown architecture", size, regime.start or "unknown start",
             regime.method or "unknown method", f"loss on {regime.loss or 'unknown tokens'}"]  # fmt: skip
    if regime.epochs is not None:
        parts.append(f"{regime.epochs} epoch{'s' * (regime.epochs != 1)}")
    if regime.injected_share is not None:
        parts.append(f"{100 * regime.injected_share:.2g} % of the tokens injected")
    if regime.exposures is not None:
        parts.append(f"up to {regime.exposures} exposure{'s' * (regime.exposures != 1)}")
    return ", ".join(parts)
