"""A first look at one run: what more weight on a source's loss would do to each measure, by its gradients.

A step of training moves the weights against the mean gradient, in which each source counts by its share. Were the
weight of a source doubled and all others shrunk alike, the step would turn by d = g_source - g_others; to first order a
measure then changes by -(d . g_measure). That is reported as a part of |g_all| |g_measure|, mean and standard error
over checkpoints of the run (as DoGE weighs domains, arXiv 2310.15393). A screen: one mixture, single steps of plain
gradient descent, no noise between runs, nothing of rows that repeat.

Legend: P weights of the model, K sources, C checkpoints.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steel_data.engine import tell
from steel_data.errors import InputError, one_line
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.rows import Row, files, rows
from steel_data.row.display import plain_table, print_table
from steel_eval.arms import Job, train_job
from steel_eval.mix.design import Floats
from steel_eval.mix.pool import read_held
from steel_eval.mix.search import Search, make_arm
from steel_eval.models import default_device, find_checkpoints, load

if TYPE_CHECKING:
    import torch

_LOOKS = 4  # checkpoints that are looked at
_ROWS = 64  # of a source, or held out, in a gradient
_SEED = 800


def screen_command(search: Search) -> dict[str, Any]:
    """Train one run of the recipe's own mixture, look at it, print, write and return `screen.json`. Raises InputError.

    `screen.json`: `screen` true, `effects` (source -> measure -> `pull`, `error`; below zero: more of the source lowers
    the loss), `checkpoints`. Finished trainings are kept.
    """
    from steel_train.say import write_json

    names = search.settings.measure.held_out
    if names is None or search.pool.kind != "source":
        raise InputError(
            f"{search.recipe.path} [search]: measure: a screen looks at the loss of sources' rows. "
            'Fix: vary sources, and measure = { held_out = ["exam"] }.'
        )
    job = _trained(search)
    held = [row for row in read_held(search.pool.held_folder) if row["measured"]]
    of_source = {name: _first(job.arm.mixture, name) for name in search.pool.own}
    of_measure = {name: [row for row in held if row["source"] == name][:_ROWS] for name in names}
    checkpoints = find_checkpoints(str(job.folder))[0]
    seen = []
    for number, checkpoint in enumerate(checkpoints, start=1):
        seen.append(pulls(_Gradients(checkpoint.folder), search.pool.own, of_source, of_measure))
        tell(f"{number} of {len(checkpoints)}: {checkpoint.folder.name}")
    pull_CKM = np.array(seen)
    error_KM = pull_CKM.std(0, ddof=1) / np.sqrt(len(seen)) if len(seen) > 1 else np.full(pull_CKM.shape[1:], np.nan)
    effects = {
        source: {
            measure: {"pull": float(pull_CKM[:, k, m].mean()), "error": float(error_KM[k, m])}
            for m, measure in enumerate(names)
        }
        for k, source in enumerate(search.pool.own) if source in search.pool.vary
    }  # fmt: skip
    found = {"name": search.recipe.name, "screen": True, "effects": effects, "checkpoints": len(seen)}
    write_json(search.folder / "screen.json", found)
    _print(effects, names, search.folder)
    return found


def _trained(search: Search) -> Job:
    """Train the recipe's own mixture, with checkpoints on the way."""
    seed = search.seed(_SEED)
    arm = make_arm(search, "screen", search.space.own, [seed])
    train = search.pool.tables["train"]
    rows_a_step = int(train.get("micro_batch", 8)) * int(train.get("accumulate", 8))
    steps = int(read_manifest(arm.mixture)["rows"]) * int(train.get("epochs", 3)) // rows_a_step
    tables = {**search.pool.tables, "train": {**train, "save_every": max(1, steps // _LOOKS)}}
    arm = make_arm(replace(search, pool=replace(search.pool, tables=tables)), "screen", search.space.own, [seed])
    job = Job(arm, seed)
    train_job(job, search.how.data)
    return job


def _first(mixture: Path, source: str) -> list[Row]:
    """Return some rows of a source as they are trained."""
    found: list[Row] = []
    for row in rows(mixture, files(mixture)):
        if row["source"] == source:
            found.append(row)
            if len(found) == _ROWS:
                break
    return found


class _Gradients:
    """The gradient of rows' mean loss (of the tokens that training learns) at a checkpoint."""

    def __init__(self, checkpoint: Path) -> None:
        from steel_train.examples.encode import Encoder

        self.loaded = load(checkpoint, default_device())
        self.encoder = Encoder(self.loaded.tokenizer, self.loaded.max_length)
        self.weights = [p for p in self.loaded.model.parameters() if p.is_floating_point()]
        for weight in self.weights:
            weight.requires_grad_(True)

    def of(self, found: Sequence[Row]) -> "torch.Tensor":
        """Return the gradient of the mean over rows, (P,)."""
        import torch

        model = self.loaded.model
        model.zero_grad()
        examples = [encoded.examples[0] for encoded in self.encoder.encode(list(found)) if encoded.examples]
        for example in examples:
            ids_1L = torch.tensor(example.ids, dtype=torch.long, device=model.device)[None]
            learnt_1L = torch.tensor(example.learnt, device=model.device)[None]
            loss = model(input_ids=ids_1L, labels=torch.where(learnt_1L, ids_1L, -100)).loss
            (loss / len(examples)).backward()
        return torch.cat(
            [w.grad.flatten() if w.grad is not None else torch.zeros_like(w).flatten() for w in self.weights]
        )


def pulls(
    gradients: Any, own: dict[str, float], of_source: dict[str, list[Row]], of_measure: dict[str, list[Row]]
) -> Floats:
    """Return what doubling each source's weight does to each measure, (K, M): below zero it lowers the loss."""
    import torch

    share_K = torch.tensor([own[name] for name in of_source])
    source_KP = torch.stack([gradients.of(found) for found in of_source.values()]).double().cpu()
    all_P = (share_K[:, None] * source_KP).sum(0)
    # of each source: its gradient less that of all others at their shares
    turn_KP = (source_KP - all_P) / (1 - share_K)[:, None]
    measure_MP = torch.stack([gradients.of(found) for found in of_measure.values()]).double().cpu()
    scale_M = measure_MP.norm(dim=1) * all_P.norm()
    found: Floats = (-np.log(2) * share_K[:, None] * (turn_KP @ measure_MP.T) / scale_M).numpy()
    return found


def _print(effects: dict[str, dict[str, dict[str, float]]], names: Sequence[str], folder: Path) -> None:
    print("A screen, of one run: which sources to look at, not which mixture is better. A search says that.")
    table = plain_table("more weight on", *(f"loss of {one_line(name)}" for name in names))
    for source, found in effects.items():
        table.add_row(one_line(source), *(f"{e['pull']:+.3f} (s.e. {e['error']:.3f})" for e in found.values()))
    print_table(table)
    print(folder / "screen.json")
