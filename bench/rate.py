"""What `rate --by ifd` costs against two forward passes a row, in CPU-seconds of one process.

`python bench/rate.py MODEL FILE --rows 20 [--batch 8] [--dtype float32 bfloat16]`: FILE is a JSON list or jsonl of alpaca rows, of
which 150 are drawn, and of these as many as asked for at even distances in the order of their lengths. Two passes a row: the row with
its question, and each answer after an empty question, all logits; one sequence at a time, as the authors' script does, and with
`--batch 8` also in padded batches of rows in random order. Ways take turns, part by part: what else the machine does falls on all alike.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch

from steel_data.builders.chat import chat
from steel_data.read.formats import read_whole
from steel_eval.models import load
from steel_eval.rate.answers import AnswerRater
from steel_eval.score.likelihood import prefix_sharing
from steel_train.examples.encode import Encoder

DRAWN, PART = 150, 8  # rows drawn of a file; rows that one way rates before the next has its turn


def two_passes(loaded, encoder, rows, size):
    """Return the rating of each row by two forward passes of `size` padded rows, and the tokens of both."""
    ratings, tokens = [], 0
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        losses = []
        for asked in (batch, [{"messages": [{"role": "user", "content": ""}, row["messages"][-1]]} for row in batch]):
            examples = [found.examples[0] for found in encoder.encode(asked)]
            longest = max(len(e.ids) for e in examples)
            ids = torch.tensor(np.array([np.pad(e.ids.astype(np.int64), (0, longest - len(e.ids))) for e in examples]))
            learnt = torch.tensor(np.array([np.pad(e.learnt, (0, longest - len(e.ids))) for e in examples]))[:, 1:]
            real = torch.tensor(np.array([np.arange(longest) < len(e.ids) for e in examples])).long()
            with torch.inference_mode():
                mask = {} if size == 1 else {"attention_mask": real}
                logits = loaded.model(input_ids=ids, use_cache=False, **mask).logits[:, :-1].float()
                flat = logits.reshape(-1, logits.shape[-1])
                nats = torch.nn.functional.cross_entropy(flat, ids[:, 1:].reshape(-1), reduction="none")
            losses.append((nats.view(learnt.shape) * learnt).sum(1) / learnt.sum(1))
            tokens += ids.numel()
        ratings += (losses[0] / losses[1]).tolist()
    return ratings, tokens


def drawn(file, count):
    """Return `count` rows at even distances of 150 random ones in the order of length."""
    raw = [row.value for row in read_whole(file)]
    rows = [made[0] for made in map(chat, random.Random(1).sample(raw, min(len(raw), DRAWN))) if isinstance(made, list)]
    rows.sort(key=lambda row: len(str(row)))
    return [rows[round((i + 0.5) * len(rows) / count - 0.5)] for i in range(count)]


def measured(loaded, rows, batch):
    """Return way -> CPU-seconds, tokens and ratings (in the order of `rows`; not of padded batches)."""
    rater, encoder = (
        AnswerRater(loaded, "ifd", prefix_sharing(loaded.model)),
        Encoder(loaded.tokenizer, loaded.max_length),
    )
    mixed = random.Random(2).sample(rows, len(rows))
    found = {way: [0.0, 0, []] for way in ("rate", "one by one", *([f"padded, {batch}"] if batch else []))}
    rater.rate(rows[:1])  # what is made once
    rater.forwarded = 0
    for start in range(0, len(rows), PART):
        for way, kept in found.items():
            begun = time.process_time()
            if way == "rate":
                part, tokens = rater.rate(rows[start : start + PART]), rater.forwarded - kept[1]
            elif way == "one by one":
                part, tokens = two_passes(loaded, encoder, rows[start : start + PART], 1)
            else:
                part, tokens = two_passes(loaded, encoder, mixed[start : start + PART], batch)
            kept[0] += time.process_time() - begun
            kept[1] += tokens
            kept[2] += part
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument(
        "--batch", type=int, default=0, help="rows of a padded batch of the two passes; 0: not measured"
    )
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    args = parser.parse_args()
    rows, first = drawn(args.file, args.rows), None
    for dtype in args.dtype:
        found = measured(load(args.model, dtype=dtype), rows, args.batch)
        ours = found["rate"]
        for way, (seconds, tokens, ratings) in found.items():
            apart = max(abs(a - b) for a, b in zip(ours[2], ratings, strict=True)) if way == "one by one" else 0
            print(
                f"{way}, {dtype}: {len(rows)} rows, {seconds:.1f} CPU-s, {tokens:,} tokens: {seconds / ours[0]:.2f} times"
                f"{f', ratings differ by at most {apart:.1e}' if apart else ''}",
                flush=True,
            )
        first = first or ours[2]
        change = max(abs(a - b) for a, b in zip(first, ours[2], strict=True))
        order = np.corrcoef(*(np.argsort(np.argsort(ratings)) for ratings in (first, ours[2])))[0, 1]
        print(
            f"against {args.dtype[0]}: ratings differ by at most {change:.1e}, rank correlation {order:.4f}", flush=True
        )


if __name__ == "__main__":
    main()
