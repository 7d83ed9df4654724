"""The map pass decides nothing and repeats nothing; custom steps see what their place in the chain promises."""

import gzip
import json
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from tests.steel_data.toys import chat_rows, read_dropped, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.passes import attributes
from steel_data.passes.attributes import Job
from steel_data.passes.inputs import InputFile
from steel_data.passes.map import Task, run_task, tasks_of
from steel_data.read.formats import scan_file
from steel_data.recipe.steps import bind_builder
from steel_data.row.tokens import find_tokenizer

Make = Callable[..., Result]


def cached(folder: Path) -> dict[str, int]:
    """Return every file of the cache with its time of change."""
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}


def recipe(chars: int = 12, threshold: float = 0.8, words: str = "石头", seed: int = 42) -> str:
    return f"""
    seed = {seed}
    filters = [
        {{ use = "decontaminate", benchmarks = ["bench"] }},
        {{ use = "dedup", threshold = {threshold} }},
    ]
    [source.a]
    path = "a.jsonl"
    filters = [
        {{ use = "language", keep = ["zh"] }},
        {{ use = "length", min_chars = {chars} }},
        {{ use = "pattern", drop = ["{words}"] }},
    ]
    """


def test_a_changed_threshold_recomputes_nothing(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(60))
    write_cmmlu(tmp_path)
    first = make(recipe())
    before = cached(tmp_path / "cache")
    assert before
    again = make(recipe(chars=26, threshold=0.6, seed=7))
    assert cached(tmp_path / "cache") == before
    assert again.manifest["rows"] < first.manifest["rows"]
    make(recipe(words="灯笼"))
    new = set(cached(tmp_path / "cache")) - set(before)
    assert len(new) == 1  # what a pattern finds is its own attribute; nothing else is made anew


def test_another_choice_of_checks_computes_nothing_and_counts_the_others(make: Make, tmp_path: Path) -> None:
    rows = [{"instruction": f"问{i}", "output": text} for i, text in enumerate(["好", "<p>好</p>", "坏\ufffd"])]
    write_jsonl(tmp_path / "a.jsonl", rows)
    recipe = '[source.a]\npath = "a.jsonl"\nfilters = [{{ use = "quality"{} }}]\n'.format
    first = make(recipe(""))
    before = cached(tmp_path / "cache")
    assert first.manifest["sources"]["a"]["dropped"] == {"quality:html": 1, "quality:mojibake": 1}
    assert "notes" not in first.manifest["sources"]["a"]
    for checks, dropped, notes in (
        (["html"], {"quality:html": 1}, {"quality:mojibake": 1}),
        ([], {}, {"quality:html": 1, "quality:mojibake": 1}),
    ):
        account = make(recipe(f", checks = {checks}")).manifest["sources"]["a"]
        assert (account["dropped"], account["notes"]) == (dropped, notes)
    assert cached(tmp_path / "cache") == before


