"""Which items are one: equal ones however short, rewordings, items in another order; not those that share a stem."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.benchmarks.clusters import cluster_names, near_pairs
from steel_data.benchmarks.items import Item, read_benchmark

OTHERS = [
    ("蓝印花布的印制方法始于哪个朝代", ("汉代", "魏晋", "唐代", "宋代")),
    ("某商品的需求弹性小于一时，提价会使总收益怎样变化", ("增加", "减少", "不变", "无法判断")),
    ("肾小球滤过率的正常值大约是每分钟多少毫升", ("125", "200", "80", "50")),
    ("下列关于细胞的叙述，正确的是", ("病毒没有细胞结构", "蓝藻有成形的核", "染色体总是可见", "内质网不流动")),
    ("Which of the following rivers flows into the Black Sea?", ("Danube", "Rhine", "Ebro", "Thames")),
]


def item(question, options, row=0):
    return Item(f"test/x/{row:05d}", "x", "test", row, question, tuple(options), "A", "", Path("x.csv"))


def items(*more):
    return [item(q, o, row) for row, (q, o) in enumerate([*OTHERS, *more])]


def together(found, a, b):
    return found[a] == found[b]


@pytest.mark.parametrize(
    ("question", "options", "near"),
    [
        ("蓝印花布的印制方法始于哪个朝代", ("宋代", "唐代", "汉代", "魏晋"), True),  # options in another order
        ("蓝印花布的印制方法最早始于哪个朝代？", ("汉代", "魏晋", "唐代", "宋代"), True),  # reworded
        ("下列关于细胞的叙述，正确的是", ("线粒体有双层膜", "叶绿体只在根部", "液泡含有核酸", "中心体有膜"), False),
    ],
)
def test_what_is_near(question, options, near):
    found = cluster_names(items((question, options)))
    place = 0 if "印花" in question else 3
    assert together(found, place, len(OTHERS)) is near
    assert len(set(found)) == len(OTHERS) + (not near)


def test_equal_items_are_one_however_short_and_whatever_their_signs():
    found = cluster_names(items(("→？", ("∅", "=")), ("→ ？", ("=", "∅"))))
    assert together(found, -1, -2) and len(set(found)) == len(OTHERS) + 1


def test_nearness_passes_through_a_third_item():
    chain = ["甲乙丙丁戊己庚辛壬癸", "甲乙丙丁戊己庚辛子丑", "丙丁戊己庚辛子丑寅卯"]
    rows = [(q, ("一二三", "四五六")) for q in chain]
    pairs = near_pairs(items(*rows))
    assert (5, 6) in pairs and (6, 7) in pairs and (5, 7) not in pairs
    found = cluster_names(items(*rows))
    assert together(found, 5, 7)


@given(st.permutations(range(8)))
def test_the_order_of_the_items_means_nothing(order):
    rows = items(*[("蓝印花布的印制方法始于哪朝", ("汉代", "魏晋", "唐代", "宋代")), OTHERS[0], OTHERS[2]])
    found = cluster_names(rows)
    assert cluster_names([rows[i] for i in order]) == [found[i] for i in order]


def test_few_items_are_no_special_case():
    assert cluster_names([]) == [] and near_pairs([]) == []
    assert len(cluster_names(items()[:1])) == 1


@pytest.mark.shared
def test_real_clusters_are_few_and_small():
    data = Path(__file__).parents[4] / "shared/data"
    if not data.is_dir():
        pytest.skip("no ../shared/data here")
    found = cluster_names(read_benchmark("cmmlu", data, "test"))
    sizes = [found.count(name) for name in set(found)]
    assert len(found) == 5664 and len(sizes) == 5520 and max(sizes) == 11
