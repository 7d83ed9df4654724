"""datatrove's four steps over one file; runs in datatrove's own virtual environment (`make bench-peers`), not in ours.

    python datatrove_steps.py texts.jsonl items.jsonl OUT --model lid.176.ftz [--apart]

As few passes as datatrove's design allows: language, decontamination and the exact signature share one, the exact filter and the
MinHash signature another. One process, so that every import and jieba's dictionary are paid for once. Its own defaults (language
threshold 0.65, 12-grams, 14 buckets of 8, 5-grams of words), with its Chinese tokenizer (spaCy + jieba). The one change: its indexer
imports lighteval even for one's own items, which is left out here. Prints the CPU seconds of each pass as JSON.

With --apart each of the four steps reads and writes for itself, through datatrove's LocalPipelineExecutor with two tasks and two workers,
as its examples do; the CPU seconds are then of the whole process tree.
"""

import argparse
import json
import os
import time
from collections import deque
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
from datatrove.pipeline.dedup.exact_dedup import (
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
)
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.filters import LanguageFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.lid import FT176LID

CHINESE = "cmn"


def content(document: Document) -> str:
    return document.text


class LocalModel(FT176LID):
    """lid.176 from a local file; datatrove knows its address on the net only."""

    path = ""

    @property
    def model(self):
        if self._model is None:
            from fasttext.FastText import _FastText

            self._model = _FastText(self.path)
        return self._model


class OwnItems(NGramsDecontIndexer):
    """The indexer without its import of lighteval, which it needs for lighteval's tasks only."""

    def __new__(cls, *_args, **_kwargs):
        return object.__new__(cls)  # a step's __new__ looks whether what it requires, and what its parents do, is there

    def write(self, items: Path) -> None:
        hashes = set()
        for line in items.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            hashes.update(self.compute_hashes("\n".join(item["options"]), item["question"]))
        array = np.array(list(hashes), dtype=self.config.hash_config.np_descr)
        with self.output_folder.open("items.index.hashes", mode="wb") as file:
            array.tofile(file)


def language_filter(model: str, dropped: JsonlWriter | None) -> LanguageFilter:
    step = LanguageFilter(["zh", "en"], exclusion_writer=dropped)
    step.model = LocalModel(["zh", "en"])
    step.model.path = model
    return step


class Steps:
    """What the passes are made of; each call makes a new step."""

    def __init__(self, out: str, model: str) -> None:
        self.out, self.model = out, model
        self.decont = NGramsDecontConfig(find_query_ngrams=True)
        self.exact = ExactDedupConfig(content_getter=content)
        self.near = MinhashConfig()

    def reader(self, folder: str, pattern: str | None = None) -> JsonlReader:
        return JsonlReader(folder, glob_pattern=pattern, text_key="text", id_key="id")

    def writer(self, folder: str) -> JsonlWriter:
        return JsonlWriter(f"{self.out}/{folder}", compression=None)

    def index(self, items: Path) -> None:
        OwnItems(f"{self.out}/index", config=self.decont, language=CHINESE).write(items)

    def language(self) -> LanguageFilter:
        return language_filter(self.model, self.writer("dropped/language"))

    def decontaminate(self) -> NGramsDecontFilter:
        return NGramsDecontFilter(f"{self.out}/index", self.decont, self.writer("dropped/decontaminate"), CHINESE)

    def exact_sign(self) -> ExactDedupSignature:
        return ExactDedupSignature(f"{self.out}/exact-sig", self.exact)

    def exact_find(self) -> ExactFindDedups:
        return ExactFindDedups(f"{self.out}/exact-sig", f"{self.out}/exact-dups", self.exact)

    def exact_filter(self) -> ExactDedupFilter:
        return ExactDedupFilter(f"{self.out}/exact-dups", self.exact, self.writer("dropped/exact"))

    def near_sign(self) -> MinhashDedupSignature:
        return MinhashDedupSignature(f"{self.out}/near-sig", self.near, CHINESE)

    def near_buckets(self) -> MinhashDedupBuckets:
        return MinhashDedupBuckets(f"{self.out}/near-sig", f"{self.out}/near-buckets", config=self.near)

    def near_cluster(self) -> MinhashDedupCluster:
        return MinhashDedupCluster(f"{self.out}/near-buckets", f"{self.out}/near-remove", self.near)

    def near_filter(self) -> MinhashDedupFilter:
        return MinhashDedupFilter(f"{self.out}/near-remove", self.writer("dropped/near"))


