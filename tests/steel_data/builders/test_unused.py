"""Columns that nobody reads: an error with the line that mends it, a list on card and manifest, and never in silence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.steel_data.toys import chat_rows, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.builders.unused import lost_meaning
from steel_data.errors import InputError
from steel_data.explain.forecast import forecast
from steel_data.recipe.load import load
from steel_data.row.columns import Unread, added

Make = Callable[..., Result]
QA: dict[str, Any] = {"instruction": "问", "output": "答"}
TURNS = {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]}
EXAM = {"question": "磨坊在哪边？", "A": "东", "B": "西", "answer": "A"}
SOURCE = '[source.a]\npath = "a.jsonl"\n'


@pytest.mark.parametrize(
    ("row", "build", "said"),
    [
        ({**QA, "label": True}, "", "column 'label' holds whether the answer is a good one"),
        ({**QA, "rejected_output": "坏"}, "", 'columns = { prompt = "instruction", chosen = "output", query = "", rejected ='),
        ({**TURNS, "bad": "坏"}, "", 'columns = { messages = "messages", rejected = "bad" }'),
        ({**QA, "context": "老乔守着磨坊。"}, "", 'response = "output", query = "context" }'),
        ({**QA, "input": "甲", "context": "老乔守着磨坊。"}, "", 'does not read it. Fix: meta = ["context"]'),
        ({**TURNS, "available_tools": [{"name": "f"}]}, "", 'build = { use = "chat", columns = { tools = "available_tools" } }'),
        ({**QA, "thinking": "想想"}, "", 'columns = { reasoning = "thinking" }'),
        ({**QA, "chat_history": [["一", "二"]]}, "", 'columns = { history = "chat_history" }'),
        ({**QA, "system_prompt": "你是诗人", "label": 0}, "", "(nor 'system_prompt'). Fix: build = { use = \"chat\", columns = { kto_tag = \"label\", system"),
        ({**QA, "label": False}, "", '"label" } } for the good answers alone, the same with layout = "kto" for good and bad ones'),
        ({**EXAM, "document": "老乔守着磨坊。"}, "exam", 'answer = …, passage = "document" }'),
        ({**EXAM, "image": "a.png"}, "exam", "column 'image' holds a picture or a sound"),
    ],
)  # fmt: skip
def test_what_changes_a_rows_meaning_is_an_error_until_the_recipe_settles_it(
    row: dict[str, Any], build: str, said: str, make: Make, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "a.jsonl", [row, row])
    toml = SOURCE + (f'build = {{ use = "{build}" }}\n' if build else "")
    lost = sorted(row.keys() - QA.keys() - TURNS.keys() - EXAM.keys() - {"input"})
    with pytest.raises(InputError) as error:
        make(toml)
    assert said in str(error.value) and str(error.value).startswith(f"{tmp_path / 'r.toml'} [source.a]: column '")
    assert make(f"{toml}ignore = {lost}".replace("'", '"')).manifest["unused_columns"]["a"] == dict.fromkeys(lost, 2)
    kept = make(f"{toml}meta = {lost}".replace("'", '"'))
    assert kept.manifest["unused_columns"] == {"a": {}}


def test_the_line_that_the_error_names_mends_it(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{**QA, "context": "老乔守着磨坊。", "system_prompt": "你是诗人"}])
    with pytest.raises(InputError) as error:
        make(SOURCE)
    line = str(error.value).partition("Fix: ")[2].partition(", meta = ")[0]
    result = make(SOURCE + line)
    messages = read_train(result.folder)["messages"].to_list()[0]
    assert [m["content"] for m in messages] == ["你是诗人", "问\n老乔守着磨坊。", "答"]
    assert result.manifest["unused_columns"] == {"a": {}}


def test_a_tag_is_listed_and_what_is_empty_in_all_rows_is_not(make: Make, tmp_path: Path) -> None:
    rows = [
        {**row, "label": {"ability": ["写"]}, "topic": "x" if i else None, "image": "", "y": []}
        for i, row in enumerate(chat_rows(5))
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    result = make(SOURCE)
    assert result.manifest["unused_columns"] == {"a": {"label": 5, "topic": 4}}
    card = (result.folder / "card.md").read_text(encoding="utf-8")
    assert "| `a` | `label` | 5 |" in card and "| `a` | `topic` | 4 |" in card
    assert "<bdi>topic</bdi> 4" in (result.folder / "card.html").read_text(encoding="utf-8")
    seen = forecast(load(tmp_path / "r.toml"), data_root=tmp_path, cache=None).sources[0]
    assert (seen.unused, seen.looked) == ({"label": 5, "topic": 4}, 5)


def test_the_count_does_not_depend_on_chunks_or_cache(make: Make, tmp_path: Path) -> None:
    rows = [{**row, "topic": "x" if i % 3 else "", "label": i % 4} for i, row in enumerate(chat_rows(90))]
    write_jsonl(tmp_path / "a.jsonl", rows)
    edited = SOURCE + 'filters = [{ use = "clean" }]\n'  # a second stage: the records are written again
    expected = {"a": {"label": 90, "topic": 60}}
    assert make(edited).manifest["unused_columns"] == expected
    assert make(edited, name="again").manifest["unused_columns"] == expected  # records from the cache
    for i in range(3):
        write_jsonl(tmp_path / f"part-{i}.jsonl", rows[30 * i : 30 * i + 30])
    assert make(edited.replace("a.jsonl", "part-*.jsonl"), name="cut").manifest["unused_columns"] == expected


def test_a_builder_of_the_users_uses_what_it_reads(make: Make, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def made(row):\n"
        "    if row['skip']:\n        return 'skipped'\n"
        "    turns = [('user', row['q']), ('assistant', row.get('a'))]\n"
        "    return [{'messages': [{'role': r, 'content': t} for r, t in turns]}] * 2\n",
        encoding="utf-8",
    )
    rows = [{"q": f"问{i}", "a": "答", "skip": i == 2, "label": 1, "topic": "x"} for i in range(3)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    toml = SOURCE + 'build = { use = "own:made" }\n'
    with pytest.raises(InputError, match=r"column 'label' .*, and the builder 'own:made' does not read it\."):
        make(toml)
    assert make(toml + 'ignore = ["label"]').manifest["unused_columns"] == {"a": {"label": 2, "topic": 2}}


def test_benchmarks_and_templates_say_what_they_do_not_use(make: Make, tmp_path: Path) -> None:
    write_cmmlu(tmp_path, subjects=1, items=10)
    write_jsonl(tmp_path / "who.json", [{**QA, "topic": "x"}])
    result = make(
        '[source.who]\npath = "who.json"\nbuild = { use = "identity", name = "钢", team = "组" }\n'
        '[source.leak]\npath = "bench"\nbuild = { use = "contaminate", split = "test", doses = { 1 = 3 } }\n'
    )
    assert result.manifest["unused_columns"] == {"who": {"topic": 1}, "leak": {"": 10}}


def test_an_entry_of_a_dataset_info_does_not_settle_what_it_does_not_list(make: Make, tmp_path: Path) -> None:
    """LLaMA-Factory leaves history out where it is not listed; the recipe must say so itself."""
    write_jsonl(tmp_path / "a.jsonl", [{**QA, "history": [["一", "二"]]}])
    (tmp_path / "dataset_info.json").write_text('{"a": {"file_name": "a.jsonl"}}')
    toml = '[source.a]\npath = "dataset_info.json"\ndataset = "a"\n'
    with pytest.raises(InputError, match="column 'history' holds the turns before the question"):
        make(toml)
    said = make(toml + 'build = { use = "chat", columns = { history = "" } }\n')
    assert said.manifest["unused_columns"] == {"a": {"history": 1}}


def test_an_ignore_that_names_nothing_is_a_warning_and_a_contradiction_an_error(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{**QA, "label": "tag"}])
    warnings = make(SOURCE + 'ignore = ["lable"]').warnings
    assert warnings == ("source 'a': ignore names 'lable', which no row holds unread. Did you mean 'label'?",)
    with pytest.raises(InputError, match="'label' stands in ignore and in meta"):
        make(SOURCE + 'ignore = ["label"]\nmeta = ["label"]')


def test_a_sample_does_not_judge_truths(make: Make, tmp_path: Path) -> None:
    """`plan` sees some of the rows: those of a set that is sorted by class begin with 0 and 1."""
    rows = [{**row, "label": i // 10} for i, row in enumerate(chat_rows(60))]
    for i in range(6):
        write_jsonl(tmp_path / f"part-{i}.jsonl", rows[10 * i : 10 * i + 10])
    (tmp_path / "r.toml").write_text('[source.a]\npath = "part-[01]*.jsonl"\n', encoding="utf-8")
    with pytest.raises(InputError, match="column 'label'"):
        forecast(load(tmp_path / "r.toml"), data_root=tmp_path, cache=tmp_path / "cache")
    counts = added([{"label": Unread(20, 20)}])
    assert lost_meaning(counts, (), whole=True) == ["label"] and lost_meaning(counts, (), whole=False) == []
    assert make('[source.a]\npath = "part-*.jsonl"\n').manifest["unused_columns"] == {"a": {"label": 60}}
