"""Does damaged input ever end in a traceback, or in silence?

    python bench/fuzz.py [--cases 2000] [--seed 0] [--kind jsonl,parquet,…] [--case N] [--folder DIR]

Takes small good files of each kind and damages them: their bytes (flipped, cut, doubled, moved, and words that parsers
trip over) or, in what is JSON or TOML, single values (another type, a number out of bounds, not a number, hostile text, a
key that is gone or stands elsewhere). Then what reads them reads. An InputError is right, and so is success: a byte may
not matter (data are read twice, in one chunk and in small ones, and must be the same). Anything else, and what takes more
than 5 CPU-seconds or 1 GB of memory, is printed once for each kind with its number, and the exit status is 1; `--case` shows one with its traceback. Prints a table of what was tried. Kinds that need torch (fuzz_models.py) are tried where it is installed.
"""

import argparse
import gzip
import json
import random
import shutil
import signal
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import orjson
import polars as pl
import tomli_w
import zstandard

from steel.ui.views import Site, page
from steel_data.benchmarks.items import read_items
from steel_data.build import build
from steel_data.builders.llamafactory import entry
from steel_data.errors import _MACHINE, InputError, first_line
from steel_data.explain.diff import diff, print_diff
from steel_data.explain.forecast import forecast
from steel_data.explain.why import ask, print_answer
from steel_data.mixture.check import check_mixture
from steel_data.mixture.export import export
from steel_data.mixture.show import show_rows
from steel_data.read.formats import read_chunks, read_whole, scan_file
from steel_data.recipe.load import load
from steel_data.recipe.shipped import shipped
from steel_data.selection.ratings import open_store

