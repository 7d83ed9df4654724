"""Answers to a few fixed prompts: what a checkpoint says, beside what it scores. (apart: no score depends on it)"""

import tomllib
from pathlib import Path

import orjson

from steel_data.files import atomic_write
from steel_eval.ask.encode import encode_texts
from steel_eval.models import Loaded
from steel_eval.score.generate import write

NEW_TOKENS = 160


def write_showcase(folder: Path, loaded: Loaded, generator: str, padding: bool) -> None:
    """Write showcase.json: kind, prompt, answer.

    A model without chat template gets the bare text, and the file says so.
    """
    prompts = tomllib.loads(Path(__file__).with_name("showcase.toml").read_text(encoding="utf-8"))["prompt"]
    chat = bool(loaded.tokenizer.chat_template)
    texts = [_rendered(loaded, p["text"]) if chat else p["text"] for p in prompts]
    ids = encode_texts(loaded.tokenizer, texts, special=not chat)
    room = max(1, loaded.max_length - NEW_TOKENS)
    written = write([row[-room:] for row in ids], loaded, min(NEW_TOKENS, loaded.max_length // 2), generator, padding)
    rows = [
        {"kind": p["kind"], "prompt": p["text"], "answer": text, "finished": finished, "chat": chat}
        for p, (text, finished) in zip(prompts, written, strict=True)
    ]
    atomic_write(folder / "showcase.json", orjson.dumps(rows, option=orjson.OPT_INDENT_2))


def _rendered(loaded: Loaded, text: str) -> str:
    turns = [{"role": "user", "content": text}]
    return str(loaded.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
