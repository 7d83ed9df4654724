"""The Hugging Face library against a small local hub that speaks the routes it uses; nothing is mocked."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from steel_data.errors import InputError
from steel_data.read import hub

COMMIT = "a" * 40
LARGE = b'{"a":1}\n' * 5000
FILES = {
    "README.md": b"# data",
    "7M/train-00000-of-00002.jsonl": LARGE,
    "7M/train-00001-of-00002.jsonl": b'{"a":2}\n',
    "7M/test.jsonl": b'{"a":3}\n',
    "Gen/a b.jsonl": b'{"a":4}\n',
}


class Hub(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    short: set[str]  # arrive cut
    gets: list[str]

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/datasets/org/gated"):
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif path in ("/api/datasets/org/name", *(f"/api/datasets/org/name/revision/{r}" for r in ("main", COMMIT))):
            self._json({"id": "org/name", "sha": COMMIT, "siblings": []})
        elif path.startswith("/api/datasets/org/name/revision/"):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/datasets/org/name/tree/"):
            self._json([self._entry(name, data) for name, data in self.files.items()])
        elif path.startswith(f"/datasets/org/name/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/datasets/org/name/resolve/{COMMIT}/")
            if self.command == "GET":
                self.gets.append(name)
            entry = self._entry(name, self.files[name])
            etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
            data = self.files[name].replace(b"1", b"9") if name in self.short else self.files[name]
            self._send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    @staticmethod
    def _entry(name: str, data: bytes) -> dict:
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict = {"type": "file", "path": name, "size": len(data), "oid": oid}
        if len(data) > 1000:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("LocalHub", (Hub,), {"files": dict(FILES), "short": set(), "gets": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        from huggingface_hub import constants

        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield handler
        running.shutdown()


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        (
            "hf://datasets/org/name/7M/*.jsonl",
            ["7M/test.jsonl", "7M/train-00000-of-00002.jsonl", "7M/train-00001-of-00002.jsonl"],
        ),
        ("hf://datasets/org/name@main/7M", ["7M/train-00000-of-00002.jsonl", "7M/train-00001-of-00002.jsonl"]),
        ("hf://datasets/org/name", ["7M/train-00000-of-00002.jsonl", "7M/train-00001-of-00002.jsonl"]),
        ("hf://datasets/org/name/7M/test.jsonl", ["7M/test.jsonl"]),
        ("hf://datasets/org/name/Gen/**", ["Gen/a b.jsonl"]),
    ],
)
def test_locate_pins_the_commit_and_downloads_what_is_meant(server: type[Hub], uri: str, names: list[str]) -> None:
    found = hub.locate(uri)
    assert found.revision == COMMIT
    assert [file.relative_to(found.root).as_posix() for file in found.files] == names
    assert [file.read_bytes() for file in found.files] == [FILES[name] for name in names]
    assert sorted(server.gets) == names


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf://datasets/org/name/8M/*.jsonl", "no such data file.* The data set has: .*7M/test.jsonl"),
        ("hf://datasets/org/name/7M/tset.jsonl", "Did you mean '7M/test.jsonl'"),
        ("hf://datasets/org/name@v9/7M", "no revision 'v9'"),
        ("hf://datasets/org/nothing", "no data set 'org/nothing'"),
        ("hf://datasets/org/gated/x", "gated. Fix: accept its terms at https://huggingface.co/datasets/org/gated"),
        ("hf://org/name", "not a data set. Fix: hf://datasets/ORG/NAME/path"),
        ("hf://datasets/name", "not a data set"),
    ],
)
def test_what_cannot_be_located_is_named(server: type[Hub], uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        hub.locate(uri)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(uri)


def test_without_network_a_complete_cache_is_enough(server: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    before = hub.locate("hf://datasets/org/name/7M")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert hub.locate("hf://datasets/org/name/7M") == before
    with pytest.raises(InputError, match="cannot be reached"):
        hub.locate("hf://datasets/org/name/7M/*.jsonl")  # test.jsonl was never fetched: two of three files are not all
    with pytest.raises(InputError, match="cannot be reached"):
        hub.locate("hf://datasets/org/other/7M")


@pytest.mark.parametrize("offline", ["1", "0"])
def test_no_network_is_one_line_that_names_the_alternatives(tmp_path: Path, offline: str) -> None:
    code = (
        "from steel_data import errors; from steel_data.read import hub\n"
        "try: hub.locate('hf://datasets/a/b/c.jsonl')\n"
        "except errors.InputError as e: print(e)"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=900)
    assert done.stdout.count("\n") == 1, done.stderr
    for words in (
        "hf://datasets/a/b/c.jsonl: cannot be reached",
        "data root",
        "steel fetch",
        "HF_ENDPOINT",
    ):
        assert words in done.stdout


def test_modelscope_missing_names_the_command() -> None:
    try:
        import modelscope  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"pip install 'steel-lab\[modelscope\]'"):
            hub.locate("modelscope://datasets/org/name/7M")
    else:
        pytest.skip("modelscope is installed")


def test_fetch_puts_files_where_the_path_looks(server: type[Hub], tmp_path: Path) -> None:
    root = tmp_path / "root"
    done = hub.fetch("hf://datasets/org/name/7M", "infinity/7M/train-*.jsonl", root)
    names = ["infinity/7M/train-00000-of-00002.jsonl", "infinity/7M/train-00001-of-00002.jsonl"]
    assert [file.relative_to(root).as_posix() for file in done.files] == names
    assert (done.revision, done.downloaded, done.bytes) == (COMMIT, 2, len(LARGE) + 8)
    assert (root / names[0]).read_bytes() == LARGE
    assert sorted(path.name for path in root.iterdir()) == ["infinity"]


def test_fetch_again_downloads_only_what_is_not_whole(server: type[Hub], tmp_path: Path) -> None:
    hub.fetch("hf://datasets/org/name/7M", "x/*.jsonl", tmp_path)
    server.gets.clear()
    (tmp_path / "x/train-00000-of-00002.jsonl").write_bytes(LARGE.replace(b"1", b"8"))  # same size, other bytes
    (tmp_path / "x/test.jsonl").unlink()
    done = hub.fetch("hf://datasets/org/name/7M", "x/*.jsonl", tmp_path)
    assert sorted(server.gets) == ["7M/test.jsonl", "7M/train-00000-of-00002.jsonl"]
    assert (done.downloaded, len(done.files)) == (2, 3)
    assert (tmp_path / "x/train-00000-of-00002.jsonl").read_bytes() == LARGE
    assert hub.fetch("hf://datasets/org/name/7M", "x/*.jsonl", tmp_path).downloaded == 0


@pytest.mark.parametrize(
    ("origin", "pattern", "places"),
    [
        ("hf://datasets/org/name/Gen/a b.jsonl", "data/gen.jsonl", ["data/gen.jsonl"]),
        ("hf://datasets/org/name/7M", "seven/test.jsonl", ["seven/test.jsonl"]),
        ("hf://datasets/org/name/Gen", "gen", ["gen/a b.jsonl"]),
        (
            "hf://datasets/org/name",
            "n/**/t*.jsonl",
            ["n/7M/test.jsonl", *(f"n/7M/train-0000{i}-of-00002.jsonl" for i in (0, 1))],
        ),
        ("hf://datasets/org/name/7M/tr*.jsonl", "*.jsonl", [f"train-0000{i}-of-00002.jsonl" for i in (0, 1)]),
    ],
)
def test_places(server: type[Hub], tmp_path: Path, origin: str, pattern: str, places: list[str]) -> None:
    done = hub.fetch(origin, pattern, tmp_path / "r")
    assert sorted(file.relative_to(tmp_path / "r").as_posix() for file in done.files) == places


def test_fetch_names_what_there_is(server: type[Hub], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file for path = 'x/\*.parquet'.* It has: 7M/test.jsonl, "):
        hub.fetch("hf://datasets/org/name/7M", "x/*.parquet", tmp_path)


def test_a_file_that_arrives_damaged_is_never_put_in_place(server: type[Hub], tmp_path: Path) -> None:
    server.short.add("7M/train-00000-of-00002.jsonl")
    with pytest.raises(InputError, match="did not arrive whole"):
        hub.fetch("hf://datasets/org/name/7M", "x/*-00000-*.jsonl", tmp_path)
    assert not (tmp_path / "x").exists()
    server.short.clear()
    hub.fetch("hf://datasets/org/name/7M", "x/*-00000-*.jsonl", tmp_path)
    assert (tmp_path / "x/train-00000-of-00002.jsonl").read_bytes() == LARGE


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("a/b.jsonl", "a/*.jsonl", True),
        ("a/b/c.jsonl", "a/*.jsonl", False),
        ("a/b/c.jsonl", "a/**/*.jsonl", True),
        ("a/c.jsonl", "a/**/*.jsonl", True),
        ("a/b/c.jsonl", "**", True),
        ("c.jsonl", "**", True),
        ("a/B.jsonl", "a/b.jsonl", False),
        ("a", "a/**", False),
    ],
)
def test_globs(name: str, pattern: str, fits: bool) -> None:
    assert hub.matches(name, pattern) is fits
