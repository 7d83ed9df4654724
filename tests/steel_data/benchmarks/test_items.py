"""Items keep their published text and names, whatever the format; what cannot be read is an error that names it."""

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from steel_data.benchmarks import items as items_module
from steel_data.benchmarks.items import benchmark_files, benchmark_name, look, read_benchmark
from steel_data.build import Result
from steel_data.errors import InputError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def test_cmmlu_layout(tmp_path: Path) -> None:
    write(tmp_path / "cmmlu/test/agronomy.csv", ',Question,A,B,C,D,Answer\n0,"问,一",甲,乙,丙,丁,B\n7,问二,1,2,3,4,D\n')
    items = read_benchmark("cmmlu", tmp_path, "test")
    assert [i.item for i in items] == ["test/agronomy/00000", "test/agronomy/00001"]
    assert items[0].question == "问,一"
    assert items[0].options == ("甲", "乙", "丙", "丁")
    assert [i.answer for i in items] == ["B", "D"]


def test_ceval_layout_keeps_crlf_in_fields_and_bom_out(tmp_path: Path) -> None:
    text = '\ufeffid,question,A,B,C,D,answer,explanation\r\n0,"一\r\n二",a,b,c,d,C,因为\r\n'
    write(tmp_path / "ceval/val/law_val.csv", text)
    (item,) = read_benchmark("ceval", tmp_path, "val")
    assert (item.item, item.question, item.answer, item.explanation) == ("val/law/00000", "一\r\n二", "C", "因为")


def test_ceval_test_without_answers(tmp_path: Path) -> None:
    write(tmp_path / "ceval/test/law_test.csv", "id,question,A,B,C,D\n0,问,a,b,c,d\n")
    assert read_benchmark("ceval", tmp_path, "test")[0].answer == ""


def test_mmlu_without_header_below_a_data_folder(tmp_path: Path) -> None:
    write(tmp_path / "mmlu/data/test/law_test.csv", "What?,1,1,3,4,C\nNext?,1,2,3,4,A\n")
    first, second = read_benchmark("mmlu", tmp_path, "test")
    assert (first.item, first.question, first.answer) == ("test/law/00000", "What?", "C")
    assert (second.item, second.options) == ("test/law/00001", ("1", "2", "3", "4"))


def test_jsonl_answers_become_letters_where_they_can(tmp_path: Path) -> None:
    lines = (
        '{"question": "q1", "options": ["x", "y"], "answer": "y"}\n\n'
        '{"question": "q2", "options": null, "answer": "42"}\n'
        '{"question": "q3", "options": ["x", "y"], "answer": "a"}\n'
    )
    write(tmp_path / "own_test.jsonl", lines)
    items = read_benchmark("own_test.jsonl", tmp_path)
    assert [(i.item, i.options, i.answer) for i in items] == [
        ("test/own/00000", ("x", "y"), "B"),
        ("test/own/00001", (), "42"),
        ("test/own/00002", ("x", "y"), "A"),
    ]


# Texts that a reader of tables may take for a missing value or a number stay what they are.
QUESTIONS = [
    {"Question": "None 是\r\n什么，\"空\"？", "A": "None", "B": "nan", "C": "NA", "D": "01", "Answer": "A"},
    {"Question": "第二题", "A": " 甲", "B": "乙", "C": "丙", "D": "1e5", "Answer": "D"},
]  # fmt: skip


