"""Entries of a dataset_info.json become paths and arguments of the builder, as LLaMA-Factory would read them."""

import json
from pathlib import Path

import pytest

from steel_data.builders.chat import chat
from steel_data.builders.llamafactory import DatasetEntry, entry
from steel_data.errors import InputError

INFO = {
    "identity": {"file_name": "identity.json"},
    "mapped": {"file_name": "folder", "columns": {"prompt": "q", "response": "a"}},
    "toolcall": {
        "file_name": "identity.json",
        "formatting": "sharegpt",
        "columns": {"messages": "dialog", "tools": "tools"},
        "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "customer", "assistant_tag": "agent"},
    },
    "dpo": {
        "file_name": "identity.json",
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "good", "rejected": "bad"},
    },
    "hub": {
        "hf_hub_url": "org/name",
        "ms_hub_url": "ms/name",
        "revision": "refs/pr/1",
        "folder": "7M/",
        "num_samples": 9,
    },
    "ms": {"ms_hub_url": "ms/name", "subset": "zh", "split": "validation"},
    "c4": {"file_name": "identity.json", "columns": {"prompt": "text"}},
    "kto": {
        "file_name": "identity.json",
        "formatting": "sharegpt",
        "columns": {"messages": "turns", "kto_tag": "good"},
    },
    "kto-alpaca": {"file_name": "identity.json", "columns": {"prompt": "q", "response": "a", "kto_tag": "good"}},
    "kto-pairs": {
        "file_name": "identity.json",
        "ranking": True,
        "columns": {"chosen": "a", "rejected": "b", "kto_tag": "good"},
    },
    "script": {"script_url": "loader"},
    "cloud": {"cloud_file_name": "s3://bucket/a.json"},
    "bare": {"formatting": "sharegpt"},
    "gone": {"file_name": "identty.json"},
    "odd": {"file_name": "identity.json", "formatting": "vicuna"},
    "word": {"file_name": "identity.json", "columns": {"prompts": "q"}},
    "tag": {"file_name": "identity.json", "formatting": "sharegpt", "tags": {"user": "x"}},
    "unranked": {"file_name": "identity.json", "ranking": True},
    "empty": {"file_name": "nothing"},
    "roles": {
        "file_name": "identity.json",
        "formatting": "sharegpt",
        "tags": {"user_tag": ["customer", "caller"], "system_tag": "notes"},
    },
    "nulls": {"file_name": "identity.json", "columns": {"prompt": "q", "response": "a", "query": None}, "subset": None},
    "list": ["identity.json"],
    "key": {"file_name": "identity.json", "formating": "sharegpt"},
    "script-first": {"file_name": "identity.json", "script_url": "loader"},
    "local-split": {"file_name": "identity.json", "split": "test"},
    "local-folder": {"file_name": "identity.json", "folder": "x"},
    "slice": {"hf_hub_url": "o/n", "split": "train[:100]"},
    "modelers": {"om_hub_url": "o/n"},
    "type-name": {"file_name": ["a.json"]},
    "type-ranking": {"file_name": "identity.json", "ranking": "false"},
    "type-columns": {"file_name": "identity.json", "columns": ["prompt"]},
    "type-column": {"file_name": "identity.json", "columns": {"prompt": ["q", "r"]}},
    "type-tag": {"file_name": "identity.json", "formatting": "sharegpt", "tags": {"user_tag": [1]}},
    "type-samples": {"file_name": "identity.json", "num_samples": "9"},
    "ours": {"file_name": "identity.json", "columns": {"scores": "s"}},
}


