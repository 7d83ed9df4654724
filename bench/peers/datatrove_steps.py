"""datatrove's four steps over one file; runs in datatrove's own virtual environment (`make bench-peers`), not in ours.

    python datatrove_steps.py texts.jsonl items.jsonl OUT --model lid.176.ftz

As few passes as datatrove's design allows: language, decontamination and the exact signature share one, the exact filter and the
MinHash signature another. One process, so that every import and jieba's dictionary are paid for once. Its own defaults (language
threshold 0.65, 12-grams, 14 buckets of 8, 5-grams of words), with its Chinese tokenizer (spaCy + jieba). The one change: its indexer
imports lighteval even for one's own items, which is left out here. Prints the CPU seconds of each pass as JSON.
"""

import argparse
import json
import time
from collections import deque
from pathlib import Path

import numpy as np
from datatrove.data import Document
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


def passes(given: argparse.Namespace) -> dict:
    out = given.out
    decont = NGramsDecontConfig(find_query_ngrams=True)
    exact = ExactDedupConfig(content_getter=content)
    near = MinhashConfig()
    language = LanguageFilter(["zh", "en"], exclusion_writer=JsonlWriter(f"{out}/dropped/language", compression=None))
    language.model = LocalModel(["zh", "en"])
    LocalModel.path = given.model

    def reader(folder: str) -> JsonlReader:
        return JsonlReader(f"{out}/{folder}", text_key="text", id_key="id")

    def writer(folder: str) -> JsonlWriter:
        return JsonlWriter(f"{out}/{folder}", compression=None)

    return {
        "index": lambda: OwnItems(f"{out}/index", config=decont, language=CHINESE).write(given.items),
        "language + decontaminate": [
            JsonlReader(str(given.rows.parent), glob_pattern=given.rows.name, text_key="text", id_key="id"),
            language,
            NGramsDecontFilter(f"{out}/index", decont, writer("dropped/decontaminate"), CHINESE),
            writer("a"),
            ExactDedupSignature(f"{out}/exact-sig", exact),
        ],
        "exact, find": [ExactFindDedups(f"{out}/exact-sig", f"{out}/exact-dups", exact)],
        "exact, filter + near, sign": [
            reader("a"),
            ExactDedupFilter(f"{out}/exact-dups", exact, writer("dropped/exact")),
            writer("b"),
            MinhashDedupSignature(f"{out}/near-sig", near, CHINESE),
        ],
        "near, buckets": [MinhashDedupBuckets(f"{out}/near-sig", f"{out}/near-buckets", config=near)],
        "near, cluster": [MinhashDedupCluster(f"{out}/near-buckets", f"{out}/near-remove", near)],
        "near, filter": [
            reader("b"),
            MinhashDedupFilter(f"{out}/near-remove", writer("dropped/near")),
            writer("kept"),
        ],
    }


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
    given = parser.parse_args()
    seconds = {"imports": time.process_time()}
    for name, steps in passes(given).items():
        before = time.process_time()
        if callable(steps):
            steps()
        else:
            run(steps, MinhashConfig().num_buckets if name == "near, buckets" else 1)
        seconds[name] = time.process_time() - before
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