SLOW, HANGS, LARGE = 5, 60, 10**9  # of a case: CPU-seconds that are too many, seconds after which it is ended, bytes
WORDS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\n", b"\r", b"null", b"NaN", b"1e999",
    b"-0", b"99999999999999999999999", b"\\ud800", b"\xed\xa0\x80", b"\x1b[31m", b"PAR1", b"\x1f\x8b", b"true", b"'''", b"=",
    b"[" * 5000, b'{"a":' * 5000, b"((" * 3000, b"{{" * 3000, b"9" * 5000,
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 0.0, -0.5, 1.5, 1e308, float("nan"),
    float("inf"), "", " ", "\x1b[31m", "\u202e", "\0", "\ud800", "x" * 5000, "../../etc/passwd", "/dev/null", "a/b", "1", "true", "NaN", "@exp3",
    "hf:x", "中文", "{{ x }}", "(a+)+$", "[", "*", [], {}, [[]], [None], [1, "a"], {"": None}, {"use": "x"}, {"a": {"a": {"a": 1}}},
)  # fmt: skip
RECIPE = b"""
seed = 3
filters = [{ use = "language", keep = ["zh"] }, { use = "dedup", threshold = 0.8 }]
[mix]
budget_rows = 5
[source.a]
path = "*.jsonl"
repeat = 2
build = { use = "chat" }
"""
PLANNED = b"""
seed = 3
filters = [{ use = "language", keep = ["zh"] }, { use = "dedup", threshold = 0.8 }]
[mix]
budget_rows = 5
languages = { zh = 0.9, en = 0.1 }
[source.a]
path = "*.jsonl"
build = { use = "chat" }
filters = [{ use = "length", min_chars = 2, max_chars = 900 }, { use = "quality" }]
take = 9
[train]
epochs = 2
micro_batch = 2
accumulate = 2
max_length = 64
model = "x/y"
"""
RATED = """[source.a]
path = "*.jsonl"
build = { use = "chat" }
"""
INFO = {
    "a": {"file_name": "a.json", "formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"},
          "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human"}},
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A good file, what reads it, and how it is damaged; `data`: what is damaged in turn, else what the file holds."""

    path: Path
    read: Callable[[Path], object]
    damage: Callable[[bytes, random.Random], bytes]
    data: tuple[bytes, ...] = ()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to four faults."""
    held = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(held) + 1)
        size = rng.choice((1, 2, 8, 64, len(held) // 2 + 1))
        match rng.randrange(6):
            case 0:
                held[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del held[at : at + size]
            case 2:
                held[at:at] = held[at : at + size]
            case 3:
                held[at:at] = rng.choice(WORDS)
            case 4:
                held[at : at + size] = rng.choice(WORDS)
            case _:
                held = held[:at]
    return bytes(held)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place of a nested value: what holds it, and its key or number."""
    return [place for key in _keys(value) for place in ((value, key), *places(value[key]))]


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []


def with_other_values(value: Any, rng: random.Random) -> Any:
    """Change one to three places of a nested value."""
    for _ in range(rng.randint(1, 3)):
        if not (there := places(value)):
            return rng.choice(VALUES)
        holder, key = rng.choice(there)
        held = holder[key]
        match rng.randrange(8):
            case 0:
                del holder[key]
            case 1:
                holder[key] = [held]
            case 2:
                holder[key] = {"x": held}
            case 3:
                other, at = rng.choice(there)
                holder[key] = json.loads(json.dumps(other[at], default=str))
            case 4 if isinstance(holder, dict):
                holder[rng.choice(("", "x", "use", "\x1b[0m", f"{key}s", "中"))] = holder.pop(key)
            case 5 if isinstance(held, int | float):
                holder[key] = rng.choice((held * -1, held * 10**6, bool(held), str(held)))
            case _:
                holder[key] = rng.choice(VALUES)
    return value


def json_values(data: bytes, rng: random.Random) -> bytes:
    """Return JSON with other values, now and then with damaged bytes; Infinity and half emoji as Python writes them."""
    if rng.random() < 0.2:
        return damaged(data, rng)
    return json.dumps(with_other_values(json.loads(data), rng)).encode()


def toml_values(data: bytes, rng: random.Random) -> bytes:
    """Return TOML with other values, now and then with damaged bytes."""
    if rng.random() < 0.2:
        return damaged(data, rng)
    try:
        return tomli_w.dumps(_for_toml(with_other_values(tomllib.loads(data.decode()), rng))).encode(errors="replace")
    except (TypeError, ValueError, AttributeError):  # what TOML has no word for
        return damaged(data, rng)


def _for_toml(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _for_toml(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_for_toml(inner) for inner in value if inner is not None]
    return value


def table_values(data: bytes, rng: random.Random) -> bytes:
    """Return parquet with a column that is gone, of another type, with nulls, other values or another name."""
    if rng.random() < 0.3:
        return damaged(data, rng)
    frame = pl.read_parquet(BytesIO(data))
    for _ in range(rng.randint(1, 2)):
        name = rng.choice(frame.columns)
        column = frame[name]
        match rng.randrange(8):
            case 0:
                frame = frame.drop(name)
            case 1:
                frame = frame.rename({name: rng.choice(("", "x", "\x1b[0m", f"{name}s"))})
            case 2:
                frame = frame.with_columns(pl.lit(None, column.dtype).alias(name))
            case 3:
                kinds: list[Any] = [pl.Int64, pl.Float64, pl.String, pl.Boolean, pl.Binary, pl.Datetime, pl.Categorical]
                frame = frame.with_columns(pl.lit(None, rng.choice(kinds)).alias(name))
            case 4:
                frame = frame.with_columns(column.shuffle(rng.randrange(99)))
            case 5:
                frame = frame.head(rng.randrange(len(frame) + 1))
            case 6:
                frame = pl.concat([frame, frame.sample(2, seed=rng.randrange(99))]) if len(frame) > 2 else frame
            case _:
                other = rng.choice(
                    (True, 0, -1, 2**40, float("nan"), float("inf"), "", "\x1b[0m", "x" * 3000, "中", b"\xff")
                )
                frame = frame.with_columns(pl.lit(other).alias(name))
        if not frame.columns:
            break
    held = BytesIO()
    frame.write_parquet(held)
    return held.getvalue()


def rows() -> list[dict[str, str]]:
    """Return a few good rows."""
    return [{"instruction": f"解释第{i}个词", "input": "", "output": f"它是{i}，很好。" * 3} for i in range(12)]


def typed() -> pl.DataFrame:
    """Return rows with columns of every type that parquet has."""
    n = len(rows())
    return pl.DataFrame(rows()).with_columns(
        pl.Series("when", [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=i) for i in range(n)]),
        pl.Series("day", [date(2026, 1, 1)] * n), pl.Series("at", [clock(1, 2, 3)] * n),
        pl.Series("took", [timedelta(seconds=5)] * n), pl.Series("price", [Decimal("1.50")] * n),
        pl.Series("bytes", [b"\xff\0"] * n), pl.Series("list", [[1, None]] * n),
        pl.Series("struct", [{"a": 1, "b": ["x"]}] * n), pl.Series("float", [0.5] * n), pl.Series("flag", [True] * n),
        pl.Series("category", ["x"] * n, dtype=pl.Categorical),
    )  # fmt: skip


def each(*reads: Callable[[], object]) -> None:
    """Let all read, silently and even where one refuses."""
    refused = None
    for read in reads:
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                read()
        except InputError as error:
            refused = error
    if refused is not None:
        raise refused


def read(path: Path) -> None:
    """Read a file in one chunk and in small ones: the same rows and the same errors."""
    whole, scan = list(read_whole(path)), scan_file(path, 100)
    small = [row for _, part in read_chunks(path, scan, range(len(scan.chunks))) for row in part]
    if repr(whole) != repr(small):  # NaN is not itself
        raise AssertionError("other rows in small chunks")


def tables_of(path: Path) -> None:
    """Load a recipe and look through the tables that other packages read."""
    recipe = load(path)
    if find_spec("torch") is not None:
        from steel_eval.mix.settings import read_search
        from steel_eval.study.settings import read_study_settings
        from steel_eval.trial.settings import read_trial
        from steel_train.settings import read_settings

        each(
            lambda: recipe.train and read_settings(recipe.train, path),
            lambda: recipe.search and read_search(recipe.search, path), lambda: recipe.trial and read_trial(recipe),
            lambda: recipe.eval and read_study_settings(recipe.eval, path, {}),
        )  # fmt: skip


def good(folder: Path) -> dict[str, Kind]:
    """Write a good file of each kind; return it, and what reads a damaged copy that lies in its place."""
    lines = b"\n".join(map(orjson.dumps, rows())) + b"\n"
    table = pl.DataFrame(rows())
    files = {
        "jsonl": lines, "json": orjson.dumps(rows()), "csv": table.write_csv().encode(), "jsonl.gz": gzip.compress(lines),
        "tsv": table.write_csv(separator="\t").encode(), "jsonl.zst": zstandard.compress(lines),
    }  # fmt: skip
    for kind, data in files.items():
        (folder / f"rows.{kind}").write_bytes(data)
    typed().write_parquet(folder / "rows.parquet")
    (folder / "r.toml").write_bytes(RECIPE)
    (folder / "dataset_info.json").write_bytes(orjson.dumps(INFO))
    (folder / "a.json").write_bytes(b"[]")
    for name in ("data", "cmmlu/test"):
        (folder / name).mkdir(parents=True)
    (folder / "data/a.jsonl").write_bytes(lines)
    (folder / "planned.toml").write_bytes(PLANNED)
    (folder / "recipes").mkdir()
    for recipe in shipped().values():
        shutil.copy(recipe, folder / "recipes")
    (folder / "recipes/shipped.toml").touch()
    exam = "".join(f"{i},第{i}题{'不' * i}是？,甲{i},乙,丙,丁,{'ABCD'[i % 4]}\n" for i in range(6))
    (folder / "cmmlu/test/law.csv").write_text(",Question,A,B,C,D,Answer\n" + exam, encoding="utf-8")
    made = build(load(folder / "r.toml"), data_root=folder / "data", out=folder / "mixture", cache=folder / "cache")
    shutil.copytree(folder / "mixture", folder / "whole")
    train, dropped = (next(iter(made.manifest[key])) for key in ("output", "dropped_files"))
    row = str(pl.read_parquet(folder / "mixture" / train)["id"][0])

    views: list[tuple[str, dict[str, str]]] = [("rows", {}), ("rows", {"text": "词"}), ("rows", {"part": "dropped"})]
    views.append(("row", {"file": train, "at": "0"}))

    def mixture(_: Path) -> None:
        place = folder / "mixture"
        each(
            lambda: check_mixture(place), lambda: show_rows(place, grep="词", number=3),
            lambda: show_rows(place, dropped=True, number=3), lambda: print_answer(ask(place, row)),
            lambda: print_answer(ask(place, "很好")), lambda: print_diff(diff(place, folder / "whole")),
            lambda: print_diff(diff(folder / "whole", place)), lambda: export(place, "sharegpt", folder / "exported"),
            *(partial(page, Site(folder, "/x"), view, "mixture", query) for view, query in views),
        )  # fmt: skip

    records = next((folder / "cache/records").rglob("*.parquet")).stat().st_size
    cached = next(p for p in (folder / "cache").rglob("*.parquet") if p.stat().st_size == records)

    def again(_: Path) -> None:
        shutil.rmtree(folder / "mixture")
        each(
            lambda: build(
                load(folder / "r.toml"), data_root=folder / "data", out=folder / "mixture", cache=folder / "cache"
            )
        )
        if (folder / "mixture/manifest.json").read_bytes() != (folder / "whole/manifest.json").read_bytes():
            raise AssertionError("another mixture")

    def rated(_: Path) -> None:
        shutil.rmtree(folder / "rated", ignore_errors=True)
        each(lambda: build(load(folder / "rated.toml"), data_root=folder / "data", out=folder / "rated", cache=stored))

    (folder / "rated.toml").write_text(RATED)
    stored = folder / "cache-rated"
    rated(folder)
    ids = pl.read_parquet(folder / "rated/train-*.parquet")["id"]
    store = open_store(stored, "perplexity", "base", "a" * 32)
    store.add(pl.DataFrame({"id": ids, "rating": [i / 2 for i in range(len(ids))]}))
    (folder / "rated.toml").write_text(RATED + 'select = { by = "perplexity", rows = 4 }\n')

    def planned(path: Path) -> None:
        each(lambda: forecast(load(path), data_root=folder / "data", cache=folder / "cache-planned"))

    kinds = {f"reader of {kind}": Kind(folder / f"rows.{kind}", read, damaged) for kind in (*files, "parquet")}
    those = "by check, show, why, diff, export, ui"
    return kinds | {
        "recipe": Kind(folder / "r.toml", load, damaged),
        "values of shipped recipes": Kind(
            folder / "recipes/shipped.toml", tables_of, toml_values, tuple(p.read_bytes() for p in shipped().values())
        ),
        "values of a recipe, by plan": Kind(folder / "planned.toml", planned, toml_values),
        "dataset_info.json": Kind(folder / "dataset_info.json", lambda path: entry(path, "a"), damaged),
        "values of dataset_info.json": Kind(folder / "dataset_info.json", lambda path: entry(path, "a"), json_values),
        "cache, by build": Kind(cached, again, damaged),
        "ratings, by build": Kind(store.folder / "part-00000.parquet", rated, table_values),
        "ratings' model.json, by build": Kind(store.folder / "model.json", rated, json_values),
        "questions": Kind(
            folder / "cmmlu/test/law.csv", lambda path: read_items([("cmmlu/test/law.csv", path)]), damaged
        ),
        f"manifest, {those}": Kind(folder / "mixture/manifest.json", mixture, json_values),
        f"train parquet, {those}": Kind(folder / "mixture" / train, mixture, table_values),
        f"dropped parquet, {those}": Kind(folder / "mixture" / dropped, mixture, table_values),
    }


def _late(*_: object) -> None:
    raise TimeoutError(f"more than {HANGS} seconds")


def harmed(kind: Kind, data: bytes, rng: random.Random) -> bytes:
    """Return damaged data of a kind; what is no JSON or table any more, or cannot be made one, loses bytes."""
    try:
        return kind.damage(data, rng)
    except Exception:
        return damaged(data, rng)


def outcome(kind: Kind, data: bytes) -> str:
    """Return what came of reading: read, refused, or what no command may do: an error without words, or no end."""
    kind.path.write_bytes(data)
    began, peak = time.process_time(), getrusage(RUSAGE_SELF).ru_maxrss
    found = _found(kind)
    if (took := time.process_time() - began) > SLOW:
        return f"slow: {took:.1f} CPU-seconds"
    if (more := (getrusage(RUSAGE_SELF).ru_maxrss - peak) * 1024) > LARGE:
        return f"large: {more / 1e9:.1f} GB more"
    return found


def _found(kind: Kind) -> str:
    try:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(HANGS)
        kind.read(kind.path)
    except InputError:
        return "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, OSError) and error.errno in _MACHINE:  # a line says it, as of an InputError
            return "refused"
        return f"{type(error).__name__}: {first_line(error, 150)}"
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)
    return "read"


def tried(name: str, kind: Kind, cases: int, seed: int) -> bool:
    """Damage, read, count, print a line of the table; return whether all was read or refused."""
    held = kind.path.read_bytes()
    data, counts, told = kind.data or (held,), Counter[str](), set[str]()
    for whole in data:
        kind.path.write_bytes(whole)
        kind.read(kind.path)  # what is not damaged is read
    began = time.process_time()
    try:
        for i in range(cases):
            found = outcome(kind, harmed(kind, data[i % len(data)], random.Random(f"{seed}/{name}/{i}")))
            if found not in ("read", "refused"):
                told.add(f"  case {i}: {found}")
                found = "traceback"
            counts[found] += 1
    except KeyboardInterrupt:
        told.add("  stopped")
    kind.path.write_bytes(held)
    numbers = f"{counts.total():>8,}{counts['read']:>8,}{counts['refused']:>9,}{counts['traceback']:>12,}"
    print(f"{name:<56}{numbers}{time.process_time() - began:>8.1f}", flush=True)
    for line in sorted(told)[:8]:
        print(line)
    return not told


def main() -> None:
    """Damage, read, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="for each kind; a tenth for those that several read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", help="only those whose name holds one of these words, such as jsonl,recipe")
    parser.add_argument("--case", type=int, help="show this one alone")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _late)
    whole = True
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        folder = Path(made)
        kinds = good(folder)
        if find_spec("torch") is not None:
            from fuzz_models import good_models

            kinds |= good_models(folder / "models")
        print(f"{'kind':<56}{'cases':>8}{'read':>8}{'refused':>9}{'tracebacks':>12}{'CPU s':>8}")
        for name, kind in kinds.items():
            if args.kind and not any(word in name for word in args.kind.split(",")):
                continue
            if args.case is not None:
                data = kind.data or (kind.path.read_bytes(),)
                rng = random.Random(f"{args.seed}/{name}/{args.case}")
                kind.path.write_bytes(harmed(kind, data[args.case % len(data)], rng))
                print(name, kind.path.read_bytes()[:2000])
                kind.read(kind.path)
                continue
            cases = args.cases if "," not in name else max(args.cases // 10, 1)
            whole = tried(name, kind, cases, args.seed) and whole
    if not whole:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
