"""Private twins: for those who publish a benchmark. Of k variants of each item one, drawn by lot, is published.

Whoever never saw the published items cannot tell which of the variants was drawn, so the place of the published one
among them is uniform whatever the model, the variants or the language: a randomisation test without a base model or
controls (STAMP, arXiv 2504.13416). Variants are another order of the options, or the publisher's own rephrasings;
canaries are invented items of which only the drawn key is ever published.

`published.jsonl` and `commitment.json` may be shown; `twins.json` stays private until the test. The commitment is its
SHA-256, so that nobody can choose afterwards what was drawn.

Legend: I items, K variants, B draws.
"""

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS, Item
from steel_data.errors import InputError
from steel_data.files import atomic_write, sha256_of
from steel_eval.contamination.verdict import Inflation, Verdict
from steel_eval.leak.detectors.permutation import has_free_order
from steel_eval.leak.texts import measurable
from steel_eval.stats.paired import difference

DRAWS = 9_999
FEWEST = 8  # sets of twins, below which nothing is said
PRIVATE, PUBLISHED, COMMITMENT = "twins.json", "published.jsonl", "commitment.json"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Twins:
    """The variants of one item, of which number `published` was drawn."""

    variants: list[Item]
    published: int


def make_twins(
    items: Sequence[Item], own: dict[str, list[Item]], variants: int, canaries: int, seed: int
) -> list[Twins]:
    """Return the twins of each item that has at least two variants, and of `canaries` invented ones.

    `own`: an item's rephrasings by its name; without any, other orders of its options, where these are free.
    """
    lot = random.Random(seed)
    sets = [[item, *own[item.item]] if own.get(item.item) else _orders(item, variants, lot) for item in items]
    sets += [_canary(n, variants, lot) for n in range(canaries)]
    return [Twins(s, lot.randrange(len(s))) for s in sets if len(s) > 1]


def _orders(item: Item, most: int, lot: random.Random) -> list[Item]:
    """Return the item in up to `most` orders of its options; one alone where their order means something."""
    if not measurable(item) or not has_free_order(item):
        return [item]
    orders = list(itertools.permutations(range(len(item.options))))
    key = LETTERS.index(item.answer)
    chosen = lot.sample(orders, min(most, len(orders)))
    return [
        replace(item, options=tuple(item.options[i] for i in order), answer=LETTERS[order.index(key)])
        for order in chosen
    ]  # fmt: skip


def _canary(number: int, variants: int, lot: random.Random) -> list[Item]:
    """Return one invented item with `variants` different numbers in it: whoever knows the published one has read it."""
    name = "".join(lot.choices("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=8))
    numbers = lot.sample(range(1000, 10_000), 3 + variants)  # three wrong ones, the same in all variants, and the keys
    others, keys = numbers[:3], numbers[3:]
    made = []
    for key in keys:
        options = tuple(map(str, sorted([key, *others])))
        question = f"在登记册 {name} 中，第 {number + 1} 号条目的编号是哪一个？"
        made.append(Item(
            f"canary/{number:05d}", "canary", "canary", number, question,
            options, LETTERS[options.index(str(key))], "", Path(),
        ))  # fmt: skip
    return made


def write_twins(twins: Sequence[Twins], benchmark: str, out: Path) -> None:
    """Write the private file, what is to be published, the commitment. Raises InputError where twins lie already."""
    if (out / PRIVATE).exists():
        raise InputError(f"{out / PRIVATE}: is there. Fix: another --out; a published draw cannot be drawn again.")
    sets = [{"published": t.published, "variants": [_row(v) for v in t.variants]} for t in twins]
    private = orjson.dumps({"benchmark": benchmark, "twins": sets}, option=orjson.OPT_INDENT_2)
    rows = b"".join(orjson.dumps(_row(t.variants[t.published])) + b"\n" for t in twins)
    commitment = {
        "benchmark": benchmark, "items": len(twins), "twins_sha256": hashlib.sha256(private).hexdigest(),
        "published_sha256": hashlib.sha256(rows).hexdigest(),
    }  # fmt: skip
    atomic_write(out / PUBLISHED, rows)
    atomic_write(out / COMMITMENT, orjson.dumps(commitment, option=orjson.OPT_INDENT_2))
    atomic_write(out / PRIVATE, private)


def _row(item: Item) -> dict[str, Any]:
    return {"item": item.item, "question": item.question, "options": list(item.options), "answer": item.answer}


def read_twins(folder: Path) -> tuple[str, list[Twins]]:
    """Return the benchmark's name and its twins. Raises InputError where the draw is not the one that was committed."""
    for name in (PRIVATE, COMMITMENT):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: not there. Fix: a folder that `twins` wrote.")
    try:
        committed = orjson.loads((folder / COMMITMENT).read_bytes())["twins_sha256"]
        private = orjson.loads((folder / PRIVATE).read_bytes())
        name, twins = str(private["benchmark"]), private["twins"]
        sets = [Twins([_item(row) for row in s["variants"]], int(s["published"])) for s in twins]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder}: is not what `twins` writes: {error}. Fix: a folder of `twins`.") from error
    if sha256_of(folder / PRIVATE) != committed:
        raise InputError(
            f"{folder / PRIVATE}: not what {COMMITMENT} commits to: twins changed after the draw prove nothing. "
            "Fix: the file as it was, or new twins."
        )
    if any(not 0 <= t.published < len(t.variants) for t in sets):
        raise InputError(
            f"{folder / PRIVATE}: a published variant that is not there. Fix: the folder as `twins` wrote it."
        )
    return name, sets


def read_rephrasings(file: Path, items: Sequence[Item]) -> dict[str, list[Item]]:
    """Return an item's own rephrasings by its name, from jsonl of `item`, `question`, `options`, `answer`."""
    known = {item.item: item for item in items}
    found: dict[str, list[Item]] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            row = _item(orjson.loads(line))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{file}:{number}: {error}. Fix: an object with item, question, options, answer."
            ) from error
        if row.item not in known or not measurable(row):
            raise InputError(
                f"{file}:{number}: '{row.item}' is no item of the benchmark, or its key no letter. Fix: that row."
            )
        found.setdefault(row.item, []).append(row)
    return found


