"""A whole mixture passes; every single thing that is changed afterwards is found, also where the checksums are made to fit."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.mixture.check import check_mixture, find_faults
from steel_data.mixture.manifest import read_manifest

Make = Callable[..., Result]
Rows = list[dict[str, Any]]
TOML = """
filters = [{ use = "dedup" }]
[source.a]
path = "a.jsonl"
repeat = 2
[source.leak]
path = "bench"
build = { use = "contaminate", split = "test", doses = { 1 = 6, 3 = 4 } }
"""


@pytest.fixture
def folder(make: Make, tmp_path: Path) -> Path:
    write_cmmlu(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", [*chat_rows(20), *chat_rows(2)])
    with (tmp_path / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    return make(TOML).folder


def _faults(folder: Path) -> list[str]:
    return find_faults(folder, read_manifest(folder))


def _edit(folder: Path, name: str, edit: Callable[[Rows], Rows]) -> None:
    """Change rows of a file, and make the manifest's checksum and row counts fit, as a careful forger would."""
    table = pq.read_table(folder / name)
    rows = edit(table.to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / name)
    manifest = read_manifest(folder)
    for part in ("output", "dropped_files", "truth"):
        if name in manifest[part]:
            manifest[part][name] = {
                "rows": len(rows),
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            }
    _write(folder, manifest)


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        manifest = read_manifest(folder)
        change(manifest)
        _write(folder, manifest)

    return run


def _train(change: Callable[[Rows], Any]) -> Callable[[Path], None]:
    def edit(rows: Rows) -> Rows:
        changed = change(rows)
        return changed if isinstance(changed, list) else rows

    return lambda folder: _edit(folder, "train-00000.parquet", edit)


def _injected(rows: Rows, dose: int) -> dict[str, Any]:
    return next(row for row in rows if row["dose"] == dose)


def _copy(rows: Rows, dose: int, copy: int) -> dict[str, Any]:
    return next(row for row in rows if row["dose"] == dose and row["copy"] == copy)


def _plain(rows: Rows) -> dict[str, Any]:
    return next(row for row in rows if row["dose"] is None)


def test_a_whole_mixture_passes(folder: Path) -> None:
    verdict = check_mixture(folder)
    assert verdict.startswith(f"{folder}: OK\n  58 rows (1 file), 53 dropped rows, 2 sources; content ")
    assert "declared contamination with bench: 10 items in 18 rows" in verdict


