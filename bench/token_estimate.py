"""How far is the token estimate from a real tokenizer?  `python bench/token_estimate.py --ranks qwen.tiktoken [--fit]`

Needs `pip install tiktoken` and a rank file, such as `dashscope/resources/qwen.tiktoken` in the wheel `dashscope` (Qwen's
vocabulary of 151,643 tokens, the one of Qwen1.5 to Qwen2.5). Prints the error by source, on every second row; --fit prints weights
fitted anew to the other rows.
"""

import argparse
import base64
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from curation_steps import SHARED, rows_by_file

from steel_data.benchmarks.index import TURN
from steel_data.row.text import BORDER, TextBatch
from steel_data.row.tokens import ESTIMATE, WEIGHTS, class_pairs, estimate

# Qwen's pre-tokenizer (tokenization_qwen.py of Qwen-7B, tokenizer.json of Qwen2)
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
RIDGE = 30.0


def sources(data: Path) -> dict[str, list[str]]:
    """Return real texts by source."""
    rows = {name: [t.replace(TURN, "\n") for t in texts] for name, texts in rows_by_file(data).items()}
    for file in sorted((data / "exam").glob("*.jsonl")):
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        fields = ("q_main", "option_a", "option_b", "option_c", "option_d", "std_ans", "answer_detail")
        rows[file.name] = ["\n".join(str(row[f]) for f in fields if row.get(f)) for row in lines]
    lines = (data / "ruozhiba" / "ruozhiba_qa_half.jsonl").read_text(encoding="utf-8").splitlines()
    rows["ruozhiba_qa_half.jsonl"] = ["\n".join(json.loads(x)[k] for k in ("instruction", "output")) for x in lines]
    lines = (data / "instruct" / "ja_jcommonsenseqa_valid.json").read_text(encoding="utf-8").splitlines()
    rows["ja_jcommonsenseqa_valid.json"] = ["\n".join(map(str, json.loads(x).values())) for x in lines]
    lid = [x.split("\t") for x in (data / "lid" / "lid_eval.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    for label in ("ko", "yue"):
        rows[f"lid_eval.tsv, {label}"] = [x[2] for x in lid if x[0] == label]
    rows["lid_eval.tsv, others"] = [x[2] for x in lid if x[0] not in ("zh", "en", "ja", "ko", "yue", "mixed-zh-en")]
    return rows


def features(texts: list[str]) -> npt.NDArray[np.float64]:
    """Return how often each pair of classes stands in each text, shape (texts, places in WEIGHTS)."""
    batch = TextBatch(texts)
    many = len(WEIGHTS) ** 2
    row = np.repeat(np.arange(batch.rows), batch.end_R + 1 - batch.start_R)
    counts = np.bincount(row * many + class_pairs(batch), minlength=batch.rows * many).reshape(batch.rows, many)
    counts[:, BORDER :: len(WEIGHTS)] = 0
    return counts.astype(np.float64)


def fit(rows: dict[str, list[str]], real: dict[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.int64]:
    """Return the weights in hundredths: least squares without negative ones, on every second row.

    A row weighs 1 / sqrt(its tokens), a source 1 / sqrt(its tokens), so that neither long rows nor large files decide
    alone. A ridge draws pairs that are rare towards the weight of their class.
    """
    from scipy.optimize import nnls

    xs, ys = [], []
    for name, texts in rows.items():
        counted = real[name][::2]
        scale = 300 / np.sqrt(np.maximum(counted, 1) * max(counted.sum(), 30_000))
        xs.append(features(texts[::2]) * scale[:, None])
        ys.append(counted * scale)
    x, y, size = np.vstack(xs), np.concatenate(ys), len(WEIGHTS)
    by_class, _ = nnls(x.reshape(len(x), size, size).sum(1), y)
    ridge = np.sqrt(RIDGE) * np.eye(size * size)
    weights, _ = nnls(np.vstack([x, ridge]), np.concatenate([y, np.sqrt(RIDGE) * np.tile(by_class, size)]))
    weights = weights.reshape(size, size)
    weights[:, BORDER] = weights[BORDER] = 0
    return np.round(100 * weights).astype(np.int64)


def table(rows: dict[str, list[str]], real: dict[str, npt.NDArray[np.float64]]) -> None:
    print(f"{'source':56s} {'rows':>6s} {'tokens':>10s} {'total off':>10s} {'row off, median':>16s} {'90 %':>7s}")
    for name, texts in rows.items():  # the rows that no weight was fitted to
        counted, guessed = real[name][1::2], estimate(texts[1::2]).astype(float)
        off = np.abs(guessed - counted) / np.maximum(counted, 1)
        print(
            f"{name:56s} {len(counted):6,d} {int(counted.sum()):10,d} {guessed.sum() / counted.sum() - 1:+10.1%} "
            f"{np.median(off):16.1%} {np.quantile(off, 0.9):7.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=Path, help="a tiktoken rank file of Qwen")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--fit", action="store_true", help="fit the weights anew")
    options = parser.parse_args()
    if options.ranks is None or not (options.data / "instruct").is_dir():
        print("skipped: needs --ranks qwen.tiktoken (see --help) and the real data")
        return
    import tiktoken

    lines = options.ranks.read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    encoding = tiktoken.Encoding("qwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    rows = sources(options.data)
    real = {k: np.array([len(encoding.encode_ordinary(t)) for t in texts], np.float64) for k, texts in rows.items()}
    print(f"{len(ranks):,} ranks; {ESTIMATE}")
    table(rows, real)
    if options.fit:
        for line in fit(rows, real).tolist():
            print(f"    ({', '.join(map(str, line))}),")


if __name__ == "__main__":
    main()
