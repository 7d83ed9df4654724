"""lm-eval with shared prefixes: its model class `steel`, its command line, and any of its tasks for `score`.

lm-eval 0.4.13 looks for models in its own package only; importing this module registers ours. Everything but the
likelihoods (generation, chat templates, batching over devices) is its Hugging Face class as it is.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from steel_data.benchmarks.items import LETTERS
from steel_data.engine import tell
from steel_data.errors import InputError, first_line, nearest
from steel_data.files import address, sha256_of, source_sha256
from steel_eval.ask.tasks import Foreign
from steel_eval.ask.trie import Request
from steel_eval.contamination.items import contamination_of
from steel_eval.models import Checkpoint, Loaded, load, scoring_dtype, training_of
from steel_eval.score.accounting import predict
from steel_eval.score.folder import read_scores, refuse_another, write_folder
from steel_eval.score.likelihood import Sharing, prefix_sharing, score_requests
from steel_eval.score.results import ANSWER_COLUMNS
from steel_eval.score.store import Store
from steel_eval.score.sweep import Settings
from steel_eval.tokenizer import tokenizer_fingerprint

# Metrics of lm-eval that say of one answer whether it is right, and the files that make a task.
_RIGHT = ("exact_match", "acc", "em", "exact", "pass@1")
_TASK_FILES = (".yaml", ".yml", ".py")
_TokenRequest = tuple[tuple[str, str], list[int], list[int]]


@register_model("steel")
class SteelLM(HFLM):
    """lm-eval's Hugging Face model, with each shared prefix of its likelihood requests computed once."""

    _sharing: Sharing | None = None
    forwarded_tokens = 0
    merged = 0  # contexts of which an answer begins inside their last token

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score (context, continuation) pairs as HFLM does, but for answers that share a token with their context.

        Of these HFLM would score nothing. As in `score`, all answers of such a context are scored from the longest
        prefix that they have in common.
        """
        asked: list[_TokenRequest] = []
        for context, group in groupby([request.args for request in requests], key=itemgetter(0)):
            pairs = [(context, continuation) for _, continuation in group]
            coded = [self._coded(*pair) for pair in pairs]
            wholes = [[*c, *k] for c, k in coded]
            if any(not k for _, k in coded):
                self.merged += 1
                start = max(1, min(_common(wholes), min(len(whole) - 1 for whole in wholes)))
                coded = [(whole[:start], whole[start:]) for whole in wholes]
            asked += [(pair, c, k) for pair, (c, k) in zip(pairs, coded, strict=True)]
        return self._loglikelihood_tokens(asked, disable_tqdm=disable_tqdm)

    def _coded(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return context and continuation in tokens; the second is empty where it begins inside the context's last."""
        if not context:
            ids = self.tok_encode(continuation, add_special_tokens=False)
            return ([self.prefix_token_id], ids) if ids[:1] != [self.prefix_token_id] else (ids[:1], ids[1:])
        bare = context.rstrip()
        whole = self.tok_encode(context + continuation)
        start = len(self.tok_encode(bare)) if bare else 1
        return whole[:start], whole[start:]

    def _loglikelihood_tokens(  # type: ignore[override]
        self, requests: Sequence[_TokenRequest], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Score (text pair, context ids, continuation ids); too long ones lose tokens at the left, as in HFLM."""
        if self.backend != "causal":
            raise InputError(
                f"--model steel: '{self.backend}' models are not handled. Fix: a causal model, or --model hf."
            )
        if self._sharing is None:
            self._sharing = prefix_sharing(self.model)
        result = score_requests(self.model, [self._request(c, k) for _, c, k in requests], self._sharing)
        self.forwarded_tokens += result.forwarded_tokens
        answers = [(float(v), bool(g)) for v, g in zip(result.logprob, result.greedy, strict=True)]
        for (text, _, _), answer in zip(requests, answers, strict=True):
            if text is not None:
                self.cache_hook.add_partial("loglikelihood", text, answer)
        return answers

    def _request(self, context: list[int], continuation: list[int]) -> Request:
        cut = max(0, len(context) + len(continuation) - (self.max_length + 1))
        return Request((context + continuation)[cut:], max(1, len(context) - cut))


def lm_eval_command(arguments: list[str]) -> None:
    """Run lm-eval's own command line with `steel` among its models."""
    from lm_eval.__main__ import cli_evaluate

    sys.argv = ["lm_eval", *arguments]
    cli_evaluate()


def score_foreign(checkpoint: Checkpoint, foreign: Foreign, how: Settings, folder: Path) -> dict[str, Any]:
    """Run lm-eval tasks on a checkpoint and add them to the folder's scores.json and answers.parquet.

    A finished task is kept in the store. Raises InputError for a task that lm-eval does not know or whose data is
    missing.
    """
    from lm_eval.tasks import TaskManager

    if foreign.include is not None and not foreign.include.is_dir():
        raise InputError(f"--include-path {foreign.include}: no such folder. Fix: the folder of the tasks' YAML.")
    manager = TaskManager(include_path=None if foreign.include is None else str(foreign.include))
    for name in foreign.tasks:
        if not manager.match_tasks([name]):
            raise InputError(
                f"--tasks {name}: neither data here nor an lm-eval task.{nearest(name, manager.all_tasks, False)}"
            )
    dtype = scoring_dtype(checkpoint.folder, how.device, how.dtype, how.opening.base)
    loaded = load(checkpoint.folder, how.device, dtype, how.opening)
    mine = {"model": checkpoint.name, "folder": checkpoint.folder.absolute().as_posix()}
    mine["model_fingerprint"] = loaded.fingerprint
    refuse_another(folder, mine)
    model = SteelLM(
        pretrained=loaded.model, tokenizer=loaded.tokenizer, device=how.device, max_length=loaded.max_length
    )
    schema = {c: pl.Float64 if c.startswith("logprob_") else pl.String for c in ANSWER_COLUMNS}
    store, frames = Store(how.store), [pl.DataFrame(schema=schema)]
    rows: dict[str, Any] = {}
    for name in foreign.tasks:
        key = _key(name, loaded, foreign, how, _data_sha256(name, manager))
        stored = store.kept(key, partial(_evaluated, model, name, foreign, how, manager))
        rows |= stored["scores"]
        frames += [pl.DataFrame(answers, infer_schema_length=None) for answers in stored["answers"] if answers]
        if stored["merged"]:
            tell(f"{name}: the answers of {stored['merged']:,} questions share a token with the question")
    about = {
        **mine, "step": checkpoint.step, "preset": "lm-eval", "shots": foreign.shots, "opened": how.opening.said(),
        "training": training_of(checkpoint.folder), "contamination": contamination_of(checkpoint.folder),
    }  # fmt: skip
    there = read_scores(folder) if (folder / "scores.json").is_file() else {}
    if there.get("model_fingerprint") != loaded.fingerprint:
        there = {}
    tables = {"answers.parquet": pl.concat(frames, how="diagonal_relaxed")}
    scores = write_folder(folder, {**about, **there, **mine, "tasks": rows}, tables)
    return scores | {"tasks": rows}


def _data_sha256(name: str, manager: Any) -> str:
    """Return a hash of a task's questions and examples. Raises InputError where they cannot be had."""
    digest = hashlib.sha256()
    try:
        for task in manager.load([name])["tasks"].values():
            for docs in (task.eval_docs, task.fewshot_docs() if task.has_training_docs() else None):
                for doc in docs or ():
                    digest.update(orjson.dumps(doc, default=str, option=orjson.OPT_NON_STR_KEYS))
    except (ConnectionError, FileNotFoundError, OSError) as error:
        raise InputError(
            f"--tasks {name}: its data cannot be had: {first_line(error)}. Fix: a network, or HF_HOME with the data."
        ) from error
    return digest.hexdigest()


def _key(name: str, loaded: Loaded, foreign: Foreign, how: Settings, data: str) -> str:
    """Return the store's key of a task: what lm-eval would ask, of whom, how, and by which code."""
    files = [] if foreign.include is None else sorted(p for p in foreign.include.rglob("*") if p.suffix in _TASK_FILES)
    return address({
        "weights": loaded.fingerprint, "tokenizer": tokenizer_fingerprint(loaded.tokenizer), "task": name,
        "shots": foreign.shots, "limit": foreign.limit, "dtype": str(loaded.model.dtype), "context": loaded.max_length,
        "max_new_tokens": how.max_new_tokens, "lm_eval": version("lm_eval"), "data": data,
        "own tasks": [[p.name, sha256_of(p)] for p in files], "code": source_sha256("steel_eval.harness"),
    })  # fmt: skip


def _evaluated(model: SteelLM, name: str, foreign: Foreign, how: Settings, manager: Any) -> dict[str, Any]:
    """Run one task (or group of tasks) and return it as the store keeps it."""
    import lm_eval

    before = model.merged
    writing = None if how.max_new_tokens is None else {"max_gen_toks": how.max_new_tokens}
    try:
        # bootstrap_iters = 0 would switch off the standard errors that have a formula, too
        results = lm_eval.simple_evaluate(
            model=model, tasks=[name], num_fewshot=foreign.shots, task_manager=manager, log_samples=True,
            bootstrap_iters=1000, limit=foreign.limit, gen_kwargs=writing,
        )  # fmt: skip
    except (ConnectionError, FileNotFoundError, OSError) as error:
        raise InputError(
            f"--tasks {name}: its data cannot be had: {first_line(error)}. Fix: a network, or HF_HOME with the data."
        ) from error
    assert results is not None  # only processes beside the first get nothing
    scores = {task: _scores(task, results) | {"limit": foreign.limit} for task in results["results"]}
    answers = [_answers(task, samples) for task, samples in results["samples"].items()]
    plain = orjson.loads(orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY, default=str))
    return {
        "scores": plain, "answers": answers, "samples": list(results["samples"]), "merged": model.merged - before,
    }  # fmt: skip


