"""The items of benchmarks as token n-grams, and the way back from an n-gram to items; the index on disk.

An item has *parts*: its passage (mostly empty), what it asks, and its options. A part is its token 3-grams, of words
the pairs; one of fewer tokens is its whole run, hashed as a 1- or 2-gram; one of signs only (→, ∅) has none. Option
labels (`A.`) are no tokens, and no n-gram goes over one: what lies between two labels is a *piece*.

N-grams of the question lead to the item, where few items have them; those of the options, where the question has none
of its own, or is short, so that an edit leaves it none.

Items that ask about one passage are a *family*. Its passage is looked for once, by a sample of its n-grams; where it
is, what an item asks leads to the item, or what it offers. An item that asks what many ask (*the main idea of the
passage is*) is *vague*: its passage leads to it. So a row with a passage is compared with the items it may hold, not
with all.

Legend of array suffixes: _I one entry an item, _P one a part, _F one a family, _G one an n-gram of a part, _K one a
distinct n-gram, _L one a lead (2 i: the question of item i, 2 i + 1: its options, behind these the families' passages),
_T one a token, _U one a unit (a turn of a row).

An index is kept in the cache, so that it is built once for all workers and all builds on the same benchmarks.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from steel_data.benchmarks.items import Item, benchmark_files, benchmark_name, published_part, read_items
from steel_data.files import kept
from steel_data.row.alignment import alike
from steel_data.row.text import BORDER, HANGUL, I64, LETTER, SPACE, U64, TextBatch, distinct, grams

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]

GRAM = 3
SHORT = 8  # tokens; a question below this is looked for by its options too
COMMON = 48  # an n-gram in more items than this makes no candidates
TURN = "\x1e"  # between the turns of a row (the text view has a line break there); a blank to the normaliser
PASSAGE = 200  # characters
_OWN = 3  # n-grams of what an item asks, below which it is vague; of a passage, below which it is none
_SAMPLE = 24  # n-grams of a passage, about
_BITS = 22
_AFTER_LABEL = np.array([ord(c) for c in ".、:)"], np.uint32)  # as the normaliser writes them


@dataclass(frozen=True)
class Index:
    """All items, and the rare n-grams that lead to them."""

    names: list[str]  # `cmmlu/test/agronomy/00012`
    questions: list[str]
    options: list[tuple[str, ...]]
    length_I: I64  # tokens of the question
    passage_I: I64  # characters of the question's passage, 0 where it has none
    shared_I: Bool  # the question has no n-gram of its own: too many items ask so (下列说法正确的是)
    family_I: I64  # -1 for most
    start_F: I64
    vague_F: I64  # vague items of family f: vague_F[start_F[f] : start_F[f + 1]]
    key_K: U64  # the n-grams that lead to items, sorted
    weight_K: F64  # their rarity
    start_K: I64
    holder_K: I64  # leads of key k: holder_K[start_K[k] : start_K[k + 1]]
    rare_L: F64  # summed weight of the keys of the lead
    key_sizes: tuple[int, ...]  # which n the keys have
    bitmaps: Bool  # (GRAM, 2 ** 22): of which n-grams the last bits are a key's

    @property
    def texts(self) -> list[str]:
        """Question and options of each item, the evidence."""
        return ["\n".join([q, *o]) for q, o in zip(self.questions, self.options, strict=True)]

    @property
    def unmatchable(self) -> int:
        """How many items have a question without any token and can never be found."""
        return int((self.length_I == 0).sum())

    def find(self, hash_G: U64, n: int) -> tuple[I64, I64]:
        """Return which of some n-grams lead to items: their positions in `hash_G`, and the keys' places.

        A bitmap of 4 million bits for each n turns away nearly all of them before the binary search.
        """
        if not len(self.key_K) or not len(hash_G):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        maybe = np.flatnonzero(self.bitmaps[n - 1][hash_G & np.uint64((1 << _BITS) - 1)])
        place = np.minimum(np.searchsorted(self.key_K, hash_G[maybe]), len(self.key_K) - 1)
        same = self.key_K[place] == hash_G[maybe]
        return maybe[same], place[same]


def overlap_files(benchmarks: list[str], data_root: Path) -> list[Path]:
    """Return the files that the index is made of (they are inputs of the build)."""
    return sorted({file for name in benchmarks for _, file in scored_files(name, data_root)})


def scored_files(name: str, data_root: Path) -> list[tuple[str, Path]]:
    """Return (split, file) of what models are scored on: that is what must not stand in the data."""
    files = benchmark_files(name, data_root)
    scored = [(split, file) for split, file in files if split in ("val", "test")]
    return scored or files  # a benchmark with neither is a file, or one of dev/train only: then all of it counts


@lru_cache(maxsize=4)
def build_index(benchmarks: tuple[str, ...], data_root: Path) -> Index:
    """Read the benchmarks and index their items (once a process)."""
    names: list[str] = []
    items: list[Item] = []
    for benchmark in benchmarks:
        some = read_items(scored_files(benchmark, data_root))
        published_part(benchmark, some)
        name = benchmark_name(benchmark)
        names += [f"{name}/{item.item}" for item in some]
        items += some
    return index_of(names, items)


def index_of(names: list[str], items: list[Item]) -> Index:
    """Index items under the given names."""
    passage_I, family_I = passages([item.question for item in items])
    texts = [
        text
        for item, at in zip(items, passage_I.tolist(), strict=True)
        for text in (item.question[:at], item.question[at:], *item.options)
    ]
    part_I = np.cumsum([0, *(2 + len(item.options) for item in items)], dtype=np.int64)
    item_P = np.repeat(np.arange(len(items)), np.diff(part_I))
    length_P, size_G, hash_G, part_G = _parts(texts)
    key, inverse_G = np.unique(hash_G, return_inverse=True)
    item_G, families = item_P[part_G], int(family_I.max(initial=-1)) + 1
    many = max(2 * len(items) + families, 1)
    passage_G, asks_G = part_G == part_I[item_G], part_G == part_I[item_G] + 1
    option_G, together_G = ~passage_G & ~asks_G, family_I[item_G] >= 0
    source_G = np.where(passage_G & together_G, len(items) + family_I[item_G], item_G)
    held_by = np.bincount(distinct(inverse_G * many + source_G) // many, minlength=len(key))
    rare_G = held_by[inverse_G] <= COMMON
    step_G = np.maximum(length_P[part_G] // _SAMPLE, 1).astype(np.uint64)
    sample_G = passage_G & together_G & rare_G & (hash_G % step_G == 0)
    sampled_I = np.bincount(item_G[sample_G], minlength=len(items))
    family_I = np.where(sampled_I >= _OWN, family_I, -1)
    together_G = family_I[item_G] >= 0
    length_I = length_P[part_I[:-1]] + length_P[part_I[:-1] + 1]
    told_I = (family_I >= 0) & (np.bincount(item_G, weights=asks_G & rare_G, minlength=len(items)) >= _OWN)
    shared_I = np.bincount(item_G, weights=~option_G & rare_G, minlength=len(items)) == 0
    offers_G = shared_I[item_G] | ((told_I | (length_I < SHORT))[item_G] & (size_G == GRAM))
    leads_G = rare_G & (~option_G | offers_G) & (~together_G | told_I[item_G])
    lead_G = 2 * item_G + (option_G & told_I[item_G])
    of_G = passage_G & together_G
    leads_G = np.where(of_G, sample_G, leads_G)
    lead_G = np.where(of_G, 2 * len(items) + family_I[item_G], lead_G)
    lead = distinct(inverse_G[leads_G] * many + lead_G[leads_G])
    vague = np.flatnonzero((family_I >= 0) & ~told_I)
    vague = vague[np.argsort(family_I[vague], kind="stable")]
    place, holder = lead // many, lead % many
    used = distinct(place)
    weight = np.log((len(items) + 1) / np.maximum(held_by, 1)) + 1e-3
    bitmaps = np.zeros((GRAM, 1 << _BITS), bool)
    bitmaps[size_G[leads_G] - 1, hash_G[leads_G] & np.uint64((1 << _BITS) - 1)] = True
    return Index(
        names=names,
        questions=[item.question for item in items],
        options=[item.options for item in items],
        length_I=length_I,
        passage_I=passage_I,
        family_I=family_I,
        start_F=np.searchsorted(family_I[vague], np.arange(families + 1)),
        vague_F=vague,
        shared_I=shared_I,
        key_K=key[used],
        weight_K=weight[used],
        start_K=np.searchsorted(place, np.append(used, len(key))),
        holder_K=holder,
        rare_L=np.bincount(holder, weights=weight[place], minlength=2 * len(items) + families).astype(np.float64),
        key_sizes=tuple(np.unique(size_G[leads_G]).tolist()),
        bitmaps=bitmaps,
    )


def passages(questions: list[str]) -> tuple[I64, I64]:
    """Return how many characters of each question are a passage, which stands before what is asked, and its family.

    It is what several questions begin with, if that is half of each, or else all lines but the last; PASSAGE characters
    or more. A question with a passage of its own has no family (-1).
    """
    at_I, family_I = np.zeros(len(questions), np.int64), np.full(len(questions), -1)
    long = sorted((question, i) for i, question in enumerate(questions) if len(question) > PASSAGE)
    alike_so_far: list[int] = []
    for (one, i), (two, _) in pairwise([*long, ("", -1)]):
        alike_so_far.append(i)
        if 2 * alike(one, two) >= max(len(one), PASSAGE):
            continue
        common = alike(questions[alike_so_far[0]], one)
        together = PASSAGE <= common < min(len(questions[k]) for k in alike_so_far)
        family = int(family_I.max()) + 1
        for k in alike_so_far:
            at = common if together else questions[k].rstrip().rfind("\n") + 1
            if at >= PASSAGE:
                at_I[k], family_I[k] = at, family if together else -1
        alike_so_far = []
    return at_I, family_I


def _parts(texts: list[str]) -> tuple[I64, I64, U64, I64]:
    """Return each part's tokens; and the n of all parts' n-grams, their hashes, and their parts."""
    batch = TextBatch(texts)
    tokens = unit_tokens(batch, batch.end_R)
    length_P = np.bincount(tokens.unit_T, minlength=len(texts))
    hash_G, part_G = unit_grams(tokens, GRAM)
    hashes, parts, sizes = [hash_G], [part_G], [np.full(len(hash_G), GRAM)]
    bare_P = np.bincount(part_G, minlength=len(texts)) == 0
    for n in range(1, GRAM):
        hash_G, part_G = unit_grams(tokens, n)
        mine = bare_P[part_G] & (np.minimum(length_P, GRAM - 1)[part_G] == n)
        hashes.append(hash_G[mine])
        parts.append(part_G[mine])
        sizes.append(np.full(int(mine.sum()), n))
    return length_P, np.concatenate(sizes), np.concatenate(hashes), np.concatenate(parts)


def units(batch: TextBatch) -> tuple[I64, I64]:
    """Return where each unit (turn) of a batch ends in `code_C`, and its row."""
    end_U = np.flatnonzero((batch.code_C == 0) | (batch.code_C == ord(TURN)))
    return end_U, np.searchsorted(batch.end_R, end_U)


@dataclass(frozen=True)
class Tokens:
    """A batch's tokens without option labels."""

    hash_T: U64
    unit_T: I64
    piece_T: I64  # numbered through the batch: a unit begins one, and so does a label
    word_T: Bool  # a word of letters, not a character or a number


