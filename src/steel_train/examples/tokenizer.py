"""The tokenizer of a run: found or trained, its template, its end tokens, and a pad token that is none of them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from steel_data.errors import InputError, first_line
from steel_data.files import address
from steel_data.row.record import Message

CHATML = """{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
_CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
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
        raise InputError(f"[train] model: vocab_size = {vocab_size} has no room for 256 bytes. Right: at least 300.")
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
            f"{where}: the tokenizer of '{name}' cannot be loaded: {first_line(error)}. Right: a folder with "
            "tokenizer.json, or a hub id that can be reached (HF_ENDPOINT names a mirror)."
        ) from None
    if not tokenizer.is_fast:
        raise InputError(
            f"{where}: '{name}' has no tokenizer.json, so tokens have no place in the text. Right: convert it."
        )
    # rows are cut and padded by us
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def tokenizer_sha256(tokenizer: Any) -> str:
    """Return what decides how messages become ids: vocabulary and rules, chat template, special tokens."""
    return address(tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, tokenizer.special_tokens_map)


def settle(tokenizer: Any, chat_template: str | None, recipe: Path) -> None:
    """Give the tokenizer its chat template and a pad token that ends no turn. Raises InputError without a template."""
    if chat_template is not None:
        tokenizer.chat_template = _read_template(tokenizer, chat_template, recipe)
    if not tokenizer.chat_template:
        raise InputError(
            f'{recipe} [train]: the tokenizer has no chat template. Right: chat_template = "chatml", a Jinja file, or '
            "the tokenizer of an instruct model."
        )
    ends = {tokenizer.convert_tokens_to_ids(token) for token in end_tokens(tokenizer)}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in ends:
        tokenizer.pad_token = _pad_token(tokenizer, ends)


def _read_template(tokenizer: Any, chat_template: str, recipe: Path) -> str:
    if chat_template == "chatml":
        missing = [t for t in _CHATML_TOKENS[1:] if t not in tokenizer.get_vocab()]
        if missing:
            raise InputError(
                f'{recipe} [train]: chat_template = "chatml", but {missing[0]} is no token of this tokenizer. Right: '
                "a template of the model's own tokens."
            )
        return CHATML
    try:
        return (recipe.parent / chat_template).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{recipe} [train]: chat_template {chat_template}: {error.strerror}. Right: a Jinja file."
        ) from None


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


def renderer(tokenizer: Any) -> Callable[[list[Message], Any, bool], str]:
    """Return the template as a function (messages, tools, whether to add the generation prompt) -> text."""

    def render(messages: list[Message], tools: Any, prompt: bool) -> str:
        text = tokenizer.apply_chat_template(
            messages, tools=tools or None, tokenize=False, add_generation_prompt=prompt
        )
        return str(text)

    return render
