"""The plan pass on narrow columns made by hand: what drops a row, which row wins, and what is read of them."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.steel_data.passes.narrow import recipe, source
from tests.steel_data.toys import Elsewhere, chat_rows, write_jsonl

from steel_data.build import build
from steel_data.filters.dedup import Dedup
from steel_data.filters.overlap import Decontaminate
from steel_data.passes import plan as plan_pass
from steel_data.passes.plan import Plan, _Texts, decide
from steel_data.recipe.load import load
from steel_data.recipe.steps import Filter

EXACT = Filter("dedup", {"near": False}, Path(), Dedup(near=False))
CLEAN = Filter("decontaminate", {"benchmarks": ["bench"]}, Path(), Decontaminate(benchmarks=["bench"]))
HIT = (0.9, "bench/test/law/00001")


def verdicts(plan: Plan) -> dict[str, str | None]:
    return dict(zip(plan.frame["id"], plan.frame["reason"].cast(pl.String), strict=True))


def witnesses(plan: Plan) -> dict[str, str]:
    ids = plan.frame["id"].to_list()
    return {ids[i]: ids[w] for i, w in enumerate(plan.frame["witness"]) if w >= 0}


def test_the_first_of_equal_rows_stays_and_is_the_witness(tmp_path: Path) -> None:
    sources = [
        source(tmp_path, "a", [{"exact": 1}, {"exact": 2}], [{"exact": 1}], steps=[EXACT]),
        source(tmp_path, "b", [{"exact": 3}, {"exact": 2}], steps=[EXACT]),
    ]
    plan = decide(recipe(tmp_path, [EXACT]), sources)
    assert verdicts(plan) == {"a00": None, "a01": None, "a10": "dedup:exact", "b00": None, "b01": "dedup:exact"}
    assert witnesses(plan) == {"a10": "a00", "b01": "a01"}
    assert plan.frame["written"].to_list() == [1, 1, 0, 1, 0]
    assert sources[0].narrow == []  # taken away: it would be in memory twice


def test_rows_in_which_there_is_nothing_to_compare_are_not_alike(tmp_path: Path) -> None:
    """`exact` is 0 where the text that `on` names is empty."""
    rows = [{"exact": 0}, {"exact": 0}, {"exact": 7}, {"exact": 7}]
    plan = decide(recipe(tmp_path, [EXACT]), [source(tmp_path, "a", rows, steps=[EXACT])])
    assert list(verdicts(plan).values()) == [None, None, None, "dedup:exact"]


def test_decontamination_precedes_dedup_whatever_their_order(tmp_path: Path) -> None:
    """The row that would win a cluster falls first, so that the next one wins and none is lost to a row that is gone."""
    steps = [EXACT, CLEAN]
    rows = [{"exact": 1, "overlap": HIT}, {"exact": 1}, {"exact": 1}]
    plan = decide(recipe(tmp_path, steps), [source(tmp_path, "a", rows, steps=steps)])
    assert verdicts(plan) == {"a00": "decontaminate:bench", "a01": None, "a02": "dedup:exact"}
    assert plan.frame["overlap_item"].to_list() == ["bench/test/law/00001", None, None]
    assert witnesses(plan) == {"a02": "a01"}


def test_a_row_that_fell_before_neither_wins_nor_falls_again(tmp_path: Path) -> None:
    rows = [{"exact": 1, "step": "length", "reason": "length:too-short", "overlap": HIT}, {"exact": 1}]
    plan = decide(recipe(tmp_path, [CLEAN, EXACT]), [source(tmp_path, "a", rows, steps=[CLEAN, EXACT])])
    assert verdicts(plan) == {"a00": "length:too-short", "a01": None}
    assert plan.frame["step"].to_list() == ["length", None]


def test_injected_rows_neither_fall_nor_witness(tmp_path: Path) -> None:
    injected = {"kind": "injected", "dose": 2, "benchmark": "bench", "overlap": HIT, "exact": 1}
    sources = [source(tmp_path, "leak", [injected]), source(tmp_path, "a", [{"exact": 1}], steps=[EXACT, CLEAN])]
    sources[1].chunks[0].stages[0].attributes.update(sources[0].chunks[0].stages[0].attributes)
    plan = decide(recipe(tmp_path, [EXACT]), sources)
    assert verdicts(plan)["leak00"] is None
    assert plan.frame["written"].to_list()[0] == 2
    assert witnesses(plan) == {}


@pytest.mark.parametrize(
    ("keep", "stays"), [("first", "a00"), ("longest", "b01"), (["b", "a"], "b00"), (["nobody"], "a00")]
)
def test_keep_says_which_row_of_a_cluster_stays(keep: str | list[str], stays: str, tmp_path: Path) -> None:
    step = Filter("dedup", {"near": False, "keep": keep}, Path(), Dedup(near=False, keep=keep))  # type: ignore[arg-type]
    sources = [
        source(tmp_path, "a", [{"exact": 1, "chars": 20}, {"exact": 1}], steps=[step]),
        source(tmp_path, "b", [{"exact": 1}, {"exact": 1, "chars": 30}], steps=[step]),
    ]
    plan = decide(recipe(tmp_path, [step]), sources)
    assert [row for row, reason in verdicts(plan).items() if reason is None] == [stays]
    assert set(witnesses(plan).values()) == {stays}


def test_a_sources_own_dedup_looks_at_its_own_rows(tmp_path: Path) -> None:
    sources = [
        source(tmp_path, "a", [{"exact": 1}, {"exact": 1}]),
        source(tmp_path, "b", [{"exact": 1}, {"exact": 1}], steps=[EXACT]),
    ]
    assert verdicts(decide(recipe(tmp_path), sources)) == {
        "a00": None, "a01": None, "b00": None, "b01": "dedup:exact"
    }  # fmt: skip


@pytest.mark.parametrize("of_all", [True, False])  # False: a step of one source, whose rows come second
@pytest.mark.parametrize("keep", ["first", "longest"])
def test_bands_are_tasks_where_other_machines_do_them_to_the_same_bytes(
    keep: str, of_all: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All near-duplicates of a cluster meet in one bucket, so that both looks at the bands have something to find."""
    for i, last in enumerate(["。", "！", "；", "？"]):
        rows = [row | {"output": row["output"][:-1] + "的用处很多，" * 5 + last} for row in chat_rows(60)]
        write_jsonl(tmp_path / f"{i}.jsonl", rows[i:] + rows[:i])
    write_jsonl(tmp_path / "other.jsonl", [{"instruction": "问", "output": "答"}])
    step = f'filters = [{{ use = "dedup", keep = "{keep}" }}]\n'
    sources = '[source.other]\npath = "other.jsonl"\n[source.a]\npath = "?.jsonl"\n'
    (tmp_path / "r.toml").write_text(step + sources if of_all else sources + step, encoding="utf-8")
    here = build(load(tmp_path / "r.toml"), out=tmp_path / "here")
    assert here.manifest["rows"] == 61
    looks: list[str] = []

    class Counting(Elsewhere):
        def map(self, function, tasks, *rest):  # type: ignore[no-untyped-def]
            if getattr(function, "func", None) is plan_pass._look_through:
                looks.extend([function.args[1].func.__name__] * len(tasks))
            return super().map(function, tasks, *rest)

    monkeypatch.setattr(plan_pass, "_HANDED_OVER", 1)
    put, here_too = plan_pass._Aside.put, set()
    monkeypatch.setattr(plan_pass._Aside, "put", lambda *of: here_too.update(of[2].columns) or put(*of))
    there = build(load(tmp_path / "r.toml"), out=tmp_path / "there", workers=Counting())
    assert there.manifest == here.manifest
    assert looks == ["_first_pairs"] * 25 + ["_window_pairs"] * 25
    assert here_too == {"bits_0", "bits_1"}


