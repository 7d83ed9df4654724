"""Who gets an answer: over a real socket, with a wrong token, a wrong host, paths that climb, and files that change."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.steel.ui.conftest import serving

from steel.ui.server import POLICY, serve
from steel_data.errors import InputError

pytest.importorskip("uvicorn", reason='the extra "ui" is not installed')
pytest.importorskip("starlette", reason='the extra "ui" is not installed')


class Client:
    """Asks the server, each time over a connection of its own; paths go out as they are."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.getheaders()), body


@pytest.fixture
def client(runs: Path) -> Iterator[Client]:
    with serving(runs) as port:
        yield Client(port)


def test_a_page_forbids_the_browser_everything_but_its_style(client: Client) -> None:
    status, headers, body = client.get("/TOKEN/")
    assert status == 200 and "mixtures: 1" in body and "<script" not in body
    assert headers["content-security-policy"] == POLICY and "script-src" not in POLICY
    assert headers["referrer-policy"] == "no-referrer" and headers["x-content-type-options"] == "nosniff"
    assert client.get("/TOKEN/style.css")[1]["content-type"].startswith("text/css")
    assert "sandbox" in client.get("/TOKEN/page/a/mixture/card.html")[1]["content-security-policy"]


def test_a_run_at_work_is_asked_for_again_by_the_browser_until_a_link_stops_it(client: Client) -> None:
    assert client.get("/TOKEN/run/b")[1]["refresh"] == "15" and "refresh" not in client.get("/TOKEN/run/a")[1]
    assert "refresh" not in client.get("/TOKEN/run/b?still=1")[1]


def test_a_language_is_chosen_by_a_link_and_kept(client: Client) -> None:
    status, headers, body = client.get("/TOKEN/rows/a/mixture?text=a%26b&lang=zh")
    assert status == 200 and '<html lang="zh-CN">' in body and "哪些行" in body and "which rows" not in body
    assert 'href="/TOKEN/rows/a/mixture?text=a%26b&amp;lang=en"' in body
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/TOKEN/" in cookie
    kept = cookie.partition(";")[0]
    assert "混合数据" in client.get("/TOKEN/", Cookie=kept)[2]
    assert "mixtures: 1" in client.get("/TOKEN/?lang=en", Cookie=kept)[2]
    assert client.get("/TOKEN/?lang=<b>")[0] == 200 and "混合数据" in client.get("/TOKEN/nothing", Cookie=kept)[2]


@pytest.mark.parametrize("path", ["/", "/token/", "/TOKE/", "/TOKEN2/", "//TOKEN/", "/TOKEN%00/", "/%54OKEN2/", "/é/"])
def test_without_the_token_nothing_is_said(client: Client, path: str) -> None:
    status, _, body = client.get(path.replace("é", "%C3%A9"))
    assert status == 403 and body.startswith("no token") and "mixture" not in body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "0.0.0.0:8765", "", "[::2]:1"]
)
def test_another_host_is_refused_even_with_the_token(client: Client, host: str) -> None:
    status, _, body = client.get("/TOKEN/", Host=host)
    assert status in (400, 421) and "mixture" not in body


@pytest.mark.parametrize("host", ["localhost:1234", "LOCALHOST", "127.0.0.1", "[::1]:8080"])
def test_this_machine_is_served_by_any_of_its_names(client: Client, host: str) -> None:
    assert client.get("/TOKEN/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/TOKEN/page/../../secret.html", "/TOKEN/page/%2e%2e/%2e%2e/secret.html", "/TOKEN/page/..%2f..%2fsecret.html",
     "/TOKEN/page//etc/passwd", "/TOKEN/page/a/mixture/manifest.json", "/TOKEN/rows/..", "/TOKEN/%2e%2e/secret.html",
     "/TOKEN/page/a%5c..%5csecret.html", "/TOKEN/page/a/mixture/card.html%00", "/TOKEN/run/%ff%fe"],
)  # fmt: skip
def test_paths_do_not_climb(client: Client, runs: Path, path: str) -> None:
    (runs.parent / "secret.html").write_text("secret")
    status, _, body = client.get(path)
    assert status == 404 and "secret</" not in body and body.count("verdict") == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(client: Client, method: str) -> None:
    assert client.get("/TOKEN/", method)[0] == 405


def test_a_damaged_or_vanished_folder_is_a_line(client: Client, runs: Path) -> None:
    (runs / "a/mixture/train-00000.parquet").write_bytes(b"PAR1")
    status, _, body = client.get("/TOKEN/rows/a/mixture")
    assert status == 404 and "cannot be read" in body and "Traceback" not in body
    (runs / "b/scores/step-000010/answers.parquet").write_bytes(b"")
    assert client.get("/TOKEN/questions/b")[0] == 404
    status, _, body = client.get("/TOKEN/compare/?a=a&b=b")
    assert status in (200, 404, 500) and "Traceback" not in body
    (runs / "a/mixture/manifest.json").write_text('{"output": {"train-00000.parquet": 1}, "sources": 3}')
    status, _, body = client.get("/TOKEN/rows/a/mixture?part=")
    assert status in (404, 500) and "Traceback" not in body
    (runs / "a/mixture/manifest.json").unlink()
    assert client.get("/TOKEN/rows/a/mixture")[0] == 404
    assert client.get("/TOKEN/")[0] == 200


def test_a_taken_port_and_a_missing_folder_are_named(runs: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="--port"):
            serve(runs, taken.getsockname()[1])
    with pytest.raises(InputError, match="no such folder"):
        serve(runs / "nothing", 0)
