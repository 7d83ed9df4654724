"""Infinity-Instruct: conversations in several languages, planted duplicates, quotations of test questions.

Layout: `infinity-instruct/7M/train-….parquet` with the columns of BAAI/Infinity-Instruct's 7M on the Hugging Face hub.
Rows that were not planted as duplicates are kept unlike, or the corpus's own sameness would be mistaken for them.
"""

from itertools import pairwise

import numpy as np
import xxhash
from numpy.typing import NDArray

from steel_data.row.text import distinct
from steel_data.sample.chat import ChineseChat, EnglishChat, Turns, code
from steel_data.sample.draw import Draws, Row, scaled, texts, words
from steel_data.sample.suites import Placed

PLANNED, SHARDS = 8000, 4
PLANTED = {"exact": 160, "near": 160, "quoted": 60, "quoted_edited": 60}
_FILLERS, _LETTERS = "的了是在有和也就都而，。、", "aeinorst,"


class Unlike:
    """Remembers texts and refuses one that resembles an earlier one.

    MinHash over character 5-grams with 12 bands of 4 finds the candidates, the true Jaccard similarity decides. It is
    not that of filters/dedup.py, whose other bands would find other candidates: the corpus would change with them.
    """

    LIMIT = 0.55  # well under the 0.8 of the usual near-duplicate filter

    def __init__(self) -> None:
        self._factors = (np.arange(1, 49, dtype=np.uint64) * np.uint64(0xBF58476D1CE4E5B9)) | np.uint64(1)
        self._powers = np.uint64(0x100000001B3) ** np.arange(4, -1, -1, dtype=np.uint64)
        self._bands: dict[tuple[int, bytes], list[NDArray[np.uint64]]] = {}

    def add(self, text: str) -> bool:
        """Remember the text and return True, or return False if it is like one that is remembered."""
        code_C = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
        runs = len(code_C) - 4
        hash_G = sum((code_C[i : i + runs] * power for i, power in enumerate(self._powers)), np.zeros(runs, np.uint64))
        hash_G = (hash_G ^ (hash_G >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
        hash_G = distinct(hash_G ^ (hash_G >> np.uint64(29)))
        low = ((hash_G * self._factors[:, None]) >> np.uint64(17)).min(axis=1).reshape(12, 4)
        buckets = [self._bands.setdefault((band, row.tobytes()), []) for band, row in enumerate(low)]
        for other in {id(one): one for bucket in buckets for one in bucket}.values():
            common = len(np.intersect1d(hash_G, other, assume_unique=True))
            if common / (len(hash_G) + len(other) - common) >= self.LIMIT:
                return False
        for bucket in buckets:
            bucket.append(hash_G)
        return True


def edited(draw: Draws, text: str, percent: float) -> str:
    """Return the text with this share of its characters (at least one) changed, dropped or doubled."""
    letters = list(text)
    for at in sorted(draw.sample(range(len(letters)), max(1, int(len(letters) * percent / 100))), reverse=True):
        change = draw.below(3)
        if change == 0:
            fillers = _LETTERS if letters[at].isascii() else _FILLERS
            letters[at] = draw.pick([c for c in fillers if c != letters[at]])
        elif change == 1:
            letters[at] *= 2
        elif len(letters) > 1 and not letters[at].isspace():
            del letters[at]
    return "".join(letters)


class Infinity:
    """The `rows`, in random order. `planted` tells what was planted, by row id; `languages` counts the rest."""

    def __init__(
        self, seed: int, chinese: ChineseChat, english: EnglishChat, quotable: list[Placed], scale: float
    ) -> None:
        draw = self._draw = Draws(seed, "infinity", words=words("infinity"))
        self._chinese, self._english = chinese, english
        self._made, self._unlike = 0, Unlike()
        self.planted: dict[str, list[dict[str, str]]] = {name: [] for name in PLANTED}
        self.languages: dict[str, int] = {}
        counts = {name: scaled(count, scale, 2) for name, count in PLANTED.items()}
        own = scaled(PLANNED, scale, 100) - sum(counts.values())
        rows: list[Row] = []
        for language, spec in texts("infinity")["language"].items():
            rows += self._conversations(language, spec["kinds"], scaled(own, spec["percent"] / 100))
        long = [row for row in rows if sum(len(turn["value"]) for turn in row["conversations"]) >= 120]
        for number, row in enumerate(draw.sample(long, counts["exact"] + counts["near"])):
            kind = "exact" if number < counts["exact"] else "near"
            again = {**(row if kind == "exact" else self._near(row)), "id": self._id()}
            self.planted[kind].append({"id": again["id"], "of": row["id"]})
            rows.append(again)
        quoted = draw.sample(quotable, counts["quoted"] + counts["quoted_edited"])
        rows += [self._quotation(one, number >= counts["quoted"]) for number, one in enumerate(quoted)]
        self.rows = draw.shuffled(rows)

    def files(self) -> dict[str, list[Row]]:
        """Return file -> rows."""
        name = "infinity-instruct/7M/train-{:05d}-of-{:05d}.parquet"
        ends = [shard * len(self.rows) // SHARDS for shard in range(SHARDS + 1)]
        return {name.format(i, SHARDS): self.rows[first:end] for i, (first, end) in enumerate(pairwise(ends))}

    def _id(self) -> str:
        self._made += 1
        return xxhash.xxh3_128_hexdigest(f"infinity{self._made}".encode())

    def _row(self, turns: Turns, kind: str, language: str) -> Row:
        spec = texts("infinity")
        self.languages[language] = self.languages.get(language, 0) + 1
        return {
            "id": self._id(),
            "conversations": [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)],
            "label": spec["ability"][kind],
            "langdetect": self._draw.weighted(spec["language"][language]["langdetect"]),
            "source": self._draw.say("{source}"),
        }

    def _conversations(self, language: str, kinds: dict[str, int], count: int) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < count:
            kind = self._draw.weighted(kinds)
            for _ in range(20):
                turns = self._turns(language, kind)
                if self._unlike.add("\n".join(turns)):
                    rows.append(self._row(turns, kind, language))
                    break
        return rows

    def _turns(self, language: str, kind: str) -> Turns:
        if kind == "code":
            return code(self._draw, "zh" if language == "zh" else "en")
        if kind == "other":
            return self._english.other(language)
        turns: Turns = getattr(self._chinese if language == "zh" else self._english, kind)()
        return turns

    def _near(self, row: Row) -> Row:
        """Return the row with 0.5 to 1.8 % of its characters edited (5-gram Jaccard then stays above 0.8)."""
        turns = [turn["value"] for turn in row["conversations"]]
        longest = max(turns, key=len)
        share = self._draw.between(5, 18) / 10 * sum(map(len, turns)) / len(longest)
        new = longest
        while new == longest:
            new = edited(self._draw, longest, share)
        turns[turns.index(longest)] = new
        talk = [{"from": turn["from"], "value": text} for turn, text in zip(row["conversations"], turns, strict=True)]
        return {**row, "conversations": talk}

    def _quotation(self, one: Placed, edit: bool) -> Row:
        draw, item, question, label = self._draw, one.item, one.item.question, "{x}. {o}"
        if edit:
            question, label = edited(draw, question, 2.0), draw.pick(draw.words["label"])
            if draw.chance(50):
                question = question.translate(str.maketrans("，：（）", ",:()"))
        shown = "\n".join(label.format(x=x, o=o) for x, o in zip("ABCD", item.options, strict=True))
        asked = f"{draw.say('{lead}')}{question}\n{shown}"
        row = self._row([asked, draw.say("{answer}", x=item.letter, why=item.explain())], "quiz", "zh")
        self.planted["quoted_edited" if edit else "quoted"].append(
            {"id": row["id"], "benchmark": one.benchmark, "item": one.place}
        )
        return row
