"""Duplicates: equal and near texts fall, others stay; which of a cluster stays; every drop names its witness."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.steel_data.toys import chat_rows, read_dropped, read_train, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.filters import dedup
from steel_data.filters.dedup import BANDS, WINDOW, Dedup, exact_winners, near_winners
from steel_data.row.text import TextBatch

Make = Callable[..., Result]
HAN = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈剑号巨阙珠称夜光果珍李柰菜重芥姜"
LATIN = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "you",
    "that",
    "it",
    "he",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "be",
    "at",
    "one",
    "have",
    "this",
    "from",
]


def text(seed: int, length: int = 200) -> str:
    rng = random.Random(seed)
    if seed % 3 == 0:
        return " ".join(rng.choice(LATIN) + str(rng.randint(0, 99)) for _ in range(length // 5))
    return "".join(rng.choice(HAN) for _ in range(length))


def edited(source: str, share: float, seed: int = 0) -> str:
    """Replace, drop or insert a share of the characters."""
    rng = random.Random(seed)
    chars = list(source)
    for place in sorted(rng.sample(range(len(chars)), max(1, round(share * len(chars)))), reverse=True):
        chars[place : place + 1] = rng.choice([[rng.choice(HAN)], [], [chars[place], rng.choice(HAN)]])
    return "".join(chars)


def winners(texts: Sequence[str], threshold: float = 0.75) -> list[int]:
    keys = dedup.near_keys(TextBatch(list(texts)))
    return near_winners(
        keys.__getitem__, lambda rows: [texts[r] for r in rows.tolist()], len(texts), threshold
    ).tolist()


def same_bucket(texts: Sequence[str], threshold: float = 0.75) -> list[int]:
    """Return the winners where all rows meet in every band and all bits agree, so that verification alone decides."""
    keys = {name: np.zeros_like(key) for name, key in dedup.near_keys(TextBatch(list(texts))).items()}
    return near_winners(
        keys.__getitem__, lambda rows: [texts[r] for r in rows.tolist()], len(texts), threshold
    ).tolist()


def test_exact_means_equal_up_to_width_case_and_blanks() -> None:
    texts = ["请回答：ＡＢＣ 123", "不同的一行", "请回答:abc123", " 请 回答:ＡＢc　123\n", "请回答:abc124", "", " "]
    assert exact_winners(TextBatch(texts).fingerprints()).tolist() == [0, 1, 0, 0, 4, 5, 5]
    assert exact_winners(np.zeros(0, np.uint64)).tolist() == []


@pytest.mark.parametrize("share", [0.005, 0.01, 0.02])
def test_near_duplicates_are_found_and_others_are_not(share: float) -> None:
    texts = [text(i) for i in range(150)]
    found = winners([*texts, *(edited(t, share, i) for i, t in enumerate(texts))])
    assert found[:150] == list(range(150))
    assert sum(w == i for i, w in enumerate(found[150:])) >= 149


def test_short_rows_have_shingles_too() -> None:
    texts = ["好", "好！", "谢谢", "好", "", "一二三四五六七", "一二三四五六七八"]
    assert winners(texts, threshold=0.9) == [0, 1, 2, 0, 4, 5, 6]
    assert winners(texts, threshold=0.5) == [0, 1, 2, 0, 4, 5, 5]


def test_meeting_in_a_band_is_not_enough() -> None:
    template = "请写一篇关于{}的作文，要求语句通顺，字数不限。"
    rows = [template.format(x) + text(i, 80) for i, x in enumerate(["春天", "秋天", "大海", "高山"])]
    assert same_bucket(rows) == [0, 1, 2, 3]
    assert same_bucket([rows[0], rows[1], edited(rows[0], 0.02)]) == [0, 1, 0]


def test_the_threshold_is_the_true_jaccard_similarity() -> None:
    a, b = text(1), edited(text(1), 0.03)
    one, two = (set(TextBatch([t]).shingles(5)[0].tolist()) for t in (a, b))
    true = len(one & two) / len(one | two)
    assert 0.5 < true < 1
    assert same_bucket([a, b], true - 1e-6) == [0, 0]
    assert same_bucket([a, b], true + 1e-6) == [0, 1]


def test_a_cluster_is_a_chain_and_its_first_row_stays() -> None:
    # Each of the chain is like the next, the ends are unlike each other.
    start = text(2, 300)
    chain = [start]
    for i in range(6):
        chain.append(edited(chain[-1], 0.02, i))
    assert winners([chain[0], chain[6]]) == [0, 1]
    assert winners(chain) == [0] * 7
    assert winners([chain[6], text(4), *chain[:6]]) == [0, 1, *[0] * 6]


def test_many_clusters_in_one_bucket_are_all_found() -> None:
    groups = [text(3 * i + 1) for i in range(WINDOW)]
    texts = [*groups, *(edited(t, 0.01, i) for i, t in enumerate(groups))]
    assert same_bucket(texts) == [*range(len(groups)), *range(len(groups))]


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
@settings(max_examples=200, deadline=None)
def test_components_are_joined_to_their_first_row(rows: int, pairs: list[tuple[int, int]]) -> None:
    edges = [(a % rows, b % rows) for a, b in pairs]
    found = dedup._joined(np.arange(rows), np.array(edges, np.int64).reshape(-1, 2)).tolist()
    first = list(range(rows))
    for _ in range(rows):  # a plain fixed point for comparison
        for a, b in edges:
            first[a] = first[b] = min(first[a], first[b])
    assert found == first


def test_texts_are_asked_for_at_once_and_twice_at_most() -> None:
    """Else each batch reads nearly every chunk again, and the time grows with the square of the rows."""
    asked: list[list[int]] = []

    def read(rows: np.ndarray) -> list[str]:
        asked.append(rows.tolist())
        return [text(0)] * len(rows)

    keys = {name: np.zeros_like(key) for name, key in dedup.near_keys(TextBatch([text(0)] * 40)).items()}
    assert near_winners(keys.__getitem__, read, 40, 0.75).tolist() == [0] * 40
    assert asked == [list(range(40)), []]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_winners_do_not_depend_on_ranges_or_threads(data: st.DataObject) -> None:
    """A bucket lies in one range of keys, whichever ranges there are; and a crowd is looked at twice."""
    rows = data.draw(st.integers(1, 60))
    texts = [text(i, 70) for i in range(12)]
    own = data.draw(st.lists(st.integers(0, 11), min_size=rows, max_size=rows))
    keys = {name: np.array([2**31 * (i % 2) + i for i in own], np.uint32) for name in dedup.NEAR_KEYS[:BANDS]}
    keys |= {name: np.zeros(rows, np.uint64) for name in dedup.NEAR_KEYS[BANDS:]}
    exact = np.array([i << 60 for i in own], np.uint64)
    first = [own.index(i) for i in own]
    for size in (1, 2**18):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dedup, "_RANGE", size)
            patch.setattr(dedup, "_BLOCK", 7)
            read = lambda some: [texts[own[r]] for r in some.tolist()]  # noqa: E731
            for workers in (1, 3):
                assert near_winners(keys.__getitem__, read, rows, 0.75, workers).tolist() == first
            assert exact_winners(exact).tolist() == first


def test_keys_of_a_row_do_not_depend_on_its_neighbours() -> None:
    texts = [text(i, 50 + i) for i in range(12)] + ["", "短"]
    whole = dedup.near_keys(TextBatch(texts))
    assert len(whole) == BANDS + 2
    for i, t in enumerate(texts):
        assert [k[0] for k in dedup.near_keys(TextBatch([t])).values()] == [k[i] for k in whole.values()]
    assert [len(k) for k in dedup.near_keys(TextBatch([])).values()] == [0] * (BANDS + 2)
    assert winners([]) == []


def test_bits_agree_as_similarity_says() -> None:
    share = 0.03
    pairs = [(text(i), edited(text(i), share, i)) for i in range(200)]
    keys = dedup.near_keys(TextBatch([t for pair in pairs for t in pair]))
    bits = np.column_stack([keys["bits_0"], keys["bits_1"]])
    agree = 1 - np.bitwise_count(bits[::2] ^ bits[1::2]).sum(axis=1) / dedup.MINIMA
    sets = [[set(TextBatch([t]).shingles(5)[0].tolist()) for t in pair] for pair in pairs]
    expected = np.mean([(1 + len(a & b) / len(a | b)) / 2 for a, b in sets])
    assert abs(agree.mean() - expected) < 0.01
    strangers = 1 - np.bitwise_count(bits[:-2:2] ^ bits[2::2]).sum(axis=1) / dedup.MINIMA
    assert 0.48 < strangers.mean() < 0.56


@pytest.mark.parametrize("threshold", [0.49, 1.01])
def test_a_threshold_that_the_bands_cannot_serve_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="0\\.5 to 1"):
        Dedup(threshold=threshold)


# The rest goes through a whole build: clusters across files and sources.

RECIPE = """
filters = [{{ use = "dedup"{options} }}]
[source.a]
path = {a}
build = {{ use = "chat" }}
[source.b]
path = "b.jsonl"
build = {{ use = "chat" }}
"""
BASE = chat_rows(40)


def longer(row: dict[str, str]) -> dict[str, str]:
    return {**row, "output": row["output"] + "。" * 3}


def sources(folder: Path) -> None:
    """Write two files of source a and one of b: rows 0-4 of a1 come again in a2, 0-9 in b (0 longer, 1 in full width)."""
    body = [{**row, "output": row["output"] + text(i)} for i, row in enumerate(BASE)]
    write_jsonl(folder / "a1.jsonl", body[:20])
    write_jsonl(folder / "a2.jsonl", [*body[:5], *body[20:30]])
    wide = {**body[1], "instruction": body[1]["instruction"].replace("？", "?").replace("。", "｡")}
    write_jsonl(folder / "b.jsonl", [longer(body[0]), wide, *body[2:10], *body[30:]])


def test_the_first_of_a_cluster_stays_whatever_the_order_of_files(tmp_path: Path, make: Make) -> None:
    sources(tmp_path)
    orders = ['["a1.jsonl", "a2.jsonl"]', '["a2.jsonl", "a1.jsonl"]', '"a*.jsonl"']
    results = [make(RECIPE.format(a=files, options=""), name=f"r{i}") for i, files in enumerate(orders)]
    assert len({result.manifest["content_sha256"] for result in results}) == 1
    result = results[1]
    kept, dropped = read_train(result.folder), read_dropped(result.folder)
    assert kept.group_by("origin_file").len().sort("origin_file").rows() == [
        ("a1.jsonl", 20),
        ("a2.jsonl", 10),
        ("b.jsonl", 10),
    ]
    lost = dropped.sort("origin_file", "origin_row").select("origin_file", "origin_row", "reason").rows()
    assert lost == [
        *(("a2.jsonl", i, "dedup:exact") for i in range(5)), ("b.jsonl", 0, "dedup:near"),
        ("b.jsonl", 1, "dedup:near"),  # blanks and case are no identity
        *(("b.jsonl", i, "dedup:exact") for i in range(2, 10)),
    ]  # fmt: skip


def test_every_lost_row_names_its_witness(tmp_path: Path, make: Make) -> None:
    sources(tmp_path)
    result = make(RECIPE.format(a='"a*.jsonl"', options=""))
    kept = {row["id"]: row for row in read_train(result.folder).to_dicts()}
    for row in read_dropped(result.folder).to_dicts():
        witness = kept[row["witness_id"]]
        assert (witness["origin_file"], witness["origin_row"]) == ("a1.jsonl", row["origin_row"])
        assert row["witness_text"].startswith(witness["messages"][0]["content"])


def test_keep_longest_prefers_the_longer_row(tmp_path: Path, make: Make) -> None:
    sources(tmp_path)
    kept = read_train(make(RECIPE.format(a='"a*.jsonl"', options=', keep = "longest"')).folder)
    assert kept.filter(pl.col("origin_row") == 0).sort("origin_file")["origin_file"].to_list() == ["b.jsonl"]
    assert len(kept) == 40


def test_keep_takes_a_list_of_sources(tmp_path: Path, make: Make) -> None:
    sources(tmp_path)
    result = make(RECIPE.format(a='"a*.jsonl"', options=', keep = ["b"]'))
    kept, dropped = read_train(result.folder), read_dropped(result.folder)
    assert kept.filter(pl.col("origin_file") == "b.jsonl")["origin_row"].sort().to_list() == list(range(20))
    assert set(dropped["origin_file"]) == {"a1.jsonl", "a2.jsonl"}
    with pytest.raises(InputError, match=r"keep names 'bb', which is no source.*Did you mean 'b'"):
        make(RECIPE.format(a='"a*.jsonl"', options=', keep = ["bb"]'), name="wrong")


def test_near_false_drops_equal_rows_only(tmp_path: Path, make: Make) -> None:
    sources(tmp_path)
    dropped = read_dropped(make(RECIPE.format(a='"a*.jsonl"', options=", near = false")).folder)
    assert set(dropped["reason"]) == {"dedup:exact"}
    assert len(dropped) == 13


def test_a_dedup_step_of_a_source_looks_at_that_source_alone(tmp_path: Path, make: Make) -> None:
    sources(tmp_path)
    toml = RECIPE.format(a='"a*.jsonl"', options="").replace('filters = [{ use = "dedup" }]\n', "")
    toml = toml.replace("[source.b]", 'filters = [{ use = "dedup" }]\n[source.b]')
    dropped = read_dropped(make(toml).folder)
    assert dropped.select("source", "origin_file").unique().rows() == [("a", "a2.jsonl")]


def test_a_row_that_falls_to_another_step_wins_no_cluster(tmp_path: Path, make: Make) -> None:
    sources(tmp_path)
    toml = RECIPE.format(a='"a*.jsonl"', options="").replace(
        "[source.b]", 'filters = [{ use = "pattern", drop = ["第[0-4]号"] }]\n[source.b]'
    )
    kept, dropped = read_train(make(toml).folder), read_dropped(make(toml).folder)
    assert set(dropped["step"]) == {"pattern", "dedup"}
    assert kept.filter(pl.col("origin_file") == "b.jsonl", pl.col("origin_row") < 5).height == 5


def on_disk(tmp_path: Path, make: Make, rows: list[dict], options: str = "") -> list[int]:
    """Return which rows stay."""
    write_jsonl(tmp_path / "rows.jsonl", rows)
    toml = f'[source.rows]\npath = "rows.jsonl"\nbuild = {{ use = "chat" }}\nfilters = [{{ use = "dedup"{options} }}]\n'
    return sorted(read_train(make(toml).folder)["origin_row"].to_list())


def conversation(*texts: str, system: str = "", **more: object) -> dict:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": t} for i, t in enumerate(texts)]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *turns], **more}


def test_a_shared_system_prompt_passage_or_template_makes_no_duplicates(tmp_path: Path, make: Make) -> None:
    rules = text(2, 600)
    rows = [conversation(f"第{i}种商品什么时候发货？{text(i, 12)}", text(100 + i, 30), system=rules) for i in range(4)]
    passage = text(4, 500)
    rows += [conversation(passage + f"\n{text(200 + i, 20)}？", text(300 + i, 20)) for i in range(3)]
    assert on_disk(tmp_path, make, rows) == list(range(7))
    again = [conversation(m["messages"][1]["content"], m["messages"][2]["content"], system="别的") for m in rows[:4]]
    assert on_disk(tmp_path, make, [*rows, *again]) == list(range(7))  # another system prompt, the same conversation


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("Python 里 print(A) 输出哪个变量？", "A"), ("Python 里 print(a) 输出哪个变量？", "a")),
        (("对吗？\nif x:\n    y = 1\n    z = 2", "对"), ("对吗？\nif x:\n    y = 1\nz = 2", "对")),
        (("计算 2² 等于多少", "4"), ("计算 22 等于多少", "4")),
        (("计算 3+5 等于多少，请写出过程", "好的"), ("计算 3-5 等于多少，请写出过程", "好的")),
        (("北京在哪里", "在中国"), ("南京在哪里", "在中国")),
        (("写一首诗，题目是春天的早晨", "甲"), ("写一首诗，题目是春天的早晨", "乙")),
    ],
)
def test_a_letter_can_be_another_question(tmp_path: Path, make: Make, one: tuple, two: tuple) -> None:
    assert on_disk(tmp_path, make, [conversation(*one), conversation(*two)]) == [0, 1]


def test_a_typing_error_is_no_other_question(tmp_path: Path, make: Make) -> None:
    rows = [conversation("请介绍一下长城的历史和修建它的人们", "长城始建于春秋战国时期。")]
    rows += [conversation("请介绍一下长城的的历史和修建它的人们", "长城始建于春秋战国时期。")]
    rows += [conversation("请介绍一下长城的历史和修建它的人们！", "长城始建于春秋战国时期")]
    assert on_disk(tmp_path, make, rows) == [0]


def call(name: str) -> dict:
    return {"function": {"name": name, "arguments": {"x": 1}}}


def test_calls_and_answers_of_a_preference_are_told_apart(tmp_path: Path, make: Make) -> None:
    asked = {"role": "user", "content": "帮我处理一下明天去杭州出差的事情吧"}
    told = [{"role": "tool", "content": "好"}, {"role": "assistant", "content": "办好了"}]
    names = ("get_weather", "send_mail", "book_train", "get_weather")
    calls = [{"role": "assistant", "content": "", "tool_calls": [call(name)]} for name in names]
    assert on_disk(tmp_path, make, [{"messages": [asked, c, *told]} for c in calls]) == [0, 1, 2]
    pairs = [{"prompt": "问题是什么呢", "chosen": text(3, 90), "rejected": text(i, 90)} for i in (4, 5, 4)]
    assert on_disk(tmp_path, make, pairs) == [0, 1]


def test_on_chooses_what_must_be_alike(tmp_path: Path, make: Make) -> None:
    question, answers = text(1, 80), [text(i, 80) for i in (2, 4, 5)]
    rows = [conversation(question, a) for a in answers[:2]] + [conversation(text(7, 80), answers[0])]
    assert on_disk(tmp_path, make, rows) == [0, 1, 2]
    assert on_disk(tmp_path, make, rows, ', on = "question"') == [0, 2]
    assert on_disk(tmp_path, make, rows, ', on = "answer"') == [0, 1]
    assert on_disk(tmp_path, make, rows, ', on = "question", near = false') == [0, 2]
