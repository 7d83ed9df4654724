"""Jokes and preference pairs."""

import json

from tests.steel_data.sample.corpus import alike_pairs


def test_jokes_differ(folder):
    """The real set repeats no joke: a near-duplicate filter must not empty the sample's."""
    jokes = json.loads((folder / "ruozhiba/ruozhiba_qa.json").read_text(encoding="utf-8"))
    assert len(jokes) >= 20
    assert alike_pairs([row["instruction"] for row in jokes]) <= 2


def test_layouts(folder):
    for row in json.loads((folder / "ruozhiba/ruozhiba_qa.json").read_text(encoding="utf-8")):
        assert set(row) == {"instruction", "output"}
    for row in json.loads((folder / "preference/zh_en.json").read_text(encoding="utf-8")):
        assert [turn["from"] for turn in row["conversations"]] == ["human"]
        assert row["chosen"]["from"] == row["rejected"]["from"] == "gpt"
        assert row["chosen"]["value"] != row["rejected"]["value"]
