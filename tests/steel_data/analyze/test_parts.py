"""Which builder rows get by their columns, what is nearest to unknown ones, and how files make parts."""

import json

from hypothesis import assume, given
from hypothesis import strategies as st
from tests.steel_data.toys import write_jsonl

from steel_data.analyze.analysis import analyze
from steel_data.analyze.parts import choice, nearest_layout
from steel_data.benchmarks import layouts as exams
from steel_data.builders import chat


def test_the_miniature_of_every_layout_is_recognised_by_its_columns():
    wanted = {name: ("chat", layout.row) for name, layout in chat.layouts().items() if not layout.said}
    wanted |= {one.name: ("exam", one.row) for one in exams.layouts() if one.options != one.question}
    for name, (builder, row) in wanted.items():
        found = choice(tuple(json.loads(row)), [])
        assert (found.builder, found.layout) == (builder, name)


def test_options_in_the_question_are_told_by_the_text_and_not_by_the_columns(tmp_path):
    exam = {"question": "磨在哪里？\nA．河边  B．山上\nC．村口  D．井旁\n", "answer": "A"}
    sums = {"question": "What is one and one?", "answer": "two"}
    write_jsonl(tmp_path / "exam.jsonl", [exam])
    write_jsonl(tmp_path / "sums.jsonl", [sums])
    parts = {part.name: part for part in analyze([str(tmp_path)]).parts}
    assert parts["exam"].layouts == {"GAOKAO-Bench": 1}
    assert parts["sums"].proposed
    assert parts["sums"].build["columns"] == {"prompt": "question", "query": "", "response": "answer"}


def test_the_nearest_layout_names_what_is_missing():
    near = nearest_layout(("instruction", "answer_text"))
    assert (near.layout, near.there, near.missing) == ("alpaca", ["instruction"], ["output"])
    near = nearest_layout(("q_main", "std_ans"))
    assert (near.layout, near.missing) == ("WanJuan exam", ["option_a"])
    assert nearest_layout(("Instructions", "outputs")).layout == "alpaca"
    assert nearest_layout(("text", "meta")) is None


@given(st.sets(st.text(max_size=8), max_size=4))
def test_any_columns_have_a_nearest_layout_or_none_and_what_is_missing_is_not_there(names):
    assume(choice(tuple(names), []) is None)
    near = nearest_layout(tuple(names))
    assert near is None or (near.missing and not set(near.missing) & names and set(near.there) <= names)


def test_two_columns_that_may_be_the_question_are_no_proposal(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"question": "a", "prompt": "b", "answer": "c"}])
    part = analyze([str(tmp_path)]).parts[0]
    assert (part.build, part.proposed) == (None, False)


def test_a_column_that_judges_answers_makes_rows_of_kto_and_a_tag_does_not(tmp_path):
    rows = [{"prompt": f"{i}?", "completion": "a", "label": bool(i % 2)} for i in range(4)]
    write_jsonl(tmp_path / "judged.jsonl", rows)
    write_jsonl(
        tmp_path / "named.jsonl", [{"query": r["prompt"], "response": "a", "is_good": int(r["label"])} for r in rows]
    )
    write_jsonl(tmp_path / "tags.jsonl", [{"instruction": "b?", "output": "c", "label": one} for one in (0, 1, 2)])
    found = {part.name: part.build for part in analyze([str(tmp_path)]).parts}
    assert found == {
        "judged": {"use": "chat", "layout": "kto"},
        "named": {"use": "chat", "layout": "kto", "columns": {"kto_tag": "is_good"}},
        "tags": {"use": "chat"},
    }


def test_files_of_one_layout_are_one_part_and_rows_of_none_stay_in_their_file_s(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"instruction": "a?", "output": "b"}, {"text": "c"}])
    write_jsonl(tmp_path / "b.jsonl", [{"instruction": "d?", "output": "e"}])
    write_jsonl(tmp_path / "c.jsonl", [{"messages": [{"role": "user", "content": "f"}]}])
    found = analyze([str(tmp_path)])
    alpaca, messages = found.parts
    assert ([file.name for file in alpaca.files], alpaca.layouts, alpaca.others) == (
        ["a.jsonl", "b.jsonl"], {"alpaca": 2}, {("text",): 1},
    )  # fmt: skip
    assert (alpaca.name, messages.name) == ("alpaca", "c")
    assert found.figures["alpaca"].dropped == {"chat:columns": 1}


def test_several_layouts_in_one_file_are_told(tmp_path):
    turns = [{"from": "human", "value": "c?"}, {"from": "gpt", "value": "d"}]
    write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "a?", "output": "b"}, {"conversations": turns}])
    part = analyze([str(tmp_path)]).parts[0]
    assert part.layouts == {"alpaca": 1, "sharegpt": 1}


def test_exam_rows_in_english_and_without_explanation_get_that_wording(tmp_path):
    row = {"question": "How many legs has a stool of ours?", "choices": ["two", "three", "four"], "answer": 1}
    write_jsonl(tmp_path / "rows.jsonl", [row])
    assert analyze([str(tmp_path)]).parts[0].build == {"use": "exam", "style": "answer-only", "preset": "steel-en"}
