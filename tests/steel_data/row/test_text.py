"""The normaliser equals NFKC + lower case for every text; tokens, shingles and hashes follow their definitions."""

import unicodedata
from random import Random

import numpy as np
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steel_data.row.text import TextBatch, normalise, xxh3

# Characters that go wrong when they are folded one by one, beside everyday ones.
MARKS = "\u0301\u0323\u093c\u09be\u3099\u309a\u0345\u05b0\ufe0f\u20e3\u0d3e\u1dce"
JAMO = "".join(map(chr, [0x1100, 0x1112, 0x1161, 0x1175, 0x11A8, 0x11C2, 0xAC00, 0xAC01, 0x3131, 0x3200, 0xFFA1]))
CASES = "ΣσςAaİıßẞǅŒſKÅΩ𝚺𝛔"
WIDTH = "ＡＢｃ１２（），。…℃㎏①㈠ﬁ½㍿ｶﾞ゛か　\xa0¨"
ANY = st.characters(exclude_categories=["Cs"])
CHARS = st.one_of(ANY, st.sampled_from(MARKS + JAMO + CASES + WIDTH), st.sampled_from("中文ab1 \n\0"))
TEXTS = st.lists(st.text(CHARS, max_size=12), max_size=8)


def rows_of(batch: TextBatch) -> list[str]:
    text = batch.code_C.tobytes().decode("utf-32-le", "surrogatepass")
    return text.split("\0")[:-1] if text else []


def plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text.replace("\0", " ")).lower()


@given(TEXTS)
@example(["ΑΣ", "ΑΣ Α", "aΣ\u0301", "𝚺"])  # final sigma
@example(["각", "가\u11a8", "\u1100\u1161\u11a8", "㈀", "ㄱ"])  # jamo compose; ㈀ expands to a jamo in brackets
@example(["e\u0323\u0301", "e\u0301\u0323", "か\u3099", "ｶﾞ", "゛"])  # marks reorder and compose
@example(["a…b℃", "…", "", "\0", "①\u0301"])
@example(["\U00016d63\U00016d67", "\U000110a5\U000110ba"])  # vowel signs beyond the first plane
@settings(max_examples=400, deadline=None)
def test_normalised_text_is_nfkc_lower_row_by_row(texts: list[str]) -> None:
    batch = TextBatch(texts)
    assert rows_of(batch) == [plain(text) for text in texts]
    assert batch.rows == len(texts) == len(batch.start_R) == len(batch.end_R)


@pytest.mark.parametrize("around", ["{}", "a{}", "가{}か"])
def test_every_character_is_normalised(around: str) -> None:
    chars = [chr(c) for c in range(0x33480) if not 0xD800 <= c < 0xE000]
    texts = [around.format(char) for char in chars]
    assert rows_of(TextBatch(texts)) == [plain(text) for text in texts]


def test_a_lone_surrogate_is_only_a_character() -> None:
    assert rows_of(TextBatch(["a\ud800b", "c"])) == ["a\ud800b", "c"]


def tokens(text: str) -> list[str]:
    """Tokens of one row by the definition, a character at a time."""
    out: list[str] = []
    glued = False
    for char in normalise(text):
        if char in "$_^{}\\`*":
            continue
        name = unicodedata.name(char, "")
        alone = "CJK" in name or "HIRAGANA" in name or "KATAKANA" in name
        if alone:
            out.append(char)
        elif char.isalnum():
            out[-1:] = [out[-1] + char] if glued else [*out[-1:], char]
        glued = char.isalnum() and not alone
    return out


@given(st.lists(st.text(st.sampled_from("中文题かカabcZ09é ，.。$_^{}\n１Ａ"), max_size=20), max_size=6))
@settings(max_examples=200, deadline=None)
def test_tokens_are_han_characters_and_runs_of_letters(texts: list[str]) -> None:
    hash_T, offset_R = TextBatch(texts).tokens
    meant = [tokens(text) for text in texts]
    assert np.diff(offset_R).tolist() == [len(row) for row in meant]
    by_text: dict[str, int] = {}
    for token, value in zip([t for row in meant for t in row], hash_T.tolist(), strict=True):
        assert by_text.setdefault(token, value) == value
    assert len(set(by_text.values())) == len(by_text)


def test_formulas_keep_their_tokens_without_their_mark_up() -> None:
    assert TextBatch(["$H_2CO_3$"]).tokens[0].tolist() == TextBatch(["H2CO3"]).tokens[0].tolist()


@given(TEXTS, st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_a_row_is_hashed_alike_in_any_company(texts: list[str], n: int) -> None:
    whole = TextBatch(texts)
    shingles, offset_R = whole.shingles(n)
    grams, row_G = whole.token_grams(n)
    for i, text in enumerate(texts):
        alone = TextBatch([text])
        assert whole.fingerprints()[i] == alone.fingerprints()[0]
        assert shingles[offset_R[i] : offset_R[i + 1]].tolist() == alone.shingles(n)[0].tolist()
        assert grams[row_G == i].tolist() == alone.token_grams(n)[0].tolist()


def test_fingerprints_ignore_width_case_and_blanks_and_nothing_else() -> None:
    same = ["请回答：ＡＢ 1", "请回答:ab1", " 请 回答：Ab１\n"]
    other = ["请回答:ab2", "请回答ab1", "", "请回答:ab1请回答:ab1"]
    prints = TextBatch([*same, *other]).fingerprints().tolist()
    assert len(set(prints[:3])) == 1
    assert len(set(prints)) == 1 + len(other)


def test_a_text_shorter_than_a_shingle_has_one() -> None:
    _, offset_R = TextBatch(["短", "", "一二三四五", "一二三四五六", " \n"]).shingles(5)
    assert np.diff(offset_R).tolist() == [1, 0, 1, 2, 0]


def test_character_counts_by_class() -> None:
    from steel_data.row.text import DIGIT, HAN, HANGUL, KANA, LATIN, LETTER

    batch = TextBatch(["汉字かなカナ한국Abc12жΩ", "", "𠀀〇"])
    kinds = (HAN, KANA, HANGUL, LATIN, DIGIT, LETTER)
    assert [batch.counts(kind).tolist() for kind in kinds] == [
        [2, 0, 2], [4, 0, 0], [2, 0, 0], [3, 0, 0], [2, 0, 0], [2, 0, 0],
    ]  # fmt: skip
    assert TextBatch([]).counts(HAN).tolist() == []


@given(st.integers(33, 64), st.integers(0, 2**64 - 1), st.integers(0, 5), st.randoms(use_true_random=False))
def test_xxh3_of_many_texts_is_that_of_each(length: int, seed: int, rows: int, random: Random) -> None:
    texts = [random.randbytes(length) for _ in range(rows)]
    found = xxh3(np.frombuffer(b"".join(texts), np.uint8).reshape(rows, length), seed)
    assert found.tolist() == [xxhash.xxh3_64_intdigest(text, seed) for text in texts]


def test_xxh3_refuses_lengths_that_it_does_not_know() -> None:
    for length in (32, 65):
        with pytest.raises(ValueError, match="33 to 64"):
            xxh3(np.zeros((1, length), np.uint8), 0)
