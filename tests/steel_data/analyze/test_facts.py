"""The verdict and the facts: one dictionary for terminal, page and JSON."""

import json

from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.analyze.analysis import analyze
from steel_data.analyze.facts import count, facts, percent


def said(path, **options):
    return facts(analyze([str(path)], **options))


def test_the_verdict_says_what_how_many_what_stays_and_what_is_lost_most(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [*chat_rows(9), chat_rows(1)[0]])
    assert said(tmp_path / "rows.jsonl")["verdict"] == (
        "rows.jsonl: 10 rows, chat, alpaca. A build keeps 9 (90.0 %), and loses most to dedup:exact (1)."
    )
    write_jsonl(tmp_path / "text.jsonl", [{"text": "a"}])
    assert said(tmp_path / "text.jsonl")["verdict"] == (
        "text.jsonl: 1 row, no known layout. Nothing can be built of it: no published layout has these columns."
    )
    (tmp_path / "broken.jsonl").write_text("x\ny\n")
    assert said(tmp_path / "broken.jsonl")["verdict"] == (
        "broken.jsonl: 2 rows, unreadable. Nothing can be built of it: none of its rows can be read."
    )
    both = said(tmp_path)["verdict"]
    assert both.startswith("3 files: 13 rows, 3 parts (")
    assert "A build keeps 9 of 10 (90.0 %)" in both
    assert both.endswith("; 2 rows cannot be read.")


def test_a_sample_says_which_figures_are_exact(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [row | {"id": n} for n in range(5) for row in chat_rows(160)])
    found = said(tmp_path, sampled_rows=200)
    assert found["sample"]["of"] == 800
    assert found["sample"]["exact"].startswith("rows, unreadable rows, columns")
    assert found["equal_rows"] == 640
    assert f"of {found['sample']['rows']} sampled" in found["verdict"]


def test_columns_that_the_builder_does_not_read_and_unknown_roles_are_told(tmp_path):
    turns = [{"from": "human", "value": "a?"}, {"from": "narrator", "value": "b"}]
    write_jsonl(tmp_path / "rows.jsonl", [{"conversations": turns, "label": "x"}])
    part = said(tmp_path)["parts"][0]
    assert {column["name"]: column["read"] for column in part["columns"]} == {"conversations": True, "label": False}
    assert [(role["word"], role["role"]) for role in part["roles"]] == [("human", "user"), ("narrator", None)]
    assert part["sampled"]["dropped"] == {"chat:roles": 1}
    assert part["refused"] == "none of its rows would be kept; 1 of 1 fall to chat:roles"


def test_it_is_all_json(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", chat_rows(2))
    found = said(tmp_path)
    assert json.loads(json.dumps(found)) == found


def test_shares_and_counts_as_people_read_them():
    assert [percent(share) for share in (0, 0.0001, 0.0123, 0.5, 0.99999, 1)] == [
        "0 %", "< 0.1 %", "1.2 %", "50.0 %", "> 99.9 %", "100 %",
    ]  # fmt: skip
    assert (count(1, "row"), count(1200, "row")) == ("1 row", "1,200 rows")
