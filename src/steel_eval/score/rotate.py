"""Circular scoring: each question again with its options rotated, so a letter's popularity cannot pass for knowledge.

All rotations of a question go into one token trie, so what they share (examples, question) is computed once. Reported
are the mean accuracy over rotations, the share of questions right in every rotation (CircularEval, as in OpenCompass),
and accuracy after taking out each letter's mean log-probability (a prior of the letters, after PriDe).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS, Item
from steel_eval.ask.encode import Unit, encode_prompts
from steel_eval.ask.prompts import build_prompts
from steel_eval.ask.trie import Request, make_plan
from steel_eval.score.results import Ready, kept_likelihoods, key_of, plain_numbers


def rotated(item: Item, places: int) -> Item:
    """Return a question with its options moved `places` on: option A stands at letter number `places`."""
    k = len(item.options)
    options = tuple(item.options[(i - places) % k] for i in range(k))
    answer = LETTERS[(LETTERS.index(item.answer) + places) % k] if item.answer else ""
    return replace(item, options=options, answer=answer)


def rotation_scores(units: Sequence[Unit], ready: Ready) -> dict[str, Any]:
    """Return rotation scores by task; only units with published answers count."""
    tasks: dict[str, list[NDArray[np.float64]]] = {}
    for unit in units:
        if unit.task.published:
            tasks.setdefault(unit.task.name, []).append(_unit_hits(unit, ready))
    out = {}
    for name, parts in tasks.items():
        hits_Q3 = np.concatenate(parts)
        out[name] = {
            "accuracy_over_rotations": float(hits_Q3[:, 0].mean()), "right_in_all": float((hits_Q3[:, 1] == 1).mean()),
            "accuracy_without_prior": float(hits_Q3[:, 2].mean()), "n": len(hits_Q3),
        }  # fmt: skip
    return out


def _unit_hits(unit: Unit, ready: Ready) -> NDArray[np.float64]:
    """Return (Q, 3): mean over rotations of being right, right in all, right without the letters' prior."""

    key = key_of(unit, ready, "rotations")

    def made() -> dict[str, Any]:
        requests, spans = _requests(unit, ready)
        plan = make_plan(requests)
        logprob = kept_likelihoods(ready, key, plan, requests).logprob
        rows = [[plain_numbers(logprob[a:b]) for a, b in rotations] for rotations in spans]
        return {"task": unit.task.name, "subject": unit.subject, "rotations": rows, "tokens": plan.forwarded_tokens}

    stored = ready.store.kept(key, made)
    return np.array([_hits(p.item, rows) for p, rows in zip(unit.prompts, stored["rotations"], strict=True)])


def _requests(unit: Unit, ready: Ready) -> tuple[list[Request], list[list[tuple[int, int]]]]:
    """Return the requests of all rotations of all questions, and for each question the span of each rotation."""
    examples = unit.task.examples.get(unit.subject, [])[: ready.shots]
    requests: list[Request] = []
    spans: list[list[tuple[int, int]]] = [[] for _ in unit.prompts]
    for places in range(max(len(p.item.options) for p in unit.prompts)):
        numbers = [i for i, p in enumerate(unit.prompts) if places < len(p.item.options)]
        items = [rotated(unit.prompts[i].item, places) for i in numbers]
        prompts = build_prompts(unit.preset, unit.task.benchmark, unit.subject, items, examples)
        encoded = encode_prompts(ready.tokenised.tokenizer, unit.preset, prompts, ready.tokenised.max_length)
        for at, i in enumerate(numbers):
            spans[i].append((len(requests) + encoded.first[at], len(requests) + encoded.first[at + 1]))
        requests += encoded.requests
    return requests, spans


def _hits(item: Item, rows: Sequence[Sequence[float | None]]) -> tuple[float, float, float]:
    """Score one question from its log-probabilities (rotations R, letters K); a NaN is never right."""
    value_RK = np.array([[np.nan if v is None else v for v in row] for row in rows])
    if np.isnan(value_RK).any():
        return 0.0, 0.0, 0.0
    k = len(item.options)
    gold = LETTERS.index(item.answer)
    right = [int(value_RK[r].argmax()) == (gold + r) % k for r in range(k)]
    # the prior of a letter: its mean over rotations, in which every option has stood there once
    clean_RK = value_RK - value_RK.mean(axis=0, keepdims=True)
    content = [sum(clean_RK[r, (o + r) % k] for r in range(k)) for o in range(k)]
    return float(np.mean(right)), float(all(right)), float(int(np.argmax(content)) == gold)
