"""Plain text is a row of one assistant turn, untouched; everything downstream takes it for what it is."""

import pytest
from tests.steel_data.toys import read_train, write_jsonl

from steel_data.build import build
from steel_data.builders.document import document
from steel_data.recipe.load import load
from steel_data.row.faults import record_fault

TEXT = "  老乔守着磨坊。\n水壶用来装水。"


def test_a_document_is_its_text_untouched():
    (record,) = document({"text": TEXT, "url": "x"})
    assert record == {"messages": [{"role": "assistant", "content": TEXT}], "kind": "document"}
    assert record_fault(record) is None
    assert document({"content": TEXT}) == document({"body": TEXT}, column="body") == [record]


@pytest.mark.parametrize(
    ("row", "reason"),
    [({"body": "文"}, "columns: no column 'text'"), ({"text": 3}, "content: 'text' is no text"), ({"text": " "}, "empty"),
     ({"text": None}, "empty")],
)  # fmt: skip
def test_what_is_no_document_has_a_reason(row, reason):
    assert document(row).startswith(reason)


@pytest.mark.parametrize(
    "messages",
    [[{"role": "user", "content": "问"}], [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}],
     [{"role": "assistant", "content": "文", "reasoning_content": "想"}]],
)  # fmt: skip
def test_a_conversation_is_no_document(messages):
    assert "a document that is not one assistant turn" in record_fault({"kind": "document", "messages": messages})


def test_documents_are_filtered_and_their_duplicates_told_by_their_text(tmp_path):
    """Whatever duplicates are looked for on: a document has no question, and is not like all others for that."""
    rows = [{"text": f"第{i}篇：水壶用来装水，第{i % 5}回。" * 4} for i in range(10)]
    write_jsonl(tmp_path / "books.jsonl", [*rows, rows[3], {"text": "短"}])
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'filters = [{ use = "length", min_chars = 5 }, { use = "dedup", on = "question", near = false }]\n'
        '[source.books]\npath = "books.jsonl"\nbuild = { use = "document" }\n',
        encoding="utf-8",
    )
    result = build(load(recipe), data_root=tmp_path, out=tmp_path / "mixture", cache=tmp_path / "cache")
    kept = read_train(result.folder)
    assert sorted(m[0]["content"] for m in kept["messages"]) == sorted(row["text"] for row in rows)
    assert kept["kind"].unique().to_list() == ["document"]
    assert result.manifest["sources"]["books"]["dropped"] == {"dedup:exact": 1, "length:too-short": 1}