def test_attributes_do_not_depend_on_the_parts_they_are_made_in(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = chat_rows(50)
    write_cmmlu(tmp_path)
    write_jsonl(
        tmp_path / "a.jsonl", [*rows, {"instruction": "一条带\x1e记号的指令", "output": "回答也带\x1e记号"}, *rows[:9]]
    )
    results = []
    for i, size in enumerate((10**6, 1, 100, 700)):
        monkeypatch.setattr(attributes, "PART_CHARS", size)
        results.append(make(recipe(), name=f"r{i}", cache=tmp_path / f"cache{i}"))
    trained = [read_train(result.folder) for result in results]
    assert all(frame.equals(trained[0]) for frame in trained)
    assert [len(read_dropped(result.folder)) for result in results] == [len(read_dropped(results[0].folder))] * 4


def test_a_lost_attribute_alone_is_made_again(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(30))
    write_cmmlu(tmp_path)
    result = make(recipe())
    before = cached(tmp_path / "cache")
    lost = next(name for name in sorted(before) if name.startswith("attributes"))
    (tmp_path / "cache" / lost).unlink()
    (result.folder / "manifest.json").unlink()
    for file in result.folder.rglob("*.parquet"):
        file.unlink()
    for file in result.folder.iterdir():
        file.unlink() if file.is_file() else file.rmdir()
    again = make(recipe())
    after = cached(tmp_path / "cache")
    assert {name for name in after if after[name] != before[name]} == {lost}
    assert again.manifest == result.manifest


def steps(folder: Path, code: str) -> None:
    (folder / "own_steps.py").write_text(textwrap.dedent(code), encoding="utf-8")


def test_an_edit_is_seen_by_the_steps_after_it_and_not_by_those_before(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(20))
    steps(
        tmp_path,
        """
        def to_english(record, *, word: str):
            if word in record["messages"][0]["content"]:
                answer = "This answer has been replaced by an English sentence of some length."
                turns = [{"role": "user", "content": "Please say something in English about lanterns."},
                         {"role": "assistant", "content": answer}]
                return {**record, "messages": turns, "meta": '{"edited": true}'}
            return record
        """,
    )
    edit = '{ use = "own_steps:to_english", word = "灯笼" }'
    zh = '{ use = "language", keep = ["zh"] }'
    before = make(f'[source.a]\npath = "a.jsonl"\nfilters = [{zh}, {edit}]\n', name="before")
    train = read_train(before.folder)
    assert len(train) == 20
    (edited,) = train.filter(pl.col("language") == "en").to_dicts()
    assert edited["meta"] == '{"edited": true}'
    assert edited["messages"][0]["content"].startswith("Please say")
    assert edited["chars"] > 60
    after = make(f'[source.a]\npath = "a.jsonl"\nfilters = [{edit}, {zh}]\n', name="after")
    assert after.manifest["sources"]["a"]["dropped"] == {"language:en": 1}


def test_an_edit_sees_only_rows_that_passed(make: Make, tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "a.jsonl", [*chat_rows(5), {"instruction": "Hi", "output": "What a lovely day it is today."}]
    )
    steps(
        tmp_path,
        """
        def only_chinese(record):
            assert record["language"] == "zh", record
            assert record["source"] == "a" and record["origin_file"] == "a.jsonl"
            return "looked-at" if record["origin_row"] == 2 else record
        """,
    )
    result = make(
        '[source.a]\npath = "a.jsonl"\nfilters = [{ use = "language", keep = ["zh"] }, { use = "own_steps:only_chinese" }]\n'
    )
    assert result.manifest["sources"]["a"]["dropped"] == {"language:en": 1, "looked-at": 1}
    reasons = {row["origin_row"]: (row["step"], row["reason"]) for row in read_dropped(result.folder).to_dicts()}
    assert reasons == {2: ("own_steps:only_chinese", "looked-at"), 5: ("language", "language:en")}


def test_a_second_edit_sees_no_row_that_fell_before_the_first(make: Make, tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "a.jsonl", [*chat_rows(3), {"instruction": "Hi", "output": "What a lovely day it is today."}]
    )
    steps(
        tmp_path,
        """
        def same(record):
            return record

        def only_chinese(record):
            assert record["language"] == "zh", record
            return record
        """,
    )
    uses = ["{ use = 'language', keep = ['zh'] }", "{ use = 'own_steps:same' }", "{ use = 'own_steps:only_chinese' }"]
    result = make(f'[source.a]\npath = "a.jsonl"\nfilters = [{", ".join(uses)}]\n')
    assert result.manifest["sources"]["a"]["dropped"] == {"language:en": 1}


def test_files_of_equal_content_and_other_names_are_edited_each_by_itself(make: Make, tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        write_jsonl(tmp_path / name, chat_rows(2))
    steps(tmp_path, "def named(record):\n    return {**record, 'meta': record['origin_file']}\n")
    result = make('[source.a]\npath = "?.jsonl"\nfilters = [{ use = "own_steps:named" }]\n')
    train = read_train(result.folder)
    assert train["meta"].to_list() == train["origin_file"].to_list()


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_damaged_records_of_the_cache_are_made_again(name: str, make: Make, tmp_path: Path) -> None:
    pl.DataFrame(chat_rows(30)).write_csv(tmp_path / "a.csv")
    write_jsonl(tmp_path / "a.jsonl", chat_rows(30))
    first = make(f'[source.a]\npath = "{name}"\n')
    (records,) = (tmp_path / "cache" / "records").rglob("*.parquet")
    records.write_bytes(b"PAR1")
    again = make(f'[source.a]\npath = "{name}"\n', name="again")
    assert again.manifest["content_sha256"] == first.manifest["content_sha256"]


def test_a_changed_module_is_run_again(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(6))
    toml = '[source.a]\npath = "a.jsonl"\nfilters = [{ use = "own_again:odd" }]\n'
    module = tmp_path / "own_again.py"
    module.write_text("def odd(record):\n    return record if record['origin_row'] % 2 else 'even'\n", encoding="utf-8")
    assert make(toml).manifest["rows"] == 3
    module.write_text(
        "def odd(record):\n    return record if record['origin_row'] > 4 else 'small'\n", encoding="utf-8"
    )
    again = make(toml)
    assert again.manifest["sources"]["a"]["dropped"] == {"small": 5}


def test_an_expression_keeps_where_true_and_drops_null(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{**row, "label": i if i % 3 else None} for i, row in enumerate(chat_rows(9))])
    steps(
        tmp_path,
        """
        import polars as pl

        def labelled(*, above: int = 3):
            return pl.col("meta").str.json_path_match("$.label").cast(pl.Int64) > above

        def first_turn_short(*, chars: int):
            return pl.col("messages").list.first().struct.field("content").str.len_chars() < chars
        """,
    )
    result = make(
        '[source.a]\npath = "a.jsonl"\nmeta = ["label"]\n'
        'filters = [{ use = "own_steps:labelled" }, { use = "own_steps:first_turn_short", chars = 100 }]\n'
    )
    assert result.manifest["sources"]["a"]["dropped"] == {"own_steps:labelled": 5}
    assert sorted(read_train(result.folder)["origin_row"]) == [4, 5, 7, 8]


def test_a_custom_builder_may_make_several_records_of_a_row(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"word": w, "meaning": "一种东西"} for w in ("灯笼", "水壶", "")])
    steps(
        tmp_path,
        """
        def both_ways(row, *, polite: bool = False):
            if not row["word"]:
                return "no word"
            ask = f"请问，什么是{row['word']}？" if polite else f"什么是{row['word']}？"
            return [
                {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": row["meaning"]}]},
                {"messages": [{"role": "user", "content": f"{row['meaning']}是什么？"},
                              {"role": "assistant", "content": row["word"]}]},
            ]
        """,
    )
    result = make('[source.a]\npath = "a.jsonl"\nbuild = { use = "own_steps:both_ways", polite = true }\n')
    account = result.manifest["sources"]["a"]
    assert (account["read"], account["made"], account["built"], account["kept"]) == (3, 2, 5, 4)
    assert account["dropped"] == {"no word": 1}
    assert any("请问" in m[0]["content"] for m in read_train(result.folder)["messages"])


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv", "a.parquet", "a.json"])
def test_formats_give_the_same_mixture(name: str, make: Make, tmp_path: Path) -> None:
    rows = chat_rows(30)
    frame = pl.DataFrame(rows)
    write_jsonl(tmp_path / "plain.jsonl", rows)
    if name == "a.jsonl.gz":
        import gzip

        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "plain.jsonl").read_bytes()))
    elif name == "a.csv":
        frame.write_csv(tmp_path / name)
    elif name == "a.parquet":
        frame.write_parquet(tmp_path / name)
    else:
        frame.write_json(tmp_path / name)
    plain = make('[source.a]\npath = "plain.jsonl"\n', name="plain")
    other = make(f'[source.a]\npath = "{name}"\n', name="other")
    assert other.manifest["content_sha256"] == plain.manifest["content_sha256"]