def fused(given: argparse.Namespace) -> dict[str, float]:
    make, out = Steps(str(given.out), given.model), str(given.out)
    rows = make.reader(str(given.rows.parent), given.rows.name)
    passes = {
        "language + decontaminate": lambda: [
            rows, make.language(), make.decontaminate(), make.writer("a"), make.exact_sign(),
        ],
        "exact, find": lambda: [make.exact_find()],
        "exact, filter + near, sign": lambda: [
            make.reader(f"{out}/a"), make.exact_filter(), make.writer("b"), make.near_sign(),
        ],
        "near, buckets": lambda: [make.near_buckets()],
        "near, cluster": lambda: [make.near_cluster()],
        "near, filter": lambda: [make.reader(f"{out}/b"), make.near_filter(), make.writer("kept")],
    }  # fmt: skip
    seconds = {"imports": time.process_time()}
    make.index(given.items)
    seconds["index"] = time.process_time() - sum(seconds.values())
    for name, steps in passes.items():
        run(steps(), make.near.num_buckets if name == "near, buckets" else 1)
        seconds[name] = time.process_time() - sum(seconds.values())
    return seconds


def apart(given: argparse.Namespace) -> dict[str, float]:
    make, out = Steps(str(given.out), given.model), str(given.out)
    lines = given.rows.read_bytes().splitlines(keepends=True)
    (given.out / "in").mkdir(parents=True)
    for i in range(2):
        (given.out / f"in/{i}.jsonl").write_bytes(b"".join(lines[i * len(lines) // 2 : (i + 1) * len(lines) // 2]))
    seconds: dict[str, float] = {}

    def execute(name: str, steps: list, tasks: int = 2) -> None:
        logs = f"{out}/logs/{name}"
        # spawn, not its forkserver: that one's workers are nobody's children, and their CPU time would not be counted
        LocalPipelineExecutor(steps, tasks, min(2, tasks), logging_dir=logs, start_method="spawn").run()
        seconds[name] = sum(os.times()[:4]) - sum(seconds.values())

    seconds["imports"] = sum(os.times()[:4])
    execute("language", [make.reader(f"{out}/in"), make.language(), make.writer("language")])
    execute("exact, sign", [make.reader(f"{out}/language"), make.exact_sign()])
    execute("exact, find", [make.exact_find()], 1)
    execute("exact, filter", [make.reader(f"{out}/language"), make.exact_filter(), make.writer("exact")])
    execute("near, sign", [make.reader(f"{out}/exact"), make.near_sign()])
    execute("near, buckets", [make.near_buckets()], make.near.num_buckets)
    execute("near, cluster", [make.near_cluster()], 1)
    execute("near, filter", [make.reader(f"{out}/exact"), make.near_filter(), make.writer("near")])
    make.index(given.items)
    seconds["index"] = sum(os.times()[:4]) - sum(seconds.values())
    execute("decontaminate", [make.reader(f"{out}/near"), make.decontaminate(), make.writer("kept")])
    return seconds


def run(steps: list, tasks: int) -> None:
    """Run a pipeline's tasks one after another, as the local executor's worker does.

    The executor itself cannot be used twice in a process: it copies the steps, and a loaded spaCy cannot be copied.
    """
    for rank in range(tasks):
        data = None
        for step in steps:
            data = step(data, rank, tasks)
        deque(data or (), maxlen=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("items", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--apart", action="store_true")
    given = parser.parse_args()
    seconds = apart(given) if given.apart else fused(given)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
