"""Measured error rates of every detector, from models of which one knows what they saw: a finished study.

Each pair is a model of the injected arm and its reference: what `leak` calls the base. A detector's score is the change
from reference to model; items of dose 0 are its null. What comes out says of each detector how well it tells seen from
unseen at each dose and form (error_rates.py), how often it accuses what none saw (false_alarms.py), for which kind of
model that holds (regime.py), and what it costs. Nothing of it is a property of the detector alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from steel_data.benchmarks.items import Item
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_eval.contamination.overlap import mixture_overlap
from steel_eval.jobs import side_by_side
from steel_eval.leak.judge import levelled
from steel_eval.leak.kept import How, measured, tokenizer_of
from steel_eval.leak.measure import IN_CONTEXT, MEASURES, Measured, Texts, choose_permuted
from steel_eval.leak.rates.error_rates import Scores, error_rates
from steel_eval.leak.rates.false_alarms import benchmark_alarms, item_alarms, whole_benchmark
from steel_eval.leak.rates.published import published_flags
from steel_eval.leak.rates.regime import Regime, differences, regime_of
from steel_eval.leak.rates.table import Rate
from steel_eval.leak.texts import as_injected, choose_form, fitting, in_words, measurable
from steel_eval.stats.effects import Items
from steel_eval.stats.paired import wilson


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A checkpoint folder and its reference: the base it was tuned from, or (models from scratch) the clean arm of the
    same seed.
    """

    model: Path
    reference: Path
    seed: int


def calibrate(
    pairs: Sequence[Pair], nulls: Sequence[Pair], items: Sequence[Item], drawn: Items, form: Sequence[str], how: How
) -> dict[str, Any]:
    """Measure all pairs (what `how.cache` keeps is not measured again) and return error rates for JSON.

    `nulls`: pairs of which neither saw any item. `drawn`: what the draw did to the items (dose: copies of each in the
    mixture); `form` (Q,) how a seen one was injected. Returns `regime`, `rates` (the lines of rates/table.py; published
    rules are tried on the first pair), `cost`, `items`, `seeds`, `nulls` and `left_out` (items without options or a
    key, or longer than the context asked for). Raises InputError without pairs or unseen items, for pairs of several
    regimes, and where a checkpoint cannot be measured.
    """
    if not pairs:
        raise InputError("calibration: no pair of model and reference. Fix: one a seed of the injected arm.")
    if not len(items) == len(drawn.dose) == len(form):
        raise ValueError("items, drawn and form need one entry an item")
    tokenizer = tokenizer_of(pairs[0].model)
    kept_I = np.array([measurable(item) for item in items], bool)
    if how.opening.max_length is not None:
        some = [item for item, kept in zip(items, kept_I, strict=True) if kept]
        kept_I[kept_I] = fitting(some, choose_form(how.form, tokenizer), tokenizer, how.opening.max_length)
    known, form_I = drawn.only(kept_I), np.array(form, dtype=str)[kept_I]
    mine = [item for item, kept in zip(items, kept_I, strict=True) if kept]
    if not (known.dose == 0).any() or not (known.dose > 0).any():
        raise InputError("calibration: needs seen and unseen items. Fix: the items of an injected benchmark.")
    regime = _one_regime(pairs)
    permuted = choose_permuted(mine, known.dose, how.permute)
    chosen = choose_form(how.form, tokenizer)
    asked = as_injected(mine, form_I.tolist()) if how.form == "auto" and chosen == "chat" else chosen
    texts = Texts(mine, permuted, asked, tokenizer, how.in_context)
    folders = list(dict.fromkeys(folder for p in [*pairs, *nulls] for folder in (p.model, p.reference)))
    measure = partial(measured, texts=texts, how=replace(how, executor=Local()))
    results = side_by_side(how.executor, measure, folders, what="measure")
    by_folder = dict(zip(folders, results, strict=True))
    unseen_I = known.dose == 0
    found, clean = (
        [(after, levelled(after, before, unseen_I, asked)) for after, before in
         ((by_folder[p.model], by_folder[p.reference]) for p in some)]
        for some in (pairs, nulls)
    )  # fmt: skip
    rates = [
        *_rates(found, clean, known, form_I),
        *published_flags(*found[0], known.dose, how.forests),
    ]
    forms = sorted(set(form_I[known.dose > 0].tolist()))
    return {
        "regime": regime.data() | {"forms": forms, "asked_as": in_words(asked)}, "seeds": [p.seed for p in pairs],
        "nulls": len(nulls), "items": len(mine), "left_out": len(items) - len(mine),
        "rates": [rate.data() for rate in rates], "cost": cost(found[0][0]),
    }  # fmt: skip