@pytest.mark.parametrize(
    ("name", "tasks"),  # None: as many as chunks
    [("a.jsonl", None), ("a.json", None), ("many.parquet", None), ("one.parquet", 4), ("a.jsonl.gz", 1), ("a.csv", 1)],
)
def test_one_plain_file_is_work_for_all_workers_and_its_rows_the_same(
    name: str, tasks: int | None, tmp_path: Path
) -> None:
    rows = chat_rows(160)
    path, frame = tmp_path / name, pl.DataFrame(rows)
    match name:
        case "a.jsonl":
            write_jsonl(path, rows)
        case "a.json":
            frame.write_json(path)
        case "a.jsonl.gz":
            path.write_bytes(gzip.compress(write_jsonl(tmp_path / "b.jsonl", rows).read_bytes()))
        case "a.csv":
            frame.write_csv(path)
        case _:
            frame.write_parquet(path, row_group_size=160 if name == "one.parquet" else 20, use_pyarrow=True)
    group = pq.ParquetFile(path).metadata.row_group(0).total_byte_size if name == "many.parquet" else 0
    found = scan_file(path, group + 300 if group else 1500)
    file = InputFile(path, name, found)

    def mapped(tasks: list[Task]) -> pl.DataFrame:
        parts = [part for task in tasks for part in run_task(task)]
        found = [narrow.rows() for _, narrow in sorted(parts, key=lambda part: part[0].index)]
        return pl.DataFrame([row for rows in found for row in rows], schema=parts[0][1].columns, orient="row")

    chunks = range(len(found.chunks))
    builder, tokenizer = bind_builder("", {"use": "chat"}, tmp_path, 0, True), find_tokenizer(None, tmp_path)
    job = Job("a", builder, (), (), tokenizer, tmp_path, tmp_path / "cut")
    cut, whole = tasks_of(job, (file,), 2), [Task(replace(job, cache=tmp_path / "whole"), file, 0, tuple(chunks))]
    assert len(chunks) >= 4
    assert len(cut) == (tasks or len(chunks))
    assert len(tasks_of(job, (file,), 1)) == (1 if tasks else len(chunks))
    assert [index for task in cut for index in task.chunks] == list(chunks)
    assert mapped(cut).equals(mapped(whole))
    assert mapped(cut)["origin_row"].to_list() == list(range(160))


