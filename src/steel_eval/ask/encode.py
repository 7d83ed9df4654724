"""Prompts to tokens, exactly: a continuation's ids are those it has in the full string.

`tokens(context) + tokens(continuation)` is not `tokens(context + continuation)`: a letter after a Chinese colon may
merge with it. So the full string is encoded for every option and cut where the encoded context ends (lm-eval's rule;
blanks at the end of the context go to the continuation). Where the context's own encoding is not a prefix, the cut is
the longest common prefix of all options, and such questions are counted.

The unit of work is one subject under one preset: its prompts, tokens and plan are made once per tokenizer and used for
every checkpoint.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from steel_data.errors import InputError
from steel_data.files import address
from steel_eval.ask.prompts import Preset, Prompt, build_prompts, load_preset
from steel_eval.ask.tasks import Task
from steel_eval.ask.trie import Plan, Request, make_plan
from steel_eval.tokenizer import tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Encoded:
    """The requests of a unit: `requests[first[i] : first[i + 1]]` are the options of prompt `i`, in order."""

    prompts: list[Prompt] = field(default_factory=list)  # as sent, after examples were dropped
    requests: list[Request] = field(default_factory=list)
    first: list[int] = field(default_factory=lambda: [0])
    truncated: int = 0  # prompts cut at the left
    shots_dropped: int = 0  # prompts that lost examples
    merged: int = 0  # prompts whose context and continuation share a token
    letter_tokens: list[int] = field(default_factory=list)  # tokens of each continuation of the first prompt
    edge_ids: list[list[int]] = field(default_factory=list)  # first and last eight ids of the first prompt


def context_text(tokenizer: "PreTrainedTokenizerBase", prompt: Prompt) -> str:
    """Return the text before the answer: as it is, or through the chat template.

    Raises InputError where a chat preset meets a tokenizer without a template, or a template that refuses a system
    turn.
    """
    if not prompt.chat:
        return prompt.text()
    if not tokenizer.chat_template:
        raise InputError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template, which this preset needs. "
            "Fix: a chat model, or a preset without turns such as lm-eval."
        )
    try:
        return str(tokenizer.apply_chat_template(prompt.messages(), tokenize=False, add_generation_prompt=True))
    except (
        Exception
    ) as error:  # jinja errors of any template; the C-Eval tutorial then puts the header into the first turn
        messages = prompt.messages()
        if messages[0]["role"] != "system":
            raise InputError(
                f"{tokenizer.name_or_path}: its chat template fails: {error}. "
                "Fix: a preset without a chat, or another template."
            ) from error
        merged = {"role": "user", "content": messages[0]["content"] + "\n" + messages[1]["content"]}
        return str(tokenizer.apply_chat_template([merged, *messages[2:]], tokenize=False, add_generation_prompt=True))


_THOUGHT = re.compile(r"<(?:think|thinking|thought|reasoning)>\s*$")


def opened_thought(context: str) -> str:
    """Return the tag by which a prompt leaves the model inside a thought (`<think>`); empty where it does not."""
    found = _THOUGHT.search(context)
    return found[0].strip() if found else ""


def encode_prompts(
    tokenizer: "PreTrainedTokenizerBase", preset: Preset, prompts: Sequence[Prompt], max_length: int
) -> Encoded:
    """Encode the prompts of a likelihood preset. `max_length`: the model's context in tokens.

    A prompt longer than the context loses its longest examples, or tokens at the left, as the preset says; both are
    counted. Raises InputError where the prompt leaves the model inside a thought.
    """
    check_letters(tokenizer, preset, prompts)
    encoded = Encoded()
    contexts = [context_text(tokenizer, prompt) for prompt in prompts]
    if preset.chat and (tag := next(filter(None, map(opened_thought, contexts)), "")):
        raise InputError(
            f"preset {preset.name}: the chat template of {tokenizer.name_or_path} opens a thought ({tag}) before the "
            "answer, and inside a thought the likelihood of an answer says nothing. Fix: --thinking off, where the "
            "template has that switch, or a preset that lets the model write (steel)."
        )
    rows = _encode_all(tokenizer, prompts, contexts)
    for prompt, (context_ids, full_ids) in zip(prompts, rows, strict=True):
        shots = len(prompt.shots)
        while preset.overflow == "drop-longest-shot" and prompt.shots and max(map(len, full_ids)) > max_length + 1:
            prompt = prompt.without_longest_shot()
            context_ids, full_ids = _encode_all(tokenizer, [prompt], [context_text(tokenizer, prompt)])[0]
        encoded.shots_dropped += len(prompt.shots) < shots
        start = len(context_ids)
        if any(len(ids) <= start for ids in full_ids):
            start = max(1, _common_prefix(full_ids))
        encoded.merged += any(ids[:start] != context_ids[:start] or start != len(context_ids) for ids in full_ids)
        cuts = [max(0, len(ids) - (max_length + 1)) for ids in full_ids]
        encoded.truncated += any(cuts)
        encoded.requests += [Request(ids[cut:], max(1, start - cut)) for ids, cut in zip(full_ids, cuts, strict=True)]
        encoded.first.append(len(encoded.requests))
        encoded.prompts.append(prompt)
    if encoded.requests:
        first = encoded.requests[0]
        encoded.edge_ids = [list(first.tokens[:8]), list(first.tokens[-8:])]
        encoded.letter_tokens = [len(r.tokens) - r.start for r in encoded.requests[: encoded.first[1]]]
    return encoded


def _encode_all(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[Prompt], contexts: Sequence[str]
) -> list[tuple[list[int], list[list[int]]]]:
    texts: list[str] = []
    for prompt, context in zip(prompts, contexts, strict=True):
        # lm-eval's rule; the line break that ends a chat template's opening of the answer stays where it is
        bare = context if prompt.chat else context.rstrip()
        texts += [bare, *(context + continuation for continuation in prompt.continuations)]
    ids = encode_texts(tokenizer, texts, special=not prompts[0].chat)
    out, at = [], 0
    for prompt in prompts:
        stop = at + 1 + len(prompt.continuations)
        out.append((ids[at], ids[at + 1 : stop]))
        at = stop
    return out


def encode_texts(tokenizer: "PreTrainedTokenizerBase", texts: list[str], special: bool) -> list[list[int]]:
    """Encode texts; `special`: with the tokenizer's own start token, which is checked to stand there once.

    Raises InputError for a tokenizer that appends an end token (every score would then be one of a finished text).
    """
    ids: Any = tokenizer(texts, add_special_tokens=special)["input_ids"]
    if special and ids:
        bare = tokenizer(texts[0], add_special_tokens=False)["input_ids"]
        added = len(ids[0]) - len(bare)
        if added and ids[0][-1] == tokenizer.eos_token_id != (bare or [None])[-1]:
            raise InputError(
                f"{tokenizer.name_or_path}: the tokenizer appends its end token. Fix: add_eos_token = false."
            )
    bos = tokenizer.bos_token_id
    if bos is not None and any(row[:2] == [bos, bos] for row in ids):
        raise InputError(f"{tokenizer.name_or_path}: the start token stands twice. Fix: a template without it.")
    return [list(row) for row in ids]


def check_letters(tokenizer: "PreTrainedTokenizerBase", preset: Preset, prompts: Sequence[Prompt]) -> None:
    """Refuse a tokenizer that cannot tell the letters apart; letters of several tokens are scored as sums."""
    if preset.cloze or not prompts:
        return
    letters = prompts[0].continuations
    ids = [tuple(row) for row in encode_texts(tokenizer, ["答案：" + letter for letter in letters], special=False)]
    if len(set(ids)) < len(ids):
        raise InputError(
            f"{tokenizer.name_or_path}: the tokenizer gives different answer letters the same tokens. "
            "Fix: a tokenizer that knows the letters A to D."
        )


def _common_prefix(rows: Sequence[Sequence[int]]) -> int:
    length = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return length


@dataclass(frozen=True)
class Unit:
    """One subject of a task, as prompts."""

    task: Task
    subject: str
    preset: Preset
    prompts: list[Prompt]

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of all that is sent: the preset and each prompt as built, examples and names of subjects too.

        How a file was read and which of its rows became examples is in there, which no hash of the file says.
        """
        sent = [(p.header, p.shots, p.after_shots, p.question, p.continuations) for p in self.prompts]
        return address(asdict(self.preset), sent)


