"""A mixture is checked before it is encoded; a trained tokenizer is kept for what it was trained on."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from steel_data.errors import InputError
from steel_data.mixture.manifest import read_manifest
from steel_train.examples import prepare
from steel_train.examples.prepare import checked_mixture, trained_tokenizer, trained_tokenizer_key


def test_an_empty_mixture_is_refused(tmp_path, shared_mixture):
    copy = shutil.copytree(shared_mixture, tmp_path / "mixture")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["rows"] = 0
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="has no rows"):
        checked_mixture(copy)
    next(copy.glob("train-*.parquet")).write_bytes(b"cut")
    with pytest.raises(InputError, match="its bytes are not those that the manifest names"):
        checked_mixture(copy)


@pytest.mark.parametrize(
    "changed",
    [lambda: trained_tokenizer_key(321, "mixture"), lambda: trained_tokenizer_key(320, "other")],
    ids=["size", "mixture"],
)
def test_each_input_of_a_trained_tokenizer_alone_gives_another_key(changed):
    assert changed() != trained_tokenizer_key(320, "mixture") == trained_tokenizer_key(320, "mixture")


@pytest.mark.parametrize(("name", "other"), [("source_sha256", lambda *_: "other code"), ("version", lambda _: "99")])
def test_other_code_gives_another_tokenizer_key(monkeypatch, name, other):
    before = trained_tokenizer_key(320, "mixture")
    monkeypatch.setattr(prepare, name, other)
    assert trained_tokenizer_key(320, "mixture") != before


def test_a_trained_tokenizer_is_kept_until_its_size_changes(tmp_path, shared_mixture):
    manifest = read_manifest(shared_mixture)
    file = trained_tokenizer(320, tmp_path, shared_mixture, manifest) / "tokenizer.json"
    inode = file.stat().st_ino
    assert trained_tokenizer(320, tmp_path, shared_mixture, manifest) / "tokenizer.json" == file
    assert file.stat().st_ino == inode
    (tmp_path / "tokenizer/steel-tokenizer.json").write_text("{")  # damaged: it is trained again
    trained_tokenizer(330, tmp_path, shared_mixture, manifest)
    assert len(json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]) == 330


def test_of_two_that_ask_for_one_tokenizer_at_once_one_trains_it(tmp_path, shared_mixture, monkeypatch):
    """Each removed what the other was writing."""
    manifest, train, trained = read_manifest(shared_mixture), prepare.train_tokenizer, []

    def slowly(texts, size, folder):
        trained.append(size)
        time.sleep(0.5)  # the other asks meanwhile
        train(texts, size, folder)

    monkeypatch.setattr(prepare, "train_tokenizer", slowly)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(trained_tokenizer, 320, tmp_path, shared_mixture, manifest) for _ in range(2)]
    assert [one.result() for one in both] == [tmp_path / "tokenizer"] * 2 and trained == [320]


def test_what_a_killed_replacement_left_of_a_tokenizer_goes(tmp_path, shared_mixture):
    manifest = read_manifest(shared_mixture)
    shutil.copytree(trained_tokenizer(320, tmp_path, shared_mixture, manifest), tmp_path / ".tokenizer.old")
    trained_tokenizer(320, tmp_path, shared_mixture, manifest)
    assert not (tmp_path / ".tokenizer.old").exists()
