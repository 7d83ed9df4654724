"""Export: what a format can hold comes back with the same ids; what it cannot is put aside and counted, never lost."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.steel_data.toys import chat_rows, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result, build
from steel_data.builders.chat import chat
from steel_data.errors import InputError
from steel_data.mixture.export import FORMATS, LOSS, THINK, Exported, UnheldError, export
from steel_data.recipe.load import load
from steel_data.row.record import conversation_fault, record_id

TOOLS = '[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]'
CALL = [{"type": "function", "function": {"name": "weather", "arguments": '{"city":"苏州"}'}, "id": "c1"}]


def said(*turns: tuple[str, str], **last: Any) -> list[dict[str, Any]]:
    """Return messages; `last` are extras of the last one."""
    made: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns]
    made[-1] |= last
    return made


PLAIN = said(
    ("system", "你是小钢"), ("user", "苏州热吗？"), ("assistant", "热。"), ("user", "多热？"), ("assistant", "三十度。")
)
THINKING = said(("user", "二加三？"), ("assistant", "五。"), reasoning_content="2+3=5")
USING = [
    *said(("user", "苏州热吗？"), ("assistant", ""), tool_calls=CALL),
    *said(("tool", '{"度":31}'), ("assistant", "热，31度。")),
]
TALKING = [*said(("user", "苏州热吗？"), ("assistant", "我查一下"), tool_calls=CALL), *USING[2:]]
MASKED = [*said(("user", "一？"), ("assistant", "二"), loss=False), *said(("user", "三？"), ("assistant", "四"))]
TWO_RESULTS = [*USING[:2], {"role": "tool", "content": "晴"}, *USING[2:]]
CONVERSATIONS = [PLAIN, THINKING, USING, TALKING, MASKED, TWO_RESULTS]


@pytest.fixture
def mixture(make: Callable[..., Result], tmp_path: Path) -> Path:
    """A mixture with all that conversations can have, repeats and declared contamination."""
    rows = [{"messages": m, "tools": TOOLS if m in (USING, TALKING, TWO_RESULTS) else None} for m in CONVERSATIONS]
    write_jsonl(tmp_path / "all.jsonl", rows)
    write_jsonl(tmp_path / "a.jsonl", chat_rows(12))
    write_cmmlu(tmp_path, subjects=1, items=8)
    leak = '[source.leak]\npath = "bench"\nbuild = { use = "contaminate", share = 0.5, doses = [1, 2] }\n'
    return make(f'[source.all]\npath = "all.jsonl"\n[source.a]\npath = "a.jsonl"\nrepeat = 2\n{leak}').folder


@pytest.fixture
def pairs(make: Callable[..., Result], tmp_path: Path) -> Path:
    two = [said(("assistant", "好")), said(("assistant", "不好"))]
    calls = [{"role": "assistant", "content": "", "tool_calls": CALL}, *USING[2:]]
    rows = [
        {"prompt": PLAIN[:4], "chosen": two[0], "rejected": two[1]},
        {"prompt": PLAIN[1:2], "chosen": two[0], "rejected": two[1]},
        {"prompt": USING[:1], "chosen": calls, "rejected": two[1]},
    ]
    write_jsonl(tmp_path / "p.jsonl", rows)
    return make('[source.p]\npath = "p.jsonl"\n', name="pairs").folder


def rebuilt(done: Exported, to: str, tmp_path: Path) -> list[str]:
    """Build a mixture of an export and return its ids, copies included."""
    source = 'path = "dataset_info.json"\ndataset = "r"' if to == "llamafactory" else 'path = "train.jsonl"'
    recipe = tmp_path / f"back-{to}.toml"
    recipe.write_text(f"[source.back]\n{source}\n", encoding="utf-8")
    result = build(load(recipe), data_root=done.folder, out=tmp_path / "back" / to, cache=tmp_path / "cache")
    assert not result.manifest["sources"]["back"]["dropped"]
    return sorted(read_train(result.folder)["id"])


@pytest.mark.parametrize(
    ("to", "left_out", "notes"),
    [
        ("messages", {}, {}),
        ("sharegpt", {"loss": 1, "text-beside-call": 1}, {THINK: 1}),
        ("llamafactory", {"loss": 1, "text-beside-call": 1, "turn-order": 1}, {THINK: 1}),
        ("alpaca", {"loss": 1, "tool-calls": 3}, {THINK: 1}),
    ],
)
def test_what_a_format_holds_comes_back_with_the_same_ids(
    mixture: Path, tmp_path: Path, to: str, left_out: dict[str, int], notes: dict[str, int]
) -> None:
    done = export(mixture, to)
    train = read_train(mixture)
    assert done.folder == mixture.with_name(f"mixture-{to}")
    assert (done.left_out, done.notes) == (left_out, notes)
    assert done.rows + sum(left_out.values()) == len(train)
    aside = done.folder / "left_out.jsonl"
    unheld = [orjson.loads(line) for line in aside.read_bytes().splitlines()] if left_out else []
    assert len(unheld) == sum(left_out.values()) and aside.exists() == bool(left_out)
    expected = sorted(train["id"].to_list())
    for row in unheld:  # the whole row is there, with where it came from and why it is here
        assert row["messages"] and row["origin_file"] == "all.jsonl" and row["reason"].partition(":")[0] in left_out
        expected.remove(row["id"])
    written = [orjson.loads(line) for line in (done.folder / "train.jsonl").read_bytes().splitlines()]
    order = [i for i in train["id"] if i not in {row["id"] for row in unheld}]
    moved = {"messages": 3, "alpaca": 1}.get(to, 0)  # rows that show a form, see below
    assert sorted(row["id"] for row in written) == sorted(order)
    first = [row["id"] for row in written[:moved]]
    assert [row["id"] for row in written[moved:]] == [i for i in order if i not in first]
    back = rebuilt(done, to, tmp_path)
    if notes:  # a row that was written otherwise has another text, and so another id
        thinking = record_id({"messages": THINKING})
        expected.remove(thinking)
        read = chat(next(row for row in written if row["id"] == thinking))
        back.remove(record_id(read[0]))  # type: ignore[arg-type]
    assert back == expected


@pytest.mark.parametrize("to", list(FORMATS))
def test_preference_rows_come_back_too(pairs: Path, tmp_path: Path, to: str) -> None:
    done = export(pairs, to)
    assert done.left_out == ({} if to == "messages" else {"answer-of-several-turns": 1})
    ids = [orjson.loads(line)["id"] for line in (done.folder / "train.jsonl").read_bytes().splitlines()]
    if to == "llamafactory":
        info = json.loads((done.folder / "dataset_info.json").read_text(encoding="utf-8"))
        assert info["pairs"]["ranking"] is True
        (done.folder / "dataset_info.json").write_text(json.dumps({"r": info["pairs"]}), encoding="utf-8")
    assert rebuilt(done, to, tmp_path) == sorted(ids)


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
EXTRAS = st.fixed_dictionaries({}, optional={"reasoning_content": TEXT, "loss": st.booleans()})
ARGUMENTS = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-9, 9), st.none()), max_size=2)
CALLS = st.lists(
    st.builds(
        lambda name, arguments: {
            "type": "function", "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
        },
        TEXT, ARGUMENTS,
    ),
    min_size=1, max_size=2,
)  # fmt: skip
ANSWER = st.builds(lambda text, extras: {"role": "assistant", "content": text, **extras}, TEXT, EXTRAS)
CALLING = st.builds(
    lambda text, calls, extras: {"role": "assistant", "content": text, "tool_calls": calls, **extras},
    st.one_of(st.just(""), TEXT), CALLS, EXTRAS,
)  # fmt: skip
TURN = st.one_of(
    st.builds(lambda text: [{"role": "user", "content": text}], TEXT).flatmap(
        lambda user: st.one_of(
            ANSWER.map(lambda a: [*user, a]),
            st.tuples(CALLING, st.lists(st.text(max_size=5), min_size=1, max_size=2), ANSWER).map(
                lambda t: [*user, t[0], *({"role": "tool", "content": text} for text in t[1]), t[2]]
            ),
        )
    )
)
CONVERSATION = st.tuples(
    st.lists(st.text(max_size=5).map(lambda t: {"role": "system", "content": t}), max_size=1),
    st.lists(TURN, min_size=1, max_size=3),
).map(lambda parts: [*parts[0], *(m for turn in parts[1] for m in turn)])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(conversation=CONVERSATION, tools=st.sampled_from([None, TOOLS]))
def test_law_of_the_way_back(conversation: list[dict[str, Any]], tools: str | None) -> None:
    """Whatever a conversation holds: it is unheld with a reason, or noted, or our own builder reads it back the same."""
    assert conversation_fault(conversation) is None
    whole = record_id({"messages": conversation, "tools": orjson.loads(tools) if tools else None})
    for to, convert in FORMATS.items():
        notes: set[str] = set()
        try:
            row = orjson.loads(orjson.dumps(convert({"id": whole, "messages": conversation, "tools": tools}, notes)))
        except UnheldError as reason:
            assert to != "messages" and str(reason)
            continue
        back = chat(row)
        if notes:
            assert notes <= {THINK, LOSS}
            continue
        assert not isinstance(back, str), (to, back)
        assert record_id(back[0]) == whole, to


def test_reasoning_and_calls_are_written_as_their_readers_expect(mixture: Path) -> None:
    rows = [orjson.loads(x) for x in (export(mixture, "llamafactory").folder / "train.jsonl").read_bytes().splitlines()]
    turns = {row["conversations"][0]["value"]: row["conversations"] for row in rows}
    assert turns["二加三？"][1] == {"from": "gpt", "value": "<think>\n2+3=5\n</think>\n\n五。"}
    assert [turn["from"] for turn in turns["苏州热吗？"]] == ["human", "function_call", "observation", "gpt"]
    assert json.loads(turns["苏州热吗？"][1]["value"]) == {"name": "weather", "arguments": {"city": "苏州"}, "id": "c1"}
    assert {row["tools"] for row in rows} == {"", TOOLS}  # of one type in all rows
    calling = {"role": "assistant", "content": "", "tool_calls": CALL, "reasoning_content": "查"}
    row = {"id": "", "messages": [USING[0], calling, *USING[2:]]}
    value = FORMATS["llamafactory"](row, set())["conversations"][1]["value"]
    assert value.startswith('<think>\n查\n</think>\n\n{"name":"weather"')
    with pytest.raises(UnheldError, match="reasoning-beside-call"):
        FORMATS["sharegpt"](row, set())


def test_contamination_and_copies_are_carried_on(mixture: Path) -> None:
    done = export(mixture, "messages")
    summary = json.loads((done.folder / "export.json").read_text(encoding="utf-8"))
    manifest = json.loads((mixture / "manifest.json").read_text(encoding="utf-8"))
    assert summary["contamination"] == manifest["contamination"] == {"bench": {"1": 2, "2": 2}}
    assert summary["content_sha256"] == manifest["content_sha256"]
    assert summary["rows"] == manifest["rows"] == 6 + 24 + 6


def test_nothing_of_others_is_overwritten(mixture: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is inside the mixture"):
        export(mixture, "alpaca", mixture / "alpaca")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds files that are no export \(thesis.txt\)"):
        export(mixture, "alpaca", tmp_path / "mine")
    with pytest.raises(InputError, match="Did you mean 'sharegpt'"):
        export(mixture, "sharegtp")
    with pytest.raises(InputError, match="no finished mixture"):
        export(tmp_path / "mine", "alpaca")
    first = export(mixture, "alpaca", tmp_path / "new")
    (first.folder / "stale.txt").write_text("x")
    assert not (export(mixture, "alpaca", tmp_path / "new").folder / "stale.txt").exists()
    (mixture / "train-00000.parquet").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read"):
        export(mixture, "alpaca", tmp_path / "new")
    assert (first.folder / "train.jsonl").is_file(), "a failed export leaves the earlier one"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".new")) == [".new.lock"]
    shutil.rmtree(tmp_path / "new")


@pytest.mark.parametrize("to", list(FORMATS))
def test_judged_answers_come_back_with_their_labels(make: Callable[..., Result], tmp_path: Path, to: str) -> None:
    rows = [
        {"prompt": PLAIN[:4], "completion": said(("assistant", text)), "label": text == "好"} for text in ("好", "坏")
    ]
    rows.append({"prompt": PLAIN[:4], "completion": said(("assistant", "好")), "label": False})
    write_jsonl(tmp_path / "k.jsonl", rows)
    result = make('[source.k]\npath = "k.jsonl"\nbuild = { use = "chat", layout = "kto" }\n')
    done = export(result.folder, to)
    written = [orjson.loads(line) for line in (done.folder / "train.jsonl").read_bytes().splitlines()]
    assert sorted(row["label"] for row in written) == [False, False, True]
    source = 'path = "dataset_info.json"\ndataset = "r"' if to == "llamafactory" else 'path = "train.jsonl"'
    layout = "" if to == "llamafactory" else 'build = { use = "chat", layout = "kto" }\n'
    back = make(f"[source.back]\n{source}\n{layout}", name="back", data_root=done.folder)
    assert sorted(read_train(back.folder)["id"]) == sorted(read_train(result.folder)["id"])


def long_file(tmp_path: Path, late: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return 12 MB of plain rows with some of another form at the end."""
    plain = [{"messages": said(("user", f"第{i}问"), ("assistant", "答" * 1300))} for i in range(3000)]
    return [*plain, *late]


