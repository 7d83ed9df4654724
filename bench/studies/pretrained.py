"""Print a finished pool of pretrained models as Markdown, for docs/results/contamination.md: sign and size of each detector.

python bench/studies/pretrained.py bench/studies/pretrained-qwen.toml runs/pretrained-qwen --data DIR
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from steel_data.benchmarks.clusters import cluster_names
from steel_data.mixture.manifest import read_manifest
from steel_data.recipe.load import load
from steel_eval.arms import RunArm
from steel_eval.ask.tasks import load_task
from steel_eval.contamination.overlap import mixture_overlap
from steel_eval.models import find_checkpoints
from steel_eval.stats.crossed import pool_area, pool_gains, unseen_mean
from steel_eval.stats.paired import wilson
from steel_eval.study.pool import pool_scores
from steel_eval.study.results import drawn
from steel_eval.study.score import Point, ScoredArm, items_of
from steel_eval.study.settings import read_study_settings

DRAWS = 999
Rows = Iterator[str]


def table(head: str, rows: Rows) -> None:
    print(f"\n| {head} |\n|{' --- |' * (head.count('|') + 1)}")
    for row in rows:
        print(f"| {row} |")


class Found:
    """Scores of a pool's runs, (R, I) by detector, the base's (I,), and who saw what."""

    def __init__(self, recipe_path: Path, folder: Path, data: Path) -> None:
        """Read what `study` left; a measurement that it did not make is made."""
        recipe = load(recipe_path)
        settings = read_study_settings(recipe.eval, recipe.path, {})
        names = [f"draw-{seed}" for seed in recipe.train["seeds"]]
        self.arms = [RunArm(name, folder / "recipes" / f"{name}.toml", folder / name) for name in names]
        places = [find_checkpoints(str(arm.seeds[0]))[0][-1] for arm in self.arms]
        runs = [ScoredArm(a, [[Point(p.folder, p.step or 0, {})]]) for a, p in zip(self.arms, places, strict=True)]
        task = load_task(settings.tasks[0], data)
        held = mixture_overlap(folder / "ordinary/mixture", items_of(task))
        items = [item for item in items_of(task) if item.item not in held]
        draws = [drawn(arm.mixture)[task.benchmark] for arm in self.arms]
        forms = {form for d in draws for dose, form in d.values() if dose}
        scores, known_I = pool_scores(runs, items, forms, settings, folder, 1)
        self.items = [item for item, known in zip(items, known_I, strict=True) if known]
        self.dose_RI = np.array([[d.get(i.item, (0, ""))[0] for i in self.items] for d in draws], np.int64)
        self.subject_I, self.cluster_I = (
            np.unique(keys, return_inverse=True)[1].astype(np.int64)
            for keys in ([i.subject for i in self.items], cluster_names(self.items))
        )
        self.base = {name: score[-1] for name, score in scores.items()}
        self.scores = {name: score[:-1] for name, score in scores.items()}
        self.doses = sorted(set(self.dose_RI.ravel().tolist()) - {0})


def detectors(found: Found) -> Rows:
    """Yield for each detector and exposure what seeing adds, and how well the change tells seen from unseen."""
    runs = len(found.dose_RI)
    for name, score_RI in found.scores.items():
        known_I = ~np.isnan(score_RI).any(0)
        if not known_I.any():
            continue
        dose_RI, subject_I, cluster_I = found.dose_RI[:, known_I], found.subject_I[known_I], found.cluster_I[known_I]
        gains = {g.dose: g for g in pool_gains(score_RI[:, known_I], dose_RI, subject_I, cluster_I)}
        others_RI = np.stack([unseen_mean(score_RI, found.dose_RI, without=r) for r in range(runs)])
        for dose in found.doses:
            g = gains[dose]
            areas = []
            for reference in (found.base[name][None], others_RI):
                area = pool_area(score_RI - reference, found.dose_RI, dose, found.subject_I, found.cluster_I)
                areas.append("-" if area is None else f"{area.auc:.2f} ({area.low:.2f} to {area.high:.2f})")
            base = found.base[name][known_I].mean()
            yield (
                f"{name} | {dose} | {g.pairs} | {base:+.2f} | {g.gain.value:+.3f} ({g.gain.low:+.3f} to {g.gain.high:+.3f}) | "
                f"{g.p:.2g} | {' | '.join(areas)}"
            )


def levels(found: Found, name: str) -> str:
    """Return the mean of a score of the base, and over the runs of their unseen and seen items."""
    cells = [f"{np.nanmean(found.base[name]):.2f}"]
    for dose in (0, *found.doses):
        cells.append(f"{np.nanmean(found.scores[name][found.dose_RI == dose]):.2f}")
    return f"{name} | " + " | ".join(cells)


def alarms(found: Found) -> Rows:
    """Yield how often unseen items of one subject and run are accused as a set at 5 %, one-sided.

    Beside controls of the same subject (one half against the other) and of the other subjects of the run.
    """
    runs = len(found.dose_RI)
    for name, score_RI in found.scores.items():
        cells = []
        for reference in ("base", "other runs"):
            hits: dict[str, list[bool]] = {"same": [], "other": []}
            for r in range(runs):
                against = found.base[name] if reference == "base" else unseen_mean(score_RI, found.dose_RI, without=r)
                change_I = score_RI[r] - against
                usable_I = (found.dose_RI[r] == 0) & ~np.isnan(change_I)
                generator = np.random.default_rng(r)
                for subject in np.unique(found.subject_I):
                    mine = generator.permutation(np.flatnonzero(usable_I & (found.subject_I == subject)))
                    others = np.flatnonzero(usable_I & (found.subject_I != subject))
                    half = len(mine) // 2
                    for kind, tested, controls in (
                        ("same", mine[:half], mine[half:]),
                        ("other", mine, others),
                    ):
                        if min(len(tested), len(controls)) > 4:
                            hits[kind].append(_p(change_I[tested], change_I[controls], generator) <= 0.05)
            cells += [_share(hits[kind]) for kind in ("same", "other")]
        yield f"{name} | " + " | ".join(cells)


def _p(tested: Any, controls: Any, generator: np.random.Generator) -> float:
    every = np.concatenate([tested, controls])
    drawn_B = generator.permuted(np.tile(every, (DRAWS, 1)), axis=1)[:, : len(tested)].mean(1)
    return float(1 + (drawn_B >= tested.mean() - 1e-12).sum()) / (1 + DRAWS)


def _share(hits: list[bool]) -> str:
    if not hits:
        return "-"
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} ({100 * low:.0f} to {100 * high:.0f} %)"


def main(recipe: Path, folder: Path, data: Path) -> None:
    found = Found(recipe, folder, data)
    for arm, dose_I in zip(found.arms, found.dose_RI, strict=True):
        head = read_manifest(arm.mixture)
        last = json.loads((arm.seeds[0] / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
        seen = ", ".join(f"{int((dose_I == d).sum())} items {d}x" for d in found.doses)
        print(
            f"{arm.name}: {head['rows']:,} rows, {head['tokens']:,} tokens, {last['step']} steps; {seen}; last loss {last['loss']:.2f}"
        )
    study = folder / "study.json"
    if study.is_file():
        for preset, tasks in json.loads(study.read_text("utf-8"))["presets"].items():
            for task, entry in tasks.items():
                print(f"\n{task}, {preset}: right {', '.join(f'{100 * a:.1f} %' for a in entry['accuracy'])}")
                table("exposures | run x item | gain, points | p", (
                    f"{g['dose']} | {g['pairs']} | {100 * g['gain']:+.1f} ({100 * g['low']:+.1f} to {100 * g['high']:+.1f}) | {g['p']:.2g}"
                    for g in entry["gains"]
                ))  # fmt: skip
    table("detector | exposures | run x item | base | gain of seen items | p, one-sided | AUC against the base | against the other runs",
          detectors(found))  # fmt: skip
    doses = " | ".join(f"seen {d}x" for d in found.doses)
    table(
        f"mean | base | unseen | {doses}",
        (levels(found, name) for name in found.scores if not np.isnan(found.base[name]).all()),
    )
    print("\ninnocent sets accused at 5 %, one-sided:")
    table(
        "detector | against the base, same subject | other subjects | against the other runs, same | other",
        alarms(found),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    main(asked.recipe, asked.folder, asked.data)
