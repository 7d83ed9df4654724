"""Documents in blocks: every token but a document's first is learnt once, and only the last block falls short."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.steel_train.conftest import BASIC, MODEL
from tests.steel_train.toys import tokenizer

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_train.examples.blocks import blocks
from steel_train.examples.encode import Encoder, Learnt
from steel_train.examples.folder import encode_batch
from steel_train.schedule.batches import collate


def encoded(texts, max_length=16):
    rows = [
        {"id": f"{i:032x}", "copy": 0, "source": "books", "kind": "document", "messages": [{"role": "assistant", "content": text}]}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return encode_batch(Encoder(tokenizer(), max_length, learnt=Learnt("all", documents=True)), rows, 0)


def test_a_document_is_its_text_and_an_eos_without_a_template():
    tok = tokenizer()
    documents = encoded(["水壶用来装水。" * 9])
    ids, learnt = documents.one(0)
    assert tok.decode(ids) == "水壶用来装水。" * 9 + tok.eos_token, "longer than max_length, and whole"
    assert not learnt[0] and learnt[1:].all() and documents.ends() == {tok.eos_token_id: 1}
    tok.chat_template = None
    assert np.array_equal(encode_batch(Encoder(tok, 16, learnt=Learnt("all", documents=True)), [
        {"kind": "document", "messages": [{"role": "assistant", "content": "水壶"}]}], 0).tokens, encoded(["水壶"]).tokens)  # fmt: skip


def test_a_conversation_among_documents_is_rendered_and_a_document_among_conversations_needs_loss_all():
    talk = {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}], "kind": "chat"}
    text = {"messages": [{"role": "assistant", "content": "文"}], "kind": "document"}
    tok = tokenizer()
    (piece,) = Encoder(tok, 99, learnt=Learnt("all", documents=True)).encode([talk])[0].examples
    assert tok.decode(piece.ids) == "<|im_start|>user\n问<|im_end|>\n<|im_start|>assistant\n答<|im_end|>"
    refused, allowed = (Encoder(tok, 99, learnt=Learnt(loss)).encode([text])[0] for loss in ("assistant", "all"))
    assert refused.reason.startswith('a document, of which loss = "all"')
    assert tok.decode(allowed.examples[0].ids) == "文<|im_end|>"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(8, 40))
def test_every_token_but_a_documents_first_is_learnt_once(sizes, length):
    documents = encoded(["水" * size for size in sizes])
    made = blocks(documents, length)
    assert made.lengths.min() > 1 and made.table["learnt"].sum() == (documents.lengths - 1).sum()
    predicted = np.concatenate([np.arange(s + 1, s + n) for s, n in zip(made.starts, made.lengths, strict=True)])
    whole = [np.arange(s + 1, s + n) for s, n in zip(documents.starts, documents.lengths, strict=True)]
    assert np.array_equal(predicted, np.concatenate(whole))
    assert (made.unit_lengths()[:-1] >= length - 1).all() and made.unit_lengths().max() <= length
    assert made.table["turns"].sum() == len(sizes) == sum(made.ends().values())
    units = np.arange(made.units)[::-1]
    assert sorted(made.members(units).tolist()) == list(range(len(made.table)))


def test_a_block_is_one_packed_row_whose_documents_do_not_see_one_another():
    made = blocks(encoded(["水壶", "装水。" * 9, "山"]), 16)
    batch = collate(made, [0], packed=True, pad_id=0)
    parts = made.members([0])
    assert len(parts) == 2 and batch.inputs["segment_lengths"] == tuple(made.lengths[parts].tolist())
    positions, labels = batch.inputs["position_ids"][0].tolist(), batch.inputs["labels"][0].tolist()
    begins = [i for i, position in enumerate(positions) if position == 0]
    assert len(begins) == 2 and [i for i, label in enumerate(labels) if label == -100] == begins


@pytest.fixture
def books(tmp_path):
    lines = [
        json.dumps({"text": f"第{i}篇：" + "水壶用来装水。" * (1 + i % 40)}, ensure_ascii=False) for i in range(80)
    ]
    (tmp_path / "books.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = {**BASIC, "max_length": "64", "method": '"pretrain"', "save_every": None}
    recipe = tmp_path / "books.toml"
    recipe.write_text(
        'seed = 1\n[source.books]\npath = "books.jsonl"\nbuild = { use = "document" }\n[train]\n' + MODEL + "\n"
        + "\n".join(f"{key} = {value}" for key, value in table.items() if value is not None) + "\n",
        encoding="utf-8",
    )  # fmt: skip
    build(load(recipe), out=tmp_path / "mixture", cache=tmp_path / "cache")
    return recipe


def test_a_run_pretrains_in_full_blocks_with_rows_held_out(books, tmp_path, capsys):
    from steel_train.run import run

    changes = ["train.eval={ rows = 8, every = 3, prompts = ['第'] }", "train.epochs=1"]
    run(load(books, changes), tmp_path / "mixture", tmp_path / "run", None)
    said = json.loads((tmp_path / "run/preflight.json").read_text())
    assert said["rows_per_step"] == 8 and said["packed"]
    assert said["steps"] == -(-(said["tokens"] // 64) // 8), "all blocks are full"
    assert said["learnt"] == said["tokens"] - said["examples"] and said["ended_share"] == 1
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert losses[-1] < losses[0] and "  第 -> " in capsys.readouterr().out
    facts = json.loads(next((tmp_path / "run/checkpoints").glob("step-*/steel.json")).read_text())
    assert facts["exposures"]["rows"] == {"books": 72}, "a document in several blocks is one row"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["train.overlong=split"], "overlong does nothing with method = 'pretrain'"),
        (["train.loss=all"], "loss does nothing with method = 'pretrain'"),
        (["source.books.loss=assistant"], r"\[source.books\]: loss = 'assistant', but method = 'pretrain' learns all"),
        (["train.method=full"], 'no row is left to learn from .*a document, of which loss = "all"'),
    ],
)
def test_what_contradicts_pretraining_is_named(books, tmp_path, changes, message):
    from steel_train.run import run

    with pytest.raises(InputError, match=message):
        run(load(books, changes), tmp_path / "mixture", tmp_path / "run", None)
