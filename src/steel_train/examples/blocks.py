"""Documents -> blocks of one length, laid end to end (apart: made of rows after some are held out).

A block holds parts of documents; each part is an example of its own, with positions from 0 and attention inside itself
(schedule/batches.py), so no document is read into another. A document that goes on in the next block does so with its
last token, from which the first one there is predicted: every token but a document's first is learnt once.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from steel_train.examples.folder import Examples


def blocks(documents: Examples, length: int) -> Examples:
    """Return the parts of N documents as examples, in units of at most `length` tokens: only the last falls short.

    By a token, where the rest of a block is one: a part of one token teaches nothing. Documents keep their order. What
    ended a document is counted in its last part.
    """
    part_of: list[int] = []
    starts: list[int] = []
    lengths: list[int] = []
    firsts = [0]
    room = length
    for i, (start, whole) in enumerate(zip(documents.starts.tolist(), documents.lengths.tolist(), strict=True)):
        at = 0
        while whole - at > 1:
            if room < 2:
                firsts.append(len(starts))
                room = length
            taken = min(room, whole - at)
            part_of.append(i)
            starts.append(start + at)
            lengths.append(taken)
            room -= taken
            at += taken if at + taken == whole else taken - 1
    of = np.array(part_of, np.int64)
    last = np.append(of[1:] != of[:-1], True)[: len(of)]
    length_P = np.array(lengths, np.int64)
    nothing = pl.lit([], pl.List(pl.Int32))
    table = documents.table[of].with_columns(
        pl.Series("length", length_P.astype(np.int32)), pl.Series("learnt", (length_P - 1).astype(np.int32)),
        pl.col("turns") * pl.Series(last.astype(np.int32)),
        pl.when(pl.Series(last)).then(pl.col("ends")).otherwise(nothing).alias("ends"),
    )  # fmt: skip
    return replace(
        documents, starts=np.array(starts, np.int64), lengths=length_P, table=table,
        firsts=np.array(firsts, np.int64) if len(of) else np.zeros(0, np.int64),
    )  # fmt: skip
