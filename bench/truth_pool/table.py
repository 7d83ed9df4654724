"""What the pool says: detectors, sets, clean scores and blind estimates, as pool.json and pool.md beside the results.

Everything that is learnt (references, noise of runs, weights of detectors, the blind estimate's shapes) is learnt from the
fitted runs; what is reported is of the sealed ones. Without `--open-sealed` the fitted runs stand in for them, each left out
of its own references: to write this file with.
"""

import datetime
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.truth_pool.blind import blind_scores
from bench.truth_pool.clean import before_and_now, clean_scores
from bench.truth_pool.design import MODELS, plans
from bench.truth_pool.page import page
from bench.truth_pool.rates import calibrations
from bench.truth_pool.results import DETECTORS, LETTERED, REFERENCES, TEXT, Done, Floats, Pool, load_pools
from bench.truth_pool.run import file_of
from bench.truth_pool.verdicts import verdicts
from bench.truth_pool.work import unpack

from steel_eval.leak.detectors.reference import rank_p_values
from steel_eval.stats.aggregate import set_p
from steel_eval.stats.crossed import pool_area, pool_gains
from steel_eval.stats.effects import Items
from steel_eval.stats.paired import wilson

DOSES = (1, 3, 10)
TESTED = (5, 10, 20, 40)  # items of a set
REPEATS = 3  # subsets of a run's seen items
DRAWS = 199  # exchanges of a test of which only "at 5 %" is asked
ALONE = ("loss gap: item", "reference difference: answer")  # detectors that also test a set each by itself


def write_table(folder: Path, results: Path, opened: bool) -> None:
    """Write pool.json and pool.md (fitted.json, fitted.md without the sealed runs) and print the page."""
    unpack(results)
    note = results / "opened.json"
    if opened:
        code = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()
        times = [
            *(json.loads(note.read_text()) if note.is_file() else []),
            {
                "at": f"{datetime.datetime.now():%Y-%m-%d %H:%M}", "code": code,
                "runs": [p.name for m in MODELS for p in plans(m) if p.kind == "sealed" and (results / file_of(p)).is_file()],
            },
        ]  # fmt: skip
        note.write_text(json.dumps(times, indent=1))
    before = {run for t in json.loads(note.read_text())[:-1] for run in t.get("runs", ())} if opened else set()
    pools = [pool for model in MODELS for pool in load_pools(folder, results, model, opened)]
    found: dict[str, Any] = {
        "opened": json.loads(note.read_text()) if opened else None,
        "runs": [row for pool in pools for row in runs(pool)],
        "detectors": [row for pool in pools for row in detectors(pool)],
        "gains": [row for pool in pools for row in gains(pool)],
        "sets": [row for pool in pools for row in sets(pool)],
        "false_alarms": [row for pool in pools for row in false_alarms(pool)],
        "clean_scores": [row for pool in pools for row in clean_scores(pool, judged(pool))],
        "before_and_now": list(before_and_now(pools, before)) if opened else [],
        "rates": [row for pool in pools for row in calibrations(pool, judged(pool), folder)],
        "blind": [row for pool in pools for row in blind_scores(pool, judged(pool))],
        "verdicts": [line for pool in pools for line in verdicts(pool)],
    }
    name = "pool" if opened else "fitted"
    (results / f"{name}-rates.json").write_text(json.dumps(found["rates"]))  # match.py reads it
    (results / f"{name}.json").write_text(json.dumps(found, indent=1))
    (results / f"{name}.md").write_text(page(found))
    print((results / f"{name}.md").read_text())


def judged(pool: Pool) -> Sequence[Done]:
    """Return the runs that are reported."""
    return pool.sealed or pool.fitted


