"""Answers written by the model: identical prompts and extraction whether transformers, vLLM or a server writes them.

The prompt is rendered once, by the checkpoint's own chat template; a server gets it at `/completions`, so it cannot
render it in another way (server.py; its chat endpoint can). Decoding is greedy. Raw texts are stored and kept;
extraction is done anew on every read.

Batches are padded at the left, which for most models changes nothing (tests/steel_eval/score/test_generate.py). A model
that does not share prefixes faithfully may also see its padding, so it writes one answer at a time.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from steel_data.errors import InputError
from steel_data.files import address
from steel_eval.ask.encode import Unit, context_text, encode_texts, labels, opened_thought
from steel_eval.models import Loaded
from steel_eval.score.answers import extract
from steel_eval.score.results import Ready, Scored, check_ids, key_of
from steel_eval.score.server import Answer, as_sent, ask_server, is_server, served

# Tokens of a batch, prompts with room for their answers.
CPU_TOKENS, GPU_TOKENS = 8_192, 65_536
SERVED = 32  # questions to a server between two lines in the store
Written = list[tuple[str, bool]]  # (text, whether it ended by itself)


def generate_unit(unit: Unit, ready: Ready, generator: str) -> Scored:
    """Return a unit's answers from the store, or have them written; one at a time where padding may show."""
    loaded, new_tokens = ready.loaded, unit.preset.max_new_tokens
    key = key_of(unit, ready, how_written(generator, new_tokens, loaded))

    def made() -> dict[str, Any]:
        prompts, cut = fitting_prompts(unit, loaded)
        written: dict[int, Sequence[Any]] = {}
        for number, group in enumerate(groups(prompts, new_tokens, ready, generator)):

            def asked(group: Sequence[int] = group) -> dict[str, Any]:
                return {
                    "of": key,
                    "written": write([prompts[i] for i in group], loaded, new_tokens, generator, ready.sharing.ok),
                }

            # kept one by one: a killed process has its finished groups asked no second time
            part = ready.store.kept(address(key, "part", number, group), asked)
            written |= dict(zip(group, part["written"], strict=True))
            ready.advance(len(group))
        answers = [written[i] for i in range(len(prompts))]
        return {
            "task": unit.task.name, "subject": unit.subject, "raw": [text for text, _ in answers],
            "finished": [ended for _, ended in answers], "notes": {"truncated": cut, "shared": False},
            "thought": opened_thought(context_text(loaded.tokenizer, unit.prompts[0])),
        }  # fmt: skip

    stored = _asked(unit, ready, generator, key) if is_server(generator) else ready.store.kept(key, made)
    answers, notes = generated_answers(unit, stored)
    return Scored(answers, stored["notes"] | notes)


def _asked(unit: Unit, ready: Ready, generator: str, key: str) -> dict[str, Any]:
    """Return a unit that a server answered; what is stored without an answer is asked again."""
    loaded = ready.loaded
    model = served(generator, loaded.folder, loaded.fingerprint)
    key = address(key, model.id)
    there = ready.store.get(key) or {}
    raw, finished = there.get("raw") or [None] * len(unit.prompts), there.get("finished") or []
    lacking = [i for i, text in enumerate(raw) if text is None]
    if not lacking:
        return there
    ids, cut = fitting_prompts(unit, loaded)
    if model.kind == "openai-chat":
        if not unit.preset.chat:
            raise InputError(f"--generator {generator}: preset {unit.preset.name} has no turns. Fix: openai:URL.")
        prompts: list[Any] = [prompt.messages() for prompt in unit.prompts]
    else:
        prompts = [as_sent(row, loaded.tokenizer) for row in ids]
    written: list[Answer] = [None if text is None else (text, finished[i]) for i, text in enumerate(raw)]
    ready.advance(len(unit.prompts) - len(lacking))
    for start in range(0, len(lacking), SERVED):  # kept as they come: a killed process has them asked no second time
        some = lacking[start : start + SERVED]
        answers = ask_server(model, [prompts[i] for i in some], unit.preset.max_new_tokens, ready.advance)
        for i, answer in zip(some, answers, strict=True):
            written[i] = answer
        there = ready.store.put(key, {
            "task": unit.task.name, "subject": unit.subject, "raw": [a[0] if a else None for a in written],
            "finished": [a[1] if a else False for a in written],
            "notes": {"truncated": cut, "shared": False, "served": model.id},
            "thought": opened_thought(context_text(loaded.tokenizer, unit.prompts[0])),
        })  # fmt: skip
        if not any(answers):
            break  # the server is gone
    return there