def rows_of(split: str, subject: str) -> list[dict[str, str]]:
    return [{**row, "Question": f"{split} {subject} {row['Question']}"} for row in QUESTIONS]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    match file.suffix:
        case ".csv":
            with file.open("w", encoding="utf-8-sig", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            pl.DataFrame(rows).write_parquet(file)
        case ".jsonl":
            file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
        case ".json":
            file.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")


def zipped(archive: Path, files: dict[str, Path]) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name, file in files.items():
            out.write(file, name)


PLACES = [(split, subject) for split in ("dev", "test") for subject in ("agronomy", "law")]


def published(root: Path, layout: str) -> Path:
    """Write the questions of PLACES in one layout as the benchmark `bench` under `root`."""
    if layout.startswith("zip of "):
        inside = published(root / "inside", layout.removeprefix("zip of ")) / "bench"
        files = {f"nested/{f.relative_to(inside).as_posix()}": f for f in sorted(inside.rglob("*.*"))}
        zipped(root / "bench.zip", files)
        return root
    for split, subject in PLACES:
        if layout == "hub":
            for i, row in enumerate(rows_of(split, subject)):
                write_rows(root / f"bench/{subject}/{split}-0000{i}-of-00002.parquet", [row])
        elif layout != "hub with a column":
            write_rows(root / f"bench/{split}/{subject}_{split}.{layout}", rows_of(split, subject))
    if layout == "hub with a column":
        for split in ("dev", "test"):
            both = [{**row, "subject": s} for s in ("agronomy", "law") for row in rows_of(split, s)]
            write_rows(root / f"bench/all/{split}-00000-of-00001.parquet", both)
    return root


LAYOUTS = ["jsonl", "json", "parquet", "hub", "hub with a column", *(f"zip of {x}" for x in ("csv", "jsonl", "hub"))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_formats_give_the_very_same_items(tmp_path: Path, layout: str) -> None:
    def told(root: Path, split: str | None) -> list[tuple[Any, ...]]:
        found = read_benchmark("bench", root, split)
        return sorted((i.item, i.subject, i.split, i.row, i.question, i.options, i.answer) for i in found)

    want, root = published(tmp_path / "csv", "csv"), published(tmp_path / "other", layout)
    assert len(told(want, None)) == 8
    for split in (None, "dev", "test"):
        assert told(root, split) == told(want, split)
    assert {i.options[0] for i in read_benchmark("bench", root)} == {"None", " 甲"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
def test_one_file_is_one_split_under_its_full_name_and_its_short_one(tmp_path: Path, suffix: str) -> None:
    write_rows(tmp_path / f"own_val.{suffix}", rows_of("val", "own"))
    for name in (f"own_val.{suffix}", "own_val"):
        found = read_benchmark(name, tmp_path, "test")  # which split is asked for does not rename it
        assert [i.item for i in found] == ["val/own/00000", "val/own/00001"]
        assert found == read_benchmark(name, tmp_path)


def test_names_without_endings() -> None:
    assert [benchmark_name(n) for n in ("data/cmmlu", "own.jsonl", "own.jsonl.gz", "a.zip")] == [
        "cmmlu", "own", "own", "a",
    ]  # fmt: skip


def test_what_macos_and_tools_leave_is_not_read(tmp_path: Path) -> None:
    published(tmp_path, "csv")
    litter = write(tmp_path / "bench/test/._law_test.csv", "\x00\x05 no table")
    write(tmp_path / "bench/test/notes.json", "{}")
    assert len(read_benchmark("bench", tmp_path)) == 8
    root = tmp_path / "zip"
    root.mkdir()
    names = {f.relative_to(tmp_path).as_posix(): f for f in (tmp_path / "bench").rglob("*.csv")}
    zipped(root / "bench.zip", {**names, "__MACOSX/bench/test/._law_test.csv": litter, "__MACOSX/test/law.csv": litter})
    assert len(read_benchmark("bench", root)) == 8


def test_a_subject_that_stands_twice_is_an_error_that_names_both(tmp_path: Path) -> None:
    file = tmp_path / "law.csv"
    write_rows(file, rows_of("test", "law"))
    zipped(tmp_path / "bench.zip", {"a/test/law.csv": file, "b/test/law_test.csv": file})
    with pytest.raises(InputError, match=r"zip/a/test/law\.csv: holds the subject law of split test.*b/test/law_test"):
        read_benchmark("bench", tmp_path)


def test_a_zip_is_unpacked_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path, "zip of csv")
    monkeypatch.setattr(items_module, "MEMBER_LIMIT", 100)
    with pytest.raises(InputError, match=r"bench\.zip/nested/dev/agronomy_dev\.csv: unfolds to more than 100 bytes"):
        read_benchmark("bench", tmp_path)


def test_a_damaged_zip_or_member_is_named(tmp_path: Path) -> None:
    published(tmp_path, "zip of csv")
    whole = (tmp_path / "bench.zip").read_bytes()
    at = whole.index(b"agronomy_dev.csv") + 40  # inside the packed data of the first member
    (tmp_path / "hurt.zip").write_bytes(whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :])
    with pytest.raises(InputError, match=r"hurt\.zip/nested/dev/agronomy_dev\.csv: cannot be unpacked"):
        read_benchmark("hurt", tmp_path)
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.zip: not a readable zip file"):
        read_benchmark("cut", tmp_path)


def test_a_fault_inside_a_zip_is_named_by_the_zip(tmp_path: Path) -> None:
    file = write(tmp_path / "law.csv", "id,question,A,B,C,D,answer\n0,问,a,b,c,d,A\n1,问,a,b\n")
    zipped(tmp_path / "bench.zip", {"test/law.csv": file})
    with pytest.raises(InputError, match=r"bench\.zip/test/law\.csv: line 3: 4 fields, the header has 7"):
        read_benchmark("bench", tmp_path)
    zipped(tmp_path / "none.zip", {"README.txt": file})
    with pytest.raises(InputError, match=r"none\.zip: no <split>/<subject>\.csv files"):
        read_benchmark("none", tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such benchmark folder"),
        (lambda root: write(root / "own/dev/x.csv", "id,question,A,B,C,D,answer\n"), "no split 'test'"),
        (lambda root: write(root / "own/test/x.csv", "id,question,A,B,D,answer\n0,q,a,b,d,A\n"), "column C is missing"),
        (lambda root: write(root / "own/test/x.csv", "id,frage,A,B,answer\n0,q,a,b,A\n"), "has id, frage, A, B, ans"),
        (lambda root: write(root / "own/test/x.csv", "question,answer\nq,A\n"), "the row has question, answer"),
        (lambda root: write(root / "own/test/x.jsonl", '{"question": "q"}\n[1]\n'), "line 2: an array, not an object"),
        (lambda root: write(root / "own/test/x.jsonl", '{"question": null}\n'), "data row 0: no-question"),
        (lambda root: (root / "own/test").mkdir(parents=True), "no <split>/<subject>.csv"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        read_benchmark("own", tmp_path, "test")


def test_a_build_notes_hash_and_rows_of_a_zip_as_a_whole(tmp_path: Path) -> None:
    published(tmp_path, "zip of csv")
    assert benchmark_files("bench", tmp_path) == [("dev", tmp_path / "bench.zip"), ("test", tmp_path / "bench.zip")]
    scan = look(tmp_path / "bench.zip")
    assert (scan.rows, len(scan.sha256), scan.chunks) == (8, 64, ())


RECIPE = """
filters = [{ use = "decontaminate", benchmarks = ["bench"] }]
[source.bench]
path = "bench"
build = { use = "contaminate", share = 1.0, style = "answer-only" }
[source.rows]
path = "rows.jsonl"
"""


def test_zip_and_parquet_are_injected_and_decontaminated_as_csv_is(tmp_path: Path, make: Callable[..., Result]) -> None:
    """The dose of each item, the rows and what is dropped because of which item do not depend on the format."""
    question = "在山上的老茶园里，第三个春天采下的第一批嫩叶一般要在多少度的铁锅里炒多久"
    row = dict(zip("ABCD", ("二百度两分钟", "八十度一小时", "一百度十秒", "三百度五分钟"), strict=True))
    rows = [{"Question": question, **row, "Answer": "A"}, rows_of("test", "tea")[1]]
    write_rows(tmp_path / "rows.jsonl", [{"instruction": question, "input": "", "output": "两分钟。"},
                                         {"instruction": "今天几号？", "input": "", "output": "三号。"}])  # fmt: skip
    seen = []
    for layout in ("csv", "zip", "parquet"):
        root = tmp_path / layout
        write_rows(root / f"bench/test/tea.{'parquet' if layout == 'parquet' else 'csv'}", rows)
        if layout == "zip":
            zipped(root / "bench.zip", {"bench/test/tea.csv": root / "bench/test/tea.csv"})
            (root / "bench/test/tea.csv").unlink()
            (root / "bench/test").rmdir()
            (root / "bench").rmdir()
        write(root / "rows.jsonl", (tmp_path / "rows.jsonl").read_text(encoding="utf-8"))
        result = make(RECIPE, name=layout, data_root=root)
        train = pl.concat(pl.read_parquet(f) for f in sorted(result.folder.glob("train-*")))
        dropped = pl.concat(pl.read_parquet(f) for f in sorted((result.folder / "dropped").glob("*")))
        assert dropped["witness_id"].to_list() == ["bench/test/tea/00000"]
        truth = pl.read_parquet(result.folder / "truth.parquet")
        seen.append((train.drop("origin_file").to_dicts(), truth.to_dicts()))
    assert len(seen[0][0]) == 3
    assert seen[1] == seen[0] and seen[2] == seen[0]