def runs(pool: Pool) -> Iterator[dict[str, Any]]:
    """Yield what the runs are: how many, injected tokens, CPU seconds, right answers of clean and of seen items."""
    for kind, some in (("fitted", pool.fitted), ("sealed", pool.sealed)):
        dirty = [r for r in some if r.plan.doses]
        if some:
            seen = {d: [r.right_I[r.dose_I == d] for r in dirty] for d in DOSES}
            yield {
                "model": pool.model, "loss": pool.loss, "kind": kind, "runs": len(some), "clean": len(some) - len(dirty),
                "injected_most": max(r.about["injected"] for r in dirty), "cpu_s": float(np.mean([r.about["cpu_s"] for r in some])),
                "right_unseen": float(np.mean([r.right_I[r.dose_I == 0].mean() for r in some])),
                "right_seen": {d: float(np.concatenate(v).mean()) for d, v in seen.items() if sum(map(len, v))},
            }  # fmt: skip


def detectors(pool: Pool) -> Iterator[dict[str, Any]]:
    """Yield the AUC of each detector, reference and dose; inside runs and subjects, so no level tells seen from unseen."""
    for name in (*DETECTORS, LETTERED):
        for kind in REFERENCES if name in (*TEXT, LETTERED) else REFERENCES[:2]:
            for dose in DOSES:
                forms = ("every", "verbatim", "altered") if kind in ("base", "pool") else ("every",)
                for form in forms:
                    row = _area(pool, name, kind, dose, form)
                    if row is not None:
                        yield {
                            "model": pool.model,
                            "loss": pool.loss,
                            "detector": name,
                            "reference": kind,
                            "dose": dose,
                            "form": form,
                            **row,
                        }


def _area(pool: Pool, name: str, kind: str, dose: int, form: str) -> dict[str, Any] | None:
    """Return the AUC over runs of one dose and form; what was seen in another form or dose is left out."""
    some = [r for r in judged(pool) if r.plan.doses]
    dose_RI = np.stack([np.where((r.dose_I == 0) | _of_form(r, form), r.dose_I, -1) for r in some])
    change_RI = np.stack([pool.change(r, name, kind) for r in some])
    found = pool_area(change_RI, dose_RI, dose, pool.subject_I, np.arange(dose_RI.shape[1]))
    return None if found is None else dict(vars(found))


def _of_form(run: Done, form: str) -> Any:
    if form == "every":
        return np.ones(len(run.dose_I), bool)
    return (run.form_I == "answer-only") == (form == "verbatim")


def gains(pool: Pool) -> Iterator[dict[str, Any]]:
    """Yield what seeing an item adds to right answers and to the two main scores: all injected runs as one crossed pool.

    "beside its letter": less the run's mean over all items with the same right letter. Rows with items teach a run which letters to
    give, and the items it saw are rich in these; what is left is of the items.
    """
    some = [*pool.fitted, *pool.sealed]
    dose_RI = np.stack([r.dose_I for r in some])
    for name in ("right", "loss gap: item", "reference difference: answer"):
        score_RI = np.stack([r.right_I if name == "right" else r.scores[name] for r in some])
        beside_RI = score_RI - np.stack([pool.of_letter(row_I) for row_I in score_RI])
        for words, value_RI in ((name, score_RI), (f"{name}, beside its letter", beside_RI)):
            for g in pool_gains(value_RI, dose_RI, pool.subject_I, np.arange(dose_RI.shape[1])):
                yield {
                    "model": pool.model, "loss": pool.loss, "score": words, "dose": g.dose, "pairs": g.pairs, "runs": g.runs,
                    "gain": g.gain.value, "low": g.gain.low, "high": g.gain.high, "p": g.p,
                }  # fmt: skip


def sets(pool: Pool) -> Iterator[dict[str, Any]]:
    """Yield how often a set of so many seen items is found at 5 %, one-sided: all detectors, and each of two alone.

    Several sets of one run are no several runs: the interval counts runs.
    """
    for kind in ("base", "pool"):
        for dose in DOSES:
            for count in TESTED:
                found: dict[str, list[bool]] = {}
                runs = 0
                for run in judged(pool):
                    seen = np.flatnonzero(run.dose_I == dose)
                    times = REPEATS if len(seen) > count else int(len(seen) == count)
                    runs += times > 0
                    for again in range(times):
                        tested = np.random.default_rng(run.plan.seed + again).permutation(seen)[:count]
                        for name, p in _set_p(pool, run, kind, tested, np.flatnonzero(run.dose_I == 0)).items():
                            found.setdefault(name, []).append(p <= 0.05)
                about = {"model": pool.model, "loss": pool.loss, "reference": kind, "dose": dose, "items": count}
                for name, hits in found.items():
                    yield {**about, "test": name, "runs": runs, **_share(hits, runs)}