def _scores(name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's metrics as lm-eval names them, and the ones that all tasks have here (null where it has none)."""
    row = {k: v for k, v in results["results"][name].items() if isinstance(v, int | float) and not isinstance(v, bool)}
    first = next((k for k in row if k.split(",")[0] in ("acc", "exact_match") and "stderr" not in k), None)
    head, _, tail = (first or "").partition(",")
    n = results.get("n-samples", {}).get(name, {}).get("effective")
    return {
        "accuracy": row.get(first) if first else None, "stderr": row.get(f"{head}_stderr,{tail}"), "n": n,
        "macro": None, "invalid": None, "accuracy_on_valid": None, "expected_if_guessed": None,
        "gold_probability": None, "gold_bits_per_byte": None, "subjects": {}, "groups": {}, "metrics": row,
        "by": "lm-eval", "version": results.get("versions", {}).get(name),
    }  # fmt: skip


def _answers(name: str, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a task's answers as rows of answers.parquet: letters, or what was written where right or wrong is known.

    A written answer that is right stands as its label; so `prediction == label` says of every row whether it is right.
    Empty for tasks whose metrics say neither (perplexity, BLEU).
    """
    rows = []
    for sample in samples:
        found = _letter(sample) or _text(sample)
        if found is None:
            return []
        rows.append({"task": name, "subject": name, "item": f"test/{name}/{sample['doc_id']:05d}", **found})
    return rows


def _letter(sample: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the letters of a sample of a multiple-choice task; None for other kinds."""
    values, target = sample["filtered_resps"], sample["target"]
    choice = isinstance(values, list) and len(values) > 1 and all(isinstance(v, tuple | list) for v in values)
    if not choice or not str(target).isdigit() or len(values) > len(LETTERS):
        return None
    logprob_K = np.array([float(v[0]) for v in values])
    letters = {f"logprob_{LETTERS[k]}": float(v) for k, v in enumerate(logprob_K)}
    return {
        "label": LETTERS[int(target)], "prediction": predict(logprob_K[None])[0],
        **{f"logprob_{c}": None for c in "ABCD"}, **letters, "raw": "",
    }  # fmt: skip


def _text(sample: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a written answer, where a metric of the task says that it is right (1) or wrong (0); None elsewhere."""
    hit = next((sample[m] for m in _RIGHT if sample.get(m) in (0, 1)), None)
    written = sample["filtered_resps"]
    if hit is None or not written or not isinstance(written[0], str):
        return None
    label, said = str(sample["target"]), str(written[0])
    wrong = said if said != label else ""
    raw = next((str(r) for group in sample["resps"] for r in (group if isinstance(group, list) else [group])), "")
    return {
        "label": label, "prediction": label if hit else wrong, **{f"logprob_{c}": None for c in "ABCD"}, "raw": raw,
    }  # fmt: skip


def _common(rows: Sequence[Sequence[int]]) -> int:
    """Return the length of the longest common prefix."""
    columns = enumerate(zip(*rows, strict=False))
    return next((i for i, column in columns if len(set(column)) > 1), min(map(len, rows)))
