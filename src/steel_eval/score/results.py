"""Score one loaded checkpoint on units, through the store, and write scores.json and answers.parquet."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS
from steel_data.errors import InputError
from steel_data.files import address, atomic_write, source_sha256
from steel_eval.ask.encode import Encoding, Tokenised, Unit, labels
from steel_eval.ask.trie import Plan, Request
from steel_eval.models import Loaded
from steel_eval.score.accounting import gold_probability, predict, summarise
from steel_eval.score.folder import write_folder
from steel_eval.score.likelihood import Likelihoods, Partial, Sharing, score_passes, shares
from steel_eval.score.store import Store

# What turns questions into answers; weights, because an earlier loader filled what was missing with random numbers.
_CODE = (
    "steel_eval.ask.encode", "steel_eval.ask.prompts", "steel_eval.ask.trie", "steel_eval.score.generate",
    "steel_eval.score.likelihood", "steel_eval.score.rotate", "steel_eval.score.server", "steel_train.models.weights",
)  # fmt: skip
ANSWER_COLUMNS = ["task", "subject", "item", "label", "prediction", *(f"logprob_{c}" for c in "ABCD"), "raw"]


KEEP_EVERY = 15.0  # seconds of work, at most, that a kill may cost


@dataclass
class Ready:
    """A checkpoint made ready to answer: its module, its tokenizer with what is encoded, and where answers are kept.

    `advance(n)` is told of questions that are done.
    """

    loaded: Loaded
    tokenised: Tokenised
    sharing: Sharing
    store: Store
    shots: int
    advance: Callable[[int], None] = lambda _: None


@dataclass
class Scored:
    """The results of one unit: a frame of answers (with columns for the accounting) and notes on how it went."""

    answers: pl.DataFrame
    notes: dict[str, Any]


@cache
def code_fingerprint() -> str:
    """Return a hash of the modules that turn questions into answers: other code's results are not this code's.

    Raises ModuleNotFoundError where one of them is not there.
    """
    return source_sha256(*_CODE)[:32]


def key_of(unit: Unit, ready: Ready, how: str = "likelihood") -> str:
    """Return the store's key of a unit: the hash of everything its results depend on.

    `how` an answer comes about: "likelihood", "rotations", or what writes it (generate.how_written).
    """
    loaded = ready.loaded
    return address({
        "weights": loaded.fingerprint, "tokenizer": ready.tokenised.fingerprint, "prompts": unit.fingerprint,
        "data": unit.task.subject_sha256[unit.subject], "code": code_fingerprint(),
        "task": unit.task.name, "subject": unit.subject, "dtype": str(loaded.model.dtype),
        "context": ready.tokenised.max_length, "how": how,
    })  # fmt: skip


def score_unit(unit: Unit, ready: Ready) -> Scored:
    """Return a unit's results from the store, or compute and store them."""

    key = key_of(unit, ready)

    def made() -> dict[str, Any]:
        encoding = ready.tokenised.get(unit)
        first = encoding.encoded.first
        result = kept_likelihoods(ready, key, encoding.plan, encoding.encoded.requests, first)
        logprob = [plain_numbers(result.logprob[a:b]) for a, b in pairwise(first)]
        notes = _notes(encoding, result)
        return {"task": unit.task.name, "subject": unit.subject, "logprob": logprob, "notes": notes}

    stored = ready.store.kept(key, made)
    return Scored(likelihood_answers(unit, stored), stored["notes"])


