"""Does every command end well on Ctrl-C at a random moment, and come through when it is given again?

    python bench/interrupt.py [--of build,score,…] [--times 3] [--seed 0] [--wait 5] [--folder DIR]

Writes small generated data, and does each command of `steel` once undisturbed: what it leaves, how long it takes, the
seconds and CPU-seconds to its first character. Then, each time from nothing, it is given in a terminal and in a pipe by
turns, in a session of its own, and Ctrl-C is pressed at a random moment (in the terminal as a key, in the pipe for all of
its processes, as a terminal does). It must end within `--wait` seconds with status 130, or 0 where it was done; say so in
one line that tells how to go on; leave no traceback, no process and nothing half-written; and given again leave, byte for
byte, what the undisturbed one left. Prints a line a command, then what was wrong. All but the commands of steel_data need
torch.
"""

import argparse
import fcntl
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from chaos import RECIPE, TRAIN, sha256, write

TRIAL = """
seeds = [1, 2, 3]
[source.b]
path = "part4.jsonl"
[trial]
source = "a"
tokens = 26000
arms = { longest = { by = "longest" } }
measure = { held_out = ["b"] }
"""
STARTS = 1.0  # seconds in which a command begins that says nothing yet
ENDS = re.compile(r"(interrupted|stopped by SIGINT and saved); run the same command again to go on|closed|ended")


@dataclass(frozen=True)
class Command:
    """A command of steel by the folder it writes to; the files there that must be the same; what ends it otherwise."""

    words: Callable[[Path], list[Any]]
    files: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()  # commands whose whole output it reads
    lasting: float = 0.0  # seconds after which one that waits for somebody is interrupted in the undisturbed run too
    once: bool = False  # refuses to be done again


@dataclass
class Run:
    """One run of a command: status, what it wrote, seconds from Ctrl-C to its end, and to its first character."""

    status: int
    said: str
    seconds: float
    ended: float
    first: float
    first_cpu: float
    left: list[str]


def commands(folder: Path, hub: str) -> dict[str, Command]:
    """Return the commands by name; `folder` holds what `write` wrote."""
    root = ["--data-root", folder]
    data = ["--data", folder]
    mixture, trained = folder / "build-whole/mixture", folder / "train-whole"
    scored, adapter = folder / "score-whole", folder / "train-lora-whole"
    last = trained / "checkpoints"

    def build(*more: Any) -> Command:
        return Command(
            lambda out: ["build", folder / "r.toml", *root, "--out", out / "mixture", *more], ("mixture/**/*",)
        )

    def lora() -> Path:
        model = f'model = "{checkpoint(trained)}"\nmethod = "lora"\nlora = {{ rank = 4 }}\n'
        (folder / "lora.toml").write_text(RECIPE.replace("part*", "part0") + re.sub(r"model = \{.*\}\n", model, TRAIN))
        return folder / "lora.toml"

    def checkpoint(of: Path) -> Path:
        return max((of / "checkpoints").glob("step-*"))

    return {
        "build": build("--workers", 1),
        "build-2": build("--workers", 2),
        "plan": Command(lambda out: ["plan", folder / "r.toml", *root, "--cache", out / "cache"]),
        "plan-exact": Command(lambda out: ["plan", folder / "r.toml", *root, "--cache", out / "cache", "--exact", "--workers", 2]),
        "analyze": Command(lambda out: ["analyze", folder / "part0.jsonl", folder / "part1.jsonl", *root, "--recipe", out / "mine.toml", "--force"], ("mine.toml",)),
        "recipes": Command(lambda out: ["recipes"]),
        "check": Command(lambda out: ["check", mixture], needs=("build",)),
        "show": Command(lambda out: ["show", mixture, "-n", 2000], needs=("build",)),
        "why": Command(lambda out: ["why", mixture, "part0.jsonl:3"], needs=("build",)),
        "diff": Command(lambda out: ["diff", mixture, folder / "train.toml", *root, "--cache", out / "cache"], needs=("build",)),
        "export": Command(lambda out: ["export", mixture, "--to", "llamafactory", "--out", out / "there"], ("there/*",), ("build",)),
        "sample": Command(lambda out: ["sample", out / "s", "--scale", 0.2], ("s/**/*",)),
        "fetch": Command(lambda out: ["fetch", "cmmlu", "--data-root", out], lasting=3),
        "train": Command(lambda out: ["train", folder / "train.toml", *root, "--out", out], ("checkpoints/*/*.safetensors", "mixture/manifest.json")),
        "train-lora": Command(lambda out: ["train", lora(), *root, "--out", out], ("checkpoints/*/*.safetensors",), ("train",)),
        "encode": Command(lambda out: ["encode", folder / "train.toml", *root, "--out", out, "--workers", 2], ("examples/*",)),
        "preflight": Command(lambda out: ["preflight", folder / "train.toml", *root, "--out", out]),
        "merge": Command(lambda out: ["merge", checkpoint(adapter), "--out", out / "merged"], ("merged/*",), ("train-lora",)),
        "score": Command(lambda out: ["score", trained, "--tasks", "cmmlu,ceval", *data, "--shots", 1, "--out", out], ("*/scores.json", "*/answers.parquet", "curve.json"), ("train",)),
        "score-showcase": Command(lambda out: ["score", checkpoint(trained), "--tasks", "cmmlu", *data, "--preset", "ceval-cot", "--max-new-tokens", 16, "--limit", 4, "--showcase", "--out", out], ("answers.parquet",), ("train",)),
        "compare": Command(lambda out: ["compare", f"a={scored}", f"b={scored}", "--out", out / "tests.json"], ("tests.json",), ("score",)),
        "check-scores": Command(lambda out: ["check-scores", scored], needs=("score",)),
        "power": Command(lambda out: ["power"]),
        "report": Command(lambda out: ["report", scored, *data, "--mixture", trained / "mixture", "--out", out / "report.html"], ("report.html",), ("score",)),
        "leak": Command(lambda out: ["leak", max(last.glob("step-*")), "--base", min(last.glob("step-*")), "--tasks", "cmmlu", *data, "--control", "ceval", "--permute", 20, "--out", out], ("leak.json",), ("train",)),
        "twins": Command(lambda out: ["twins", "cmmlu", "--out", out / "twins", *data, "--seed", 3], ("twins/*",), once=True),
        "audit": Command(lambda out: ["audit", scored, "--tasks", "cmmlu,ceval", *data, "--out", out], ("audit.json",), ("score",)),
        "rate": Command(lambda out: ["rate", folder / "rated.toml", "--by", "perplexity", "--model", checkpoint(trained), *root, "--out", out / "mixture", "--cache", out / "cache"], needs=("train",)),
        "mix": Command(lambda out: ["mix", folder / "mix.toml", *data, "--out", out], ("surface.json",)),
        "mix-2": Command(lambda out: ["mix", folder / "mix.toml", *data, "--out", out, "--workers", 2], ("surface.json",)),
        "trial": Command(lambda out: ["trial", folder / "trial.toml", *data, "--out", out], ("trial.json",)),
        "study": Command(lambda out: ["study", folder / "study.toml", *data, "--out", out], ("study.json", "rates.json")),
        "study-2": Command(lambda out: ["study", folder / "study.toml", *data, "--out", out, "--workers", 2], ("study.json", "rates.json")),
        "init": Command(lambda out: ["init", out / "mine.toml", "--data", folder / "part0.jsonl", "--yes", "--force"], ("mine.toml",)),
        "env": Command(lambda out: ["env"]),
        "ui": Command(lambda out: ["ui", folder, "--port", 0], lasting=4, needs=("build",)),
        "chat": Command(lambda out: ["chat", trained], needs=("train",), lasting=12),
        "export-model": Command(lambda out: ["export-model", checkpoint(adapter), "--to", "merged", "--out", out / "whole"], ("whole/*",), ("train-lora",), once=True),
        "push": Command(lambda out: ["push", mixture, "--repo", "me/mine", "--yes"], needs=("build",), lasting=6),
    }  # fmt: skip


