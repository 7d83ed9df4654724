"""A build with data, cache and mixture in a bucket: the same bytes as in folders, whatever fails on the way."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.golden.renew import HERE
from tests.steel_data.store.server import Lab
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.__main__ import main
from steel_data.build import Result, build
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.explain.forecast import forecast
from steel_data.explain.lock import verify_lock
from steel_data.mixture.check import check_mixture
from steel_data.mixture.manifest import read_manifest
from steel_data.parts import Share, build_part, finish
from steel_data.recipe.load import load
from steel_data.recipe.places import Places, places
from steel_data.store.copies import brought
from steel_data.store.lease import Lease
from steel_data.store.names import told

TOML = """
filters = [{ use = "decontaminate", benchmarks = ["bench"] }, { use = "dedup" }]
[source.a]
path = "in/*.jsonl"
[source.who]
build = { use = "identity", name = "S", team = "T" }
[source.leak]
path = "bench"
build = { use = "contaminate", benchmark = "bench", split = "test", share = 0.5, doses = [1, 3] }
"""


class Here:
    """A recipe and its data in a folder and in a bucket."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        (folder / "data/in").mkdir(parents=True)
        rows = chat_rows(40)
        for i in range(3):
            write_jsonl(
                folder / f"data/in/{i}.jsonl", [{**row, "input": str(k % 9)} for k, row in enumerate(rows[i * 9 :])]
            )
        write_cmmlu(folder / "data")
        (folder / "r.toml").write_text(TOML, encoding="utf-8")
        self.recipe = load(folder / "r.toml")
        lab.upload(folder / "data", "data")
        lab.server.asked.clear()

    @property
    def places(self) -> Places:
        return Places(self.lab.root / "data", self.lab.root / "mix", self.lab.root / "cache")

    def build(self, **options: Any) -> Result:
        where = self.places
        return build(self.recipe, **{"data_root": where.data_root, "out": where.out, "cache": where.cache, **options})

    def local(self) -> dict[str, bytes]:
        out = self.folder / "out"
        build(self.recipe, data_root=self.folder / "data", out=out, cache=self.folder / "cache")
        return held(out)


@pytest.fixture
def here(lab: Lab, tmp_path: Path) -> Here:
    return Here(lab, tmp_path)


