"""Raw rows -> records: every row is accounted for, and what a step of the user's gets wrong is said with its place."""

from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from steel_data.errors import InputError
from steel_data.passes.records import build_records, edit_records, injected_records, made_records
from steel_data.read.rows import RawRow
from steel_data.recipe.steps import bind_builder, bind_filter
from steel_data.row.table import SCHEMA, table

TURNS = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]


def build(folder: Path, code: str, rows: list[Any], meta: list[str] | None = None) -> pl.DataFrame:
    (folder / "own.py").write_text(f"TURNS = {TURNS!r}\ndef made(row):\n    return {code}\n", encoding="utf-8")
    builder = bind_builder("r.toml", {"use": "own:made"}, folder, 42, has_path=True)
    raw = [RawRow(i, row, None) if isinstance(row, dict) else RawRow(i, None, row) for i, row in enumerate(rows)]
    return build_records("a.jsonl", builder, raw, meta or [])


def test_each_raw_row_is_a_record_several_or_a_reason(tmp_path: Path) -> None:
    code = "[{'messages': TURNS}] * row['n'] if row['n'] else 'none wanted'"
    frame = build(tmp_path, code, [{"n": 1}, {"n": 0}, "line 3: broken", {"n": 2}], meta=["n"])
    assert frame.schema == pl.Schema(SCHEMA)
    assert frame.select("origin_row", "part", "reason").rows() == [
        (0, 0, None), (1, 0, "none wanted"), (2, 0, "unreadable"), (3, 0, None), (3, 1, None),
    ]  # fmt: skip
    assert frame["error"][2] == "line 3: broken"
    assert [orjson.loads(meta) if meta else None for meta in frame["meta"]] == [
        {"n": 1}, None, None, {"n": 2}, {"n": 2},
    ]  # fmt: skip
    assert frame["chars"][0] == len("问\n答")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", r"a\.jsonl row 0: builder 'own:made' raised ZeroDivisionError.*Fix: return records, or the reason"),
        ("exit('done')", r"row 0: builder 'own:made' raised SystemExit: done\. Fix: return records, or the reason"),
        ("[]", "returned \\[\\]. Fix: a list of records, or a reason"),
        ("''", "Fix: a list of records, or a reason"),
        ("[{'text': 'x'}]", "made a record without messages"),
        ("[{'messages': [{'role': 'user', 'content': 1}]}]", "made a record without messages.*both strings"),
        ("[{'messages': [{**TURNS[0], 'mood': 'x'}, TURNS[1]]}]", "made a message with 'mood'. Known: content, loss"),
        ("[{'messages': [{'role': 'human', 'content': 'x'}]}]", "made a message of role 'human'. Known: assistant"),
        ("[{'messages': TURNS, 'kind': 'talk'}]", "made a record of kind 'talk'. Known: chat, exam"),
    ],
)
def test_what_a_builder_of_the_users_gets_wrong_names_file_and_row(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        build(tmp_path, code, [{"n": 1}])


@pytest.mark.parametrize(
    ("turns", "reason"),
    [("TURNS[:1]", "roles"), ("[TURNS[0], {'role': 'assistant', 'content': ' '}]", "empty"),
     ("[TURNS[0], {'role': 'assistant', 'content': '\\ud800'}]", "surrogate")],
)  # fmt: skip
def test_a_record_that_cannot_be_trained_on_is_dropped_and_counted(turns: str, reason: str, tmp_path: Path) -> None:
    frame = build(tmp_path, f"[{{'messages': {turns}}}]", [{"n": 1}])
    assert frame.select("id", "step", "reason").rows() == [(None, "own:made", f"own:made:{reason}")]


def test_a_meta_column_that_a_row_lacks_is_null_there(tmp_path: Path) -> None:
    frame = build(tmp_path, "[{'messages': TURNS}]", [{"n": 1}, {"n": None, "m": 2}], meta=["n", "m"])
    assert frame["meta"].to_list() == ['{"n":1,"m":null}', '{"n":null,"m":2}']


def test_a_layout_that_fits_no_row_is_a_mistake_and_one_that_fits_some_is_none() -> None:
    builder = bind_builder("r.toml", {"use": "chat"}, Path(), 42, has_path=True)
    odd, fits = RawRow(0, {"x": "1"}, None), RawRow(1, {"messages": TURNS}, None)
    with pytest.raises(InputError, match="builder 'chat' fits none of the rows"):
        build_records("a.jsonl", builder, [odd], [])
    assert build_records("a.jsonl", builder, [odd, fits], [])["reason"].to_list() == ["chat:columns", None]


def edit(folder: Path, code: str, passing: list[bool], kind: str = "chat") -> pl.DataFrame:
    (folder / "own.py").write_text(f"def edit(record):\n    {code}\n", encoding="utf-8")
    step = bind_filter("r.toml", {"use": "own:edit"}, folder, 42)
    text = orjson.dumps(TURNS).decode()
    rows = [{"origin_row": i, "part": 0, "id": str(i), "messages": text, "kind": kind} for i in range(len(passing))]
    columns = {"source": "a", "language": ["zh", "en", "ja"][: len(passing)]}
    return edit_records("a.jsonl", step, table(rows), passing, columns)


def test_an_edit_changes_rows_that_pass_and_sees_the_mixtures_columns(tmp_path: Path) -> None:
    code = "record['messages'][1]['content'] = record['language'] + record['source']; return record"
    frame = edit(tmp_path, code, [True, False, True])
    answers = [orjson.loads(messages)[1]["content"] for messages in frame["messages"]]
    assert answers == ["zha", "答", "jaa"]
    assert [len(i) for i in frame["id"]] == [32, 1, 32]  # an edited text has its own id
    assert edit(tmp_path, "return 'rude'", [True, False])["reason"].to_list() == ["rude", None]
    assert edit(tmp_path, "return 'rude'", [True], kind="injected")["reason"].to_list() == [None]


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        ("record['messages'] = []", "empty", None),
        ("record['messages'].reverse()", "roles", "turn 0 is assistant, first"),
        ("record['messages'].pop()", "roles", "the last turn is user"),
        ("record['messages'].insert(0, record['messages'][0])", "roles", "turn 1 is user, behind user"),
        ("record['messages'][1]['mood'] = 'x'", "record", "a message with 'mood'"),
        ("record['messages'][1]['content'] = None", "record", "a record without messages"),
        ("record['messages'][1]['tool_calls'] = 'f'", "record", "a message whose tool_calls are 'f'"),
        ("record['meta'] = {'a': 1}", "record", "a record whose meta is"),
        ("record['score'] = 1", "record", "a record with 'score'"),
        ("record['kind'] = 'talk'", "record", "a record of kind 'talk'"),
        ("record['messages'][1]['content'] = '\\ud800'", "surrogate", "not valid Unicode"),
    ],
)
def test_an_edit_that_leaves_no_conversation_is_a_counted_drop(
    code: str, reason: str, error: str | None, tmp_path: Path
) -> None:
    frame = edit(tmp_path, f"{code}; return record", [True, False])
    assert frame.select("step", "reason").rows() == [("own:edit", f"own:edit:{reason}"), (None, None)]
    assert error is None or error in frame["error"][0]
    assert orjson.loads(frame["messages"][0]) == TURNS  # as it was before the edit
    assert frame["id"][0] == "0"


@pytest.mark.parametrize("code", ["return None", "return ''", "return True"])
def test_an_edit_returns_the_record_or_a_reason(code: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jsonl row 0: filter 'own:edit' returned .* Fix: the record, or a"):
        edit(tmp_path, code, [True])


def test_what_is_made_as_a_whole_is_numbered_and_what_is_not_drawn_is_dropped() -> None:
    made = made_records([{"messages": TURNS, "kind": "identity", "language": "zh"}] * 2)
    assert made.select("origin_row", "kind", "language").rows() == [(0, "identity", "zh"), (1, "identity", "zh")]
    record = {"kind": "injected", "benchmark": "b", "item": "test/law/00007", "dose": 3, "messages": TURNS}
    lost = {**record, "dose": 0, "messages": None, "reason": "not-drawn"}
    frame = injected_records("contaminate", [record, lost])
    assert frame.select("origin_row", "dose", "step", "reason").rows() == [
        (0, 3, None, None), (1, 0, "contaminate", "contaminate:not-drawn"),
    ]  # fmt: skip
    assert frame["id"].is_null().to_list() == [False, True]