def test_sources_of_different_formats_in_one_recipe(make: Make, tmp_path: Path) -> None:
    rows = chat_rows(40)
    write_jsonl(tmp_path / "a.jsonl", rows[:20])
    pl.DataFrame(rows[20:]).write_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.json").write_text(
        '[{"conversations": [{"from": "human", "value": "早"}, {"from": "gpt", "value": "早上好"}]}]', encoding="utf-8"
    )
    result = make('[source.mixed]\npath = ["*.parquet", "a.jsonl"]\n[source.c]\npath = "c.json"\n')
    assert result.manifest["rows"] == 41
    assert set(result.manifest["inputs"]) == {"a.jsonl", "b.parquet", "c.json"}


@pytest.mark.parametrize("form", ["parquet", "jsonl", "one file"])
def test_a_meta_column_that_a_chunk_does_not_hold_is_null_there_and_one_that_no_row_has_is_a_mistake(
    form: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and chunks of one data set need not all have a column that is rarely filled."""
    rows = [{**row, "n": i, 'od"d': i} for i, row in enumerate(chat_rows(20))]
    rows[19]["topic"] = "磨坊"
    parts = {"a": rows[:10], "b": rows[10:]} if form != "one file" else {"a": rows}
    for name, part in parts.items():
        if form == "parquet":
            pl.DataFrame(part).write_parquet(tmp_path / f"{name}.parquet")
        else:
            write_jsonl(tmp_path / f"{name}.jsonl", part)
    if form == "one file":
        monkeypatch.setattr(scan_file, "__defaults__", (1000,))  # bytes of a chunk
        assert len(scan_file(tmp_path / "a.jsonl").chunks) > 1
    source = '[source.a]\npath = "*.{}"\n'.format("parquet" if form == "parquet" else "jsonl")
    result = make(source + """meta = ["n", "topic", 'od"d']\n""")
    metas = {(meta := json.loads(text))["n"]: meta for text in read_train(result.folder)["meta"]}
    assert len(metas) == 20
    assert all(meta == {"n": n, "topic": "磨坊" if n == 19 else None, 'od"d': n} for n, meta in metas.items())
    with pytest.raises(InputError, match=r"\[source\.a\]: meta names the column 'topik', .* Did you mean 'topic'"):
        make(source + 'meta = ["topik"]\n', name="other")


def test_a_meta_column_that_is_null_in_all_rows_is_none_that_is_missing(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{**row, "topic": None} for row in chat_rows(3)])
    result = make('[source.a]\npath = "a.jsonl"\nmeta = ["topic"]\n')
    assert set(read_train(result.folder)["meta"]) == {'{"topic":null}'}


def test_an_error_names_file_and_row(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(5))
    steps(tmp_path, "def third(record):\n    return 1 / (record['origin_row'] - 3) and record\n")
    with pytest.raises(InputError, match=r"a\.jsonl row 3: filter 'own_steps:third' raised ZeroDivisionError"):
        make('[source.a]\npath = "a.jsonl"\nfilters = [{ use = "own_steps:third" }]\n')
