"""`score` on checkpoints: equal to lm-eval, complete, resumable, and clear about bad models."""

import contextlib
import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.steel_eval import oracle, toys

from steel_data.errors import InputError
from steel_eval.ask.encode import Tokenised, make_units
from steel_eval.ask.tasks import limited, load_task
from steel_eval.models import Opening, load
from steel_eval.score import generate, likelihood, results, sweep
from steel_eval.score.likelihood import score_requests
from steel_eval.score.results import ANSWER_COLUMNS, likelihood_answers
from steel_eval.score.sweep import Settings, run_sweep


def settings(data, out, tasks=("cmmlu", "ceval"), presets=("lm-eval",), shots=2, **more) -> Settings:
    return Settings([load_task(t, data) for t in tasks], presets, shots, out, out / "store.jsonl", **more)


def scores_of(place, chosen: Settings) -> dict:
    ((_, results),) = run_sweep(str(place), chosen)
    return results["lm-eval"]


def run_folder(tmp_path, steps=(10, 20, 30)):
    for i, step in enumerate(steps):
        toys.save(tmp_path / f"run/checkpoints/step-{step:06d}", seed=i)
    return tmp_path / "run"


@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize(("task", "subject", "file"), [("cmmlu", "agronomy", "cmmlu/cmmlu_agronomy.yaml"), ("ceval", "law", "ceval/ceval-valid_law.yaml")])  # fmt: skip
def test_the_answers_are_lm_evals(toy_data, toy_model, toy_tokenizer, task, subject, file, shots):
    ours = load_task(f"{task}/{subject}", toy_data)
    asked = oracle.instances(oracle.task(file, ours.items[subject], ours.examples[subject], shots, task == "cmmlu"))
    theirs = [value for value, _ in oracle.hflm(toy_model, toy_tokenizer).loglikelihood(asked, disable_tqdm=True)]
    unit = make_units(ours, "lm-eval", shots)[0]
    encoding = Tokenised(toy_tokenizer, 2048).get(unit)
    assert len(asked) == len(encoding.encoded.requests)
    mine = score_requests(toy_model, encoding.encoded.requests).logprob
    assert mine == pytest.approx(theirs, abs=1e-4)
    assert mine.reshape(-1, 4).argmax(1).tolist() == np.array(theirs).reshape(-1, 4).argmax(1).tolist()


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize(
    ("name", "pattern"), [("cmmlu", "cmmlu/cmmlu_{}.yaml"), ("ceval", "ceval/ceval-valid_{}.yaml")]
)
def test_the_answers_are_lm_evals_on_real_questions(shared_data, name, pattern, shots):
    """Two subjects of each benchmark; bench/score.py --equality does all of them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(shared_data / "tokenizer_minimind"))
    model = toys.model(len(tokenizer))
    task = load_task(name, shared_data)
    for subject in list(task.items)[:2]:
        asked = oracle.instances(
            oracle.task(pattern.format(subject), task.items[subject], task.examples[subject], shots, name == "cmmlu")
        )
        theirs = [v for v, _ in oracle.hflm(model, tokenizer, 16).loglikelihood(asked, disable_tqdm=True)]
        unit = next(u for u in make_units(task, "lm-eval", shots) if u.subject == subject)
        mine = score_requests(model, Tokenised(tokenizer, 2048).get(unit).encoded.requests).logprob
        assert np.abs(mine - theirs).max() < 1e-4
        assert mine.reshape(-1, 4).argmax(1).tolist() == np.array(theirs).reshape(-1, 4).argmax(1).tolist()


def test_files_are_as_the_contract_says(toy_checkpoint, toy_data, tmp_path):
    scores = scores_of(toy_checkpoint, settings(toy_data, tmp_path, ("cmmlu", "ceval", "ceval-test")))
    assert scores == json.loads((tmp_path / "scores.json").read_text())
    row = scores["tasks"]["cmmlu"]
    keys = {"accuracy", "stderr", "macro", "n", "invalid", "accuracy_on_valid", "expected_if_guessed", "gold_probability",
            "gold_bits_per_byte", "subjects", "groups"}  # fmt: skip
    assert keys <= set(row)
    assert {"model_fingerprint", "preset", "shots", "data_sha256"} <= set(scores)
    answers = pl.read_parquet(tmp_path / "answers.parquet")
    assert answers.columns == ANSWER_COLUMNS
    assert answers["prediction"].null_count() == 0
    mine = answers.filter(pl.col("task") == "cmmlu")
    assert (mine["prediction"] == mine["label"]).mean() == row["accuracy"]
    assert mine["item"][0] == "test/agronomy/00000"
    assert row["counts"]["forwarded_tokens"] < row["counts"]["plain_tokens"]


def test_ceval_test_without_a_key_gives_a_submission_and_no_score(toy_checkpoint, toy_data, tmp_path):
    keyed = scores_of(toy_checkpoint, settings(toy_data, tmp_path / "keyed", ("ceval-test",)))
    assert 0 <= keyed["tasks"]["ceval-test"]["accuracy"] <= 1 and not list((tmp_path / "keyed").glob("submission*"))
    data = shutil.copytree(toy_data, tmp_path / "data")
    toys.without_key(*(data / "ceval/test").glob("*.csv"))
    scores = scores_of(toy_checkpoint, settings(data, tmp_path, ("ceval-test",)))
    assert scores["tasks"]["ceval-test"]["accuracy"] is None
    sent = json.loads((tmp_path / "submission-ceval-test.json").read_text())
    assert set(sent) == {"law", "college_physics"}
    assert list(sent["law"]) == [str(i) for i in range(12)]
    assert set(sent["law"].values()) <= set("ABCD")
    assert (pl.read_parquet(tmp_path / "answers.parquet")["label"] == "").all()


def test_a_run_is_scored_step_by_step_with_weights_swapped_into_one_module(toy_data, tmp_path):
    run = run_folder(tmp_path)
    chosen = settings(toy_data, tmp_path / "out", ("cmmlu",))
    found = [(c.step, r["lm-eval"]) for c, r in run_sweep(str(run), chosen)]
    assert [step for step, _ in found] == [10, 20, 30]
    for step, scores in found:
        alone = scores_of(
            run / f"checkpoints/step-{step:06d}", settings(toy_data, tmp_path / f"alone{step}", ("cmmlu",))
        )
        assert alone["model_fingerprint"] == scores["model_fingerprint"]
        assert alone["tasks"] == scores["tasks"]
    assert [c["step"] for c in json.loads((tmp_path / "out/curve.json").read_text())] == [10, 20, 30]


def test_a_killed_sweep_resumes_where_it_was(toy_data, tmp_path, monkeypatch):
    run, chosen = run_folder(tmp_path), settings(toy_data, tmp_path / "out", ("cmmlu",))
    calls = []
    real = sweep.score_unit.__globals__["kept_likelihoods"]

    def counted(*args):
        calls.append(1)
        if len(calls) == 4:  # the second subject of the second checkpoint
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setitem(sweep.score_unit.__globals__, "kept_likelihoods", counted)
    with pytest.raises(KeyboardInterrupt):
        list(run_sweep(str(run), chosen))
    assert len(list(run_sweep(str(run), chosen))) == 3
    assert len(calls) == 3 + 1 + 3  # three done, one killed, three left


def test_a_checkpoint_overwritten_in_place_is_seen_as_new(toy_data, tmp_path):
    folder = toys.save(tmp_path / "model", seed=1)
    first = scores_of(folder, settings(toy_data, tmp_path / "out"))
    toys.save(folder, seed=2)
    second = scores_of(folder, settings(toy_data, tmp_path / "out"))
    assert first["model_fingerprint"] != second["model_fingerprint"]
    assert first["tasks"]["cmmlu"]["gold_probability"] != second["tasks"]["cmmlu"]["gold_probability"]


def test_changed_questions_and_settings_are_scored_anew(toy_checkpoint, tmp_path):
    data = toys.benchmarks(tmp_path / "data", n=6)
    first = scores_of(toy_checkpoint, settings(data, tmp_path / "out", ("cmmlu/agronomy",)))
    toys.write_csv(
        data / "cmmlu/test/agronomy.csv",
        ["", "Question", "A", "B", "C", "D", "Answer"],
        [toys.row(i + 70, "A") for i in range(6)],
    )
    second = scores_of(toy_checkpoint, settings(data, tmp_path / "out", ("cmmlu/agronomy",)))
    third = scores_of(toy_checkpoint, settings(data, tmp_path / "out", ("cmmlu/agronomy",), shots=0))
    values = {s["tasks"]["cmmlu/agronomy"]["gold_bits_per_byte"] for s in (first, second, third)}
    assert len(values) == 3
    assert first["data_sha256"] != second["data_sha256"] == third["data_sha256"]


def test_a_checkpoint_of_another_configuration_is_not_swapped_in(toy_data, tmp_path):
    """Equal shapes and weights, another rotary base: swapping weights alone would keep the old one."""
    run = tmp_path / "run"
    toys.save(run / "checkpoints/step-000001", seed=1)
    toys.save(run / "checkpoints/step-000002", seed=1)
    config = run / "checkpoints/step-000002/config.json"
    changed = json.loads(config.read_text())
    changed["rope_parameters"] = {**changed["rope_parameters"], "rope_theta": 50.0}
    config.write_text(json.dumps(changed))
    scores = [r["lm-eval"] for _, r in run_sweep(str(run), settings(toy_data, tmp_path / "out", ("cmmlu",)))]
    alone = scores_of(run / "checkpoints/step-000002", settings(toy_data, tmp_path / "alone", ("cmmlu",)))
    assert scores[0]["tasks"]["cmmlu"]["gold_bits_per_byte"] != scores[1]["tasks"]["cmmlu"]["gold_bits_per_byte"]
    assert scores[1]["tasks"] == alone["tasks"]


def test_a_lora_adapter_is_scored_without_merging(toy_data, tmp_path):
    base = toys.save(tmp_path / "base")
    torch.manual_seed(5)
    model = get_peft_model(
        load(base).model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    model.save_pretrained(str(tmp_path / "adapter"))
    adapted = scores_of(tmp_path / "adapter", settings(toy_data, tmp_path / "a"))
    merged = model.merge_and_unload()
    merged.save_pretrained(str(tmp_path / "merged"))
    toys.tokenizer().save_pretrained(str(tmp_path / "merged"))
    whole = scores_of(tmp_path / "merged", settings(toy_data, tmp_path / "m"))
    plain = scores_of(base, settings(toy_data, tmp_path / "b"))
    value = [s["tasks"]["cmmlu"]["gold_bits_per_byte"] for s in (adapted, whole, plain)]
    assert value[0] == pytest.approx(value[1], abs=1e-4)
    assert abs(value[0] - value[2]) > 1e-3
    assert adapted["sharing"] == "prefixes shared"


def test_a_checkpoint_still_being_written_is_not_read(toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "SETTLE", 600.0)  # however long a busy machine takes to look
    chosen = settings(toy_data, tmp_path / "out", ("cmmlu/agronomy",))
    toys.save(tmp_path / "run/checkpoint-1")
    assert list(run_sweep(str(tmp_path / "run"), chosen, watch=0.1)) == []  # just written, and nothing says it is whole
    (tmp_path / "run/checkpoint-1/steel.json").write_text("{}")
    assert len(list(run_sweep(str(tmp_path / "run"), chosen, watch=0.1))) == 1


def test_watch_scores_what_training_writes_meanwhile(toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "SETTLE", 0.0)
    chosen = settings(toy_data, tmp_path / "out", ("cmmlu/agronomy",))
    run = tmp_path / "run"
    seen = []
    toys.save(run / "checkpoints/step-000001", seed=1)
    for checkpoint, _ in run_sweep(str(run), chosen, watch=1.0):
        seen.append(checkpoint.step)
        if checkpoint.step < 3:
            toys.save(run / f"checkpoints/step-{checkpoint.step + 1:06d}", seed=checkpoint.step + 1)
    assert seen == [1, 2, 3]


def test_nan_is_reported_and_never_scored(toy_data, tmp_path):
    folder = toys.save(tmp_path / "model", tie_word_embeddings=False)
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"][:] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    row = scores_of(folder, settings(toy_data, tmp_path / "out"))["tasks"]["cmmlu"]
    assert (row["accuracy"], row["invalid"], row["n"]) == (0, 24, 24)
    assert row["counts"]["nan"] > 0


def test_a_truncated_weight_file_is_one_line(toy_data, tmp_path):
    folder = toys.save(tmp_path / "model")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="its weights cannot be read"):
        scores_of(folder, settings(toy_data, tmp_path / "out"))


def test_half_a_run_with_broken_weights_names_the_checkpoint(toy_data, tmp_path):
    run = run_folder(tmp_path, (1, 2))
    (run / "checkpoints/step-000002/model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(InputError, match="step-000002"):
        list(run_sweep(str(run), settings(toy_data, tmp_path / "out")))


def test_cloze_is_decided_per_byte(toy_data):
    unit = make_units(load_task("cmmlu/agronomy", toy_data), "cloze", 0)[0]
    options = unit.prompts[0].item.options
    sizes = [len(o.encode()) for o in options]
    # equal per byte but for C, which is better per byte and worse in sum
    row = [-1.0 * s for s in sizes]
    row[2] = -0.9 * sizes[2]
    frame = likelihood_answers(unit, {"logprob": [row] * len(unit.prompts)})
    assert frame["prediction"][0] == "C"
    assert min(range(4), key=lambda i: -row[i]) != 2


@pytest.mark.parametrize("preset", ["lm-eval", "steel"])
def test_a_killed_score_goes_on_in_the_middle_of_a_subject(toy_checkpoint, toy_data, tmp_path, monkeypatch, preset):
    monkeypatch.setattr(results, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(likelihood, "CPU_BUDGET", 64)
    monkeypatch.setattr(generate, "CPU_TOKENS", 1500)

    def asked(name):
        more = {"max_new_tokens": 8} if preset == "steel" else {}
        return settings(toy_data, tmp_path / name, ("cmmlu/agronomy",), (preset,), 0, **more)

    done: list[int] = []

    def killing(label, total, unit, before):
        def advance(n):
            done.append(n)
            if sum(done) >= 8:  # of twelve questions
                raise KeyboardInterrupt

        return contextlib.nullcontext(advance)

    work: list[int] = []
    module, name, at = (generate, "write", 0) if preset == "steel" else (likelihood, "_forward", 2)
    real = getattr(module, name)
    size = (lambda batch: len(batch.tokens_T)) if preset == "lm-eval" else len
    monkeypatch.setattr(module, name, lambda *a: work.append(size(a[at])) or real(*a))
    list(run_sweep(str(toy_checkpoint), asked("whole")))
    cost, work[:] = sum(work), []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sweep, "progress", killing)
        list(run_sweep(str(toy_checkpoint), asked("killed")))
    assert 8 <= sum(done) < 12 and not (tmp_path / "killed/scores.json").exists()
    first, work[:] = sum(work), []
    list(run_sweep(str(toy_checkpoint), asked("killed")))
    for name in ("answers.parquet", "scores.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert b'"of":' not in (tmp_path / "killed/store.jsonl").read_bytes()  # parts are taken out when all is done
    # what was asked is not asked again, but for the passes that hold the prefix which all questions share
    assert sum(work) + first == cost if preset == "steel" else sum(work) < 0.7 * cost


def test_a_part_of_the_questions_is_marked_and_kept_apart(toy_checkpoint, toy_data, tmp_path):
    task = load_task("cmmlu", toy_data)
    part = replace(settings(toy_data, tmp_path, ("cmmlu",)), tasks=[limited(task, 5)])
    row = scores_of(toy_checkpoint, part)["tasks"]["cmmlu"]
    assert (row["n"], row["limit"], row["of"]) == (10, 5, 24)
    whole = scores_of(toy_checkpoint, replace(part, tasks=[task]))["tasks"]["cmmlu"]  # through the same store
    assert (whole["n"], whole["limit"], whole["of"]) == (24, None, 24)
    assert row["data_sha256"] != whole["data_sha256"]  # so `compare` refuses the two


def test_an_adapter_takes_another_base_and_a_runs_tokenizer(toy_data, tmp_path):
    base = toys.save(tmp_path / "base")
    get_peft_model(load(base).model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
        str(tmp_path / "run/checkpoint-3")
    )
    (tmp_path / "base").rename(tmp_path / "moved")
    toys.tokenizer().save_pretrained(tmp_path / "run")
    for file in (tmp_path / "moved").glob("tokenizer*"):
        file.unlink()
    part = settings(toy_data, tmp_path / "out", ("cmmlu/agronomy",))
    with pytest.raises(InputError, match=r"its base model .* is not there"):
        list(run_sweep(str(tmp_path / "run"), part))
    opened = replace(part, opening=Opening(base=str(tmp_path / "moved")))
    ((_, found),) = run_sweep(str(tmp_path / "run"), opened)
    assert found["lm-eval"]["opened"] == {"base": str(tmp_path / "moved")}
    with pytest.raises(InputError, match="is a whole model"):
        load(tmp_path / "moved", how=Opening(base=str(tmp_path / "moved")))


def test_a_token_that_the_model_does_not_know_is_one_line(toy_data, tmp_path):
    folder = toys.save(tmp_path / "model")
    toys.model(300).save_pretrained(folder)
    for preset in ("lm-eval", "steel"):
        with pytest.raises(InputError, match=r"gives the id \d+, its model has 300 rows"):
            list(run_sweep(str(folder), settings(toy_data, tmp_path / preset, ("cmmlu",), (preset,))))
