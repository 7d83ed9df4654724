"""Pack what a bare CUDA machine lacks into one archive: runs/gpu/pack.tar.xz, to be carried there beside the repository.

    make gpu-pack

The machine is taken to have python 3.12, torch 2.11, triton 3.6, transformers 5.17, peft, accelerate, datasets' own needs
(pyarrow, pandas, numpy, xxhash) and no network. Packed: the wheels below, unfolded and stripped, and a small mixture with
its tokenizer (the generated sample), so that nothing is built or downloaded there.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_MIB = 60  # archive and repository together
WHEELS = (
    "trl>=1.16", "datasets>=4.0", "dill", "multiprocess", "polars>=2.1", "polars-runtime-32", "orjson", "pydantic>=2.11",
    "pydantic-core", "annotated-types", "typing-inspection", "zstandard", "tomli-w", "rensa", "liger-kernel==0.8.5",
    "cut-cross-entropy", "bitsandbytes", "lm-eval>=0.4.13", "evaluate", "jsonlines",
    "fasttext-community>=0.11.9",
)  # fmt: skip
PLATFORMS = ("2_28", "2_27", "2_24", "2_17", "2_5")
# what the parts never import: lm-eval's task files, tests, notebooks
LEFT_OUT = ("lm_eval/tasks/", "polars/testing/", "datasets/commands/")
# of a library that brings one file for each CUDA, that of torch 2.11
ONE_CUDA = ("bitsandbytes/libbitsandbytes_", "bitsandbytes/libbitsandbytes_cuda130.so")


def download(place: Path, python: str) -> list[Path]:
    """Fetch the wheels for that Python on x86-64 Linux, one version each and nothing they ask for; return them.

    pydantic pins one version of pydantic-core and polars one of its runtime, so those two are looked up in the wheel.
    """
    platforms = [f"--platform=manylinux_{p}_x86_64" for p in PLATFORMS]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms, "-d", str(place)]  # fmt: skip
    pinned = {"pydantic-core": "pydantic-", "polars-runtime-32": "polars-"}
    subprocess.run([*command, *(w for w in WHEELS if w not in pinned)], check=True)
    subprocess.run([*command, *(asked(place, name, of) for name, of in pinned.items())], check=True)
    return sorted(place.glob("*.whl"))


def asked(place: Path, name: str, of: str) -> str:
    """Return the requirement of the wheel `of`… on `name`, as its metadata has it."""
    with zipfile.ZipFile(next(place.glob(f"{of}[0-9]*.whl"))) as wheel:
        file = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        for line in wheel.read(file).decode().splitlines():
            if line.startswith("Requires-Dist: " + name):
                return line.removeprefix("Requires-Dist: ").partition(";")[0].strip()
    return name


def unfold(wheels: list[Path], place: Path) -> None:
    """Lay the wheels' files side by side, without what is never imported and without debug symbols."""
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                other_cuda = name.startswith(ONE_CUDA[0]) and name != ONE_CUDA[1]
                if not name.startswith(LEFT_OUT) and not other_cuda:
                    wheel.extract(name, place)
    (place / "lm_eval/tasks").mkdir(parents=True, exist_ok=True)
    if shutil.which("strip"):
        for library in place.rglob("*.so"):
            subprocess.run(["strip", "--strip-unneeded", str(library)], check=False, stderr=subprocess.DEVNULL)


def repository_bytes() -> int:
    """Return the size of what travels with the archive: the tracked files, or all where there is no git."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = [n for n in done.stdout.decode().split("\0") if n]
    return sum((ROOT / n).stat().st_size for n in names if (ROOT / n).is_file())


def files(place: Path) -> Iterator[Path]:
    """Yield the files in one order, so that like lies beside like."""
    yield from sorted((p for p in place.rglob("*") if p.is_file()), key=lambda p: (p.suffix, p.as_posix()))


def main() -> int:
    """Write the archive and say its size; return 1 if it is too large to be carried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/gpu/pack.tar.xz")
    parser.add_argument("--python", default="3.12", help="Of the machine with the GPU.")
    parser.add_argument("--wheels", type=Path, help="A folder of wheels that are there already: nothing is fetched.")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    from bench.train import conversations, sample_mixture

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels = sorted(options.wheels.glob("*.whl")) if options.wheels else download(folder / "wheels", options.python)
        place = folder / "packages"
        unfold(wheels, place)
        made = folder / "world"
        made.mkdir()
        conversations(*sample_mixture(made))
        for kept in ("mixture", "conversations", "tokenizer"):
            shutil.copytree(made / kept, place / "world" / kept)
        with tarfile.open(options.out, "w:xz", preset=6) as archive:
            for file in files(place):
                archive.add(file, file.relative_to(place))
    size, beside = options.out.stat().st_size / 2**20, repository_bytes() / 2**20
    print(
        f"{options.out}: {size:.1f} MiB; with the repository ({beside:.1f} MiB) {size + beside:.1f} of {LIMIT_MIB} MiB"
    )
    return int(size + beside > LIMIT_MIB)


if __name__ == "__main__":
    sys.exit(main())
