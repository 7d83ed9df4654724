"""Which known test splits can be told by content?  `python bench/make_test_split_fingerprints.py [--data DIR] [--write]`

Hashes the questions of the published test splits in DIR (cmmlu/, ceval/) as src/steel_data/benchmarks/known_tests.py does. Without --write it
compares them with the committed src/steel_data/resources/test_splits.npz; with it, that file is written. It holds sorted 64-bit hashes
and no text: what a question is cannot be read from it, only whether a given text is one of them.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from curation_steps import SHARED

from steel_data.benchmarks.items import read_benchmark
from steel_data.benchmarks.known_tests import FINGERPRINTS, fingerprint, fingerprints
from steel_data.files import atomic_write

SPLITS = (("cmmlu", "test"), ("ceval", "test"), ("ceval", "val"))
PUBLISHED = {"cmmlu/test": 11_582, "ceval/test": 12_342, "ceval/val": 1_346}  # items, all subjects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with cmmlu/ and ceval/ as published")
    parser.add_argument("--write", action="store_true", help="write the resource")
    options = parser.parse_args()
    if not (options.data / "cmmlu").is_dir():
        print(f"skipped: no cmmlu/ in {options.data}")
        return
    made = {}
    print(f"{'split':12s} {'items':>7s} {'of':>7s} {'hashes':>7s}  committed")
    for name, split in SPLITS:
        items = read_benchmark(name, options.data, split)
        key = f"{name}/{split}"
        made[key] = fingerprint(items)
        known = fingerprints().get(key, np.zeros(0, np.uint64))
        same = "the same" if np.array_equal(known, made[key]) else f"{len(known):,} others"
        print(f"{key:12s} {len(items):7,d} {PUBLISHED[key]:7,d} {len(made[key]):7,d}  {same}")
    if options.write:
        buffer = io.BytesIO()
        np.savez(buffer, **made)
        atomic_write(FINGERPRINTS, buffer.getvalue())
        print(f"written: {FINGERPRINTS.name}, {FINGERPRINTS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
