"""The rules of language, one by one; the verdicts; at least as good as plain fastText on real lines."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_data.filters import language
from steel_data.filters.language import Language, detect, fasttext_language
from steel_data.row.text import TextBatch

LID = Path(__file__).parents[4] / "shared" / "data" / "lid" / "lid_eval.tsv"
ENGLISH = "The quick brown fox jumps over the lazy dog while the farmer is asleep."
CASES = {
    "empty": ("", "und"),
    "blanks": (" \n\t　", "und"),
    "emoji": ("😀😀👍", "und"),
    "numbers and signs": ("6 + 3 = 9. 12,5 % → 100", "und"),
    "Chinese": ("请用三句话介绍一下你的家乡。", "zh"),
    "one Chinese character": ("好", "zh"),
    "two Chinese characters": ("苹果", "zh"),
    "traditional Chinese": ("請用三句話介紹一下你的家鄉。", "zh"),
    "kanji only": ("東京都知事選挙", "zh"),
    "Japanese": ("明日の天気はどうですか。傘を持って行きましょう。", "ja"),
    "Japanese with little kana": ("東京都千代田区永田町一丁目国会議事堂前駅徒歩三分の場所", "ja"),
    "katakana": ("コンピュータープログラミング", "ja"),
    "half-width katakana": ("ﾆﾎﾝｺﾞのﾃｷｽﾄです", "ja"),
    "Chinese with の": ("这家鲜の每日果汁店在学校门口开业，今天所有饮料一律半价，欢迎同学们前来品尝，还有小礼品赠送，先到先得。", "zh"),
    "Korean": ("내일 날씨는 어떻습니까?", "ko"),
    "decomposed Korean": ("\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165", "ko"),
    "Cantonese": ("佢哋今日冇嚟，我哋唔知點解。", "yue"),
    "short Cantonese": ("唔該", "yue"),
    "a quoted Cantonese word": ("粤语里的“唔该”相当于普通话的“谢谢”或者“劳驾”，在广州和香港的日常生活中使用得非常频繁，外地人到了当地，最先学会的往往就是这一句话。", "zh"),
    "lamas are not Cantonese": ("喇嘛庙里的喇嘛念经。", "zh"),
    "sheep are not Cantonese": ("小羊咩咩叫，咩咩找妈妈。", "zh"),
    "English": (ENGLISH, "en"),
    "full-width English": (ENGLISH.translate({c: c + 0xFEE0 for c in range(0x21, 0x7F)}), "en"),
    "English that quotes French": (
        "Which word would you use for a library? They say “bibliothèque” in France, and that is what I would write.", "en",
    ),
    "Indonesian with English words": (
        "Saya suka meeting online karena file dan slide bisa langsung dibagikan the best pokoknya untuk semua orang.", "id",
    ),
    "French": ("Je ne sais pas où se trouve la bibliothèque, mais je peux demander.", "fr"),
    "Russian": ("Завтра будет хорошая погода, возьмите с собой друзей.", "ru"),
    "Chinese that quotes English": (f"请把下面的句子翻译成中文，并解释其中的语法：{ENGLISH}", "zh"),
    "English that quotes Chinese": (f"{ENGLISH} {ENGLISH} What does 你好 mean?", "en"),
    "Chinese about code": ("写一个函数计算两数之和\n```python\ndef add(left, right):\n    return left + right\n```", "zh"),
    "Chinese with much code": ("改写代码：\n```python\n" + "value = compute(first, second)\n" * 40 + "```", "zh"),
    "an open fence": ("解释这段代码：\n```\nimport numpy as np\nprint(np.arange(10).sum())", "zh"),
    "English about code": ("Write a function that adds two numbers.\n```python\ndef add(a, b):\n    return a + b\n```", "en"),
    "Chinese with formulas": (r"求 $\int_{0}^{1} \mathrm{e}^{x} \sin x \,\mathrm{d}x + \lim_{n\rightarrow\infty} \frac{1}{n}$ 的值", "zh"),
    "Chinese with an address": ("见 https://example.org/a/very/long/path/to/some/english/page.html", "zh"),
    "a dollar price is no formula": ("This costs $5 and that costs $7, which is more than I wanted to pay today.", "en"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rule(case: str) -> None:
    text, language = CASES[case]
    labels, scores = detect([text])
    assert labels == [language]
    assert 0 <= scores[0] <= 1
    assert (scores[0] == 0) == (language == "und")


def test_only_code_is_judged_as_it_is() -> None:
    labels, _ = detect(["```python\ndef add(left, right):\n    return left + right\n```"])
    assert labels[0] not in ("und", "zh")


def test_a_long_first_line_does_not_hide_a_newline_from_fasttext() -> None:
    assert fasttext_language("Good morning\r\nto you\n")[0] == "en"


def test_everyday_words_tell_english_without_fasttext(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "fasttext_language", lambda text: ("asked", 0.5))
    texts = [
        ENGLISH,
        "The short one.",
        "Der Hund ist groß und die Katze ist klein.",
        f"{ENGLISH} " + "Straße und Gasse. " * 20,
    ]
    labels, scores = detect(texts)
    assert labels == ["en", "asked", "asked", "asked"]
    assert scores.tolist() == [1, 0.5, 0.5, 0.5]


def test_a_chinese_instruction_that_quotes_english_is_chinese_without_fasttext(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five Latin letters count as one word: counted as letters, two lines of English would outweigh any instruction."""
    monkeypatch.setattr(language, "fasttext_language", lambda text: ("asked", 0.5))
    instruction = "请把下面的句子翻译成中文，并解释其中的语法："
    labels, scores = detect([instruction + ENGLISH, instruction + f"{ENGLISH} " * 2, instruction + f"{ENGLISH} " * 9])
    assert labels == ["zh", "zh", "asked"]
    han, letters = 20, sum(c.isalpha() for c in ENGLISH)
    assert scores[:2].tolist() == pytest.approx([han / (han + n * letters / 5) for n in (1, 2)])


