"""The commands of twins (apart: they need models and tasks, the twins themselves do not): `twins`, `leak --twins`."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import typer

from steel_data.engine import tell
from steel_data.errors import InputError
from steel_data.files import atomic_write
from steel_data.page.nav import CARD, LEAK, publish
from steel_data.row.display import command, print_next
from steel_eval.ask.tasks import load_task
from steel_eval.contamination.items import card_of
from steel_eval.contamination.verdict import joint, print_block
from steel_eval.leak.kept import How, heard
from steel_eval.leak.measure import Texts, measure
from steel_eval.leak.page import write_page
from steel_eval.leak.texts import choose_form, fitting, measurable
from steel_eval.leak.twins import make_twins, read_rephrasings, read_twins, twin_verdict, write_twins
from steel_eval.models import default_device, find_checkpoints, load


@dataclass(frozen=True)
class Lot:
    """How twins are made: `variants` an item, `canaries` beside them, own `rephrasings`, `seed` (None: unknown)."""

    variants: int
    canaries: int
    rephrasings: Path | None
    seed: int | None


def make_twins_command(benchmark: str, data: Path, lot: Lot, out: Path) -> None:
    """Write the twins of a benchmark to `out`. Raises InputError for one without an item that has variants."""
    place = Path(benchmark)
    task = load_task(place.stem, place.parent) if place.is_file() else load_task(benchmark, data)
    items = [item for group in task.items.values() for item in group if measurable(item)]
    if lot.rephrasings is not None and not lot.rephrasings.is_file():
        raise InputError(f"{lot.rephrasings}: not there. Fix: jsonl of item, question, options, answer.")
    own = {} if lot.rephrasings is None else read_rephrasings(lot.rephrasings, items)
    seed = secrets.randbits(64) if lot.seed is None else lot.seed
    twins = make_twins(items, own, lot.variants, lot.canaries, seed)
    if not twins:
        raise InputError(f"{benchmark}: no item has two variants. Fix: --rephrasings, or --canaries.")
    write_twins(twins, task.name, out)
    typer.echo(
        f"{len(twins):,} items with twins, {len(items) + lot.canaries - len(twins):,} without (their options have an "
        f"order of their own). Publish {out / 'published.jsonl'} and {out / 'commitment.json'}; keep "
        f"{out / 'twins.json'} private."
    )


def twins_command(model: str, folder: Path, how: How, out: Path) -> dict[str, Any]:
    """Test a model on published items against their private twins; write leak.html and leak.json.

    Returns the latter. Raises InputError.
    """
    name, twins = read_twins(folder)
    checkpoint = find_checkpoints(model, how.opening.revision)[0][-1].folder
    loaded = load(checkpoint, how.device or default_device(), how.dtype, how.opening)
    form = choose_form(how.form, loaded.tokenizer)
    fits = [bool(fitting(t.variants, form, loaded.tokenizer, loaded.max_length).all()) for t in twins]
    if not all(fits):
        tell(f"{name}: {fits.count(False):,} items longer than {loaded.max_length} tokens are left out")
    twins = [t for t, fit in zip(twins, fits, strict=True) if fit]
    if not twins:
        raise InputError(f"{name}: no item fits into {loaded.max_length} tokens. Fix: more --max-length.")
    items = [variant for t in twins for variant in t.variants]
    texts = Texts(items, [], form, loaded.tokenizer)
    with heard(loaded.model, checkpoint.name):
        found = measure(loaded, texts)
    score_N = found.scores["loss gap: item"] + found.scores["reference difference: answer"]
    ends = np.cumsum([len(t.variants) for t in twins])[:-1]
    score_IK, right_IK = np.split(score_N, ends), np.split(found.right_I, ends)
    verdict = twin_verdict(name, score_IK, right_IK, [t.published for t in twins])
    report = {
        "verdict": joint([verdict], [len(twins)]),
        "tasks": {name: {"verdict": verdict.data(), "twins": len(twins)}},
    }
    atomic_write(out / "leak.json", orjson.dumps(report, option=orjson.OPT_INDENT_2))
    publish(out / "leak.html", write_page(model, [verdict], [], []), LEAK, {CARD: card_of(checkpoint)})
    print_block([verdict])
    typer.echo(str(out / "leak.html"))
    print_next(f"{command('open', out / 'leak.html')} opens the page")
    return report