def _one_regime(pairs: Sequence[Pair]) -> Regime:
    regimes = [regime_of(p.model) for p in pairs]
    for pair, other in zip(pairs[1:], regimes[1:], strict=True):
        known = differences(regimes[0], regimes[0])  # what is not known of the first is not known of the others either
        if other != regimes[0] and (new := [d for d in differences(other, regimes[0]) if d not in known]):
            raise InputError(
                f"{pair.model}: another kind of model than {pairs[0].model}: {'; '.join(new)}. Fix: models of one kind."
            )
    return regimes[0]


def _rates(
    found: Sequence[tuple[Measured, Measured]], clean: Sequence[tuple[Measured, Measured]], known: Items, form_I: Any
) -> Iterator[Rate]:
    """Yield the rates of every detector; `found` and `clean`: (model, reference) of the pairs and of the nulls."""
    for name in (m.name for m in (*MEASURES, *IN_CONTEXT) if m.name in found[0][0].scores):
        scores, *null = (_scores(name, some, known, form_I) for some in (found, clean) if some)
        if not scores.known().any():
            continue  # nothing was permuted, or no item has telling options
        yield from error_rates(scores)
        for of, mine in [("unseen", scores.only(known.dose == 0)), *(("nulls", s) for s in null)]:
            yield from item_alarms(mine, of)
            yield from benchmark_alarms(mine, of)
        for s in null:
            yield from whole_benchmark(s)


def _scores(name: str, found: Sequence[tuple[Measured, Measured]], known: Items, form_I: Any) -> Scores:
    after_SI, before_SI = (np.stack([pair[k].scores[name] for pair in found]) for k in (0, 1))
    return Scores(name, after_SI - before_SI, after_SI, known, form_I)


def cost(one: Measured) -> dict[str, Any]:
    """Return what a checkpoint's scores cost in tokens. `ratio`: the tries' tokens over one pass of the same items."""
    permuted_I = one.trie_I > 0
    single = int(one.tokens_I[permuted_I].sum())
    return {
        "items": len(one.tokens_I), "passes": len(one.tokens_I), "pass_tokens": one.pass_tokens,
        "permuted": int(permuted_I.sum()), "trie_tokens": one.trie_tokens,
        "ratio": one.trie_tokens / single if single else None, "context_tokens": one.context_tokens,
    }  # fmt: skip


def overlap_by_form(mixture: Path, items: Sequence[Item], drawn: Items, form: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each form of the injected items how many of them the mixture shows, with Wilson's interval.

    The last row, form "unseen", counts items of dose 0: what is found stands in other sources or is a false alarm.
    """
    found = mixture_overlap(mixture, items)
    named = np.array(["unseen" if d == 0 else f for d, f in zip(drawn.dose, form, strict=True)])
    hit = np.array([item.item in found for item in items])
    rows = []
    for name in [*sorted(set(named.tolist()) - {"unseen"}), "unseen"]:
        mine = named == name
        n, right = int(mine.sum()), int(hit[mine].sum())
        if n:
            low, high = wilson(right, n)
            rows.append({"form": name, "items": n, "found": right, "share": right / n, "low": low, "high": high})
    return rows
