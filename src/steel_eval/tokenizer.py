"""Tokenizers and their chat templates: loaded, told apart, with variables of the template set for good."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from steel_data.errors import InputError, first_line, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a hash of vocabulary, rules, special tokens and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else orjson.dumps(sorted(tokenizer.get_vocab().items())).decode()
    special = orjson.dumps({k: str(v) for k, v in sorted(tokenizer.special_tokens_map.items())}).decode()
    return hashlib.sha256("\0".join([rules, special, str(tokenizer.chat_template)]).encode()).hexdigest()[:32]


def load_tokenizer(*folders: Path, trust_remote_code: bool = False) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of the first folder that has one. Raises InputError where none has, or it cannot be read."""
    from transformers import AutoTokenizer

    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
    for folder in folders:
        if any((folder / n).is_file() for n in names):
            try:
                return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
            except Exception as error:  # every tokenizer class fails in its own way on files it does not know
                raise InputError(
                    f"{folder}: its tokenizer cannot be loaded: {first_line(error)}. Fix: --tokenizer of its base."
                ) from error
    raise InputError(
        f"{folders[0]}: no tokenizer beside the weights. Fix: tokenizer.json in the checkpoint's folder or its "
        "run's, or --tokenizer."
    )


def switched(tokenizer: "PreTrainedTokenizerBase", values: Mapping[str, Any]) -> "PreTrainedTokenizerBase":
    """Return the tokenizer with variables of its chat template set for good, as `chat_template_kwargs` would set them.

    In the template itself: so they are in its fingerprint, and whoever renders a prompt renders the same. Raises
    InputError for a variable that the template does not have.
    """
    if not values:
        return tokenizer
    template = tokenizer.chat_template
    if not template:
        raise InputError(
            f"{tokenizer.name_or_path}: no chat template, so nothing to set. Fix: without {', '.join(values)}."
        )
    words = set(re.findall(r"\w+", str(template)))
    for name in values:
        if name not in words or not name.isidentifier():
            raise InputError(
                f"--chat-template-kwargs: {tokenizer.name_or_path}: its chat template has no '{name}'."
                f"{nearest(name, words, show_known=False)}"
            )
    # what is printed, though nothing, keeps the template's own first line break
    head = "".join(f"{{% set {name} = {_literal(value)} %}}" for name, value in sorted(values.items())) + "{{ '' }}"
    if isinstance(template, dict):
        tokenizer.chat_template = {name: head + text for name, text in template.items()}
    else:
        tokenizer.chat_template = head + template
    return tokenizer


def _literal(value: Any) -> str:
    """Return a value of JSON as Jinja writes it. Raises InputError for inf and nan, which it would read as names."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"chat_template_kwargs: holds {value}. Fix: a finite number.")
    return json.dumps(value, ensure_ascii=False)  # JSON escapes an emoji as two halves, which Jinja does not join


def thinking_switch(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the variable by which a chat template opens or closes thoughts: that which changes what it renders.

    Raises InputError where it has none.
    """
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}, {"role": "user", "content": "?"}]
    for name in ("enable_thinking", "thinking"):
        if tokenizer.chat_template and name in str(tokenizer.chat_template):
            options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
            on, off = (tokenizer.apply_chat_template(turns, **options | {name: value}) for value in (True, False))
            if on != off:
                return name
    raise InputError(
        f"--thinking: the chat template of {tokenizer.name_or_path} has no switch for thoughts (enable_thinking, "
        "thinking). Fix: a model that has one, or --chat-template-kwargs with its own variable."
    )