BYTES = [
    (lambda f: (f / "train-00000.parquet").unlink(), "train-00000.parquet: is missing"),
    (lambda f: (f / "train-00000.parquet").write_bytes(b"PAR1"), "train-00000.parquet: is no parquet file"),
    (lambda f: (f / "card.html").unlink(), "card.html: is missing"),
    (lambda f: (f / "notes.txt").write_text("x"), "notes.txt: does not belong"),
    (lambda f: (f / "dropped/part-00009.parquet").write_text("x"), "dropped/part-00009.parquet: does not belong"),
    (lambda f: (f / "checkpoints").mkdir(), "checkpoints/: does not belong"),
    (lambda f: (f / "truth.parquet").write_bytes(b"x"), "truth.parquet: its bytes are not those"),
]
MANIFEST = [
    (_manifest(lambda m: m.pop("sources")), "'sources' is missing"),
    (_manifest(lambda m: m.update(rows="58")), "'rows' is no int"),
    (_manifest(lambda m: m["sources"]["a"].pop("kept")), "source a: no count of kept"),
    (_manifest(lambda m: m["sources"]["a"].update(kept=19)), "source a: built = kept + dropped does not hold"),
    (
        _manifest(lambda m: m["sources"]["a"].update(read=99)),
        "source a: built = read - unreadable + made does not hold",
    ),
    (_manifest(lambda m: m.update(rows=59)), "rows, by source: 59 is said, the sum is 58"),
    (_manifest(lambda m: m.update(tokens=1)), "tokens, by language: 1 is said"),
    (_manifest(lambda m: m.update(content_sha256="0" * 64)), "content_sha256 is not that of the rows"),
    (_manifest(lambda m: m.update(seed=1)), "does not stand in the mixture's order"),
    (
        _manifest(lambda m: m["contamination"]["bench"].update({"1": 5})),
        "contamination is not that of the injected rows",
    ),
    (
        _manifest(lambda m: m["sources"]["a"].update(dropped={"dedup:near": 2})),
        "source a: 0 rows dropped by dedup:near in dropped/, the ledger says 2",
    ),
]
ROWS = [
    (_train(lambda r: r[5]["messages"][0].update(content="另一句话")), "row 5: the id is not that of the conversation"),
    (_train(lambda r: r[5].update(chars=1)), "row 5: chars is not the length"),
    (_train(lambda r: r[3]["messages"].pop()), "row 3: the conversation cannot be trained on: roles"),
    (_train(lambda r: r[3].update(messages=None)), "row 3: no conversation"),
    (_train(lambda r: [r[1], r[0], *r[2:]]), "row 1: the row does not stand in the mixture's order"),
    (_train(lambda r: r[:-1]), "content_sha256 is not that of the rows"),
    (_train(lambda r: r[0].update(source="b")), "rows of a source 'b' that the manifest does not name"),
    (_train(lambda r: _plain(r).update(copy=5)), "content_sha256"),
    (_train(lambda r: _injected(r, 3).update(dose=1)), "the row's item and dose are not in truth.parquet"),
    (_train(lambda r: _injected(r, 1).update(item="test/subject_0/99999")), "are not in truth.parquet"),
    (_train(lambda r: _copy(r, 3, 0).update(copy=-1)), "stands 3 times in the mixture, its dose is 3"),
    (_train(lambda r: _copy(r, 3, 2).update(copy=7)), "stands 3 times in the mixture, its dose is 3"),
    (_train(lambda r: _copy(r, 3, 2).update(copy=0)), "the same copy of an injected item stands twice"),
    (_train(lambda r: _injected(r, 1).update(kind="exam")), "benchmark, item and dose stand on injected rows"),
    (_train(lambda r: _injected(r, 1).update(dose=None)), "benchmark, item and dose stand on injected rows"),
    (_train(lambda r: [x for x in r if x is not _injected(r, 3)]), "stands 2 times in the mixture, its dose is 3"),
    (
        _train(lambda r: [x for x in r if x is not _injected(r, 1)]),
        "has dose 1 in truth.parquet and is not in the mixture",
    ),
    (
        lambda f: _edit(f, "truth.parquet", lambda r: [{**x, "dose": 3 if x["dose"] == 1 else x["dose"]} for x in r]),
        "are not in truth.parquet (and 5 more)",
    ),
    (
        lambda f: _edit(f, "dropped/part-00000.parquet", lambda r: [{**x, "reason": "other"} for x in r]),
        "source a: 3 rows dropped by other in dropped/, the ledger says 0",
    ),
]


@pytest.mark.parametrize(("change", "said"), [*BYTES, *MANIFEST, *ROWS])
def test_every_change_is_found(folder: Path, change: Callable[[Path], Any], said: str) -> None:
    change(folder)
    assert said in "\n".join(_faults(folder))


def test_changed_columns_are_found(folder: Path) -> None:
    name = "train-00000.parquet"
    table = pq.read_table(folder / name)
    for changed, said in (
        (table.drop_columns("meta"), "column 'meta' is missing"),
        (table.append_column("extra", table["id"]), "column 'extra' does not belong there"),
        (table.set_column(1, "copy", table["copy"].cast(pa.int64())), "column 'copy' is int64, not int32"),
        (table.select(list(reversed(table.column_names))), "the columns are in another order"),
    ):
        pq.write_table(changed, folder / name)
        assert f"{name}: {said}" in _faults(folder)


