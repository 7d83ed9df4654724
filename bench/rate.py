"""What `rate --by ifd` costs against two forward passes a row, in CPU-seconds of one process: rows in random order.

`python bench/rate.py MODEL FILE --rows 64 [--dtype bfloat16]`: FILE is a JSON list or jsonl of alpaca rows. Two passes a row:
the row with its question, and each answer after an empty question, all logits; one sequence at a time, as the authors'
script does, and with `--batch 8` in padded batches of the rows as they come.
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


def two_passes(loaded, rows, size):
    """Return the rating of each row by two forward passes of `size` padded rows, and the tokens of both."""
    encoder = Encoder(loaded.tokenizer, loaded.max_length)
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
                nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
            losses.append((nats * learnt).sum(1) / learnt.sum(1))
            tokens += ids.numel()
        ratings += (losses[0] / losses[1]).tolist()
    return ratings, tokens


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1, help="rows of a padded batch of the two passes")
    parser.add_argument("--dtype", nargs="+", default=["auto"])
    args = parser.parse_args()
    raw = [row.value for row in read_whole(args.file)]
    rows = [made[0] for made in map(chat, random.Random(1).sample(raw, args.rows)) if isinstance(made, list)]
    first = None
    for dtype in args.dtype:
        loaded = load(args.model, dtype=dtype)
        rater = AnswerRater(loaded, "ifd", prefix_sharing(loaded.model))
        start = time.process_time()
        ours = rater.rate(sorted(rows, key=lambda row: len(str(row))))
        seconds = time.process_time() - start
        print(f"rate, {dtype}: {len(rows)} rows, {seconds:.1f} CPU-s, {rater.forwarded:,} tokens", flush=True)
        for size in dict.fromkeys((1, args.batch)):
            start = time.process_time()
            theirs, tokens = two_passes(loaded, rows if size > 1 else sorted(rows, key=lambda row: len(str(row))), size)
            passes = time.process_time() - start
            print(
                f"two passes of {size}, {dtype}: {passes:.1f} CPU-s, {tokens:,} tokens: {passes / seconds:.2f} times",
                flush=True,
            )
            if size == 1:
                apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True) if a is not None)
                print(f"ratings differ by at most {apart:.1e}")
        first = first or ours
        change = [abs(a - b) for a, b in zip(first, ours, strict=True)]
        order = np.corrcoef(np.argsort(np.argsort(first)), np.argsort(np.argsort(ours)))[0, 1]
        print(f"against {args.dtype[0]}: ratings differ by at most {max(change):.1e}, rank correlation {order:.4f}")


if __name__ == "__main__":
    main()