@pytest.fixture
def info(tmp_path: Path) -> Path:
    for name in ("identity.json", "folder/b.jsonl", "folder/a.jsonl.gz", "folder/README.md", "nothing/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps(INFO), encoding="utf-8")
    return path


def build(found: DatasetEntry, row: dict) -> object:
    made = chat(row, layout=found.layout, columns=found.columns, tags=found.tags)
    return made if isinstance(made, str) else made[0]


def test_the_default_is_alpaca_and_uses_no_unlisted_system(info: Path) -> None:
    found = entry(info, "identity")
    assert found.files == (str(info.parent / "identity.json"),)
    assert (found.layout, found.tags, found.ranking, found.num_samples) == ("alpaca", None, False, None)
    record = build(
        found, {"instruction": "问", "input": "", "output": "答", "system": "ignored", "history": [["a", "b"]]}
    )
    assert record == {
        "messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}],
        "kind": "chat",
    }


def test_listed_columns_are_all_there_is(info: Path) -> None:
    found = entry(info, "mapped")
    assert [Path(path).name for path in found.files] == ["a.jsonl.gz", "b.jsonl"]
    record = build(found, {"q": "问", "a": "答", "input": "not listed"})
    assert isinstance(record, dict) and record["messages"][0]["content"] == "问"


def test_tags_and_columns_of_sharegpt(info: Path) -> None:
    row = {"dialog": [{"who": "customer", "what": "问"}, {"who": "agent", "what": "答"}], "tools": ""}
    record = build(entry(info, "toolcall"), row)
    assert isinstance(record, dict) and [m["role"] for m in record["messages"]] == ["user", "assistant"]


def test_ranking_is_preference(info: Path) -> None:
    turns = [{"from": "human", "value": "问"}]
    row = {"conversations": turns, "good": {"from": "gpt", "value": "好"}, "bad": {"from": "gpt", "value": "坏"}}
    found = entry(info, "dpo")
    record = build(found, row)
    assert found.ranking and isinstance(record, dict)
    assert [record[key][0]["content"] for key in ("prompt", "chosen", "rejected")] == ["问", "好", "坏"]


@pytest.mark.parametrize("good", [True, False])
def test_kto_is_a_judged_answer_in_either_formatting(info: Path, good: bool) -> None:
    turns = [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]
    for name, row in (("kto", {"turns": turns}), ("kto-alpaca", {"q": "问", "a": "答", "input": "not listed"})):
        record = build(entry(info, name), {**row, "good": good})
        assert record == {
            "prompt": [{"role": "user", "content": "问"}],
            "completion": [{"role": "assistant", "content": "答"}],
            "label": good,
            "kind": "kto",
        }


def test_hub_entries_become_uris(info: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USE_MODELSCOPE_HUB", raising=False)
    assert entry(info, "hub").files == ("hf://datasets/org/name@refs%2Fpr%2F1/7M",)
    assert entry(info, "hub").num_samples == 9
    assert entry(info, "ms").files == ("modelscope://datasets/ms/name/zh/**/*validation*",)
    monkeypatch.setenv("USE_MODELSCOPE_HUB", "1")
    assert entry(info, "hub").files == ("modelscope://datasets/ms/name@refs%2Fpr%2F1/7M",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("identiy", "no data set 'identiy'. Did you mean 'identity'. Known: "),
        ("c4", "no response among its columns: text for pre-training"),
        ("kto-pairs", r"both ranking \(pairs of answers\) and kto_tag"),
        ("script", "script_url is not supported"),
        ("list", "list: not an object"),
        ("key", "unknown key 'formating'. Did you mean 'formatting'"),
        ("script-first", "script_url is not supported"),
        ("local-split", "split belongs to a data set of a hub"),
        ("local-folder", "folder belongs to a data set of a hub"),
        ("slice", "a part of a split is not read. Fix: take"),
        ("modelers", "om_hub_url is not supported"),
        ("type-name", "file_name = .* another type. Fix: text"),
        ("type-ranking", "ranking = false is another type. Fix: true or false"),
        ("type-columns", "columns = .* another type. Fix: an object"),
        ("type-column", "columns: prompt = .* is no name. Fix: a name"),
        ("type-tag", "tags: user_tag = .* is no name. Fix: a name or a list of them"),
        ("type-samples", "num_samples = 9 is another type. Fix: a whole number"),
        ("ours", "columns: unknown word 'scores'"),
        ("cloud", "cloud_file_name is not supported"),
        ("bare", "Fix: file_name, hf_hub_url or ms_hub_url"),
        ("gone", "no such file. Did you mean 'identity.json'"),
        ("odd", "unknown formatting 'vicuna'. Known: alpaca"),
        ("word", "columns: unknown word 'prompts'. Did you mean 'prompt'"),
        ("tag", "tags: unknown word 'user'"),
        ("unranked", "Fix: columns chosen and rejected"),
        ("empty", "holds no data file"),
    ],
)
def test_what_cannot_be_used_is_named(info: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", ".")) as caught:
        entry(info, name)
    assert str(caught.value).startswith(info.as_posix())


@pytest.mark.parametrize(("text", "message"), [("{", "line 1: broken JSON"), ("[]", "not a dataset_info.json")])
def test_a_broken_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset_info.json").write_text(text)
    with pytest.raises(InputError, match=message):
        entry(tmp_path / "dataset_info.json", "x")
    with pytest.raises(InputError, match="no such file"):
        entry(tmp_path / "none.json", "x")
