"""Benchmarks from folders, zips and parquet files; bad files are named, with the place."""

import shutil
import zipfile
from dataclasses import replace

import polars as pl
import pytest
from tests.steel_eval import toys

from steel_data.errors import InputError
from steel_eval.ask.tasks import is_local, key_may_be_another, limited, load_task

HEADER = ["", "Question", "A", "B", "C", "D", "Answer"]


def test_ceval_is_scored_on_val_and_its_test_where_the_files_have_a_key(toy_data, tmp_path):
    """Its key came out on 27 July 2025: older copies have none. A key with gaps is a fault."""
    task = load_task("ceval", toy_data)
    assert (task.split, task.published, len(task.missing)) == ("val", True, 50)
    assert [len(v) for v in task.examples.values()] == [5, 5]
    keyed = load_task("ceval-test", toy_data)
    assert (keyed.split, keyed.published) == ("test", True) and key_may_be_another(keyed)
    assert not key_may_be_another(task)
    shutil.copytree(toy_data, tmp_path, dirs_exist_ok=True)
    files = sorted((tmp_path / "ceval/test").glob("*.csv"))
    toys.without_key(*files[:1])
    with pytest.raises(InputError, match=r"the answer '' is no option\. Fix: one of A, B, C, D"):
        load_task("ceval-test", tmp_path)
    toys.without_key(*files[1:])
    assert not load_task("ceval-test", tmp_path).published


def test_a_file_is_a_benchmark_by_the_name_that_the_injector_gives_it(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"question": "1+1", "options": ["1", "2"], "answer": "B"}\n', encoding="utf-8")
    task = load_task("own.jsonl", tmp_path)
    assert (task.name, task.benchmark, list(task.items)) == ("own.jsonl", "own", ["own"])


def test_one_subject_by_name(toy_data):
    task = load_task("cmmlu/ethnology", toy_data)
    assert list(task.items) == ["ethnology"]
    assert task.missing == []
    assert task.items["ethnology"][3].item == "test/ethnology/00003"


def test_zip_and_parquet_give_the_same_data(toy_data, tmp_path):
    want = load_task("cmmlu", toy_data)
    with zipfile.ZipFile(tmp_path / "cmmlu.zip", "w") as archive:
        for file in sorted((toy_data / "cmmlu").rglob("*.csv")):
            archive.write(file, f"nested/{file.relative_to(toy_data / 'cmmlu').as_posix()}")
    assert load_task("cmmlu", tmp_path).data_sha256 == want.data_sha256
    parquet = tmp_path / "p/cmmlu"
    for group in (want.items, want.examples):
        for subject, items in group.items():
            (parquet / subject).mkdir(parents=True, exist_ok=True)
            rows = [
                {"Question": i.question, **dict(zip("ABCD", i.options, strict=True)), "Answer": i.answer} for i in items
            ]
            pl.DataFrame(rows).write_parquet(parquet / subject / f"{items[0].split}-00000-of-00001.parquet")
    assert load_task("cmmlu", tmp_path / "p").data_sha256 == want.data_sha256


def test_mmlu_as_the_hub_publishes_it(tmp_path):
    folder = tmp_path / "mmlu/anatomy"
    folder.mkdir(parents=True)
    frame = pl.DataFrame({"question": ["q"], "subject": ["anatomy"], "choices": [["w", "x", "y", "z"]], "answer": [2]})
    frame.write_parquet(folder / "test-00000-of-00001.parquet")
    item = load_task("mmlu", tmp_path).items["anatomy"][0]
    assert (item.options, item.answer) == (("w", "x", "y", "z"), "C")


