"""lm-eval with shared prefixes: its model class `steel`, its command line, and any of its tasks for `score`.

lm-eval 0.4.13 looks for models in its own package only; importing this module registers ours. Everything but the
likelihoods (generation, chat templates, batching over devices) is its Hugging Face class as it is.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from steel_data.benchmarks.items import LETTERS
from steel_data.errors import InputError, first_line, nearest
from steel_eval.ask.trie import Request
from steel_eval.contamination.items import contamination_of
from steel_eval.models import Checkpoint, load, training_of
from steel_eval.score.accounting import predict
from steel_eval.score.folder import read_scores, refuse_another, write_folder
from steel_eval.score.likelihood import Sharing, prefix_sharing, score_requests

_TokenRequest = tuple[tuple[str, str], list[int], list[int]]


@register_model("steel")
class SteelLM(HFLM):
    """lm-eval's Hugging Face model, with each shared prefix of its likelihood requests computed once."""

    _sharing: Sharing | None = None
    forwarded_tokens = 0

    def _loglikelihood_tokens(  # type: ignore[override]
        self, requests: Sequence[_TokenRequest], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Score (text pair, context ids, continuation ids); too long ones lose tokens at the left, as in HFLM."""
        if self.backend != "causal":
            raise InputError(
                f"--model steel: '{self.backend}' models are not handled. Right: a causal model, or --model hf."
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


def score_foreign(
    checkpoint: Checkpoint, tasks: Sequence[str], shots: int | None, folder: Path, device: str, dtype: str
) -> dict[str, Any]:
    """Run lm-eval tasks on a checkpoint and add them to the folder's scores.json and answers.parquet.

    `shots` None: each task's own number. Raises InputError for a task that lm-eval does not know or whose data is
    missing.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    for name in tasks:
        if not manager.match_tasks([name]):
            raise InputError(
                f"--tasks {name}: neither data here nor an lm-eval task.{nearest(name, manager.all_tasks, False)}"
            )
    loaded = load(checkpoint.folder, device, dtype)
    mine = {"model": checkpoint.name, "folder": checkpoint.folder.absolute().as_posix()}
    mine["model_fingerprint"] = loaded.fingerprint
    refuse_another(folder, mine)
    model = SteelLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, device=device)
    try:
        results = lm_eval.simple_evaluate(
            model=model, tasks=list(tasks), num_fewshot=shots, task_manager=manager, log_samples=True, bootstrap_iters=0
        )
    except (ConnectionError, FileNotFoundError, OSError) as error:
        raise InputError(f"--tasks {','.join(tasks)}: their data cannot be had: {first_line(error)}") from error
    about = {
        **mine, "step": checkpoint.step,
        "preset": "lm-eval", "shots": shots,
        "training": training_of(checkpoint.folder), "contamination": contamination_of(checkpoint.folder),
    }  # fmt: skip
    there = read_scores(folder) if (folder / "scores.json").is_file() else {}
    if there.get("model_fingerprint") != loaded.fingerprint:
        there = {}
    rows = {name: _scores(name, results) for name in results["results"]}
    frames = [f for name in results["samples"] if (f := _answers(name, results["samples"][name])) is not None]
    tables = {"answers.parquet": pl.concat(frames, how="diagonal_relaxed")} if frames else {}
    scores = write_folder(folder, {**about, **there, **mine, "tasks": rows}, tables)
    return scores | {"tasks": rows}


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


def _answers(name: str, samples: Sequence[Mapping[str, Any]]) -> pl.DataFrame | None:
    """Return the answers of a multiple-choice task as rows of answers.parquet; None for other kinds of task."""
    rows = []
    for sample in samples:
        values, target = sample["filtered_resps"], sample["target"]
        choice = isinstance(values, list) and len(values) > 1 and all(isinstance(v, tuple | list) for v in values)
        if not choice or not str(target).isdigit() or len(values) > len(LETTERS):
            return None
        logprob_K = np.array([float(v[0]) for v in values])
        letters = {f"logprob_{LETTERS[k]}": float(v) for k, v in enumerate(logprob_K)}
        rows.append(
            {
                "task": name, "subject": name, "item": f"test/{name}/{sample['doc_id']:05d}",
                "label": LETTERS[int(target)], "prediction": predict(logprob_K[None])[0],
                **{f"logprob_{c}": None for c in "ABCD"}, **letters, "raw": "",
            }
        )  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None) if rows else None
