"""Write the sample corpus: all in memory first, then every file under a temporary name, `sample.json` last."""

import csv
import io
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from steel_data.errors import InputError, excerpt
from steel_data.sample import infinity, small_sets
from steel_data.sample.chat_other import EnglishChat
from steel_data.sample.chat_zh import ChineseChat
from steel_data.sample.distinct import Distinct
from steel_data.sample.english import EnglishSets
from steel_data.sample.exam import ExamWriter, Row
from steel_data.sample.reasoning import Reasoner
from steel_data.sample.suites import Placed, Suites
from steel_data.sample.world import World, lexicon

PART = ".steel-part"
Content = tuple[bytes, int]

README = """# An invented corpus

Everything in this folder was made by `python -m steel_data sample` from a seed. **All of it is invented**: the people,
places, plants, dynasties, laws and moons do not exist, the exam questions were never set, and nothing here is a part of
Infinity-Instruct, WanJuan, CMMLU, C-Eval, Ruozhiba, OpenBookQA, ARC or LogiQA. Only the file layouts and column names
are theirs, so that recipes can be tried on a machine without those data sets. Do not publish scores on it as scores on
them.

- Training files and benchmarks speak of different things: no fact asked in `cmmlu/` or `ceval/` stands in any training
  file, but for the quotations planted on purpose (`sample.json`, `planted`).
- About a quarter of the items can be worked out; the others can only be known by having read them.
- `sample.json`: seed, scale, rows per file, and what was planted: duplicates, near duplicates, quotations of test
  questions, odd exam rows, items shared by both benchmarks.
- `sample-truth.jsonl`: what each exam row and each benchmark item is about (thing, attribute, value; for C-Eval's test
  split, whose published files have no answers, also the right letter).
"""


def write_sample(folder: Path, *, seed: int = 42, scale: float = 1.0) -> list[tuple[str, int]]:
    """Write the corpus into `folder` and return (relative file, rows), sorted by file.

    The same seed and scale give the same bytes on any machine (with one version of pyarrow). `scale` multiplies the
    number of rows. Raises InputError for a scale that is out of range and for a folder that holds files of others.
    """
    if not 0.01 <= scale <= 1.5:
        raise InputError(f"sample: scale is {scale}. Take a number from 0.01 to 1.5 (the world's names end there).")
    contents = make(seed, scale)
    _refuse_strangers(folder, set(contents))
    for name, (data, _) in contents.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART)
        part.write_bytes(data)
        part.replace(target)
    return sorted((name, rows) for name, (_, rows) in contents.items())


def _refuse_strangers(folder: Path, own: set[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file. Name a folder for the sample.")
    for path in sorted(folder.rglob("*")) if folder.exists() else []:
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name.removesuffix(PART) not in own:
            raise InputError(f"{folder}: holds {excerpt(name)}, which is not a sample's file. Name an empty folder.")


def make(seed: int, scale: float) -> dict[str, Content]:
    """Return every file of the corpus as (bytes, rows), `sample.json` last."""
    world, english_world = World(seed, "world_a", "world_b"), World(seed, "world_en")
    exam_words, reasoner = lexicon("exam"), Reasoner(lexicon("reasoning"))
    suites = Suites(seed, {name: world.pool(name) for name in ("cmmlu", "ceval", "shared")}, reasoner, exam_words)
    suites.make(scale)
    exam = ExamWriter(seed, world.pool("exam"), reasoner, exam_words)
    exam_files = exam.rows(scale)
    english_pools = {f"english-{split}": english_world.pool(f"english-{split}") for split in ("train", "test")}
    english = EnglishSets(seed, english_pools, lexicon("english"))
    tables = english.tables(scale)
    chinese_chat = ChineseChat(seed, world.pool("chat"), reasoner, lexicon("chat_zh"))
    english_chat = EnglishChat(seed, english_world.pool("chat"), english, lexicon("chat_en"))
    chat = infinity.Infinity(seed, chinese_chat, english_chat, Distinct())
    rows = chat.rows(scale, _quotable(suites))

    contents: dict[str, Content] = {"README.md": (README.encode(), 0)}
    for name, (header, cells) in suites.files().items():
        contents[name] = (_csv(header, cells), len(cells))
    for name, exam_rows in exam_files.items():
        contents[f"wanjuan/exam/{name}.jsonl"] = (_lines(exam_rows), len(exam_rows))
    for number in range(infinity.SHARDS):
        shard = rows[number * len(rows) // infinity.SHARDS : (number + 1) * len(rows) // infinity.SHARDS]
        name = f"infinity-instruct/7M/train-{number:05d}-of-{infinity.SHARDS:05d}.parquet"
        contents[name] = (_parquet(infinity.SCHEMA, shard), len(shard))
    for name, (schema, table_rows) in tables.items():
        contents[name] = (_parquet(schema, table_rows), len(table_rows))
    jokes = small_sets.ruozhiba(seed, scale, lexicon("ruozhiba"))
    contents["ruozhiba/ruozhiba_qa.json"] = (_array(jokes), len(jokes))
    pairs = small_sets.preference(seed, scale, chinese_chat, english_chat)
    contents["preference/zh_en.json"] = (_array(pairs), len(pairs))
    truth = suites.truth() + exam.truth + english.truth
    contents["sample-truth.jsonl"] = (_lines(truth), len(truth))
    contents["sample.json"] = (_summary(seed, scale, contents, suites, exam, chat), 0)
    return contents


def _quotable(suites: Suites) -> list[Placed]:
    """Test items that stand once only and are long enough to be recognised by their question."""
    twice = {place for pair in suites.repeated for place in (pair["first"], pair["again"])}
    twice |= {str(pair[b]) for pair in suites.shared for b in ("cmmlu", "ceval")}
    items = [one for one in suites.items if one.place.startswith("test/") and one.place not in twice]
    return [one for one in items if len(one.item.question) >= 20]


def _summary(
    seed: int, scale: float, contents: dict[str, Content], suites: Suites, exam: ExamWriter, chat: infinity.Infinity
) -> bytes:
    cases: dict[str, int] = {}
    for row in exam.truth:
        cases[row["case"]] = cases.get(row["case"], 0) + 1
    summary: dict[str, Any] = {
        "seed": seed,
        "scale": scale,
        "files": {name: rows for name, (_, rows) in sorted(contents.items())},
        "infinity_languages": dict(sorted(chat.languages.items())),
        "exam_cases": dict(sorted(cases.items())),
        "counts": {name: len(found) for name, found in chat.planted.items()}
        | {"shared_items": len(suites.shared), "repeated_questions": len(suites.repeated)},
        "planted": chat.planted,
        "shared_items": suites.shared,
        "repeated_questions": suites.repeated,
    }
    return orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n"


def _csv(header: list[str], rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def _lines(rows: list[Row]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _array(rows: list[Row]) -> bytes:
    return orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n"


def _parquet(schema: pa.Schema, rows: list[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue())
