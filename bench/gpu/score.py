"""Scoring at five shots: steel_eval with shared prefixes against lm-eval's HFLM, the same prompts on the same model."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from bench.gpu.measure import device, first_line, synchronise
from bench.gpu.train import SHAPES, TINY
from bench.score import units_of

BATCHES = (16, 64)


def measure(run: Any) -> Iterator[dict[str, Any]]:
    from tests.steel_eval import toys
    from transformers import AutoConfig, AutoModelForCausalLM

    from steel_eval.ask.encode import Tokenised
    from steel_eval.score.likelihood import prefix_sharing, score_plan

    shape = TINY | {"vocab_size": 512} if run.dry else SHAPES["0.5B"]
    config = AutoConfig.for_model(shape["type"], **{key: value for key, value in shape.items() if key != "type"})
    torch.manual_seed(0)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    with torch.device(device()):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    tokenizer = toys.tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        data = toys.benchmarks(Path(folder), n=200 if not run.dry else 8)
        asked = SimpleNamespace(tasks="cmmlu,ceval", data=data, shots=5, limit=3 if run.dry else 0)
        units = units_of(asked)
    longest = config.max_position_embeddings
    sharing, tokenised = prefix_sharing(model), Tokenised(tokenizer, longest)
    encodings = [tokenised.get(unit) for unit in units]
    plans = [(e.plan, e.encoded.requests) for e in encodings]
    if not run.dry:
        score_plan(model, *plans[0], sharing)  # warm
    synchronise()
    start = time.perf_counter()
    mine = np.concatenate([score_plan(model, *plan, sharing).logprob for plan in plans])
    synchronise()
    seconds = time.perf_counter() - start
    questions = sum(len(unit.prompts) for unit in units)
    tokens, plain = sum(e.plan.forwarded_tokens for e in encodings), sum(e.plan.plain_tokens for e in encodings)
    yield {"way": "steel_eval", "questions": questions, "seconds": seconds, "questions_s": questions / seconds,
           "forwarded_tokens": tokens, "full_prompt_tokens": plain}  # fmt: skip
    try:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        yield {"way": "lm-eval", "skipped": first_line(error)}
        return
    texts = [(p.text(), c) for u in units for p in u.prompts for c in p.continuations]
    for batch in BATCHES if not run.dry else (4,):
        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, device=device(), max_length=longest)
        asked_of = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(texts)]
        synchronise()
        start = time.perf_counter()
        theirs = np.array([value for value, _ in harness.loglikelihood(asked_of, disable_tqdm=True)])
        synchronise()
        seconds = time.perf_counter() - start
        same = float((theirs.reshape(-1, 4).argmax(1) == mine.reshape(-1, 4).argmax(1)).mean())
        yield {"way": f"lm-eval, batches of {batch}", "questions": questions, "seconds": seconds,
               "questions_s": questions / seconds, "same_answers": same,
               "largest_difference": float(np.abs(theirs - mine).max())}  # fmt: skip