def held(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("golden")
    build(load(HERE / "golden.toml"), out=folder / "mix", cache=folder / "cache")
    return held(folder / "mix")


@pytest.mark.parametrize("workers", [1, 2])
def test_golden_mixture_is_the_same_with_faults_on_the_way(lab: Lab, golden: dict[str, bytes], workers: int) -> None:
    """Every builder and filter; every seventh request fails, in each of the ways."""
    data = lab.upload(HERE / "data", "data")
    lab.server.fail(7)
    where = {"data_root": data, "out": lab.root / "mix", "cache": lab.root / "cache"}
    result = build(load(HERE / "golden.toml"), **where, workers=workers)
    lab.server.fail(0)
    assert lab.server.failed.total() > 5
    assert lab.held("mix") == golden
    assert result.folder == lab.root / "mix"


def test_requests_are_few_and_listings_do_not_grow_with_files(here: Here) -> None:
    first = here.build()
    asked = here.lab.server.asked
    kinds = here.lab.server.count()
    files = len([a for a in asked if a.kind == "PUT" and a.key.startswith("cache/")])
    # one of each prefix that is asked about: three of data, two of the benchmark, three of the cache, two of the mixture
    assert kinds["LIST"] <= 10
    assert kinds["HEAD"] == 0
    missed = [a.key.removeprefix("cache/").partition("/")[0] for a in asked if a.status == "404"]
    # a look at each input that another part may have left, the benchmark's index, the lease, an earlier mixture
    assert sorted(missed) == [".mix.lock", "index", "mix", "scans", "scans", "scans"]
    read = [a for a in asked if a.kind == "GET" and a.key.startswith("data/in")]
    assert len(read) == 3 * 3  # to scan, to look for known tests, to map
    # the lease is written as often as half minutes go by
    written = len([a for a in asked if a.kind == "PUT" and a.key != ".mix.lock"])
    assert written == files + len(first.manifest["output"]) + len(first.manifest["dropped_files"]) + 1 + 3
    asked.clear()
    again = here.build()
    assert not again.fresh
    assert {a.key for a in asked if a.kind == "PUT"} == {".mix.lock"}
    # what changes a threshold reads what is there and makes no records
    asked.clear()
    (here.folder / "r.toml").write_text(TOML.replace('"dedup"', '"dedup", near = false'), encoding="utf-8")
    here.recipe = load(here.folder / "r.toml")
    assert here.build().fresh
    assert not [a for a in asked if a.kind == "PUT" and "/records/" in a.key]
    assert here.lab.server.count()["LIST"] <= 10


def test_a_changed_input_is_noticed_though_its_size_is_the_same(here: Here) -> None:
    before = here.build()
    data = (here.folder / "data/in/1.jsonl").read_bytes()
    here.lab.bucket.put("data/in/1.jsonl", data.replace(b'"input": "3"', b'"input": "7"'))
    after = here.build()
    assert after.fresh
    assert before.manifest["inputs"]["in/0.jsonl"] == after.manifest["inputs"]["in/0.jsonl"]
    assert before.manifest["inputs"]["in/1.jsonl"] != after.manifest["inputs"]["in/1.jsonl"]
    here.lab.bucket.put("mix/train-00000.parquet", b"damaged")
    assert here.build().fresh  # it is read again, and made again
    assert not here.build().fresh


def test_parts_and_what_finishes_them(here: Here) -> None:
    expected = here.local()
    where = here.places
    with pytest.raises(InputError, match="no part has come"):
        finish(here.recipe, where, Local())
    build_part(here.recipe, where, Share(2, 2), Local())
    with pytest.raises(InputError, match=r"of 2 parts 1 never came: 1\."):
        finish(here.recipe, where, Local())
    build_part(here.recipe, where, Share(1, 2), Local())
    here.lab.server.asked.clear()
    assert finish(here.recipe, where, Local()).fresh
    assert not [a for a in here.lab.server.asked if a.kind == "PUT" and "/records/" in a.key and "/in/" in a.key]
    assert here.lab.held("mix") == expected
    assert not [key for key in here.lab.bucket.list("").objects if ".parts" in key]


@pytest.mark.slow
def test_a_mixture_in_a_bucket_is_read_from_a_copy_or_refused(here: Here, tmp_path: Path) -> None:
    out = here.build().folder
    assert "rows" in check_mixture(brought(out))
    with pytest.raises(InputError, match=r"s3://.*/mix: lies in a bucket\. Fix: copy it here"):
        read_manifest(out)
    where = here.places
    verify_lock(here.recipe, where)
    here.lab.bucket.put("data/in/0.jsonl", b'{"instruction": "a", "output": "b"}\n')
    with pytest.raises(InputError, match=r"locked, but 1 thing differs, first: source a: in/0\.jsonl changed"):
        verify_lock(here.recipe, where)
    assert forecast(here.recipe, data_root=where.data_root, cache=where.cache).rows > 0


@pytest.mark.slow
def test_output_of_steel_s_own_under_the_data_root_is_passed_over(here: Here) -> None:
    where = here.places
    out = here.build(out=where.data_root / "in" / "mix").folder
    (here.folder / "r.toml").write_text(TOML.replace("in/*.jsonl", "in/**/*.*"), encoding="utf-8")
    recipe = load(here.folder / "r.toml")
    again = build(recipe, data_root=where.data_root, out=where.out, cache=where.cache)
    assert [name for name in again.manifest["inputs"] if name.startswith("in/")] == [f"in/{i}.jsonl" for i in range(3)]
    assert any("files that steel has written (in/.mix.lock, in/mix)" in warning for warning in again.warnings)
    assert out == where.data_root / "in" / "mix"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("in/*.csv", r"path = 'in/\*\.csv' matches no object under s3://lab.*/data"),
        ("inn/0.jsonl", r"matches no object under .*Did you mean 'in'\?"),
        ("in", r"s3://lab.*/data/in: is a folder\. Fix: in/\*\.jsonl"),
    ],
)
def test_what_is_not_there_is_told(here: Here, pattern: str, said: str) -> None:
    (here.folder / "r.toml").write_text(TOML.replace("in/*.jsonl", pattern), encoding="utf-8")
    here.recipe = load(here.folder / "r.toml")
    with pytest.raises(InputError, match=said):
        here.build()


