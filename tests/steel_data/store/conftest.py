"""A bucket of its own for each test, on a server that is started once. Without moto and obstore the tests are skipped."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.steel_data.store.server import Lab, Server

from steel_data.store import bucket as requests
from steel_data.store.bucket import Bucket
from steel_data.store.listings import forget

_number = count()


@pytest.fixture(scope="session")
def server() -> Server:
    for name in ("obstore", "moto", "flask", "flask_cors"):
        pytest.importorskip(name, reason=f"{name} is missing: pip install 'steel-lab[dev]'")
    return Server()


@pytest.fixture
def lab(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Lab]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("STEEL_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(requests, "PAUSE", 0.001)
    server.forget()
    forget()
    name = f"lab-{os.getpid()}-{next(_number)}"
    bucket = Bucket(name)
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"{server.address}/{name}", method="PUT")).close()
    server.asked.clear()
    yield Lab(server, bucket)
    server.forget()
