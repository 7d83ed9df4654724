"""What the passes find in the sample is told in the user's files and rows, and adds up."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.analyze.analysis import analyze


def test_examples_name_file_and_row_of_both_sides(tmp_path):
    rows = chat_rows(40)
    write_jsonl(tmp_path / "a.jsonl", [*rows[:20], {"instruction": "x?", "output": "<p>y</p>"}])
    write_jsonl(tmp_path / "b.jsonl", [rows[3], *rows[20:30]])
    found = analyze([str(tmp_path)]).figures["alpaca"]
    assert found.dropped == {"dedup:exact": 1, "quality:html": 1}
    exact, html = found.examples["dedup:exact"][0], found.examples["quality:html"][0]
    assert (exact.place, exact.against) == ("b.jsonl:0", "a.jsonl:3")
    assert rows[3]["instruction"] in exact.against_text
    assert html.place == "a.jsonl:20"
    assert found.kept == 30


def test_places_are_those_of_the_file_although_unreadable_and_foreign_rows_lie_between(tmp_path):
    row = '{"instruction": "x?", "output": "<p>y</p>"}\n'
    exam = '{"question": "q", "A": "a", "B": "b", "C": "c", "answer": "D"}\n'
    (tmp_path / "rows.jsonl").write_text(f"broken\n{exam}\n{row}")
    figures = analyze([str(tmp_path)]).figures
    assert {f.examples[r][0].place for f in figures.values() for r in f.dropped} == {"rows.jsonl:1", "rows.jsonl:3"}


def test_overlap_with_a_benchmark_names_the_item(tmp_path):
    benchmark = write_cmmlu(tmp_path)
    item = (benchmark / "test" / "subject_0.csv").read_text("utf-8").splitlines()[6].split(",")
    asked = f"{item[1]}\nA. {item[2]}\nB. {item[3]}\nC. {item[4]}\nD. {item[5]}"
    write_jsonl(tmp_path / "rows.jsonl", [*chat_rows(3), {"instruction": asked, "output": item[6]}])
    found = analyze([str(tmp_path / "rows.jsonl")], benchmarks=[str(benchmark)]).figures["rows"]
    assert found.dropped == {"decontaminate:bench": 1}
    example = found.examples["decontaminate:bench"][0]
    assert (example.place, example.against) == ("rows.jsonl:3", "bench/test/subject_0/00005")
    assert item[1] in example.against_text


def test_turns_languages_and_lengths_are_those_of_the_records(tmp_path):
    ask, say = (
        {"from": "human", "value": "磨在哪里？"},
        {"from": "gpt", "value": '在河边。"role":"user" {"role":"user"'},
    )
    write_jsonl(tmp_path / "rows.jsonl", [{"conversations": [ask, say]}, {"conversations": [ask, say, ask, say]}])
    found = analyze([str(tmp_path)]).figures["rows"]
    assert found.questions == {1: 1, 2: 1}
    length = len(ask["value"]) + len(say["value"]) + 1
    assert (found.chars[0], found.chars[-1]) == (length, 2 * length + 1)
    assert next(iter(found.languages)) == "zh"


_ROW = st.fixed_dictionaries(
    {}, optional={name: st.one_of(st.text(max_size=5), st.none(), st.integers(0, 3), st.lists(st.text(max_size=2), max_size=2))
                  for name in ("instruction", "input", "output", "label", "history")},
)  # fmt: skip


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_ROW, min_size=1, max_size=6))
def test_every_row_is_kept_or_dropped_with_a_reason(rows, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", rows)
    found = analyze([str(tmp_path / "rows.jsonl")])
    assert sum(part.rows for part in found.parts) == len(rows)
    for figures in found.figures.values():
        assert figures.fault or figures.kept + sum(figures.dropped.values()) == figures.built >= figures.rows
