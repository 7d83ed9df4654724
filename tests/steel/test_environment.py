"""`steel env`, `open`: what a bug report holds and what it must not."""

import json
import webbrowser
from pathlib import Path

import pytest

from steel.environment import environment, open_in_browser
from steel_data.errors import InputError


def test_the_environment_names_versions_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:password@mirror/simple")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = environment()
    assert found["libraries"]["polars"] and found["variables"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert "password" not in json.dumps(found) and found["variables"]["PIP_INDEX_URL"] == "(set)"


def test_open_finds_the_page_of_a_folder_and_refuses_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with pytest.raises(InputError, match=r"no page there.*card\.html"):
        open_in_browser(tmp_path)
    (tmp_path / "mixture").mkdir()
    (tmp_path / "mixture/card.html").write_text("<p>")
    open_in_browser(tmp_path)
    assert opened == [(tmp_path / "mixture/card.html").resolve().as_uri()]
    assert "card.html" in capsys.readouterr().out
