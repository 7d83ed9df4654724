"""The comparison with peers: the truth of its rows, the judge, and our own side of it."""

import random
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "bench/peers")


@pytest.fixture
def corpus(tmp_path):
    import corpora

    benchmarks = corpora.generated(tmp_path, 800)
    return tmp_path, benchmarks


def test_truth_is_where_it_says(corpus):
    import orjson

    folder, _ = corpus
    rows, texts, truth = (
        [orjson.loads(line) for line in (folder / name).read_bytes().splitlines()]
        for name in ("data/rows.jsonl", "texts.jsonl", "truth.jsonl")
    )
    assert len(rows) == len(texts) == len(truth) == 800
    assert [int(t["id"]) for t in texts] == [t["id"] for t in truth] == list(range(800))
    kinds = [t["kind"] for t in truth]
    assert {k: kinds.count(k) for k in set(kinds)} == {"base": 708, "exact": 8, "near": 80, "verbatim": 2, "edited": 2}
    for row, text, t in zip(rows, texts, truth, strict=True):
        assert text["text"] == "\n".join(filter(None, (row["instruction"], row["input"]))) + "\n" + row["output"]
        if t["kind"] == "exact":
            assert texts[t["of"]]["text"] == text["text"]
        if t["kind"] == "near":
            assert texts[t["of"]]["text"] != text["text"]


def test_texts_are_what_steel_sees():
    """A peer must not be given an easier text."""
    import corpora

    from steel_data.builders.chat import chat
    from steel_data.row.record import text_view

    row = corpora.Row("问", "补充", "答")
    made = chat({"instruction": row.instruction, "input": row.input, "output": row.output})
    assert text_view(made[0]) == row.text


@pytest.mark.parametrize("share", [0.005, 0.02])
def test_a_near_copy_is_edited_by_the_share(share):
    import corpora

    text = "钢铁是怎样炼成的呢" * 40
    changed = [corpora.edited(text, share, random.Random(seed)) for seed in range(20)]
    assert all(text != other for other in changed)
    assert all(abs(len(other) - len(text)) <= round(share * len(text)) for other in changed)


def test_judge_counts_pairs_and_others():
    from quality import judge

    base = [
        "这是第一行完全不同的内容，说的是山和水",
        "第二行谈的是数学题与它的解法，和别的无关",
        "第三行讲烹饪的步骤与火候",
    ]
    texts = [*base, base[0], base[1] + "吧", "请回答：某题", "请回答：另一题", base[2][:-1] + "候。"]
    truth = [("base", None)] * 3 + [("exact", 0), ("near", 1), ("verbatim", "x"), ("edited", "y"), ("base", None)]
    fate = dict.fromkeys(range(8), "kept")
    found = judge(texts, truth, fate | {5: "decontaminate"})
    assert (found.exact, found.near, found.verbatim, found.edited) == (0.0, 0.0, 1.0, 0.0)
    found = judge(texts, truth, fate | {0: "exact", 4: "near", 5: "decontaminate", 7: "near", 2: "decontaminate"})
    assert (found.exact, found.near, found.flagged, found.dropped, found.unlike) == (1.0, 1.0, 1, 1, 0)
    found = judge(texts, truth, fate | {3: "language", 4: "dropped"})
    assert found.exact is None and found.near == 1.0  # a pair that language has broken says nothing of dedup


def test_judge_sees_a_drop_without_a_reason():
    from quality import most_similar

    texts = ["山水之间有一座小城叫作青石", "山水之间有一座小城叫作青瓦", "完全不相干的另外一段话，讲的是机器"]
    similar = most_similar(texts, [0, 2])
    assert similar[0] > 0.5 and similar[1] < 0.1


def test_our_side_finds_all_and_tells_steps_apart(corpus):
    import compare
    import orjson
    from quality import judge

    folder, benchmarks = corpus
    compare.steel(benchmarks)(folder, folder / "out/steel")
    fate = compare.steel_fate(folder / "out/steel")
    truth = [(t["kind"], t["of"]) for t in map(orjson.loads, (folder / "truth.jsonl").read_bytes().splitlines())]
    texts = [orjson.loads(line)["text"] for line in (folder / "texts.jsonl").read_bytes().splitlines()]
    assert sorted(fate) == list(range(800))
    found = judge(texts, truth, fate)
    assert found.exact == found.verbatim == 1.0
    assert found.near is not None and found.near >= 0.99
    assert found.unlike == 0


def test_a_peer_that_is_absent_is_skipped_with_a_line(tmp_path, capsys):
    import compare

    assert compare.installed(tmp_path) == {}
    assert capsys.readouterr().out.count("skipped: ") == 2