def recipes(folder: Path) -> None:
    """Write the recipes that chaos.py has not."""
    small = RECIPE.replace("part*", "part0")
    (folder / "trial.toml").write_text(small + TRAIN + TRIAL)
    rated = small + 'select = { by = "perplexity", rows = 100 }\n'
    (folder / "rated.toml").write_text(rated)


class Slow(BaseHTTPRequestHandler):
    """A hub that begins to answer and goes on for ever."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Give a byte now and then."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        try:
            for _ in range(10_000):
                self.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            pass

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing."""


def given(words: list[Any], environment: dict[str, str], terminal: bool, press: float | None) -> Run:
    """Give a command in a session of its own and return what came of it.

    press: seconds after its first character, or after STARTS, after which Ctrl-C is pressed; before that Python itself
    starts, and tells Ctrl-C in its own way.
    """
    inner, outer = pty.openpty() if terminal else (None, None)
    out = outer if terminal else subprocess.PIPE
    lines = "你好\n" * 50 if words[0] == "chat" else ""

    def its_own() -> None:
        os.setsid()
        # a process that was started in the background does not hear Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if outer is not None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "steel", *map(str, words)], env=environment, preexec_fn=its_own,
        stdin=outer if terminal else subprocess.PIPE, stdout=out, stderr=out if terminal else subprocess.STDOUT,
    )  # fmt: skip
    if terminal:
        os.close(outer)
        reading, writing = inner, inner
    else:
        reading, writing = process.stdout.fileno(), process.stdin.fileno()
    said: list[bytes] = []
    first: list[float] = []

    def read() -> None:
        try:
            while part := os.read(reading, 65536):
                if not first:
                    first.extend((time.monotonic() - began, _cpu(process.pid)))
                said.append(part)
        except OSError:  # the end, of a terminal
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    if lines:
        os.write(writing, lines.encode())
    pressed = None
    while press is not None and not first and process.poll() is None and time.monotonic() - began < STARTS:
        time.sleep(0.01)
    try:
        process.wait(press)
    except subprocess.TimeoutExpired:
        pressed = time.monotonic()
        if terminal:
            os.write(writing, b"\x03")
        else:
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    ended = time.monotonic()
    time.sleep(0.3)
    left = _session(process.pid)
    for one in left:
        one.kill()
    reader.join(2)
    if terminal:
        os.close(inner)
    else:
        process.stdin.close()
        process.stdout.close()
    text = b"".join(said).decode(errors="replace")
    return Run(
        process.returncode, text, ended - began, ended - pressed if pressed else 0.0, *(first or (0.0, 0.0)),
        [" ".join(one.cmdline())[:80] for one in left if one.is_running()],
    )  # fmt: skip


