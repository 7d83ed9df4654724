"""Generated answers: padding changes nothing, every generator gets the same text, outcomes and order are counted."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pytest

from steel_data.errors import InputError
from steel_eval.ask.encode import context_text, make_units
from steel_eval.ask.tasks import load_task
from steel_eval.models import load
from steel_eval.score import generate
from steel_eval.score.generate import fitting_prompts, generated_answers, write
from steel_eval.score.sweep import Settings, run_sweep


@pytest.fixture(scope="module")
def loaded(toy_checkpoint):
    return load(toy_checkpoint)


@pytest.fixture(scope="module")
def unit(toy_data):
    return make_units(load_task("cmmlu/agronomy", toy_data), "steel", 0)[0]


def test_left_padding_does_not_change_what_is_written(loaded, unit):
    prompts, cut = fitting_prompts(unit, loaded)
    assert cut == 0
    assert len({len(p) for p in prompts}) > 1  # of different lengths, so padding is there
    together = write(prompts, loaded, 12, "hf")
    alone = write(prompts, loaded, 12, "hf", padding=False)
    assert together == alone
    assert len({text for text, _ in together}) > 1


def test_batches_hold_each_prompt_once_within_the_budget():
    prompts = [[0] * n for n in (5, 30, 1, 12, 7, 30)]
    batches = generate._batches(prompts, 10, 80)
    assert sorted(i for b in batches for i in b) == list(range(6))
    assert all(len(b) * (max(len(prompts[i]) for i in b) + 10) <= 80 for b in batches)
    assert all(len(b) == 1 for b in generate._batches(prompts, 10, 0))


@pytest.fixture
def server(loaded):
    """A small OpenAI-like server that lets the same model answer, and remembers what it was sent."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._reply({"data": [{"id": "toy"}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(body)
            ids = loaded.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]
            [(text, finished)] = write([ids], loaded, body["max_tokens"], "hf")
            self._reply({"choices": [{"text": text, "finish_reason": "stop" if finished else "length"}]})

        def _reply(self, value):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        def log_message(self, *arguments):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}/v1", seen
    running.shutdown()
    running.server_close()


def test_a_server_gets_the_same_prompts_and_gives_the_same_answers(loaded, unit, server):
    address, seen = server
    prompts, _ = fitting_prompts(unit, loaded)
    assert write(prompts, loaded, 8, f"openai:{address}") == write(prompts, loaded, 8, "hf", padding=False)
    assert {s["prompt"] for s in seen} == {context_text(loaded.tokenizer, p) for p in unit.prompts}
    assert {(s["model"], s["temperature"], s["max_tokens"]) for s in seen} == {("toy", 0, 8)}


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        ("openai:http://127.0.0.1:9/v1", "does not answer"),
        ("openai:nowhere", "no address"),
        ("gpt", "Fix: hf, vllm"),
        ("vllm", "vllm is not installed"),
    ],
)
def test_a_generator_that_cannot_be_had_is_named(loaded, generator, message):
    if generator == "vllm" and __import__("importlib.util").util.find_spec("vllm"):
        pytest.skip("vllm is installed")
    with pytest.raises(InputError, match=message):
        write([[1, 2]], loaded, 2, generator)


def test_outcomes_rules_and_order_are_counted(unit):
    texts = [
        "C。因为这一项的说法与题干的要求完全相符。",
        "这一项的说法与题干的要求完全相符，故选A。",
        "",
        "对不起，我无法回答。",
        "A和B都对",
        "首先",
    ]
    texts += ["答案：D"] * (len(unit.prompts) - len(texts))
    finished = [True] * 5 + [False] + [True] * (len(texts) - 6)
    frame, counts = generated_answers(unit, {"raw": texts, "finished": finished})
    assert frame["prediction"].to_list()[:6] == ["C", "A", "", "", "", ""]
    assert counts["outcomes"] == {"letter": 8, "empty": 1, "refused": 1, "ambiguous": 1, "truncated": 1}
    assert counts["order"] == {"answer-first": 1, "explain-first": 1, "answer-only": 6}
    assert counts["order_followed"] == 7  # `steel` asks for the answer first; an answer alone follows that
    assert frame["raw"].to_list() == texts


def test_a_text_without_turns_ends_before_the_next_question(toy_data):
    plain = make_units(load_task("ceval/law", toy_data), "ceval-cot", 1)[0]
    raw = " 解析。\n所以答案是B。\n\n下一题\nA. 甲\n答案：C"
    frame, _ = generated_answers(plain, {"raw": [raw] * len(plain.prompts), "finished": [False] * len(plain.prompts)})
    assert set(frame["prediction"]) == {"B"}
    assert frame["raw"][0] == raw


def test_the_whole_way_through_score(toy_checkpoint, toy_data, tmp_path):
    task = load_task("cmmlu/agronomy", toy_data)
    chosen = Settings([task], ["steel", "steel-explain"], 0, tmp_path, tmp_path / "store.jsonl")
    ((_, results),) = run_sweep(str(toy_checkpoint), chosen)
    row = results["steel"]["tasks"]["cmmlu/agronomy"]
    assert row["n"] == 12
    assert row["gold_probability"] is None
    assert sum(row["counts"]["outcomes"].values()) == 12
    assert row["invalid"] == 12 - row["counts"]["outcomes"].get("letter", 0)
    assert pl.read_parquet(tmp_path / "steel/generations.parquet").columns == [
        "task",
        "subject",
        "item",
        "outcome",
        "rule",
        "order",
    ]
    assert pl.read_parquet(tmp_path / "steel/answers.parquet")["raw"].null_count() == 0


def test_an_answer_that_does_not_fit_the_context_is_refused(toy_data, toy_checkpoint):
    unit = make_units(load_task("cmmlu/agronomy", toy_data), "opencompass-cot", 0)[0]
    small = load(toy_checkpoint)
    small.max_length = 500
    with pytest.raises(InputError, match="do not fit the model's context of 500"):
        fitting_prompts(unit, small)
