"""The kinds of bench/fuzz.py that need torch: model folders, templates, answers, scores, twins and what reads them."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import torch
from fuzz import Kind, damaged, each, json_values, table_values
from transformers import Qwen2Config, Qwen2ForCausalLM

from steel.ui.folder import metrics
from steel.ui.views import Site, page
from steel_data.engine import tell  # noqa: F401 - as the commands import it
from steel_data.files import sha256_of
from steel_eval.ask.tasks import load_task
from steel_eval.compare.check import check_scores
from steel_eval.compare.pair import Comparison, compare_arms
from steel_eval.compare.print import print_tests
from steel_eval.leak.rates.match import SHIPPED, load_calibrations, match, strength, words
from steel_eval.leak.rates.table import regime_from
from steel_eval.leak.twins import COMMITMENT, PRIVATE, make_twins, read_rephrasings, read_twins, write_twins
from steel_eval.models import Opening, check, find_checkpoints, load
from steel_eval.report.marks import Sources
from steel_eval.report.page import write_report
from steel_eval.score.answers import extract
from steel_eval.score.store import Store
from steel_eval.score.sweep import Settings, run_sweep
from steel_eval.trainers import planned_steps, trained_as
from steel_train.examples.encode import Encoder
from steel_train.examples.tokenizer import load_tokenizer, settle, train_tokenizer
from steel_train.loop.parent import identity_changes
from steel_train.say import RUN, read_json

TEXTS = [f"第{i}题的答案是{'ABCD'[i % 4]}，因为甲{i}和乙{i}。" for i in range(200)]
TEMPLATE = b"""{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}
{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking %}<think>{% endif %}{% endif %}
{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"""
ROW = {"messages": [{"role": "user", "content": "甲乙？"}, {"role": "assistant", "content": "甲。"}], "source": "a"}
RECORD = {
    "identity": {"train": {"epochs": 2, "lora": {"r": 8}, "max_steps": None}, "seed": 1, "mixture": {"rows": 9}},
    "base": {"name": "x/y", "fingerprint": "aa", "architecture": "bb"},
}  # fmt: skip
# What other trainers leave in a checkpoint, and what steel's own run tells.
TRAINED = {
    "trainer_state.json": b'{"global_step": 10, "max_steps": 20, "epoch": 0.5, "log_history": [{"loss": 2.0}]}',
    "args.json": b'{"model": "x/y", "dataset": ["a", "b"], "learning_rate": 1e-5, "num_train_epochs": 2, "seed": 1}',
    "training_args.yaml": b"model_name_or_path: x/y\ndataset: a,b\nlearning_rate: 5.0e-05\nnum_train_epochs: 2.0\n",
    "README.md": b"This model is a fine-tuned version of [x/y](https://huggingface.co/x/y) on the a, b and the c datasets.\n"
    b"- learning_rate: 5e-05\n- seed: 42\n- num_epochs: 2.0\n",
}
LINES = b"".join(
    b'{"step": %d, "loss": %d.5, "loss_by_source": {"a": 2.0}, "eval_loss": 3}\n' % (i, 9 - i) for i in range(9)
)
LONGEST = 1_000_000  # bytes of an answer: a model writes at most some ten thousand tokens
SAID = (
    "答案是C。", "我认为选A，因为B错误。", "The answer is D", "<think>maybe A</think>\nB", "**C**", "A. 甲\nB. 乙\n故选：B", "\\boxed{A}",
    "不选A，不选B，如果选C就错了，所以选D", "无法回答", "首先，(1)正确，(2)错误，因此选择 A、C",
)  # fmt: skip


def save(folder: Path, seed: int, tokenizer: Path) -> None:
    """Write a model of one layer with its tokenizer."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=400, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    for file in tokenizer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())


def long(text: bytes, rng: random.Random) -> bytes:
    """Return an answer that says a part again and again, with damaged bytes now and then."""
    held = damaged(text, rng)
    at, to = sorted(rng.sample(range(len(held) + 2), 2))
    return (held[:at] + held[at:to] * rng.choice((1, 2, 50, 2000)) + held[to:])[:LONGEST]


def good_models(folder: Path) -> dict[str, Kind]:
    """Write a run of two checkpoints, its scores and what else is read; return what reads a damaged copy of each."""
    data = folder / "data/cmmlu"
    for split in ("test", "dev"):
        (data / split).mkdir(parents=True)
        exam = "".join(f"{i},第{i}题{split}？,甲{i},乙,丙,丁,{'ABCD'[i % 4]}\n" for i in range(6))
        (data / split / "agronomy.csv").write_text(",Question,A,B,C,D,Answer\n" + exam, encoding="utf-8")
    train_tokenizer(TEXTS, 400, folder / "tokenizer")
    for step in (10, 20):
        save(folder / f"run/checkpoints/step-{step:06d}", step, folder / "tokenizer")
    model, out = folder / "run/checkpoints/step-000010", folder / "run/scores"
    (model / "steel.json").write_text('{"step": 10, "seed": 1, "mixture": {"content_sha256": "aa"}, "train": {}}')
    task = load_task("cmmlu", folder / "data")
    for _ in run_sweep(str(folder / "run"), Settings([task], ["lm-eval"], 1, out, out / "store.jsonl")):
        pass
    said = orjson.loads((out / "step-000010/scores.json").read_bytes())
    del said["files"]  # else a checksum finds every other byte of the tables
    (out / "step-000010/scores.json").write_bytes(orjson.dumps(said))
    shutil.copytree(folder / "run", folder / "again")
    (folder / "t.jinja").write_bytes(TEMPLATE)
    (folder / "run.json").write_bytes(orjson.dumps(RECORD))
    measured = orjson.loads(SHIPPED.read_bytes())[0]
    measured["rates"] = measured["rates"][:40]
    (folder / "rates.json").write_bytes(orjson.dumps([measured]))
    (folder / "answer.txt").touch()
    one = f"one={folder / 'run/scores/step-000010'}", f"two={folder / 'run/scores/step-000020'}"

    def opened(_: Path) -> None:
        each(lambda: check(find_checkpoints(str(model))[0][0].folder, Opening()), lambda: load(model))

    def template(path: Path) -> None:
        tokenizer = load_tokenizer(str(folder / "tokenizer"), "r.toml [train]")
        settle(tokenizer, str(path), folder / "r.toml")
        list(Encoder(tokenizer, 64).encode([ROW]))

    def scores(_: Path) -> None:
        site, query = Site(folder, "/x"), {"task": "cmmlu"}
        each(
            lambda: check_scores([out]), lambda: print_tests(compare_arms(one, Comparison([], "accuracy"))),
            lambda: write_report(list(one), folder / "report.html", sources=Sources(search=False)),
            lambda: page(site, "run", "run", {}), lambda: page(site, "questions", "run", query),
            lambda: page(site, "compare", "", {"a": "run", "b": "again"}),
        )  # fmt: skip

    def stored(path: Path) -> None:
        store = Store(path)
        store.get("nothing")
        store.compact()

    def answer(path: Path) -> None:
        extract(path.read_bytes().decode(errors="replace"), ("甲", "乙", "A", "x" * 40))

    def record(path: Path) -> None:
        identity_changes(read_json(path, RUN)["identity"], RECORD["identity"])

    def rates(path: Path) -> None:
        found = match(regime_from(measured["regime"]), "chat", load_calibrations([path]))
        words(found), strength(found)

    def reported(tests: Path | None = None, **sources: Any) -> None:
        looked = Sources(**sources, search=False)
        each(lambda: write_report(list(one[: 1 + bool(tests)]), folder / "report.html", tests, sources=looked))

    def twins(path: Path) -> None:
        if path.name == PRIVATE:  # whoever changes it on purpose commits to it
            (path.parent / COMMITMENT).write_bytes(orjson.dumps({"twins_sha256": sha256_of(path)}))
        read_twins(path.parent)

    def run_page(_: Path) -> None:
        metrics(folder / "run")
        page(Site(folder, "/x"), "run", "run", {})

    questions = [item for group in task.items.values() for item in group]
    for name in ("twins", "others"):
        write_twins(make_twins(questions, {}, 4, 4, 1), "cmmlu", folder / name)
    own = [{"item": q.item, "question": f"{q.question}？", "options": q.options, "answer": q.answer} for q in questions]
    (folder / "own.jsonl").write_bytes(b"\n".join(map(orjson.dumps, own)))
    shown = [{"kind": "a", "prompt": "甲？", "answer": "乙", "finished": True, "chat": True}]
    (out / "step-000010/showcase.json").write_bytes(orjson.dumps(shown))
    (folder / "compare.json").write_bytes(
        orjson.dumps([asdict(t) for t in compare_arms(one, Comparison([], "accuracy"))])
    )
    (folder / "leak/cmmlu").mkdir(parents=True)
    held = [{"item": q.item, "subject": q.subject, "control": False, "rows_in_mixture": i % 2, "training_rows": ["a:1"]}
            for i, q in enumerate(questions)]  # fmt: skip
    pl.DataFrame(held).write_parquet(folder / "leak/cmmlu/items.parquet")
    (folder / "run/metrics.jsonl").write_bytes(LINES)
    trained = {}
    for name, data in TRAINED.items():
        place = folder / "trained" / name / name
        place.parent.mkdir(parents=True)
        place.write_bytes(data)
        damage = json_values if name.endswith("json") else damaged
        trained[f"other trainers' {name}"] = Kind(
            place, lambda p: (orjson.dumps(trained_as(p.parent)), planned_steps(p.parent)), damage
        )

    model_files = {name: damaged if name.endswith("s") else json_values for name in names(model)}
    return {
        "model's " + name + ", by check, load": Kind(model / name, opened, damage)
        for name, damage in model_files.items()
    } | {
        "template, by settle, encode": Kind(folder / "t.jinja", template, damaged),
        "answers": Kind(folder / "answer.txt", answer, long, tuple(said.encode() for said in SAID)),
        "scores.json, by check, compare, report, ui": Kind(out / "step-000010/scores.json", scores, json_values),
        "answers.parquet, by check, compare, report, ui": Kind(
            out / "step-000010/answers.parquet", scores, table_values
        ),
        "prompts.parquet, by check, compare, report, ui": Kind(
            out / "step-000010/prompts.parquet", scores, table_values
        ),
        "run.json": Kind(folder / "run.json", record, json_values),
        "rates.json": Kind(folder / "rates.json", rates, json_values),
        "store": Kind(out / "store.jsonl", stored, damaged),
        "twins.json": Kind(folder / "twins" / PRIVATE, twins, json_values),
        "commitment.json of twins": Kind(folder / "others" / COMMITMENT, twins, json_values),
        "rephrasings": Kind(folder / "own.jsonl", lambda path: read_rephrasings(path, questions), damaged),
        "items.parquet of leak, by report": Kind(
            folder / "leak/cmmlu/items.parquet", lambda _: reported(leaks=[f"one={folder / 'leak'}"]), table_values
        ),
        "compare.json, by report": Kind(folder / "compare.json", reported, json_values),
        "showcase.json, by report": Kind(out / "step-000010/showcase.json", lambda _: reported(), json_values),
        "metrics.jsonl, by ui": Kind(folder / "run/metrics.jsonl", run_page, damaged),
        **trained,
    }


def names(model: Path) -> Iterator[str]:
    """Yield the files of a model folder that are read."""
    wanted = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "steel.json")
    found: dict[str, Any] = {file.name: file for file in sorted(model.iterdir())}
    yield from (name for name in found if name in wanted or name.endswith(".safetensors"))
