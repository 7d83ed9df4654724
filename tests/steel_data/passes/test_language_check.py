"""The comparison with plain fastText: on the right rows, counted right, the same for any number of workers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.build import Result
from steel_data.filters.language import fasttext_language
from steel_data.passes import language_check
from steel_data.passes.language_check import agreement

Make = Callable[..., Result]
CANTONESE = {"instruction": "你哋喺邊度食飯啊？", "output": "我哋喺樓下嗰間茶餐廳食，佢哋啲嘢好好味㗎。"}
ENGLISH = {"instruction": "Name one use of a lamp.", "output": "A lamp gives light when it is dark outside."}


def test_every_row_is_compared_with_plain_fasttext(make: Make, tmp_path: Path) -> None:
    rows = [*chat_rows(20), CANTONESE, ENGLISH, ENGLISH, {"instruction": "12 + 30 = ?", "output": "42"}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    toml = 'filters = [{ use = "language", keep = ["zh"] }]\n[source.a]\npath = "a.jsonl"\n'
    check = make(toml).manifest["language_check"]
    texts = ["\n".join((row["instruction"], row["output"])) for row in rows]
    plain = [fasttext_language(text)[0] for text in texts]
    ours = ["zh"] * 20 + ["yue", "en", "en", "und"]
    pairs = list(zip(ours, plain, strict=True))
    del pairs[22]  # a text twice is compared once
    differ = {pair: pairs.count(pair) for pair in pairs if pair[0] != pair[1]}
    assert check["rows"] == 23, "dropped rows too: the filter's own decisions are what is looked at"
    assert check["agree"] == 23 - sum(differ.values())
    assert {(d["ours"], d["fasttext"]): d["rows"] for d in check["differences"]} == differ
    assert [d["rows"] for d in check["differences"]] == sorted(differ.values(), reverse=True)


def test_what_a_builder_declares_is_no_decision_of_ours(make: Make) -> None:
    toml = '[source.who]\nbuild = { use = "identity", name = "小钢", team = "炼钢组", languages = ["zh"] }\n'
    check = make(toml).manifest["language_check"]
    assert check == {"rows": 0, "agree": 0, "differences": []}
    assert agreement(check) == "language: no row to compare with plain fastText"


def test_sample_is_keyed_and_the_same_for_any_worker_count(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_check, "SAMPLE", 30)
    for i in range(3):
        write_jsonl(tmp_path / f"a{i}.jsonl", [*chat_rows(150)[i * 50 : i * 50 + 50], ENGLISH, CANTONESE])
    toml = '[source.a]\npath = "a?.jsonl"\n'
    one, two = (
        make(toml, out=tmp_path / f"w{n}", cache=tmp_path / f"c{n}", workers=n).manifest["language_check"]
        for n in (1, 2)
    )
    assert one == two and one["rows"] == 30
    drawn: list[list[int]] = []
    rows = language_check._drawn
    monkeypatch.setattr(
        language_check, "_drawn", lambda plan, seed: drawn.append(rows(plan, seed).tolist()) or rows(plan, seed)
    )
    for seed in (42, 43):
        make(f"seed = {seed}\n" + toml, name=f"s{seed}")
    assert drawn[0] != drawn[1] and len(drawn[0]) == len(drawn[1]) == 30


def test_one_line_says_share_and_most_frequent_difference() -> None:
    check = {"rows": 2000, "agree": 1974, "differences": [{"ours": "zh", "fasttext": "yue", "rows": 11}]}
    assert agreement(check) == (
        "language agrees with plain fastText on 98.7 % of 2,000 sampled rows; most frequent difference: "
        "ours zh, fastText yue, 11"
    )
    assert agreement({**check, "agree": 2000, "differences": []}).endswith("on 100.0 % of 2,000 sampled rows")
    assert "on 99.9 % of" in agreement({**check, "agree": 1999})
    assert json.loads(json.dumps(check)) == check
