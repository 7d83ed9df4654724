"""`fetch` brings files to where `path` expects them, pinned; a second fetch takes the same commit and downloads nothing."""

import io
import json
import tarfile
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.steel_data.read.test_hub import COMMIT, FILES, Hub, server  # noqa: F401  (the fixture)

from steel_data import fetch
from steel_data.benchmarks import items
from steel_data.build import build
from steel_data.errors import InputError
from steel_data.fetch import PINS, fetch_benchmark, fetch_named, fetch_recipe, pinned
from steel_data.recipe.load import load

RECIPE = """
[source.a]
path = "name/7M/train-*.jsonl"
origin = "hf://datasets/org/name/7M"
build = { use = "own_rows:turn" }
[source.byhand]
path = "hand.jsonl"
origin = "https://example.org/terms"
[source.identity]
build = { use = "identity", name = "小钢", team = "炼钢小组" }
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "own_rows.py").write_text(
        "def turn(row):\n"
        "    turns = [{'role': 'user', 'content': str(row['a'])}, {'role': 'assistant', 'content': 'ok'}]\n"
        "    return [{'messages': turns}]\n",
        encoding="utf-8",
    )
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "r.toml"


def test_fetch_then_build(
    server: type[Hub],  # noqa: F811
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fetch_recipe(recipe, None)
    printed = capsys.readouterr().out
    assert f"a: 2 files at {COMMIT[:12]}, 2 new" in printed
    assert "byhand: not on a hub, get it by hand from https://example.org/terms" in printed
    assert "identity: no origin; nothing to fetch" in printed
    name = "7M/train-00001-of-00002.jsonl"
    assert (tmp_path / "name" / name).read_bytes() == FILES[name]
    assert json.loads((tmp_path / PINS).read_text()) == {"hf://datasets/org/name/7M": COMMIT}
    gets = len(server.gets)
    fetch_recipe(recipe, None)
    assert len(server.gets) == gets
    (tmp_path / "hand.jsonl").write_text('{"instruction": "q", "output": "a"}\n')
    result = build(load(recipe), out=tmp_path / "out", cache=tmp_path / "cache")
    assert result.manifest["sources"]["a"]["read"] == 5001


def test_a_pin_is_put_into_the_address() -> None:
    pins = {"hf://datasets/org/name/7M": "abc"}
    assert pinned("hf://datasets/org/name/7M", pins) == "hf://datasets/org/name@abc/7M"
    assert pinned("hf://datasets/org/name@main/7M", pins) == "hf://datasets/org/name@main/7M"
    assert pinned("hf://datasets/org/other", pins) == "hf://datasets/org/other"


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_broken_pin_file_is_named(recipe: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / PINS).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"\.steel-origins\.json: cannot be read"):
        fetch_recipe(recipe, None)


CEVAL = "datasets/ceval/ceval-exam/resolve/main/ceval-exam.zip"
CMMLU = "datasets/haonan-li/cmmlu/resolve/main/cmmlu_v1_0_1.zip"
MMLU = "datasets/cais/mmlu/resolve/main/data.tar"


def table(n: int, header: str = "id,question,A,B,C,D,answer\n") -> bytes:
    return (header + "".join(f"{i},第{i}题,甲,乙,丙,丁,A\n" for i in range(n))).encode()


def ceval(rows: int = 3) -> bytes:
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        for split, n in (("dev", 2), ("val", rows), ("test", 4)):
            archive.writestr(f"{split}/law_{split}.csv", table(n))
        archive.writestr("__MACOSX/val/._law_val.csv", b"x")
        archive.writestr("val/../../evil.csv", b"x")
        archive.writestr("README.md", b"x")
    return packed.getvalue()


@pytest.fixture
def archives(monkeypatch: pytest.MonkeyPatch):
    """A hub that serves `files`, by path, and is named by HF_ENDPOINT; sets of a few questions."""
    monkeypatch.setattr(
        fetch,
        "PUBLISHED",
        sizes := {
            "ceval": {"dev": 2, "val": 3, "test": 4},
            "mmlu": {"dev": 1, "test": 2},
            "cmmlu": {"dev": 1, "test": 3},
        },
    )
    monkeypatch.setattr(items, "PUBLISHED", sizes)

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.server.files.get(self.path.lstrip("/"))
            if isinstance(found, str):  # a redirect, as the hub's to its store
                self.send_response(302)
                self.send_header("X-Linked-Etag", f'"{self.server.said}"')
                self.send_header("Location", found)
                self.end_headers()
                return
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(found or b"") + self.server.cut))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *arguments: object) -> None:
            pass

    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    hub.files, hub.cut, hub.said = {CEVAL: ceval()}, 0, ""
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
    for name, archive in fetch.ARCHIVES.items():
        monkeypatch.setitem(fetch.ARCHIVES, name, fetch.Archive(archive.hub, (), archive.licence))
    yield hub
    hub.shutdown()
    hub.server_close()


def test_a_benchmark_comes_into_its_layout_with_its_licence(archives, tmp_path, capsys) -> None:
    fetch_named(["ceval"], tmp_path / "data")
    root = tmp_path / "data/ceval"
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*.csv")) == [
        "dev/law_dev.csv",
        "test/law_test.csv",
        "val/law_val.csv",
    ]
    assert not list(tmp_path.rglob("evil.csv")) and not list((tmp_path / "data").glob(".steel-fetch*"))
    assert "dev 2, val 3, test 4 questions" in (said := capsys.readouterr().out) and "CC BY-NC-SA 4.0" in said
    assert json.loads((tmp_path / "data" / PINS).read_text()) == {"ceval": sha256(ceval()).hexdigest()}
    archives.files.clear()
    fetch_named(["ceval"], tmp_path / "data")  # is there: nothing is asked for
    assert "is there" in capsys.readouterr().out


def test_a_tar_without_headers_is_mmlu(archives, tmp_path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tape:
        for path, n in (("data/dev/law_dev.csv", 1), ("data/test/law_test.csv", 2), ("data/auxiliary_train/x.csv", 9)):
            body = "".join(f"q{i},a,b,c,d,A\n" for i in range(n)).encode()
            info = tarfile.TarInfo(path)
            info.size = len(body)
            tape.addfile(info, io.BytesIO(body))
    archives.files[MMLU] = packed.getvalue()
    fetch_benchmark("mmlu", tmp_path)
    assert [i.item for i in items.read_benchmark("mmlu", tmp_path, "test")] == ["test/law/00000", "test/law/00001"]


def test_cmmlu_is_a_zip_of_two_folders_with_an_index_column(archives, tmp_path) -> None:
    """As the hub's `cmmlu_v1_0_1.zip` is: `dev/` and `test/` at its top, the index without a name, capital columns."""
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        for split, n in (("dev", 1), ("test", 3)):
            archive.writestr(f"{split}/", b"")
            archive.writestr(f"{split}/agronomy.csv", table(n, ",Question,A,B,C,D,Answer\n"))
    archives.files[CMMLU] = packed.getvalue()
    fetch_benchmark("cmmlu", tmp_path)
    assert [i.item for i in items.read_benchmark("cmmlu", tmp_path, "test")][-1] == "test/agronomy/00002"
    fetch_benchmark("cmmlu", tmp_path)  # is there, and whole


