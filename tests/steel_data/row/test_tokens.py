"""The estimate is frozen, adds up exactly and is near real counts; a named tokenizer is never replaced by it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from steel_data.errors import InputError
from steel_data.row.text import TextBatch
from steel_data.row.tokens import ESTIMATE, WEIGHTS, Tokenizer, counter, estimate, find_tokenizer

TEXTS = st.lists(st.text(st.sampled_from("中文汉かカ한글abcXY 12，。$_{}\n\0жä…℃"), max_size=30), max_size=8)


def test_the_weights_are_frozen_under_their_name() -> None:
    # Other weights count other mixtures: they need another name (and a line in docs/results/token-estimate.md).
    assert ESTIMATE == "estimate-1"
    assert np.array(WEIGHTS).shape == (11, 11)
    assert int((np.array(WEIGHTS) * np.arange(1, 122).reshape(11, 11)).sum()) == CHECKSUM


CHECKSUM = 452125  # of WEIGHTS, each times its place
# Counts of the real Qwen vocabulary (dashscope's qwen.tiktoken).
QWEN = {
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。": 21,
    "Large language models are trained on text from the web.": 11,
    "小明有12个苹果，吃了3个，还剩多少个？\n12-3=9，所以还剩9个。": 30,
    "def add(a, b):\n    return a + b\n": 12,
    r"已知函数 $f(x)=x^{2}+2 x+1$，求 $f(2)$ 的值。": 27,
}


@pytest.mark.parametrize("text", QWEN)
def test_the_estimate_is_near_the_real_count(text: str) -> None:
    assert abs(int(estimate([text])[0]) - QWEN[text]) <= 0.2 * QWEN[text] + 1


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_a_text_counts_alike_in_any_company(texts: list[str]) -> None:
    whole = estimate(texts)
    assert whole.dtype == np.int32
    assert whole.tolist() == [int(estimate([text])[0]) for text in texts]
    assert all((count > 0) == bool(text) for count, text in zip(whole.tolist(), texts, strict=True))
    assert estimate(texts, TextBatch(texts)).tolist() == whole.tolist()


def test_the_mark_between_turns_counts_as_a_line_break() -> None:
    texts = ["问题一\n回答：a 1\nb", "x\n\ny"]
    marked = TextBatch([text.replace("\n", "\x1e") for text in texts])
    assert estimate(texts, marked).tolist() == estimate(texts).tolist()


def toy_tokenizer(folder: Path) -> Path:
    words = FastTokenizer(WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.enable_truncation(2)
    words.enable_padding()
    folder.mkdir()
    words.save(str(folder / "tokenizer.json"))
    return folder


def test_a_named_tokenizer_counts_without_truncation_and_padding(tmp_path: Path) -> None:
    toy_tokenizer(tmp_path / "toy")
    for name in ("toy", "toy/tokenizer.json", str(tmp_path / "toy")):
        found = find_tokenizer(name, tmp_path)
        assert found.describe()["name"] in (name, "toy")
        assert counter(found)(["a b c d", "", "a"], None).tolist() == [4, 0, 1]


def test_the_fingerprint_follows_the_file(tmp_path: Path) -> None:
    folder = toy_tokenizer(tmp_path / "toy")
    before = find_tokenizer("toy", tmp_path).sha256
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"a"', '"b"'))
    assert find_tokenizer("toy", tmp_path).sha256 != before


def test_without_a_name_the_estimate_says_so(tmp_path: Path) -> None:
    found = find_tokenizer(None, tmp_path)
    assert found == Tokenizer(ESTIMATE, "", None)
    assert found.describe() == {"name": ESTIMATE}
    assert counter(found)([], None).tolist() == []


def test_a_tokenizer_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json there"):
        find_tokenizer("nowhere", tmp_path)


def test_a_hub_that_cannot_be_reached_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot be had from the hub"):
        find_tokenizer("nobody/no-such-tokenizer", tmp_path)