def unit_grams(tokens: Tokens, n: int) -> tuple[U64, I64]:
    """Return the hashes of all n-grams of the pieces, and the unit of each.

    With n = GRAM two words one after the other are an n-gram, since a word says more than a character, and an edit in
    one of three words is likelier than in one of three characters.
    """
    hash_T, piece_T = tokens.hash_T, tokens.piece_T
    if n < GRAM:
        hash_G, at_G = grams(hash_T, piece_T, n, places=True)
        return hash_G, tokens.unit_T[at_G]
    pair = np.flatnonzero(tokens.word_T[1:] & tokens.word_T[:-1] & (piece_T[1:] == piece_T[:-1]))
    hash_G, at_G = grams(hash_T, piece_T, n, places=True)
    if not len(pair):
        return hash_G, tokens.unit_T[at_G]
    other = ~(tokens.word_T[at_G] & tokens.word_T[at_G + 1])
    words = grams(hash_T, piece_T, 2, places=True)
    words_G = words[0][np.searchsorted(words[1], pair)]
    return np.concatenate([hash_G[other], words_G]), tokens.unit_T[np.concatenate([at_G[other], pair])]


def unit_tokens(batch: TextBatch, end_U: I64) -> Tokens:
    """Return a batch's tokens without option labels (A. B、 (C)).

    A label would else stand for an option of one letter, and the same options under other labels would differ.
    """
    hash_T, _ = batch.tokens
    place_T = batch.token_places
    code_C, class_C = batch.code_C, batch.class_C
    letter_T = (code_C[place_T] >= ord("a")) & (code_C[place_T] <= ord("j"))
    at = np.flatnonzero(letter_T)
    place = place_T[at]
    before, after = class_C[place - 1], code_C[np.minimum(place + 1, len(code_C) - 1)]
    free = (place == 0) | (before == SPACE) | (before == BORDER) | (code_C[place - 1] == ord("("))
    blank = class_C[np.minimum(place + 1, len(code_C) - 1)] == SPACE
    after = np.where(blank, code_C[np.minimum(place + 2, len(code_C) - 1)], after)
    kept_T = np.ones(len(hash_T), bool)
    kept_T[at[free & np.isin(after, _AFTER_LABEL)]] = False
    label_T = np.cumsum(~kept_T)[kept_T]
    place_T = place_T[kept_T]
    start_U = np.searchsorted(place_T, np.concatenate([[0], end_U]))
    unit_T = np.repeat(np.arange(len(end_U)), np.diff(start_U))
    word_T = (class_C[place_T] >= LETTER) & (class_C[place_T] <= HANGUL)
    return Tokens(hash_T[kept_T], unit_T, unit_T + label_T, word_T)


