"""What a tool did with the planted rows, and with the others: recall by kind, and what it dropped that is like no other row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steel_data.row.text import TextBatch

KEPT = "kept"
SHINGLE = 5
UNLIKE, DOUBTFUL = 0.5, 0.75  # Jaccard similarity of character 5-grams to the most similar other row


@dataclass(frozen=True)
class Quality:
    """Shares of the planted rows found (None where none could be), and counts of other rows dropped."""

    exact: float | None
    near: float | None
    verbatim: float | None
    edited: float | None
    flagged: int  # other rows that decontamination dropped
    dropped: int  # other rows that dedup dropped
    doubtful: int  # of these: most similar other row between UNLIKE and DOUBTFUL
    unlike: int  # of these: below UNLIKE


def share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def judge(texts: Sequence[str], truth: Sequence[tuple[str, int | str | None]], fate: dict[int, str]) -> Quality:
    """Judge what became of each row.

    `truth` holds (kind, original) a row as in `corpora`; `fate` a row's step that dropped it (`language`, `decontaminate`, `exact`,
    `near`; a tool that does not tell steps apart says `dropped`) or `kept`. A pair counts as found where not both of it were kept; a
    pair of which a step before dedup dropped a row is left out.
    """
    early = ("language", "decontaminate")
    pairs: dict[str, list[bool]] = {"exact": [], "near": []}
    items: dict[str, list[bool]] = {"verbatim": [], "edited": []}
    copied = set()
    for row, (kind, of) in enumerate(truth):
        if kind in pairs and isinstance(of, int):
            copied |= {row, of}
            if fate[row] not in early and fate[of] not in early:
                pairs[kind].append(not (fate[row] == fate[of] == KEPT))
        elif kind in items:
            items[kind].append(fate[row] == "decontaminate")
    others = [row for row, (kind, _) in enumerate(truth) if kind == "base" and row not in copied]
    lost = [row for row in others if fate[row] in ("exact", "near", "dropped")]
    similar = most_similar(texts, lost)
    tells = "decontaminate" in fate.values()
    return Quality(
        exact=share(pairs["exact"]),
        near=share(pairs["near"]),
        verbatim=share(items["verbatim"]) if tells else None,
        edited=share(items["edited"]) if tells else None,
        flagged=sum(fate[row] == "decontaminate" for row in others),
        dropped=len(lost),
        doubtful=int(((similar >= UNLIKE) & (similar < DOUBTFUL)).sum()),
        unlike=int((similar < UNLIKE).sum()),
    )


def most_similar(texts: Sequence[str], rows: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return for each of `rows` the highest Jaccard similarity of character 5-grams to any other text."""
    hashes, owners, sizes = [], [], np.zeros(len(texts), np.int64)
    for start in range(0, len(texts), 4000):
        hash_G, offset_R = TextBatch(list(texts[start : start + 4000])).shingles(SHINGLE)
        for i, (a, b) in enumerate(zip(offset_R.tolist(), offset_R.tolist()[1:], strict=False)):
            own = np.unique(hash_G[a:b])
            hashes.append(own)
            owners.append(np.full(len(own), start + i, np.int32))
            sizes[start + i] = len(own)
    hash_G, row_G = np.concatenate(hashes), np.concatenate(owners)
    order = np.argsort(hash_G, kind="stable")
    hash_G, row_G = hash_G[order], row_G[order]
    best = np.zeros(len(rows))
    for i, row in enumerate(rows):
        own = hashes[row]
        low, high = np.searchsorted(hash_G, own), np.searchsorted(hash_G, own, "right")
        other = np.concatenate([row_G[a:b] for a, b in zip(low.tolist(), high.tolist(), strict=True)] or [row_G[:0]])
        both = np.bincount(other, minlength=len(texts)).astype(np.float64)
        both[row] = 0
        best[i] = (both / np.maximum(sizes + sizes[row] - both, 1)).max(initial=0.0)
    return best