def groups(prompts: Sequence[list[int]], new_tokens: int, ready: Ready, generator: str) -> list[list[int]]:
    """Return the numbers of the prompts that are asked together: a batch; vLLM takes all."""
    if generator.startswith("vllm"):
        return [list(range(len(prompts)))]
    budget = CPU_TOKENS if ready.loaded.model.device.type == "cpu" else GPU_TOKENS
    return _batches(prompts, new_tokens, budget if ready.sharing.ok else 0)


def how_written(generator: str, new_tokens: int, loaded: Loaded) -> str:
    """Return what decides on an answer beside the weights: the writer, a server's address with it (what it serves is
    its own affair), the room, and the checkpoint's generation_config.json: its end tokens, and rules of decoding.
    """
    rules = loaded.model.generation_config.to_diff_dict() if loaded.model.generation_config is not None else {}
    rules.pop("transformers_version", None)
    return address(generator, new_tokens, rules)


def fitting_prompts(unit: Unit, loaded: Loaded) -> tuple[list[list[int]], int]:
    """Return the prompts in tokens with room for the answer, and how many had to be cut (the preset's rule)."""
    room = loaded.max_length - unit.preset.max_new_tokens
    if room < 1:
        raise InputError(
            f"preset {unit.preset.name}: {unit.preset.max_new_tokens} new tokens do not fit the model's context of "
            f"{loaded.max_length}. Fix: another preset or model."
        )
    rows, cut = [], 0
    for prompt in unit.prompts:
        [ids] = encode_texts(loaded.tokenizer, [context_text(loaded.tokenizer, prompt)], special=not prompt.chat)
        cut += len(ids) > room
        while len(ids) > room and prompt.shots and unit.preset.overflow == "drop-longest-shot":
            prompt = prompt.without_longest_shot()
            [ids] = encode_texts(loaded.tokenizer, [context_text(loaded.tokenizer, prompt)], special=not prompt.chat)
        rows.append(ids[-room:])
    check_ids(loaded, max((max(row, default=0) for row in rows), default=0))
    return rows, cut


def write(
    prompts: Sequence[list[int]], loaded: Loaded, new_tokens: int, generator: str, padding: bool = True
) -> Written:
    """Have answers written by `hf`, `vllm` or `openai:URL`.

    Raises InputError for anything else, or where it cannot be had.
    """
    kind = generator.partition(":")[0]
    if kind == "hf":
        return _by_transformers(prompts, loaded, new_tokens, padding)
    if kind == "vllm":
        return _by_vllm(prompts, loaded, new_tokens)
    if kind == "openai":
        sent = [as_sent(ids, loaded.tokenizer) for ids in prompts]
        answers = ask_server(served(generator, loaded.folder, loaded.fingerprint), sent, new_tokens)
        return [answer or ("", False) for answer in answers]
    raise InputError(f"--generator {generator}: unknown. Fix: hf, vllm, openai:http://host:8000/v1 or openai-chat:….")


def _by_transformers(prompts: Sequence[list[int]], loaded: Loaded, new_tokens: int, padding: bool) -> Written:
    import torch

    model, tokenizer = loaded.model, loaded.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    ends = _end_ids(loaded)
    budget = CPU_TOKENS if model.device.type == "cpu" else GPU_TOKENS
    written: dict[int, tuple[str, bool]] = {}
    for batch in _batches(prompts, new_tokens, budget if padding else 0):
        width = max(len(prompts[i]) for i in batch)
        ids_BT = torch.full((len(batch), width), pad)
        seen_BT = torch.zeros((len(batch), width), dtype=torch.long)
        for row, i in enumerate(batch):
            ids_BT[row, width - len(prompts[i]) :] = torch.tensor(prompts[i])
            seen_BT[row, width - len(prompts[i]) :] = 1
        with torch.inference_mode():
            out_BT = model.generate(  # type: ignore[operator]
                input_ids=ids_BT.to(model.device), attention_mask=seen_BT.to(model.device), max_new_tokens=new_tokens,
                do_sample=False, temperature=None, top_p=None, top_k=None, repetition_penalty=1.0, pad_token_id=pad,
                eos_token_id=sorted(ends) or None,
            )  # fmt: skip
        for row, i in enumerate(batch):
            written[i] = _until_end(out_BT[row, width:].tolist(), ends, tokenizer)
    return [written[i] for i in range(len(prompts))]


