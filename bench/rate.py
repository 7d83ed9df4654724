"""What `rate --by ifd` costs against two forward passes a row, in CPU-seconds of one process: rows in random order.

`python bench/rate.py MODEL FILE --rows 64`: FILE is a JSON list or jsonl of alpaca rows. Two passes a row: the row with its
question, and each answer after an empty question, one sequence at a time with all logits, as the authors' script does.
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


def two_passes(loaded, rows):
    """Return the rating of each row by two forward passes a row, and the tokens of both."""
    encoder = Encoder(loaded.tokenizer, loaded.max_length)
    ratings, tokens = [], 0
    for row in rows:
        losses = []
        for asked in (row, {"messages": [{"role": "user", "content": ""}, row["messages"][-1]]}):
            example = encoder.encode([asked])[0].examples[0]
            ids = torch.tensor(example.ids[None].astype(np.int64))
            with torch.inference_mode():
                logits = loaded.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
                nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            losses.append(float(nats[torch.from_numpy(example.learnt[1:])].mean()))
            tokens += ids.shape[1]
        ratings.append(losses[0] / losses[1])
    return ratings, tokens


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    args = parser.parse_args()
    raw = [row.value for row in read_whole(args.file)]
    rows = [made[0] for made in map(chat, random.Random(1).sample(raw, args.rows)) if isinstance(made, list)]
    rows.sort(key=lambda row: len(str(row)))
    loaded = load(args.model)
    rater = AnswerRater(loaded, "ifd", prefix_sharing(loaded.model))
    start = time.process_time()
    ours = rater.rate(rows)
    middle = time.process_time()
    theirs, tokens = two_passes(loaded, rows)
    end = time.process_time()
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True) if a is not None)
    print(
        f"{len(rows)} rows; rate {middle - start:.1f} CPU-s ({rater.forwarded:,} tokens), two passes {end - middle:.1f}"
    )
    print(
        f"CPU-s ({tokens:,} tokens): {(end - middle) / (middle - start):.2f} times cheaper; ratings differ by {apart:.1e}"
    )


if __name__ == "__main__":
    main()