def test_ceval_without_a_key_for_its_test_is_whole_too(archives, tmp_path) -> None:
    """So was its zip until July 2025, and so are mirrors of that time."""
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        for split, n in (("dev", 2), ("val", 3)):
            archive.writestr(f"{split}/law_{split}.csv", table(n))
        archive.writestr(
            "test/law_test.csv", "id,question,A,B,C,D\n" + "".join(f"{i},q{i},1,2,3,4\n" for i in range(4))
        )
    archives.files[CEVAL] = packed.getvalue()
    fetch_benchmark("ceval", tmp_path)
    assert {i.answer for i in items.read_benchmark("ceval", tmp_path, "test")} == {""}


def test_other_bytes_than_before_or_than_the_hub_names_are_refused(archives, tmp_path) -> None:
    archives.said = "0" * 64
    archives.files = {CEVAL: "/store", "store": ceval()}
    with pytest.raises(InputError, match="not those that the hub names"):
        fetch_benchmark("ceval", tmp_path)
    archives.said = sha256(ceval()).hexdigest()
    fetch_benchmark("ceval", tmp_path)
    (tmp_path / "ceval").rename(tmp_path / "old")
    (tmp_path / PINS).write_text(json.dumps({"ceval": "1" * 64}))
    with pytest.raises(InputError, match="delete that entry"):
        fetch_benchmark("ceval", tmp_path)
    assert not (tmp_path / "ceval").exists()


@pytest.mark.parametrize(
    ("served", "cut", "message"),
    [
        (None, 0, "status 404"),
        (b"no archive", 0, "cannot be unpacked"),
        (ceval(2), 0, "not the questions of ceval that were published"),
        (ceval(9), 0, "9 questions of split val, and 3 were published"),
        (ceval(), 10, "cannot be had"),
    ],
)
def test_what_is_not_the_published_archive_is_refused(archives, tmp_path, served, cut, message) -> None:
    archives.files, archives.cut = {CEVAL: served}, cut
    with pytest.raises(InputError, match=message):
        fetch_benchmark("ceval", tmp_path)
    assert not (tmp_path / "ceval").exists()


def test_the_second_address_is_taken_where_the_first_has_nothing(archives, tmp_path, monkeypatch) -> None:
    import os

    archives.files = {"mirror.zip": ceval()}
    other = fetch.Archive(CEVAL, (f"{os.environ['HF_ENDPOINT']}/mirror.zip",), "x")
    monkeypatch.setitem(fetch.ARCHIVES, "ceval", other)
    fetch_benchmark("ceval", tmp_path)
    assert (tmp_path / "ceval/val/law_val.csv").is_file()


def test_what_is_there_and_another_part_stays(archives, tmp_path) -> None:
    (tmp_path / "ceval/val").mkdir(parents=True)
    (tmp_path / "ceval/val/law_val.csv").write_bytes(table(1))
    with pytest.raises(InputError, match="move it away"):
        fetch_benchmark("ceval", tmp_path)
    with pytest.raises(InputError, match="Did you mean 'cmmlu'"):
        fetch_named(["cmlu"], tmp_path)
