"""Examples are made once for what they depend on, and again for anything else."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.steel_train.toys import INST, tokenizer

from steel_train.examples import folder as examples_folder
from steel_train.examples.encode import Encoder, Learnt
from steel_train.examples.folder import examples_key, make_examples, open_examples, sample_examples


def retrained(tmp_path):
    from transformers import AutoTokenizer

    from steel_train.examples.tokenizer import train_tokenizer

    train_tokenizer(["别的文字"] * 9, 320, tmp_path / "other")
    return AutoTokenizer.from_pretrained(tmp_path / "other")


def with_token(name, token):
    tok = tokenizer()
    setattr(tok, name, token)
    return tok


@pytest.mark.parametrize(
    "changed",
    [
        lambda _: examples_key("other", Encoder(tokenizer(), 64)),
        lambda _: examples_key("mixture", Encoder(tokenizer(), 65)),
        lambda _: examples_key("mixture", Encoder(tokenizer(), 64, "split")),
        lambda _: examples_key("mixture", Encoder(tokenizer(), 64, learnt=Learnt("all"))),
        lambda _: examples_key("mixture", Encoder(tokenizer(), 64, learnt=Learnt("assistant", {"chat": "all"}))),
        lambda _: examples_key("mixture", Encoder(tokenizer(INST), 64)),
        lambda _: examples_key("mixture", Encoder(with_token("eos_token", "<|endoftext|>"), 64)),
        lambda _: examples_key("mixture", Encoder(with_token("bos_token", "<|im_start|>"), 64)),
        lambda tmp_path: examples_key("mixture", Encoder(retrained(tmp_path), 64)),
    ],
    ids=["mixture", "max_length", "overlong", "loss", "loss of a source", "template", "eos", "bos", "vocabulary"],
)
def test_each_input_alone_gives_another_key(changed, tmp_path):
    assert examples_key("mixture", Encoder(tokenizer(), 64)) == examples_key("mixture", Encoder(tokenizer(), 64))
    assert changed(tmp_path) != examples_key("mixture", Encoder(tokenizer(), 64))


@pytest.mark.parametrize(("name", "other"), [("source_sha256", lambda *_: "other code"), ("version", lambda _: "99")])
def test_other_code_gives_another_key(monkeypatch, name, other):
    before = examples_key("mixture", Encoder(tokenizer(), 64))
    monkeypatch.setattr(examples_folder, name, other)
    assert examples_key("mixture", Encoder(tokenizer(), 64)) != before


@pytest.fixture(scope="module")
def made(tmp_path_factory, shared_mixture):
    place = tmp_path_factory.mktemp("examples") / "examples"
    return shared_mixture, place, make_examples(shared_mixture, Encoder(tokenizer(), 128), place, "mixture")


def test_what_is_there_is_taken_and_what_changed_is_made_again(made, tmp_path):
    mixture, place, first = made
    copy = shutil.copytree(place, tmp_path / "examples")
    inode = (copy / "tokens.bin").stat().st_ino
    again = make_examples(mixture, Encoder(tokenizer(), 128), copy, "mixture")
    assert (copy / "tokens.bin").stat().st_ino == inode and np.array_equal(again.tokens, first.tokens)
    shorter = make_examples(mixture, Encoder(tokenizer(), 32), copy, "mixture")
    assert shorter.table["length"].max() == 32 and open_examples(copy).table.equals(shorter.table)


@pytest.mark.parametrize("name", ["tokens.bin", "learnt.bin", "examples.parquet", "dropped.parquet", "examples.json"])
@pytest.mark.parametrize("missing", [True, False])
def test_a_damaged_folder_is_made_again(made, tmp_path, name, missing):
    mixture, place, first = made
    copy = shutil.copytree(place, tmp_path / "examples")
    if missing:
        (copy / name).unlink()
    else:
        (copy / name).write_bytes((copy / name).read_bytes()[:-8])
    again = make_examples(mixture, Encoder(tokenizer(), 128), copy, "mixture")
    assert np.array_equal(again.learnt, first.learnt) and again.table.equals(first.table)


def test_the_files_hold_what_is_encoded_in_memory(made):
    mixture, _, first = made
    whole = sample_examples(mixture, Encoder(tokenizer(), 128), 10_000)
    assert np.array_equal(first.tokens, whole.tokens) and np.array_equal(first.learnt, whole.learnt)
    assert first.table.equals(whole.table) and (first.rows, first.of) == (whole.rows, whole.of) == (80, 80)
    ids, learnt = first.one(3)
    assert len(ids) == first.table["length"][3] and learnt.sum() == first.table["learnt"][3]


def test_seeds_that_start_at_once_make_the_examples_once(tmp_path, shared_mixture):
    """Without a lock one of them replaced the folder that another was reading."""
    place = tmp_path / "examples"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: make_examples(shared_mixture, Encoder(tokenizer(), 128), place, "m"), range(4)))
    assert len({tuple(each.tokens.tolist()) for each in found}) == 1
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == ["examples"]


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("size", "workers"), [(7, 1), pytest.param(30, 2, marks=pytest.mark.slow), pytest.param(30, 3, marks=pytest.mark.slow)]
)  # fmt: skip
def test_the_bytes_do_not_depend_on_who_encodes(made, tmp_path, monkeypatch, size, workers):
    """However many processes, and (but for the tables' row groups) however large their slices; no part is left."""
    mixture, place, first = made
    monkeypatch.setattr(examples_folder, "_SLICE", size)
    found = make_examples(mixture, Encoder(tokenizer(), 128), tmp_path / "examples", "mixture", workers)
    assert found.table.equals(first.table) and found.dropped.equals(first.dropped)
    one, other = bytes_of(place), bytes_of(tmp_path / "examples")
    assert (
        one.keys()
        == other.keys()
        == {"tokens.bin", "learnt.bin", "examples.parquet", "dropped.parquet", "examples.json"}
    )
    assert all(one[name] == other[name] for name in ("tokens.bin", "learnt.bin", "examples.json"))
    if workers > 1:
        make_examples(mixture, Encoder(tokenizer(), 128), tmp_path / "alone", "mixture", 1)
        assert bytes_of(tmp_path / "alone") == other
