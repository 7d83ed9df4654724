"""Measured error rates of every detector, from models of which one knows what they saw: a finished study.

Each pair is a model of the injected arm and its reference: what `leak` calls the base. A detector's score is the change
from reference to model; items of dose 0 are its null. What comes out says of each detector how well it tells seen from
unseen at each dose and form (error_rates.py), how often it accuses what none saw (false_alarms.py), for which kind of
model that holds (regime.py), and what it costs. Nothing of it is a property of the detector alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.clusters import cluster_key
from steel_data.benchmarks.items import Item
from steel_data.engine import run
from steel_data.errors import InputError
from steel_eval.contamination.overlap import mixture_overlap
from steel_eval.leak.kept import How, Texts, choose_form, choose_permuted, measured, tokenizer_of
from steel_eval.leak.measure import MEASURES, Measured
from steel_eval.leak.rates.error_rates import Scores, error_rates
from steel_eval.leak.rates.false_alarms import benchmark_alarms, item_alarms, whole_benchmark
from steel_eval.leak.rates.published import published_flags
from steel_eval.leak.rates.regime import Regime, differences, regime_of
from steel_eval.leak.texts import measurable
from steel_eval.models import share_cores
from steel_eval.stats.effects import Items
from steel_eval.stats.paired import wilson

__all__ = ["How", "Pair", "calibrate", "overlap_by_form"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A checkpoint folder and its reference: the base it was tuned from, or (models from scratch) the clean arm of the
    same seed.
    """

    model: Path
    reference: Path
    seed: int


@dataclass(frozen=True)
class _Known:
    """What is known of the measured items, (I,) each."""

    items: list[Item]
    dose_I: Ints
    form_I: NDArray[np.str_]
    subject_I: Ints
    cluster_I: Ints


def calibrate(
    pairs: Sequence[Pair], nulls: Sequence[Pair], items: Sequence[Item], dose: Ints, form: Sequence[str], how: How
) -> dict[str, Any]:
    """Measure all pairs (what `how.cache` keeps is not measured again) and return error rates for JSON.

    `nulls`: pairs of which neither saw any item. `dose` (Q,) copies of each item in the mixture, 0 unseen; `form`
    (Q,) how a seen one was injected. Returns `regime`, `rates` (error_rates.ErrorRates), `item_false_positives`
    (false_alarms.ItemAlarms), `dataset_false_positives` (BenchmarkAlarms), `cost`, `published` (published.Flagged, of
    the first pair), `items`, `seeds`, `nulls` and `left_out` (items without options or a key). Raises InputError
    without pairs or unseen items, for pairs of several regimes, and where a checkpoint cannot be measured; ValueError
    where a cluster holds several doses.
    """
    if not pairs:
        raise InputError("calibration: no pair of model and reference. Right: one a seed of the injected arm.")
    known = _known(items, dose, form, how)
    if not (known.dose_I == 0).any() or not (known.dose_I > 0).any():
        raise InputError("calibration: needs seen and unseen items. Right: the items of an injected benchmark.")
    regime = _one_regime(pairs)
    tokenizer = tokenizer_of(pairs[0].model)
    permuted = choose_permuted(known.items, known.dose_I, how.permute)
    texts = Texts(known.items, permuted, choose_form(how.form, tokenizer), tokenizer)
    by_folder = _measured(pairs, nulls, texts, how)
    found, clean = ([(by_folder[p.model], by_folder[p.reference]) for p in some] for some in (pairs, nulls))
    forms = sorted(set(known.form_I[known.dose_I > 0].tolist()))
    return {
        "regime": regime.data() | {"forms": forms, "asked_as": texts.form},
        "seeds": [p.seed for p in pairs], "nulls": len(nulls), "items": len(known.items),
        "left_out": len(items) - len(known.items), **_tables(found, clean, known), "cost": cost(found[0][0]),
        "published": [asdict(f) for f in published_flags(*found[0], known.dose_I, how.forests)],
    }  # fmt: skip


def _measured(pairs: Sequence[Pair], nulls: Sequence[Pair], texts: Texts, how: How) -> dict[Path, Measured]:
    folders = list(dict.fromkeys(folder for p in [*pairs, *nulls] for folder in (p.model, p.reference)))
    found = run(partial(measured, texts=texts, how=how), folders, how.workers, begin=partial(share_cores, how.workers))
    return dict(zip(folders, found, strict=True))


