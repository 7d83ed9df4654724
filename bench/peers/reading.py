"""Is reading within 1.5x of polars' own streaming scan?  `python bench/peers/reading.py [--megabytes 320] [--rounds 3]`

Writes generated chat rows (bench/scale.py's, and the same glued by four: about 0.4 and 1.5 KB a row) as JSON lines and as parquet, and
reads each in turn: polars' lazy scan of all columns with the streaming engine; the same and then into Python dicts, which is what a row
function needs; the two passes of `steel_data.read.formats`, apart (hash and borders; rows as dicts) and together. CPU seconds of the whole
process tree; ratios are paired by round. Start-up and imports, the same for all, are included, and take most of the time of small files;
"net" is the ratio of the medians without them ("imports alone"), which is what large files come to.
"""

import argparse
import pickle
import statistics
import sys
import tempfile
from pathlib import Path

import orjson
import polars as pl
from compare import HERE, ROOT, call, timed

from steel_data.read.formats import scan_file

sys.path.insert(0, str(HERE.parent))
import scale

IMPORTS = "import pickle, sys; from pathlib import Path; import polars as pl; from steel_data.read.formats import scan_file, read_chunks\n"
READ = "for chunk, rows in read_chunks(path, scan, range(len(scan.chunks))):\n    for row in rows: pass"
WAYS = {
    "imports alone": "",
    "polars, streaming": "pl.scan_{kind}(sys.argv[1]).collect(engine='streaming')",
    "polars, to dicts": "for batch in pl.scan_{kind}(sys.argv[1]).collect(engine='streaming').iter_slices(10_000): batch.to_dicts()",
    "steel, scan": "scan_file(Path(sys.argv[1]))",
    "steel, rows": "path = Path(sys.argv[1]); scan = pickle.loads(Path(sys.argv[1] + '.scan').read_bytes())\n" + READ,
    "steel, scan + rows": "path = Path(sys.argv[1]); scan = scan_file(path)\n" + READ,
}
SHORT_BYTES = 384  # of scale's rows


def rows_of(folder: Path, megabytes: int, glued: int) -> int:
    """Write `megabytes` of generated rows, each made of `glued` rows of scale's, as rows.jsonl and rows.parquet; return how many."""
    scale.write(folder, megabytes * 2**20 // SHORT_BYTES)
    count = 0
    with (folder / "rows.jsonl").open("wb") as out:
        for part in sorted((folder / "data").glob("part-*.jsonl")):
            rows = [orjson.loads(line) for line in part.read_bytes().splitlines()]
            part.unlink()
            for some in (rows[i : i + glued] for i in range(0, len(rows), glued)):
                joined = {**some[0], "output": "\n".join(row["output"] for row in some)}
                out.write(orjson.dumps(joined) + b"\n")
                count += 1
    pl.scan_ndjson(folder / "rows.jsonl").sink_parquet(folder / "rows.parquet", row_group_size=50_000)
    for name in ("rows.jsonl", "rows.parquet"):
        (folder / f"{name}.scan").write_bytes(pickle.dumps(scan_file(folder / name)))
    return count


def table(kind: str, file: Path, rows: int, rounds: int) -> None:
    print(f"\n== {kind}: {rows:,} rows, {file.stat().st_size / 2**20:.0f} MB, {rounds} rounds")
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, code in WAYS.items():
            command = [sys.executable, "-c", IMPORTS + code.format(kind=kind), file]
            cpu, _ = timed(lambda *_, c=command: call(c, PYTHONPATH=str(ROOT / "src")), file, file)
            taken[way].append(cpu)
    print(f"{'':<20}{'CPU s':>24}{'rows/CPU s':>12}{'of polars, streaming':>26}{'net':>8}")
    start, theirs = (statistics.median(taken[way]) for way in ("imports alone", "polars, streaming"))
    for way, cpu in taken.items():
        ratios = [c / p for c, p in zip(cpu, taken["polars, streaming"], strict=True)]
        net = (statistics.median(cpu) - start) / max(theirs - start, 0.01)  # the clock ticks 100 times a second
        shown = ", ".join(f"{c:.2f}" for c in cpu), ", ".join(f"{r:.2f}" for r in ratios)
        print(
            f"{way:<20}{shown[0]:>24}{rows / statistics.median(cpu):>12,.0f}{shown[1]:>26}{net:>8.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the temporary files go")
    given = parser.parse_args()
    for glued in (1, 4):
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            rows = rows_of(Path(name), given.megabytes, glued)
            for kind, file in (("ndjson", "rows.jsonl"), ("parquet", "rows.parquet")):
                table(kind, Path(name) / file, rows, given.rounds)


if __name__ == "__main__":
    main()