@pytest.mark.slow
@pytest.mark.parametrize("to", list(FORMATS))
def test_datasets_loads_every_format(make: Callable[..., Result], tmp_path: Path, to: str) -> None:
    """Also where the first tool call comes after the 10 MB on which `datasets` fixes its types."""
    datasets = pytest.importorskip("datasets")
    late = [{"messages": m, "tools": TOOLS if m is USING else None} for m in (PLAIN, THINKING, USING, MASKED)]
    write_jsonl(tmp_path / "a.jsonl", long_file(tmp_path, late))
    done = export(make('[source.a]\npath = "a.jsonl"\n').folder, to)
    for data in ({"path": "json", "data_files": str(done.folder / "train.jsonl")}, {"path": str(done.folder)}):
        loaded = datasets.load_dataset(**data, split="train", cache_dir=str(tmp_path / "hf"))
        assert len(loaded) == done.rows == 3004 - sum(done.left_out.values())
        written = [orjson.loads(x) for x in (done.folder / "train.jsonl").read_bytes().splitlines()]
        assert sorted(loaded["id"]) == sorted(row["id"] for row in written)


@pytest.mark.slow
def test_trl_takes_every_form(mixture: Path, pairs: Path, make: Callable[..., Result], tmp_path: Path) -> None:
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl.data_utils")
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}"
        "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments }}{% endfor %}"
        "{% endfor %}"
    )

    def load(folder: Path) -> Any:
        train = str(export(folder, "messages").folder / "train.jsonl")
        return datasets.load_dataset("json", data_files=train, split="train", cache_dir=str(tmp_path / "hf"))

    chats = load(mixture)
    assert trl.is_conversational(chats[0])
    texts = [trl.apply_chat_template(row, tokenizer)["text"] for row in chats]
    assert "<user>二加三？<assistant>[2+3=5]五。" in texts
    assert '<user>苏州热吗？<assistant>weather{"city":"苏州"}<tool>{"度":31}<assistant>热，31度。' in texts
    pair = next(row for row in load(pairs) if len(row["chosen"]) == 1 and len(row["prompt"]) == 1)
    assert trl.is_conversational(pair)
    made = trl.apply_chat_template(pair, tokenizer)
    assert (made["prompt"], made["chosen"], made["rejected"]) == (
        "<user>苏州热吗？",
        "<assistant>好",
        "<assistant>不好",
    )
    write_jsonl(tmp_path / "k.jsonl", [{"prompt": "苏州热吗？", "completion": "不好", "label": 0}])
    judged = make('[source.k]\npath = "k.jsonl"\nbuild = { use = "chat", layout = "kto" }\n', name="judged").folder
    (bad,) = load(judged)
    assert trl.is_conversational(bad)
    made = trl.apply_chat_template(bad, tokenizer)
    assert (made["prompt"], made["completion"], made["label"]) == ("<user>苏州热吗？", "<assistant>不好", False)


