"""Can a classifier that never saw the model tell seen from unseen items by their text? Then the study is void.

Doses are drawn at random, so the area under the curve must be about 0.5. Where it is not, "seen" and "unseen" differ
in something besides having been seen (another year, another source, another wording), and a detector may have found
that: this is how WikiMIA flatters what is tried on it (Duan et al. 2024, arXiv 2402.07841; Das et al. 2024, arXiv
2406.16201).

Method: logistic regression on TF-IDF of the characters' 1- to 3-grams of question, lettered options and the answer's
letter; five folds, clusters of equal items whole, both sides dealt evenly; twice. An item is compared with the other
side's items of its own fold only. Even so the area lies below 0.5 on average under randomised doses: an item that is
held out leaves its opposite behind in the training part, which for a few dozen items costs several points. And it
lies above 0.5 where subjects had different shares drawn, which the text tells. So the same is done with doses
exchanged among clusters of one subject and one size, as the draw could have given them; their mean says how large
both are, and is taken out, and their spread gives the p-value.

Legend: I items, F features, R repeats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.clusters import cluster_key
from steel_data.benchmarks.items import LETTERS, Item
from steel_eval.stats.detection import logit_interval, mean_variance, share_below

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
FOLDS, REPEATS, FEATURES = 5, 2, 20_000


@dataclass(frozen=True)
class TextOnly:
    """`auc` (its bias taken out) with a 95 % interval over clusters; `raw` as cross-validation gave it; `null`: the
    mean over `draws` exchanges of doses; `p`: how often these reach `raw`, at least 1 / (1 + draws).
    """

    auc: float
    low: float
    high: float
    raw: float
    null: float
    p: float
    draws: int


def text_only(
    items: Sequence[Item], dose: Ints, draws: int | None = None, seed: int = 0, cluster: Ints | None = None
) -> TextOnly:
    """Tell items of dose 0 from the others by text alone. `draws`: exchanges of doses; by default 19 to 99, fewer for
    more items, whose bias is small. `cluster` (Q,): items that were drawn as one, by default equal ones.

    Raises ValueError with fewer than ten clusters on a side: five folds need two each.
    """
    seen_I = np.asarray(dose) > 0
    cluster_I = _numbers([cluster_key(item) for item in items]) if cluster is None else cluster
    subject_I = _numbers([item.subject for item in items])
    fewest = min(len(np.unique(cluster_I[side])) for side in (seen_I, ~seen_I))
    if fewest < 2 * FOLDS:
        raise ValueError(f"{fewest} clusters on one side: too few for {FOLDS} folds")
    if draws is None:
        draws = int(np.clip(40_000 // len(items), 19, 99))
    features_IF = _features(items)
    generator = np.random.default_rng(seed)
    place_I = cross_validated(features_IF, seen_I, cluster_I, generator)
    raw = float(place_I[seen_I].mean())
    others = [exchanged(seen_I, subject_I, cluster_I, generator) for _ in range(draws)]
    null = np.array([cross_validated(features_IF, o_I, cluster_I, generator)[o_I].mean() for o_I in others])
    variance = sum(mean_variance(place_I[side], cluster_I[side]) for side in (seen_I, ~seen_I))
    auc = float(np.clip(raw + 0.5 - null.mean(), 0, 1)) if raw < 0.75 else raw  # a strong cue leaves no such bias
    low, high = logit_interval(auc, variance, fewest)
    p = (1 + int((null >= raw).sum())) / (1 + draws)
    return TextOnly(auc, low, high, raw, float(null.mean()), p, draws)


def _numbers(keys: Sequence[str]) -> Ints:
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def _features(items: Sequence[Item]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [
        "\n".join([i.question, *(f"{a}. {o}" for a, o in zip(LETTERS, i.options, strict=False)), f"答案：{i.answer}"])
        for i in items
    ]
    vectoriser = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), sublinear_tf=True, lowercase=False, max_features=FEATURES
    )
    return vectoriser.fit_transform(texts)  # knows no doses, so that fitting it on all items tells nothing


def cross_validated(features_IF: Any, seen_I: Bools, cluster_I: Ints, generator: np.random.Generator) -> Floats:
    """Return for each item the share of the other side's items of its fold on which it is on the right side, (I,).

    The mean over seen items is the area under the curve, and so is the mean over unseen ones; mean of the repeats.
    """
    from sklearn.linear_model import LogisticRegression

    place_I = np.zeros(len(seen_I))
    for _ in range(REPEATS):
        fold_I = _folds(seen_I, cluster_I, generator)
        for fold in range(FOLDS):
            held_I = fold_I == fold
            model = LogisticRegression(C=10, solver="liblinear", tol=1e-3).fit(features_IF[~held_I], seen_I[~held_I])
            score_H = model.decision_function(features_IF[held_I])
            truth_H = seen_I[held_I]
            right_H = np.zeros(len(score_H))
            right_H[truth_H] = share_below(score_H[truth_H], score_H[~truth_H])
            right_H[~truth_H] = 1 - share_below(score_H[~truth_H], score_H[truth_H])
            place_I[held_I] += right_H / REPEATS
    return place_I


def _folds(seen_I: Bools, cluster_I: Ints, generator: np.random.Generator) -> Ints:
    """Deal the clusters of either side to the folds in turn, in random order."""
    fold_I = np.zeros(len(seen_I), np.int64)
    for side in (seen_I, ~seen_I):
        clusters = generator.permutation(np.unique(cluster_I[side]))
        fold = np.full(int(cluster_I.max()) + 1, -1)
        fold[clusters] = (np.arange(len(clusters)) + generator.integers(FOLDS)) % FOLDS
        fold_I[side] = fold[cluster_I[side]]
    return fold_I


def exchanged(seen_I: Bools, subject_I: Ints, cluster_I: Ints, generator: np.random.Generator) -> Bools:
    """Return another assignment that the draw could have made: exchanged among clusters of one subject and one size."""
    _, first_C, index_I, size_C = np.unique(cluster_I, return_index=True, return_inverse=True, return_counts=True)
    seen_C = seen_I[first_C]
    strata = subject_I[first_C] * (int(size_C.max()) + 1) + size_C
    for stratum in np.unique(strata):
        mine = np.flatnonzero(strata == stratum)
        seen_C[mine] = generator.permutation(seen_C[mine])
    drawn_I: Bools = seen_C[index_I]
    return drawn_I