def _item(row: dict[str, Any]) -> Item:
    """Return the item of a line. Raises ValueError, KeyError, TypeError or AttributeError for what is none."""
    if not isinstance(row["options"], list) or not all(isinstance(option, str) for option in row["options"]):
        raise TypeError("options are no list of texts")
    for name in ("item", "question", "answer"):
        if not isinstance(row[name], str):
            raise TypeError(f"{name} is no text")
    if row["item"].count("/") < 1:
        raise ValueError(f"item '{row['item']}' names no subject")
    return Item(
        row["item"], row["item"].split("/")[-2], "", 0, row["question"], tuple(row["options"]), row["answer"], "",
        Path(),
    )  # fmt: skip


def twin_test(score_IK: Sequence[Floats], published_I: Sequence[int], seed: int = 0) -> tuple[float, float]:
    """Return the one-sided p-value that the published variants are likelier than chance drew them, and the excess.

    `score_IK`: of each item's variants, higher = likelier. The excess is the mean over items of the published one's
    distance from its twins' mean, in standard deviations of the item's variants; p is exact by drawing others.
    """
    generator = np.random.default_rng(seed)
    total, drawn_B = 0.0, np.zeros(DRAWS)
    for score_K, published in zip(score_IK, published_I, strict=True):
        deviation = float(score_K.std())
        z_K = (score_K - score_K.mean()) / deviation if deviation > 0 else np.zeros(len(score_K))
        total += float(z_K[published])
        drawn_B += z_K[generator.integers(len(z_K), size=DRAWS)]
    p = (1 + int((drawn_B >= total - 1e-9).sum())) / (1 + DRAWS)
    return p, total / max(1, len(published_I))


def twin_verdict(
    name: str, score_IK: Sequence[Floats], right_IK: Sequence[Floats], published_I: Sequence[int]
) -> Verdict:
    """Return the verdict on published items from their twins: of the model alone, whatever it was trained on."""
    p, excess = twin_test(score_IK, published_I)
    n, few = len(published_I), len(published_I) < FEWEST
    gain_I = np.array([
        r[k] - np.delete(r, k).mean() for r, k in zip(right_IK, published_I, strict=True)
    ])  # fmt: skip
    known = not few and not np.isnan(gain_I).any()
    # of items that show no difference one in n may yet differ
    spread = max(float(gain_I.var(ddof=1)) / n, 1 / n**2) if known else 0.0
    change = difference(float(gain_I.mean()), spread, n - 1) if known else None
    need = 2.49 / n**0.5 if n else float("inf")
    seen = "cannot-tell" if few else "yes" if p <= 0.05 else "no" if need <= 0.5 else "cannot-tell"
    words = (
        f"Not enough twins: {n}, {FEWEST} are needed." if few
        else f"Published variants stand {excess:+.2f} standard deviations from their private twins (p {p:.2g}, "
        f"one-sided, exact by the draw of {n} items)."
    )  # fmt: skip
    return Verdict(
        name=f"{name}, twins", mixture="not at hand, and not needed: the draw alone is tested", seen=seen,  # type: ignore[arg-type]
        finding=words, false_alarm_rate=None if seen == "cannot-tell" else 0.05,
        inflation=None if change is None else Inflation(100 * change.value, 100 * change.low, 100 * change.high),
        no_inflation="not enough twins" if few else "of right answers, published less private",
        smallest_detectable=None if change is None else 100 * change.detectable,
        limits=f"a mean shift of fewer than {need:.2f} standard deviations over {n} items (80 % of larger are found)",
    )  # fmt: skip