def _tables(
    found: Sequence[tuple[Measured, Measured]], clean: Sequence[tuple[Measured, Measured]], known: _Known
) -> dict[str, Any]:
    rates, of_items, of_sets = [], [], []
    unseen_I = known.dose_I == 0
    for name in (m.name for m in MEASURES):
        scores = _scores(name, found, known)
        if np.isnan(scores.gain_SI).any(0).all():
            continue  # nothing was permuted, or no item has telling options
        rates += error_rates(scores)
        parts = [("unseen", _only(scores, unseen_I), known.subject_I[unseen_I])]
        if clean:
            parts.append(("nulls", null := _scores(name, clean, known), known.subject_I))
            of_sets += whole_benchmark(null, known.subject_I)
        for of, mine, subject in parts:
            of_items += item_alarms(mine, subject, of)
            of_sets += benchmark_alarms(mine, subject, of)
    return {
        "rates": [asdict(r) for r in rates], "item_false_positives": [asdict(r) for r in of_items],
        "dataset_false_positives": [asdict(r) for r in of_sets],
    }  # fmt: skip


def _known(items: Sequence[Item], dose: Ints, form: Sequence[str], how: How) -> _Known:
    if not len(items) == len(dose) == len(form):
        raise ValueError("items, dose and form need one entry an item")
    kept = [k for k, item in enumerate(items) if measurable(item)]
    mine = [items[k] for k in kept]
    subject_I = np.unique([i.subject for i in mine], return_inverse=True)[1]
    cluster_I = np.unique([cluster_key(i) for i in mine], return_inverse=True)[1]
    if how.cluster is not None:
        cluster_I = np.asarray(how.cluster)[kept]
    form_I = np.array([form[k] for k in kept], dtype=str)
    drawn = Items(np.asarray(dose, np.int64)[kept], subject_I.astype(np.int64), cluster_I.astype(np.int64))
    return _Known(mine, drawn.dose, form_I, drawn.subject, drawn.cluster)


def _one_regime(pairs: Sequence[Pair]) -> Regime:
    regimes = [regime_of(p.model) for p in pairs]
    for pair, other in zip(pairs[1:], regimes[1:], strict=True):
        known = differences(regimes[0], regimes[0])  # what is not known of the first is not known of the others either
        if other != regimes[0] and (new := [d for d in differences(other, regimes[0]) if d not in known]):
            raise InputError(f"{pair.model}: another kind of model than {pairs[0].model}: {'; '.join(new)}.")
    return regimes[0]


def _scores(name: str, found: Sequence[tuple[Measured, Measured]], known: _Known) -> Scores:
    after_SI, before_SI = (np.stack([pair[k].scores[name] for pair in found]) for k in (0, 1))
    return Scores(name, after_SI - before_SI, after_SI, known.dose_I, known.form_I, known.cluster_I)


def _only(s: Scores, kept_I: NDArray[np.bool_]) -> Scores:
    return Scores(
        s.detector, s.gain_SI[:, kept_I], s.alone_SI[:, kept_I], s.dose_I[kept_I], s.form_I[kept_I], s.cluster_I[kept_I]
    )


def cost(one: Measured) -> dict[str, Any]:
    """Return what a checkpoint's scores cost in tokens. `ratio`: the tries' tokens over one pass of the same items."""
    permuted_I = one.trie_I > 0
    single = int(one.tokens_I[permuted_I].sum())
    return {
        "items": len(one.tokens_I), "passes": len(one.tokens_I), "pass_tokens": one.pass_tokens,
        "permuted": int(permuted_I.sum()), "trie_tokens": one.trie_tokens,
        "ratio": one.trie_tokens / single if single else None,
    }  # fmt: skip


def overlap_by_form(mixture: Path, items: Sequence[Item], dose: Ints, form: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each form of the injected items how many of them the mixture shows, with Wilson's interval.

    The last row, form "unseen", counts items of dose 0: what is found stands in other sources or is a false alarm.
    """
    found = mixture_overlap(mixture, items)
    named = np.array(["unseen" if d == 0 else f for d, f in zip(dose, form, strict=True)])
    hit = np.array([item.item in found for item in items])
    rows = []
    for name in [*sorted(set(named.tolist()) - {"unseen"}), "unseen"]:
        mine = named == name
        n, right = int(mine.sum()), int(hit[mine].sum())
        if n:
            low, high = wilson(right, n)
            rows.append({"form": name, "items": n, "found": right, "share": right / n, "low": low, "high": high})
    return rows