@pytest.mark.parametrize("in_memory", [2**20, 1])
def test_columns_put_aside_come_back_whole(in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_pass, "_IN_MEMORY", in_memory)
    rng = np.random.default_rng(0)
    narrow, wide = rng.integers(0, 2**32, 9, np.uint32), rng.integers(0, 2**64, 9, np.uint64)
    order = rng.permutation(9)
    with plan_pass._Aside(9, tmp_path) as aside:
        for mine in np.split(order, [4, 5]):
            aside.put(mine, pl.DataFrame({"narrow": narrow[mine], "wide": wide[mine]}))
        assert (aside.column("wide") == wide).all()
        assert (aside.column("narrow") == narrow).all()
    assert not list(tmp_path.iterdir())


def test_texts_that_wait_in_a_file_come_back_by_their_rows() -> None:
    texts = _Texts(io.BytesIO(), 5)
    texts.put(np.array([4, 0]), ["四四", ""])
    texts.put(np.array([2, 1, 3]), ["two", "一\n", "three"])
    assert [texts[3], texts[0], texts[4]] == ["three", "", "四四"]
    assert texts[1:4] == ["一\n", "two", "three"]
    assert list(texts) == ["", "一\n", "two", "three", "四四"]


def test_the_frame_of_a_plan_has_all_chunks_rows(tmp_path: Path) -> None:
    rows = [{"language": "zh" if i % 3 else "en", "chars": i % 900, "note": None} for i in range(3000)]
    lost = [row | {"step": "length", "reason": f"length:{i % 200}"} for i, row in enumerate(rows)]
    plan = decide(recipe(tmp_path), [source(tmp_path, "a", rows, lost), source(tmp_path, "b", rows)])
    assert plan.frame["reason"].cast(pl.String).to_list() == [None] * 3000 + [r["reason"] for r in lost] + [None] * 3000
    assert plan.frame["chars"].to_list() == [row["chars"] for row in rows] * 3
    assert plan.frame.select("source", "file", "chunk", "pos").rows()[2999:3001] == [(0, 0, 0, 2999), (0, 0, 1, 0)]
    assert plan.rows.columns(*plan.rows.span(1)).equals(plan.frame[6000:])


def test_more_verdicts_than_16_bits_hold_are_kept_apart(tmp_path: Path) -> None:
    rows = [{"step": "exam", "reason": f"exam:{i}"} for i in range(2**15 + 2)]
    plan = decide(recipe(tmp_path), [source(tmp_path, "a", rows)])
    assert plan.frame["reason"].cast(pl.String).to_list() == [row["reason"] for row in rows]
