"""Is reading within 1.5x of polars' own streaming scan?  `python bench/peers/reading.py [--megabytes 300] [--rounds 3]`

Writes generated chat rows (bench/scale.py's) as JSON lines and as parquet, and reads each in turn: polars' lazy scan of all columns
with the streaming engine; polars' scan once more into Python dicts, which is what a row function needs; the two passes of
`steel_data.readers` (hash + borders, then rows as dicts); and a second build of an unchanged recipe, which reads the narrow attribute
files in place of the rows. CPU seconds of the whole process tree, start-up and imports included; ratios are paired by round.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from compare import HERE, ROOT, call, timed

sys.path.insert(0, str(HERE.parent))
import scale

IMPORTS = (
    "import sys; from pathlib import Path; import polars as pl; from steel_data.readers import scan_file, read_chunks\n"
)
WAYS = {
    "imports alone": "",
    "polars, streaming": "pl.scan_{kind}(sys.argv[1]).collect(engine='streaming')",
    "polars, to dicts": "for batch in pl.scan_{kind}(sys.argv[1]).collect(engine='streaming').iter_slices(10_000): batch.to_dicts()",
    "steel, scan": "scan_file(Path(sys.argv[1]))",
    "steel, scan + rows": "path = Path(sys.argv[1]); scan = scan_file(path)\n"
    "for chunk, rows in read_chunks(path, scan, range(len(scan.chunks))): pass",
}


def rows_of(folder: Path, megabytes: int) -> int:
    """Write `megabytes` of generated rows as rows.jsonl and rows.parquet and return how many rows that is."""
    import polars as pl

    scale.write(folder, 20_000)
    per_row = (folder / "data/part-000.jsonl").stat().st_size / 20_000
    rows = int(megabytes * 2**20 / per_row)
    for file in (folder / "data").rglob("*.*"):
        file.unlink()
    (folder / "data/bench/test").rmdir()
    (folder / "data/bench").rmdir()
    (folder / "data").rmdir()
    scale.write(folder, rows)
    with (folder / "rows.jsonl").open("wb") as out:
        for part in sorted((folder / "data").glob("part-*.jsonl")):
            out.write(part.read_bytes())
            part.unlink()
    pl.scan_ndjson(folder / "rows.jsonl").sink_parquet(folder / "rows.parquet", row_group_size=50_000)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the temporary files go")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        rows = rows_of(folder, given.megabytes)
        for kind, file in (("ndjson", folder / "rows.jsonl"), ("parquet", folder / "rows.parquet")):
            print(f"\n== {kind}: {rows:,} rows, {file.stat().st_size / 2**20:.0f} MB, {given.rounds} rounds")
            taken: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(given.rounds):
                for way, code in WAYS.items():
                    command = [sys.executable, "-c", IMPORTS + code.format(kind=kind), file]
                    cpu, _ = timed(lambda *_, c=command: call(c, PYTHONPATH=str(ROOT / "src")), folder, folder)
                    taken[way].append(cpu)
            print(f"{'':<22}{'CPU s':>24}{'rows/CPU s':>12}{'of polars, streaming':>26}")
            for way, cpu in taken.items():
                ratios = [c / p for c, p in zip(cpu, taken["polars, streaming"], strict=True)]
                shown = ", ".join(f"{c:.2f}" for c in cpu), ", ".join(f"{r:.2f}" for r in ratios)
                print(f"{way:<22}{shown[0]:>24}{rows / statistics.median(cpu):>12,.0f}{shown[1]:>26}", flush=True)


if __name__ == "__main__":
    main()