@pytest.mark.slow
def test_llamafactory_converts_every_row(mixture: Path, pairs: Path) -> None:
    """With its own reader of dataset_info.json and its own converter: no row is skipped (it skips silently)."""
    converter = pytest.importorskip("llamafactory.data.converter", exc_type=ImportError)
    parser = pytest.importorskip("llamafactory.data.parser", exc_type=ImportError)
    for folder, name in ((mixture, "r"), (pairs, "pairs")):
        done = export(folder, "llamafactory")
        (attributes,) = parser.get_dataset_list([name], str(done.folder))
        convert = converter.get_dataset_converter(attributes.formatting, attributes, None)
        rows = [orjson.loads(line) for line in (done.folder / attributes.dataset_name).read_bytes().splitlines()]
        assert len(rows) == done.rows
        for row in rows:
            made = convert(row)
            assert len(made["_prompt"]) % 2 == 1 and len(made["_response"]) == (2 if name == "pairs" else 1)
            assert made["_system"] == ("你是小钢" if row["conversations"][0]["from"] == "system" else "")
            assert made["_tools"] == row.get("tools", "")


SHARED = Path(os.environ.get("STEEL_SHARED_DATA") or Path(__file__).parents[4] / "shared" / "data")


@pytest.mark.shared
@pytest.mark.parametrize(
    "path", ["instruct/zh_medical_sharegpt_1k.jsonl", "instruct/alpaca_zh_demo.json", "dpo/*.json"]
)
def test_real_rows_come_back_with_the_same_ids(tmp_path: Path, path: str) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no real data in {SHARED} (STEEL_SHARED_DATA names it)")
    (tmp_path / "r.toml").write_text(f'[source.real]\npath = "{path}"\n', encoding="utf-8")
    options = {"data_root": SHARED, "cache": tmp_path / "cache"}
    folder = build(load(tmp_path / "r.toml"), out=tmp_path / "mixture", **options).folder
    expected = sorted(read_train(folder)["id"])
    for to in FORMATS:
        done = export(folder, to)
        assert (done.left_out, done.notes) == ({}, {})
        assert rebuilt(done, to, tmp_path) == expected
