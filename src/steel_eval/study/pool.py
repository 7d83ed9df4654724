"""A crossed pool in place of arms: each run draws its own items, doses and forms, and all are one another's references.

One run a seed of the recipe. The seed of a run is added to that of the draw, so the recipe says who sees what. No run
is spent on seeing nothing: for each item the runs that did not see it are what the others are compared with
(stats/crossed.py), and the draws differ, so that what one draw happens to be like is in the interval.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import Item
from steel_data.engine import Executor
from steel_data.errors import InputError
from steel_data.mixture.manifest import read_manifest
from steel_data.recipe.load import Recipe, load
from steel_eval.arms import RunArm, carry_steps, made_arm, portable_tables, with_source
from steel_eval.ask.tasks import Task
from steel_eval.contamination.overlap import mixture_overlap
from steel_eval.jobs import side_by_side
from steel_eval.leak.kept import How, measured, tokenizer_of
from steel_eval.leak.measure import Texts, choose_permuted
from steel_eval.leak.rates.match import BASE
from steel_eval.leak.rates.pooled import pooled_rates
from steel_eval.leak.rates.regime import regime_of
from steel_eval.leak.rates.table import AUC
from steel_eval.leak.reference_runs import FAMILY, family_name
from steel_eval.leak.texts import choose_form, fitting, measurable
from steel_eval.models import Opening
from steel_eval.stats.clean import clean_score
from steel_eval.stats.crossed import FEWEST, exchange_test, pool_gains, unseen_mean
from steel_eval.stats.effects import Items
from steel_eval.study.arms import injected_source, shared_tokenizer
from steel_eval.study.results import chance_of, drawn
from steel_eval.study.score import ScoredArm, items_of
from steel_eval.study.settings import StudySettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
OTHER_RUNS = "other runs"


def make_pool(recipe: Recipe, folder: Path, data: Path) -> tuple[list[RunArm], Path]:
    """Build the mixture of every run, and that of the ordinary rows alone; return the runs and the latter's folder.

    Raises InputError for fewer than three seeds.
    """
    source, seeds = injected_source(recipe), recipe.train["seeds"]
    if len(seeds) < FEWEST:
        raise InputError(f"{recipe.path} [train]: seeds = {seeds}: a pool has a run a seed. Fix: {FEWEST} at least.")
    common = portable_tables(recipe)
    carry_steps(recipe, folder / "recipes")
    if isinstance(recipe.train.get("model"), dict) and not recipe.train.get("tokenizer"):
        common["train"]["tokenizer"] = shared_tokenizer(common, source, folder, data)
    ordinary = made_arm("ordinary", with_source(common, source, {"take": 0}), folder, data).mixture
    build, mix = recipe.source(source).table.build, recipe.merged.get("mix", {})

    def runs(common: dict[str, Any]) -> list[RunArm]:
        arms = []
        for seed in seeds:
            mine = with_source(common, source, {"build": {**build, "seed": int(build.get("seed", recipe.seed)) + seed}})
            arms.append(made_arm(f"draw-{seed}", {**mine, "train": {**mine["train"], "seeds": [seed]}}, folder, data))
        return arms

    if {"budget_tokens", "budget_rows"} & set(mix):
        return runs(common), ordinary
    try:
        equal = {**mix, "budget_tokens": int(read_manifest(ordinary)["tokens"])}
        return runs({**common, "mix": equal}), ordinary
    except InputError:  # the injected rows alone are more than all ordinary ones: the runs differ, and that is noted
        return runs(common), ordinary


def pool_results(
    runs: Sequence[ScoredArm],
    ordinary: Path,
    tasks: Sequence[Task],
    settings: StudySettings,
    folder: Path,
    executor: Executor,
) -> dict[str, Any]:
    """Return preset -> task -> gains by dose, clean scores and accuracy of the runs, and `detectors` of the first task.

    Items that ordinary rows hold (`ordinary`: their mixture) do not count. Raises InputError where none was injected.
    """
    draws = [drawn(arm.arm.mixture) for arm in runs]
    hit = [task for task in tasks if any(d.get(task.benchmark) for d in draws)]
    if not hit:
        said = ", ".join(dict.fromkeys(name for d in draws for name in d))
        raise InputError(f"tasks {', '.join(t.name for t in tasks)}: none was injected. Fix: {said}.")
    out: dict[str, Any] = {preset: {} for preset in settings.presets}
    detectors = None
    for task in hit:
        held = mixture_overlap(ordinary, items_of(task))
        kept_Q = np.array([item.item not in held for item in items_of(task)])
        items = [item for item, kept in zip(items_of(task), kept_Q, strict=True) if kept]
        dose_RQ = np.array(
            [[d.get(task.benchmark, {}).get(i.item, (0, ""))[0] for i in items] for d in draws], np.int64
        )
        subject_Q, cluster_Q = (
            np.unique(keys, return_inverse=True)[1].astype(np.int64)
            for keys in ([i.subject for i in items], cluster_names(items))
        )
        for preset in settings.presets:
            right_RQ = np.stack([arm.answers(preset, task.name)[0] for arm in runs])[:, kept_Q]
            out[preset][task.name] = {
                "accuracy": right_RQ.mean(1).tolist(), "left_out": int((~kept_Q).sum()),
                "gains": [_gain(g) for g in pool_gains(right_RQ, dose_RQ, subject_Q, cluster_Q)],
                "clean_scores": [
                    asdict(c) for c in clean_scores(right_RQ, dose_RQ, subject_Q, cluster_Q, chance_of(task, kept_Q))
                ],
            }  # fmt: skip
        if settings.detectors and detectors is None:
            forms = {form for d in draws for dose, form in d.get(task.benchmark, {}).values() if dose}
            scores, known_Q = pool_scores(runs, items, forms, settings, folder, executor)
            detectors = areas(scores, dose_RQ[:, known_Q], subject_Q[known_Q], cluster_Q[known_Q])
    return {"presets": out, "detectors": detectors}


def pool_scores(
    runs: Sequence[ScoredArm],
    items: Sequence[Item],
    forms: set[str],
    settings: StudySettings,
    folder: Path,
    executor: Executor,
) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    """Return by detector the runs' scores (R, K), a last row being the base's where there is one, and which items these
    are, (Q,): those that can be measured, K of them. What `folder` keeps is not measured again.

    `forms`: those of the injection.
    """
    places = [arm.last[0].folder for arm in runs]
    base = load(runs[0].arm.recipe).train["model"]
    places += [Path(base)] if isinstance(base, str) else []
    tokenizer = tokenizer_of(places[0])
    # an item has another form in each run, so all are asked in one
    form = choose_form("text" if forms == {"text"} else "auto", tokenizer)
    known_Q = np.array([measurable(item) for item in items])
    if settings.max_length is not None:
        some = [item for item, known in zip(items, known_Q, strict=True) if known]
        known_Q[known_Q] = fitting(some, form, tokenizer, settings.max_length)
    chosen = [item for item, known in zip(items, known_Q, strict=True) if known]
    permuted = choose_permuted(chosen, np.zeros(len(chosen), np.int64), settings.permute)
    texts = Texts(chosen, permuted, form, tokenizer, settings.in_context)
    how = How(
        permute=settings.permute, dtype=settings.dtype, cache=folder / "detectors",
        opening=Opening(max_length=settings.max_length),
    )  # fmt: skip
    found = side_by_side(executor, partial(measured, texts=texts, how=how), places, what="measure")
    return {name: np.stack([one.scores[name] for one in found]) for name in found[0].scores}, known_Q


def _gain(found: Any) -> dict[str, Any]:
    about = {key: value for key, value in vars(found).items() if key != "gain"}
    return {**about, "gain": found.gain.value, "low": found.gain.low, "high": found.gain.high,
            "detectable": found.gain.detectable}  # fmt: skip


def clean_scores(
    right_RQ: Floats, dose_RQ: Ints, subject_Q: Ints, cluster_Q: Ints, chance_Q: Floats | None = None
) -> list[Any]:
    """Return each run's clean score, (R,): that of a further run without the items, as the other runs tell it.

    What another run saw is no clean answer of it: a run that did not see the item, drawn by lot, answers in its place.
    With fewer than four runs it is the run's own score, and runs with too few unseen items are left out.
    """
    generator, out = np.random.default_rng(0), []
    for r in range(len(right_RQ)):
        others = np.arange(len(right_RQ)) != r
        right, unseen = right_RQ[others], dose_RQ[others] == 0
        known_Q = unseen.any(0)
        order = np.argsort(np.where(unseen, generator.random(unseen.shape), 2.0), axis=0)[0]
        filled = np.where(unseen, right, right[order, np.arange(right.shape[1])])[:, known_Q]
        items = Items(dose_RQ[r], subject_Q, cluster_Q).only(known_Q)
        try:
            chance = None if chance_Q is None else chance_Q[known_Q]
            out.append(clean_score(right_RQ[r, known_Q], items, filled.mean(0), filled, chance))
        except ValueError:
            continue
    return out


def areas(score_of: dict[str, Floats], dose_RQ: Ints, subject_Q: Ints, cluster_Q: Ints) -> list[dict[str, Any]]:
    """Return what each detector tells by dose against the other runs (`reference`), and the base where there is one.

    AUC; `hits` at 5 % false alarms of items; `p` of all the dose's items in all runs, one-sided and exact by exchange
    of draws; how often unseen items and subjects are accused at 5 % (`rates`: as rates/table.py has them). `score_of`:
    (R, Q) by detector; a last row more than `dose_RQ` has is the base's.
    """
    rows = []
    runs, items = len(dose_RQ), Items(np.zeros(len(subject_Q), np.int64), subject_Q, cluster_Q)
    for name, score_RQ in score_of.items():
        others = np.stack([unseen_mean(score_RQ[:runs], dose_RQ, without=r) for r in range(runs)])
        references = {OTHER_RUNS: others}
        if len(score_RQ) > runs:
            references[BASE] = score_RQ[-1:]
        for reference, value in references.items():
            change_RQ = score_RQ[:runs] - value
            called = family_name(name) if reference == OTHER_RUNS else name
            rates = [rate.data() for rate in pooled_rates(called, change_RQ, dose_RQ, items)]
            for dose in sorted(set(dose_RQ.ravel().tolist()) - {0}):
                mine = [r for r in rates if r.get("dose") in (dose, None)]
                area = next((r for r in mine if r["what"] == AUC), None)
                if area is not None:
                    rows.append({
                        "detector": name, "reference": reference, "dose": dose, "auc": area["value"],
                        "low": area["low"], "high": area["high"], "pairs": area["n"], "runs": len(area["by_seed"]),
                        "p": _exchange_p(change_RQ, dose_RQ, dose, items), "rates": mine,
                    })  # fmt: skip
    return rows


def _exchange_p(change_RQ: Floats, dose_RQ: Ints, dose: int, items: Items) -> float:
    kept_RQ = ((dose_RQ == dose) | (dose_RQ == 0)) & ~np.isnan(change_RQ)
    return exchange_test(np.nan_to_num(change_RQ), dose_RQ == dose, kept_RQ, items.subject, items.cluster)


def pool_calibration(rows: Sequence[dict[str, Any]], runs: Sequence[ScoredArm]) -> list[dict[str, Any]]:
    """Return the rates of a pool as `leak --calibration` reads them, against the other runs and against the base.

    `rows`: those of `areas`. The runs' share of injected tokens is their mean, exposures are the most of any.
    """
    last = [arm.last[0] for arm in runs]
    regimes = [regime_of(point.folder) for point in last]
    shares, most = (
        [v for r in regimes if (v := getattr(r, key)) is not None] for key in ("injected_share", "exposures")
    )
    regime = replace(
        regimes[0], injected_share=sum(shares) / len(shares) if shares else None, exposures=max(most, default=None)
    ).data()
    draws = [seen for arm in runs for of in drawn(arm.arm.mixture).values() for seen in of.values()]
    forms = sorted({form for dose, form in draws if dose})
    asked_as = choose_form("text" if forms == ["text"] else "auto", tokenizer_of(last[0].folder))
    out = []
    for reference in dict.fromkeys(row["reference"] for row in rows):
        rates = {str(rate): rate for row in rows if row["reference"] == reference for rate in row["rates"]}
        about = {
            "forms": forms, "asked_as": asked_as, "compared_with": FAMILY if reference == OTHER_RUNS else BASE,
        }  # fmt: skip
        seeds = [int(point.facts.get("seed", number)) for number, point in enumerate(last)]
        out.append({"regime": regime | about, "seeds": seeds, "nulls": 0, "rates": list(rates.values())})
    return out
