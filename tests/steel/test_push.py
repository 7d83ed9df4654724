"""`steel push`: to a hub on this machine, which keeps what the library sends it."""

import base64
import importlib.util
import json
import re
import sys
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
from steel_data.page.nav import STUDY, publish
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
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match=r"adapter_config\.json: .*Fix: "):
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


def test_modelscope_without_its_library_is_named(mixture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("modelscope", "modelscope.hub", "modelscope.hub.api"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        InputError, match=r"^ModelScope needs its library. Fix: pip install 'steel-lab\[modelscope\]'.$"
    ):
        push(str(mixture), "me/mine", "modelscope", yes=True)


class ModelScope(ThreadingHTTPServer):
    """What modelscope's own library needs for an upload: whether a repository is there, create, large files, commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ModelScopeHandler)
        self.made: list[str] = []  # what was asked for when the repository was made
        self.there = False
        self.blobs: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.status = 200

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class ModelScopeHandler(BaseHTTPRequestHandler):
    server: ModelScope

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data: dict[str, Any] = {"Name": "mine", "Path": "me", "Id": 1, "oid": "1"}
        status = self.server.status
        if self.command == "GET" and not self.server.there:
            status = 404
        elif self.path.startswith("/put/"):
            self.server.blobs[self.path.removeprefix("/put/")] = body
        elif self.path.endswith("/lfs/objects/batch"):
            there = json.loads(body)["objects"]
            data = {
                "objects": [
                    {**o, "actions": {"upload": {"href": f"{self.server.address}/put/{o['oid']}"}}} for o in there
                ]
            }
        elif "/commit/" in self.path:
            for action in json.loads(body)["actions"]:
                large = action["type"] == "lfs"
                content = self.server.blobs[action["sha256"]] if large else base64.b64decode(action["content"])
                self.server.files[action["path"]] = content
        elif self.path.rstrip("/") in ("/api/v1/datasets", "/api/v1/models") and not self.server.there:
            self.server.made.append(body.decode(errors="replace"))
            self.server.there = status == 200
        told = {"Code": status, "Success": status == 200, "Message": "not you", "Data": data, "RequestId": "1"}
        said = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelScope]:
    """One server for all tests: the library reads its address once, when it is imported."""
    if importlib.util.find_spec("modelscope") is None:
        pytest.skip("no modelscope here: pip install 'steel-lab[modelscope]'")
    server, home = ModelScope(), str(tmp_path_factory.mktemp("modelscope"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELSCOPE_DOMAIN", server.address.removeprefix("http://"))
        patch.setenv("MODELSCOPE_ENDPOINT", server.address)
        patch.setenv("MODELSCOPE_API_TOKEN", "ms-test")
        patch.setenv("MODELSCOPE_CACHE", home)
        patch.setenv("MODELSCOPE_CREDENTIALS_PATH", home)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    server.server_close()


@pytest.fixture
def modelscope(served: ModelScope) -> ModelScope:
    served.status, served.there = 200, False
    for kept in (served.made, served.blobs, served.files):
        kept.clear()
    return served


def test_modelscope_gets_a_mixture_in_private(mixture: Path, modelscope: ModelScope) -> None:
    assert push(str(mixture), "me/mine", "modelscope", yes=True).endswith("/datasets/me/mine")
    assert {"train-00000.parquet", "manifest.json", "README.md", "card.html"} == set(modelscope.files)
    assert modelscope.files["train-00000.parquet"] == (mixture / "train-00000.parquet").read_bytes()
    (made,) = modelscope.made
    assert re.search(r'"?Visibility"?\s*[:\r\n]+\s*"?1\b', made), made  # 1: private, 5: public


def test_modelscope_gets_a_model(tmp_path: Path, modelscope: ModelScope) -> None:
    folder = toys.save(tmp_path / "run/checkpoints/step-000010")
    (folder / "steel.json").write_text(json.dumps({"step": 10, "train": {}}))
    assert push(str(tmp_path / "run"), "me/mine", "modelscope", public=True, yes=True).endswith("/models/me/mine")
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(modelscope.files)
    assert re.search(r'"?Visibility"?\s*[:\r\n]+\s*"?5\b', modelscope.made[0]), modelscope.made


def test_what_modelscope_refuses_is_one_line(mixture: Path, modelscope: ModelScope) -> None:
    modelscope.status = 403
    with pytest.raises(InputError, match=r"me/mine: the hub did not take it: .*Fix: modelscope login") as refused:
        push(str(mixture), "me/mine", "modelscope", yes=True)
    assert "\n" not in str(refused.value)


def test_a_card_goes_without_its_links(mixture: Path, hub: Hub) -> None:
    text = (mixture / "card.html").read_text(encoding="utf-8")
    (mixture.parent / "study.html").write_text(text, encoding="utf-8")
    publish(mixture.parent / "study.html", text, STUDY, {"card": mixture / "card.html"})
    assert "../study.html" in (mixture / "card.html").read_text(encoding="utf-8")
    assert packed(str(mixture), "me/mine").contents["card.html"] == text.encode()
