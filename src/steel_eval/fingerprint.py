"""What a result depends on, as hashes: contents, never names or paths.

A cache keyed by a path gives yesterday's answers for today's weights. Weights are hashed by xxh3-128 of the files'
bytes: fast enough to be read along with the weights, and nobody attacks their own results.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import xxhash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from steel_eval.prompts import Preset

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
# Keys of config.json that say nothing about what the model computes.
_VOLATILE = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "base_model_name_or_path"}
_CODE = ("plan.py", "scorer.py", "encode.py", "prompts.py", "generate.py")


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint folder, sorted; safetensors win over .bin."""
    for pattern in WEIGHT_FILES:
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def weights_fingerprint(folder: Path) -> str:
    """Return 32 hex digits over weights and the parts of the configuration that change what is computed."""
    digest = xxhash.xxh3_128()
    for name in ("config.json", "adapter_config.json"):
        if (folder / name).is_file():
            config = orjson.loads((folder / name).read_bytes())
            kept = {k: v for k, v in config.items() if k not in _VOLATILE}
            digest.update(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS))
    for file in weight_files(folder):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a hash of vocabulary, rules, special tokens and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else orjson.dumps(sorted(tokenizer.get_vocab().items())).decode()
    special = orjson.dumps({k: str(v) for k, v in sorted(tokenizer.special_tokens_map.items())}).decode()
    return _hash(rules, special, str(tokenizer.chat_template))


def prompt_fingerprint(preset: "Preset", shots: int) -> str:
    """Return a hash of everything a preset puts into a prompt."""
    fields = {name: getattr(preset, name) for name in preset.__dataclass_fields__}
    return _hash(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode(), str(shots))


@cache
def code_fingerprint() -> str:
    """Return a hash of the modules that turn questions into answers:

    results of other code are not taken for this code's.
    """
    here = Path(__file__).parent
    return _hash(*((here / name).read_text(encoding="utf-8") for name in _CODE if (here / name).is_file()))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
