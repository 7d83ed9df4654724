"""The language of a row: script statistics where they decide, fastText's lid.176 for the rest.

Only what user and assistant say themselves is looked at: system turns, tools, calls and their results have no vote. The
rules, in this order (letters = Han, kana, Hangul, Latin and other scripts; digits, signs and blanks are none):

1. Code in fences and back ticks, LaTeX between dollar signs or in `\\(` and `\\[`, and addresses (http…) are set aside,
   unless nothing else is there; where there are several scripts, also quotations and faces such as (´・ω・`).
2. No letters: `und` (fastText would say `en` at 0.12 for empty text, and for emoji).
3. Kana are 15 % or more of Han + kana: `ja`. Below that, and above 2 %, fastText decides between `ja` and `zh`. Kanji
   alone cannot be told from Chinese: `zh`.
4. More Hangul than Han (a Latin word counted as five letters): `ko`.
5. Han are 30 % or more of the words (a Han character is a word, five Latin letters are one): `zh`; so a Chinese
   instruction that quotes an English sentence is `zh`. Characters that only written Cantonese uses are 2 % of the Han
   ones, and two or more (or 3 %): `yue`. fastText gives .40 on two-character Chinese words and .14 on single ones:
   rules 4 and 5 need no length.
6. Latin letters are 95 % or more of the words; of the first 300 characters' words, eight or more, a fifth are everyday
   English ones, and two different ones of these no other language has (the, which, would, …): `en`. Of 2,700 lines in
   75 other languages none passes; of 13,600 English rows that do fastText calls two something else, wrongly.
7. Everything else goes to fastText: its first label, on the first 300 characters (NFKC), with its probability.

`language_score` is the script's share of the letters for rules 3-6, fastText's probability for rule 7.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.errors import InputError, first_line
from steel_data.row.nfkc import nfkc
from steel_data.row.record import check_language
from steel_data.row.text import HAN, HANGUL, KANA, LATIN, LETTER, U64, TextBatch, distinct

SEEN = 300  # characters of a text that fastText is shown: its cost is in proportion
MODEL = Path(__file__).parent.parent / "resources" / "lid.176.ftz"
VERSION = "language-4"  # part of the cache's key: raise it when a rule changes
_ASIDE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]{1,200}`|\$\$.*?\$\$|\$[^$\n]{1,200}\$|\\\(.{1,400}?\\\)|\\\[.{1,2000}?\\\]|https?://\S+",
    re.DOTALL,
)
_QUOTED = re.compile(
    r"“[^“”]{1,400}”|「[^「」]{1,400}」|『[^『』]{1,400}』|《[^《》]{1,200}》|\"[^\"\n]{1,400}\"|‘[^‘’]{1,400}’|(?<!\w)'[^'\n]{1,400}'(?!\w)"
)
# A face: up to twenty signs in brackets that are no Han or Latin words, with what stands beside it for arms.
_FACE = re.compile(
    r"[ヽヾノﾉ٩ლ╰╭づっᕕᕙʕoO＼\\]?[(（ʕ][^()（）\n\u4e00-\u9fffA-Za-z]{0,8}?[ω◡▽ᴗ﹏ﾟ゜°□дДдД∀◕≧≦∇ᴥ╯￣ಠಥ✿•◠‿´｀`＾・。;′]"
    r"[^()（）\n\u4e00-\u9fffA-Za-z]{0,12}[)）ʔ][ヽヾノﾉ۶ლ╯づっᕗ︵┻━彡／/☆]{0,6}"
)
# Characters of written Cantonese that standard Chinese hardly uses (not 喇, which is in 喇嘛; not 咩, which sheep say).
_CANTONESE = re.compile("[嘅咗喺啲嚟冇哋嗰噉㗎嘢瞓攞搵佢唔咁畀睇諗]")

_LATIN, _WORDS, _ENGLISH, _ONLY_ENGLISH = 0.95, 8, 0.2, 2  # rule 6
_BITS = np.uint64(0xFFFF)
_ONLY = (
    "the and that with this from have has which their they would could should what when where how you your were been "
    "being its these those there because about into through between after before while who than then them some other "
    "more most such only also each both our"
)
_EVERYDAY = (
    "of to is in a an i it for on as be by or not we he she my do does did can will was are if so but no all any new "
    "one two first make use used using write create find given following"
)


@dataclass(frozen=True, kw_only=True)
class Language:
    """Keep rows whose language is one of `keep`.

    keep: languages as ISO codes: zh, en, ja, ko, yue, …
    min_score: keep only rows at least this sure (0 to 1). Default 0.
    column: a raw column (named in the source's `meta`) that says the language too.
    trust: with `column`: true takes its word alone, false (default) drops rows where the two disagree.
    """

    keep: list[str]
    min_score: float = 0.0
    column: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        """Refuse a code that no row can have: nothing would be kept."""
        for code in self.keep:
            check_language(code)
        if not self.keep:
            raise InputError('keep is empty: nothing would be kept. Fix: keep = ["zh"].')

    def verdict(self) -> pl.Expr:
        """Return the reason of the drop (a string), or null: `language:ja`, `language:unsure`, `language:disagrees`."""
        kept = pl.col("language").is_in(self.keep)
        reason = (
            pl.when(~kept)
            .then(pl.lit("language:") + pl.col("language"))
            .when(pl.col("language_score") < self.min_score)
            .then(pl.lit("language:unsure"))
        )
        if self.column is None:
            return reason
        declared = _declared(self.column)
        if self.trust:
            missing = pl.when(declared.is_null()).then(pl.lit("language:undeclared"))
            return missing.when(~declared.is_in(self.keep)).then(pl.lit("language:") + declared)
        return reason.when(declared.is_null() | (declared != pl.col("language"))).then(pl.lit("language:disagrees"))


def _declared(column: str) -> pl.Expr:
    """Return the language that a metadata column names, as this module writes it (`zh-cn` is `zh`)."""
    value = pl.col("meta").str.json_path_match(f"$['{column}']").str.to_lowercase()
    return value.str.replace(r"[-_].*$", "").replace({"cmn": "zh", "chinese": "zh", "english": "en", "eng": "en"})


def detect(texts: list[str], batch: TextBatch | None = None) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return the language and its score of each text, by the rules above. `batch`: the texts', where there is one."""
    han, kana, hangul, latin, letter = _letters(texts, batch or TextBatch(texts))
    cjk = han + kana
    words = han + kana + hangul + latin / 5 + letter / 5
    total = np.maximum(words, 1e-9)
    kana_share = kana / np.maximum(cjk, 1)
    labels = np.full(len(texts), "", dtype=object)
    scores = np.zeros(len(texts), np.float32)

    def decide(where: npt.NDArray[np.bool_], label: str, share: npt.NDArray[np.float64]) -> None:
        where = where & (labels == "")
        labels[where] = label
        scores[where] = np.minimum(share[where], 1.0)

    decide(words == 0, "und", words * 0)
    decide((kana_share >= 0.15) & (cjk / total >= 0.3), "ja", cjk / total)
    doubtful = (kana_share > 0.02) & (cjk / total >= 0.3) & (labels == "")
    decide((hangul > han) & (hangul / total >= 0.3), "ko", hangul / total)
    chinese = (han / total >= 0.3) & ~doubtful & (labels == "")
    for row in np.flatnonzero(chinese).tolist():
        found = len(_CANTONESE.findall(texts[row]))
        if found and (found >= 2 or found >= 0.03 * han[row]) and found >= 0.02 * han[row]:
            labels[row], scores[row] = "yue", han[row] / total[row]
    decide(chinese, "zh", han / total)
    latin_share = latin / 5 / total
    decide(_english(texts, (labels == "") & (latin_share >= _LATIN)), "en", latin_share)
    for row in np.flatnonzero(labels == "").tolist():
        labels[row], scores[row] = fasttext_language(_plain_width(texts[row][:SEEN]))
        if doubtful[row] and labels[row] not in ("ja", "zh"):
            labels[row] = "ja" if kana[row] > han[row] else "zh"
    return labels.tolist(), scores


def _english(texts: list[str], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which of the rows `where` the words tell to be English (rule 6)."""
    told = np.zeros(len(texts), bool)
    rows = np.flatnonzero(where)
    if not len(rows):
        return told
    hash_T, offset_R = TextBatch([_plain_width(texts[row][:SEEN]) for row in rows.tolist()]).tokens
    words_R = np.diff(offset_R)
    row_T = np.repeat(np.arange(len(rows)), words_R)
    hash_W, only_W, bitmap = _english_words()
    at = np.flatnonzero(bitmap[hash_T & _BITS])
    word = np.minimum(np.searchsorted(hash_W, hash_T[at]), len(hash_W) - 1)
    known = hash_W[word] == hash_T[at]
    row, word = row_T[at[known]], word[known]
    english_R = np.bincount(row, minlength=len(rows))
    only = only_W[word]
    different_R = np.bincount(distinct(row[only] * len(hash_W) + word[only]) // len(hash_W), minlength=len(rows))
    told[rows] = (words_R >= _WORDS) & (english_R >= _ENGLISH * words_R) & (different_R >= _ONLY_ENGLISH)
    return told


@cache
def _english_words() -> tuple[U64, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the sorted hashes of the English words (W), which of them no other language has, and a bitmap of them."""
    only, every = (TextBatch([words]).tokens[0] for words in (_ONLY, f"{_ONLY} {_EVERYDAY}"))
    hash_W = distinct(every)
    bitmap = np.zeros(int(_BITS) + 1, bool)
    bitmap[hash_W & _BITS] = True
    return hash_W, np.isin(hash_W, only), bitmap


def _letters(texts: list[str], batch: TextBatch) -> list[npt.NDArray[np.float64]]:
    """Return how many Han, kana, Hangul, Latin and other letters each text has, what rule 1 sets aside left out."""
    kinds = (HAN, KANA, HANGUL, LATIN, LETTER)
    counts = [batch.counts(kind).astype(np.float64) for kind in kinds]
    rest = {i: _set_aside(t, _ASIDE) for i, t in enumerate(texts) if "```" in t or "$" in t or "http" in t or "\\" in t}
    han, kana, hangul, latin, letter = counts
    # quotations and faces are looked for where more than one script is there: elsewhere they decide nothing
    several = (kana > 0) | (hangul > 0) | (letter > 0) | (np.minimum(han, latin / 5) > 0.05 * (han + latin / 5))
    for i in np.flatnonzero(several).tolist():
        text = rest.get(i, texts[i])
        shorter = _set_aside(_set_aside(text, _FACE), _QUOTED)
        if shorter != text:
            rest[i] = shorter
    other, at = TextBatch(list(rest.values())), list(rest)
    for count, kind in zip(counts, kinds, strict=True):
        count[at] = other.counts(kind)
    return counts


def _set_aside(text: str, what: re.Pattern[str]) -> str:
    rest = what.sub(" ", text)
    return rest if any(c.isalpha() for c in rest) else text


def _plain_width(text: str) -> str:
    """Return the text as fastText knows its script: full-width Latin letters it takes for Kannada."""
    return text if text.isascii() else nfkc(text)


@cache
def _model() -> Any:
    try:
        import fasttext
    except ImportError as error:  # missing, or made for a newer system
        raise InputError(
            f"languages need fastText, which cannot be imported: {first_line(error)}. Fix: pip install "
            "fasttext-community, or, on Linux with a glibc before 2.27, fasttext-predict: it gives the same labels."
        ) from None
    return fasttext.load_model(str(MODEL))


def fasttext_language(text: str) -> tuple[str, float]:
    """Return plain fastText's label and probability for the first 300 characters (a newline would raise)."""
    labels, scores = _model().predict(text[:SEEN].replace("\n", " ").replace("\r", " "))
    return labels[0].removeprefix("__label__"), min(float(scores[0]), 1.0)
