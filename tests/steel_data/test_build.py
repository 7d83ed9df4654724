"""The contract of the mixture folder: ids, columns, order, ledger, injection, and the same bytes every time."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.steel_data.toys import chat_rows, read_dropped, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.engine import Local
from steel_data.errors import InputError

COLUMNS = [
    "id",
    "copy",
    "messages",
    "source",
    "language",
    "language_score",
    "kind",
    "origin_file",
    "origin_row",
    "benchmark",
    "item",
    "dose",
    "chars",
    "meta",
]
INJECT = """
[source.leak]
path = "bench"
build = { use = "contaminate", benchmark = "bench", split = "test", share = 0.5, doses = [1, 3] }
"""
Make = Callable[..., Result]


def test_columns_ids_and_order(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(40))
    result = make('[source.a]\npath = "a.jsonl"\nrepeat = 2\n')
    train = read_train(result.folder)
    assert train.columns == COLUMNS
    assert len(train) == 80
    keys = []
    for row in train.iter_rows(named=True):
        pairs = [[m["role"], m["content"]] for m in row["messages"]]
        compact = json.dumps(pairs, ensure_ascii=False, separators=(",", ":")).encode()
        assert row["id"] == xxhash.xxh3_128_hexdigest(compact)
        order = xxhash.xxh3_64_intdigest(f"order/{row['id']}/{row['copy']}".encode(), 42)
        keys.append((order, row["source"], row["origin_file"], row["origin_row"], row["copy"]))
    assert keys == sorted(keys)
    lines = "".join(f"{r['id']}\t{r['source']}\t{r['copy']}\n" for r in train.iter_rows(named=True))
    assert result.manifest["content_sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    copies = train.group_by("id").agg(pl.col("copy").sort())["copy"].to_list()
    assert copies == [[0, 1]] * 40


def test_loads_with_datasets(make: Make, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write_jsonl(tmp_path / "a.jsonl", chat_rows(10))
    folder = make('[source.a]\npath = "a.jsonl"\n').folder
    loaded = datasets.load_dataset(
        "parquet", data_files=str(folder / "train-*.parquet"), split="train", cache_dir=str(tmp_path / "hf")
    )
    assert loaded[0]["messages"][0]["role"] == "user"


def test_manifest_names_no_machine(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(5))
    result = make(f'data_root = "{tmp_path.as_posix()}"\n[source.a]\npath = "{(tmp_path / "a.jsonl").as_posix()}"\n')
    text = (result.folder / "manifest.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert list(result.manifest["inputs"]) == ["a.jsonl"]


def test_every_row_is_accounted_for(make: Make, tmp_path: Path) -> None:
    rows = chat_rows(20)
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    lines[3] = b"{broken"
    lines[5] = json.dumps({**rows[5], "output": ""}).encode()
    lines[7] = lines[6]
    lines[9] = json.dumps(
        {"instruction": "What is the capital of France?", "output": "It is Paris, of course."}
    ).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    result = make(
        'filters = [{ use = "dedup" }]\n[source.a]\npath = "a.jsonl"\n'
        'filters = [{ use = "language", keep = ["zh"] }]\ntake = 10\n'
    )
    account = result.manifest["sources"]["a"]
    assert account["read"] == 20
    assert account["unreadable"] == 1
    assert account["dropped"] == {"chat:empty": 1, "dedup:exact": 1, "language:en": 1}
    assert (account["built"], account["kept"], account["sampled_out"], account["written"]) == (19, 16, 6, 10)
    dropped = read_dropped(result.folder)
    assert dropped.columns == [*COLUMNS, "step", "reason", "witness_id", "witness_text", "error"]
    by_row = {row["origin_row"]: row for row in dropped.iter_rows(named=True)}
    assert set(by_row) == {3, 5, 7, 9}
    assert by_row[3]["reason"] == "unreadable"
    assert "line 4" in by_row[3]["error"]
    assert by_row[7]["witness_text"].startswith(rows[6]["instruction"])


def test_unchanged_inputs_are_verified_and_changed_ones_replace(make: Make, tmp_path: Path) -> None:
    toml = '[source.a]\npath = "a.jsonl"\n'
    write_jsonl(tmp_path / "a.jsonl", chat_rows(8))
    first = make(toml)
    assert first.fresh
    assert not make(toml).fresh
    (first.folder / "train-00000.parquet").write_bytes(b"damaged")
    assert make(toml).fresh
    write_jsonl(tmp_path / "a.jsonl", chat_rows(9))
    again = make(toml)
    assert again.fresh
    assert again.manifest["rows"] == 9
    assert make(toml + "[train]\nepochs = 3\n").fresh is False  # training settings do not change a mixture


def test_verify_builds_from_the_bytes_that_are_there_whatever_size_and_time_say(make: Make, tmp_path: Path) -> None:
    file, toml = tmp_path / "a.jsonl", '[source.a]\npath = "a.jsonl"\n'
    write_jsonl(file, chat_rows(8))
    long_ago = (0, time.time() - 60)
    os.utime(file, long_ago)
    first = make(toml)
    file.write_text(file.read_text(encoding="utf-8").replace("第0号", "第9号"), encoding="utf-8")  # of the same size
    os.utime(file, long_ago)
    assert not make(toml).fresh
    again = make(toml, verify=True)
    assert again.fresh and again.manifest["inputs"] != first.manifest["inputs"]


def test_out_may_be_a_link_and_stays_one(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(8))
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk/mixture")
    for rows in (8, 9):
        write_jsonl(tmp_path / "a.jsonl", chat_rows(rows))
        assert make('[source.a]\npath = "a.jsonl"\n', out=tmp_path / "link").manifest["rows"] == rows
        assert (tmp_path / "link").is_symlink() and (tmp_path / "disk/mixture/manifest.json").is_file()


def test_injection_bypasses_filters_and_is_marked(make: Make, tmp_path: Path) -> None:
    write_cmmlu(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", chat_rows(30))
    result = make(
        'filters = [{ use = "decontaminate", benchmarks = ["bench"] }, { use = "dedup" },\n'
        '           { use = "length", max_chars = 5 }]\n' + '[source.a]\npath = "a.jsonl"\n' + INJECT
    )
    train = read_train(result.folder)
    assert set(train["kind"]) == {"injected"}
    truth = pl.read_parquet(result.folder / "truth.parquet")
    assert len(truth) == 60
    copies = train.group_by("item").agg(pl.len().alias("n"), pl.col("dose").first())
    assert dict(zip(copies["item"], copies["n"], strict=True)) == {
        item: dose for item, dose in zip(truth["item"], truth["dose"], strict=True) if dose
    }
    assert result.manifest["contamination"] == {"bench": {"1": 15, "3": 15}}
    account = result.manifest["sources"]["leak"]
    assert account["dropped"] == {"contaminate:not-drawn": 30}
    assert (account["kept"], account["repeated"], account["written"]) == (30, 30, 60)


def test_decontamination_precedes_dedup_and_only_survivors_win(make: Make, tmp_path: Path) -> None:
    """Two equal rows hold an item: both fall to decontamination, none is a duplicate of a row that is gone."""
    write_cmmlu(tmp_path)
    question = (tmp_path / "bench/test/subject_0.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[1]
    rows = [*chat_rows(4), {"instruction": question, "output": "选B。"}, {"instruction": question, "output": "选B。"}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    result = make(
        'filters = [{ use = "dedup" }, { use = "decontaminate", benchmarks = ["bench"] }]\n'
        '[source.a]\npath = "a.jsonl"\n'
    )
    assert result.manifest["sources"]["a"]["dropped"] == {"decontaminate:bench": 2}
    witness = read_dropped(result.folder).row(0, named=True)
    assert witness["witness_id"] == "bench/test/subject_0/00000"
    assert question in witness["witness_text"]


def test_dedup_keeps_the_source_that_stands_first_in_the_recipe(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "z.jsonl", chat_rows(6))
    write_jsonl(tmp_path / "a.jsonl", chat_rows(10))
    result = make('filters = [{ use = "dedup" }]\n[source.z]\npath = "z.jsonl"\n[source.a]\npath = "a.jsonl"\n')
    assert result.manifest["sources"]["z"]["kept"] == 6
    assert result.manifest["sources"]["a"]["dropped"] == {"dedup:exact": 6}


def test_small_sample_is_inside_large_one(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(100))
    small, large = (
        set(read_train(make(f'[source.a]\npath = "a.jsonl"\ntake = {n}\n', name=f"take{n}").folder)["id"])
        for n in (10, 50)
    )
    assert len(small) == 10
    assert small < large


def test_a_new_source_changes_no_other_row(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(100))
    write_jsonl(tmp_path / "b.jsonl", [{"instruction": f"独一无二的问题{i * 7919}", "output": "好"} for i in range(30)])
    alone = '[source.a]\npath = "a.jsonl"\ntake = 40\n'
    one = read_train(make(alone, name="one").folder)
    two = read_train(make(alone + '[source.b]\npath = "b.jsonl"\n', name="two").folder)
    assert one["id"].to_list() == two.filter(pl.col("source") == "a")["id"].to_list()


def test_same_bytes_for_any_worker_count_and_file_order(make: Make, tmp_path: Path) -> None:
    rows = chat_rows(120)
    for i in range(4):
        write_jsonl(tmp_path / f"part{i}.jsonl", rows[i * 30 : i * 30 + 30])
    filters = 'filters = [{ use = "dedup" }]\n'
    listed = filters + '[source.a]\npath = ["part3.jsonl", "part1.jsonl", "part0.jsonl", "part2.jsonl"]\n'
    globbed = filters + '[source.a]\npath = "part*.jsonl"\n'
    one = make(globbed, name="r", out=tmp_path / "one", cache=tmp_path / "c1", workers=1)
    two = make(globbed, name="r", out=tmp_path / "two", cache=tmp_path / "c2", workers=2)
    three = make(listed, name="r", out=tmp_path / "three", cache=tmp_path / "c3", workers=1)
    assert (one.folder / "manifest.json").read_bytes() == (two.folder / "manifest.json").read_bytes()
    for name in ("train-00000.parquet", "dropped/part-00000.parquet", "card.md", "card.html"):
        assert not (one.folder / name).exists() or (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    assert three.manifest["content_sha256"] == one.manifest["content_sha256"]
    assert three.manifest["output"] == one.manifest["output"]


ROW = st.fixed_dictionaries(
    {
        "instruction": st.one_of(
            st.text(max_size=30), st.none(), st.integers(), st.lists(st.text(max_size=3), max_size=2)
        ),
        "output": st.one_of(st.text(max_size=30), st.none(), st.sampled_from(["同一个回答，同一个梦想", "好的"])),
    }
)
LINE = st.one_of(
    ROW.map(json.dumps), st.sampled_from(["{bad", "[]", "", '{"instruction": "\\ud800", "output": "x"}', "null"])
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(LINE, min_size=1, max_size=25),
    repeat=st.integers(1, 3),
    near=st.booleans(),
    low=st.integers(0, 20),
    budget=st.one_of(st.none(), st.integers(1, 10)),
)
def test_ledger_laws_on_random_input(lines, repeat, near, low, budget, tmp_path_factory) -> None:
    """Whatever the rows, the books balance and each raw row is in the mixture, sampled out, or in dropped/."""
    from steel_data.build import build
    from steel_data.recipe.load import load

    root = tmp_path_factory.mktemp("law")
    good = json.dumps({"instruction": "一定能读的一行", "output": "是的，它总在这里"}, ensure_ascii=False)
    (root / "a.jsonl").write_text("\n".join([good, *lines]), encoding="utf-8")
    mix = f"[mix]\nbudget_rows = {budget}\n" if budget else ""
    (root / "r.toml").write_text(
        f'allow_empty = true\nfilters = [{{ use = "dedup", near = {str(near).lower()} }}, {{ use = "length", min_chars = {low} }}]\n'
        f'{mix}[source.a]\npath = "a.jsonl"\nrepeat = {repeat}\n',
        encoding="utf-8",
    )
    try:
        result = build(load(root / "r.toml"))
    except InputError as error:
        assert "budget_rows" in str(error)
        return
    finally:
        shutil.rmtree(root / "runs", ignore_errors=True)
    a = result.manifest["sources"]["a"]
    assert a["read"] == sum(1 for line in [good, *lines] if line.strip())
    assert a["built"] == a["read"] - a["unreadable"] + a["made"]
    assert a["built"] == a["kept"] + sum(a["dropped"].values())
    assert a["written"] == a["kept"] - a["sampled_out"] + a["repeated"]
    assert a["written"] == result.manifest["rows"]
    if budget:
        assert a["written"] == budget


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_and_rerun_gives_the_same_bytes(tmp_path: Path, kills: int) -> None:
    """SIGKILL at random moments, then the same command again: the result is that of an undisturbed run."""
    rows = chat_rows(160)
    for i in range(8):
        write_jsonl(tmp_path / f"part{i}.jsonl", [{**r, "output": r["output"] + f"（第{i}份）" * 3} for r in rows])
    recipe = tmp_path / "r.toml"
    recipe.write_text('filters = [{ use = "dedup" }]\n[source.a]\npath = "part*.jsonl"\n', encoding="utf-8")

    def command(name: str) -> list[str]:
        options = ["--workers", "1", "--out", str(tmp_path / name / "mixture")]
        return [sys.executable, "-m", "steel_data", "build", str(recipe), *options]

    start = time.monotonic()
    subprocess.run(command("whole"), check=True, capture_output=True)
    length = time.monotonic() - start
    expected = (tmp_path / "whole/mixture/manifest.json").read_bytes()
    moments = random.Random(7)
    for i in range(kills):
        name = f"killed{i}"
        process = subprocess.Popen(command(name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.2, length))
        process.kill()
        process.wait()
        subprocess.run(command(name), check=True, capture_output=True)
        assert (tmp_path / name / "mixture/manifest.json").read_bytes() == expected
        assert not [p for p in (tmp_path / name).iterdir() if p.name.endswith((".new", ".old"))]


@pytest.mark.parametrize("replaced", [True, False])
def test_what_stood_where_a_build_was_killed_goes_or_takes_its_name_again(
    make: Make, tmp_path: Path, replaced: bool
) -> None:
    """It stayed, hidden, when the next build found the new one whole; and was away until the next build was done."""
    write_jsonl(tmp_path / "a.jsonl", chat_rows(8))
    toml = '[source.a]\npath = "a.jsonl"\n'
    made = make(toml)
    beside = made.folder.with_name(f".{made.folder.name}.old")
    if replaced:
        shutil.copytree(made.folder, beside)
    else:
        made.folder.rename(beside)
    again = make(toml)
    assert not again.fresh and again.manifest == made.manifest and not beside.exists()


def test_too_little_memory_is_refused_with_the_least_that_is_enough(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", chat_rows(20))
    recipe = '[source.a]\npath = "rows.jsonl"\n'
    with pytest.raises(
        InputError, match=r"--memory 400MB: a build of 20 rows takes 500MB at least\. Fix: --memory 501MB"
    ):
        make(recipe, workers=Local(2, 400_000_000))
    assert make(recipe, workers=Local(2, 501_000_000)).manifest["rows"] == 20
