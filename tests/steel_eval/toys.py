"""Toy tokenizer, two-layer models and small benchmark trees."""

import csv
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "以下是关于农学的单项选择题，请直接给出正确答案的选项。",
    "以下是中国关于法学的单项选择题，请选出其中的正确答案。",
    "题目：水稻的最适温度是多少？\nA. 二十度\nB. 三十度\nC. 四十度\nD. 五十度\n答案： A\n\n答案：B 答案是：C",
    "以下是一道单选题:\n甲公司向乙公司购买货物\n\nA. 有效\nB. 无效\nC. 可撤销\nD. 效力待定\n请给出答案。\n",
]


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with a few merges, so that a letter and the blank before it become one token."""
    inner = Tokenizer(BPE())
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    inner.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=420, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    inner.train_from_iterator(CORPUS * 20 + [" A B C D"] * 50, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHAT
    return fast


def model(vocabulary: int = 420, seed: int = 0, **changes) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = {
        "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, "initializer_range": 0.2,
        "tie_word_embeddings": True,
    } | changes  # fmt: skip
    return Qwen2ForCausalLM(Qwen2Config(**config)).eval()


def save(folder: Path, seed: int = 0, **changes) -> Path:
    words = tokenizer()
    model(len(words), seed, **changes).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def row(i: int, answer: str, question: str = "") -> list[str]:
    return [
        str(i),
        question or f"第{i}题，下列说法{'不' * (i % 2)}正确的是____。",
        f"甲{i}",
        f"乙{i * 7}",
        f"丙{i}，丁",
        f"戊{'己' * (i % 3)}",
        answer,
    ]


def write_csv(file: Path, header: list[str], rows: list[list[str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def without_key(*files: Path) -> None:
    """Take the answers out of csv tables, as C-Eval's test split was until July 2025."""
    for file in files:
        with file.open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
        key = [name.lower() for name in header].index("answer")
        write_csv(file, header[:key] + header[key + 1 :], [row[:key] + row[key + 1 :] for row in rows])


def benchmarks(root: Path, n: int = 12) -> Path:
    """A CMMLU and a C-Eval tree of two subjects each, in their published layouts."""
    for subject in ("agronomy", "ethnology"):
        header = ["", "Question", "A", "B", "C", "D", "Answer"]
        write_csv(root / "cmmlu/test" / f"{subject}.csv", header, [row(i, "ABCD"[i * 3 % 4]) for i in range(n)])
        write_csv(root / "cmmlu/dev" / f"{subject}.csv", header, [row(100 + i, "ABCD"[i % 4]) for i in range(5)])
    for subject in ("law", "college_physics"):
        header = ["id", "question", "A", "B", "C", "D", "answer"]
        write_csv(root / "ceval/val" / f"{subject}_val.csv", header, [row(i, "ABCD"[i % 4]) for i in range(n)])
        write_csv(root / "ceval/test" / f"{subject}_test.csv", header, [row(50 + i, "ABCD"[i % 4]) for i in range(n)])
        shots = [[*row(200 + i, "ABCD"[i % 4]), f"1. 解析{i}。"] for i in range(5)]
        write_csv(root / "ceval/dev" / f"{subject}_dev.csv", [*header, "explanation"], shots)
    return root