def _cpu(process: int) -> float:
    try:
        times = psutil.Process(process).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _session(leader: int) -> list[psutil.Process]:
    """Return the processes of a session that are still there."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def faults(run: Run, out: Path, wait: float) -> list[str]:
    """Return what is wrong with how a command ended after Ctrl-C."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run.said).replace("\r", "\n")
    ends = [line for line in text.splitlines() if ENDS.fullmatch(line.removeprefix("^C").strip())]
    found = []
    if run.ended > wait:
        found.append(f"took {run.ended:.1f} s to end")
    done = run.status == -signal.SIGINT and not ends  # all was done, and Python itself was at its end
    if run.status not in (0, 130) and not done:
        found.append(f"status {run.status}")
    if "Traceback" in text or "Exception ignored" in text or "Error" in text:
        found.append("traceback")
    if run.status != 0 and not done and len(ends) != 1:
        found.append(f"{len(ends)} lines say that it ended")
    if run.left:
        found.append(f"left {run.left}")
    half = [
        p.name
        for p in out.rglob("*")
        if p.name.endswith((".new", ".old", ".tmp")) or p.name.startswith((".steel-", ".gguf-"))
    ]
    if half:
        found.append(f"half-written {half[:3]}")
    if found:
        found.append("said: " + repr(text.strip()[-600:]))
    return found


def tried(name: str, command: Command, folder: Path, environment: dict[str, str], args: argparse.Namespace) -> int:
    """Try one command so many times; print its line, then what was wrong. Return how often something was."""
    rng = random.Random(f"{args.seed}/{name}")
    whole = folder / f"{name}-whole"
    shutil.rmtree(whole, ignore_errors=True)
    alone = given(command.words(whole), environment, True, command.lasting or None)
    if alone.status and not command.lasting:
        print(f"{name}: the undisturbed run failed: {alone.said[-600:]}", flush=True)
        return 1
    expected, length = sha256(whole, command.files), command.lasting or alone.seconds - alone.first
    wrong: list[str] = []
    slowest, done = 0.0, 0
    for number in range(args.times):
        out, terminal = folder / f"{name}-{number}", number % 2 == 0
        press = rng.uniform(0, length)
        run = given(command.words(out), environment, terminal, press)
        slowest, done = max(slowest, run.ended), done + (run.status in (0, -signal.SIGINT))
        found = faults(run, out, args.wait)
        if not command.lasting and not (command.once and run.status != 130):
            again = given(command.words(out), environment, False, None)
            if again.status or sha256(out, command.files) != expected:
                found.append(
                    f"given again: status {again.status}, {again.said.strip()[-300:]!r}"
                    if again.status
                    else "another result"
                )
        if found:
            wrong.append(
                f"  {name} {number} ({'terminal' if terminal else 'pipe'}, {press:.2f} of {length:.2f} s): {'; '.join(found)}"
            )
        shutil.rmtree(out, ignore_errors=True)
    print(
        f"{name:<16}{alone.first:>7.2f}{alone.first_cpu:>8.2f}{length:>8.1f}{args.times:>7}{done:>7}{slowest:>9.1f}{len(wrong):>7}",
        *wrong, sep="\n", flush=True,
    )  # fmt: skip
    return len(wrong)


def main() -> None:
    """Write, try each command, and fail where one did not end well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", default="", help="which commands, with commas; by default all")
    parser.add_argument("--times", type=int, default=3, help="of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wait", type=float, default=5.0, help="seconds that it may take to end")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    wrong = 0
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        folder = Path(made)
        write(folder, random.Random(args.seed))
        recipes(folder)
        endpoint = f"http://127.0.0.1:{hub.server_port}"
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_none", "HF_HOME": str(folder / "hf"),
            "COLUMNS": "100",
        }  # fmt: skip
        known = commands(folder, endpoint)
        print(
            f"{'':<16}{'first':>7}{'its CPU':>8}{'whole':>8}{'times':>7}{'done':>7}{'slowest':>9}{'wrong':>7}",
            flush=True,
        )
        chosen = args.of.split(",") if args.of else list(known)
        there: set[str] = set()

        def needed(name: str) -> None:
            for before in known[name].needs:
                if before not in there:
                    needed(before)
                    given(known[before].words(folder / f"{before}-whole"), environment, False, None)
                    there.add(before)

        for name in chosen:
            needed(name)
            wrong += tried(name, known[name], folder, environment, args)
            there.add(name)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
