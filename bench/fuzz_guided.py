"""bench/fuzz.py led by coverage: a damaged file that reaches a new branch of steel is kept, and damaged further.

    pip install atheris
    python bench/fuzz_guided.py [--cases 2000] [--seed 0] [--kind jsonl,parquet,…] [--findings runs/fuzz]

Kinds, their damage and what counts as right are those of fuzz.py. steel's own modules are instrumented (libraries are
not), libFuzzer chooses what is damaged next. Each kind runs in a process of its own. What is neither read nor refused is
written to `--findings`, one file for each kind of error, and the exit status is 1; `--again FILE` reads one with its
traceback. Prints what was tried, how many branches were reached by good files and in the end, and how many files were kept.
"""

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz import Kind

STEEL = ["steel", "steel_data", "steel_train", "steel_eval"]


def known(folder: Path, name: str | None = None) -> "dict[str, Kind]":
    """Write the good files of all kinds; those that need torch only where one of them is named, or none."""
    from fuzz import good

    kinds = good(folder)
    if name not in kinds and find_spec("torch") is not None:
        from fuzz_models import good_models

        kinds |= good_models(folder / "models")
    return kinds


def led(name: str, args: argparse.Namespace, folder: Path) -> None:
    """Try one kind; print its line and end this process, as libFuzzer would."""
    import atheris

    with atheris.instrument_imports(include=STEEL):  # whatever is imported until the end
        kind = known(folder, name)[name]
        from fuzz import harmed, outcome

        corpus = folder / "corpus"
        corpus.mkdir()
        for i, data in enumerate(kind.data or (kind.path.read_bytes(),)):
            (corpus / str(i)).write_bytes(data)
        counts, told, began = Counter[str](), set[str](), time.process_time()

        def one(data: bytes) -> None:
            found = outcome(kind, data)
            if found not in ("read", "refused"):
                alike = re.sub(r"\d+|'[^']*'", "…", found)[:60]
                if alike not in told:
                    told.add(alike)
                    file = (
                        args.findings
                        / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{hashlib.sha256(data).hexdigest()[:8]}"
                    )
                    file.write_bytes(data)
                    print(f"  {file}: {found}", flush=True)
                found = "traceback"
            counts[found] += 1
            if counts.total() == args.cases:
                numbers = [counts[key] for key in ("read", "refused", "traceback")]
                print(json.dumps([args.cases, *numbers, round(time.process_time() - began, 1)]), flush=True)
                os._exit(0)

        def other(data: bytes, size: int, seed: int) -> bytes:
            return harmed(kind, data, random.Random(seed))[:size]

        options = [
            f"-runs={args.cases + 10**6}",
            f"-seed={args.seed + 1}",
            "-max_len=1000000",
            "-timeout=0",
            "-len_control=0",
        ]
        atheris.Setup(
            [sys.argv[0], *options, f"-artifact_prefix={args.findings}/", str(corpus)], one, custom_mutator=other
        )
        atheris.Fuzz()


def tried(name: str, args: argparse.Namespace) -> bool:
    """Try one kind in a process of its own, print a line; return whether all was read or refused."""
    command = [
        sys.executable,
        __file__,
        "--only",
        name,
        "--cases",
        str(args.cases if "," not in name else args.cases // 10),
    ]
    command += ["--seed", str(args.seed), "--findings", str(args.findings)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    *found, last = done.stdout.strip().splitlines() or [""]
    reached = [int(number) for number in re.findall(r"\bcov: (\d+)", done.stderr)]
    kept = re.findall(r"\bcorp: (\d+)", done.stderr)
    if done.returncode or not last.startswith("["):  # the process itself fell
        print(f"{name}: ended with {done.returncode}: {done.stderr[-600:]}", flush=True)
        return False
    cases, read, refused, wrong, seconds = json.loads(last)
    numbers = f"{cases:>9,}{read:>9,}{refused:>9,}{wrong:>12,}{seconds:>8.1f}"
    print(f"{name:<56}{numbers}{min(reached, default=0):>10,}{max(reached, default=0):>8,}{kept[-1] if kept else 0:>7}")
    print("\n".join(found), end="\n" if found else "", flush=True)
    return not wrong


def main() -> None:
    """Try all kinds, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="for each kind; a tenth for those that several read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", help="only those whose name holds one of these words, such as jsonl,recipe")
    parser.add_argument("--findings", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--only", help="this kind, in this process")
    parser.add_argument("--again", type=Path, help="read this file as one of --only")
    args = parser.parse_args()
    args.findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        if args.again is not None:
            kind = known(Path(made), args.only)[args.only]
            kind.path.write_bytes(args.again.read_bytes())
            kind.read(kind.path)
            return
        if args.only is not None:
            led(args.only, args, Path(made))
        names = [
            name for name in known(Path(made)) if not args.kind or any(word in name for word in args.kind.split(","))
        ]
    print(
        f"{'kind':<56}{'cases':>9}{'read':>9}{'refused':>9}{'tracebacks':>12}{'CPU s':>8}{'branches':>10}{'then':>8}{'kept':>7}",
        flush=True,
    )
    whole = [tried(name, args) for name in names]
    if not all(whole):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
