"""Does damaged input ever end in a traceback, or in silence?

    python bench/fuzz.py [--cases 2000] [--seed 0] [--kind jsonl,parquet,…] [--folder DIR]

Takes small good files of each kind, damages their bytes (flipped, cut, doubled, moved, and words that parsers trip
over), and hands them to what reads them. An InputError is right, and so is success: a byte may not matter. Anything else
is printed once for each kind with its seed, and the exit status is 1. Prints a table of what was tried.
"""

import argparse
import gzip
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import orjson
import polars as pl

from steel_data.build import build
from steel_data.builders.llamafactory import entry
from steel_data.errors import InputError, first_line
from steel_data.mixture.check import check_mixture
from steel_data.mixture.show import show_rows
from steel_data.read.formats import read_whole
from steel_data.recipe.load import load

WORDS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\n", b"\r", b"null", b"NaN", b"1e999",
    b"-0", b"99999999999999999999999", b"\\ud800", b"\xed\xa0\x80", b"\x1b[31m", b"PAR1", b"\x1f\x8b", b"true", b"'''", b"=",
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
INFO = {
    "a": {"file_name": "a.json", "formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"},
          "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human"}},
}  # fmt: skip


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


def rows() -> list[dict[str, str]]:
    """Return a few good rows."""
    return [{"instruction": f"解释第{i}个词", "input": "", "output": f"它是{i}，很好。" * 3} for i in range(12)]


def good(folder: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """Write a good file of each kind; return it, and what reads a damaged copy that lies in its place."""
    lines = b"\n".join(map(orjson.dumps, rows())) + b"\n"
    table = pl.DataFrame(rows())
    files = {
        "jsonl": lines, "json": orjson.dumps(rows()), "csv": table.write_csv().encode(), "jsonl.gz": gzip.compress(lines),
    }  # fmt: skip
    for kind, data in files.items():
        (folder / f"rows.{kind}").write_bytes(data)
    table.write_parquet(folder / "rows.parquet")
    (folder / "r.toml").write_bytes(RECIPE)
    (folder / "dataset_info.json").write_bytes(orjson.dumps(INFO))
    (folder / "a.json").write_bytes(b"[]")
    (folder / "data").mkdir()
    (folder / "data/a.jsonl").write_bytes(lines)
    made = build(load(folder / "r.toml"), data_root=folder / "data", out=folder / "mixture", cache=folder / "cache")
    train = next(iter(made.manifest["output"]))

    def mixture(path: Path) -> None:
        whole = path.parent if path.parent.name == "mixture" else path.parent.parent
        refused = None
        for read in (check_mixture, lambda place: show_rows(place, grep="词", number=3)):
            try:
                with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                    read(whole)
            except InputError as error:
                refused = error
        if refused is not None:
            raise refused

    readers: dict[str, tuple[Path, Callable[[Path], object]]] = {
        f"reader of {kind}": (folder / f"rows.{kind}", lambda path: list(read_whole(path)))
        for kind in (*files, "parquet")
    }
    return readers | {
        "recipe": (folder / "r.toml", load),
        "dataset_info.json": (folder / "dataset_info.json", lambda path: entry(path, "a")),
        "manifest, by check and show": (folder / "mixture/manifest.json", mixture),
        "train parquet, by check and show": (folder / "mixture" / train, mixture),
    }


def main() -> None:
    """Damage, read, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", help="only those whose name holds one of these words, such as jsonl,recipe")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        folder = Path(made)
        print(f"{'kind':<34}{'cases':>8}{'read':>8}{'refused':>9}{'tracebacks':>12}")
        for kind, (path, read) in good(folder).items():
            if args.kind and not any(word in kind for word in args.kind.split(",")):
                continue
            data, counts, told = path.read_bytes(), Counter[str](), set[str]()
            for i in range(args.cases):
                path.write_bytes(damaged(data, random.Random(f"{args.seed}/{kind}/{i}")))
                try:
                    read(path)
                    counts["read"] += 1
                except InputError:
                    counts["refused"] += 1
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    counts["traceback"] += 1
                    told.add(f"  case {i}: {type(error).__name__}: {first_line(error, 150)}")
            path.write_bytes(data)
            print(
                f"{kind:<34}{args.cases:>8,}{counts['read']:>8,}{counts['refused']:>9,}{counts['traceback']:>12,}",
                flush=True,
            )
            for line in sorted(told)[:8]:
                print(line)
            wrong += counts["traceback"]
        shutil.rmtree(folder / "mixture", ignore_errors=True)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