def kept_likelihoods(
    ready: Ready, key: str, plan: Plan, requests: Sequence[Request], first: Sequence[int] = ()
) -> Likelihoods:
    """Return the likelihoods of a unit's requests; passes that a killed process made and kept are not made again.

    `key`: the unit's; `first`: where each question's requests begin, and their end, to say how many are done. What is
    kept lies in the store, a line every KEEP_EVERY seconds: the sums as they stood, of the requests that had changed.
    """
    model = ready.loaded.model
    check_ids(ready.loaded, int(max(plan.token_N.max(initial=0), plan.pair_token_E.max(initial=0))))
    state, part, told = Partial.none(len(requests)), 0, 0
    how = [key, model.device.type, len(plan.token_N), shares(plan, ready.sharing)]
    while (stored := ready.store.get(address(*how, "part", part))) is not None:
        state.logprob[stored["which"]] = [np.nan if v is None else v for v in stored["logprob"]]
        state.greedy[stored["which"]], state.passes, part = stored["greedy"], stored["passes"], part + 1
    saved, since = state.logprob.copy(), time.monotonic()
    for _ in score_passes(model, plan, requests, ready.sharing, state):
        if len(first) > 1:
            done = int(np.logical_and.reduceat(state.done, np.array(first[:-1])).sum())
            ready.advance(done - told)
            told = done
        if time.monotonic() - since > KEEP_EVERY:
            which = np.flatnonzero(state.logprob != saved)
            ready.store.put(address(*how, "part", part), {
                "of": key, "which": which, "logprob": plain_numbers(state.logprob[which]),
                "greedy": state.greedy[which], "passes": state.passes,
            })  # fmt: skip
            saved, since, part = state.logprob.copy(), time.monotonic(), part + 1
    shared = shares(plan, ready.sharing)
    tokens = plan.forwarded_tokens if shared else plan.plain_tokens
    return Likelihoods(state.logprob, state.greedy, tokens, shared)


def check_ids(loaded: Loaded, highest: int) -> None:
    """Raise InputError where a prompt has a token (the highest of its ids) that the model has no row for."""
    embeddings: Any = loaded.model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if highest >= rows:
        raise InputError(
            f"{loaded.folder}: its tokenizer gives the id {highest}, its model has {rows} rows of embeddings. "
            "Fix: the model's own tokenizer (--tokenizer)."
        )


def plain_numbers(values: NDArray[np.float64]) -> list[float | None]:
    """Return numbers for JSON, which knows no NaN: null there."""
    return [None if math.isnan(value) else float(value) for value in values]


def _notes(encoding: Encoding, result: Likelihoods) -> dict[str, Any]:
    encoded = encoding.encoded
    return {
        "forwarded_tokens": result.forwarded_tokens, "plain_tokens": encoding.plan.plain_tokens,
        "shared": result.shared, "shots": [len(p.shots) for p in encoded.prompts[:1]],
        "truncated": encoded.truncated, "shots_dropped": encoded.shots_dropped, "merged": encoded.merged,
        "nan": int(np.isnan(result.logprob).any()), "letter_tokens": encoded.letter_tokens,
        "edge_ids": encoded.edge_ids,
    }  # fmt: skip


def likelihood_answers(unit: Unit, stored: dict[str, Any]) -> pl.DataFrame:
    """Return the answers of a likelihood unit: ANSWER_COLUMNS and options, gold_probability, gold_bits_per_byte."""
    options = [len(p.item.options) for p in unit.prompts]
    width = max(4, *options)
    logprob_QK = np.full((len(options), width), np.nan)
    for i, row in enumerate(stored["logprob"]):
        logprob_QK[i, : len(row)] = [np.nan if v is None else v for v in row]
    present_QK = np.arange(width)[None, :] < np.array(options)[:, None]
    compared_QK = np.where(present_QK, logprob_QK, -np.inf)
    size_QK = _bytes(unit, width)
    gold = labels(unit)
    index = [LETTERS.index(letter) if letter else -1 for letter in gold]
    letter_columns = {f"logprob_{LETTERS[k]}": logprob_QK[:, k] for k in range(width)}
    return pl.DataFrame(
        {
            "task": unit.task.name, "subject": unit.subject, "item": [p.item.item for p in unit.prompts], "label": gold,
            "prediction": predict(compared_QK, size_QK if unit.preset.cloze else None),
            **letter_columns, "raw": [""] * len(gold), "options": options,
            "gold_probability": gold_probability(compared_QK, index),
            "gold_bits_per_byte": _gold_bits(logprob_QK, size_QK, index),
        }
    )  # fmt: skip


def _bytes(unit: Unit, width: int) -> NDArray[np.float64]:
    size_QK = np.ones((len(unit.prompts), width))
    for i, prompt in enumerate(unit.prompts):
        # blanks at the end of the prompt are scored with the continuation (encode.py)
        moved = 0 if prompt.chat else len(prompt.question) - len(prompt.question.rstrip())
        size_QK[i, : len(prompt.continuations)] = [max(1, moved + len(c.encode())) for c in prompt.continuations]
    return size_QK


