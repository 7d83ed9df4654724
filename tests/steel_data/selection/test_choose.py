"""What each way of choosing prefers, and that a choice of fewer rows lies inside one of more."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.steel_data.selection.world import candidates

from steel_data.errors import InputError
from steel_data.recipe.selection import Select
from steel_data.selection.choose import BoundSelect, choose_rows
from steel_data.selection.ratings import open_store

LAW = "甲公司与乙公司订立买卖合同，乙公司违约，甲公司可以请求赔偿。"
POEM = "春天的风吹过山坡，花开满了整个院子，孩子们唱着歌。"
ANSWERS = [LAW if i % 3 == 0 else POEM for i in range(30)]
UNLIKE = [f"第{i}行{word * 12}" for i, word in enumerate("灯笼水壶铁轨风筝棉被算盘罗盘竹筏瓦片石磨")]


def chosen(by: str, made, meta=(), store=None, target=(), **how):
    select = Select(by=by, **({"rows": 4} if not {"rows", "tokens"} & how.keys() else {}), **how)
    return choose_rows(BoundSelect(select, Path("r.toml"), target, store=store), made, meta)


def taken(found) -> list[int]:
    return sorted(found.order_R[: found.count].tolist())


def rated(folder: Path, by: str, ratings, ids) -> object:
    store = open_store(folder, by, "base", "f" * 32)
    store.add(pl.DataFrame({"id": ids, "rating": pl.Series(ratings, dtype=pl.Float64)}))
    return store


def test_longest_counts_the_answers_and_length_the_row() -> None:
    made = candidates(["短", "长" * 50, "中" * 20], ["问" * 99, "问", "问"], tokens=[90, 40, 20])
    assert taken(chosen("longest", made, rows=1)) == [1]
    assert taken(chosen("length", made, rows=1)) == [0]


@pytest.mark.parametrize("by", ["random", "longest", "length", "duplicates-last", "dsir"])
def test_fewer_rows_lie_inside_more_whatever_the_chunks(by: str) -> None:
    answers = [*UNLIKE, *ANSWERS]
    how = {"target": "t"} if by == "dsir" else {}
    target = tuple([{"role": "user", "content": "问"}, {"role": "assistant", "content": LAW}] for _ in range(3))
    sizes = [
        set(taken(chosen(by, candidates(answers, chunk=chunk), rows=rows, target=target, **how)))
        if not how else
        set(taken(choose_rows(BoundSelect(Select(by=by, rows=rows, **how), Path("r"), target), candidates(answers, chunk=chunk), ())))
        for rows, chunk in ((3, 2), (9, 50), (30, 7))
    ]  # fmt: skip
    assert sizes[0] < sizes[1] < sizes[2]


def test_dsir_prefers_what_is_like_the_target() -> None:
    target = tuple([{"role": "user", "content": "问"}, {"role": "assistant", "content": LAW[:20]}] for _ in range(5))
    select = Select(by="dsir", rows=8, target="t")
    found = choose_rows(BoundSelect(select, Path("r"), target), candidates(ANSWERS), ())
    assert {i % 3 for i in taken(found)} == {0}
    assert found.rating_R[0] > 0 > found.rating_R[1]


def test_each_cluster_gives_one_row_before_any_gives_two() -> None:
    poems = ["".join(f"{word}在第{k}座山上看见了{word}" for k in range(20)) for word in ("灯笼", "水壶")]
    alike = [poem + "，完" * (1 + i) for poem in poems for i in range(5)]
    found = chosen("duplicates-last", candidates([*alike, *UNLIKE]), rows=2 + len(UNLIKE))
    assert [i // 5 for i in taken(found) if i < 10] == [0, 1]
    assert sorted(found.rating_R[:5]) == [1, 2, 3, 4, 5]


def test_ratings_by_a_model_are_used_by_row_id(tmp_path: Path) -> None:
    made = candidates(["a", "b", "c", "d"])
    by_id = list(zip(made.ids.to_list(), [0.5, 1.3, 0.9, None], strict=True))[::-1]
    ids, ratings = [i for i, _ in by_id], [r for _, r in by_id]
    hardest = chosen("ifd", made, rows=2, store=rated(tmp_path, "ifd", ratings, ids))
    assert hardest.order_R.tolist() == [2, 0, 1, 3]  # 1 or more says the question does not help; none comes last
    easiest = chosen("perplexity", made, rows=2, store=rated(tmp_path, "perplexity", ratings, ids))
    assert easiest.order_R[:3].tolist() == [0, 2, 1]


def test_rows_without_a_rating_name_the_command(tmp_path: Path) -> None:
    made = candidates(["a", "b", "c"])
    store = rated(tmp_path, "ifd", [0.5], made.ids.to_list()[:1])
    with pytest.raises(InputError, match=r"2 of 3 rows have no ifd rating by 'base'.*steel rate r.toml --by ifd"):
        chosen("ifd", made, rows=1, store=store)


def test_queries_take_turns(tmp_path: Path) -> None:
    made = candidates(["a", "b", "c", "d"])
    store = open_store(tmp_path, "rds", "base", "e" * 32)

    def as_bytes(vectors):
        return [np.array(v, np.float16).tobytes() for v in vectors]

    rows = [[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1]]
    store.add(pl.DataFrame({"id": made.ids, "vector": as_bytes(rows)}))
    target = ([{"role": "user", "content": "x"}],)
    select = Select(by="rds", rows=2, target="t")
    bound = BoundSelect(select, Path("r.toml"), target, store=store)
    with pytest.raises(InputError, match="'base' has not read this target"):
        choose_rows(bound, made, ())
    for odd in (pl.DataFrame({"x": [1]}), pl.DataFrame({"vector": as_bytes([[1, 0, 0]])})):
        odd.write_parquet(store.target(bound.key))
        with pytest.raises(InputError, match=r"target-.*Fix: remove the file and run `rate` again"):
            choose_rows(bound, made, ())
    pl.DataFrame({"vector": as_bytes([[1, 0], [0, 1]])}).write_parquet(store.target(bound.key))
    found = choose_rows(bound, made, ())
    assert found.order_R.tolist() == [0, 3, 1, 2]  # the second query has its turn before the first has a second one


def test_more_than_there_is_is_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"select rows = 9, but 3 are left .*rows = 3 or less"):
        chosen("random", candidates(["a", "b", "c"]), rows=9)
    with pytest.raises(InputError, match=r"select tokens = 31, but 30 are left"):
        chosen("longest", candidates(["a", "b", "c"]), tokens=31)


def test_groups_are_languages_files_or_columns_of_meta() -> None:
    made = candidates(
        [str(i) for i in range(8)], language=["zh"] * 6 + ["en"] * 2, file=["a"] * 7 + ["b"],
        meta=['{"tag": ["x", "y"]}'] * 4 + ['{"tag": "z", "source": "s"}'] * 2 + [None, '{"tag": ""}'],
    )  # fmt: skip
    assert len({0, 1, 2, 3, 4, 5} & set(taken(chosen("random", made, within="language")))) == 2
    assert 7 in taken(chosen("random", made, within="source", rows=2))
    assert len({4, 5} & set(taken(chosen("random", made, ("tag",), within="tag", rows=3)))) == 1
