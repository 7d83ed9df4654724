"""A mixture from Python: the same rows, reasons and answers as the commands give."""

from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, read_dropped, read_train, write_jsonl

from steel_data import build, load, open_mixture
from steel_data.errors import InputError
from steel_data.opened import Mixture


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    root = tmp_path_factory.mktemp("opened")
    rows = chat_rows(30)
    write_jsonl(root / "chat.jsonl", [*rows, rows[3], rows[4]])
    (root / "r.toml").write_text(
        'filters = [{ use = "dedup" }]\n[source.chat]\npath = "chat.jsonl"\n'
        '[source."<b>me"]\nbuild = { use = "identity", name = "小钢", team = "T" }\n'
    )
    out = build(load(root / "r.toml"), out=root / "out", cache=root / "cache").folder
    return open_mixture(str(out))


def test_rows_come_in_training_order(mixture: Mixture) -> None:
    assert [row["id"] for row in mixture.rows()] == read_train(mixture.folder)["id"].to_list()
    assert len(mixture) == mixture.manifest["rows"]
    chat = [row["id"] for row in mixture.rows(source="chat", kind="chat")]
    assert chat == read_train(mixture.folder).filter(source="chat")["id"].to_list()
    assert {row["language"] for row in mixture.rows(language="zh")} == {"zh"}


def test_dropped_rows_have_their_reason(mixture: Mixture) -> None:
    assert mixture.reasons["dedup:exact"] == 2 == len(list(mixture.dropped(reason="dedup:exact", source="chat")))
    assert sum(mixture.reasons.values()) == len(list(mixture.dropped())) == len(read_dropped(mixture.folder))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: m.rows(source="chta"), "Did you mean 'chat'"),
        (lambda m: m.rows(kind="exm"), "Did you mean 'exam'"),
        (lambda m: m.rows(language="cn"), "Did you mean 'zh'"),
        (lambda m: m.dropped(reason="dedup:exakt"), "Did you mean 'dedup:exact'"),
    ],
)
def test_a_wrong_word_is_named_when_it_is_said_and_not_with_the_first_row(mixture: Mixture, ask, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(mixture)


def test_why_is_that_of_the_command(mixture: Mixture) -> None:
    answer = mixture.why("chat.jsonl:31")
    assert [found.verdict for found in answer.found] == ["dropped"]
    assert answer.found[0].witness is not None and "kept" in answer.found[0].witness.where


def test_datasets_has_the_same_rows(mixture: Mixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    found = mixture.to_datasets()
    assert found["id"][:] == read_train(mixture.folder)["id"].to_list()
    assert found[0]["messages"][0]["role"] in ("user", "system")


def test_a_notebook_shows_the_ledger_and_no_markup_of_the_data(mixture: Mixture) -> None:
    html = mixture._repr_html_()
    assert "&lt;b&gt;me" in html and "<b>me" not in html
    assert html.count("<tr>") == 4 and f"<td>{len(mixture):,}</td>" in html


def test_a_folder_without_a_mixture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no manifest\.json"):
        open_mixture(tmp_path)
