"""How many CPU seconds do the curation steps take here, in datatrove and in data-juicer?  `make bench-peers`

    python bench/peers/compare.py [--rows 20000] [--rounds 2] [--corpus real|generated|both] [--venvs .venv-peers]

On the same rows, in turn (A B C A B C …): language (zh, en) + exact and near dedup + decontamination by `steel_data build`, by
datatrove with its Chinese tokenizer, and the first three by data-juicer, each with one worker and cold caches. CPU seconds are user +
system of the process and all of its children that it waited for. The rows hold planted copies and benchmark items, so the second
table says what each found. A peer that is not installed is skipped, with a line.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import corpora
import orjson
import polars as pl
from quality import Quality, judge

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared" / "data"
MODEL = ROOT / "src/steel_data/resources/lid.176.ftz"
Run = Callable[[Path, Path], None]  # (corpus, out): build and return
Fate = dict[int, str]
Taken = dict[str, list[tuple[float, float]]]  # (CPU seconds, seconds) of each run
FEW = 200


def call(command: list[str | Path], **environment: str) -> str:
    """Run a command in a clean environment; return its standard output. Its log is shown only where it fails."""
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([str(c) for c in command], env={**own, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed with status {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def recipe(corpus: Path, benchmarks: tuple[str, ...], threshold: float = 0.75) -> Path:
    path = corpus / "recipe.toml"
    path.write_text(
        f"""
        filters = [
            {{ use = "decontaminate", benchmarks = {list(benchmarks)} }},
            {{ use = "dedup", threshold = {threshold} }},
        ]
        [source.rows]
        path = "rows.jsonl"
        build = {{ use = "chat" }}
        filters = [{{ use = "language", keep = ["zh", "en"] }}]
        """,
        encoding="utf-8",
    )
    return path


def steel(benchmarks: tuple[str, ...], threshold: float = 0.75) -> Run:
    def run(corpus: Path, out: Path) -> None:
        path = recipe(corpus, benchmarks, threshold)
        call(
            [
                sys.executable,
                "-m",
                "steel_data",
                "build",
                path,
                "--data-root",
                corpus / "data",
                "--out",
                out,
                "--workers",
                "1",
            ],
            PYTHONPATH=str(ROOT / "src"),
        )

    return run


def steel_fate(out: Path) -> Fate:
    kept = pl.read_parquet(out / "train-*.parquet", columns=["origin_row"])["origin_row"]
    dropped = pl.read_parquet(out / "dropped/*.parquet", columns=["origin_row", "step", "reason"])
    fate = dict.fromkeys(kept.to_list(), "kept")
    for row, step, reason in dropped.iter_rows():
        fate[row] = reason.rpartition(":")[2] if step == "dedup" else step
    return fate


def datatrove(python: Path) -> Run:
    def run(corpus: Path, out: Path) -> None:
        script = HERE / "datatrove_steps.py"
        printed = call([python, script, corpus / "texts.jsonl", corpus / "items.jsonl", out, "--model", MODEL])
        (out / "seconds.json").write_text(printed.splitlines()[-1], encoding="utf-8")

    return run


def datatrove_fate(out: Path) -> Fate:
    fate = {}
    folders = {"kept": "kept", **{f"dropped/{step}": step for step in ("language", "decontaminate", "exact", "near")}}
    for folder, step in folders.items():
        for file in (out / folder).rglob("*.jsonl*"):
            fate |= dict.fromkeys((int(orjson.loads(line)["id"]) for line in lines_of(file)), step)
    return fate


def data_juicer(python: Path) -> Run:
    def run(corpus: Path, out: Path) -> None:
        (out / "models").mkdir(parents=True)
        shutil.copyfile(MODEL, out / "models/lid.176.bin")  # under the name that it looks for
        command = [
            python.with_name("dj-process"),
            "--config",
            HERE / "data_juicer.yaml",
            "--dataset_path",
            corpus / "texts.jsonl",
        ]
        call([*command, "--export_path", out / "kept.jsonl"], DATA_JUICER_CACHE_HOME=str(out), HF_HOME=str(out / "hf"))

    return run


def data_juicer_fate(out: Path) -> Fate:
    """Return what it kept; what its language filter drops is worked out again as it does it, since it does not say."""
    import fasttext

    model = fasttext.load_model(str(MODEL))
    fate = {}
    for line in lines_of(out.parents[1] / "texts.jsonl"):
        row = orjson.loads(line)
        labels, scores = model.predict(row["text"].lower().replace("\n", " "))
        known = labels[0] in ("__label__zh", "__label__en") and scores[0] >= 0.65
        fate[int(row["id"])] = "dropped" if known else "language"
    for file in out.glob("kept*.jsonl"):
        if "stats" not in file.name:
            fate |= dict.fromkeys((int(orjson.loads(line)["id"]) for line in lines_of(file)), "kept")
    return fate


def lines_of(file: Path) -> list[bytes]:
    import gzip

    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).splitlines()


def timed(run: Run, corpus: Path, out: Path) -> tuple[float, float]:
    """Return (CPU seconds of the process tree, seconds)."""
    before, start = os.times(), time.monotonic()
    run(corpus, out)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, time.monotonic() - start


def installed(venvs: Path) -> dict[str, Path]:
    """Return the interpreters of the peers that can be imported, and say which cannot."""
    found = {}
    for name, module in (("datatrove", "datatrove"), ("data-juicer", "data_juicer")):
        python = venvs.absolute() / name / "bin/python"
        if python.is_file() and not subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
            found[name] = python
        else:
            print(f"skipped: {name} is not installed in {venvs / name} (`make bench-peers` makes it)")
    return found


def measure(corpus: Path, tools: dict[str, Run], rounds: int) -> Taken:
    """Run the tools in turn and return their (CPU seconds, seconds), printing each as it comes."""
    taken: Taken = {name: [] for name in tools}
    for number in range(rounds):
        for name, run in tools.items():
            out = corpus / "out" / name
            if name != "steel, again":
                shutil.rmtree(out.parent / ".cache" if name == "steel" else out, ignore_errors=True)
                shutil.rmtree(out, ignore_errors=True)
            taken[name].append(timed(run, corpus, corpus / "out" / ("steel" if name == "steel, again" else name)))
            print(
                f"  round {number + 1} {name}: {taken[name][-1][0]:.1f} CPU s, {taken[name][-1][1]:.1f} s", flush=True
            )
    return taken


def print_speed(rows: int, taken: Taken, few: Taken) -> None:
    """Print what was measured; `each further row` is the cost beyond that of a run on FEW rows (start-up, index)."""
    print(
        f"\n{'':<16}{'CPU s':>20}{'rows/CPU s':>12}{'of steel':>18}{f'{FEW} rows':>12}{'further rows/CPU s':>20}{'of steel':>10}"
    )
    per_row = {name: (median(runs) - median(few[name])) / (rows - FEW) for name, runs in taken.items()}
    for name, runs in taken.items():
        ratios = [c / ours for (c, _), (ours, _) in zip(runs, taken["steel"], strict=True)]
        print(
            f"{name:<16}{', '.join(f'{c:.1f}' for c, _ in runs):>20}{rows / median(runs):>12,.0f}"
            f"{', '.join(f'{r:.1f}' for r in ratios):>18}{median(few[name]):>12.1f}{1 / per_row[name]:>20,.0f}"
            f"{per_row[name] / per_row['steel']:>10.1f}"
        )


def median(runs: list[tuple[float, float]]) -> float:
    return statistics.median(cpu for cpu, _ in runs)


def print_quality(found: dict[str, Quality]) -> None:
    print(
        f"\n{'tool':<13}{'exact':>8}{'near':>8}{'verbatim':>10}{'edited':>8}{'flagged':>9}{'dropped':>9}{'0.5-0.75':>10}{'< 0.5':>7}"
    )
    for name, q in found.items():
        shares = [f"{x:.1%}" if x is not None else "-" for x in (q.exact, q.near, q.verbatim, q.edited)]
        print(
            f"{name:<13}{shares[0]:>8}{shares[1]:>8}{shares[2]:>10}{shares[3]:>8}{q.flagged:>9,}{q.dropped:>9,}{q.doubtful:>10,}{q.unlike:>7,}"
        )


def tools_of(benchmarks: tuple[str, ...], peers: dict[str, Path]) -> dict[str, Run]:
    tools = {"steel": steel(benchmarks)}
    if "datatrove" in peers:
        tools["datatrove"] = datatrove(peers["datatrove"])
    if "data-juicer" in peers:
        tools["data-juicer"] = data_juicer(peers["data-juicer"])
    return tools | {"steel, again": steel(benchmarks, threshold=0.8)}


def make(kind: str, folder: Path, rows: int, data: Path) -> tuple[str, ...]:
    folder.mkdir()
    return corpora.real(folder, rows, data) if kind == "real" else corpora.generated(folder, rows)


def one_corpus(kind: str, given: argparse.Namespace, peers: dict[str, Path]) -> None:
    with tempfile.TemporaryDirectory(dir=given.folder, ignore_cleanup_errors=True) as name:
        corpus, small = Path(name) / "corpus", Path(name) / "small"
        tools = tools_of(make(kind, corpus, given.rows, given.data), peers)
        make(kind, small, FEW, given.data)
        truth = [(v["kind"], v["of"]) for v in map(orjson.loads, lines_of(corpus / "truth.jsonl"))]
        texts = [orjson.loads(line)["text"] for line in lines_of(corpus / "texts.jsonl")]
        items, mean = len(lines_of(corpus / "items.jsonl")), sum(map(len, texts)) / len(texts)
        print(
            f"\n== {kind}: {len(texts):,} rows of {mean:.0f} characters, {items:,} benchmark items, {given.rounds} rounds"
        )
        few = measure(small, tools, 1)
        taken = measure(corpus, tools, given.rounds)
        print_speed(len(texts), taken, few)
        tools["steel"](corpus, corpus / "out/steel")  # with the thresholds of the comparison again
        fates = {"steel": steel_fate, "datatrove": datatrove_fate, "data-juicer": data_juicer_fate}
        print_quality({t: judge(texts, truth, fates[t](corpus / "out" / t)) for t in tools if t in fates})
        if "datatrove" in peers:
            seconds = json.loads((corpus / "out/datatrove/seconds.json").read_text(encoding="utf-8"))
            print(f"\ndatatrove by pass: {', '.join(f'{k} {v:.1f}' for k, v in seconds.items())} CPU s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--corpus", choices=("real", "generated", "both"), default="both")
    parser.add_argument(
        "--data", type=Path, default=SHARED, help="the folder of real data (instruct/, exam/, cmmlu/, ceval/)"
    )
    parser.add_argument("--venvs", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--folder", type=Path, help="where the temporary files go")
    given = parser.parse_args()
    peers = installed(given.venvs)
    for kind in ("real", "generated") if given.corpus == "both" else (given.corpus,):
        if kind == "real" and not (given.data / "instruct").is_dir():
            print(f"skipped: no real data in {given.data}")
            continue
        one_corpus(kind, given, peers)


if __name__ == "__main__":
    main()
