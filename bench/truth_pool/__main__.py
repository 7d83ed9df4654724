"""Truth of detectors and clean scores, on runs of which one knows what they saw: a crossed pool of 24 fitted and 40 sealed runs.

python -m bench.truth_pool prepare DIR --data ../shared/data          here: all that travels, in DIR
python -m bench.truth_pool run DIR --out RESULTS --workers 15 --seconds 280   anywhere: resumable, one thread a run
python -m bench.truth_pool table DIR RESULTS                          the fitted runs only
python -m bench.truth_pool table DIR RESULTS --open-sealed            once, when the analysis is written
"""

import argparse
import os
import sys
import time
from pathlib import Path

BEGUN = time.monotonic()
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: sums over threads are rounded in another order
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]


def main() -> int:
    """Run one of the three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("prepare")
    part.add_argument("folder", type=Path)
    part.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    part.add_argument("--dry", action="store_true", help="A base that has learnt nothing.")
    part = parts.add_parser("run")
    part.add_argument("folder", type=Path)
    part.add_argument("--out", type=Path, required=True)
    part.add_argument("--workers", type=int, default=1)
    part.add_argument("--seconds", type=float, default=1e9, help="No run is begun that would not end in time.")
    part.add_argument("--runs", type=int, default=None, help="So many at most.")
    part.add_argument("--dry", action="store_true", help="Every path, in seconds; the numbers mean nothing.")
    part = parts.add_parser("table")
    part.add_argument("folder", type=Path)
    part.add_argument("results", type=Path)
    part.add_argument("--open-sealed", action="store_true")
    options = parser.parse_args()
    if options.part == "prepare":
        from bench.truth_pool.prepare import prepare

        prepare(options.folder, options.data, options.dry)
        return 0
    if options.part == "run":
        from bench.truth_pool.work import work

        return work(options.folder, options.out, options.workers, BEGUN + options.seconds, options.runs, options.dry)
    from bench.truth_pool.table import write_table

    write_table(options.folder, options.results, options.open_sealed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