def _end_ids(loaded: Loaded) -> set[int]:
    named = getattr(loaded.model.generation_config, "eos_token_id", None)
    ends = set(named if isinstance(named, list) else [named]) | {loaded.tokenizer.eos_token_id}
    return {int(e) for e in ends if e is not None}


def _until_end(ids: list[int], ends: set[int], tokenizer: Any) -> tuple[str, bool]:
    stop = next((k for k, token in enumerate(ids) if token in ends), None)
    return tokenizer.decode(ids[:stop], skip_special_tokens=True), stop is not None


def _batches(prompts: Sequence[list[int]], new_tokens: int, budget: int) -> list[list[int]]:
    """Return batches of prompt numbers, longest first, each within the budget of padded tokens (or one prompt)."""
    batches: list[list[int]] = []
    for i in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
        if batches and (len(batches[-1]) + 1) * (len(prompts[batches[-1][0]]) + new_tokens) <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _by_vllm(prompts: Sequence[list[int]], loaded: Loaded, new_tokens: int) -> Written:
    try:
        from vllm import LLM, SamplingParams
    except ImportError as error:
        raise InputError(
            "--generator vllm: vllm is not installed. Fix: pip install 'steel-lab[vllm]', or hf."
        ) from error
    engine = LLM(model=str(loaded.folder), max_model_len=loaded.max_length)
    how = SamplingParams(temperature=0, max_tokens=new_tokens, stop_token_ids=sorted(_end_ids(loaded)))
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], how)
    return [(o.outputs[0].text, o.outputs[0].finish_reason == "stop") for o in outputs]


def generated_answers(unit: Unit, stored: dict[str, Any]) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return the answers of a generation unit (columns as for likelihood, and outcome, rule, order) and counts."""
    # without turns a model goes on with a next question of its own; the examples end with a blank line, so the answer
    # does
    raw = [text or "" for text in stored["raw"]]
    missing = [text is None for text in stored["raw"]]
    bodies = [t if unit.preset.chat else t.split("\n\n")[0] for t in raw]
    # the template has opened the thought: an answer that never closes it is no answer
    said = [stored.get("thought", "") + body for body in bodies]
    found = [
        extract(text, p.item.options, finished or body != whole, len(p.item.options))
        for text, body, whole, finished, p in zip(said, bodies, raw, stored["finished"], unit.prompts, strict=True)
    ]
    outcomes = ["missing" if gone else f.outcome for f, gone in zip(found, missing, strict=True)]
    gold = labels(unit)
    frame = pl.DataFrame(
        {
            "task": unit.task.name, "subject": unit.subject, "item": [p.item.item for p in unit.prompts], "label": gold,
            "prediction": [f.letter or "" for f in found], **{f"logprob_{c}": None for c in "ABCD"},
            "raw": raw, "options": [len(p.item.options) for p in unit.prompts], "gold_probability": None,
            "gold_bits_per_byte": None, "outcome": outcomes, "rule": [f.rule for f in found],
            "order": [f.order for f in found],
        },
        schema_overrides={
            **{f"logprob_{c}": pl.Float64 for c in "ABCD"},
            "gold_probability": pl.Float64, "gold_bits_per_byte": pl.Float64,
        },
    )  # fmt: skip
    kept = [f for f in found if f.letter]
    # an answer without any explanation has followed a wording that asks for the answer first
    asked = {unit.preset.order} | ({"answer-only"} if unit.preset.order == "answer-first" else set())
    counts = {
        "outcomes": dict(Counter(outcomes)),
        "rules": dict(Counter(f.rule for f in found)),
        "order": dict(Counter(f.order for f in kept)),
        "missing": sum(missing),
        "order_followed": sum(f.order in asked for f in kept),
    }  # fmt: skip
    return frame, counts