@given(st.lists(st.sampled_from([text for text, _ in CASES.values()]), max_size=12))
@settings(max_examples=30, deadline=None)
def test_a_row_is_judged_alike_in_any_company(texts: list[str]) -> None:
    labels, scores = detect(texts)
    assert labels == [detect([text])[0][0] for text in texts]
    assert detect(texts, TextBatch(texts))[0] == labels
    assert len(scores) == len(texts)


def reasons(settings: Language, metas: list[str | None]) -> list[str | None]:
    frame = pl.DataFrame(
        {"language": ["zh", "en", "ja", "und"], "language_score": [0.9, 0.4, 1.0, 0.0], "meta": metas},
        schema={"language": pl.String, "language_score": pl.Float32, "meta": pl.String},
    )
    return frame.select(settings.verdict().alias("why"))["why"].to_list()


NO_META: list[str | None] = [None] * 4


def test_the_verdict_names_the_language() -> None:
    assert reasons(Language(keep=["zh", "en"]), NO_META) == [None, None, "language:ja", "language:und"]


def test_the_verdict_asks_for_a_score() -> None:
    assert reasons(Language(keep=["zh", "en"], min_score=0.5), NO_META)[:2] == [None, "language:unsure"]


def test_a_column_is_cross_checked() -> None:
    metas: list[str | None] = ['{"lang":"zh-CN"}', '{"lang":"Chinese"}', '{"lang":"zh"}', None]
    given = reasons(Language(keep=["zh", "en"], column="lang"), metas)
    assert given == [None, "language:disagrees", "language:ja", "language:und"]
    assert reasons(Language(keep=["zh"], column="lang"), [None, *metas[1:]])[0] == "language:disagrees"


def test_a_column_is_trusted_alone() -> None:
    metas: list[str | None] = ['{"lang":"cmn"}', '{"lang":"ko"}', '{"lang":"ZH_tw"}', '{"other":1}']
    given = reasons(Language(keep=["zh"], column="lang", trust=True), metas)
    assert given == [None, "language:ko", None, "language:undeclared"]


@pytest.mark.shared
@pytest.mark.skipif(not LID.is_file(), reason="needs ../shared/data/lid")
def test_at_least_as_good_as_plain_fasttext_on_real_lines() -> None:
    rows = [line.split("\t") for line in LID.read_text(encoding="utf-8").splitlines()[1:]]
    rows = [row for row in rows if row[0] != "mixed-zh-en"]
    texts = [row[2] for row in rows]
    ours = list(zip(*detect(texts), strict=True))
    plain = [fasttext_language(text) for text in texts]

    def errors(found: list[tuple[str, float]], keep: str, threshold: float) -> int:
        kept = [label == keep and score >= threshold for label, score in found]
        return sum(k != (row[0] == keep) for k, row in zip(kept, rows, strict=True))

    for keep in ("zh", "en"):
        thresholds = (0.0, 0.2, 0.3, 0.5, 0.65)
        assert all(errors(ours, keep, t) <= errors(plain, keep, t) for t in thresholds)
        assert min(errors(ours, keep, t) for t in thresholds) < min(errors(plain, keep, t) for t in thresholds)
