"""`steel push`: to a hub on this machine, which keeps what the library sends it."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.steel_data.toys import chat_rows, write_jsonl
from tests.steel_eval import toys

from steel.push import packed, push
from steel_data.build import build
from steel_data.errors import InputError
from steel_data.recipe.load import load


class Hub(ThreadingHTTPServer):
    """What huggingface_hub needs for a commit: create, preupload, commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, Any]] = []
        self.status = 200


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        lines = self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
        body = [json.loads(line) for line in lines]
        self.server.asked.append((self.path, body))
        host = f"http://{self.headers['Host']}"
        answer: dict[str, Any] = {"url": f"{host}/me/it", "commitUrl": f"{host}/me/it/commit/1", "commitOid": "1"}
        if "/preupload/" in self.path:
            files = body[0]["files"]
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    rows = chat_rows(12)
    write_jsonl(tmp_path / "data/chat.jsonl", [*rows, rows[0]])
    (tmp_path / "r.toml").write_text('filters = [{ use = "dedup" }]\n[source.chat]\npath = "chat.jsonl"\n')
    recipe = load(tmp_path / "r.toml")
    return build(recipe, data_root=tmp_path / "data", out=tmp_path / "out", cache=tmp_path / "cache").folder


def sent(hub: Hub) -> dict[str, bytes]:
    """Return the files of the one commit."""
    (lines,) = [body for path, body in hub.asked if "/commit/" in path]
    return {
        line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
    }


def test_a_mixture_arrives_whole_with_a_card_that_the_hub_can_read(mixture: Path, hub: Hub) -> None:
    assert "/commit/1" in push(str(mixture), "me/mine", yes=True)
    files = sent(hub)
    assert files["train-00000.parquet"] == (mixture / "train-00000.parquet").read_bytes()
    assert "manifest.json" in files and not any(name.startswith("dropped") for name in files)
    _, head, card = files["README.md"].decode().split("---\n", 2)
    assert 'path":"train-*.parquet"' in head and 'language: ["zh"]' in head and 'size_categories: ["n<1K"]' in head
    assert card.lstrip().startswith("# Mixture")
    created = next(body[0] for path, body in hub.asked if path.endswith("/repos/create"))
    assert created["type"] == "dataset"
    assert created.get("private") is True or created.get("visibility") == "private"  # older and newer clients


def test_a_damaged_mixture_stays_at_home(mixture: Path, hub: Hub) -> None:
    (mixture / "train-00000.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match="its bytes are not those"):
        push(str(mixture), "me/mine", yes=True)
    assert hub.asked == []


def test_a_model_goes_without_what_only_training_needs_and_without_paths(tmp_path: Path, hub: Hub) -> None:
    folder = toys.save(tmp_path / "run/checkpoints/step-000010")
    (folder / "optimizer.pt").write_bytes(b"x")
    said = {"step": 10, "epoch": 1.0, "seed": 1, "mixture": {"name": "m", "content_sha256": "ab"},
            "train": {"model": "/home/me/secret/qwen", "method": "full"}, "contamination": {"cmmlu": {"3": 40}},
            "base": {"name": "Qwen/Qwen2.5-0.5B"}}  # fmt: skip
    (folder / "steel.json").write_text(json.dumps(said))
    push(str(tmp_path / "run"), "me/model", yes=True)
    files = sent(hub)
    assert {"model.safetensors", "config.json", "tokenizer.json", "steel.json"} <= set(files)
    assert "optimizer.pt" not in files and not any(b"/home/me" in content for content in files.values())
    card = files["README.md"].decode()
    assert 'base_model: "Qwen/Qwen2.5-0.5B"' in card and "40 items x 3" in card and "test items" in card


def test_an_adapter_whose_base_lies_here_only_is_refused(tmp_path: Path) -> None:
    folder = toys.save(tmp_path / "adapter")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    with pytest.raises(InputError, match="export-model --to merged"):
        packed(str(folder), "me/model")


def test_what_the_hub_refuses_is_one_line(mixture: Path, hub: Hub) -> None:
    hub.status = 403
    with pytest.raises(InputError, match="the hub did not take it"):
        push(str(mixture), "me/mine", yes=True)


def test_nothing_goes_unasked(mixture: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="--yes"):
        push(str(mixture), "me/mine")
    assert "private" in capsys.readouterr().out and hub.asked == []


@pytest.mark.parametrize(
    ("repo", "kind"), [("mine", "huggingface"), ("a/b/c", "huggingface"), ("me/mine", "hugginface")]
)
def test_a_wrong_name_is_refused_before_anything_is_read(repo: str, kind: str) -> None:
    with pytest.raises(InputError, match=r"OWNER/NAME|Did you mean 'huggingface'"):
        push("nothing", repo, kind)


def test_modelscope_without_its_library_is_named(mixture: Path) -> None:
    try:
        import modelscope  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="pip install"):
            push(str(mixture), "me/mine", "modelscope", yes=True)
