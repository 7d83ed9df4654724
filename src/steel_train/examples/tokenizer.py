"""The tokenizer of a run: found or trained, its template, its end tokens, and a pad token that is none of them."""

import copy
import datetime
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from steel_data.errors import InputError, first_line, nearest
from steel_data.files import address
from steel_data.row.record import Message
from steel_train.examples.template import Render

CHATML = """{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
_CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# What a template that asks for the date of today gets: the same recipe makes the same tokens on another day.
TODAY = datetime.date(2026, 1, 1)
_DATE = re.compile(r"""strftime_now\s*\(\s*(['"])([^'"]*)\1\s*\)""")
_GIVEN = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "strftime_now")
_PAD_NAMES = (
    "<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<|endoftext|>", "<|end_of_text|>",
    "<unk>",
)  # fmt: skip


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Train a byte-level BPE with ChatML on `texts` and save it in `folder` (transformers' layout).

    Deterministic: ties between merges are broken by the library in a fixed way.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocab_size < 300:
        raise InputError(f"[train] model: vocab_size = {vocab_size} has no room for 256 bytes. Fix: at least 300.")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_CHATML_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


def load_tokenizer(name: str, where: str) -> Any:
    """Load a tokenizer from a folder or the hub. Raises InputError; slow tokenizers (no offsets) are refused."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)  # else it would ask on the terminal
    except Exception as error:
        raise InputError(
            f"{where}: the tokenizer of '{name}' cannot be loaded: {first_line(error)}. Fix: a folder with "
            "tokenizer.json, or a hub id that can be reached (HF_ENDPOINT names a mirror)."
        ) from None
    if not tokenizer.is_fast:
        raise InputError(
            f"{where}: '{name}' has no tokenizer.json, so tokens have no place in the text. Fix: convert it."
        )
    # rows are cut and padded by us
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def add_tokens(tokenizer: Any, plain: list[str], special: list[str], where: str) -> None:
    """Give the tokenizer new tokens, at the end of its vocabulary. Raises InputError for one that it has."""
    from transformers import AddedToken

    vocabulary = tokenizer.get_vocab()
    for token in (*plain, *special):
        if token in vocabulary:
            raise InputError(
                f"{where}: new token '{token}' is in the vocabulary already (id {vocabulary[token]}). Fix: without it."
            )
    # as they are written, whatever the tokenizer does to other text
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in plain])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in special], special_tokens=True)


def tokenizer_sha256(tokenizer: Any) -> str:
    """Return what decides how messages become ids: vocabulary and rules, chat template, special tokens."""
    return address(tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, tokenizer.special_tokens_map)


def settle(
    tokenizer: Any,
    chat_template: str | None,
    recipe: Path,
    variables: dict[str, Any] | None = None,
    optional: bool = False,
) -> None:
    """Give the tokenizer its chat template, with `variables` set, and a pad token that ends no turn.

    Raises InputError without a template, unless that is `optional`, and for a variable that it does not know.
    """
    if chat_template is not None:
        tokenizer.chat_template = _read_template(tokenizer, chat_template, recipe)
    if not tokenizer.chat_template and not optional:
        raise InputError(
            f'{recipe} [train]: the tokenizer has no chat template. Fix: chat_template = "chatml", a Jinja file, or '
            "the tokenizer of an instruct model."
        )
    for name in variables or {}:
        _check_variable(name, tokenizer.chat_template or "", recipe)
    if tokenizer.chat_template:
        tokenizer.chat_template = with_variables(tokenizer.chat_template, variables or {})
    ends = {tokenizer.convert_tokens_to_ids(token) for token in end_tokens(tokenizer)}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in ends:
        tokenizer.pad_token = _pad_token(tokenizer, ends)


def _check_variable(name: str, template: str, recipe: Path) -> None:
    where = f"{recipe} [train] chat_template_kwargs"
    if name in _GIVEN or not name.isidentifier():
        raise InputError(f"{where}: '{name}' cannot be set. Fix: a variable of the chat template.")
    closed = template[: max(template.rfind("}}"), template.rfind("%}")) + 2]  # behind that nothing is to be found
    code = " ".join(re.findall(r"\{[{%](.*?)[}%]\}", closed, re.DOTALL))
    known = set(re.findall(r"(?<![.\w'\"])[A-Za-z_]\w*(?![\w'\"])", code))
    if name not in known:
        raise InputError(f"{where}: the chat template has no '{name}'.{nearest(name, sorted(known), show_known=False)}")


def with_variables(template: str, variables: dict[str, Any]) -> str:
    """Return a chat template in which `variables` have these values where the caller gives none.

    So whoever has the template (the checkpoint, a server, steel_eval) asks in the way that was trained.
    """
    head = "".join(
        f"{{%- if {name} is not defined -%}}{{%- set {name} = {_literal(value)} -%}}{{%- endif -%}}"
        for name, value in variables.items()
    )
    return template if template.startswith(head) else head + template


def _literal(value: Any) -> str:
    """Return a value of TOML as Jinja writes it."""
    text = json.dumps(value, ensure_ascii=False)
    # what JSON writes in two halves (an emoji) Jinja would read as two characters; all else stays as it was written
    # before, since the template is part of what a run is
    return text if any(character > "\uffff" for character in text) else json.dumps(value)


def pinned(template: str) -> str:
    """Return a chat template that writes `TODAY` where it would write the date of today."""
    fixed = _DATE.sub(lambda call: json.dumps(TODAY.strftime(call[2])), template)
    if re.search(r"strftime_now\s*\(", fixed):
        # a format that is no text in the template
        fixed = f"{{%- macro strftime_now(format) -%}}{TODAY.isoformat()}{{%- endmacro -%}}{fixed}"
    return fixed


def stopping(tokenizer: Any, ends: Iterable[int]) -> Any:
    """Return the tokenizer with the token that most turns end with as its eos (a base model's eos ends none).

    As it is where no turn is ended, or where the template writes `eos_token` itself.
    """
    first = next(iter(ends), None)
    if first in (None, tokenizer.eos_token_id) or "eos_token" in (tokenizer.chat_template or ""):
        return tokenizer
    changed = copy.deepcopy(tokenizer)
    changed.eos_token = tokenizer.convert_ids_to_tokens(first)
    return changed


def _read_template(tokenizer: Any, chat_template: str, recipe: Path) -> str:
    if chat_template == "chatml":
        missing = [t for t in _CHATML_TOKENS[1:] if t not in tokenizer.get_vocab()]
        if missing:
            raise InputError(
                f'{recipe} [train]: chat_template = "chatml", but {missing[0]} is no token of this tokenizer. Fix: '
                "a template of the model's own tokens."
            )
        return CHATML
    try:
        return (recipe.parent / chat_template).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, a name with a null
        said = error.strerror if isinstance(error, OSError) else first_line(error)
        raise InputError(f"{recipe} [train]: chat_template {chat_template}: {said}. Fix: a Jinja file.") from None


def end_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Return the tokens that may end an assistant turn: eos, then every special token that the template names."""
    named = [t for t in special_tokens(tokenizer) if t in (tokenizer.chat_template or "")]
    bos = tokenizer.bos_token if tokenizer.bos_token != tokenizer.eos_token else None
    return tuple(dict.fromkeys(t for t in (tokenizer.eos_token, *named) if t and t not in (bos, "<|im_start|>")))


def special_tokens(tokenizer: Any) -> list[str]:
    """Return the texts of all special tokens, added ones included."""
    added = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
    return list(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def _pad_token(tokenizer: Any, ends: set[int]) -> str:
    vocabulary = tokenizer.get_vocab()
    spare = [t for t in special_tokens(tokenizer) if t not in (tokenizer.chat_template or "")]
    for token in (*_PAD_NAMES, *spare, tokenizer.bos_token):
        if token in vocabulary and vocabulary[token] not in ends:
            return str(token)
    # labels are explicit, so any token that ends no turn will do; padding is never learnt
    return str(tokenizer.convert_ids_to_tokens(next(i for i in range(len(vocabulary)) if i not in ends)))


def renderer(tokenizer: Any) -> Render:
    """Return the template, its date pinned, as a function (messages, tools, whether the generation prompt is added)."""
    template = pinned(tokenizer.chat_template or "{{- raise_exception('the tokenizer has none') -}}")

    def render(messages: list[Message], tools: Any, prompt: bool) -> str:
        text = tokenizer.apply_chat_template(
            messages, tools=tools or None, chat_template=template, tokenize=False, add_generation_prompt=prompt
        )
        return str(text)

    return render
