"""Twins: the draw alone decides, it is committed to, and a model that read the published items is told."""

import numpy as np
import orjson
import pytest
from tests.sentences import english
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_data.files import sha256_of
from steel_eval.cli import app
from steel_eval.leak.texts import item_texts
from steel_eval.leak.twins import make_twins, read_rephrasings, read_twins, twin_test, twin_verdict, write_twins
from steel_eval.models import load


def call(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_the_test_keeps_its_level_whatever_the_variants_are():
    """The first variant is likelier by far, as an original beside its rewordings: the draw does not care."""
    rng = np.random.default_rng(0)
    p = []
    for n in range(200):
        scores = [rng.normal(size=5) + np.array([3.0, 0, 0, 0, 0]) for _ in range(20)]
        p.append(twin_test(scores, rng.integers(5, size=20).tolist(), n)[0])
    assert np.mean(np.array(p) <= 0.05) <= 0.09


def test_few_twins_and_equal_scores_say_nothing():
    same = [np.zeros(4)] * 10
    assert twin_test(same, [0] * 10) == (1.0, 0.0)
    said = twin_verdict("b", same[:5], same[:5], [0] * 5)
    assert said.seen == "cannot-tell" and "Not enough twins: 5, 8 are needed" in said.finding


def test_a_changed_draw_is_refused(lab, tmp_path):
    twins = make_twins(lab.items, {}, 4, 3, seed=1)
    write_twins(twins, "cmmlu", tmp_path)
    assert read_twins(tmp_path)[1][0].published == twins[0].published
    assert "canary/00002" in (tmp_path / "published.jsonl").read_text("utf-8")
    with pytest.raises(InputError, match="cannot be drawn again"):
        write_twins(twins, "cmmlu", tmp_path)
    private = orjson.loads((tmp_path / "twins.json").read_bytes())
    private["twins"][0]["published"] = (private["twins"][0]["published"] + 1) % 4
    (tmp_path / "twins.json").write_bytes(orjson.dumps(private))
    with pytest.raises(InputError, match="prove nothing"):
        read_twins(tmp_path)


@pytest.mark.parametrize("change", [{"benchmark": None}, {"twins": {}}, {"twins": [{"variants": [], "published": 0}]}])
def test_what_somebody_commits_to_is_read_as_strictly(tmp_path, change):
    write_twins(make_twins([], {}, 4, 9, seed=1), "cmmlu", tmp_path)
    held = {k: v for k, v in (orjson.loads((tmp_path / "twins.json").read_bytes()) | change).items() if v is not None}
    (tmp_path / "twins.json").write_bytes(orjson.dumps(held))
    (tmp_path / "commitment.json").write_bytes(orjson.dumps({"twins_sha256": sha256_of(tmp_path / "twins.json")}))
    if change == {"twins": {}}:
        assert read_twins(tmp_path) == ("cmmlu", [])
        return
    with pytest.raises(InputError, match=r"is not what `twins` writes|a published variant that is not there"):
        read_twins(tmp_path)


def test_who_read_the_published_items_is_told_and_who_did_not_is_not(lab, tmp_path):
    from tests.steel_eval.lab import memorise, save

    said = call(
        "twins", "cmmlu", "--out", tmp_path / "t", "--data", lab.data, "--variants", 3, "--canaries", 4, "--seed", 5
    )
    assert "items with twins" in said and "private" in said
    _, twins = read_twins(tmp_path / "t")
    loaded = load(lab.base)
    texts = item_texts([t.variants[t.published] for t in twins], "chat", loaded.tokenizer)
    memorise(loaded.model, [t.tokens for t in texts], 40)
    save(loaded.model, loaded.tokenizer, tmp_path / "reader")
    for model, seen in ((tmp_path / "reader", "yes"), (lab.base, "no")):
        text = call("leak", model, "--twins", tmp_path / "t", "--out", tmp_path / "out", "--device", "cpu")
        whole = orjson.loads((tmp_path / "out/leak.json").read_bytes())["verdict"]
        assert text.startswith("Verdict") and whole["seen"] == seen and whole["false_alarm_rate"] == 0.05
    assert "<h2>Verdict</h2>" in english((tmp_path / "out/leak.html").read_text("utf-8"))


def test_own_rephrasings_are_variants_and_strangers_are_refused(lab, tmp_path):
    item = lab.items[0]
    row = {"item": item.item, "question": item.question + "？", "options": item.options, "answer": item.answer}
    (tmp_path / "own.jsonl").write_bytes(orjson.dumps(row))
    call("twins", "cmmlu", "--out", tmp_path / "t", "--data", lab.data, "--rephrasings", tmp_path / "own.jsonl")
    assert read_twins(tmp_path / "t")[1][0].variants[1].question == item.question + "？"
    (tmp_path / "own.jsonl").write_bytes(orjson.dumps(row | {"item": "test/none/00000"}))
    with pytest.raises(InputError, match=r"own.jsonl:1.*no item of the benchmark"):
        call("twins", "cmmlu", "--out", tmp_path / "u", "--data", lab.data, "--rephrasings", tmp_path / "own.jsonl")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": "甲乙丙丁"}, "options are no list of texts"),  # a text is no four options of one character
        ({"options": [1, 2, 3, 4]}, "options are no list of texts"),
        ({"question": None}, "question is no text"),
        ({"answer": 1}, "answer is no text"),
        ({"item": "agronomy-7"}, "item 'agronomy-7' names no subject"),
    ],
)
def test_a_rephrasing_that_is_no_item_is_refused_with_its_line(lab, tmp_path, change, words):
    item = lab.items[0]
    row = {"item": item.item, "question": item.question, "options": item.options, "answer": item.answer}
    (tmp_path / "own.jsonl").write_bytes(orjson.dumps(row | change))
    with pytest.raises(InputError, match=rf"own.jsonl:1: {words}\. Fix: "):
        read_rephrasings(tmp_path / "own.jsonl", lab.items)


def test_twins_need_no_base_and_take_none(lab, tmp_path):
    with pytest.raises(InputError, match="no --base"):
        call("leak", lab.model, "--tasks", "cmmlu")
    with pytest.raises(InputError, match="the draw alone"):
        call("leak", lab.model, "--twins", tmp_path, "--base", lab.base)
    with pytest.raises(InputError, match="--calibration"):
        call("leak", lab.model, "--twins", tmp_path, "--calibration", tmp_path)
    with pytest.raises(InputError, match="--permute"):
        call("leak", lab.model, "--twins", tmp_path, "--permute", 300)
