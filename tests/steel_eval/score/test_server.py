"""A server that fails as servers do: what is asked again, what is missing, and which model it is."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pytest
from tests.steel_eval import toys

from steel_data.errors import InputError
from steel_eval.ask.tasks import load_task
from steel_eval.models import Checkpoint, checkpoint_fingerprint
from steel_eval.score import server as servers
from steel_eval.score.server import as_sent, ask_server, refuse_several, served
from steel_eval.score.sweep import Settings, run_sweep


class Toy(BaseHTTPRequestHandler):
    """Answers "答案：B", or as `server.plan` says: a list of faults, one a request."""

    def do_GET(self):
        self.reply(200, {"data": self.server.models})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, body, dict(self.headers)))
            fault = self.server.plan.pop(0) if self.server.plan else self.server.always
        if fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "500")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"te')
        elif fault == "half":
            self.reply(200, '{"choices": [{"te')
        elif fault == "gone":
            self.connection.close()
        elif isinstance(fault, int):
            self.reply(fault, {"error": "no"})
        elif fault == "null":
            self.reply(200, {"choices": [{"text": None, "message": {"content": None}, "finish_reason": "stop"}]})
        else:
            self.reply(
                200, {"choices": [{"text": "答案：B", "message": {"content": "答案：C"}, "finish_reason": "stop"}]}
            )

    def reply(self, status, value):
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(servers, "WAIT", 0.001)
    running = ThreadingHTTPServer(("127.0.0.1", 0), Toy)
    running.models, running.seen, running.plan, running.always = [{"id": "toy"}], [], [], ""
    running.lock = threading.Lock()
    running.url = f"http://127.0.0.1:{running.server_port}/v1"
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("fault", [429, 500, 503, "cut", "half", "gone", "null"])
def test_what_passes_is_tried_again(server, fault):
    server.plan = [fault, fault]
    assert ask_server(served(f"openai:{server.url}", *nobody()), ["x"], 4) == [("答案：B", True)]
    assert len(server.seen) == 3


def nobody():
    from pathlib import Path

    return Path("nowhere"), ""


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_what_no_attempt_mends_ends_it_in_one_line(server, status):
    server.always = status
    with pytest.raises(InputError, match=f"status {status}") as told:
        ask_server(served(f"openai:{server.url}", *nobody()), ["x"], 4)
    assert len(server.seen) == 1 and "\n" not in str(told.value)
    assert ("OPENAI_API_KEY" in str(told.value)) == (status == 401)


def test_a_dead_server_is_not_waited_for_question_by_question(server, capsys):
    server.always = 500
    assert ask_server(served(f"openai:{server.url}", *nobody()), ["x"] * 60, 4) == [None] * 60
    assert len(server.seen) < 60 * servers.ATTEMPTS / 2
    assert "60 of 60 answers never came" in capsys.readouterr().err


def test_the_key_comes_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    ask_server(served(f"openai-chat:{server.url}", *nobody()), [[{"role": "user", "content": "x"}]], 4)
    path, body, headers = server.seen[0]
    assert path.endswith("/chat/completions") and body["messages"][0]["content"] == "x"
    assert headers["Authorization"] == "Bearer secret-key"


def test_the_served_model_is_the_checkpoints(server, tmp_path, capsys):
    mine, other = toys.save(tmp_path / "mine"), toys.save(tmp_path / "other", seed=1)
    about = mine, checkpoint_fingerprint(mine)
    assert served(f"openai:{server.url}", *about).id == "toy" and "a name proves no weights" in capsys.readouterr().err
    server.models = [{"id": "a"}, {"id": "b"}]
    with pytest.raises(InputError, match=r"several models.*a, b"):
        served(f"openai:{server.url}/", *about)
    assert served(f"openai:{server.url}#b", *about).id == "b"
    with pytest.raises(InputError, match="serves no 'c'"):
        served(f"openai:{server.url}#c", *about)
    server.models = [{"id": "x"}, {"id": "org/mine"}]
    assert served(f"openai:{server.url}//", *about).id == "org/mine"
    server.models = [{"id": "served", "root": str(other)}]
    with pytest.raises(InputError, match="other weights"):
        served(f"openai:{server.url}#served", *about)
    server.models = []
    with pytest.raises(InputError, match="lists no model"):
        served(f"openai:{server.url}///", *about)


def test_a_run_is_refused():
    several = [Checkpoint(None, f"step-{i}", i) for i in (1, 2)]
    with pytest.raises(InputError, match="one model, and this is a run"):
        refuse_several("openai:http://x", several)
    with pytest.raises(InputError, match="this is a run"):
        refuse_several("openai-chat:http://x", several[:1], watching=True)
    refuse_several("openai:http://x", several[:1])
    refuse_several("hf", several)


def test_the_first_token_is_not_sent_twice(toy_tokenizer):
    """A server's tokenizer adds the token that begins a text: what goes there is what it makes the same ids of."""
    from tokenizers.processors import TemplateProcessing

    adding = toys.tokenizer()
    adding.bos_token = "<|endoftext|>"
    first = adding.bos_token_id
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", first)]
    )
    plain = toy_tokenizer("水稻", add_special_tokens=False)["input_ids"]
    assert as_sent(plain, toy_tokenizer) == "水稻"
    assert as_sent([first, *plain], adding) == "水稻"  # the server adds it
    assert as_sent(plain, adding) == plain  # it would add what is not there: ids


def test_a_missing_answer_is_counted_and_asked_again(server, toy_checkpoint, toy_data, tmp_path):
    task = load_task("cmmlu/agronomy", toy_data)
    chosen = Settings([task], ["steel"], 0, tmp_path, tmp_path / "store.jsonl", generator=f"openai:{server.url}")
    server.plan, server.always = ["", "", "", "", ""], 500
    ((_, results),) = run_sweep(str(toy_checkpoint), chosen)
    row = results["steel"]["tasks"]["cmmlu/agronomy"]
    answered = row["counts"]["outcomes"]["letter"]
    assert (
        0 < answered <= 5 and row["missing"] == row["counts"]["outcomes"]["missing"] == row["invalid"] == 12 - answered
    )
    frame = pl.read_parquet(tmp_path / "answers.parquet")
    assert frame["raw"].null_count() == 0 and not frame["raw"].str.contains("None").any()
    assert row["counts"]["served"] == "toy"
    server.always, asked = "", len(server.seen)
    ((_, results),) = run_sweep(str(toy_checkpoint), chosen)
    assert results["steel"]["tasks"]["cmmlu/agronomy"]["missing"] == 0
    assert len(server.seen) - asked == 12 - answered  # only these
    ((_, results),) = run_sweep(str(toy_checkpoint), chosen)
    assert len(server.seen) - asked == 12 - answered


def test_the_chat_endpoint_gets_turns(server, toy_checkpoint, toy_data, tmp_path):
    task = load_task("cmmlu/agronomy", toy_data)
    chosen = Settings([task], ["steel"], 0, tmp_path, tmp_path / "s.jsonl", generator=f"openai-chat:{server.url}")
    ((_, results),) = run_sweep(str(toy_checkpoint), chosen)
    assert results["steel"]["tasks"]["cmmlu/agronomy"]["letters"]["predicted"] == {"C": 12}
    assert all(body["messages"][-1]["role"] == "user" for _, body, _ in server.seen)
    plain = Settings([task], ["cmmlu-cot"], 0, tmp_path, tmp_path / "t.jsonl", generator=f"openai-chat:{server.url}")
    with pytest.raises(InputError, match="has no turns"):
        list(run_sweep(str(toy_checkpoint), plain))