def _gold_bits(
    logprob_QK: NDArray[np.float64], size_QK: NDArray[np.float64], gold: Sequence[int]
) -> NDArray[np.float64]:
    rows, column = np.arange(len(gold)), np.maximum(np.array(gold), 0)
    bits: NDArray[np.float64] = -logprob_QK[rows, column] / math.log(2) / size_QK[rows, column]
    bits[np.array(gold) < 0] = np.nan
    return bits


def write_results(
    folder: Path, units: Sequence[Unit], scored: Sequence[Scored], about: dict[str, Any]
) -> dict[str, Any]:
    """Write answers.parquet, prompts.parquet, submission.json (where there is no key), scores.json last.

    Returns what scores.json holds, with the tasks that were there (folder.py). `about`: model_fingerprint, preset,
    shots and whatever else belongs to the whole.
    """
    frame = pl.concat([s.answers for s in scored], how="diagonal")
    tasks = {}
    for task in {id(u.task): u.task for u in units}.values():
        members = [s for u, s in zip(units, scored, strict=True) if u.task is task]
        answers = frame.filter(pl.col("task") == task.name)
        tasks[task.name] = summarise(answers, task.benchmark, task.published) | {
            "split": task.split, "missing_subjects": task.missing, "limit": task.limit,
            "of": task.whole or len(answers), "data_sha256": task.data_sha256,
            "counts": _total([s.notes for s in members]),
        }  # fmt: skip
        tasks[task.name]["missing"] = tasks[task.name]["counts"].get("missing", 0)
        if not task.published:
            atomic_write(folder / f"submission-{task.name.replace('/', '_')}.json", submission(answers))
    extra = [c for c in frame.columns if c.startswith("logprob_") and c not in ANSWER_COLUMNS]
    tables = {
        "answers.parquet": frame.select(*ANSWER_COLUMNS[:-1], *extra, "raw"),
        "prompts.parquet": prompt_frame(units),
    }
    if "rule" in frame.columns:
        tables["generations.parquet"] = frame.select("task", "subject", "item", "outcome", "rule", "order")
    return write_folder(folder, {"tasks": tasks, **about}, tables)


def _total(notes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    counted = ("forwarded_tokens", "plain_tokens", "truncated", "shots_dropped", "merged", "nan")
    total: dict[str, Any] = {name: sum(n.get(name, 0) for n in notes) for name in counted}
    first = notes[0] if notes else {}
    if any("outcomes" in n for n in notes):
        for name in ("outcomes", "rules", "order"):
            total[name] = dict(sum((Counter(n.get(name, {})) for n in notes), Counter()))
        total["order_followed"] = sum(n.get("order_followed", 0) for n in notes)
        total["missing"] = sum(n.get("missing", 0) for n in notes)
        total["served"] = first.get("served")
    return total | {
        "shared": all(n.get("shared", True) for n in notes),
        "letter_tokens": first.get("letter_tokens"),
        "edge_ids": first.get("edge_ids"),
    }


def prompt_frame(units: Sequence[Unit]) -> pl.DataFrame:
    """Return the prompts as built (chat: turns as JSON), for the report: task, subject, item, prompt."""
    rows = [
        {
            "task": u.task.name, "subject": u.subject, "item": p.item.item,
            "prompt": orjson.dumps(p.messages()).decode() if p.chat else p.text(),
        }
        for u in units
        for p in u.prompts
    ]  # fmt: skip
    return pl.DataFrame(rows, schema={"task": pl.String, "subject": pl.String, "item": pl.String, "prompt": pl.String})


def submission(answers: pl.DataFrame) -> bytes:
    """Return C-Eval's submission file: subject -> question number -> letter. An unreadable answer stays empty."""
    table: dict[str, dict[str, str]] = {}
    for subject, item, prediction in answers.select("subject", "item", "prediction").iter_rows():
        table.setdefault(subject, {})[str(int(item.rpartition("/")[2]))] = prediction
    return orjson.dumps(table, option=orjson.OPT_INDENT_2)
