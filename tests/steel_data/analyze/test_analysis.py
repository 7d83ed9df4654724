"""From paths to parts, figures and recipe: samples, benchmarks by name, test splits, what a build would stop at."""

import pytest
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.analyze import analysis
from steel_data.analyze.analysis import analyze
from steel_data.errors import InputError


def test_a_sample_measures_fewer_rows_and_counts_all(tmp_path):
    rows = [row | {"output": f"{row['output']} {n}"} for n in range(20) for row in chat_rows(160)]
    write_jsonl(tmp_path / "rows.jsonl", [*rows, rows[0]])
    found = analyze([str(tmp_path)], sampled_rows=400)
    assert (found.step, found.whole.rows, found.equal_rows) == (9, 3201, 1)
    assert 280 < found.figures["rows"].rows < 430


@pytest.mark.slow
def test_several_processes_find_what_one_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(analysis, "_SMALL", 0)
    for name in ("a", "b"):
        write_jsonl(tmp_path / f"{name}.jsonl", chat_rows(30))
    one, two = (analyze([str(tmp_path)], workers=n) for n in (1, 2))
    assert (one.figures, one.recipe) == (two.figures, two.recipe)


def test_a_known_test_split_is_told_and_is_in_no_recipe(tmp_path):
    write_cmmlu(tmp_path, subjects=1).rename(tmp_path / "cmmlu")
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(3))
    found = analyze([str(tmp_path)])
    assert [(part.name, part.test_split) for part in found.parts] == [("chat", ""), ("subject_0", "cmmlu/test")]
    assert "the known test split cmmlu/test" in found.refused["subject_0"]
    assert "subject_0" not in found.recipe


def test_a_stretch_without_a_row_for_the_builder_is_where_a_build_would_stop(tmp_path, monkeypatch):
    from steel_data.read import formats

    monkeypatch.setattr(formats.scan_file, "__defaults__", (2000,))
    rows = [*chat_rows(30), *({"text": f"no layout {n}" * 9} for n in range(60))]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    found = analyze([str(tmp_path)])
    assert "on no row is one for it: split the file first" in found.refused["rows"]
    assert found.recipe == ""


def test_benchmarks_are_named_by_path_or_under_the_data_root(tmp_path):
    write_cmmlu(tmp_path / "root")
    write_jsonl(tmp_path / "rows.jsonl", chat_rows(2))
    found = analyze([str(tmp_path / "rows.jsonl")], benchmarks=["bench"], data_root=tmp_path / "root")
    assert found.benchmarks == ["root/bench"]
    assert 'benchmarks = ["root/bench"]' in found.recipe
    with pytest.raises(
        InputError, match=r"--benchmark bensh: no such benchmark folder or file\. Did you mean 'bench'\?"
    ):
        analyze([str(tmp_path / "rows.jsonl")], benchmarks=["bensh"], data_root=tmp_path / "root")


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    write_jsonl(tmp_path / "rows.jsonl", chat_rows(2))
    analyze(["rows.jsonl"])
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "tmp"}