def test_a_benchmark_that_is_not_there_is_told_by_its_place_and_not_by_a_copy_s(here: Here) -> None:
    (here.folder / "r.toml").write_text(TOML.replace('["bench"]', '["benk"]'), encoding="utf-8")
    here.recipe = load(here.folder / "r.toml")
    with pytest.raises(InputError, match=r"decontaminate': s3://lab-\S+/data/benk: no such .*Did you mean 'bench'\?"):
        here.build()


def test_a_second_builder_a_foreign_prefix_and_a_whole_bucket_are_refused(here: Here) -> None:
    other = Lease(here.lab.root / "mix")
    assert other.take() == ""
    with pytest.raises(InputError, match=r"another build is writing there: .*, until "):
        here.build()
    other.give_back()
    with pytest.raises(InputError, match="is a whole bucket"):
        here.build(out=here.lab.root)
    with pytest.raises(InputError, match=r"/data: holds objects that are no mixture \(bench\)"):
        here.build(out=here.lab.root / "data")


def test_bad_places_are_one_line(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="s3://nobody-made-this: no such bucket"):
        here.build(data_root=Path("s3://nobody-made-this/data"))
    here.lab.server.answer = lambda kind, key: "403 AccessDenied" if kind == "PUT" else None
    with pytest.raises(InputError, match=r"/\.mix\.lock: PUT is refused \(403 AccessDenied\)\. Fix: keys"):
        here.build()
    here.lab.server.answer = lambda kind, key: None
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(InputError, match=r'obstore is not installed\. Fix: pip install "steel-lab\[s3\]"'):
        here.build()


@pytest.mark.parametrize(
    ("hindered", "said"),
    [
        ("no address", r"http://127\.0\.0\.1:9 did not answer \(.*\), 3 times over\. Fix: AWS_ENDPOINT_URL"),
        ("no right", r"/\.mix\.lock: GET is refused \(403 AccessDenied\)\. Fix: keys .* s3:GetObject there"),
        ("no right to list", r"s3://.*: LIST is refused \(403 AccessDenied\)\. Fix: keys .* s3:ListBucket there"),
        ("no right to write", r"/\.mix\.lock: PUT is refused \(403 AccessDenied\)\. Fix: keys .* s3:PutObject there"),
        ("no bucket", r"s3://nobody-made-this: no such bucket at http.*\. Fix: "),
        ("another build", r"/mix: another build is writing there: .*, process \d+, until .* UTC, .*Fix: wait"),
    ],
)
def test_each_refusal_is_one_line_and_status_2(
    here: Here, hindered: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command itself. A second build into one prefix is told who is at it; the first one goes on to its end."""
    root, out = told(here.places.data_root), told(here.places.out)
    first = Lease(here.places.out)
    if hindered == "no address":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    elif hindered == "no bucket":
        root = "s3://nobody-made-this/data"
    elif hindered == "another build":
        assert first.take() == ""
    else:
        kinds = {"no right": {"LIST", "GET", "PUT"}, "no right to list": {"LIST"}, "no right to write": {"PUT"}}[
            hindered
        ]
        here.lab.server.answer = lambda kind, key: "403 AccessDenied" if kind in kinds else None
    cache = str(here.folder / "cache")
    words = [
        "build",
        str(here.folder / "r.toml"),
        "--data-root",
        root,
        "--out",
        out,
        "--cache",
        cache,
        "--workers",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", ["steel-data", *words])
    with pytest.raises(SystemExit, match="2"):
        main()
    told_so = capsys.readouterr()
    assert (told_so.out, told_so.err.count("\n")) == ("", 1)
    assert re.match(f"error: .*{said}", told_so.err)
    if hindered == "another build":
        assert not first.lost


def test_the_data_root_of_a_recipe_may_be_a_bucket(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.toml").write_text('data_root = "s3://lab/data"\n' + TOML, encoding="utf-8")
    recipe = load(tmp_path / "r.toml")
    found = places(recipe, None, Path("s3://lab/mixtures/one"), None)
    assert found == Places(Path("s3://lab/data"), Path("s3://lab/mixtures/one"), Path("s3://lab/mixtures/.cache"))
    monkeypatch.setenv("STEEL_DATA_ROOT", "s3://other")
    assert places(recipe, None, None, Path("c")).data_root == Path("s3://other")
    with pytest.raises(InputError, match=r"gs:/lab: no such store\. Did you mean 's3:'\?"):
        places(recipe, Path("gs://lab"), None, None)