def spans(start: I64, stop: I64) -> tuple[I64, I64]:
    """Return all integers of the half-open ranges one after another, and the range of each."""
    size = stop - start
    owner = np.repeat(np.arange(len(size)), size)
    return np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size) + start[owner], owner


_LISTS = ("names", "questions", "options", "key_sizes")  # kept as JSON, all else as arrays


@lru_cache(maxsize=4)
def stored_index(place: Path, benchmarks: tuple[str, ...], data_root: Path) -> Index:
    """Return the index of some benchmarks: from the file `place` where it is there, else built and written to it.

    `place` must be an address of the benchmarks' contents and of the code that reads them (`passes.cache.key_of`).
    """
    # not build_index's own memory, which goes by the folder alone: its files may have changed since
    return kept(place, lambda: build_index.__wrapped__(benchmarks, data_root), _write, _read)


def _write(place: Path, index: Index) -> None:
    lists = {name: getattr(index, name) for name in _LISTS}
    arrays = {f.name: getattr(index, f.name) for f in fields(index) if f.name not in _LISTS}
    arrays["bitmaps"] = np.packbits(index.bitmaps, axis=1)
    text = np.frombuffer(orjson.dumps(lists), np.uint8)
    with place.open("wb") as stream:
        np.savez(stream, lists=text, **arrays)


def _read(place: Path) -> Index:
    with place.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        values = {name: stored[name] for name in stored.files}
    lists = orjson.loads(values.pop("lists").tobytes())
    lists |= {"options": [tuple(o) for o in lists["options"]], "key_sizes": tuple(lists["key_sizes"])}
    values["bitmaps"] = np.unpackbits(values["bitmaps"], axis=1).astype(bool)
    return Index(**values, **lists)