def test_mmlu_as_hendrycks_published_it(tmp_path):
    for split in ("dev", "test"):
        file = tmp_path / f"mmlu/{split}/anatomy_{split}.csv"
        file.parent.mkdir(parents=True)
        file.write_text('"Which, of these?",w,x,y,z,C\nNext?,1,2,3,4,A\n')
    task = load_task("mmlu", tmp_path)
    assert [i.answer for i in task.items["anatomy"]] == ["C", "A"]
    assert len(task.examples["anatomy"]) == 2


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda f: toys.write_csv(f, HEADER, [toys.row(0, "E")]),
            r"agronomy.csv: data row 0 of test/agronomy: the answer 'E' is no option. Fix: one of A, B, C, D",
        ),
        (lambda f: toys.write_csv(f, HEADER, [toys.row(0, "AB")]), "the answer 'AB' is no option"),
        (lambda f: toys.write_csv(f, HEADER, [toys.row(0, "")]), "the answer '' is no option"),
        (
            lambda f: toys.write_csv(f, [*HEADER[:4], *HEADER[5:]], [["0", "q", "a", "b", "d", "A"]]),
            "column C is missing",
        ),
        (lambda f: f.write_bytes(b"\xff\xfe\x00bad"), "agronomy.csv: UTF-16 text"),
        (lambda f: f.write_bytes(f.read_bytes() + "1,问,a,b,c,d,A\n".encode("gbk")), "agronomy.csv: line 3: not UTF-8"),
        (lambda f: f.unlink(), "no "),
    ],
    ids=["label E", "two letters", "no label", "missing column", "UTF-16", "GBK", "nothing there"],
)
def test_a_bad_file_is_named(tmp_path, write, message):
    file = tmp_path / "cmmlu/test/agronomy.csv"
    toys.write_csv(file, HEADER, [toys.row(0, "A")])
    write(file)
    with pytest.raises(InputError, match=message):
        load_task("cmmlu", tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_bom_crlf_and_commas_in_fields(tmp_path, encoding):
    file = tmp_path / "cmmlu/test/agronomy.csv"
    file.parent.mkdir(parents=True)
    text = ',Question,A,B,C,D,Answer\r\n0,"甲,乙\r\n丙","一,二",三,四,五,B\r\n'
    file.write_bytes(text.encode(encoding))
    item = load_task("cmmlu", tmp_path).items["agronomy"][0]
    assert (item.question, item.options[0], item.answer) == ("甲,乙\r\n丙", "一,二", "B")


def test_a_missing_subject_asked_for_by_name_is_an_error(toy_data):
    with pytest.raises(InputError, match="Did you mean 'agronomy'"):
        load_task("cmmlu/agronomi", toy_data)


def test_other_names_are_for_lm_eval(toy_data):
    assert is_local("cmmlu/agronomy", toy_data)
    assert not is_local("hellaswag", toy_data)
    assert not is_local("cmmlu_agronomy", toy_data)


@pytest.mark.parametrize("name", ["cmmlu", "ceval-test", "mine/agronomy"])
def test_our_own_names_are_never_fetched_from_elsewhere(tmp_path, name):
    with pytest.raises(InputError, match=r"here\. Fix: --data with"):
        is_local(name, tmp_path)


def test_a_smaller_part_lies_inside_a_larger_one_whatever_the_order(toy_data):
    task = load_task("cmmlu", toy_data)
    names = [{i.item for i in limited(task, n).items["agronomy"]} for n in (3, 7)]
    assert len(names[0]) == 3 and len(names[1]) == 7 and names[0] < names[1]
    turned = replace(task, items={s: items[::-1] for s, items in task.items.items()})
    assert {i.item for i in limited(turned, 3).items["agronomy"]} == names[0]
    assert [i.row for i in limited(task, 7).items["agronomy"]] == sorted(
        i.row for i in limited(task, 7).items["agronomy"]
    )
    assert limited(task, 12) is task and limited(task, None) is task  # nothing is lost, nothing is marked
    part = limited(task, 3)
    assert (part.limit, part.whole) == (3, 24) and part.data_sha256 != task.data_sha256


def test_published_sizes_are_known(toy_data, tmp_path, monkeypatch):
    """Fewer are said (load_task(...).part); more than published are another edition, or questions counted twice."""
    from steel_data.benchmarks import items

    assert load_task("cmmlu", toy_data).part == (24, 11_582)
    assert load_task("ceval", toy_data).part == (24, 1_346)
    assert load_task("cmmlu/agronomy", toy_data).part is None  # a subject is asked for by name
    monkeypatch.setitem(items.PUBLISHED, "cmmlu", {"dev": 10, "test": 24})
    assert load_task("cmmlu", toy_data).part is None
    monkeypatch.setitem(items.PUBLISHED, "cmmlu", {"dev": 10, "test": 23})
    with pytest.raises(InputError, match="24 questions of split test, and 23 were published"):
        load_task("cmmlu", toy_data)
    monkeypatch.setitem(items.PUBLISHED, "cmmlu", {"dev": 9, "test": 24})
    with pytest.raises(InputError, match="split dev"):
        items.read_benchmark("cmmlu", toy_data)


@pytest.mark.shared
def test_the_sizes_are_those_of_the_real_files(shared_data):
    """Half of the subjects are at hand: five examples each, and no split larger than published."""
    from steel_data.benchmarks.items import PUBLISHED

    for name, subjects in (("cmmlu", 67), ("ceval", 52)):
        task = load_task(name, shared_data)
        here, published = task.part
        assert published == PUBLISHED[name][task.split] and here < published
        assert PUBLISHED[name]["dev"] == 5 * subjects == 5 * (len(task.items) + len(task.missing))