def _set_p(pool: Pool, run: Done, kind: str, tested: Any, controls: Any, strata: bool = True) -> dict[str, float]:
    """Return one-sided p-values of a set against controls, by DRAWS exchanges: exact at 5 %, a little less sharp."""
    here = np.concatenate([tested, controls])
    subject_I = pool.subject_I[here] if strata else np.zeros(len(here), np.int64)
    items = Items((np.arange(len(here)) < len(tested)).astype(np.int64), subject_I, here)
    gain_IF = pool.changes(run, kind)[here]
    alone = {name: _alone_p(gain_IF[:, TEXT.index(name)], items) for name in ALONE}
    return {"all detectors": set_p(gain_IF, items, draws=DRAWS), **alone}


def _alone_p(value_I: Floats, items: Items) -> float:
    """Return the p-value of one detector's excess of the tested items over their subjects, by exchange in subjects."""
    generator, real, drawn_B = np.random.default_rng(0), 0.0, np.zeros(DRAWS)
    for subject in np.unique(items.subject[items.dose > 0]):
        mine = np.flatnonzero((items.subject == subject) & ~np.isnan(value_I))
        count = int((items.dose[mine] > 0).sum())
        if 0 < count < len(mine):
            left_I = value_I[mine] - value_I[mine].mean()
            real += float(left_I[items.dose[mine] > 0].sum())
            drawn_B += generator.permuted(np.tile(left_I, (DRAWS, 1)), axis=1)[:, :count].sum(1)
    return float(1 + (drawn_B >= real - 1e-9).sum()) / (1 + DRAWS)


def false_alarms(pool: Pool) -> Iterator[dict[str, Any]]:
    """Yield how often what nobody saw is accused at 5 %: items by rank, and subjects of a run taken as benchmarks."""
    for kind in ("base", "pool"):
        for strata, words in ((True, "same subject"), (False, "other subjects")):
            single: dict[str, list[Any]] = {}
            whole: dict[str, list[bool]] = {}
            for run in judged(pool):
                generator = np.random.default_rng(run.plan.seed)
                unseen = run.dose_I == 0
                for subject in generator.permutation(np.unique(pool.subject_I))[:8]:
                    mine = generator.permutation(np.flatnonzero(unseen & (pool.subject_I == subject)))
                    others = generator.permutation(np.flatnonzero(unseen & (pool.subject_I != subject)))
                    tested, controls = (
                        (mine[: len(mine) // 2], mine[len(mine) // 2 :]) if strata else (mine, others[:200])
                    )
                    if len(tested) < 5:
                        continue
                    for name, p in _set_p(pool, run, kind, tested, controls, strata).items():
                        whole.setdefault(name, []).append(p <= 0.05)
                    for name in ALONE:
                        value_I = pool.change(run, name, kind)
                        p_I = rank_p_values(value_I[tested], value_I[controls])
                        single.setdefault(name, []).append(p_I <= 0.05)
            about = {"model": pool.model, "loss": pool.loss, "reference": kind, "controls": words}
            for name, some in single.items():
                yield {**about, "level": "item", "test": name, **_share(np.concatenate(some), len(some))}
            for name, hits in whole.items():
                yield {**about, "level": "set", "test": name, **_share(hits)}


def _share(hits: Any, effective: int | None = None) -> dict[str, Any]:
    """Return a share with Wilson's interval; `effective`: independent ones among them."""
    share, n = float(np.mean(hits)), effective or len(hits)
    low, high = wilson(share * n, n)
    return {"share": share, "low": low, "high": high, "n": len(hits)}