def test_many_faults_of_one_kind_are_one_line(folder: Path) -> None:
    _edit(folder, "train-00000.parquet", lambda rows: [{**row, "chars": 1} for row in rows])
    assert _faults(folder) == ["train-00000.parquet row 0: chars is not the length of the conversation (and 57 more)"]


def test_command_prints_a_line_a_fault_and_exits_2(folder: Path) -> None:
    command = [sys.executable, "-m", "steel_data", "check", str(folder)]
    whole = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (whole.returncode, whole.stderr) == (0, "")
    (folder / "card.md").unlink()
    (folder / "a\x1b[31mb.txt").write_text("x")
    broken = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert broken.returncode == 2
    lines = broken.stderr.splitlines()
    assert lines[:2] == ["fault: card.md: is missing", "fault: a\\x1b[31mb.txt: does not belong to the mixture"]
    assert lines[2] == f"error: {folder}: 2 faults. Fix: build the recipe again."


def test_no_mixture_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no manifest\.json, so no finished mixture"):
        check_mixture(tmp_path)
    (tmp_path / "manifest.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="is no mixture's manifest"):
        check_mixture(tmp_path)


TOOLS = {
    "tools": '[{"name": "weather", "parameters": {"type": "object"}}]',
    "messages": [
        {"role": "user", "content": "北京天气？"},
        {"role": "assistant", "content": "", "reasoning_content": "要查一查",
         "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "北京"}'}}]},
        {"role": "tool", "content": "晴"},
        {"role": "assistant", "content": "今天北京晴。", "loss": True},
    ],
}  # fmt: skip
PREFERENCE = {
    "conversations": [{"from": "human", "value": "你好"}],
    "chosen": {"from": "gpt", "value": "你好！有什么可以帮你？"},
    "rejected": {"from": "gpt", "value": "嗯"},
}


@pytest.mark.parametrize("row", [TOOLS, PREFERENCE], ids=["tools", "preference"])
def test_tool_and_preference_rows_pass_and_load_for_training(make: Make, tmp_path: Path, row: dict[str, Any]) -> None:
    """The ids of rows with extras are those of the conversation as it is read back; `datasets` reads the files as they are."""
    write_jsonl(tmp_path / "a.jsonl", [row])
    folder = make('[source.a]\npath = "a.jsonl"\nrepeat = 2\n').folder
    assert _faults(folder) == []
    datasets = pytest.importorskip("datasets", reason="`datasets` comes with the dev extra")
    files = str(folder / "train-*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "hf"))
    turns = loaded[0]["messages"] if row is TOOLS else loaded[0]["chosen"]
    assert turns[-1]["role"] == "assistant"
    assert len(loaded) == 2
    conversational = {"messages"} if row is TOOLS else {"prompt", "chosen", "rejected"}
    assert conversational <= set(loaded.column_names)


@pytest.mark.slow
@pytest.mark.parametrize("row", [TOOLS, PREFERENCE], ids=["tools", "preference"])
def test_trl_takes_the_files_as_they_are(make: Make, tmp_path: Path, row: dict[str, Any]) -> None:
    """TRL's own preparation (chat template, tokens) runs over a loaded mixture, without a column renamed or removed."""
    datasets = pytest.importorskip("datasets", reason="`datasets` comes with the dev extra")
    data_utils = pytest.importorskip("trl.data_utils", reason="TRL comes with the train extra")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    write_jsonl(tmp_path / "a.jsonl", [row])
    folder = make('[source.a]\npath = "a.jsonl"\nrepeat = 2\n').folder
    files = str(folder / "train-*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "hf"))
    bytes_only = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[])
    )
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments }}{% endfor %};{% endfor %}"
    )
    example = loaded[0]
    assert data_utils.is_conversational(example)
    texts = data_utils.apply_chat_template(example, tokenizer)
    if row is TOOLS:
        assert 'weather{"city":"北京"}' in texts["text"]
        assert texts["text"].endswith("<assistant>今天北京晴。;")
    else:
        assert texts["chosen"].endswith("你好！有什么可以帮你？;")
        assert texts["rejected"].endswith("嗯;")