@dataclass(frozen=True)
class Encoding:
    """A unit in tokens, with the plan of its passes."""

    encoded: Encoded
    plan: Plan


def make_units(task: Task, preset_name: str, shots: int, max_new_tokens: int | None = None) -> list[Unit]:
    """Return the units of a task. `shots` worked examples at most: the first of the development split, as published.

    `max_new_tokens`: of a written answer, in place of the preset's.
    """
    preset = load_preset(preset_name, task.benchmark)
    if max_new_tokens is not None and preset.kind == "generation":
        preset = replace(preset, max_new_tokens=max_new_tokens)
    return [
        Unit(task, s, preset, build_prompts(preset, task.benchmark, s, items, task.examples.get(s, [])[:shots]))
        for s, items in task.items.items()
    ]


@dataclass
class Tokenised:
    """Units in tokens for one tokenizer and context length, made on first use and kept for further checkpoints."""

    tokenizer: "PreTrainedTokenizerBase"
    max_length: int
    fingerprint: str = ""
    _made: dict[str, Encoding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fingerprint = tokenizer_fingerprint(self.tokenizer)

    def get(self, unit: Unit) -> Encoding:
        """Return a unit's tokens and plan."""
        if unit.fingerprint not in self._made:
            encoded = encode_prompts(self.tokenizer, unit.preset, unit.prompts, self.max_length)
            self._made[unit.fingerprint] = Encoding(encoded, make_plan(encoded.requests))
        return self._made[unit.fingerprint]


def labels(unit: Unit) -> list[str]:
    """Return the gold letters, empty where the questions have no key."""
    return [p.item.answer if unit.task.published else "" for p in unit.prompts]
