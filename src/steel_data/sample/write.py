"""Write the sample corpus: all in memory first, then every file under a temporary name, `sample.json` last."""

import csv
import io
from importlib.resources import files
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from steel_data.errors import InputError, excerpt
from steel_data.sample.chat import ChineseChat, EnglishChat
from steel_data.sample.draw import Row
from steel_data.sample.english import EnglishSets, Sums
from steel_data.sample.exam import Exam
from steel_data.sample.infinity import Infinity
from steel_data.sample.reasoning import Reasoner
from steel_data.sample.small_sets import preference, ruozhiba
from steel_data.sample.suites import Suites
from steel_data.sample.world import World

PART = ".steel-part"


def write_sample(folder: Path, *, seed: int = 42, scale: float = 1.0) -> list[tuple[str, int]]:
    """Write the corpus into `folder` and return (relative file, rows), sorted by file.

    The same seed and scale give the same bytes on any machine (with one version of pyarrow). `scale` multiplies the
    number of rows. Raises InputError for a scale that is out of range and for a folder that holds files of others.
    """
    if not 0.01 <= scale <= 1.5:
        raise InputError(f"sample: scale is {scale}. Fix: a number from 0.01 to 1.5 (the world's names end there).")
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
        raise InputError(f"{folder}: is a file. Fix: a folder for the sample.")
    for path in sorted(folder.rglob("*")) if folder.exists() else []:
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name.removesuffix(PART) not in own:
            raise InputError(f"{folder}: holds {excerpt(name)}, which is not a sample's file. Fix: an empty folder.")


def make(seed: int, scale: float) -> dict[str, tuple[bytes, int]]:
    """Return every file of the corpus as (bytes, rows), `sample.json` last."""
    world, english_world = World(seed, "world_a", "world_b"), World(seed, "world_en")
    reasoner, sums = Reasoner(), Sums()
    suites = Suites(seed, world, reasoner, scale)
    exam = Exam(seed, world, reasoner, scale)
    english = EnglishSets(seed, english_world, sums, scale)
    chinese_chat, english_chat = ChineseChat(seed, world, reasoner), EnglishChat(seed, english_world, sums)
    infinity = Infinity(seed, chinese_chat, english_chat, suites.quotable(), scale)
    rows = suites.files() | exam.files | infinity.files() | english.files
    rows["ruozhiba/ruozhiba_qa.json"] = ruozhiba(seed, scale)
    rows["preference/zh_en.json"] = preference(seed, scale, chinese_chat, english_chat)
    rows["sample-truth.jsonl"] = suites.truth() + exam.truth + english.truth

    readme = (files("steel_data.sample") / "texts" / "sample_readme.md").read_bytes()
    contents = {"README.md": (readme, 0)} | {name: (_encoded(name, table), len(table)) for name, table in rows.items()}
    counts = {name: len(found) for name, found in infinity.planted.items()}
    summary = {
        "seed": seed,
        "scale": scale,
        "files": {name: count for name, (_, count) in sorted(contents.items())},
        "infinity_languages": dict(sorted(infinity.languages.items())),
        "exam_cases": dict(sorted(exam.cases.items())),
        "counts": counts | {"shared_items": len(suites.shared), "repeated_questions": len(suites.repeated)},
        "planted": infinity.planted,
        "shared_items": suites.shared,
        "repeated_questions": suites.repeated,
    }
    contents["sample.json"] = (orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n", 0)
    return contents


def _encoded(name: str, rows: list[Row]) -> bytes:
    """Return the file that the rows make, in the format that its name ends in."""
    suffix = Path(name).suffix
    if suffix == ".jsonl":
        return b"".join(orjson.dumps(row) + b"\n" for row in rows)
    if suffix == ".json":
        return orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n"
    if suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    return bytes(sink.getvalue())
